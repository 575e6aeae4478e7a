"""What a program or a library says about itself: names, shapes, dtype."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from throughtime.arrays import Shape, refuse
from throughtime.gradcheck import CheckError
from throughtime.parameters import Parameters

OPTIONAL = ("reset", "set_length", "initial")
NEEDED = ("names", "shapes", "dtype")
KEYS = (*NEEDED, "steps", "optional")


@dataclass(frozen=True)
class Description:
    """The answer to `{"do": "describe"}`.

    Attributes:
        shapes: name to shape, in the order in which the flat vector holds them.
        dtype: "float32" or "float64".
        steps: T, where it was told.
        optional: which of "reset", "set_length", "initial" can be asked for.
    """

    shapes: dict[str, Shape]
    dtype: str
    steps: int | None
    optional: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many numbers the flat vector has."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def draw(self, seed: int) -> Parameters:
        """Parameters drawn evenly from ±1/√n, n the length of the last axis."""
        rng = np.random.default_rng(seed)
        drawn = Parameters(self.shapes, self.dtype)
        for name, shape in self.shapes.items():
            bound = 1 / math.sqrt(shape[-1]) if shape else 1.0
            drawn[name] = rng.uniform(-bound, bound, shape)
        return drawn


def read_description(who: str, answer: Mapping[str, Any]) -> Description:
    """The description in an answer.

    Raises:
        CheckError: where something is missing, unknown or of the wrong form.
    """
    what = f"{who}: description"

    def demand(true: bool, key: str, expected: str) -> None:
        if not true:
            refuse(f"{what}: {key}", expected, repr(answer.get(key)), error=CheckError)

    missing = [key for key in NEEDED if key not in answer]
    unknown = [key for key in answer if key not in KEYS]
    if missing or unknown:
        found = [f"no {key}" for key in missing] + [f"an unknown {key!r}" for key in unknown]
        keys = "the keys names, shapes and dtype, if need be steps and optional"
        refuse(what, keys, " and ".join(found), error=CheckError)
    names, shapes, dtype, steps = (answer.get(key) for key in KEYS[:4])
    optional = answer.get("optional", [])
    all_names = isinstance(names, list) and all(isinstance(n, str) and n for n in names)
    demand(all_names and bool(names), "names", "a list of names")
    demand(len(set(names)) == len(names), "names", "names that differ")  # type: ignore[arg-type]
    all_shapes = isinstance(shapes, list) and all(map(_is_shape, shapes))
    demand(all_shapes, "shapes", "a list of lists of sizes, each at least 1")
    same = len(shapes) == len(names)  # type: ignore[arg-type]
    demand(same, "shapes", f"one for each of {len(names)} names")  # type: ignore[arg-type]
    demand(dtype in ("float32", "float64"), "dtype", "float32 or float64")
    demand(steps is None or _is_size(steps), "steps", "a number of steps, at least 1")
    known = isinstance(optional, list) and all(o in OPTIONAL for o in optional)
    demand(known, "optional", "a list of some of " + ", ".join(OPTIONAL))
    lasting = steps is not None or "set_length" not in optional
    demand(lasting, "steps", "a number of steps, since set_length changes it")
    named = {n: tuple(s) for n, s in zip(names, shapes, strict=True)}  # type: ignore[arg-type]
    return Description(named, str(dtype), steps, tuple(optional))


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_size, value))
