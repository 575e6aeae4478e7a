"""How many digits numbers carry: what a silent conversion to a shorter precision leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10

import numpy as np

from throughtime.arrays import Array
from throughtime.derivatives.tolerances import (
    FEWEST_DISTINCT,
    FORMAT_BITS_UNUSED,
    FORMAT_SAMPLE,
    MOST_DECIMALS,
)

# Bits of the significand, the implicit one included, and what has so many.
FORMATS = {8: "bfloat16", 11: "float16", 24: "float32", 53: "float64"}


def significant_bits(values: Array) -> int:
    """Bits that the significands need, the longest of them: 24 where all are float32 numbers.

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
    """The distance of neighbouring numbers in the shortest format that holds all of these.

    At the largest of them, or `at` another place.

    Binary formats, and decimal ones: numbers that were printed and read again, or rounded for
    display, lie on a grid of decimals or carry few decimal digits. Few values may fit a short
    format by chance; where there are fewer than `DISTINCT`, it is float64's.

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
    """The shortest format that holds all these numbers and looks as if it had made them.

    "float64" where nothing can be told: too few numbers, or such simple ones as 0.5 and 3.
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
    """A sample of an array's numbers, all over it."""
    flat = array.reshape(-1)
    return flat[:: max(1, flat.size // FORMAT_SAMPLE)]


def bits_of(name: str) -> int:
    """Bits of a format's significand."""
    return next(bits for bits, own in FORMATS.items() if own == name)


def rounded(values: Array, bits: int) -> Array:
    """The nearest numbers of so many significant bits.

    Example:
        >>> import numpy as np
        >>> rounded(np.array([1 + 2**-7, 1 + 2**-9]), 8)
        array([1.0078125, 1.       ])
    """
    significand, exponent = np.frexp(values)
    nearest: Array = np.ldexp(np.rint(np.ldexp(significand, bits)), exponent - bits)
    return nearest


def decimal_digits(name: str) -> int:
    """Decimal digits that a format carries.

    Example:
        >>> [decimal_digits(name) for name in ("bfloat16", "float16", "float32", "float64")]
        [2, 3, 7, 16]
    """
    return round(bits_of(name) * log10(2))
