"""Why is a gradient wrong? The best-supported fault is undone, and the rest is examined again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from throughtime.diagnosis.between_steps import by_steps
from throughtime.diagnosis.clipping_and_decay import (
    clipped_by_value,
    decayed,
    decayed_at_a_single_step,
    decayed_below,
    from_elsewhere,
    zero_rows,
    zeros,
)
from throughtime.diagnosis.common_factor import at_a_single_step, everywhere
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.factors import in_gates, in_tensors
from throughtime.diagnosis.faint_part import faint_part, left_alone
from throughtime.diagnosis.faults import FAULTS
from throughtime.diagnosis.loss_alone import loss_alone, worst_output
from throughtime.diagnosis.mutant_match import by_mutants, known_roles
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.observed import CandidateCause, Gradient, Observed, observe
from throughtime.diagnosis.rearranged import copied, permuted, transposed
from throughtime.diagnosis.refutation import Refutation, draws_no_mask, undetermined
from throughtime.diagnosis.through_a_softmax import through_a_softmax
from throughtime.diagnosis.tolerances import (
    ENTRIES_OF_A_LOOK,
    MOST_FAULTS,
    RARE_IN_A_SAMPLE,
    SCALED_LOSS,
    SMALL_PART,
    SMALLEST_ERROR_BAR,
)
from throughtime.diagnosis.what_would_tell import place_alone, unknown
from throughtime.gradcheck import (
    AS_GIVEN,
    CHARACTERISTIC,
    Budget,
    Cause,
    CheckError,
    ParameterSnapshot,
    Report,
    Spent,
    Target,
    at_characteristic_point,
    at_length,
)

INTERRUPTED = "The diagnosis was interrupted; the causes found until then are kept."


@dataclass(frozen=True)
class Diagnosis:
    """What a diagnosis came to.

    Attributes:
        causes: best first; empty: unknown.
        notes: what it leaves open, and what it cost, in sentences.
    """

    causes: tuple[Cause, ...]
    notes: tuple[str, ...]


def diagnose(target: Target, report: Report, budget: Budget, seed: int = 0) -> Diagnosis:
    """What explains a disagreement.

    Args:
        target: whose gradient disagrees with its loss.
        report: of the check that says so, and where.
        budget: of evaluations of the loss. Where it ends, or Ctrl-C ends the diagnosis, the causes
            found until then stand.
        seed: for what is drawn at random.
    """
    alone = _alone(report)
    if alone:
        return Diagnosis((), (alone,))
    notes: list[str] = []
    origin, search = ParameterSnapshot(target.parameters), None
    try:
        with _where_it_disagrees(target, report, seed, notes) as there:
            values = {name: np.array(array) for name, array in there.parameters.items()}
            search = CauseSearch(Study(there, values, budget, seed=seed))
            with suppress(Spent):
                search.run()
    except KeyboardInterrupt:
        origin.restore()  # wherever it came
        notes.append(INTERRUPTED)
    if budget.exhausted:
        notes.append("The diagnosis ran out of its budget before its experiments were finished.")
    plural = "s" * (budget.used != 1)
    cost = f"The diagnosis took {budget.used:,} further evaluation{plural} of the loss."
    causes, open_questions = (search.causes, search.notes) if search else ([], [])
    return Diagnosis(tuple(causes), (*open_questions, *notes, cost))


def _alone(report: Report) -> str:
    """A sentence where a few known entries are wrong among so many that no sample shows them.

    Faults of a backward pass come in blocks; every entry that a sample holds would be right.
    """
    wrong = [tensor for tensor in report.decisive.tensors.values() if tensor.verdict == "disagree"]
    entries = sum(len(tensor.wrong) for tensor in wrong)
    found = wrong and all(t.wrong and t.all_found and not t.areas for t in wrong)
    if not found or min(t.size for t in wrong) < RARE_IN_A_SAMPLE * ENTRIES_OF_A_LOOK * entries:
        return ""
    others = sum(t.size for t in wrong) - entries
    one = entries == 1
    return (
        f"Only {entries} entr{'y is' if one else 'ies are'} wrong, and the {others:,} others "
        "agree, so no fault of a backward pass was looked for."
    )


@contextmanager
def _where_it_disagrees(
    target: Target, report: Report, seed: int, notes: list[str]
) -> Iterator[Target]:
    """The target as given, if it disagrees there; otherwise at the first point where it does."""
    wrong = [point for point in report.points if point.verdict == "disagree"]
    name = wrong[0].name if wrong else AS_GIVEN
    if name == CHARACTERISTIC:
        notes.append("The causes were sought at the characteristic point.")
        with at_characteristic_point(target.parameters, seed):
            yield target
        return
    if name != AS_GIVEN and wrong[0].steps is not None:
        other = at_length(target, wrong[0].steps)
        if other is not None:
            notes.append(f"The causes were sought at {name}.")
            yield other
            return
    yield target


class CauseSearch:
    """Finds one fault after the other, each with those before it undone.

    Args:
        study: experiments on the target, or two sets of numbers without one.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.causes: list[Cause] = []
        self.notes: list[str] = []
        self.refutation = Refutation(study, maskless=draws_no_mask(study.target.layout))

    def run(self, observed: Observed | None = None) -> None:
        """Starts from an observation; by default from one made at the parameters as they stand."""
        if observed is None:
            found = by_mutants(self.study)
            self.refutation.model, self.refutation.error = found.model, found.error
            if found.recovered and found.model is not None:
                self.refutation.spared = undetermined(found.model)
            if found.whole or (found.causes and not found.recovered):
                self.causes, self.notes = found.causes, found.notes
                return
            if found.model is not None and found.of_the_loss and self._in_the_loss(found.model):
                self.notes = [*found.notes, *self.notes]
                return
            if found.model is not None:
                self.study.roles = known_roles(self.study.roles, found.model)
            self.study.budget.announce("diagnosis", "losses")
            observed = found.observed or self.study.look()
            if found.causes and not (observed and self._one_explains(observed)):
                self.causes, self.notes = found.causes, found.notes
                return
            self.notes = [] if found.causes else found.notes
        if observed is None:
            self.notes.append(
                "No cause was looked for: the loss or its gradient could not be computed again."
            )
            return
        before = observed.discrepancy()
        observed, penalties = self._without_penalty(observed, before)
        try:
            self._explain_all(observed, before)
        finally:
            self.causes += penalties

    def _in_the_loss(self, model: Model) -> bool:
        """Whether the loss alone shows its derivative to be wrong; then that is all there is."""
        alone = loss_alone(model, self.study)
        if alone is None:
            return False
        observed, cause = alone
        self.notes.append(worst_output(observed))
        if cause is not None:
            self.causes += as_causes(cause, observed.discrepancy(), None)
        return True

    def _one_explains(self, observed: Observed) -> bool:
        """Whether one fault explains all of the difference, within the error bars.

        Data that were recovered from losses in single precision are as coarse as these, and so are
        all mutants: what they explain in part may be everything.
        """
        best = _best(observed, self.study, self.refutation)
        return best is not None and best.undone is not None and not observed.wrong(best.undone)

    def _without_penalty(self, observed: Observed, before: float) -> tuple[Observed, list[Cause]]:
        """The observation without an L2 term that other faults hide; its causes, if they are small.

        That it is there is proved where nothing else is left, so that it may be undone though what
        remains is wrong everywhere.
        """
        if not self.study.evaluates or next(decayed(observed, self.study), None) is not None:
            return observed, []
        found = next(decayed_below(observed, self.study), None)
        if found is None or found.undone is None or found.undo is None:
            return observed, []
        small = _explained(observed, found.undone) < SMALL_PART
        after = None if small else observed.discrepancy(found.undone)
        causes = list(as_causes(found, before, after))
        self.causes += [] if small else causes
        self.study.undo(found.undo)
        return observed.with_gradient(found.undone), causes if small else []

    def _explain_all(self, observed: Observed, before: float) -> None:
        """Explains what is large first, and then what is faint beside it."""
        self.study.slack = faint_part(observed, self.study)
        observed = self._explain(observed.with_slack(self.study.slack), before)
        if not self.study.slack or not observed.with_slack(0.0).wrong():
            return
        if observed.wrong():  # by what cannot be undone, so that nothing smaller can be seen
            self.notes += [left_alone(observed)] if left_alone(observed) else []
            return
        self.study.leave_nothing_alone()
        self._explain(observed.with_slack(0.0), before)

    def _explain(self, observed: Observed, before: float) -> Observed:
        """Undoes one fault after the other; returns what is left with all of them undone."""
        small: list[Cause] = []  # causes that leave d nearly as it is come after all others
        try:
            for _ in range(MOST_FAULTS):
                if not observed.wrong():
                    break
                best = _best(observed, self.study, self.refutation)
                if best is None and self.study.evaluates:
                    best = at_a_single_step(observed, self.study)
                    best = best or decayed_at_a_single_step(observed, self.study)
                if best is None or best.undone is None:
                    self._left(observed, before)
                    break
                best = scaled_down(best, self.study)
                assert best.undone is not None
                after = self.study.witnessed(observed.with_gradient(best.undone))
                causes = as_causes(best, before, after.discrepancy())
                slight = _explained(observed, best.undone) < SMALL_PART
                (small if slight else self.causes).extend(causes)
                if best.undo is not None:
                    self.study.undo(best.undo)
                observed = after
        finally:
            self.causes += small
        return observed

    def _left(self, observed: Observed, before: float) -> None:
        """Explains what no candidate undoes: experiments locate it, or it stays unknown."""
        if self.study.evaluates and (said := from_elsewhere(observed, self.study)):
            self.notes.append(said)
            if not set(observed.wrong()) & set(self.study.roles.output):
                return  # no place on the way back explains it
        last = None
        if self.study.evaluates and self.refutation.model is None:
            last = through_a_softmax(observed, self.study)
        last = last or self._by_experiment(observed)
        modelled = self.refutation.model is not None
        if last is None:
            beside = bool(self.causes)
            self.notes += unknown(observed.wrong(), self.study, beside=beside, modelled=modelled)
            return
        self.causes += as_causes(last, before, None)
        if FAULTS[last.fault].family:
            self.notes += place_alone(self.study, modelled=modelled)

    def _by_experiment(self, observed: Observed) -> CandidateCause | None:
        """What variants of the target or its lengths tell, without what is refuted."""
        varied = next(by_variants(observed, self.study), None)
        if varied is not None:
            return self.refutation.left_of(varied, observed)
        if "without_dropout" in self.study.target.variants:
            self.refutation.maskless = True  # without a mask it is wrong too
        found = by_steps(observed, self.study)
        return None if found is None else self.refutation.left_of(found, observed)


