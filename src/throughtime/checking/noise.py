"""How much a loss trembles: the noise of its value, measured and not assumed.

After Moré and Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33 (2011): over
equally spaced points so close together that the loss is a straight line, all that remains in
higher differences is rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import factorial

import numpy as np

from throughtime.arrays import Array

POINTS = 8
SPACINGS = tuple(32.0 * 16**k for k in range(8))  # in units of the last place
WIDEST = 2.0**-6  # of a parameter's size: the points stay together within this
FINE = 1e-12  # of the values: a spacing at which no stairs show
GROWN = 8.0  # units in the last place by which a value far from 0 trembles at most


@dataclass(frozen=True)
class Noise:
    """The rounding error of a function's values.

    Attributes:
        deviation: its standard deviation where it was measured.
        level: the largest value there.
        digits: the relative spacing of the values, 2⁻⁵² for float64.
    """

    deviation: float
    level: float
    digits: float

    def at(self, value: float) -> float:
        """Its standard deviation for a value further off.

        Rounding grows with what is rounded. Of values that are small because larger ones
        cancel, it does not: there it has been at its full size from the start.
        """
        if abs(value) <= self.level:
            return self.deviation
        grown = min(self.deviation / (self.level or np.inf), GROWN * self.digits)
        return max(self.deviation, grown * abs(value))


def measure(
    along: Callable[[float], float],
    ulp: float,
    rounding: float = 0.0,
    others: tuple[float, ...] = (),
) -> Noise:
    """The noise of a function about 0.

    Where it hardly reacts, small moves leave it as it is, which looks like no noise at all: then
    they are widened until at least half of the values differ. Of values that are rounded to few
    digits two widths are tried, since these can by chance climb in equal stairs, which look like
    a straight line.

    Args:
        along: takes a distance in units of the size of what is moved.
        ulp: the unit in the last place of what is moved, in the same units.
        rounding: standard deviation that the format of the values gives at least.
        others: further values of the function, which help to see what format it has.
    """
    found, values = [], np.zeros(POINTS)
    for spacing in SPACINGS:
        points = (np.arange(POINTS) - POINTS // 2) * spacing * ulp
        if spacing > SPACINGS[0] and points.max() > WIDEST:
            break
        values = np.array([along(float(point)) for point in points])
        values = values[np.isfinite(values)]
        if len(values) < POINTS:
            break
        if len(np.unique(values)) > POINTS // 2:
            found.append(noise_of(values, others))
        many_digits = _last_place(values, others) < FINE * np.abs(values).max()
        if len(found) == (1 if many_digits else 2):
            break
    if not values.size:
        return Noise(rounding, 0.0, np.finfo(float).eps)
    last_place = _last_place(values, others)
    level = float(np.abs(values).max())
    deviation = max((*found, rounding, 0.0 if found else last_place / np.sqrt(12)))
    return Noise(deviation, level, last_place / level if level else np.finfo(float).eps)


def noise_of(values: Array, others: tuple[float, ...] = ()) -> float:
    """Noise of equally spaced values of a smooth function, from their difference table.

    σ_k² = (k!)² / (2k)! · mean((Δᵏ)²); the first level is taken that agrees with the next two
    within a factor of 4 and whose differences change sign. Where none does, the values curve
    more than they tremble, and the highest level, in which least of the curve is left, bounds
    the noise from above. Never below what rounding to the values' own precision gives.

    Example:
        >>> import numpy as np
        >>> trembling = 1e-6 * np.array([1, -1, 1, 1, -1, 1, -1, -1])
        >>> bool(0.5e-6 < noise_of(3 * np.arange(8) + trembling) < 2e-6)
        True
    """
    rounding = _last_place(values, others) / np.sqrt(12)
    levels, signs, differences = [], [], values
    for k in range(1, len(values) - 1):
        differences = np.diff(differences)
        gamma = factorial(k) ** 2 / factorial(2 * k)
        levels.append(float(np.sqrt(gamma * np.mean(differences**2))))
        signs.append(bool(differences.min() < 0 < differences.max()))
    for k in range(len(levels) - 2):
        three = levels[k : k + 3]
        if signs[k] and max(three) <= 4 * min(three):
            return float(max(levels[k], rounding))
    return float(max(levels[-1], rounding))


def _last_place(values: Array, others: tuple[float, ...]) -> float:
    """The unit in the last place of the shortest format that holds all values exactly.

    Few values may fit a short format by chance.
    """
    seen = np.unique([*values, *(other for other in others if np.isfinite(other))])
    largest = float(np.abs(values).max())
    if len(seen) > POINTS // 2:
        for bits in (8, 11, 24):  # bfloat16, float16, float32
            units = 2.0 ** (np.frexp(seen)[1] - bits)
            if (np.rint(seen / units) * units == seen).all():
                return float(2.0 ** (np.frexp(largest)[1] - bits))
    return float(np.spacing(largest))
