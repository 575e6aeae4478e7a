"""A function's values: where there are none, and how many digits they carry.

The digits show what a silent conversion to a shorter precision has left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log10
from typing import Any, NamedTuple

import numpy as np

from throughtime.arrays import Array
from throughtime.derivatives.tolerances import (
    FEWEST_DISTINCT,
    FORMAT_BITS_UNUSED,
    FORMAT_SAMPLE,
    MOST_DECIMALS,
)


class CheckError(ValueError):
    """The check itself could not run; the message says why."""


class FunctionValue(NamedTuple):
    """A function's value at one place on a line.

    Attributes:
        step: the step that was realised.
        value: the value there, corrected for how far the place lies off the line; NaN where
            there is none.
        raw: the value as it came. A rounded function shows its stairs here.
    """

    step: float
    value: float
    raw: float


LineFunction = Callable[[float], FunctionValue]
"""A function along a line: takes a step, gives the value there."""


def sum_terms(call: Callable[[], Any]) -> tuple[float, float]:
    """The sum of the terms that a call returns, and the standard deviation of their rounding.

    A move may leave a function's domain: where the call overflows or raises, its value is NaN.
    """
    with np.errstate(all="ignore"):
        try:
            terms = np.asarray(call())
        except CheckError:
            raise
        except (ArithmeticError, ValueError):
            return np.nan, 0.0
        total = float(np.sum(terms, dtype=np.float64))
        spacing = np.finfo(terms.dtype).eps if terms.dtype.kind == "f" else 0.0
        rounding = float(spacing * np.linalg.norm(terms.astype(np.float64).reshape(-1)))
    if not np.isfinite(total):
        return np.nan, 0.0
    return total, rounding / np.sqrt(48)  # an error of up to half a unit, which is eps at most


# Bits of the significand, the implicit one included, and what has so many.
FORMATS = {8: "bfloat16", 11: "float16", 24: "float32", 53: "float64"}


def significant_bits(values: Array) -> int:
    """The most bits that a significand needs: 24 where all are float32 numbers.

    Example:
        >>> import numpy as np
        >>> significant_bits(np.array([0.75, 5.0])), significant_bits(np.float32([0.1]))
        (3, 24)
    """
    significand, _ = np.frexp(values.astype(np.float64))
    whole = np.abs(np.ldexp(significand, 53)).astype(np.int64)
    whole = whole[whole > 0]
    if not whole.size:
        return 0
    lowest = whole & -whole
    return 53 - int(np.log2(lowest.min()))


def last_place(values: Array, at: float | None = None) -> float:
    """The spacing of neighbouring numbers in the shortest format that holds all values.

    It is the spacing at the largest of them, or `at` another number.

    The formats are binary and decimal ones: numbers that were printed and read again, or rounded
    for display, lie on a grid of decimals or carry few decimal digits. A few values may fit a
    short format by chance; where there are fewer than `FEWEST_DISTINCT`, it is float64's.

    Example:
        >>> import numpy as np
        >>> last_place(np.array([12.25, 3.5, 10.125]))  # bfloat16 would do
        0.0625
        >>> last_place(np.array([1.38281, 0.69314, 0.30002])) < 1.1e-5
        True
        >>> last_place(np.array([np.pi, np.e, 0.1])) < 1e-15
        True
    """
    seen = np.unique(values[np.isfinite(values)])
    largest = float(np.abs(seen).max(initial=0.0)) if at is None else at
    own = float(np.spacing(largest))
    if seen[seen != 0].size < FEWEST_DISTINCT or not largest:
        return own
    exponent = int(np.frexp(largest)[1])
    found = [own]
    for bits in sorted(FORMATS)[:-1]:
        units = 2.0 ** (np.frexp(seen)[1] - bits)
        if (np.rint(seen / units) * units == seen).all():
            found.append(2.0 ** (exponent - bits))
            break
    for digits in range(1, MOST_DECIMALS + 1):
        if all(float(f"{value:.{digits - 1}e}") == value for value in seen.tolist()):
            found.append(10.0 ** (np.floor(log10(largest)) + 1 - digits))
            break
    for places in range(MOST_DECIMALS + 1):
        if all(round(value, places) == value for value in seen.tolist()):
            found.append(10.0**-places)
            break
    return float(max(found))


def format_of(arrays: Sequence[Array]) -> str:
    """The shortest format that holds all these numbers and that they need nearly all bits of.

    It is "float64" where nothing can be said: for too few numbers, or simple ones as 0.5 and 3.
    """
    values = np.concatenate([_some(array) for array in arrays])
    values = np.unique(values[np.isfinite(values)])
    bits = significant_bits(values)
    for limit, name in FORMATS.items():
        if (
            limit - FORMAT_BITS_UNUSED < bits <= limit
            and values[values != 0].size >= FEWEST_DISTINCT
        ):
            return name
    return "float64"


def _some(array: Array) -> Array:
    """A sample of an array's numbers, from all over it."""
    flat = array.reshape(-1)
    return flat[:: max(1, flat.size // FORMAT_SAMPLE)]


def bits_of(name: str) -> int:
    """The bits of a format's significand."""
    return next(bits for bits, own in FORMATS.items() if own == name)


def rounded(values: Array, bits: int) -> Array:
    """The nearest numbers with so many significant bits.

    Example:
        >>> import numpy as np
        >>> rounded(np.array([1 + 2**-7, 1 + 2**-9]), 8)
        array([1.0078125, 1.       ])
    """
    significand, exponent = np.frexp(values)
    nearest: Array = np.ldexp(np.rint(np.ldexp(significand, bits)), exponent - bits)
    return nearest


def decimal_digits(name: str) -> int:
    """How many decimal digits a format carries.

    Example:
        >>> [decimal_digits(name) for name in ("bfloat16", "float16", "float32", "float64")]
        [2, 3, 7, 16]
    """
    return round(bits_of(name) * log10(2))
