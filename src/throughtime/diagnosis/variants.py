"""Experiments that a target declares: the same network with one thing taken out of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from throughtime.diagnosis.candidate import Candidate
from throughtime.diagnosis.observed import Observed, observe
from throughtime.diagnosis.study import Study
from throughtime.gradcheck import CheckError

SCALE = 1e-3  # of a loss whose gradient may be clipped


@dataclass(frozen=True)
class Variant:
    """One of the names of `Target.variants`.

    Attributes:
        arguments: what it is called with.
        words: what was done, to begin a sentence with.
        fault: what is wrong where it agrees then, and does not as given.
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


def by_variants(observed: Observed, study: Study) -> Iterator[Candidate]:
    """The faults that go with what was taken out."""
    for name, variant in VARIANTS.items():
        make = study.target.variants.get(name)
        if make is None:
            continue
        there = seen(study, name, *variant.arguments)
        if there is not None and not there.wrong():
            where = ", ".join(observed.wrong())
            said = f"{variant.words} it agrees; as given it does not, in {where}."
            facts = {"where": where}
            yield Candidate((variant.fault,), "", None, (said,), facts, confidence=0.85)


def scaled_down(candidate: Candidate, study: Study) -> Candidate:
    """A clip, with what becomes of it where the loss is a thousandth of what it was."""
    if "clipped" not in candidate.fault or "scaled" not in study.target.variants:
        return candidate
    there = seen(study, "scaled", SCALE)
    if there is None:
        return candidate
    verdict = "disagrees still" if there.wrong() else "agrees"
    said = f"With the loss multiplied by {SCALE:g} the gradient {verdict}."
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
    return found
