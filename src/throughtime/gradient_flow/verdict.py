"""Vanishing, exploding, dead or healthy: with the lag, the gate and the number that say so.

A unit is dead that gives nothing and can learn nothing: some slope that everything passes through is
below one per cent of its largest possible value at every step of every sequence, or a ReLU is never
above 0. A forget gate that stays open is no fault: it is a memory. The thresholds, and the reasons
for them, stand in `tolerances`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import Cell, Tape
from throughtime.gradient_flow.tolerances import (
    DEAD_SHARE_OF_UNITS,
    EXPLODED_ABOVE,
    SATURATED_SLOPE,
    VANISHED_BELOW,
)

FlowVerdict = Literal["healthy", "vanishing", "exploding", "dead"]
WORST_FIRST: tuple[FlowVerdict, ...] = ("exploding", "dead", "vanishing", "healthy")


@dataclass(frozen=True)
class Gate:
    """How one gate's values are spread over steps, sequences and units.

    Attributes:
        mean: of its values.
        closed, open: shares of values that are saturated at the lower and at the upper end: 0
            and 1, of a tanh −1 and 1; of a ReLU closed alone: at 0.
        stuck: (H,) whether a unit's values are saturated at every step.
        activation: "sigmoid", "tanh" or "relu".
    """

    mean: float
    closed: float
    open: float
    stuck: Array = field(repr=False)
    activation: str = field(repr=False)


@dataclass
class GateSums:
    """A gate's values, added up over groups of sequences."""

    kind: str  # "sigmoid", "tanh" or "relu"
    total: float
    count: int
    closed: Array  # (H,) how many values
    open: Array

    def __add__(self, other: GateSums) -> GateSums:
        return GateSums(
            self.kind,
            self.total + other.total,
            self.count + other.count,
            self.closed + other.closed,
            self.open + other.open,
        )

    def gate(self) -> Gate:
        """Shares instead of counts."""
        share = self.count * len(self.closed)
        stuck = np.asarray(self.closed + self.open >= self.count)
        closed, opened = float(self.closed.sum()) / share, float(self.open.sum()) / share
        return Gate(self.total / share, closed, opened, stuck, self.kind)


def gate_sums(cell: Cell, tape: Tape) -> dict[str, GateSums]:
    """Of every gate of a run, by the letters of `cell.gates`."""
    found = {}
    for gate, kind in cell.activations.items():
        values = tape.kept[gate]
        if tape.active is None:
            values = values.reshape(-1, values.shape[2])
        else:
            values = values[tape.active[..., 0]]
        low, high = _flat_beyond(kind)  # (steps that count, H)
        sums = (values <= low).sum(axis=0), (values >= high).sum(axis=0)
        total = float(values.sum(dtype=np.float64))
        found[gate] = GateSums(kind, total, len(values), *sums)
    return found


def _flat_beyond(kind: str) -> tuple[float, float]:
    """The values below and above which an activation is saturated: see `SATURATED_SLOPE`."""
    if kind == "relu":
        return 0.0, np.inf
    reach = float(np.sqrt(1 - SATURATED_SLOPE))  # 1 − tanh² is this slope; σ is (1 + tanh)/2
    return ((1 - reach) / 2, (1 + reach) / 2) if kind == "sigmoid" else (-reach, reach)


def dead_units(cell: Cell, gates: dict[str, GateSums]) -> Array:
    """(H,) whether a unit gives nothing and can learn nothing.

    That is so if its output gate is closed throughout, or if nothing is ever written: its input
    gate closed, its update gate open so that h stands still, or its candidate saturated. Of an RNN
    the activation is the candidate.
    """
    found = np.zeros(cell.units, bool)
    for gate in cell.gate_specs:
        sums = gates[gate.letter]
        if gate.role in ("input", "output"):
            found |= sums.closed >= sums.count
        elif gate.role == "update":
            found |= sums.open >= sums.count
        elif gate.role == "candidate":
            found |= sums.closed + sums.open >= sums.count
    return found


