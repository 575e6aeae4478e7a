"""Which faults, put into our own backward pass, give just this gradient?

The gradient is cut into blocks, and searched as it is and as one that is clipped; what the search
finds is told as faults, with what they leave unexplained, their rivals and their other places.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.faults import FAULTS
from throughtime.diagnosis.mutants.interventions import Key, Mutation
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.mutants.mutations import mutations
from throughtime.diagnosis.mutants.postprocessing import FoundFault, tensor_of
from throughtime.diagnosis.mutants.search import passes, search
from throughtime.diagnosis.mutants.staged_search import (
    MutantStage,
    StageResult,
    in_stages,
)
from throughtime.diagnosis.mutants.tested import TestedGradient, limited, seen_of
from throughtime.diagnosis.mutants.trial import Attempt, Trial
from throughtime.diagnosis.tolerances import (
    CHANCE_ENTRIES,
    KNOWN_SCALE,
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
        proved: in words, where else the faults explain what nothing else does, though what is left
            here hides it; "" where it shows here.
        mutations: the keys of those that were put in.
    """

    found: tuple[FoundFault, ...]
    before: float
    after: float
    undone: dict[str, Array]
    unexplained: tuple[str, ...] = ()
    rivals: tuple[tuple[str, ...], ...] = ()
    elsewhere: tuple[str, ...] = ()
    proved: str = ""
    mutations: tuple[Key, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """Their identifiers."""
        return tuple(one.fault for one in self.found)

    @property
    def evidence(self) -> str:
        """What the search showed, in one sentence."""
        words = " and ".join(f"{f.fault} ({f.where})" if f.where else f.fault for f in self.found)
        if self.proved:
            return (
                f"d = {self.before:.2g}; {self.proved}, where less is wrong at once, our own "
                f"backward pass gives your gradient with {words}, and not without"
            )
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
    if _equal(model, seen, right):
        return []
    attempts: list[Attempt] = []
    budget = budget or Budget(passes(model))
    if clipped := limited(seen):
        attempts = search(model, clipped, among, thorough=thorough, budget=budget, share=0.5)
        attempts = [a for a in attempts if not a.complete or _cut_off(model, clipped, a)]
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


def explain_in_stages(
    stages: Iterable[MutantStage],
    model: Model,
    gradient: Mapping[str, Array],
    error: float,
    budget: Budget,
) -> list[Match]:
    """As `explain`, of many mistakes at once, which are found a few at a time.

    Args:
        stages: the network where fewer mistakes show, the simplest first.
        model: the network.
        gradient: the gradient under test.
        error: what counts as equal, relative to a tensor's largest entry.
        budget: whose time is shared.

    Returns:
        the sets that explain everything; otherwise one match of what is proved at some stage, or
        none.
    """
    seen = seen_of(model, gradient, error)
    clipped, right = limited(seen), model.gradient()
    if _equal(model, seen, right):
        return []
    ways = [MutantStage("", model, one) for one in (clipped, seen) if one is not None]
    before, last = in_stages(stages, ways, budget)
    for here in last:
        read = here.stage.seen
        if here.complete and (read.limit is None or _cut_off(model, read, here.attempts[0])):
            return _matches(model, read, right, here.with_equals)
    # Of as many mutations, those that explain all of a stage are believed first.
    stages_seen = (*reversed(before), *last)
    told = [(one, proved) for one in stages_seen if (proved := _upheld(one, stages_seen))]
    if not told:
        return []
    best, proved = max(told, key=lambda own: (len(own[1]), own[0].complete))
    chosen = of_keys(model, [mutation.key for mutation in proved])
    attempt = Trial(model, seen, budget.part(1, 1.0))(*chosen)
    match = _match(model, seen, right, replace(attempt, found=()), ())
    return [replace(match, proved=best.stage.words)]


def _upheld(one: StageResult, others: Iterable[StageResult]) -> tuple[Mutation, ...]:
    """The mutations that a stage proves, if none of them contradicts what another one shows.

    At a stage, faults that are none may have the gradient of others that are not thought of; they
    have it at no other stage, where something else explains more.
    """
    apart = [other for other in others if other is not one]
    if any(other.search.contradicts(other.attempts, m.key) for m in one.proved for other in apart):
        return ()
    return one.proved


def of_keys(model: Model, keys: Collection[Key]) -> tuple[Mutation, ...]:
    """The mutations of a model that have these keys."""
    return tuple(mutation for mutation in mutations(model) if mutation.key in keys)


def explained_by(
    match: Match, model: Model, gradient: Mapping[str, Array], error: float
) -> tuple[FoundFault, ...]:
    """The faults of a match at another point, if its mutations explain all of the gradient there.

    Args:
        match: of the same network at its own point.
        model: the network at the other point.
        gradient: under test, at that point.
        error: as in `explain`.
    """
    seen, chosen = seen_of(model, gradient, error), of_keys(model, match.mutations)
    for one in (seen, limited(seen)):
        if one is not None and len(chosen) == len(match.mutations):
            attempt = Trial(model, one, Budget(1))(*chosen)
            if attempt.complete:
                return tuple(_found(model, attempt))
    return ()


def _cut_off(model: Model, clipped: TestedGradient, attempt: Attempt) -> bool:
    """Whether an attempt at a clipped gradient predicts entries beyond the limit.

    Otherwise several entries have the largest magnitude for another reason, as the columns of W do
    where inputs are classes.
    """
    mutant = model.data_gradient(attempt.mutations)
    decayed = replace(model, decay=attempt.penalty) if attempt.penalty else model
    assert clipped.limit is not None
    least = clipped.limit * (1 + KNOWN_SCALE * clipped.tolerance)
    return any(
        bool((np.abs(fit.apply(decayed, mutant, block, None)) > least).any())
        for block, fit in attempt.fits.items()
        if fit is not None
    )


def decisive(model: Model, seen: TestedGradient, attempt: Attempt) -> bool:
    """Whether a partial attempt explains blocks that were wrong, and not by chance."""
    if not attempt.mutations and not attempt.found:
        return False
    right = model.data_gradient()
    gained = [
        block
        for block, fit in attempt.fits.items()
        if fit is not None
        and seen.tells(block, seen.blocks[block])
        and not seen.equal(block, seen.blocks[block], right[block])
    ]
    return len(gained) > 1 and sum(seen.blocks[block].size for block in gained) > CHANCE_ENTRIES


def agrees(model: Model, gradient: Mapping[str, Array], error: float) -> bool:
    """Whether a gradient is that of the network, down to rounding; `error` as in `explain`."""
    return _equal(model, seen_of(model, gradient, error), model.gradient())


def _equal(model: Model, seen: TestedGradient, right: Mapping[str, Array]) -> bool:
    blocks = model.placement.blocks(right)
    return all(seen.equal(block, g, blocks[block]) for block, g in seen.blocks.items())


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
        mutations=tuple(mutation.key for mutation in attempt.mutations),
    )


def _flat(tensors: Mapping[str, Array]) -> Array:
    return np.concatenate([array.ravel() for array in tensors.values()])
