"""Directions in the space of all parameters, small enough to be sent anywhere: drawn from seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from throughtime.arrays import Array


@dataclass(frozen=True)
class Block:
    """A stretch of one tensor's entries, counted in C order, and how each of them moves.

    Attributes:
        name: of the tensor.
        start, stop: the stretch.
        seed: of what is drawn for the whole tensor; None for a move of 1.
        weight: of the whole block.
        ramp: whether later entries move farther, in proportion to their place in the stretch.
    """

    name: str
    start: int
    stop: int
    seed: int | None = None
    weight: float = 1.0
    ramp: bool = False

    def moves(self, size: int) -> Array:
        """(stop − start,): how far each entry moves at step 1, in a tensor of so many entries."""
        count = self.stop - self.start
        if self.seed is None:
            moves = np.full(count, self.weight)
        else:
            drawn = _drawn(size, self.seed)[self.start : self.stop]
            moves = drawn if self.weight == 1 else self.weight * drawn
        return moves * (np.arange(1, count + 1) / count) if self.ramp else moves


@dataclass(frozen=True)
class Line:
    """What is to be measured: the slope of the loss along a direction.

    Attributes:
        label: what moves, in words.
        blocks: which entries move, and how.
        unit: the length of step 0 of its ladder.
        rungs: where its walk starts.
        goal: an error bar that is small enough.
    """

    label: str
    blocks: tuple[Block, ...]
    unit: float
    rungs: tuple[int, ...]
    goal: float = 0.0


def entry(name: str, place: int) -> tuple[Block, ...]:
    """One entry alone."""
    return (Block(name, place, place + 1),)


def product(blocks: tuple[Block, ...], arrays: Mapping[str, Array]) -> float:
    """The inner product of a direction with arrays named like the parameters, in float64."""
    total = 0.0
    for block in blocks:
        flat = arrays[block.name].reshape(-1)
        part = flat[block.start : block.stop].astype(np.float64)
        total += float(part @ block.moves(flat.size))
    return total


def length(blocks: tuple[Block, ...], arrays: Mapping[str, Array]) -> float:
    """‖array ∘ v‖₂: the product's typical size, were all signs drawn anew."""
    total = 0.0
    for block in blocks:
        flat = arrays[block.name].reshape(-1)
        part = flat[block.start : block.stop].astype(np.float64)
        total += float(np.sum((part * block.moves(flat.size)) ** 2))
    return float(np.sqrt(total))


def scales_of(parameters: Mapping[str, Array]) -> dict[str, float]:
    """Root mean square of each tensor; of one that is all 0, the middle one of the others."""
    sizes = {
        name: float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.size else 0.0
        for name, array in parameters.items()
    }
    known = [size for size in sizes.values() if size]
    middle = float(np.median(known)) if known else 1.0
    return {name: size or middle for name, size in sizes.items()}


@lru_cache(maxsize=6)
def _drawn(size: int, seed: int) -> Array:
    """Signs by chance, times 0.5 … 1.5: two errors that are each other's negative do not cancel.

    The mean square is 1, so that the mean square of a product is the squared length.
    """
    rng = np.random.default_rng((seed, size))
    moves = rng.uniform(0.5, 1.5, size)
    np.negative(moves, out=moves, where=rng.random(size) < 0.5)
    moves /= np.sqrt(np.mean(moves**2)) if size else 1.0
    moves.flags.writeable = False
    return moves
