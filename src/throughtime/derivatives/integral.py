"""Does the gradient under test explain how the loss changes over a long move?

Over a move along a line the loss changes by the integral of its slope. A right gradient, taken at
some places of the line and integrated, gives that change up to rounding, however the loss bends
on the way, and whatever stairs or kinks lie between. A wrong one does not. So this tells a
gradient that is wrong from a numerical derivative that is.

It sees the error of the gradient averaged over the move, where steps near 0 see it at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.derivatives.odd import QUANTILES, places, slope_at_0, tread
from throughtime.derivatives.tolerances import INTEGRAL_COEFFICIENTS, MOVE_PAIRS, STAIR_SHIFT
from throughtime.derivatives.values import Value


@dataclass(frozen=True)
class Integrated:
    """How much the gradient is off along a line, on average over a move.

    Attributes:
        residual: gradient minus slope.
        error: its error bar; infinite where places have no finite value.
        length: of the move, on either side of 0.
        deviation: of the loss's values, as what is left over shows it.
        curve: the part of the error bar that comes of slopes that bend too much for a polynomial.
        steady: by what part of it the gradient changes on the way.
    """

    residual: float
    error: float
    length: float
    deviation: float
    curve: float
    steady: float


def integrated(
    at: Callable[[float], tuple[Value, float]], slope: float, length: float, seed: int
) -> Integrated:
    """How much a gradient is off on average over a move of some length on either side.

    Args:
        at: takes a step; gives the loss there, and the gradient along the line.
        slope: the gradient along the line at 0.
        length: of the move.
        seed: of the places.

    Example:
        >>> import numpy as np
        >>> from throughtime.derivatives.values import Value
        >>> def rounded(step):
        ...     value = float(np.float32(1000 + np.exp(step)))  # in stairs 6e-5 high
        ...     return Value(step, value, value), np.exp(step)
        >>> right = integrated(rounded, 1.0, 1.0, seed=0)
        >>> abs(right.residual) < 2 * right.error < 1e-3
        True
        >>> wrong = integrated(lambda s: (rounded(s)[0], 1.01 * rounded(s)[1]), 1.01, 1.0, seed=0)
        >>> wrong.residual > 10 * wrong.error
        True
    """
    pairs = [(at(-float(step)), at(float(step))) for step in places(length, MOVE_PAIRS, seed)]
    height = tread(
        [*(low.raw for (low, _), _ in reversed(pairs)), *(high.raw for _, (high, _) in pairs)]
    )
    seen = np.array([[*low[0][:2], low[1], *high[0][:2], high[1]] for low, high in pairs]).T
    finite = np.isfinite(seen).all() and (seen[0] < 0).all() and (seen[3] > 0).all()
    if height is None or not finite:
        return Integrated(np.nan, np.inf, length, np.inf, np.inf, np.inf)
    below, low, slope_below, above, high, slope_above = seen
    steps = (above - below) / 2 / length
    # The odd part of the loss has an even slope, of which the value at 0 is known too.
    slopes = np.array([slope, *(slope_below + slope_above) / 2])
    integral, curve = _integral(np.array([0.0, *steps]), slopes)
    missing = slope_at_0(steps, (high - low) / 2 / length - integral)
    return Integrated(
        -missing.value,
        missing.noise + missing.curve + curve + STAIR_SHIFT * height / length,
        length,
        max(length * missing.deviation, height / float(np.sqrt(12))),
        curve,
        float(np.abs(slopes / slope - 1).max()) if slope else np.inf,
    )


def _integral(steps: Array, slopes: Array) -> tuple[Array, float]:
    """The integral of slopes from 0 to each step but the first, and its error per length.

    Args:
        steps: from 0 to about 1.
        slopes: of the function there; an even function.
    """
    found = []
    for count in INTEGRAL_COEFFICIENTS:
        powers = 2 * np.arange(count)
        table = steps[:, None] ** powers
        coefficients, *_ = np.linalg.lstsq(table, slopes, rcond=None)
        freedom = len(steps) - count
        rest = float(np.linalg.norm(slopes - table @ coefficients) / np.sqrt(freedom))
        error = QUANTILES[freedom] * rest * float(np.sqrt(count / len(steps)))
        found.append(((steps[1:, None] ** (powers + 1) / (powers + 1)) @ coefficients, error))
    return min(found, key=lambda each: each[1])