def _best(observed: Observed, study: Study, refutation: Refutation) -> CandidateCause | None:
    """The candidate that explains the largest part of the difference and spoils no tensor.

    It corrects at least one tensor. Of equals that one is best which corrects more tensors, then
    the more confident one.
    """
    wrong = set(observed.wrong())
    best, most = None, (0.0, 0, 0.0)
    for found in _candidates(observed, study):
        candidate = refutation.left_of(found, observed)
        if candidate is None or candidate.undone is None:
            continue
        left = set(observed.wrong(candidate.undone))
        explained = _explained(observed, candidate.undone)
        if not left < wrong or explained <= 0:
            continue
        key = (round(explained, 2), len(wrong) - len(left), candidate.confidence)
        if key > most:
            best, most = candidate, key
    return best


def _explained(observed: Observed, undone: Gradient) -> float:
    """The share of the difference, or of d, that is gone with a fault undone.

    Where a factor hides a larger fault, d falls though the difference itself does not; where a
    small part is undone, d may rise since the gradient's own size changes.
    """
    before = observed.distance(), observed.discrepancy()
    after = observed.distance(undone), observed.discrepancy(undone)
    parts = zip(before, after, strict=True)
    return max(1 - left / max(all_, SMALLEST_ERROR_BAR) for all_, left in parts)


