"""The slope at 0 from steps drawn at random, with an error bar that assumes nothing about noise.

A function that is rounded on the way climbs in stairs. Steps at regular distances meet these
stairs in step: equal values, equal jumps, a slope of 0 that looks exact. Steps drawn at random
meet them at random, so that what a fit leaves over is the size of the rounding, whatever its
cause; and values that repeat give the stairs away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.checking.values import Along, Value

PAIRS = 12  # of places, one on either side of 0
INNER = 0.25  # of the scale: no step is shorter
ORDERS = 3  # coefficients of the odd polynomial, at most
ODD = (1, 3, 5, 7)
EVEN = (1, 2, 4, 6)  # powers, of which the first is a kink's
# Student's t at 97.5 % by degrees of freedom: two standard deviations, where the deviation
# itself is known from so few values.
QUANTILES = {11: 2.201, 10: 2.228, 9: 2.262, 8: 2.306, 7: 2.365}
TAIL = 1.5  # for the powers after these
HEIGHT = 0.75  # treads, over the scale: by so much stairs move a fitted slope at most


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
        >>> from throughtime.checking.values import Value
        >>> def rounded(step):
        ...     value = float(np.float32(1000 + np.sin(step)))  # in stairs 6e-5 high
        ...     return Value(step, value, value)
        >>> bool(np.isinf(scattered(rounded, 1000.0, 1e-6, 0).error))
        True
        >>> found = scattered(rounded, 1000.0, 0.5, 0)
        >>> abs(found.value - 1) < found.error < 1e-3
        True
    """
    rng = np.random.default_rng((seed, PAIRS))
    parts = (np.arange(PAIRS) + rng.random(PAIRS)) / PAIRS
    pairs = [
        (along(-float(step)), along(float(step))) for step in scale * (INNER + (1 - INNER) * parts)
    ]
    pairs = [pair for pair in pairs if _usable(*pair)]
    if len(pairs) < PAIRS - 1:
        return Scattered(np.nan, np.inf, scale)
    tread = _tread([*(low.raw for low, _ in reversed(pairs)), middle, *(h.raw for _, h in pairs)])
    if tread is None:
        return Scattered(0.0, np.inf, scale)
    steps = np.array([(high.step - low.step) / 2 for low, high in pairs])
    odd = np.array([(high.value - low.value) / 2 for low, high in pairs])
    even = np.array([(high.value + low.value) / 2 for low, high in pairs]) - middle
    fits = [_fit(steps / scale, odd / scale, ODD[:count]) for count in range(1, ORDERS + 2)]
    # The even part of a smooth function begins with the square.
    kink = _fit(steps / scale, even / scale, EVEN)
    jump = abs(kink.slope) + QUANTILES[len(pairs) - len(EVEN)] * kink.error
    bars = [
        QUANTILES[len(pairs) - count] * fit.error + TAIL * _beyond(fit, fits[count:])
        for count, fit in enumerate(fits[:ORDERS], 1)
    ]
    best = int(np.argmin(bars))
    # What is odd is half the difference of two values, so that it errs by less than either.
    deviation = np.sqrt(2) * scale * fits[best].left_over
    return Scattered(
        fits[best].slope,
        bars[best] + HEIGHT * tread / scale,
        scale,
        max(float(deviation), tread / np.sqrt(12)),
        jump,
    )


@dataclass(frozen=True)
class _Fit:
    """A polynomial: its slope at 0, the deviation of that, and of what is left over."""

    slope: float
    error: float
    left_over: float


def _beyond(fit: _Fit, following: Sequence[_Fit]) -> float:
    """What higher powers may add to a slope: how far the next two fits are from it."""
    return max(abs(fit.slope - other.slope) for other in following[:2])


def _usable(low: Value, high: Value) -> bool:
    return bool(np.isfinite(low.value) and np.isfinite(high.value) and low.step < 0 < high.step)


def _tread(values: Sequence[float]) -> float | None:
    """The height of a stair, where half of the values repeat; 0 where not; None: nothing moves.

    Args:
        values: in the order of their places.
    """
    levels = len(set(values))
    if levels == 1:
        return None
    if levels > len(values) // 2:
        return 0.0
    jumps = np.abs(np.diff(values))
    return float(np.median(jumps[jumps > 0]))


def _fit(steps: Array, values: Array, powers: tuple[int, ...]) -> _Fit:
    """A polynomial of these powers, the first of which is 1."""
    table = steps[:, None] ** np.array(powers)
    whole, triangle = np.linalg.qr(table)
    inverse = np.linalg.inv(triangle)
    coefficients = inverse @ (whole.T @ values)
    rest = values - table @ coefficients
    deviation = float(np.sqrt(rest @ rest / (len(steps) - len(powers))))
    return _Fit(float(coefficients[0]), deviation * float(np.linalg.norm(inverse[0])), deviation)
