"""Directions in the space of all parameters, and the parameters moved along them.

A direction is drawn from seeds, so that it is small enough to be sent to any process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import numpy as np

from throughtime.arrays import Array
from throughtime.derivatives import START_EXPONENTS, rounded
from throughtime.gradcheck.target import Target


@dataclass(frozen=True)
class DirectionBlock:
    """A stretch of one tensor's entries, counted in C order, and how each of them moves.

    Attributes:
        name: the name of the tensor.
        start, stop: the stretch.
        seed: random seed for the moves of the whole tensor; None: each entry moves by 1.
        weight: a factor for the whole block.
        ramp: whether later entries move farther, in proportion to their index in the stretch.
    """

    name: str
    start: int
    stop: int
    seed: int | None = None
    weight: float = 1.0
    ramp: bool = False

    def moves(self, size: int) -> Array:
        """(stop − start,): how far each entry moves at step 1; `size`: the tensor's entries."""
        count = self.stop - self.start
        if self.seed is None:
            moves = np.full(count, self.weight)
        else:
            drawn = _drawn(size, self.seed)[self.start : self.stop]
            moves = drawn if self.weight == 1 else self.weight * drawn
        return moves * (np.arange(1, count + 1) / count) if self.ramp else moves


@dataclass(frozen=True)
class SearchDirection:
    """A direction along which the slope of the loss is to be measured.

    Attributes:
        label: what moves, in words.
        blocks: which entries move, and how.
        unit: the length of the step with exponent 0.
        step_exponents: the steps that its search starts with.
        goal: an error bar that is small enough.
    """

    label: str
    blocks: tuple[DirectionBlock, ...]
    unit: float
    step_exponents: tuple[int, ...]
    goal: float = 0.0

    def resized(self, ratio: float) -> SearchDirection:
        """The same direction where tensors are larger by this ratio, searched from the start."""
        return replace(self, unit=self.unit * ratio, step_exponents=START_EXPONENTS, goal=0.0)


def entry(name: str, place: int) -> tuple[DirectionBlock, ...]:
    """One entry alone."""
    return (DirectionBlock(name, place, place + 1),)


def inner_product(blocks: tuple[DirectionBlock, ...], arrays: Mapping[str, Array]) -> float:
    """The inner product of a direction with arrays named like the parameters, in float64."""
    total = 0.0
    for block in blocks:
        flat = arrays[block.name].reshape(-1)
        part = flat[block.start : block.stop].astype(np.float64)
        total += float(part @ block.moves(flat.size))
    return total


def typical_product(blocks: tuple[DirectionBlock, ...], arrays: Mapping[str, Array]) -> float:
    """‖array ∘ v‖₂: the typical size of the product for random signs."""
    total = 0.0
    for block in blocks:
        flat = arrays[block.name].reshape(-1)
        part = flat[block.start : block.stop].astype(np.float64)
        total += float(np.sum((part * block.moves(flat.size)) ** 2))
    return float(np.sqrt(total))


def scales_of(parameters: Mapping[str, Array]) -> dict[str, float]:
    """Root mean square of each tensor; for one that is all 0, the median of the others."""
    sizes = {
        name: float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.size else 0.0
        for name, array in parameters.items()
    }
    known = [size for size in sizes.values() if size]
    middle = float(np.median(known)) if known else 1.0
    return {name: size or middle for name, size in sizes.items()}


@lru_cache(maxsize=6)
def _drawn(size: int, seed: int) -> Array:
    """Random signs times 0.5 … 1.5, so that two opposite errors do not cancel.

    The mean square is 1, so that the mean square of a product is the squared length.
    """
    rng = np.random.default_rng((seed, size))
    moves = rng.uniform(0.5, 1.5, size)
    np.negative(moves, out=moves, where=rng.random(size) < 0.5)
    moves /= np.sqrt(np.mean(moves**2)) if size else 1.0
    moves.flags.writeable = False
    return moves


Moves = Sequence[tuple[DirectionBlock, Array]]


def draw_moves(blocks: tuple[DirectionBlock, ...], parameters: Mapping[str, Array]) -> Moves:
    """How far each entry of the blocks moves at step 1, drawn once for many steps."""
    return [(block, block.moves(parameters[block.name].size)) for block in blocks]


class MovedParameters:
    """A context in which a target's parameters are moved by a step along a direction.

    The step of a single entry is the one that its precision can hold. Many entries are rounded
    each in its own way, so that they end up off the line.

    Args:
        target: its parameters are moved in place.
        gradient: predicts what the last digits do to the loss.
        moves: the direction: blocks, and how far each entry of them moves at step 1.
        step: the step.

    Attributes:
        realised: the step that was taken.
        off_line_error: the change of the loss that the gradient predicts for being off the line.
        finite: whether all parameters are finite.
    """

    def __init__(
        self, target: Target, gradient: Mapping[str, Array], moves: Moves, step: float
    ) -> None:
        self.target, self.gradient, self.moves, self.step = target, gradient, moves, step
        self.before: list[tuple[Array, slice, Array]] = []
        self.realised, self.off_line_error, self.finite = step, 0.0, True

    def __enter__(self) -> Self:
        try:
            for block, moves in self.moves:
                self._move(block, moves)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for flat, stretch, values in self.before:
            flat[stretch] = values

    def _move(self, block: DirectionBlock, moves: Array) -> None:
        array = self.target.parameters[block.name]
        # A flat iterator serves arrays whose memory is not in C order.
        flat = array.reshape(-1) if array.flags.c_contiguous else array.flat
        stretch = slice(block.start, block.stop)
        before = np.array(flat[stretch])
        with np.errstate(over="ignore"):
            after = before + self.step * moves
            if self.target.bits is not None:
                after = rounded(after, self.target.bits)
            after = after.astype(array.dtype)
        self.before.append((flat, stretch, before))  # type: ignore[arg-type]
        flat[stretch] = after
        self.finite = self.finite and bool(np.isfinite(after).all())
        if len(before) == 1 and len(self.moves) == 1:
            self.realised = (float(after[0]) - float(before[0])) / float(moves[0])
        elif array.dtype != np.float64 and self.finite:
            gradient = self.gradient[block.name].reshape(-1)[stretch].astype(np.float64)
            off = after.astype(np.float64) - before - self.step * moves
            self.off_line_error += float(gradient @ off)
