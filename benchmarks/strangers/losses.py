"""How users compute a loss: the error of an answer, and the ways to add up errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from math import floor, fsum, log10
from typing import Any

import numpy as np

from benchmarks.strangers.networks import (
    FORMATS,
    clip,
    log,
    log_softmax,
    sigmoid,
    softmax,
    sqrt,
    square,
    total,
    value_of,
)
from throughtime.arrays import Array

Error = Callable[[Any, Array, float], Any]
"""(T, B) from answers (T, B, O), what they should be, and a small number."""


def _picked(p: Any, labels: Array) -> Any:
    steps, sequences = labels.shape
    return p[np.arange(steps)[:, None], np.arange(sequences), labels]


def _binary(y: Any, wanted: Array, tiny: float) -> Any:
    """The error of one output; `wanted` is 0 or 1."""
    p = clip(sigmoid(y[..., 0]), tiny, 1 - tiny)
    return -1.0 * (wanted * log(p) + (1.0 - wanted) * log(1.0 - p))


CLASSES: dict[str, Error] = {
    "log p": lambda y, k, tiny: -1.0 * log(_picked(softmax(y), k)),
    "log p, unshifted": lambda y, k, tiny: -1.0 * log(_picked(softmax(y, shifted=False), k)),
    "log of clipped p": lambda y, k, tiny: -1.0 * log(clip(_picked(softmax(y), k), tiny, 1 - tiny)),
    "log(p + ε)": lambda y, k, tiny: -1.0 * log(_picked(softmax(y), k) + tiny),
    "log-softmax": lambda y, k, tiny: -1.0 * _picked(log_softmax(y), k),
}
NUMBERS: dict[str, Error] = {
    "squared error": lambda y, a, tiny: total(square(y - a), -1),
    "half squared error": lambda y, a, tiny: total(square(y - a), -1) / 2,
    "mean squared error": lambda y, a, tiny: total(square(y - a), -1) / a.shape[-1],
    "RMSE": lambda y, a, tiny: total(square(y - a), -1) / a.shape[-1],
}
ONE: dict[str, Error] = {"binary cross-entropy": _binary}
ERRORS = CLASSES | NUMBERS | ONE


@dataclass(frozen=True)
class Sum:
    """How numbers are added up.

    Attributes:
        format: "" for that of the numbers; otherwise one of `FORMATS`, to which they are converted
            first.
        added: one of `ADDED`, or one of `TERMS`, in which case the caller adds them up.
        shown: "" or one of `SHOWN`, which is applied to the sum at the end.
        as_float: whether Python's floats are returned, which do not reveal the precision in which
            they were computed.
    """

    format: str
    added: str
    shown: str
    as_float: bool = False

    def __str__(self) -> str:
        terms = [f"{self.format} terms"] * bool(self.format)
        return ", ".join(
            [*terms, self.added, *[self.shown] * bool(self.shown), *["as float"] * self.as_float]
        )

    def add(self, terms: Array, *, whole: bool = False) -> Any:
        """The sum of terms (steps, sequences), or terms; with `whole` always a single number."""
        kept = FORMATS[self.format](terms) if self.format else terms
        if self.added in TERMS and not (whole or self.shown):
            return TERMS[self.added](kept)
        return ADDED.get(self.added, _step_by_step)(kept)

    def show(self, found: Any) -> Any:
        """Rounds the sum or the terms at the end, as `shown` says."""
        if self.shown:
            return SHOWN[self.shown](float(found))
        if self.as_float:
            return float(found) if np.ndim(found) == 0 else np.asarray(found, np.float64)
        return found

    def roundoff(self, loss: float, terms: int, dtype: str) -> float:
        """The largest relative error of a single rounding in a loss of that many terms.

        This is half the distance of neighbouring numbers in the precision of the computation, in
        the format of the terms, in whole millionths for each term, or in what is shown.
        """
        size = abs(loss) or 1.0
        relative = [U[name] for name in (dtype, self.format, self.shown) if name in U]
        if self.added == "micro-units":
            relative.append(terms * 0.5e-6 / size)
        if self.shown in DIGITS:
            relative.append(0.5 * 10.0 ** (floor(log10(size)) + 1 - DIGITS[self.shown]) / size)
        if self.shown == "printed as %.6f":
            relative.append(0.5e-6 / size)
        return max(relative)


@dataclass(frozen=True)
class Loss:
    """How the errors of all steps and sequences become one number.

    Attributes:
        error: one of `ERRORS`.
        tiny: the number at which the error is clipped, or that is added, if it does so.
        time, batch: "mean" or "sum".
        halved: whether the loss is divided by 2.
        early: whether every error is divided before it is added, instead of the sum.
        sum: how the errors are added up.
    """

    error: str
    tiny: float
    time: str
    batch: str
    halved: bool
    early: bool
    sum: Sum

    def __str__(self) -> str:
        parts = [self.error, f"{self.time} over T", f"{self.batch} over B"]
        parts += ["halved"] * self.halved + ["divided first"] * self.early
        return ", ".join([*parts, str(self.sum)])

    @property
    def root(self) -> bool:
        """Whether the loss is the root of the sum."""
        return self.error == "RMSE"

    def factor(self, steps: int, sequences: int) -> float:
        """The factor by which the sum of the errors is multiplied."""
        T = steps if self.time == "mean" else 1
        B = sequences if self.batch == "mean" else 1
        return 1 / (T * B * (1 + self.halved))

    def errors(self, y: Any, wanted: Array) -> Any:
        """The errors (T, B)."""
        e = ERRORS[self.error](y, wanted, self.tiny)
        return e * self.factor(*value_of(e).shape) if self.early else e

    def of(self, errors: Any) -> Any:
        """The loss that the gradient belongs to, regardless of how numbers are added or shown."""
        factor = 1.0 if self.early else self.factor(*value_of(errors).shape)
        found = total(errors) * factor
        return sqrt(found) if self.root else found

    def as_computed(self, errors: Array) -> Any:
        """The loss as it is returned, rounded at every addition as `sum` says."""
        factor = 1.0 if self.early else self.factor(*errors.shape)
        found = self.sum.add(errors, whole=self.root) * factor
        return self.sum.show(np.sqrt(found) if self.root else found)


def _step_by_step(terms: Array) -> Any:
    """One scalar in the precision of the terms; the sequences of a step are summed first."""
    return np.add.accumulate(terms.sum(1))[-1]


def _one_by_one(terms: Array) -> Any:
    """The same, but every sequence of every step is added by itself."""
    return np.add.accumulate(terms.ravel())[-1]


def _pairwise(terms: Array) -> Any:
    def halves(a: Array) -> Any:
        return a[0] if len(a) == 1 else halves(a[: len(a) // 2]) + halves(a[len(a) // 2 :])

    return halves(terms.ravel())


def _micro_units(terms: Array) -> float:
    """Whole millionths, added up as integers; there are none of an infinite term."""
    if not np.isfinite(terms).all():
        return float(np.sum(terms, dtype=np.float64))
    return sum(round(float(e) * 1e6) for e in terms.ravel()) / 1e6


ADDED: dict[str, Callable[[Array], Any]] = {
    "scalar step by step": _step_by_step,
    "scalar one by one": _one_by_one,
    "np.sum": np.sum,
    "Python's sum": lambda terms: sum(terms.ravel()),
    "sum of floats": lambda terms: sum(terms.ravel().tolist()),
    "fsum": lambda terms: fsum(terms.ravel()),
    "pairwise": _pairwise,
    "summed backwards": lambda terms: reduce(lambda a, b: a + b, terms.ravel()[::-1]),
    "micro-units": _micro_units,
}
TERMS: dict[str, Callable[[Array], Array]] = {
    "terms per step": lambda terms: np.asarray(terms.sum(1)),
    "all terms": lambda terms: terms,
}
SHOWN: dict[str, Callable[[float], float]] = {
    "six digits": lambda loss: float(f"{loss:.6g}"),
    "printed as %.6f": lambda loss: float(f"{loss:.6f}"),
    "printed as %e": lambda loss: float(f"{loss:e}"),
    "float32 at last": lambda loss: float(np.float32(loss)),
    "float16 at last": lambda loss: float(np.float16(loss)),
}
DIGITS = {"six digits": 6, "printed as %e": 7}  # how many significant digits
U = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "float32 at last": 2.0**-24,
    "float16 at last": 2.0**-11,
}
