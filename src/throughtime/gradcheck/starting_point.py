"""Where the parameters stood: put back bit for bit, and looked at for what changed them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.derivatives import CheckError
from throughtime.gradcheck.tolerances import FAR_MOVE, NEAR_MOVE


class Origin:
    """A copy of the parameters as they stand."""

    def __init__(self, parameters: Mapping[str, Array]) -> None:
        self.parameters = parameters
        self.copies = {name: array.copy() for name, array in parameters.items()}

    def restore(self) -> None:
        """Puts every entry back."""
        for name, copy in self.copies.items():
            self.parameters[name][...] = copy

    def refuse_changes(self, who: str, gradient: Mapping[str, Array] | None = None) -> None:
        """Refuses what a function did to the parameters, once they are put back.

        Args:
            who: the function.
            gradient: what it returned, to tell an update by a multiple of it.
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
        """Every entry of these tensors is elsewhere meanwhile."""
        try:
            for name in names:
                shift = rng.random(self.copies[name].shape) - 0.5
                shift += np.copysign(0.25, shift)  # ±(0.25 … 0.75): none stays near 0
                self.parameters[name][...] = (
                    self.copies[name] + 2 * self.reach(name, far, near) * shift
                )
            yield
        finally:
            for name in names:
                self.parameters[name][...] = self.copies[name]

    def reach(self, name: str, far: bool, near: float = NEAR_MOVE) -> float:
        """How far an entry of a tensor is moved, typically; `near`, in units of its rms."""
        copy = self.copies[name]
        size = float(np.sqrt(np.mean(np.square(copy, dtype=np.float64)))) if copy.size else 0.0
        return FAR_MOVE * max(size, 1.0) if far else near * (size or 1.0)

    def all_back(self, names: Sequence[str]) -> bool:
        """Whether moved tensors stand where they stood before."""
        return not any(self._differs(name) for name in names)

    def _differs(self, name: str) -> bool:
        return not np.array_equal(_bits(self.parameters[name]), _bits(self.copies[name]))


_WAY_OUT = "they are put back: work on a copy"


def _bits(array: Array) -> Array:
    """The same array as integers: 0 and −0 differ, and NaN equals itself."""
    return array.view(f"u{array.dtype.itemsize}")


def _multiple(after: Array, before: Array, gradient: Array | None) -> float:
    """The factor by which `after − before` is the gradient's; 0 where it is none."""
    if gradient is None or not gradient.any():
        return 0.0
    change, g = (
        a.astype(np.float64).ravel() for a in (after.astype(np.float64) - before, gradient)
    )
    factor = float(change @ g / (g @ g))
    return factor if np.linalg.norm(change - factor * g) < 0.01 * np.linalg.norm(change) else 0.0
