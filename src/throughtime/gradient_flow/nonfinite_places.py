"""The first place in arrays that are computed side by side, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array


class Entry(NamedTuple):
    """An entry of one of several arrays (T, B, ·)."""

    name: str
    step: int
    sequence: int
    unit: int


def first_entry(arrays: Mapping[str, Array], *, backward: bool = False) -> Entry | None:
    """The earliest step, in the order of the arrays, at which something is NaN or infinite.

    Args:
        arrays: by name, (T, B, ·), in the order in which a step computes them.
        backward: whether the last step comes first.

    Example:
        >>> import numpy as np
        >>> z, c = np.zeros((3, 1, 2)), np.zeros((3, 1, 2))
        >>> z[2], c[1, 0, 1] = np.inf, np.nan
        >>> first_entry({"z": z, "c": c})
        Entry(name='c', step=1, sequence=0, unit=1)
    """
    found = []
    for name, array in arrays.items():
        wrong = np.argwhere(~np.isfinite(array))
        if len(wrong):
            order = -wrong[:, 0] if backward else wrong[:, 0]
            found.append(Entry(name, *map(int, wrong[order.argmin()])))
    return min(found, key=lambda one: -one.step if backward else one.step, default=None)


def largest(array: Array) -> float:
    """max |·|, of what is not NaN."""
    size = np.abs(array[~np.isnan(array)])
    return float(size.max()) if size.size else float("nan")
