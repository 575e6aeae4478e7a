"""The derivatives of σ and tanh as people write them by mistake, in terms of the activated value v.

Each form takes numbers, or nodes of a step's equations, of which it makes others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Form: TypeAlias = Callable[[Any], Any]

SIGMOID_SLOPES: dict[str, Form] = {  # for v (1 − v)
    "1 − {v}²": lambda v: 1 - v * v,
    "({v} − 1) {v}": lambda v: v * (v - 1),
    "{v}²": lambda v: v * v,
    "(1 − {v})²": lambda v: (1 - v) ** 2,
    "{v} (1 − {v}²)": lambda v: v * (1 - v * v),
    "{v}² (1 − {v})": lambda v: v * v * (1 - v),
    "{v} (1 − {v})²": lambda v: v * (1 - v) ** 2,
    "{v} (1 + {v})": lambda v: v * (1 + v),
    "{v}² (1 − {v})²": lambda v: (v * (1 - v)) ** 2,
}
TANH_SLOPES: dict[str, Form] = {  # for 1 − v²
    "{v} (1 − {v})": lambda v: v * (1 - v),
    "(1 − {v})²": lambda v: (1 - v) ** 2,
    "1 + {v}²": lambda v: 1 + v * v,
    "{v}² − 1": lambda v: v * v - 1,
    "{v}²": lambda v: v * v,
    "{v} (1 − {v}²)": lambda v: v * (1 - v * v),
    "(1 − {v}²)²": lambda v: (1 - v * v) ** 2,
}
FORMS = {"sigmoid": SIGMOID_SLOPES, "tanh": TANH_SLOPES}
OPPOSITE = ("({v} − 1) {v}", "{v}² − 1")
RIGHT = {"sigmoid": "{v} (1 − {v})", "tanh": "1 − {v}²"}

# The activation in place of its derivative, from φ(z) and φ(φ(z)).
WITH_PHI: dict[str, Callable[[Any, Any], Any]] = {
    "φ(z)": lambda v, again: v,
    "φ(φ(z))": lambda v, again: again,
    "φ(φ(z)) (1 − φ(z))": lambda v, again: again * (1 - v),
    "φ(z) (1 − φ(φ(z)))": lambda v, again: v * (1 - again),
    "1 − φ(z)": lambda v, again: 1 - v,
    "1 − φ(φ(z))": lambda v, again: 1 - again,
    "1 − φ(z) φ(φ(z))": lambda v, again: 1 - v * again,
}
