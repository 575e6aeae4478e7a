"""Which faults, put into our own backward pass, give just this gradient?

The gradient is cut into blocks, and searched as it is and as one that is clipped; what the search
finds is told as faults, with what they leave unexplained, their rivals and their other places.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.faults import FAULTS
from throughtime.diagnosis.mutants.interventions import Mutation
from throughtime.diagnosis.mutants.model import Block, Blocks, Model
from throughtime.diagnosis.mutants.postprocessing import FoundFault, TestedGradient, tensor_of
from throughtime.diagnosis.mutants.search import passes, search
from throughtime.diagnosis.mutants.trial import Attempt
from throughtime.diagnosis.tolerances import (
    CHANCE_ENTRIES,
    HELD_WITHIN,
    ROUNDED_BELOW,
    ROUNDED_BESIDE,
    SAME_GRADIENT,
)
from throughtime.gradcheck import Budget, discrepancy


@dataclass(frozen=True)
class Match:
    """Faults that, put into our own backward pass, give a gradient down to rounding.

    Attributes:
        found: the faults, with what is known of each.
        before: the discrepancy between the gradient and the right one.
        after: the discrepancy between the gradient and the mutant's.
        undone: the gradient with these faults undone.
        unexplained: tensors that are wrong even so; empty where everything is explained.
        rivals: other sets of faults that explain as much.
        elsewhere: other places where the same faults would give the same gradient, in words.
    """

    found: tuple[FoundFault, ...]
    before: float
    after: float
    undone: dict[str, Array]
    unexplained: tuple[str, ...] = ()
    rivals: tuple[tuple[str, ...], ...] = ()
    elsewhere: tuple[str, ...] = ()

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
        same = f", and so does it with {'; or '.join(self.elsewhere)}" if self.elsewhere else ""
        return f"Our own backward pass with {words} gives this very gradient{same}"


def explain(
    model: Model,
    gradient: Mapping[str, Array],
    error: float | None = None,
    among: Iterable[str] | None = None,
    budget: Budget | None = None,
    thorough: bool = True,
) -> list[Match]:
    """The sets of faults whose mutant equals a gradient down to rounding, the fewest first.

    Args:
        model: the network, as `model_from_target` gives it.
        gradient: the gradient under test, by the target's names.
        error: what counts as equal, relative to a tensor's largest entry; by default the rounding
            of the gradient's own precision.
        among: identifiers of the faults that are tried; by default all of them.
        budget: of backward passes; by default as many as are worth running, see `passes`.
        thorough: whether pairs of mutations are tried too, and not single ones alone.

    Returns:
        no matches where the gradient is right, or where no set of faults explains any part of it.
        Where no set explains all of it, one match, with the tensors that it leaves unexplained.
    """
    precisions = [np.asarray(array).dtype.name for array in gradient.values()]
    tolerance = error or max(
        SAME_GRADIENT.get(name, SAME_GRADIENT["float64"]) for name in precisions
    )
    seen = seen_of(model, gradient, tolerance)
    right = model.gradient()
    if all(seen.equal(g, p) for g, p in _pairs(model, seen, right)):
        return []
    attempts: list[Attempt] = []
    budget = budget or Budget(passes(model))
    if clipped := limited(seen):
        attempts = search(model, clipped, among, thorough=thorough, budget=budget, share=0.5)
    explained = bool(attempts) and attempts[0].complete
    others = search(model, seen, among, thorough=thorough and not explained, budget=budget)
    if not explained or (others[0].complete and others[0].cost <= attempts[0].cost):
        attempts = others
    elif clipped:
        seen = clipped
    whole = [a for a in attempts if a.complete]
    if not whole and not decisive(model, seen, attempts[0]):
        return []
    return _matches(model, seen, right, whole or attempts)


def seen_of(model: Model, gradient: Mapping[str, Array], tolerance: float) -> TestedGradient:
    """The gradient, block by block."""
    blocks = model.placement.blocks(gradient)
    largest = max(float(np.abs(g).max()) for g in blocks.values()) or 1.0
    exact = tolerance <= SAME_GRADIENT["float64"]
    floor = ROUNDED_BESIDE if exact else tolerance * ROUNDED_BELOW
    return TestedGradient(blocks, tolerance, largest, floor=floor, alike=_alike(blocks))


def _alike(blocks: Blocks) -> dict[Block, tuple[Block, ...]]:
    """For each block the others that are the same, bit for bit, and not all one number."""
    by_bits: dict[tuple[object, ...], list[Block]] = {}
    for block, g in blocks.items():
        if g.size > 1 and np.ptp(g):
            by_bits.setdefault((g.shape, g.tobytes()), []).append(block)
    return {
        block: tuple(other for other in same if other != block and _copies(other, block))
        for same in by_bits.values()
        if len(same) > 1
        for block in same
    }


def _copies(one: Block, other: Block) -> bool:
    """Whether equal gradients of two blocks mean anything: b and c have the same anyway."""
    return one.kind == other.kind or not {one.kind[0], other.kind[0]} & {*"bcdp"}


def limited(seen: TestedGradient) -> TestedGradient | None:
    """The gradient as one that is clipped, if several entries have the largest magnitude."""
    held = [
        int((np.abs(g) >= seen.largest * (1 - HELD_WITHIN)).sum()) for g in seen.blocks.values()
    ]
    if sum(held) > 2 or sum(n > 0 for n in held) > 1:
        return replace(seen, limit=seen.largest)
    return None


def decisive(model: Model, seen: TestedGradient, attempt: Attempt) -> bool:
    """Whether a partial attempt explains blocks that were wrong, and not by chance."""
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
    return len(gained) > 1 and sum(seen.blocks[block].size for block in gained) > CHANCE_ENTRIES


def _pairs(
    model: Model, seen: TestedGradient, tensors: Mapping[str, Array]
) -> Iterator[tuple[Array, Array]]:
    blocks = model.placement.blocks(tensors)
    return ((g, blocks[block]) for block, g in seen.blocks.items())


def _matches(
    model: Model, seen: TestedGradient, right: dict[str, Array], attempts: list[Attempt]
) -> list[Match]:
    """One match for each set of faults, with the other sets as its rivals."""
    by_names: dict[tuple[str, ...], list[Attempt]] = {}
    for attempt in attempts:
        names = tuple(sorted(one.fault for one in _found(model, attempt)))
        by_names.setdefault(names, []).append(attempt)
    matches = []
    for names, (attempt, *others) in by_names.items():
        # A factor that nothing explains is no equal of faults that do.
        others_of = (other for other in by_names if other != names)
        rivals = tuple(o for o in others_of if "scaled" not in o or "scaled" in names)
        match = _match(model, seen, right, attempt, rivals)
        systematic = any(FAULTS[name].systematic for name in names)
        there = [_places(other) for other in others] if systematic else []
        matches.append(replace(match, elsewhere=tuple(dict.fromkeys(filter(None, there)))))
    return matches


def _places(attempt: Attempt) -> str:
    """Where the mutations of an attempt are, in words."""
    return " and ".join(mutation.where for mutation in attempt.mutations if mutation.where)


def _found(model: Model, attempt: Attempt) -> list[FoundFault]:
    """The faults of an attempt; a factor beside a different loss is none of them."""
    names = {mutation.fault for mutation in attempt.mutations}
    after = [f for f in attempt.found if not (f.fault == "scaled" and "different_loss" in names)]
    return [as_found(model, mutation) for mutation in attempt.mutations] + after


def as_found(model: Model, mutation: Mutation) -> FoundFault:
    """A mutation that explains a gradient, as a fault with its facts."""
    facts = {"T": str(model.steps), **dict(mutation.facts)}
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
    decayed = replace(model, decay=attempt.penalty) if attempt.penalty else model
    true = model.placement.blocks(right)
    predicted, undone = {}, {}
    for block, g in seen.blocks.items():
        fit = attempt.fits[block]
        own = mutant[block] if fit is None else fit.apply(decayed, mutant, block, seen.limit)
        if fit is None and decayed.decays(block):
            own = own + decayed.decay * model.blocks[block]
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
