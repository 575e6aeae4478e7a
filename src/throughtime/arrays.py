"""Array types and the one way in which wrong input is refused: expected, actual, way out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]

PRECISIONS = (np.dtype("float32"), np.dtype("float64"))
LARGEST_SIZE = 2**48  # elements; beyond this an offset in bytes no longer fits every index type


def refuse(
    what: str,
    expected: object,
    actual: object,
    way_out: str = "",
    error: type[Exception] = ValueError,
) -> NoReturn:
    """Raises `error` with the message `what: expected …, got …; way out`."""
    raise error(f"{what}: expected {expected}, got {actual}" + (f"; {way_out}" if way_out else ""))


def precision(dtype: object) -> np.dtype[Any]:
    """The dtype float32 or float64; everything else is refused."""
    try:
        found: np.dtype[Any] = np.dtype(dtype)  # type: ignore[call-overload]
    except TypeError:
        refuse("dtype", "float32 or float64", repr(dtype), error=TypeError)
    if found not in PRECISIONS:
        refuse("dtype", "float32 or float64", found, error=TypeError)
    return found


def positive(what: str, number: object, at_least: int = 1) -> int:
    """`number` as an int that is at least `at_least`."""
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        refuse(what, f"an integer of at least {at_least}", repr(number), error=TypeError)
    if number < at_least:
        refuse(what, f"an integer of at least {at_least}", int(number))
    return int(number)


def floats(what: str, values: object, dtype: np.dtype[Any], shape: tuple[object, ...]) -> Array:
    """`values` as a finite array of `dtype` and `shape`; letters in `shape` stand for any size.

    Lists are converted; an array of another dtype is refused, since a silent conversion would
    mix precisions.
    """
    if not isinstance(values, np.ndarray):
        values = np.asarray(values, dtype=dtype)
    if values.dtype != dtype:
        way_out = f"convert it: .astype(np.{dtype}), or choose dtype={str(values.dtype)!r}"
        refuse(what, dtype, values.dtype, way_out, error=TypeError)
    fits(what, values, shape)
    finite(what, values)
    return values


def fits(what: str, values: Array, shape: tuple[object, ...]) -> None:
    """Refuses an array whose shape is not `shape`; letters in `shape` stand for any size."""
    actual = values.shape
    matches = len(actual) == len(shape) and all(
        isinstance(want, str) or want == size for want, size in zip(shape, actual, strict=True)
    )
    if matches:
        return
    expected = "(" + ", ".join(str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
    way_out = ""
    if len(actual) == len(shape) - 1 and "B" in shape:
        way_out = f"add a batch axis: {what}[:, None]"
    refuse(what, expected, actual, way_out)


def finite(what: str, values: Array) -> None:
    """Refuses NaN and infinity, and names the first place where one stands."""
    if np.isfinite(values).all():
        return
    place = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
    count = int(values.size - np.isfinite(values).sum())
    refuse(what, "finite numbers", f"{values[place]} at {place} ({count} of {values.size})")


def indices(what: str, values: Array, classes: int) -> Array:
    """Class indices (T, B) in 0 … classes − 1, as the platform's index type."""
    if values.size:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= classes:
            wrong = low if low < 0 else high
            refuse(what, f"class indices from 0 to {classes - 1}", wrong)
    return values.astype(np.intp, copy=False)


def same_names(what: str, given: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    """Refuses a mapping whose names are not exactly those of `wanted`."""
    if set(given) == set(wanted):
        return
    missing = [f"{name} missing" for name in wanted if name not in given]
    unknown = [f"{name} unknown" for name in given if name not in wanted]
    names = ", ".join(wanted)
    refuse(what, f"the names {names}" if names else "no names", ", ".join(missing + unknown))