@dataclass(frozen=True)
class Decay:
    """How the gradient falls, or grows, with the lag.

    Attributes:
        rate: factor per step, fitted to the logarithm of the profile's later half; NaN where it
            is too short or 0.
        upper: the same plus two standard errors.
        half_life: steps in which it halves; infinite where it does not fall.
        reach: the last lag up to which the gradient stays above one per cent of that at lag 0.
        falls_at: the next lag; None where it stays above throughout.
        largest: the largest gradient over that at lag 0.
        grows_at: the first lag at which it is ten times that at lag 0; None where none is.
    """

    rate: float
    upper: float
    half_life: float
    reach: int
    falls_at: int | None
    largest: float
    grows_at: int | None


def decay(profile: Array) -> Decay:
    """Of a profile ‖∂E_t/∂s_{t−l}‖ over l = 0, 1, …

    Example:
        >>> import numpy as np
        >>> found = decay(0.5 ** np.arange(20))
        >>> round(found.half_life, 12), found.falls_at
        (1.0, 7)
    """
    rate, upper = _rate(profile)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = profile / profile[0] if profile[0] > 0 else np.zeros_like(profile)
    with np.errstate(divide="ignore", invalid="ignore"):
        half_life = float(-np.log(2) / np.log(rate)) if 0 < rate < 1 else np.inf
    if rate == 0:
        half_life = 0.0
    low = np.flatnonzero(relative < VANISHED_BELOW)
    high = np.flatnonzero(~(relative <= EXPLODED_ABOVE))
    falls_at = int(low[0]) if len(low) else None
    reach = len(profile) - 1 if falls_at is None else max(0, falls_at - 1)
    grows_at = int(high[0]) if len(high) else None
    return Decay(rate, upper, half_life, reach, falls_at, float(relative.max()), grows_at)


def chained(total: Array, count: Array) -> Array:
    """A profile in which every lag is compared with the one before over the same losses.

    A plain mean at lag l is over t ≥ l alone: where some losses are larger than others, it falls
    or rises with l for that reason too. Here the ratios of the sums of ‖∂E_t/∂s_{t−l}‖ and of
    ‖∂E_t/∂s_{t−l+1}‖, both over t ≥ l, are multiplied up: (n, L), (n, L) -> (lags that exist,),
    1 at lag 0.
    """
    there = count > 0
    later = np.where(there[:, 1:], total[:, 1:], 0).sum(axis=0)
    before = np.where(there[:, 1:], total[:, :-1], 0).sum(axis=0)
    ratios = np.divide(later, before, out=np.zeros_like(later), where=before > 0)
    start = 1.0 if total[:, 0].any() else 0.0
    exists = there.any(axis=0)
    return np.cumprod(np.concatenate([[start], ratios]))[exists]


def _rate(profile: Array) -> tuple[float, float]:
    lags = np.arange(len(profile))
    useful = np.isfinite(profile) & (profile > 0)
    if len(profile) > 1 and not profile[1:].any():
        return 0.0, 0.0
    lags = lags[useful]
    lags = lags[len(lags) // 2 :] if len(lags) > 3 else lags[-2:]
    if len(lags) < 2:
        return np.nan, np.nan
    y = np.log(profile[lags])
    x = lags - lags.mean()
    slope = float(x @ y / (x @ x))
    left = y - y.mean() - slope * x
    error = np.sqrt(left @ left / max(1, len(x) - 2) / (x @ x))
    return float(np.exp(slope)), float(np.exp(slope + 2 * error))


def judge(found: Decay, dead: Array, memory: int) -> tuple[FlowVerdict, str]:
    """The verdict on one layer, and its reason in one sentence."""
    share = float(dead.mean())
    if found.grows_at is not None:
        return "exploding", (
            f"at lag {found.grows_at} the gradient is {EXPLODED_ABOVE:g} times that at lag 0; "
            f"it changes by a factor of {found.rate:.3g} per step"
        )
    if share >= DEAD_SHARE_OF_UNITS:
        return "dead", f"{int(dead.sum())} of {len(dead)} units give nothing and learn nothing"
    if found.falls_at is not None and found.falls_at <= memory:
        return "vanishing", (
            f"from lag {found.falls_at} on the gradient is below {VANISHED_BELOW:.0%} of that at "
            f"lag 0, where {memory} are needed; half-life {found.half_life:.3g} steps"
        )
    where = f"up to lag {found.reach}" if found.falls_at is not None else "at all lags seen"
    return "healthy", f"the gradient stays above {VANISHED_BELOW:.0%} of that at lag 0 {where}"
