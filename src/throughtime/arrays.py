"""Array types, and the one way in which wrong input is refused: expected, actual, way out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from throughtime import _engine

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]

PRECISIONS = (np.dtype("float32"), np.dtype("float64"))
LARGEST_SIZE = 2**48  # elements; with more, offsets in bytes overflow some index types


# What moves a terminal's cursor, colours or turns its text, or has no encoding; without \n and \t.
CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str, control: re.Pattern[str] = CONTROL) -> str:
    """The text with control characters written out, so that a stranger's names are harmless.

    Example:
        >>> print(visible("\\x1b[2J"))
        \\x1b[2J
    """
    return control.sub(lambda found: ascii(found[0])[1:-1], text)


def in_a_line(text: str) -> str:
    """The text with line ends and tabulators written out as well."""
    return visible(visible(text), re.compile("[\n\t]"))


def refuse(
    what: str,
    expected: object,
    actual: object,
    way_out: str = "",
    error: type[Exception] = ValueError,
) -> NoReturn:
    """Raises `error` with the message `what: expected …, got …; way out`."""
    words = f"{what}: expected {expected}, got {actual}" + (f"; {way_out}" if way_out else "")
    raise error(visible(words))


def refuse_unknown(what: str, unknown: Iterable[str], known: Iterable[str]) -> None:
    """Raises a TypeError where there are unknown options; it names the nearest known one."""
    names, own = list(unknown), list(known)
    if not names:
        return
    near = get_close_matches(names[0], own, 1)
    way_out = f"did you mean {near[0]}?" if near else "help() lists them"
    refuse(what, "an option that it has", names[0], way_out, error=TypeError)


def precision(dtype: object) -> np.dtype[Any]:
    """The dtype float32 or float64; everything else is refused."""
    try:
        found: np.dtype[Any] = np.dtype(dtype)  # type: ignore[call-overload]
    except TypeError:
        found = None  # type: ignore[assignment]
    if dtype is None or found is None:  # NumPy reads None as float64
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


def sizes(spec: object, *names: str) -> None:
    """Turns sizes of a layer into Python's integers: NumPy's overflow, and JSON has none."""
    for name in names:
        object.__setattr__(spec, name, positive(name, getattr(spec, name)))


def generator(what: str, seed: object) -> np.random.Generator:
    """A random generator from a seed, which is an integer of at least 0."""
    return np.random.default_rng(positive(what, seed, at_least=0))


def real(what: str, number: object) -> float:
    """`number` as a float that is finite."""
    if isinstance(number, bool) or not isinstance(number, int | float | np.number):
        refuse(what, "a finite number", repr(number), error=TypeError)
    if not np.isfinite(number):
        refuse(what, "a finite number", number)
    return float(number)


def unmasked(what: str, values: object) -> None:
    """Refuses NumPy's masked arrays, whose masks would be ignored."""
    if isinstance(values, np.ma.MaskedArray):
        way_out = f"fill or select the values first: {what}.filled(0), {what}.compressed()"
        refuse(what, "an array without a mask", "a masked one", way_out, error=TypeError)


def array_of(what: str, values: object, dtype: object = None) -> Array:
    """`values` as an array; lists that hold anything other than numbers are refused."""
    unmasked(what, values)
    try:
        return np.asarray(values, dtype=dtype)  # type: ignore[call-overload, no-any-return]
    except (ValueError, TypeError, OverflowError) as problem:
        refuse(what, "numbers in equally long lists", f"a {type(values).__name__} ({problem})")


def floats(what: str, values: object, dtype: np.dtype[Any], shape: tuple[object, ...]) -> Array:
    """`values` as a finite array of `dtype` and `shape`; letters in `shape` stand for any size.

    Lists are converted; an array of another dtype is refused, since a silent conversion would
    mix precisions.
    """
    if not isinstance(values, np.ndarray):
        values = array_of(what, values, dtype)
    matches(what, values, dtype, shape)
    finite(what, values)
    return values


def matches(what: str, values: Array, dtype: np.dtype[Any], shape: tuple[object, ...]) -> None:
    """Refuses an array of another dtype or shape; letters in `shape` stand for any size."""
    unmasked(what, values)
    if values.dtype == dtype:
        fits(what, values, shape)
        return
    way_out = ""
    if values.dtype.kind in "biuf":
        way_out = f"convert it: .astype(np.{dtype})"
    if values.dtype in PRECISIONS:
        way_out += f", or the network: .astype(np.{values.dtype})"
    refuse(what, dtype, values.dtype, way_out, error=TypeError)


def fits(what: str, values: Array, shape: tuple[object, ...]) -> None:
    """Refuses an array whose shape is not `shape`; letters in `shape` stand for any size."""
    actual = values.shape
    if actual == shape:
        return
    if len(actual) == len(shape):
        for want, size in zip(shape, actual, strict=True):
            if want != size and not isinstance(want, str):
                break
        else:
            return
    expected = "(" + ", ".join(str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
    way_out = ""
    if len(actual) == len(shape) - 1 and "B" in shape:
        way_out = f"add a batch axis: {what}{'[None]' if shape[0] == 'B' else '[:, None]'}"
    refuse(what, expected, actual, way_out)


def all_finite(values: Array) -> bool:
    """Whether an array of numbers holds neither NaN nor infinity."""
    # One pass without a second array; squares of finite float64 numbers may overflow.
    if values.dtype in PRECISIONS and math.isfinite(_engine.sum_of_squares(values)):
        return True
    return bool(np.isfinite(values).all())


def finite(what: str, values: Array) -> None:
    """Refuses NaN and infinity, and names the first entry that is one."""
    if all_finite(values):
        return
    place = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
    count = int(values.size - np.isfinite(values).sum())
    refuse(what, "finite numbers", f"{values[place]} at {place} ({count} of {values.size})")


def indices(what: str, values: Array, classes: int) -> Array:
    """Class indices (T, B) in 0 … classes − 1, as the platform's index type."""
    unmasked(what, values)
    if values.size:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= classes:
            wrong = low if low < 0 else high
            refuse(what, f"class indices from 0 to {classes - 1}", wrong)
    return values.astype(np.intp, copy=False)


def step_counts(lengths: object, steps: int, batch: int) -> Array | None:
    """Lengths (B,) in 1 … T, as the platform's index type; None stays None."""
    if lengths is None:
        return None
    array = array_of("lengths", lengths)
    if array.dtype.kind not in "iu":
        refuse("lengths", "integers", array.dtype, error=TypeError)
    fits("lengths", array, (batch,))
    for b in np.flatnonzero((array < 1) | (array > steps))[:1]:
        refuse("lengths", f"from 1 to T = {steps} steps", f"{array[b]} for sequence {b}")
    return array.astype(np.intp)


def same_names(what: str, given: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    """Refuses a mapping whose names are not exactly those of `wanted`."""
    if not isinstance(given, Mapping):
        refuse(what, "a mapping of names to arrays", type(given).__name__, error=TypeError)
    if set(given) == set(wanted):
        return
    missing = [f"{name} missing" for name in wanted if name not in given]
    unknown = [f"{name} unknown" for name in given if name not in wanted]
    names = ", ".join(wanted)
    refuse(what, f"the names {names}" if names else "no names", ", ".join(missing + unknown))
