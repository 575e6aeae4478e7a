"""How far back to differentiate: what truncation at K steps gives up.

With K steps every loss reaches the lags 0 … K − 1. What is lost is the gradient through the lags
from K on, R_K; the relative bias is ‖R_K‖ / ‖∇L‖. Both are measured here, exactly, over the lags
that were walked; beyond them the gradient is taken to fall geometrically, as Aicher, Foti and Fox
(2019, "Adaptively truncating backpropagation through time to control gradient bias") do for all
lags beyond a measured one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array
from throughtime.gradient_flow.tolerances import STUDENT_T
from throughtime.gradient_flow.verdict import Decay
from throughtime.parameters import Parameters

# Student's t, one-sided 95 %, by degrees of freedom.


@dataclass(frozen=True)
class Bias:
    """What truncation gives up, by the number of steps K that each loss is followed back.

    Attributes:
        steps: (S,), K.
        relative: (S,), ‖R_K‖ / ‖∇L‖ on these data, the lags beyond those walked included as an
            estimate.
        upper: (S,), what it stays below on other data of this kind with 95 % confidence, from its
            spread over up to eight groups of sequences; NaN where there is one group.
        bound: (S,), Σ over the lags from K on of the norms of their gradients, over ‖∇L‖: what
            the bias stays below even if no two lags cancel.
        beyond: the part of `relative` that is an estimate, of lags that were not walked.
    """

    steps: Array
    relative: Array = field(repr=False)
    upper: Array = field(repr=False)
    bound: Array = field(repr=False)
    beyond: float = 0.0


def tails(by_lag: Sequence[Parameters]) -> tuple[Array, Array, float]:
    """‖R_K‖ at the start of each stretch, the sum of the stretches' norms from there on, ‖∇L‖."""
    rest = by_lag[0].zeros_like()
    left, sums, total = [], [], 0.0
    for one in reversed(by_lag):
        rest += one
        total += one.norm()
        left.append(rest.norm())
        sums.append(total)
    return np.array(left[::-1]), np.array(sums[::-1]), left[-1]


def bias(
    starts: Sequence[int],
    by_lag: Sequence[Parameters],
    groups: Sequence[Array],
    lags: int,
    steps: int,
    found: Decay,
) -> Bias:
    """The bias at every K at which a stretch of lags begins, and at the first K beyond them.

    Args:
        starts, by_lag: stretches of lags and their gradients.
        groups: of each group of sequences, ‖R_K‖ / ‖∇L‖ by stretch, (S,).
        lags: how many lags were walked.
        steps: T; where all its lags were walked, nothing lies beyond.
        found: how the gradient falls, for what lies beyond.
    """
    left, sums, whole = tails(by_lag)
    beyond = 0.0
    if lags < steps:
        beyond = by_lag[-1].norm() * _after(found.upper, lags - starts[-1])
    at = np.array([*starts[1:], lags])
    left, sums = np.append(left[1:], 0.0), np.append(sums[1:], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = (left + beyond) / whole
        bound = (sums + beyond) / whole
        share = float(np.float64(beyond) / whole)
    upper = np.full(len(at), np.nan)
    if len(groups) > 1:
        upper = np.maximum(relative, _foreseen(np.array([one[1:] for one in groups])) + share)
    return Bias(at, relative, upper, bound, share)


def _after(rate: float, length: int) -> float:
    """What a geometric series adds after its first `length` terms, by their sum."""
    if not rate < 1:
        return np.inf
    return float(rate**length / (1 - rate**length))


def _foreseen(ratios: Array) -> Array:
    """The upper end of a prediction interval for one more group, and 0 after the last stretch.

    (groups, S) -> (S + 1,). In logarithms, since ratios of norms are skewed. The ratio of the
    whole data is not held to be steadier than that of a group: where noise makes the gradient,
    numerator and denominator both shrink with the number of sequences, and their ratio varies as
    much as before.
    """
    n = len(ratios)
    logs = np.log(np.maximum(ratios, np.finfo(np.float64).tiny))
    t = STUDENT_T[min(n - 2, len(STUDENT_T) - 1)]
    reach = t * logs.std(axis=0, ddof=1) * np.sqrt(1 + 1 / n)
    return np.append(np.exp(np.minimum(logs.mean(axis=0) + reach, 700.0)), 0.0)


@dataclass(frozen=True)
class Truncation:
    """The number of steps to differentiate, and what that costs.

    Attributes:
        steps: K, the smallest from which on the bias stays below `asked`; None where no K within
            the run does, and the gradient does not fall beyond it either.
        asked: the relative bias that was asked for.
        relative: measured at K.
        upper: with 95 % confidence; NaN where there was one group of sequences to tell from.
        safe: the K at which the bound, which lets no two lags cancel, is below `asked`; None
            where it is not within the lags walked.
        extrapolated: whether K lies beyond the lags walked, where the fall is an estimate.
    """

    steps: int | None
    asked: float
    relative: float
    upper: float
    safe: int | None
    extrapolated: bool


def advise_truncation(found: Bias, asked: float, fall: Decay) -> Truncation:
    """The smallest K whose bias, and that of every longer one, stays below `asked`."""
    worst = np.where(np.isnan(found.upper), found.relative, found.upper)
    place = _first_below(worst, asked)
    safe = _first_below(found.bound, asked)
    safe_steps = None if safe is None else int(found.steps[safe])
    if place is not None:
        relative, upper = float(found.relative[place]), float(found.upper[place])
        return Truncation(int(found.steps[place]), asked, relative, upper, safe_steps, False)
    if found.beyond > 0 and fall.upper < 1:
        more = int(np.ceil(np.log(asked / found.beyond) / np.log(fall.upper)))
        return Truncation(int(found.steps[-1]) + more, asked, asked, asked, safe_steps, True)
    last = float(found.relative[-1])
    return Truncation(None, asked, last, float(found.upper[-1]), safe_steps, False)


def _first_below(values: Array, asked: float) -> int | None:
    above = np.flatnonzero(~(values <= asked))
    place = int(above[-1]) + 1 if len(above) else 0
    return place if place < len(values) else None
