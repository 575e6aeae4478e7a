"""What the variables of a line hold: arrays, and the items of lists and dicts at a step."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.source.tolerances import MOST_ENTRIES

Variables = tuple[Mapping[str, Any], Mapping[str, Any]]  # global and local ones


@dataclass(frozen=True)
class Made:
    """Something with a value at each step, by which a part may be replaced.

    Attributes:
        text: as it is written.
        values: at each step.
        cost: how far-fetched it is.
    """

    text: str
    values: tuple[Array, ...]
    cost: float

    @property
    def names(self) -> frozenset[str]:
        """The variables in it, as far as they are names or attributes."""
        tree = ast.parse(self.text, mode="eval")
        return frozenset(
            ast.unparse(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Subscript | ast.Name | ast.Attribute)
        ) - {"np", "self", "numpy"}

    def flat(self) -> Array:
        """All values behind each other."""
        return np.concatenate([value.reshape(-1) for value in self.values])


def held(frames: Sequence[Variables]) -> Iterator[str]:
    """What the local variables hold: arrays, and the items of lists and dicts at this step."""
    variables = frames[0][1]
    whole = int | np.integer
    numbers = [
        name
        for name, value in variables.items()
        if isinstance(value, whole) and not isinstance(value, bool)
    ]
    if len(frames) > 1:  # that of the loop, or made of it
        after = frames[1][1]
        numbers = [
            n for n in numbers if isinstance(after.get(n), whole) and after[n] != variables[n]
        ]
    for name, value in variables.items():
        yield from _within(name, value, numbers, depth=0)


def _within(name: str, value: Any, numbers: Sequence[str], depth: int) -> Iterator[str]:
    if isinstance(value, np.ndarray | float | np.floating):
        yield name
        if isinstance(value, np.ndarray) and value.ndim > 1 and value.dtype.kind == "f":
            for number in numbers:
                yield from _items(name, number)
    elif isinstance(value, list | tuple):
        for number in numbers if len(value) > 1 or _is_record(value) else ():
            yield from _items(name, number)
            yield from _within_records(name, number, value)
    elif isinstance(value, dict):
        if value and all(isinstance(key, str) for key in value):
            for key, inner in value.items():
                if isinstance(inner, np.ndarray):
                    yield f"{name}[{key!r}]"
        elif value and all(isinstance(key, int) for key in value):
            for number in numbers:
                yield from _items(name, number)
                yield from _within_records(name, number, list(value.values()))
    elif hasattr(value, "__dict__") and depth < 1:
        for key, inner in vars(value).items():
            yield from _within(f"{name}.{key}", inner, numbers, depth + 1)


def _is_record(value: Sequence[Any]) -> bool:
    """Whether the items are what a step keeps: tuples, lists or dicts of arrays."""
    return bool(value) and isinstance(value[-1], tuple | list | dict)


def _within_records(name: str, number: str, value: Sequence[Any]) -> Iterator[str]:
    """The parts of what is kept at this step, and of what was at the one before or after."""
    if not _is_record(value):
        return
    record = value[-1]
    keys = list(record) if isinstance(record, dict) else range(len(record))
    for key in [k for k in keys if isinstance(k, str | int)][:MOST_ENTRIES]:
        if isinstance(record[key], np.ndarray):
            for step in (number, f"{number} - 1", f"{number} + 1"):
                yield f"{name}[{step}][{key!r}]"


def _items(name: str, number: str) -> Iterator[str]:
    """An item at this step, before it, after it; and nothing before the first step."""
    yield from (f"{name}[{number}]", f"{name}[{number} - 1]", f"{name}[{number} + 1]")
    yield f"({name}[{number} - 1] if {number} > 0 else 0 * {name}[{number}])"
