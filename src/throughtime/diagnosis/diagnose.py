"""Why a gradient is wrong: the best-supported fault is undone, and what is left is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from throughtime.diagnosis.candidate import Candidate
from throughtime.diagnosis.cuts import clipped_by_value, decayed, zeros
from throughtime.diagnosis.faults import FAULTS
from throughtime.diagnosis.matched import by_mutants
from throughtime.diagnosis.observed import MOST, Observed
from throughtime.diagnosis.rearranged import copied, permuted, transposed
from throughtime.diagnosis.scaled import everywhere, in_gates, in_tensors
from throughtime.diagnosis.steps import by_steps
from throughtime.diagnosis.study import Study
from throughtime.diagnosis.variants import by_variants, scaled_down
from throughtime.gradcheck import (
    AS_GIVEN,
    CHARACTERISTIC,
    Budget,
    Cause,
    ParameterSnapshot,
    Report,
    Spent,
    Target,
    at_characteristic_point,
    at_length,
)

AT_MOST = 6  # faults at once
INTERRUPTED = "The diagnosis was interrupted; the causes found until then are kept."
RARE = 10  # times as many entries as a sample has, for each wrong one: it will hardly be in it


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
        budget: of loss evaluations; where it ends, what was found until then stands, as it does
            where Ctrl-C ends it.
        seed: of what is drawn.
    """
    alone = _alone(report)
    if alone:
        return Diagnosis((), (alone,))
    notes: list[str] = []
    origin, search = ParameterSnapshot(target.parameters), None
    try:
        with _where_it_disagrees(target, report, seed, notes) as there:
            values = {name: np.array(array) for name, array in there.parameters.items()}
            search = Search(Study(there, values, budget, seed=seed))
            with suppress(Spent):
                search.run()
    except KeyboardInterrupt:
        origin.restore()  # wherever it came
        notes.append(INTERRUPTED)
    if budget.exhausted:
        notes.append("The diagnosis ended before its experiments did: its budget is spent.")
    plural = "s" * (budget.used != 1)
    cost = f"The diagnosis took {budget.used:,} further evaluation{plural} of the loss."
    causes, open_questions = (search.causes, search.notes) if search else ([], [])
    return Diagnosis(tuple(causes), (*open_questions, *notes, cost))


def _alone(report: Report) -> str:
    """A sentence where a few known entries are wrong among so many that no sample shows them.

    Faults of a backward pass are in blocks; whatever was looked at here would be right.
    """
    wrong = [tensor for tensor in report.decisive.tensors.values() if tensor.verdict == "disagree"]
    entries = sum(len(tensor.wrong) for tensor in wrong)
    found = wrong and all(t.wrong and t.all_found and not t.areas for t in wrong)
    if not found or min(t.size for t in wrong) < RARE * MOST * entries:
        return ""
    others = sum(t.size for t in wrong) - entries
    one = entries == 1
    return (
        f"{entries} entr{'y' if one else 'ies'} alone {'is' if one else 'are'} wrong, the "
        f"{others:,} others agree: no fault of a backward pass was looked for."
    )


@contextmanager
def _where_it_disagrees(
    target: Target, report: Report, seed: int, notes: list[str]
) -> Iterator[Target]:
    """The target as given where it disagrees there, else at the first point where it does."""
    wrong = [point for point in report.points if point.verdict == "disagree"]
    name = wrong[0].name if wrong else AS_GIVEN
    if name == CHARACTERISTIC:
        notes.append("The causes are what shows at the characteristic point.")
        with at_characteristic_point(target.parameters, seed):
            yield target
        return
    if name != AS_GIVEN and wrong[0].steps is not None:
        other = at_length(target, wrong[0].steps)
        if other is not None:
            notes.append(f"The causes are what shows at {name}.")
            yield other
            return
    yield target


class Search:
    """Undoes one fault after the other.

    Args:
        study: the target, or two sets of numbers alone.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.causes: list[Cause] = []
        self.notes: list[str] = []

    def run(self, observed: Observed | None = None) -> None:
        """From an observation; by default from one that is made where the parameters stand."""
        if observed is None:
            self.causes, self.notes, whole = by_mutants(self.study)
            if whole or self.causes:
                return
            self.study.budget.announce("diagnosis", "evaluation")
            observed = self.study.look()
        if observed is None:
            return
        before = observed.discrepancy()
        for _ in range(AT_MOST):
            if not observed.wrong():
                return
            best = _best(observed, self.study)
            if best is None or best.undone is None:
                self._left(observed, before)
                return
            best = scaled_down(best, self.study)
            assert best.undone is not None
            after = self.study.witnessed(observed.with_gradient(best.undone))
            self.causes += as_causes(best, before, after.discrepancy())
            if best.undo is not None:
                self.study.undo(best.undo)
            observed = after

    def _left(self, observed: Observed, before: float) -> None:
        """What no candidate takes out entry by entry: experiments say where it is, or nothing."""
        last = next(by_variants(observed, self.study), None) or by_steps(observed, self.study)
        if last is not None:
            self.causes += as_causes(last, before, None)
        else:
            rest = "Beside that, why" if self.causes else "Why"
            names = ", ".join(observed.wrong())
            differ = "differ" if len(observed.wrong()) > 1 else "differs"
            self.notes.append(f"{rest} {names} {differ} is unknown: no known fault explains it.")


def _best(observed: Observed, study: Study) -> Candidate | None:
    """The candidate that mends most tensors and breaks none; the surer of equals."""
    wrong = set(observed.wrong())
    best, most = None, (0, 0.0)
    for candidate in _candidates(observed, study):
        assert candidate.undone is not None
        left = set(observed.wrong(candidate.undone))
        mended = len(wrong) - len(left)
        if not left <= wrong or not mended:
            continue
        if (mended, candidate.confidence) > most:
            best, most = candidate, (mended, candidate.confidence)
    return best


def _candidates(observed: Observed, study: Study) -> Iterator[Candidate]:
    """The cheapest first."""
    yield from decayed(observed)
    yield from clipped_by_value(observed)
    yield from everywhere(observed, study)
    yield from transposed(observed)
    yield from permuted(observed)
    yield from copied(observed)
    yield from in_gates(observed, study)
    yield from in_tensors(observed, study)
    yield from zeros(observed)


def as_causes(candidate: Candidate, before: float, after: float | None) -> Iterator[Cause]:
    """A candidate in words, a cause for each of its faults."""
    for name in candidate.faults:
        fault = FAULTS[name]
        statement, change = fault.said(candidate.facts)
        yield Cause(
            name,
            statement,
            change,
            candidate.where,
            candidate.confidence,
            candidate.evidence,
            candidate.alternatives,
            before,
            after,
            fault.page,
        )
