"""Wrong gradients in similar settings: the mistakes of `implementations`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np

import corpus as implementations
from benchmarks.check import cases as bench
from benchmarks.strangers.cases import (
    ALL_UNITS,
    LONG,
    LONGEST,
    MOST,
    SHORT,
    WEIGHTS,
    WIDEST,
    Draw,
    coarsest,
    finite,
    quietly,
    sum_drawn,
)
from benchmarks.strangers.losses import Sum
from corpus import FAULTS
from throughtime.gradcheck import Target

RATHER = 0.2  # the share of networks with each of the features that they may have


@dataclass(frozen=True)
class Wrong:
    """One mistake in one style's network, and how its loss is added up.

    Attributes:
        seed: the number that determines everything.
        case: the implementation.
        sum: how the terms of its loss, in its own precision, become one number.
        lengths: whether the target has `at_length`.
    """

    seed: int
    case: bench.Case
    sum: Sum
    lengths: bool

    def __str__(self) -> str:
        variant = [f"{key}={value}" for key, value in self.case.variant.items()]
        lengths = ["at_length"] * self.lengths
        return f"{self.seed}: {', '.join([str(self.case), *variant, *lengths])} | {self.sum}"

    def to_dict(self) -> dict[str, Any]:
        """The entries of a row that describe the case."""
        return self.case.to_dict() | {
            "case": str(self),
            "sum": str(self.sum),
            "lengths": self.lengths,
        }

    @property
    def coarsest(self) -> str:
        """The coarsest rounding in it, as `Case.coarsest`."""
        return coarsest(self.case.dtype, "", self.sum)

    def target(self, *, plain: bool = False) -> Target:
        """The implementation, or the same without its mistake."""
        return self._wrapped(self.case.target(plain=plain))

    def effect(self) -> bench.Effect:
        """The effect of the mistake on the gradient, and whether the loss as it is added shows it.

        This is `cases.effect`, where u is not the unit roundoff of the implementation's precision
        but the relative error of the coarsest rounding on the way to its loss, see
        `Sum.roundoff`.
        """
        right = self.case.target("float64", plain=True)
        terms = np.asarray(quietly(right.loss)())
        u = self.sum.roundoff(float(terms.sum()), terms.size, self.case.dtype)
        found: bench.Effect = quietly(lambda: bench.effect(self.case, u))()
        return found

    def _wrapped(self, own: Target) -> Target:
        def loss() -> Any:
            terms = np.atleast_1d(own.loss())
            return self.sum.show(self.sum.add(terms.reshape(len(terms), -1)))

        def at_length(steps: int) -> Target:
            assert own.at_length is not None
            return self._wrapped(own.at_length(steps))

        return replace(
            own,
            loss=quietly(loss),
            gradient=quietly(own.gradient),
            at_length=at_length if self.lengths and own.at_length is not None else None,
        )


def wrong(seed: int) -> Wrong:
    """The wrong implementation of this seed, always the same one on the same machine.

    It is drawn again if its loss, or its gradient with or without the mistake, is not finite, or
    if the mistake is impossible in a network of these shapes.

    Example:
        >>> import throughtime as tt
        >>> from benchmarks.strangers import wrong
        >>> tt.check(wrong(2).target(), diagnose=False).verdict
        'disagree'
    """
    for attempt in count():
        drawn = _drawn(seed, attempt)
        try:
            right = drawn.case.target("float64", plain=True)
            if all(map(finite, (right, drawn.target(plain=True), drawn.target()))):
                return drawn
        except ValueError:
            continue  # such a network cannot have this mistake
    raise AssertionError


def _drawn(seed: int, attempt: int) -> Wrong:
    d = Draw(seed, attempt, 1)
    style, cell, fault = d.of(implementations.catalogue())
    least = FAULTS[fault].at_least
    T = d.size(LONGEST if d.yes(LONG) else SHORT, least.get("T", 1))
    case = bench.Case(
        style=style,
        cell=cell,
        fault=fault,
        sizes={
            "T": T,
            "B": d.size(MOST, least.get("B", 1))
            if "batch" in implementations.features(style)
            else 1,
            "I": d.size(WIDEST),
            "H": d.size(min(WIDEST, ALL_UNITS // T), 2),
            "O": d.size(WIDEST, 2),
        },
        seed=seed,
        dtype=d.of(("float32", "float64")),
        init=d.between(*WEIGHTS),
        variant=_variant(d, style, cell, fault),
    )
    return Wrong(seed, case, replace(sum_drawn(d), as_float=d.yes(0.5)), d.yes(0.5))


def _variant(d: Draw, style: str, cell: str, fault: str) -> Mapping[str, Any]:
    """The features of the network that its mistake leaves open, and that its terms are separate."""
    own: dict[str, Any] = {"time": d.of(("mean", "sum")), "batch": d.of(("mean", "sum"))}
    options = {"states": 0.5, "layers": RATHER, "ragged": RATHER, "bidirectional": RATHER}
    options |= {"projection": RATHER} if cell == "LSTM" else {}
    for name, share in options.items():
        if d.yes(share) and name in implementations.features(style):
            own[name] = 2 if name == "layers" else True
    if d.yes(RATHER) and cell == "RNN" and "relu" in implementations.features(style):
        own["activation"] = "relu"
    if d.yes(RATHER) and "regression" in implementations.features(style):
        own["task"] = "regression"
    return {key: value for key, value in own.items() if key not in FAULTS[fault].needs} | {
        "terms": True
    }
