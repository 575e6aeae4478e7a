"""One set of mutations tried on a gradient: which blocks it explains, and with which faults beside.

The blocks of a mutant's gradient are fitted to those of the gradient under test. Where a matrix
fits with an L2 term that the loss has not, all are fitted again with that term.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.cells import Deltas, biases, products
from throughtime.diagnosis.mutants.fits import (
    Fit,
    exchanged,
    fit,
    fit_all,
    fit_single_entries,
)
from throughtime.diagnosis.mutants.hidden_penalty import only_in_gradient, scale_of_penalty
from throughtime.diagnosis.mutants.interventions import Interventions, Mutation
from throughtime.diagnosis.mutants.model import (
    HEAD,
    Block,
    Blocks,
    DirectedLayer,
    Model,
)
from throughtime.diagnosis.mutants.postprocessing import (
    FoundFault,
    all_scaled,
    finishing,
    is_round,
    tensor_of,
)
from throughtime.diagnosis.mutants.screen import Screen
from throughtime.diagnosis.mutants.tested import TestedGradient
from throughtime.diagnosis.tolerances import KNOWN_SCALE, PARALLEL_BIASES
from throughtime.gradcheck import Budget


@dataclass(frozen=True)
class Attempt:
    """What a set of mutations explains.

    Attributes:
        mutations: the set.
        fits: the fit of each block; None where none fits.
        found: the faults after the backward pass that the fits need in addition.
        far: how far the blocks that do not fit are off on average, 0 … 1.
        penalty: λ of an L2 term that the gradient has and the loss has not.
    """

    mutations: tuple[Mutation, ...]
    fits: Mapping[Block, Fit | None]
    found: tuple[FoundFault, ...]
    far: float
    penalty: float = 0.0

    @cached_property
    def wrong(self) -> int:
        """How many blocks are not explained."""
        return sum(fit is None for fit in self.fits.values())

    @property
    def complete(self) -> bool:
        """Whether all blocks are explained."""
        return not self.wrong

    @property
    def cost(self) -> int:
        """How many faults the explanation takes."""
        names = {mutation.fault for mutation in self.mutations}
        free = [one for one in self.found if not (one.fault == "scaled" and names & OTHER_LOSS)]
        return len(self.mutations) + sum(one.cost for one in free)

    @property
    def unnamed(self) -> bool:
        """Whether it takes a factor that no known fault gives."""
        return any(one.fault == "scaled" for one in self.found)

    @property
    def order(self) -> tuple[float, ...]:
        """A key by which the better of two attempts comes first."""
        return (self.wrong, self.cost, self.far)


OTHER_LOSS = {"different_loss"}  # a factor beside it is no fault of its own


class Trial:
    """Tries mutations on one gradient; the budget counts the backward passes that are run."""

    def __init__(self, model: Model, seen: TestedGradient, budget: Budget) -> None:
        self.model, self.seen, self.budget = model, seen, budget
        self.norm = float(np.sqrt(sum(float((g * g).sum()) for g in seen.blocks.values())))
        self.head = [block for block in seen.blocks if block.layer == HEAD]
        self.known: dict[frozenset[int], Attempt] = {}
        self._promises: dict[frozenset[int], bool] = {}
        self._screen = Screen(seen)

    def __call__(self, *mutations: Mutation) -> Attempt:
        """The attempt with these mutations, over all blocks."""
        key = frozenset(map(id, mutations))
        if key not in self.known:
            self.budget.count(1)
            self.known[key] = self._try(mutations)
        return self.known[key]

    def head_fits(self, mutations: tuple[Mutation, ...]) -> dict[Block, Fit | None]:
        """The fits of the output layer's blocks alone, for which no recursion is run."""
        found, _ = self.model.head_gradient(mutations)
        fits = fit_all(self.model, found, self.seen, self.head)
        penalty = only_in_gradient(self.model, found, self.seen, fits)
        if penalty:
            fits = fit_all(replace(self.model, decay=penalty), found, self.seen, self.head)
        for base in self._bases(found, fits):
            inner = fit_all(self.model, found, self.seen.times(1 / base), self.head)
            others = {block: own and own.times(base) for block, own in inner.items()}
            fits = min(fits, others, key=lambda own: list(own.values()).count(None))
        return fits

    def _bases(self, mutant: Blocks, fits: Mapping[Block, Fit | None]) -> Iterator[float]:
        """What all of the gradient may be multiplied by, with the L2 term once or twice in it."""
        counts = scale_of_penalty(self.model, mutant, self.seen, fits)
        for own in (1, 2) if counts else ():
            yield counts / own

    def strictly(self, attempt: Attempt) -> Attempt:
        """The attempt without fits by a factor that few blocks have, and that nothing explains.

        Where not everything is explained, such a factor is a coincidence more often than a fault.
        """
        scales = [f.scale for f in attempt.fits.values() if f is not None and f.scale]
        common = Counter(f"{scale:.6g}" for scale in scales).most_common(1)
        base = next((s for s in scales if f"{s:.6g}" == common[0][0]), 1.0)  # with all its digits

        def kept(own: Fit | None) -> Fit | None:
            if own is None or own.scale is None:
                return own
            shares = (own.scale, own.scale / base)
            near = KNOWN_SCALE * self.seen.tolerance
            return own if any(is_round(abs(share), near) for share in shares) else None

        fits = {block: kept(own) for block, own in attempt.fits.items()}
        return replace(attempt, fits=fits, found=self._finishing(fits, attempt.penalty))

    def explained(self, attempt: Attempt) -> frozenset[Block]:
        """The blocks that an attempt explains, without what is 0, clipped, or tells nothing."""
        told = (b for b, own in attempt.fits.items() if own is not None and own.scale)
        return frozenset(block for block in told if self.seen.tells(block, self.seen.blocks[block]))

    def promising(self, *mutations: Mutation) -> bool:
        """Tells cheaply whether every directed layer has a bias parallel to one of the mutant's.

        Without biases, this is asked of the matrices. It passes where a tensor is clipped, 0 or
        missing, so that it tells nothing. Only a recursion that was not run before is counted.
        """
        if self.seen.limit is not None or self.model.of_equations:
            return True
        made = frozenset(map(id, mutations))
        if made not in self._promises:
            self._promises[made] = self._promising(mutations)
        return self._promises[made]

    def telling(self, *mutations: Mutation) -> tuple[Mutation, ...]:
        """Those on which it depends whether they are promising: with biases, these alone tell."""
        if self.model.of_equations or any(gates["b"] is None for gates in self._gates.values()):
            return mutations
        return tuple(one for one in mutations if one.in_recursion or "kept_b" in one.places)

    def _promising(self, mutations: tuple[Mutation, ...]) -> bool:
        self.budget.count(1)
        _, dh = self.model.head_gradient(mutations)
        return all(
            self._parallel(directed, mutations, deltas)
            for directed, deltas in self.model.recursion(mutations, dh).items()
        )

    def _parallel(
        self, directed: DirectedLayer, mutations: tuple[Mutation, ...], deltas: Deltas
    ) -> bool:
        """Whether a gate of this directed layer is parallel to one of the mutant's."""
        intervene = Interventions(mutations, *directed)
        told = {kind: g for kind, g in self._gates[directed].items() if g is not None}
        if "b" in told:
            made = {"b": biases(deltas, intervene)}
        elif {"W", "U"} <= set(told):
            run = self.model.forward()
            own = run.weights[directed], run.tapes[directed], deltas, intervene
            both = products(self.model.cell, *own)
            made = {"W": both.W, "U": both.U}
        else:
            return True
        for kind, array in made.items():
            p = array.reshape(len(array), -1)
            p = p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-300)
            if np.abs(told[kind] @ p.T).max() >= 1 - PARALLEL_BIASES - self.seen.tolerance:
                return True
        return False

    @cached_property
    def _gates(self) -> dict[DirectedLayer, dict[str, Array | None]]:
        """The gates' gradients of each kind in each directed layer, of norm 1, (G, ·).

        None if one of them is missing, or 0.
        """
        found: dict[DirectedLayer, dict[str, Array | None]] = {}
        gates = range(len(self.model.cell.gates))
        for directed in self.model.directed_layers:
            layer, direction = directed
            found[directed] = {}
            for kind in "bWU":
                every = [Block(layer, kind, gate, direction) for gate in gates]
                # Of blocks that decay the term is not parallel.
                kept = [block for block in every if not self.model.decays(block)]
                own = [(block, self.seen.blocks.get(block)) for block in kept]
                there = [g.ravel() for b, g in own if g is not None and not self.seen.idle(b, g)]
                known = len(there) == len(gates) and there[0].size > 1
                rows = np.array(there) if known else None
                norms = None if rows is None else np.linalg.norm(rows, axis=1, keepdims=True)
                found[directed][kind] = None if rows is None else rows / norms
        return found

    def _try(self, mutations: tuple[Mutation, ...]) -> Attempt:
        mutant = self.model.data_gradient(mutations)
        fits = self._fits(self.model, mutant)
        penalty = only_in_gradient(self.model, mutant, self.seen, fits)
        if penalty:
            fits = self._fits(replace(self.model, decay=penalty), mutant)
        found = self._finishing(fits, penalty)
        first = Attempt(mutations, fits, found, self._far(mutant, fits), penalty)
        others = [self._scaled(mutations, mutant, base) for base in self._bases(mutant, fits)]
        return min([first, *others], key=lambda own: (own.wrong, own.unnamed, own.cost))

    def _scaled(self, mutations: tuple[Mutation, ...], mutant: Blocks, base: float) -> Attempt:
        """The attempt for a gradient all of which, with the L2 term, is multiplied by a factor."""
        seen = self.seen.times(1 / base)
        one = Trial(self.model, seen, self.budget)
        fits = one._fits(self.model, mutant)
        found = (*all_scaled(self.model, base, seen, self.norm), *one._finishing(fits, 0.0))
        own = {block: fit and fit.times(base) for block, fit in fits.items()}
        return Attempt(mutations, own, found, self._far(mutant, own))

    def _fits(self, model: Model, mutant: Blocks) -> dict[Block, Fit | None]:
        """The fits of all blocks."""
        hopeful = set(self.seen.blocks) if model.decay else self._screen(mutant)
        fits: dict[Block, Fit | None] = dict.fromkeys(self.seen.blocks)
        fits |= fit_all(model, mutant, self.seen, [b for b in self.head if b in hopeful])
        for directed in model.directed_layers:
            fits |= self._directed_layer(model, directed, mutant, hopeful)
        others = [block for block in hopeful if block.layer < HEAD]
        fits |= fit_all(model, mutant, self.seen, others)
        fits |= fit_single_entries(model, mutant, self.seen, fits)
        return fits | exchanged(mutant, self.seen, fits)

    def _finishing(
        self, fits: Mapping[Block, Fit | None], penalty: float
    ) -> tuple[FoundFault, ...]:
        """The faults after the backward pass that these fits need."""
        if not penalty:
            return tuple(finishing(self.model, fits, self.seen, self.norm))
        model = replace(self.model, decay=penalty)
        found = finishing(model, fits, self.seen, self.norm)
        with_it = {tensor_of(model, b): None for b, f in fits.items() if f and f.decay}
        facts = {"where": ", ".join(with_it), "factor": f"{penalty:.6g}"}
        own = FoundFault("weight_decay_only_in_gradient", facts["where"], facts)
        # Tensors without a term that the loss has not are as they should be.
        return (*(one for one in found if one.fault != "weight_decay_missing"), own)

    def _directed_layer(
        self, model: Model, directed: DirectedLayer, mutant: Blocks, hopeful: set[Block]
    ) -> dict[Block, Fit | None]:
        """The fits of a directed layer's blocks.

        Where no bias fits, other gates' blocks are not tried for the weights.
        """
        own = [block for block in self.seen.blocks if (block.layer, block.direction) == directed]
        own = [block for block in own if block in hopeful]
        first = model.told_first(own)
        fits = fit_all(model, mutant, self.seen, first)
        told = any(fit is not None and fit.scale for fit in fits.values())
        for block in own:
            if block not in fits:
                fits[block] = fit(model, mutant, self.seen, block, moved=told)
        return fits

    def _far(self, mutant: Blocks, fits: Mapping[Block, Fit | None]) -> float:
        """1 − cos² of the angle to the mutant's block, averaged over the unexplained blocks."""
        left = [block for block, fitted in fits.items() if fitted is None]
        if not left:
            return 0.0
        return float(np.mean([_apart(self.seen.blocks[b], mutant[b]) for b in left]))


def _apart(g: Array, p: Array) -> float:
    square = float((g * g).sum() * (p * p).sum())
    return 1.0 if square == 0 else 1 - float((g * p).sum()) ** 2 / square
