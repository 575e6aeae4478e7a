"""Points of the parameters: the one they stand at, and further ones.

What small weights or short sequences hide shows at other points. Afterwards the parameters are
put back bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Literal

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.derivatives import CheckError
from throughtime.gradcheck.target import Target
from throughtime.gradcheck.tolerances import (
    CHARACTERISTIC_FACTOR,
    CHARACTERISTIC_RMS,
    CHARACTERISTIC_WIDTH,
    FAR_MOVE,
    NEAR_MOVE,
)


class ParameterSnapshot:
    """A copy of the parameters as they stand."""

    def __init__(self, parameters: Mapping[str, Array]) -> None:
        self.parameters = parameters
        self.copies = {name: array.copy() for name, array in parameters.items()}

    def restore(self) -> None:
        """Puts every entry back."""
        for name, copy in self.copies.items():
            self.parameters[name][...] = copy

    def refuse_changes(self, who: str, gradient: Mapping[str, Array] | None = None) -> None:
        """Puts the parameters back and refuses a function that has changed them.

        Args:
            who: the function.
            gradient: what it returned, to recognise an update by a multiple of it.
        """
        found = {n: self.parameters[n].copy() for n in self.copies if self._differs(n)}
        if not found:
            return
        self.restore()
        name, array = next(iter(found.items()))
        copy = self.copies[name]
        places = np.argwhere(_bits(array) != _bits(copy))
        place = tuple(int(i) for i in places[0])
        rest = len(found) - 1
        others = f" (and {rest} more tensor{'s' * (rest > 1)})" if rest else ""
        seen = (
            f"{len(places)} of {copy.size} entries changed{others}; the first at "
            f"{list(place)}: {copy[place]} before, {array[place]} after"
        )
        rate = _multiple(array, copy, gradient[name] if gradient else None)
        way_out = f"the change is {rate:.3g} times the gradient: an update; " if rate else ""
        way_out += "they are put back: leave the update to the caller" if rate else _WAY_OUT
        expected = f"the {who} to leave it as it is"
        refuse(f"parameters[{name!r}]", expected, seen, way_out, error=CheckError)

    @contextmanager
    def moved(
        self, names: Sequence[str], rng: np.random.Generator, far: bool, near: float = NEAR_MOVE
    ) -> Iterator[None]:
        """A context in which every entry of these tensors is moved."""
        shifts = {}
        for name in names:
            shift = rng.random(self.copies[name].shape) - 0.5
            shift += np.copysign(0.25, shift)  # ±(0.25 … 0.75): none stays near 0
            shifts[name] = 2 * self.reach(name, far, near) * shift
        with self.shifted(shifts):
            yield

    @contextmanager
    def shifted(self, shifts: Mapping[str, Array]) -> Iterator[None]:
        """A context in which these are added to the tensors of their names."""
        try:
            for name, shift in shifts.items():
                self.parameters[name][...] = self.copies[name] + shift
            yield
        finally:
            for name in shifts:
                self.parameters[name][...] = self.copies[name]

    def reach(self, name: str, far: bool, near: float = NEAR_MOVE) -> float:
        """How far an entry of a tensor is moved typically; `near` is in units of its rms."""
        copy = self.copies[name]
        size = float(np.sqrt(np.mean(np.square(copy, dtype=np.float64)))) if copy.size else 0.0
        return FAR_MOVE * max(size, 1.0) if far else near * (size or 1.0)

    def all_back(self, names: Sequence[str]) -> bool:
        """Whether tensors are back at their original values, bit for bit."""
        return not any(self._differs(name) for name in names)

    def _differs(self, name: str) -> bool:
        return not np.array_equal(_bits(self.parameters[name]), _bits(self.copies[name]))


_WAY_OUT = "they are put back: work on a copy"


def _bits(array: Array) -> Array:
    """The bits of an array as integers: 0 and −0 differ, and NaN equals itself."""
    return array.view(f"u{array.dtype.itemsize}")


def _multiple(after: Array, before: Array, gradient: Array | None) -> float:
    """The factor by which `after − before` is a multiple of the gradient; 0 where it is none."""
    if gradient is None or not gradient.any():
        return 0.0
    change, g = (
        a.astype(np.float64).ravel() for a in (after.astype(np.float64) - before, gradient)
    )
    factor = float(change @ g / (g @ g))
    return factor if np.linalg.norm(change - factor * g) < 0.01 * np.linalg.norm(change) else 0.0


PointKind = Literal["as given", "characteristic", "lengths"]
AS_GIVEN: Final = "as given"
CHARACTERISTIC: Final = "characteristic"
LENGTHS: Final = "lengths"
POINT_KINDS: tuple[PointKind, ...] = (AS_GIVEN, CHARACTERISTIC, LENGTHS)


def characteristic_size(shape: tuple[int, ...]) -> float:
    """The root mean square at which a tensor of this shape matters and does not saturate a cell."""
    width = float(np.prod(shape, dtype=np.float64)) ** (1 / max(len(shape), 1))
    return (
        CHARACTERISTIC_RMS * min(1.0, float(np.sqrt(CHARACTERISTIC_WIDTH / max(width, 1.0))))
        if len(shape) > 1
        else CHARACTERISTIC_RMS
    )


def is_characteristic(parameters: Mapping[str, Array]) -> bool:
    """Whether every tensor already has about its characteristic size."""
    for array in parameters.values():
        size, wanted = _rms(array), characteristic_size(array.shape)
        if (
            array.size
            and not wanted / CHARACTERISTIC_FACTOR <= size <= wanted * CHARACTERISTIC_FACTOR
        ):
            return False
    return True


@contextmanager
def at_characteristic_point(
    parameters: Mapping[str, Array], seed: int, *, shuffled: bool = False
) -> Iterator[None]:
    """A context in which tensors are scaled to a size of order 0.5, and zeros become random.

    With `shuffled`, the entries of each tensor change places at random, which gives a point that
    has nothing to do with the given one. Afterwards all of them are put back, bit for bit.
    """
    origin = ParameterSnapshot(parameters)
    rng = np.random.default_rng((seed, 2))
    try:
        for array in parameters.values():
            array[...] = _characteristic(array, rng)
            if shuffled:
                array[...] = rng.permutation(array.reshape(-1)).reshape(array.shape)
        yield
    finally:
        origin.restore()


def lengths(steps: int | None) -> tuple[int, ...]:
    """T = 1, 2 and twice the target's own T."""
    longer = () if steps is None else (2 * steps,)
    return tuple(T for T in (1, 2, *longer) if steps != T)


def at_length(target: Target, steps: int) -> Target | None:
    """The target on so many steps; None where it cannot be had, for want of data say."""
    if target.at_length is None:
        return None
    try:
        return target.at_length(steps)
    except (ValueError, IndexError):
        return None


def _characteristic(array: Array, rng: np.random.Generator) -> Array:
    size = _rms(array)
    wanted = characteristic_size(array.shape)
    values = np.array(array, np.float64)
    values *= wanted / size if size else 0.0  # in place, as a product of axes () is no array
    zero = values == 0
    values[zero] = wanted * rng.standard_normal(int(zero.sum()))
    result: Array = values.astype(array.dtype)
    return result


def _rms(array: Array) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.size else 0.0
