"""How people compute a loss: the error of an answer, and the ways to add errors up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from math import fsum
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.bench.strangers.networks import (
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

Error = Callable[[Any, Array, float], Any]
"""(T, B) from answers (T, B, O), what they should be, and a small number."""


def _picked(p: Any, labels: Array) -> Any:
    steps, sequences = labels.shape
    return p[np.arange(steps)[:, None], np.arange(sequences), labels]


def _binary(y: Any, wanted: Array, tiny: float) -> Any:
    """Of one output; `wanted` are 0 and 1."""
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
class Loss:
    """How the errors of all steps and sequences become one number.

    Attributes:
        error: one of `ERRORS`.
        tiny: what it clips at or adds, where it does.
        time, batch: "mean" or "sum".
        halved: whether all is divided by 2.
        early: whether every error is divided before it is added, not their sum.
        format: "" for the errors' own; else they are kept in a shorter one, of `FORMATS`.
        added: one of `ADDED`.
        shown: "" or one of `SHOWN`: what is done to the number at the end.
    """

    error: str
    tiny: float
    time: str
    batch: str
    halved: bool
    early: bool
    format: str
    added: str
    shown: str

    def __str__(self) -> str:
        parts = [self.error, f"{self.time} over T", f"{self.batch} over B"]
        parts += ["halved"] * self.halved + ["divided first"] * self.early
        parts += [f"{self.format} terms"] * bool(self.format)
        return ", ".join([*parts, self.added, *[self.shown] * bool(self.shown)])

    @property
    def root(self) -> bool:
        """Whether the root of the sum is the loss."""
        return self.error == "RMSE"

    def factor(self, steps: int, sequences: int) -> float:
        """What the sum of the errors is multiplied by."""
        T = steps if self.time == "mean" else 1
        B = sequences if self.batch == "mean" else 1
        return 1 / (T * B * (1 + self.halved))

    def errors(self, y: Any, wanted: Array) -> Any:
        """(T, B)."""
        e = ERRORS[self.error](y, wanted, self.tiny)
        return e * self.factor(*value_of(e).shape) if self.early else e

    def of(self, errors: Any) -> Any:
        """The loss, as the gradient knows it: how numbers are added or shown has no part in it."""
        factor = 1.0 if self.early else self.factor(*value_of(errors).shape)
        found = total(errors) * factor
        return sqrt(found) if self.root else found

    def as_computed(self, errors: Array) -> Any:
        """The loss as it is returned, rounded at every addition as its author's way has it."""
        factor = 1.0 if self.early else self.factor(*errors.shape)
        terms = FORMATS[self.format](errors) if self.format else errors
        if self.added in TERMS and not self.root and not self.shown:
            return TERMS[self.added](terms) * factor
        found = ADDED.get(self.added, _pairwise)(terms) * factor
        found = np.sqrt(found) if self.root else found
        return SHOWN[self.shown](float(found)) if self.shown else found


def _step_by_step(terms: Array) -> Any:
    """One scalar in the terms' own precision; a step's sequences are summed before."""
    return np.add.accumulate(terms.sum(1))[-1]


def _one_by_one(terms: Array) -> Any:
    """The same, every sequence of every step by itself."""
    return np.add.accumulate(terms.ravel())[-1]


def _pairwise(terms: Array) -> Any:
    def halves(a: Array) -> Any:
        return a[0] if len(a) == 1 else halves(a[: len(a) // 2]) + halves(a[len(a) // 2 :])

    return halves(terms.ravel())


def _micro_units(terms: Array) -> float:
    """Whole millionths, added up as integers."""
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
