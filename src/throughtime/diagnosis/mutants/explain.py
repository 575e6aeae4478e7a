"""`explain`: the faults that give a gradient, and `mutants`: gradients with a fault each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.attempt import Attempt
from throughtime.diagnosis.mutants.fit import TestedGradient
from throughtime.diagnosis.mutants.interventions import Mutation
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.mutants.postprocessing import FoundFault, tensor_of
from throughtime.diagnosis.mutants.search import passes, search
from throughtime.diagnosis.mutants.table import mutations
from throughtime.gradcheck import Budget, discrepancy

ROUNDING = {"float64": 1e-9, "float32": 3e-5}


@dataclass(frozen=True)
class Mutant:
    """The gradient of a backward pass with faults put in.

    Attributes:
        faults: their identifiers.
        where: what each of them concerns, in words.
        gradient: by the target's names and shapes, float64.
    """

    faults: tuple[str, ...]
    where: tuple[str, ...]
    gradient: dict[str, Array]


@dataclass(frozen=True)
class Match:
    """Faults that, put into our own backward pass, give a gradient down to rounding.

    Attributes:
        found: the faults, with what is known of each.
        before: discrepancy of the gradient against the right one.
        after: against the mutant's.
        undone: the gradient with the faults undone, as far as they go.
        unexplained: tensors that are wrong all the same; none: all is explained.
        rivals: other sets of faults that do as well.
    """

    found: tuple[FoundFault, ...]
    before: float
    after: float
    undone: dict[str, Array]
    unexplained: tuple[str, ...] = ()
    rivals: tuple[tuple[str, ...], ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """Their identifiers."""
        return tuple(one.fault for one in self.found)

    @property
    def evidence(self) -> str:
        """What the search showed, in one sentence."""
        words = " and ".join(f"{f.fault} ({f.where})" if f.where else f.fault for f in self.found)
        if self.unexplained:
            left = ", ".join(self.unexplained)
            return f"d = {self.before:.2g}; with {words}, what is left is wrong in {left} alone"
        return f"Our own backward pass with {words} gives this very gradient"


def mutants(model: Model, among: Iterable[str] | None = None) -> Iterator[Mutant]:
    """Every single mutation of the model's backward pass, and the gradient that it gives.

    Args:
        model: a network whose layout and data are known.
        among: identifiers of faults; all of them where it is not given.
    """
    for mutation in mutations(model, among):
        yield Mutant((mutation.fault,), (mutation.where,), model.gradient((mutation,)))


def explain(
    model: Model,
    gradient: Mapping[str, Array],
    error: float | None = None,
    among: Iterable[str] | None = None,
    budget: Budget | None = None,
) -> list[Match]:
    """The sets of faults whose mutant equals a gradient down to rounding, the fewest first.

    Args:
        model: the network, as `model_from_target` gives it.
        gradient: the one under test, by the target's names.
        error: what counts as equal, relative to a tensor's largest entry; by default what
            rounding in the gradient's own precision may do.
        among: identifiers of the faults that are tried; all of them where it is not given.
        budget: of backward passes; by default as many as are worth running, see `passes`.

    Returns:
        nothing where the gradient is right, or where no set explains even a part of it. Where
        none explains it all, one match, with the tensors that it leaves unexplained.
    """
    precisions = [np.asarray(array).dtype.name for array in gradient.values()]
    tolerance = error or max(ROUNDING.get(name, ROUNDING["float64"]) for name in precisions)
    seen = seen_of(model, gradient, tolerance)
    right = model.gradient()
    if all(seen.equal(g, p) for g, p in _pairs(model, seen, right)):
        return []
    attempts: list[Attempt] = []
    budget = budget or Budget(passes(model))
    if clipped := limited(seen):
        attempts = search(model, clipped, among, budget=budget, share=0.5)
    explained = bool(attempts) and attempts[0].complete
    others = search(model, seen, among, thorough=not explained, budget=budget)
    if not explained or (others[0].complete and others[0].cost <= attempts[0].cost):
        attempts = others
    elif clipped:
        seen = clipped
    whole = [a for a in attempts if a.complete]
    if not whole and not decisive(model, seen, attempts[0]):
        return []
    return _matches(model, seen, right, whole or attempts[:1])


def seen_of(model: Model, gradient: Mapping[str, Array], tolerance: float) -> TestedGradient:
    """The gradient, block by block."""
    blocks = model.placement.blocks(gradient)
    return TestedGradient(
        blocks, tolerance, max(float(np.abs(g).max()) for g in blocks.values()) or 1.0
    )


def limited(seen: TestedGradient) -> TestedGradient | None:
    """The same, as one that may be clipped: where several entries have the largest magnitude."""
    held = [int((np.abs(g) >= seen.largest * (1 - 1e-9)).sum()) for g in seen.blocks.values()]
    if sum(held) > 2 or sum(n > 0 for n in held) > 1:
        return replace(seen, limit=seen.largest)
    return None


def decisive(model: Model, seen: TestedGradient, attempt: Attempt) -> bool:
    """Whether a partial attempt makes blocks right that were not, and not by chance."""
    if not attempt.mutations and not attempt.found:
        return False
    right = model.data_gradient()
    gained = [
        block
        for block, fit in attempt.fits.items()
        if fit is not None
        and not seen.idle(seen.blocks[block])
        and not seen.equal(seen.blocks[block], right[block])
    ]
    return len(gained) > 1 and sum(seen.blocks[block].size for block in gained) > 8


def _pairs(
    model: Model, seen: TestedGradient, tensors: Mapping[str, Array]
) -> Iterator[tuple[Array, Array]]:
    blocks = model.placement.blocks(tensors)
    return ((g, blocks[block]) for block, g in seen.blocks.items())


def _matches(
    model: Model, seen: TestedGradient, right: dict[str, Array], attempts: list[Attempt]
) -> list[Match]:
    """One match for each set of names, with the others as its rivals."""
    by_names: dict[tuple[str, ...], Attempt] = {}
    for attempt in attempts:
        names = tuple(sorted(one.fault for one in _found(model, attempt)))
        by_names.setdefault(names, attempt)
    matches = []
    for names, attempt in by_names.items():
        rivals = tuple(other for other in by_names if other != names)
        matches.append(_match(model, seen, right, attempt, rivals))
    return matches


def _found(model: Model, attempt: Attempt) -> list[FoundFault]:
    """The faults of an attempt; another loss has a factor of its own."""
    names = {mutation.fault for mutation in attempt.mutations}
    after = [f for f in attempt.found if not (f.fault == "scaled" and "different_loss" in names)]
    return [_said(model, mutation) for mutation in attempt.mutations] + after


def _said(model: Model, mutation: Mutation) -> FoundFault:
    facts = {"T": str(model.steps)}
    if mutation.where:
        facts["where"] = mutation.where
    if mutation.fault == "truncated":
        facts["k"] = mutation.where.split()[2].rstrip(",")
    return FoundFault(mutation.fault, mutation.where, facts)


def _match(
    model: Model,
    seen: TestedGradient,
    right: dict[str, Array],
    attempt: Attempt,
    rivals: tuple[tuple[str, ...], ...],
) -> Match:
    mutant = model.data_gradient(attempt.mutations)
    true = model.placement.blocks(right)
    predicted, undone = {}, {}
    for block, g in seen.blocks.items():
        fit = attempt.fits[block]
        own = mutant[block] if fit is None else fit.apply(model, mutant, block, seen.limit)
        if fit is None and model.decays(block):
            own = own + model.decay * model.blocks[block]
        predicted[block] = own
        undone[block] = true[block] + (g - own)
    tested = _flat(model.placement.tensors(seen.blocks))
    wrong = dict.fromkeys(tensor_of(model, b) for b, fit in attempt.fits.items() if fit is None)
    return Match(
        found=tuple(_found(model, attempt)),
        before=discrepancy(tested, _flat(right)),
        after=discrepancy(tested, _flat(model.placement.tensors(predicted))),
        undone=model.placement.tensors(undone),
        unexplained=tuple(wrong),
        rivals=rivals,
    )


def _flat(tensors: Mapping[str, Array]) -> Array:
    return np.concatenate([array.ravel() for array in tensors.values()])