def _candidates(observed: Observed, study: Study) -> Iterator[CandidateCause]:
    """Every candidate that can be undone entry by entry, the cheapest to find first."""
    yield from decayed(observed, study)
    yield from clipped_by_value(observed)
    yield from everywhere(observed, study)
    yield from transposed(observed)
    yield from permuted(observed)
    yield from copied(observed)
    yield from in_gates(observed, study)
    yield from in_tensors(observed, study)
    yield from zeros(observed, study)
    yield from zero_rows(observed)


def as_causes(candidate: CandidateCause, before: float, after: float | None) -> Iterator[Cause]:
    """The causes that a candidate stands for, one for each of its faults."""
    for name in candidate.faults:
        fault = FAULTS[name]
        statement, change = fault.said(candidate.facts)
        beside = candidate.of_one.get(name, candidate.alternatives)
        sure = candidate.confidence
        if not fault.family:  # of equals none can be surer than its share
            sure = min(sure, 1 / (1 + len(beside)))
        yield Cause(
            name,
            statement,
            change,
            candidate.where,
            sure,
            candidate.evidence,
            beside,
            before,
            after,
            fault.page,
        )


@dataclass(frozen=True)
class Variant:
    """An experiment that a target may declare in `Target.variants`: itself, with one thing changed.

    Attributes:
        arguments: what the variant is called with.
        words: how a sentence about it begins.
        fault: the fault, if the variant agrees and the target as given does not.
    """

    arguments: tuple[Any, ...]
    words: str
    fault: str


