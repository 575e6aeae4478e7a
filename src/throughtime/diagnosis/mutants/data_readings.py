"""How people hold inputs and targets: which axis is time, which the batch, which the numbers.

Inputs become (T, B, I), targets (T, B, O). Where sizes leave several readings, all are given, the
likeliest first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.losses import ModelLoss

# The axes of inputs, by how many are longer than 1: T, B and I in the order in which they stand.
AXES = {
    3: ("TBI", "BTI", "TIB", "BIT", "IBT", "ITB"),
    2: ("TI", "TB", "BT", "IT", "BI", "IB"),
    1: ("T", "I", "B"),
    0: ("",),
}


class InputReading(NamedTuple):
    """Inputs (T, B, I), and the axes that they had as they were given."""

    x: Array
    axes: str


class TargetReading(NamedTuple):
    """Targets (T, B, O), and a loss that would have them, summed over everything."""

    loss: ModelLoss
    targets: Array


@dataclass(frozen=True)
class Readings:
    """The data of a run, as whoever runs it holds them.

    Attributes:
        inputs: numbers or classes; None: none are known, so that each step may have any number.
        targets: numbers or classes; None: none are known.
        steps: T; None where it is unknown.
        outputs: O of a head that is no parameter; None where there is none.
        idle: names of arrays on which the loss of a single step does not depend.
    """

    inputs: Any
    targets: Any
    steps: int | None = None
    outputs: int | None = None
    idle: frozenset[str] = frozenset()

    @cached_property
    def _x(self) -> Array:
        return np.asarray(self.inputs)

    @cached_property
    def _y(self) -> Array | None:
        return None if self.targets is None else np.asarray(self.targets)

    def may_have(self, features: int) -> bool:
        """Whether inputs of one step may be so many numbers."""
        return bool(self.of_inputs(features))

    def may_give(self, outputs: int) -> bool:
        """Whether one step may have so many outputs, as far as targets alone tell."""
        if self._y is None or outputs in (1, *self._y.shape):
            return True
        return self._classes(self._y) <= outputs

    def may_be_classes(self, classes: int) -> bool:
        """Whether the inputs may be one of so many classes."""
        return self.inputs is not None and self._classes(self._x) <= classes

    def of_inputs(self, features: int) -> list[InputReading]:
        """The ways to read the inputs as so many numbers a step, or as one of so many classes."""
        if features not in self._of_inputs:
            self._of_inputs[features] = list(self._inputs(features))
        return self._of_inputs[features]

    @cached_property
    def _of_inputs(self) -> dict[int, list[InputReading]]:
        return {}

    def _inputs(self, features: int) -> Iterator[InputReading]:
        x = self._x
        if self.inputs is None:
            yield InputReading(np.zeros((self.steps or 1, 1, features)), "")
            return
        if 1 < self._classes(x) <= features or (self._classes(x) == 1 and x.ndim < 3):
            for axes in AXES[_long(x)]:
                if "I" not in axes and self._fits(x, axes, 1):
                    classes = _placed(x, axes, "TB")
                    yield InputReading(np.eye(features)[classes], axes)
        for axes in AXES.get(_long(x), ()):
            if self._fits(x, axes, features):
                yield InputReading(_placed(np.asarray(x, np.float64), axes, "TBI"), axes)

    def _fits(self, x: Array, axes: str, features: int) -> bool:
        sizes = dict(zip(axes, (n for n in x.shape if n > 1), strict=True))
        steps = self.steps
        if "T" not in sizes and steps is None and axes:
            return False
        long = sizes.get("T", 1)
        return bool(sizes.get("I", 1) == features and long == (steps or long))

    def _classes(self, array: Array) -> int:
        """How many classes there are at least; more than any number of them if it holds none."""
        if array.dtype.kind not in "iub" or not array.size or array.min() < 0 or _long(array) > 2:
            return 2**62
        return int(array.max()) + 1

    def of_targets(self, x: InputReading, outputs: int) -> list[TargetReading]:
        """The ways to read the targets, with the losses that they may belong to."""
        T, B = x.x.shape[:2]
        key = (T, B, outputs, x.axes.find("B") < x.axes.find("T"))
        if key not in self._of_targets:
            self._of_targets[key] = list(self._targets(T, B, outputs, key[3]))
        return self._of_targets[key]

    @cached_property
    def _of_targets(self) -> dict[tuple[int, int, int, bool], list[TargetReading]]:
        return {}

    def _targets(self, T: int, B: int, O: int, turned: bool) -> Iterator[TargetReading]:  # noqa: E741
        if self._y is None:
            ones = np.ones((T, B, O))
            for last in (False, True):
                yield TargetReading(_summed("weighted", last=last), ones)
                yield TargetReading(_summed("squared_error", last=last), 0 * ones)
            return
        y, whole = self._y, {"T": T, "B": B, "O": O}
        order = "BTO" if turned else "TBO"
        later = []
        if O > 1 and self._classes(y) <= O:
            for sizes, last in (({"T": T, "B": B}, False), ({"B": B}, True)):
                for classes in _readings(y, sizes, order):
                    hot = _over_time(np.eye(O)[classes], T, last)
                    yield from _losses(hot, last)
                    later += list(_losses(hot, True))
        numbers = np.asarray(y, np.float64)
        for sizes, last in ((whole, False), ({"B": B, "O": O}, True)):
            for found in _readings(numbers, sizes, order):
                yield from _losses(_over_time(found, T, last), last)
                later += list(_losses(_over_time(found, T, last), True)) if not last else []
        yield from later


def _losses(targets: Array, last: bool) -> Iterator[TargetReading]:
    """The losses that such targets may belong to, the likeliest first."""
    within = targets.min() >= 0 and targets.max() <= 1
    shares = within and targets.shape[-1] > 1 and np.allclose(targets.sum(axis=-1), 1)
    plain, sigmoid, tanh, soft = (
        {"activation": name} for name in ("identity", "sigmoid", "tanh", "softmax")
    )
    square, distance = "squared_error", "absolute_error"
    ways: list[tuple[str, dict[str, str]]] = [("softmax", {})] if shares else []
    if within:
        ways += [("binary", {}), (square, sigmoid), (square, plain)]
    else:
        ways += [(square, plain), ("weighted", {}), (square, tanh)]
    ways += [(square, soft), (distance, soft)] if shares else []
    ways += [(distance, sigmoid), (square, tanh)] if within else [(distance, plain)]
    ways += [("weighted", {})] if within else [(distance, tanh)]
    for kind, options in ways:
        yield TargetReading(_summed(kind, last=last, **options), targets)


def _summed(kind: str, **options: Any) -> ModelLoss:
    return ModelLoss(kind, "sum", "sum", "sum", **options)


def _over_time(found: Array, steps: int, last: bool) -> Array:
    if not last:
        return found
    return np.broadcast_to(found, (steps, *found.shape)).copy()


def _readings(array: Array, sizes: dict[str, int], order: str) -> Iterator[Array]:
    """The array with these axes in the order T, B, O, from any order in which they may stand."""
    long = [axis for axis in order if sizes.get(axis, 1) > 1]
    lengths = tuple(n for n in array.shape if n > 1)
    for axes in permutations(long):
        if tuple(sizes[axis] for axis in axes) == lengths:
            yield _placed(array, "".join(axes), "".join(k for k in "TBO" if k in sizes))


def _long(array: Array) -> int:
    return sum(n > 1 for n in array.shape)


def _placed(array: Array, axes: str, wanted: str) -> Array:
    """The array, whose axes longer than 1 are these, with the wanted ones in their order."""
    long = array.reshape([n for n in array.shape if n > 1])
    there = [axes.index(axis) for axis in wanted if axis in axes]
    moved = long.transpose(there)
    sizes = iter(moved.shape)
    return moved.reshape([next(sizes) if axis in axes else 1 for axis in wanted])
