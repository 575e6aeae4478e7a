"""The slope at 0 of an odd function known at random places, with an error bar from the fit alone.

What lies between places drawn at random is rounded at random, so that the remainder of a fit is
the size of the rounding, whatever its cause. Values that repeat give stairs away that are wider
than the places are apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.derivatives.tolerances import INNERMOST_STEP, ODD_COEFFICIENTS, ODD_TAIL

POWERS = (1, 3, 5, 7)
# Student's t at 97.5 % by degrees of freedom: two standard deviations, where the deviation
# itself is known from so few values.
QUANTILES = (np.inf, 12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201)


@dataclass(frozen=True)
class Slope:
    """The slope of a function at 0.

    Attributes:
        value: of the slope.
        noise: two standard deviations of it, as the remainder of the fit shows them.
        curve: what higher powers may add.
        deviation: of the function's values.
    """

    value: float
    noise: float
    curve: float
    deviation: float


def places(scale: float, count: int, seed: int) -> Array:
    """(count,): steps up to a scale, drawn at random, one from each of as many parts."""
    parts = (np.arange(count) + np.random.default_rng((seed, count)).random(count)) / count
    steps: Array = scale * (INNERMOST_STEP + (1 - INNERMOST_STEP) * parts)
    return steps


def slope_at_0(steps: Array, values: Array) -> Slope:
    """The slope of an odd function; the order with the smallest error bar is taken.

    Args:
        steps: (places,), the longest of them about 1.
        values: (places,), each half the difference of two values of equal noise.
    """
    fits = [fit(steps, values, POWERS[:count]) for count in range(1, ODD_COEFFICIENTS + 2)]
    found = []
    for count in range(1, ODD_COEFFICIENTS + 1):
        own, following = fits[count - 1], fits[count : count + 2]
        curve = ODD_TAIL * max(abs(own.slope - other.slope) for other in following)
        noise = QUANTILES[len(steps) - count] * own.error
        # Half the difference of two values errs by less than either.
        found.append(Slope(own.slope, noise, curve, float(np.sqrt(2)) * own.rest))
    return min(found, key=lambda slope: slope.noise + slope.curve)


@dataclass(frozen=True)
class Fit:
    """A polynomial: the coefficient of its first power, the deviation of that, and of the rest."""

    slope: float
    error: float
    rest: float


def fit(steps: Array, values: Array, powers: tuple[int, ...]) -> Fit:
    """The polynomial of these powers that is nearest to the values."""
    table = steps[:, None] ** np.array(powers)
    whole, triangle = np.linalg.qr(table)
    inverse = np.linalg.inv(triangle)
    coefficients = inverse @ (whole.T @ values)
    rest = values - table @ coefficients
    deviation = float(np.sqrt(rest @ rest / (len(steps) - len(powers))))
    return Fit(float(coefficients[0]), deviation * float(np.linalg.norm(inverse[0])), deviation)


def tread(values: Sequence[float]) -> float | None:
    """The height of a stair, where half of the values repeat; 0 where not; None: nothing moves.

    Args:
        values: as they came, in the order of their places.

    Example:
        >>> tread([1.0, 1.0, 1.0, 1.5, 1.5, 1.5]), tread([1.0, 1.5, 2.5]), tread([1.0, 1.0])
        (0.5, 0.0, None)
    """
    levels = len(set(values))
    if levels == 1:
        return None
    if levels > len(values) // 2:
        return 0.0
    jumps = np.abs(np.diff(values))
    return float(np.median(jumps[jumps > 0]))
