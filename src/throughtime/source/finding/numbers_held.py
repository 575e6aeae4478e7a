"""All numbers that variables hold, however deep in lists, dicts and objects."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from throughtime.arrays import Array

DEEPEST = 5  # within lists in objects in dicts: states of several layers are kept as deep
MOST_ITEMS = 1000  # of one list: longer ones are data


def numbers_in(value: Any, depth: int = 0) -> Iterator[Array]:
    """The arrays that a value is, or is made of, each flat; modules and functions have none.

    Args:
        value: anything.
        depth: of what it is in.

    Example:
        >>> [array.tolist() for array in numbers_in({"h": [1.0, np.array([[2.0, 3.0]])]})]
        [[1.0], [2.0, 3.0]]
    """
    if isinstance(value, np.ndarray | float | np.floating):
        array = np.asarray(value)
        if array.dtype.kind == "f":
            yield array.reshape(-1)
        return
    if depth >= DEEPEST or isinstance(value, ModuleType | FunctionType | type | str):
        return
    if isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, list | tuple):
        parts = list(value)
        if parts and all(isinstance(part, float) for part in parts):
            yield np.array(parts)
            return
    else:
        parts = list(getattr(value, "__dict__", {}).values())
    for part in parts[:MOST_ITEMS]:
        yield from numbers_in(part, depth + 1)
