"""One set of mutations tried on a gradient: which blocks it makes right, and what else it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.blocks import EMBEDDING, HEAD, Block, Blocks
from throughtime.diagnosis.mutants.fit import Fit, TestedGradient, fit, fit_all
from throughtime.diagnosis.mutants.interventions import Interventions, Mutation
from throughtime.diagnosis.mutants.model import Lane, Model
from throughtime.diagnosis.mutants.postprocessing import FoundFault, finishing
from throughtime.diagnosis.mutants.walk import biases
from throughtime.gradcheck import Budget


@dataclass(frozen=True)
class Attempt:
    """What a set of mutations explains.

    Attributes:
        mutations: the set.
        fits: by block; None where none fits.
        found: the faults after the backward pass that it takes beside, for the blocks that fit.
        far: how much of the rest is left, 0 … 1, by blocks.
    """

    mutations: tuple[Mutation, ...]
    fits: Mapping[Block, Fit | None]
    found: tuple[FoundFault, ...]
    far: float

    @cached_property
    def wrong(self) -> int:
        """How many blocks it does not explain."""
        return sum(fit is None for fit in self.fits.values())

    @property
    def complete(self) -> bool:
        """Whether it explains all."""
        return not self.wrong

    @property
    def cost(self) -> int:
        """How many faults that takes."""
        names = {mutation.fault for mutation in self.mutations}
        free = [one for one in self.found if not (one.fault == "scaled" and names & OTHER_LOSS)]
        return len(self.mutations) + len(free)

    @property
    def order(self) -> tuple[float, ...]:
        """Smaller is better."""
        return (self.wrong, self.cost, self.far)


OTHER_LOSS = {"different_loss"}  # whose factor is its own


class Trial:
    """Tries mutations on one gradient; the budget counts the backward passes that it runs."""

    def __init__(self, model: Model, seen: TestedGradient, budget: Budget) -> None:
        self.model, self.seen, self.budget = model, seen, budget
        self.norm = float(np.sqrt(sum(float((g * g).sum()) for g in seen.blocks.values())))
        self.head = [block for block in seen.blocks if block.layer == HEAD]
        self.known: dict[frozenset[int], Attempt] = {}

    def __call__(self, *mutations: Mutation) -> Attempt:
        """The attempt with these mutations, all blocks."""
        key = frozenset(map(id, mutations))
        if key not in self.known:
            self.budget.count(1)
            self.known[key] = self._try(mutations)
        return self.known[key]

    def head_fits(self, mutations: tuple[Mutation, ...]) -> dict[Block, Fit | None]:
        """The output layer's blocks alone: no recursion is run."""
        found, _ = self.model.head_gradient(mutations)
        return fit_all(self.model, found, self.seen, self.head)

    def promising(self, *mutations: Mutation) -> bool:
        """Whether in each lane some gate's bias lies along one of the mutant's; cheap to ask.

        Where a bias is clipped, 0 or not there, nothing is told.
        """
        if self.seen.limit is not None:
            return True
        self.budget.count(1)
        _, dh = self.model.head_gradient(mutations)
        for lane, deltas in self.model.recursion(mutations, dh).items():
            g = self._biases[lane]
            if g is None:
                return True
            p = biases(deltas, Interventions(mutations, *lane))
            p = p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-300)
            if np.abs(g @ p.T).max() < 1 - 1e-7 - self.seen.tolerance:
                return False
        return True

    @cached_property
    def _biases(self) -> dict[Lane, Array | None]:
        """Of each lane, the gates' biases of norm 1, (G, H); None where one has none."""
        found: dict[Lane, Array | None] = {}
        gates = range(len(self.model.cell.gates))
        for lane in self.model.lanes:
            layer, direction = lane
            own = [self.seen.blocks.get(Block(layer, "b", gate, direction)) for gate in gates]
            there = np.array([b for b in own if b is not None and not self.seen.idle(b)])
            known = len(there) == len(gates) and there.shape[1] > 1
            found[lane] = there / np.linalg.norm(there, axis=1, keepdims=True) if known else None
        return found

    def _try(self, mutations: tuple[Mutation, ...]) -> Attempt:
        mutant = self.model.data_gradient(mutations)
        fits = fit_all(self.model, mutant, self.seen, self.head)
        for lane in self.model.lanes:
            fits |= self._lane(lane, mutant)
        embedding = [block for block in self.seen.blocks if block.layer == EMBEDDING]
        fits |= fit_all(self.model, mutant, self.seen, embedding)
        found = finishing(self.model, fits, self.seen, self.norm)
        return Attempt(mutations, fits, tuple(found), self._far(mutant, fits))

    def _lane(self, lane: Lane, mutant: Blocks) -> dict[Block, Fit | None]:
        """A lane's blocks. Where no bias fits, other gates' blocks are not tried for weights."""
        own = [block for block in self.seen.blocks if (block.layer, block.direction) == lane]
        first = [b for b in own if b.kind == "b"] or [b for b in own if b.kind == "W"]
        fits = fit_all(self.model, mutant, self.seen, first)
        told = any(fit is not None and fit.scale for fit in fits.values())
        for block in own:
            if block not in fits:
                fits[block] = fit(self.model, mutant, self.seen, block, moved=told)
        return fits

    def _far(self, mutant: Blocks, fits: Mapping[Block, Fit | None]) -> float:
        """Mean over the unexplained blocks of 1 − cos²."""
        left = [block for block, fitted in fits.items() if fitted is None]
        if not left:
            return 0.0
        return float(np.mean([_apart(self.seen.blocks[b], mutant[b]) for b in left]))


def _apart(g: Array, p: Array) -> float:
    square = float((g * g).sum() * (p * p).sum())
    return 1.0 if square == 0 else 1 - float((g * p).sum()) ** 2 / square
