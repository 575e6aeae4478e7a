"""Tensors are moved at points drawn at random: does the loss react?

Moves change the order and signs of entries, which leaves an L2 term as it is, and start from a
point where nothing is 0 by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.tolerances import (
    DRAWN_PARAMETERS,
    LIVELY_DRAWS,
    REACTION_ULPS,
    STRAIGHT,
)

Values = Mapping[str, Array]
Loss = Callable[[Values, int | None], float]
"""The loss with these parameters, at this length or at the target's own."""
Place = tuple[slice | int, ...]
"""A row or a column."""

ALONG = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # where the loss is taken on a line


class Moves:
    """Moves of a target's tensors.

    Args:
        values: the tensors, of which only shapes and precision matter.
        loss: the loss with other values.
        seed: for the point from which tensors are moved.
        single: whether the loss of a single step can be had.
    """

    def __init__(self, values: Values, loss: Loss, seed: int = 0, single: bool = True) -> None:
        self.loss, self.single = loss, single
        self.rng = np.random.default_rng(seed)
        shapes = {name: np.asarray(array).shape for name, array in values.items()}
        self.wide = matrices_of(shapes)
        self.thin = [n for n in shapes if n not in self.wide]
        self.eps = max(
            (float(np.finfo(np.asarray(a).dtype).eps) for a in values.values()), default=0.0
        )
        drawn = [
            {name: DRAWN_PARAMETERS * self.rng.standard_normal(s) for name, s in shapes.items()}
            for _ in range(LIVELY_DRAWS)
        ]
        # With rectified units, all of them may be off at a point.
        lively = [base for base in drawn if self._lively(base)]
        self.base, self.again = [*lively, *drawn][:2]

    def _lively(self, base: Values) -> bool:
        """Whether the loss reacts to every tensor at a point."""
        here = self.loss({**base}, None)
        return not any(
            self._same(here, self.loss({**base, n: self._shuffled(a)}, None))
            for n, a in base.items()
        )

    def _acts(self, name: str, place: Place, base: Values, steps: int) -> bool:
        """Whether the loss of so many steps reacts to some entries at a point."""
        moved = base[name].copy()
        moved[place] = self._shuffled(np.asarray(moved[place]))
        return not self._same(self.loss({**base}, steps), self.loss({**base, name: moved}, steps))

    def _acts_somewhere(self, name: str, place: Place, steps: int) -> bool:
        """The same at either of two points: at one alone it may fail to react by chance."""
        return any(self._acts(name, place, base, steps) for base in (self.base, self.again))

    def reacts(self, names: Sequence[str], fixed: Values) -> bool:
        """Whether moving these tensors changes the loss, with others fixed at given values."""
        moved = {name: self._shuffled(self.base[name]) for name in names}
        if not self._same(self._loss(fixed), self._loss({**fixed, **moved})):
            return True
        if any(self.base[name].size > 1 for name in names):
            return False
        # A single number changed its sign. A logistic loss is even where as many targets are 1 as
        # are 0, and so is an L2 term, which is a parabola.
        along = [self._loss({**fixed, **{n: s * self.base[n] for n in names}}) for s in ALONG]
        return not self._same(min(along), max(along)) and not parabola(np.array(along))

    def _loss(self, values: Values) -> float:
        return self.loss({**self.base, **values}, None)

    def _same(self, one: float, other: float) -> bool:
        return bool(abs(one - other) <= REACTION_ULPS * self.eps * max(abs(one), abs(other)))

    def _shuffled(self, array: Array) -> Array:
        """The entries in another order, every other one with another sign.

        Where all classes are equally frequent, the order alone may make no difference.
        """
        moved = np.roll(array.reshape(-1), 1)
        moved[::2] *= -1
        return np.asarray(moved.reshape(array.shape))

    def _zero(self, name: str) -> Array:
        return np.zeros(self.base[name].shape)

    def _all_zero(self) -> dict[str, Array]:
        return {name: self._zero(name) for name in self.base}


def matrices_of(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Names of the matrices; in a network of one unit each is a row or a column, beside vectors."""
    matrices = [n for n, s in shapes.items() if sum(size > 1 for size in s) >= 2]
    if matrices or all(len(shape) > 1 for shape in shapes.values()):
        return matrices
    return [n for n, s in shapes.items() if len(s) > 1 and max(s) > 1]


def parabola(values: Array) -> bool:
    """Whether numbers at equal distances lie on a parabola that bends."""
    bend = np.abs(np.diff(values, 2)).max()
    return bool(bend > 0 and np.abs(np.diff(values, 3)).max() < STRAIGHT * bend)


def turned(array: Array, axis: int) -> Array:
    """The slices along an axis in the opposite order, every other one with another sign."""
    first = np.moveaxis(array, axis, 0)[::-1].copy()
    first[1::2] *= -1
    return np.moveaxis(first, 0, axis)


def turned_back(array: Array, mask: Array, size: int) -> Array:
    """Recurrent weights with the same done to what they multiply, where they are whole lines."""
    for axis in range(array.ndim):
        first = np.moveaxis(array, axis, 0).copy()
        lines = np.flatnonzero(np.moveaxis(mask, axis, 0).reshape(len(first), -1).all(axis=1))
        if lines.size == size:
            first[lines] = turned(first[lines], 0)
            return np.moveaxis(first, 0, axis)
    return array


def halves(head: Array, axis: int) -> Iterator[Array]:
    """The output layer without its first half, and without its second half."""
    parts = np.split(head, 2, axis=axis)
    for k in (0, 1):
        kept = [part * (number != k) for number, part in enumerate(parts)]
        yield np.concatenate(kept, axis=axis)


def slices(shape: tuple[int, ...]) -> Iterator[Place]:
    """The rows of a matrix, then its columns; of a vector, its entries."""
    for axis in range(len(shape)):
        yield from lines_of(shape, axis)


def lines_of(shape: tuple[int, ...], axis: int) -> Iterator[Place]:
    for k in range(shape[axis]):
        yield (slice(None),) * axis + (k,)
