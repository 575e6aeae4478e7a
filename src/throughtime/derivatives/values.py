"""A function's value at places where it may have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class CheckError(ValueError):
    """The check itself could not run; the message says why."""


class Value(NamedTuple):
    """A function's value at one place on a line.

    Attributes:
        step: where it was taken: the step that could be realised.
        value: the value there, corrected for how far the place lies off the line; NaN where
            there is none.
        raw: the value as it came. A function that is rounded shows its stairs here.
    """

    step: float
    value: float
    raw: float


Along = Callable[[float], Value]
"""Takes a step, and gives the function there."""


def of_terms(call: Callable[[], Any]) -> tuple[float, float]:
    """The sum of the terms that a call returns, and the standard deviation of their rounding.

    A move may leave a function's domain: where it overflows or refuses, its value is NaN.
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