VARIANTS = {
    "without_dropout": Variant((), "Without dropout", "dropout_mask_redrawn"),
    "at_equal_lengths": Variant((), "With sequences of equal lengths", "padding_counted"),
    "at_depth": Variant((1,), "With one layer", "lower_layer_overwritten"),
    "at_batch": Variant((1,), "With a single sequence", "sequences_swapped"),
}


def by_variants(observed: Observed, study: Study) -> Iterator[CandidateCause]:
    """The faults of those variants that agree where the target as given does not."""
    for name, variant in VARIANTS.items():
        make = study.target.variants.get(name)
        if make is None:
            continue
        there = seen(study, name, *variant.arguments)
        if there is not None and not there.wrong():
            where = ", ".join(observed.wrong())
            said = f"{variant.words}, the gradient agrees; as given, it does not, in {where}."
            facts = {"where": where}
            yield CandidateCause((variant.fault,), "", None, (said,), facts, confidence=0.85)


def scaled_down(candidate: CandidateCause, study: Study) -> CandidateCause:
    """The candidate; if it is a clip, with evidence from a loss scaled down by a thousand."""
    if "clipped" not in candidate.fault or "scaled" not in study.target.variants:
        return candidate
    there = seen(study, "scaled", SCALED_LOSS)
    if there is None:
        return candidate
    verdict = "still disagrees" if there.wrong() else "agrees"
    said = f"With the loss multiplied by {SCALED_LOSS:g}, the gradient {verdict}."
    return replace(candidate, evidence=(*candidate.evidence, said))


def seen(study: Study, name: str, *arguments: Any) -> Observed | None:
    """A variant at its own parameters, with the faults found so far undone."""
    try:
        found = observe(
            study.target.variants[name](*arguments), budget=study.budget, most=study.most
        )
    except (CheckError, ValueError):
        return None
    for undo in study.undone:
        if set(found.gradient) == set(study.values):
            found = found.with_gradient(undo(found))
    return found.with_slack(study.slack)
