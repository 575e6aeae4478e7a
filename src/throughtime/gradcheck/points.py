"""Further points: what small weights or short sequences hide shows elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from throughtime.arrays import Array
from throughtime.gradcheck.starting_point import Origin
from throughtime.gradcheck.target import Target
from throughtime.gradcheck.tolerances import (
    CHARACTERISTIC_FACTOR,
    CHARACTERISTIC_RMS,
    CHARACTERISTIC_WIDTH,
)

AS_GIVEN, CHARACTERISTIC, LENGTHS = "as given", "characteristic", "lengths"
KINDS = (AS_GIVEN, CHARACTERISTIC, LENGTHS)


def characteristic_size(shape: tuple[int, ...]) -> float:
    """The root mean square at which a tensor of this shape matters, and does not saturate."""
    width = float(np.prod(shape, dtype=np.float64)) ** (1 / max(len(shape), 1))
    return (
        CHARACTERISTIC_RMS * min(1.0, float(np.sqrt(CHARACTERISTIC_WIDTH / max(width, 1.0))))
        if len(shape) > 1
        else CHARACTERISTIC_RMS
    )


def is_characteristic(parameters: Mapping[str, Array]) -> bool:
    """Whether every tensor has about the size that it would be given."""
    for array in parameters.values():
        size, wanted = _rms(array), characteristic_size(array.shape)
        if (
            array.size
            and not wanted / CHARACTERISTIC_FACTOR <= size <= wanted * CHARACTERISTIC_FACTOR
        ):
            return False
    return True


@contextmanager
def at_characteristic_point(parameters: Mapping[str, Array], seed: int) -> Iterator[None]:
    """Every tensor keeps its pattern and takes a size of order 0.5; zeros become random.

    Afterwards all of them are put back, bit for bit.
    """
    origin = Origin(parameters)
    rng = np.random.default_rng((seed, 2))
    try:
        for array in parameters.values():
            array[...] = _characteristic(array, rng)
        yield
    finally:
        origin.restore()


def lengths(steps: int | None) -> tuple[int, ...]:
    """T = 1, 2 and a longer one."""
    longer = () if steps is None else (2 * steps,)
    return tuple(T for T in (1, 2, *longer) if steps != T)


def at_length(target: Target, steps: int) -> Target | None:
    """The target on so many steps; None where it has none, as a network has data for so many."""
    if target.at_length is None:
        return None
    try:
        return target.at_length(steps)
    except (ValueError, IndexError):
        return None


def _characteristic(array: Array, rng: np.random.Generator) -> Array:
    size = _rms(array)
    wanted = characteristic_size(array.shape)
    values = array.astype(np.float64) * (wanted / size if size else 0.0)
    zero = array == 0
    values[zero] = wanted * rng.standard_normal(int(zero.sum()))
    result: Array = values.astype(array.dtype)
    return result


def _rms(array: Array) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.size else 0.0
