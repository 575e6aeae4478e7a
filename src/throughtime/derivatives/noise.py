"""The noise of a function's values, measured and not assumed.

After Moré and Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33 (2011): over
equally spaced points so close together that the function is a straight line, all that remains in
higher differences is rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import numpy as np

from throughtime.arrays import Array
from throughtime.derivatives.tolerances import (
    COARSE_NOISE,
    FAR_SPACING,
    FINE_LAST_PLACE,
    MANY_NOISE_POINTS,
    NOISE_GROWTH,
    NOISE_GROWTH_ULPS,
    NOISE_POINTS,
    NOISE_SPACINGS,
    ROUNDING_ULPS,
    WIDE_SPACING,
    WIDEST_SPREAD,
)
from throughtime.derivatives.values import LineFunction, last_place


@dataclass(frozen=True)
class Noise:
    """The rounding error of a function's values.

    Attributes:
        deviation: its standard deviation where it was measured.
        level: the largest absolute value there.
        digits: the relative spacing of the values: 2⁻⁵² for float64.
    """

    deviation: float
    level: float
    digits: float

    @property
    def relative(self) -> float:
        """The deviation relative to the values."""
        return self.deviation / self.level if self.level else np.inf

    def at(self, value: float) -> float:
        """Its standard deviation for a value of this size.

        Rounding grows with what is rounded. The noise of values that are small because larger
        ones cancel does not grow: it has its full size from the start.
        """
        if abs(value) <= self.level:
            return self.deviation
        grown = min(self.deviation / (self.level or np.inf), NOISE_GROWTH_ULPS * self.digits)
        return max(self.deviation, grown * abs(value))


def measure_noise(
    function: LineFunction,
    ulp: float,
    rounding: float = 0.0,
    others: tuple[float, ...] = (),
    slope: float = 0.0,
) -> Noise:
    """The noise of a function about 0.

    Where the function hardly reacts, small moves do not change it, which looks like no noise at
    all: then the moves are widened until at least half of the values differ. Where values are
    rounded to few digits, further widths are tried: such values may by chance climb in equal
    stairs, which look like a straight line. And where parameters are small, intermediate results
    that are rounded do not change until the parameters have moved far.

    Args:
        function: takes a distance in units of the size of what is moved.
        ulp: the unit in the last place of what is moved, in the same units.
        rounding: the standard deviation that the format of the values implies at least.
        others: further values of the function, which help to recognise its format.
        slope: its approximate slope; moves too small to change its value are left out.
    """
    found, sample = [], _Sample(np.zeros(0), np.zeros(0))
    least = float(np.spacing(max(map(abs, others), default=0.0))) / (abs(slope) or np.inf)
    for spacing in _spacings(ulp, least):
        wider = _sample(function, spacing, NOISE_POINTS)
        if not wider.finite:
            break
        sample = wider
        if sample.levels > NOISE_POINTS // 2:
            found.append(sample.noise(others))
        many_digits = sample.last_place(others) < FINE_LAST_PLACE * np.abs(sample.raw).max()
        if found and many_digits:
            found = [_refined_noise(function, spacing, sample, others, rounding)]
            break
        if len(found) == 2:
            break
    if not sample.values.size:
        return Noise(rounding, 0.0, np.finfo(float).eps)
    unit = sample.last_place(others)
    level = float(np.abs(sample.raw).max())
    if not found or unit >= FINE_LAST_PLACE * level:
        found += _noise_far_apart(function, others, any_size=sample.levels == 1)
    deviation = max((*found, rounding, 0.0 if found else unit / np.sqrt(12)))
    return Noise(deviation, level, unit / level if level else np.finfo(float).eps)


@dataclass(frozen=True)
class _Sample:
    """A function at equally spaced places: its values, corrected and as they came."""

    values: Array
    raw: Array

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.raw).all())

    @property
    def levels(self) -> int:
        """How many different values there are."""
        return len(np.unique(self.raw))

    def last_place(self, others: tuple[float, ...]) -> float:
        return _last_place(self.raw, others)

    def noise(self, others: tuple[float, ...]) -> float:
        return _from_differences(self.values, self.last_place(others))[0]


def _sample(function: LineFunction, spacing: float, count: int) -> _Sample:
    """The function at `count` places about 0."""
    places = (np.arange(count) - count // 2) * spacing
    found = [function(float(place)) for place in places]
    return _Sample(np.array([v.value for v in found]), np.array([v.raw for v in found]))


def _refined_noise(
    function: LineFunction,
    spacing: float,
    near: _Sample,
    others: tuple[float, ...],
    rounding: float,
) -> float:
    """The noise near 0, from many more values where it exceeds that of double precision.

    Terms of a short format that are added up in a long one show little noise over small moves,
    which do not change what is rounded on the way to them. So wide moves are tried first. Where
    the function curves too much for these, or has a kink, more small moves are used.
    """
    found = near.noise(others)
    if found <= COARSE_NOISE * np.abs(near.raw).max():
        return found
    wide = _sample(function, WIDE_SPACING, MANY_NOISE_POINTS)
    if wide.finite:
        deviation, certain = _from_differences(wide.values, wide.last_place(others), alike=1.5)
        if certain and deviation <= NOISE_GROWTH * max(found, rounding):
            return deviation
    more = _sample(function, spacing, MANY_NOISE_POINTS)
    return more.noise(others) if more.finite else found


def _spacings(ulp: float, least: float) -> list[float]:
    """Spacings that stay near enough to 0, from the first one that moves the function on."""
    near = [s * ulp for s in NOISE_SPACINGS if NOISE_POINTS // 2 * s * ulp <= WIDEST_SPREAD] or [
        NOISE_SPACINGS[0] * ulp
    ]
    return [spacing for spacing in near if spacing >= least] or near


def _noise_far_apart(
    function: LineFunction, others: tuple[float, ...], *, any_size: bool
) -> list[float]:
    """The noise over points far apart; an empty list where it cannot be told from the curve.

    A function that changes with large moves, but with no small one, climbs in stairs, which may
    have `any_size`. Otherwise noise of more than some units in the last place is not believed to
    be rounding, since a kink looks like noise too.
    """
    far = _sample(function, FAR_SPACING, NOISE_POINTS)
    if not far.finite:
        return []
    deviation, certain = _from_differences(far.values, far.last_place(others))
    small = deviation <= ROUNDING_ULPS * far.last_place(others)
    return [deviation] if any_size or (certain and small) else []


def noise_of(values: Array, others: tuple[float, ...] = ()) -> float:
    """The noise of equally spaced values of a smooth function, from their difference table.

    σ_k² = (k!)² / (2k)! · mean((Δᵏ)²). The result is the first level that agrees with the next two
    within a factor of 4 and whose differences change sign. Where there is none, curvature exceeds
    the noise, and the highest level, in which the least of it is left, bounds the noise from above.
    The result is never below what rounding to the values' own precision gives.

    Example:
        >>> import numpy as np
        >>> noise = 1e-6 * np.array([1, -1, 1, 1, -1, 1, -1, -1])
        >>> bool(0.5e-6 < noise_of(3 * np.arange(8) + noise) < 2e-6)
        True
    """
    return _from_differences(values, _last_place(values, others))[0]


def _from_differences(values: Array, unit: float, alike: float = 4.0) -> tuple[float, bool]:
    """The noise, as in `noise_of`, and whether three levels agree within a factor."""
    rounding = unit / np.sqrt(12)
    levels, signs, differences = [], [], values
    for k in range(1, len(values) - 1):
        differences = np.diff(differences)
        gamma = factorial(k) ** 2 / factorial(2 * k)
        levels.append(float(np.sqrt(gamma * np.mean(differences**2))))
        signs.append(bool(differences.min() < 0 < differences.max()))
    for k in range(len(levels) - 2):
        three = levels[k : k + 3]
        if signs[k] and max(three) <= alike * min(three):
            return float(max(levels[k], rounding)), True
    return float(max(levels[-1], rounding)), False


def _last_place(values: Array, others: tuple[float, ...]) -> float:
    """The unit in the last place of the shortest format that holds all values exactly.

    A few values may fit a short format by chance; then it is that of float64.
    """
    seen = np.unique([*values, *(other for other in others if np.isfinite(other))])
    largest = float(np.abs(values).max())
    return (
        last_place(seen, largest) if len(seen) > NOISE_POINTS // 2 else float(np.spacing(largest))
    )
