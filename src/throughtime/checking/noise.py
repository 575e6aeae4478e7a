"""How much a loss trembles: the noise of its value, measured and not assumed.

After Moré and Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33 (2011): over
equally spaced points so close together that the loss is a straight line, all that remains in
higher differences is rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import factorial

import numpy as np

from throughtime.arrays import Array
from throughtime.checking.target import Evaluator

POINTS = 8
SPACINGS = tuple(8.0 * 16**k for k in range(8))  # in units of the last place, powers of two


def loss_noise(evaluator: Evaluator, rng: np.random.Generator) -> float:
    """Standard deviation of the loss's rounding error where the parameters stand.

    Every entry moves by a few units in its last place, in a random direction, so that each
    point lies on the parameter's own grid. Where small weights hardly reach the loss, such
    moves leave it as it is, which looks like no noise at all: then they are widened until at
    least half of the values differ. Two widths are tried, since a loss that is rounded to few
    digits can by chance climb in equal stairs, which look like a straight line.
    """
    directions = {
        name: np.spacing(np.abs(array)) * rng.choice([-1, 1], array.shape)
        for name, array in evaluator.target.parameters.items()
    }
    found = []
    for spacing in SPACINGS:
        values = _values_along(evaluator, directions, spacing)
        if len(np.unique(values)) > POINTS // 2:
            found.append(noise_of(values))
        if len(found) == 2:
            break
    return max(found, default=noise_of(values))


def _values_along(evaluator: Evaluator, directions: Mapping[str, Array], spacing: float) -> Array:
    """The loss at POINTS points about the parameters, which are put back afterwards."""
    parameters = evaluator.target.parameters
    origin = {name: array.copy() for name, array in parameters.items()}
    values = []
    try:
        for point in range(POINTS):
            for name, array in parameters.items():
                move = (point - POINTS // 2) * spacing * directions[name]
                array[...] = origin[name] + move.astype(array.dtype)
            values.append(evaluator.loss())
    finally:
        for name, array in parameters.items():
            array[...] = origin[name]
    return np.array(values)


def noise_of(values: Array) -> float:
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
    rounding = _last_place(values) / np.sqrt(12)
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


def _last_place(values: Array) -> float:
    """The unit in the last place of the shortest precision that holds all values exactly."""
    largest = np.abs(values).max()
    for dtype in (np.float16, np.float32):
        with np.errstate(over="ignore"):
            rounded = values.astype(dtype)
        if (rounded == values).all():
            return float(np.spacing(dtype(largest)))
    return float(np.spacing(largest))
