"""Vanishing, exploding, dead or healthy: with the lag and the number that say so.

The thresholds, and the reasons for them, stand in `tolerances`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from throughtime.arrays import Array
from throughtime.gradient_flow.tolerances import (
    DEAD_SHARE_OF_UNITS,
    EXPLODED_ABOVE,
    VANISHED_BELOW,
)

FlowVerdict = Literal["healthy", "vanishing", "exploding", "dead"]
WORST_FIRST: tuple[FlowVerdict, ...] = ("exploding", "dead", "vanishing", "healthy")


@dataclass(frozen=True)
class Decay:
    """How the gradient falls, or grows, with the lag.

    Attributes:
        rate: the factor per step, fitted to the logarithm of the profile's later half; NaN if the
            profile is too short or 0.
        upper: the rate plus two standard errors.
        half_life: the steps in which the gradient halves; infinite if it does not fall.
        reach: the last lag up to which the gradient stays above one per cent of that at lag 0.
        falls_at: the next lag; None if it stays above throughout.
        largest: the ratio of the largest gradient to that at lag 0.
        grows_at: the first lag at which it is more than ten times that at lag 0; None if there is
            no such lag.
    """

    rate: float
    upper: float
    half_life: float
    reach: int
    falls_at: int | None
    largest: float
    grows_at: int | None


def decay(profile: Array) -> Decay:
    """The decay of a profile ‖∂E_t/∂s_{t−l}‖ over l = 0, 1, …

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

    A plain mean at lag l is over t ≥ l only: if some losses are larger than others, it falls or
    rises with l for that reason, too. Here the ratios of the sum of ‖∂E_t/∂s_{t−l}‖ to that of
    ‖∂E_t/∂s_{t−l+1}‖, both over t ≥ l, are multiplied.

    Args:
        total, count: (n, L), as in `LagNorms`.

    Returns:
        (lags that exist,): 1 at lag 0.
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
    """The verdict on one layer, and its reason in one sentence.

    Args:
        found: how its gradient falls.
        dead: (H,), its dead units.
        memory: the lag that is needed.
    """
    share = float(dead.mean())
    if found.grows_at is not None:
        return "exploding", (
            f"at lag {found.grows_at} the gradient is {EXPLODED_ABOVE:g} times that at lag 0; "
            f"it changes by a factor of {found.rate:.3g} per step"
        )
    if share >= DEAD_SHARE_OF_UNITS:
        return "dead", f"{int(dead.sum())} of {len(dead)} units pass nothing on and learn nothing"
    if found.falls_at is not None and found.falls_at <= memory:
        return "vanishing", (
            f"from lag {found.falls_at} on, the gradient is below {VANISHED_BELOW:.0%} of that at "
            f"lag 0, but lag {memory} is needed; its half-life is {found.half_life:.3g} steps"
        )
    where = f"up to lag {found.reach}" if found.falls_at is not None else "at every lag seen"
    return "healthy", f"the gradient stays above {VANISHED_BELOW:.0%} of that at lag 0 {where}"
