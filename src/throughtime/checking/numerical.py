"""Numerical derivatives: perturb one entry, run all steps, subtract two scalar losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.checking.target import Evaluator

LARGEST_STEP = 0.25  # of the ladder, in units of the tensor's scale
LADDER = 14  # rungs, each a quarter of the one before: down to 4e-9


@dataclass(frozen=True)
class Derivative:
    """A numerical derivative and how far it may be off.

    Attributes:
        value: (L(x + h) − L(x − h)) / ((x + h) − (x − h)), with the step that was realised.
        error: what truncation, a kink and noise may have added.
    """

    value: float
    error: float


@dataclass(frozen=True)
class Differences:
    """Takes numerical derivatives of a target's loss by single entries.

    Args:
        evaluator: of the loss.
        loss: its value where the parameters stand.
        noise: standard deviation of its rounding error.
    """

    evaluator: Evaluator
    loss: float
    noise: float

    def derivative(self, array: Array, entry: int, step: float) -> Derivative:
        """A central difference with step h, and its error bar from a second one with 2h.

        Truncation grows with h²: it is a third of the difference between the two. The
        curvature c(h) = (L⁺ − 2L + L⁻) / h doubles with h where the loss is smooth; at a kink
        it is the jump of the slope for both, so 2c(h) − c(2h) is that jump, and the central
        difference, somewhere between the two slopes, is off by no more.
        """
        value, curvature = self._central(array, entry, step)
        wider_value, wider_curvature = self._central(array, entry, 2 * step)
        trembling = self.noise / step
        kink = abs(2 * curvature - wider_curvature) - 10 * trembling  # two deviations are noise
        truncation = abs(wider_value - value) / 3
        return Derivative(value, truncation + max(kink, 0) + np.sqrt(2) * trembling)

    def choose_step(self, array: Array, entry: int) -> float:
        """The step with the smallest error bar, found by walking down a ladder.

        The walk ends once noise alone exceeds the best error bar so far: below, it only grows.
        """
        scale = float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) or 1.0
        best, best_error = LARGEST_STEP * scale, np.inf
        for rung in range(LADDER):
            step = LARGEST_STEP * scale / 4**rung
            found = self.derivative(array, entry, step)
            if np.isnan(found.value) or self.noise / step > best_error:
                break
            if found.error < best_error:
                best, best_error = step, found.error
        return best

    def _central(self, array: Array, entry: int, step: float) -> tuple[float, float]:
        above, below, width = two_losses(self.evaluator, array, entry, step)
        if not width:
            return float("nan"), float("nan")
        return (above - below) / width, (above - 2 * self.loss + below) / (width / 2)


def two_losses(
    evaluator: Evaluator, array: Array, entry: int, step: float
) -> tuple[float, float, float]:
    """L(x + h), L(x − h) and the distance between the two points, for one entry in C order.

    The entry is set, the *whole* run is evaluated, and the entry is put back, bit for bit: one
    perturbation serves all T steps. The distance is the one that the array's own precision
    could hold; 0 where the step is below it.
    """
    origin = array.flat[entry]
    try:
        array.flat[entry] = origin + step
        upper, above = float(array.flat[entry]), evaluator.loss()
        array.flat[entry] = origin - step
        lower, below = float(array.flat[entry]), evaluator.loss()
    finally:
        array.flat[entry] = origin
    return above, below, upper - lower
