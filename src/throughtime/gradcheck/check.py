"""Is this gradient right? Numerical derivatives with error bars, the coarse before the fine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np

from throughtime.arrays import refuse
from throughtime.derivatives import CheckError
from throughtime.gradcheck.budget import Budget, Effort, EffortName, Spent, effort_of
from throughtime.gradcheck.confirmation import confirmed
from throughtime.gradcheck.evaluation_point import EvaluationPoint
from throughtime.gradcheck.examination import Examination
from throughtime.gradcheck.points import (
    AS_GIVEN,
    CHARACTERISTIC,
    LENGTHS,
    POINT_KINDS,
    PointKind,
    at_characteristic_point,
    at_length,
    is_characteristic,
    lengths,
)
from throughtime.gradcheck.preflight import preflight
from throughtime.gradcheck.report import Point, Report, TensorReport, Valley, worst_verdict
from throughtime.gradcheck.search_direction import SearchDirection
from throughtime.gradcheck.summary import BUDGET, Summary, summarise
from throughtime.gradcheck.target import Evaluator, Target
from throughtime.gradcheck.tolerances import (
    CLAIMS_ELSEWHERE,
    DIRECTIONS_TO_RESOLVE,
    DISTANT_POINT_SEED,
    FEWEST_EVALUATIONS,
    FURTHER_POINT_SEED,
    RESOLVED_ERROR,
)
from throughtime.gradcheck.verdict import rejects
from throughtime.gradcheck.workers import Runner, Workers, check_workers, measure_serially
from throughtime.progress import progress_bar

ONE_POINT_ALONE = (
    "{names}: the gradient seems to differ here, but not at a distant point; the loss is coarsely "
    "rounded, so that alone does not make the gradient wrong."
)
NOT_FURTHER = "The gradient disagrees as given, so no other point was checked."


def check_target(
    target: Target,
    *,
    effort: EffortName = "normal",
    entries: int | None = None,
    points: Sequence[PointKind] = POINT_KINDS,
    evaluations: int | None = None,
    seconds: float | None = None,
    workers: int = 1,
    seed: int = 0,
    progress: bool | None = None,
) -> Report:
    """Compares a target's gradient with numerical derivatives of its loss.

    Args:
        target: what to check.
        effort: "quick": a random direction over each tensor, and one over all at a
            characteristic point; "normal": also T = 1, 2 and a longer T, and stretches of rows,
            rows and entries where directions over a tensor do not settle it; every entry of a
            wrong tensor in a target of up to 400 parameters; "exhaustive": every entry of any
            target.
        entries: how many single entries of each tensor to measure: half of them where the
            gradient is largest, half drawn at random. By default as the effort says.
        points: where to check: "as given", always; "characteristic", where every tensor keeps
            its pattern and has weights of order 0.5; "lengths", T = 1, 2 and twice as many steps,
            where the target has `at_length`.
        evaluations: at most so many evaluations of the loss, 32 or more. Whatever they do not
            reach is unresolved.
        seconds: a limit in wall-clock time, likewise.
        workers: evaluate in so many processes, each with its own copy of the target; −1: as many
            as there are cores. Needs joblib and cloudpickle.
        seed: random seed for everything that is drawn.
        progress: whether to show a bar; by default in a terminal, after two seconds.

    Raises:
        CheckError: where the check cannot run: names or shapes that do not match, NaN, a loss
            that differs between two evaluations at the same point.
    """
    chosen = effort_of(effort)
    if entries is not None and entries < 1:
        refuse("entries", "at least 1", entries, error=CheckError)
    if evaluations is not None and evaluations < FEWEST_EVALUATIONS:
        refuse("evaluations", f"at least {FEWEST_EVALUATIONS}", evaluations, error=CheckError)
    if seconds is not None and not seconds > 0:
        refuse("seconds", "a positive number", seconds, error=CheckError)
    if seed < 0:
        refuse("seed", "an integer of at least 0", seed, error=CheckError)
    for unknown in [point for point in points if point not in POINT_KINDS]:
        refuse("points", "of " + ", ".join(map(repr, POINT_KINDS)), repr(unknown), error=CheckError)
    count = check_workers(workers)
    with progress_bar(0, "check", "losses", progress) as bar:
        budget = Budget(evaluations, seconds, bar)
        run = measure_serially if count == 1 else Workers(count).for_target(target)
        return _Check(target, chosen, entries, tuple(points), budget, run, seed).report()


class _Check:
    """One check, from the preflight to the report."""

    def __init__(
        self,
        target: Target,
        effort: Effort,
        entries: int | None,
        points: tuple[str, ...],
        budget: Budget,
        run: Runner,
        seed: int,
    ) -> None:
        self.target, self.effort, self.entries, self.points = target, effort, entries, points
        self.budget, self.run, self.seed = budget, run, seed
        self.start = perf_counter()
        self.notes: list[str] = []
        self.further: list[Point] = []
        self.hidden = False  # whether error bars as given are too wide for a verdict
        self.budget_ended = False  # before all points were examined

    def report(self) -> Report:
        """Checks the point as given, then further ones while nothing is wrong."""
        evaluator = Evaluator(self.target)
        found = preflight(evaluator, far=CHARACTERISTIC in self.points, seed=self.seed)
        self.budget.count(evaluator.evaluations)
        self.notes += found.notes
        point = EvaluationPoint(self.target, found.gradient, self.budget, self.seed)
        examination = self._as_given(point)
        given = self._summary(AS_GIVEN, examination)
        self.hidden = given.point.verdict == "unresolved"
        if given.point.verdict != "disagree":
            self._at_further_points(point)
        elif self.points != (AS_GIVEN,):
            self.notes.append(NOT_FURTHER)
        return self._report(point, examination, given.point)

    def _as_given(self, point: EvaluationPoint) -> Examination:
        examination = Examination(point, self.effort, self.run, self.entries)
        try:
            point.survey()
            examination.whole_tensors()
            if not examination.wrong:
                examination.all_at_once()
            if not examination.wrong and not examination.small:
                examination.parts_of_tensors()
            if examination.small or not examination.wrong:
                examination.single_entries()
            if examination.wrong and CHARACTERISTIC in self.points and point.scatters:
                self._confirm_at_another_point(AS_GIVEN, self.target, examination)
            examination.locate()
        except Spent:
            for found in examination.found.values():
                found.unreached = True
        return examination

    def _confirm_at_another_point(self, name: str, target: Target, given: Examination) -> None:
        """Takes back the rejection of tensors whose gradient is not rejected at a distant point.

        A fault of a backward pass shows wherever weights are of ordinary size; what stairs that
        no move has crossed do to a slope does not. So where the loss is coarsely rounded, or
        scatters along a tensor, a gradient is called wrong only if it is wrong at two points.
        """
        claims = given.clearest_claims(CLAIMS_ELSEWHERE)
        wrong: set[str] = set()
        try:
            with at_characteristic_point(self.target.parameters, self.seed, shuffled=True):
                wrong = self._wrong_elsewhere(target, given.point, claims)
        except Spent:
            given.excuse(claims)
            raise
        doubtful = set(claims) - wrong
        given.excuse(doubtful)
        if doubtful:
            self._note(name, ONE_POINT_ALONE.format(names=", ".join(sorted(doubtful))))

    def _wrong_elsewhere(
        self,
        target: Target,
        given: EvaluationPoint,
        claims: Mapping[str, Sequence[SearchDirection]],
    ) -> set[str]:
        """The tensors whose gradient is rejected along these directions where parameters stand."""
        point, _ = self._point_here(target, given, DISTANT_POINT_SEED)
        if point is None:
            return set()
        wrong: set[str] = set()
        for _ in range(2):  # the second time with the noise that the first has shown
            directions = [
                (name, direction.resized(point.scales[name] / given.scales[name]))
                for name, own in claims.items()
                for direction in own
                if name not in wrong
            ]
            found = confirmed(point, self.run(point, [direction for _, direction in directions]))
            wrong |= {
                name
                for (name, _), measured in zip(directions, found, strict=True)
                if measured is not None and rejects(measured)
            }
            if len(wrong) == len(claims) or not point.own_noise:
                break
        return wrong

    def _at_further_points(self, given: EvaluationPoint) -> None:
        """Checks further points; those that the budget does not reach are left out, with a note."""
        try:
            if CHARACTERISTIC in self.points:
                self._at_characteristic_point(given)
            if LENGTHS in self.points and self.effort.lengths:
                for steps in lengths(self.target.steps):
                    shorter = at_length(self.target, steps)
                    if shorter is not None:
                        self._at(f"T = {steps}", shorter, given)
        except Spent:
            self.budget_ended = True
            self.notes.append("The budget ended before all points were checked.")

    def _at_characteristic_point(self, given: EvaluationPoint) -> None:
        if is_characteristic(self.target.parameters):
            return
        with at_characteristic_point(self.target.parameters, self.seed):
            self._at(CHARACTERISTIC, self.target, given)

    def _at(self, name: str, target: Target, given: EvaluationPoint) -> None:
        """Checks one further point, without single entries unless something is wrong there."""
        point, problem = self._point_here(target, given, FURTHER_POINT_SEED)
        if point is None:
            self.notes.append(f"{name}: left out; {problem}.")
            return
        # What small weights hide at the point as given, they hide at any length.
        hopeful = name == CHARACTERISTIC or not self.hidden
        directions = max(
            self.effort.at_further_points, DIRECTIONS_TO_RESOLVE if self.hidden and hopeful else 0
        )
        examination = Examination(
            point, replace(self.effort, whole=directions, overall=1), self.run, 0
        )
        if directions:
            examination.whole_tensors()
        else:
            examination.screen(closer=hopeful)
        if examination.wrong and (point.scatters or given.scatters):
            self._confirm_at_another_point(name, target, examination)
        examination.locate()
        self.further.append(self._summary(name, examination).point)

    def _point_here(
        self, target: Target, given: EvaluationPoint, seed: int
    ) -> tuple[EvaluationPoint | None, str]:
        """The point at which the parameters stand now; None, and why, where nothing is measured."""
        try:
            gradient = Evaluator(target).gradient()
        except CheckError as problem:
            return None, str(problem)
        point = EvaluationPoint(target, gradient, self.budget, self.seed + seed)
        point.survey(given)
        if not np.isfinite(point.loss):
            return None, "the loss is not finite there"
        return point, ""

    def _summary(self, name: str, examination: Examination) -> Summary:
        found = summarise(name, examination)
        self._note(name, *found.notes)
        return found

    def _note(self, name: str, *notes: str) -> None:
        """Notes of a point, which begin with its name unless it is the point as given."""
        where = "" if name == AS_GIVEN else f"{name}: "
        self.notes += [where + note for note in notes]

    def _report(self, point: EvaluationPoint, examination: Examination, given: Point) -> Report:
        elsewhere = {point.name: point for point in self.further}
        tensors = dict(given.tensors)
        for name, tensor in given.tensors.items():
            others = [p.tensors[name] for p in self.further if name in p.tensors]
            if any(other.verdict == "disagree" for other in others):
                tensors[name] = replace(tensor, verdict="disagree", remedy="")
            elif tensor.verdict == "unresolved" and CHARACTERISTIC in elsewhere:
                there = elsewhere[CHARACTERISTIC].tensors.get(name)
                if there is not None and there.verdict == "agree":
                    tensors[name] = replace(
                        tensor, verdict="agree", smallest_error=there.smallest_error, remedy=""
                    )
                    self.notes.append(
                        f"{name} is unresolved as given, and agrees at the characteristic point."
                    )
        verdict = worst_verdict([tensor.verdict for tensor in tensors.values()])
        if any(point.verdict == "disagree" for point in (given, *self.further)):
            verdict = "disagree"
        remedies = [t.remedy for t in tensors.values() if t.verdict == "unresolved"]
        if self.budget_ended and verdict != "disagree":
            verdict, remedies = "unresolved", [*remedies, BUDGET]
        return Report(
            verdict=verdict,
            discrepancy=given.discrepancy,
            floor=given.floor,
            tensors=tensors,
            evaluations=self.budget.used,
            noise=point.noise.deviation,
            loss=point.loss,
            dtype=" and ".join(sorted({str(a.dtype) for a in self.target.parameters.values()})),
            steps=self.target.steps,
            smallest_error=_smallest_error(tensors.values()),
            points=(given, *self.further),
            seconds=perf_counter() - self.start,
            effort=self.effort.name,
            remedy=remedies[0] if remedies else "",
            notes=tuple(dict.fromkeys(self.notes)),
            valley=_valley(examination),
        )


def _smallest_error(tensors: Collection[TensorReport]) -> float:
    """Of the tensor with the least resolution, tensors that hardly move the loss left out.

    Such a one agrees whatever its resolution: of a gradient that is rounding alone, as of a bias
    before a batch normalisation, a relative error says nothing.
    """
    sizes = [
        t.smallest_error
        for t in tensors
        if t.verdict != "agree" or t.smallest_error <= RESOLVED_ERROR
    ]
    return max(sizes) if sizes else max(tensor.smallest_error for tensor in tensors)


def _valley(examination: Examination) -> Valley | None:
    """The valley of the first direction over all tensors, or else of the first direction."""
    directions = [
        *examination.overall,
        *(m for found in examination.found.values() for m in found.whole),
    ]
    for found in directions:
        if found.valley is not None and found.slope is not None and np.isfinite(found.error):
            return Valley(*found.valley, chosen=found.step, order=found.slope.order)
    return None
