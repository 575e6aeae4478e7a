"""The slope at 0 from steps drawn at random, with an error bar that assumes nothing about noise.

A function that is rounded on the way climbs in stairs. Steps at regular distances meet these
stairs in step: equal values, equal jumps, a slope of 0 that looks exact. Steps drawn at random
do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from throughtime.derivatives.odd import QUANTILES, fit, places, slope_at_0, tread
from throughtime.derivatives.tolerances import RANDOM_PAIRS, STAIR_SHIFT
from throughtime.derivatives.values import Along, Value

EVEN = (1, 2, 4, 6)  # powers, of which the first is a kink's


@dataclass(frozen=True)
class Scattered:
    """A slope at 0.

    Attributes:
        value: of the derivative.
        error: its error bar: two standard deviations as the fit's remainder shows them, what the
            next power adds, and the height of stairs where values repeat. Infinite where the
            function does not move, or has no value.
        scale: the longest step.
        deviation: of the function's values, as the remainder shows it.
        jump: half the jump of the slope that kinks among the steps may make up, at most.
    """

    value: float
    error: float
    scale: float
    deviation: float = np.inf
    jump: float = np.inf


def scattered(along: Along, middle: float, scale: float, seed: int) -> Scattered:
    """The slope at 0 from random steps up to a scale.

    Args:
        along: the function.
        middle: its value at 0.
        scale: the longest step.
        seed: of the steps.

    Example:
        >>> import numpy as np
        >>> from throughtime.derivatives.values import Value
        >>> def rounded(step):
        ...     value = float(np.float32(1000 + np.sin(step)))  # in stairs 6e-5 high
        ...     return Value(step, value, value)
        >>> bool(np.isinf(scattered(rounded, 1000.0, 1e-6, 0).error))
        True
        >>> found = scattered(rounded, 1000.0, 0.5, 0)
        >>> abs(found.value - 1) < found.error < 1e-3
        True
    """
    steps = places(scale, RANDOM_PAIRS, seed)
    pairs = [(along(-float(step)), along(float(step))) for step in steps]
    pairs = [pair for pair in pairs if _usable(*pair)]
    if len(pairs) < RANDOM_PAIRS - 1:
        return Scattered(np.nan, np.inf, scale)
    height = tread([*(low.raw for low, _ in reversed(pairs)), middle, *(h.raw for _, h in pairs)])
    if height is None:
        return Scattered(0.0, np.inf, scale)
    steps = np.array([high.step - low.step for low, high in pairs]) / 2 / scale
    odd = np.array([high.value - low.value for low, high in pairs]) / 2 / scale
    even = (np.array([high.value + low.value for low, high in pairs]) / 2 - middle) / scale
    slope = slope_at_0(steps, odd)
    kink = fit(steps, even, EVEN)  # the even part of a smooth function begins with the square
    return Scattered(
        slope.value,
        slope.noise + slope.curve + STAIR_SHIFT * height / scale,
        scale,
        max(scale * slope.deviation, height / float(np.sqrt(12))),
        abs(kink.slope) + QUANTILES[len(pairs) - len(EVEN)] * kink.error,
    )


def _usable(low: Value, high: Value) -> bool:
    return bool(np.isfinite(low.value) and np.isfinite(high.value) and low.step < 0 < high.step)
