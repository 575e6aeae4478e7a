"""Slopes at 0 from steps drawn at random, with error bars that assume nothing about the noise.

What lies between places drawn at random is rounded at random, so that the remainder of a fit is
the size of the rounding, whatever its cause. A function that is rounded on the way climbs in
stairs. Steps at regular distances meet these stairs in step: equal values, equal jumps, a slope of
0 that looks exact. Steps drawn at random do not, and values that repeat give away stairs that are
wider than the places are apart.

`slope_from_random_steps` gives the slope of a function. `residual_over_move` says whether a given
gradient explains how the function changes over a long move.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.derivatives.tolerances import (
    INNERMOST_STEP,
    INTEGRAL_COEFFICIENTS,
    MOVE_PAIRS,
    ODD_COEFFICIENTS,
    ODD_TAIL,
    RANDOM_PAIRS,
    STAIR_SHIFT,
)
from throughtime.derivatives.values import FunctionValue, LineFunction

ODD_POWERS = (1, 3, 5, 7)
EVEN_POWERS = (1, 2, 4, 6)  # the even part of a smooth function begins with the square; 1: a kink
# Student's t at 97.5 % by degrees of freedom: two standard deviations, where the deviation
# itself is known from so few values.
STUDENT_T = (np.inf, 12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201)


@dataclass(frozen=True)
class FittedSlope:
    """The slope of an odd function at 0, from a fit.

    Attributes:
        value: the slope.
        noise: two standard deviations of it, as the remainder of the fit shows them.
        curve: what higher powers may add to it.
        deviation: the standard deviation of the function's values.
    """

    value: float
    noise: float
    curve: float
    deviation: float


def draw_steps(scale: float, count: int, seed: int) -> Array:
    """(count,): random steps up to a scale: one from each of `count` equal parts of the range."""
    parts = (np.arange(count) + np.random.default_rng((seed, count)).random(count)) / count
    steps: Array = scale * (INNERMOST_STEP + (1 - INNERMOST_STEP) * parts)
    return steps


def slope_at_0(steps: Array, values: Array) -> FittedSlope:
    """The slope of an odd function, from the order with the smallest error bar.

    Args:
        steps: (pairs,), the longest of them about 1.
        values: (pairs,), each half the difference of two values of equal noise.
    """
    fits = [
        fit_polynomial(steps, values, ODD_POWERS[:count])
        for count in range(1, ODD_COEFFICIENTS + 2)
    ]
    found = []
    for count in range(1, ODD_COEFFICIENTS + 1):
        own, following = fits[count - 1], fits[count : count + 2]
        curve = ODD_TAIL * max(abs(own.slope - other.slope) for other in following)
        noise = STUDENT_T[len(steps) - count] * own.error
        # Half the difference of two values errs by less than either.
        found.append(FittedSlope(own.slope, noise, curve, float(np.sqrt(2)) * own.rest))
    return min(found, key=lambda slope: slope.noise + slope.curve)


@dataclass(frozen=True)
class PolynomialFit:
    """A fitted polynomial.

    Attributes:
        slope: the coefficient of its first power.
        error: the standard deviation of that.
        rest: the standard deviation of what the fit leaves over.
    """

    slope: float
    error: float
    rest: float


def fit_polynomial(steps: Array, values: Array, powers: tuple[int, ...]) -> PolynomialFit:
    """The least-squares polynomial of these powers."""
    table = steps[:, None] ** np.array(powers)
    whole, triangle = np.linalg.qr(table)
    inverse = np.linalg.inv(triangle)
    coefficients = inverse @ (whole.T @ values)
    rest = values - table @ coefficients
    deviation = float(np.sqrt(rest @ rest / (len(steps) - len(powers))))
    return PolynomialFit(
        float(coefficients[0]), deviation * float(np.linalg.norm(inverse[0])), deviation
    )


def tread(values: Sequence[float]) -> float | None:
    """The height of a stair: 0 where fewer than half of the values repeat, None where all do.

    Args:
        values: as they came, in the order of their places; those that are not finite are left out.

    Example:
        >>> tread([1.0, 1.0, 1.0, 1.5, 1.5, 1.5]), tread([1.0, 1.5, 2.5]), tread([1.0, 1.0])
        (0.5, 0.0, None)
        >>> tread([1.0, 1.0, 1.0, float("nan")])
    """
    values = [value for value in values if np.isfinite(value)]
    levels = len(set(values))
    if levels <= 1:
        return None
    if levels > len(values) // 2:
        return 0.0
    jumps = np.abs(np.diff(values))
    return float(np.median(jumps[jumps > 0]))


# --- the slope of a function ---


@dataclass(frozen=True)
class RandomStepSlope:
    """A slope at 0.

    Attributes:
        value: the slope.
        error: its error bar: two standard deviations as the fit's remainder shows them, what the
            next power adds, and the height of stairs where values repeat. Infinite where the
            function does not move, or has no value.
        scale: the longest step.
        deviation: the standard deviation of the function's values, as the remainder shows it.
        hidden_kink: half the jump of the slope that kinks among the steps may cause, at most.
    """

    value: float
    error: float
    scale: float
    deviation: float = np.inf
    hidden_kink: float = np.inf


def slope_from_random_steps(
    function: LineFunction, value_at_0: float, scale: float, seed: int
) -> RandomStepSlope:
    """The slope at 0 from random steps up to a scale.

    Args:
        function: gives the value at a step.
        value_at_0: its value at 0.
        scale: the longest step.
        seed: random seed for the steps.

    Example:
        >>> import numpy as np
        >>> from throughtime.derivatives.values import FunctionValue
        >>> def rounded(step):
        ...     value = float(np.float32(1000 + np.sin(step)))  # in stairs 6e-5 high
        ...     return FunctionValue(step, value, value)
        >>> bool(np.isinf(slope_from_random_steps(rounded, 1000.0, 1e-6, 0).error))
        True
        >>> found = slope_from_random_steps(rounded, 1000.0, 0.5, 0)
        >>> abs(found.value - 1) < found.error < 1e-3
        True
    """
    steps = draw_steps(scale, RANDOM_PAIRS, seed)
    pairs = [(function(-float(step)), function(float(step))) for step in steps]
    pairs = [pair for pair in pairs if _usable(*pair)]
    if len(pairs) < RANDOM_PAIRS - 1:
        return RandomStepSlope(np.nan, np.inf, scale)
    height = tread(
        [*(low.raw for low, _ in reversed(pairs)), value_at_0, *(h.raw for _, h in pairs)]
    )
    if height is None:
        return RandomStepSlope(0.0, np.inf, scale)
    steps = np.array([high.step - low.step for low, high in pairs]) / 2 / scale
    odd = np.array([high.value - low.value for low, high in pairs]) / 2 / scale
    even = (np.array([high.value + low.value for low, high in pairs]) / 2 - value_at_0) / scale
    slope = slope_at_0(steps, odd)
    kink = fit_polynomial(steps, even, EVEN_POWERS)
    return RandomStepSlope(
        slope.value,
        slope.noise + slope.curve + STAIR_SHIFT * height / scale,
        scale,
        max(scale * slope.deviation, height / float(np.sqrt(12))),
        abs(kink.slope) + STUDENT_T[len(pairs) - len(EVEN_POWERS)] * kink.error,
    )


def _usable(low: FunctionValue, high: FunctionValue) -> bool:
    return bool(np.isfinite(low.value) and np.isfinite(high.value) and low.step < 0 < high.step)


# --- a gradient and the change over a long move ---


@dataclass(frozen=True)
class MoveResidual:
    """How far a gradient is off along a line, on average over a move.

    Attributes:
        residual: gradient minus slope.
        error: its error bar; infinite where the function has no finite value on the way.
        length: the length of the move, on either side of 0.
        deviation: the standard deviation of the function's values, as the remainder shows it.
        curve: the part of the error bar that is due to slopes too curved for a polynomial.
        steady: the largest relative change of the gradient on the way.
    """

    residual: float
    error: float
    length: float
    deviation: float
    curve: float
    steady: float


def residual_over_move(
    at: Callable[[float], tuple[FunctionValue, float]], slope: float, length: float, seed: int
) -> MoveResidual:
    """How far a gradient is off, on average over a move to either side of 0.

    Over a move along a line a function changes by the integral of its slope. A right gradient,
    taken at some places of the line and integrated, gives that change up to rounding, however the
    function bends on the way, and whatever stairs or kinks lie between. A wrong one does not. This
    tells a wrong gradient from a wrong numerical derivative. It sees the error of the gradient
    averaged over the move, whereas steps near 0 see it at 0.

    Args:
        at: takes a step; gives the value there, and the gradient along the line.
        slope: the gradient along the line at 0.
        length: the length of the move.
        seed: random seed for the places.

    Example:
        >>> import numpy as np
        >>> from throughtime.derivatives.values import FunctionValue
        >>> def rounded(step):
        ...     value = float(np.float32(1000 + np.exp(step)))  # in stairs 6e-5 high
        ...     return FunctionValue(step, value, value), np.exp(step)
        >>> right = residual_over_move(rounded, 1.0, 1.0, seed=0)
        >>> abs(right.residual) < 2 * right.error < 1e-3
        True
        >>> def too_large(step):
        ...     value, slope = rounded(step)
        ...     return value, 1.01 * slope
        >>> wrong = residual_over_move(too_large, 1.01, 1.0, seed=0)
        >>> wrong.residual > 10 * wrong.error
        True
    """
    pairs = [(at(-float(step)), at(float(step))) for step in draw_steps(length, MOVE_PAIRS, seed)]
    height = tread(
        [*(low.raw for (low, _), _ in reversed(pairs)), *(high.raw for _, (high, _) in pairs)]
    )
    seen = np.array([[*low[0][:2], low[1], *high[0][:2], high[1]] for low, high in pairs]).T
    finite = np.isfinite(seen).all() and (seen[0] < 0).all() and (seen[3] > 0).all()
    if height is None or not finite:
        return MoveResidual(np.nan, np.inf, length, np.inf, np.inf, np.inf)
    below, low, slope_below, above, high, slope_above = seen
    steps = (above - below) / 2 / length
    # The odd part of the function has an even slope, whose value at 0 is known too.
    slopes = np.array([slope, *(slope_below + slope_above) / 2])
    integral, curve = _integral(np.array([0.0, *steps]), slopes)
    missing = slope_at_0(steps, (high - low) / 2 / length - integral)
    return MoveResidual(
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
        slopes: (steps,): values of an even function there.
    """
    found = []
    for count in INTEGRAL_COEFFICIENTS:
        powers = 2 * np.arange(count)
        table = steps[:, None] ** powers
        coefficients, *_ = np.linalg.lstsq(table, slopes, rcond=None)
        freedom = len(steps) - count
        rest = float(np.linalg.norm(slopes - table @ coefficients) / np.sqrt(freedom))
        error = STUDENT_T[freedom] * rest * float(np.sqrt(count / len(steps)))
        found.append(((steps[1:, None] ** (powers + 1) / (powers + 1)) @ coefficients, error))
    return min(found, key=lambda each: each[1])
