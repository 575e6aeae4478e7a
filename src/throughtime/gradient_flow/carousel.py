"""What the constant error carousel carries, and what the gates carry.

From one state to the one before it, a gradient has two kinds of paths: the carry, which multiplies
it by the forget gate (LSTM, c_t → c_{t−1}) or by z (GRU, h_t → h_{t−1}) and by nothing else, and
the rest, which passes through the weights U and the slopes of the gates. Over l steps there are 2ˡ
combinations. They fall into three classes: along the carry at every step, along it at no step, and
a mixture of both. As vectors, the three add up to the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.gradient_flow.jacobians import Linear
from throughtime.gradient_flow.lag_by_lag import LinearisedRun, lag_by_lag, unscaled

PATHS = ("carry", "gates", "both")


@dataclass(frozen=True)
class PathSums:
    """Sums by lag for each class of paths, before they are divided by the whole.

    Attributes:
        products: (3, L): Σ ⟨part, whole⟩ over rows, of the parts in PATHS.
        squares: (3, L): Σ ‖part‖².
        whole: (L,): Σ ‖whole‖².
    """

    products: Array
    squares: Array
    whole: Array

    def __add__(self, other: PathSums) -> PathSums:
        return PathSums(
            self.products + other.products, self.squares + other.squares, self.whole + other.whole
        )

    @property
    def shares(self) -> Array:
        """(3, L): the share of the gradient, measured along itself, that took these paths.

        Σ ⟨part, whole⟩ / Σ ‖whole‖²: the three add up to 1. Where paths cancel one another, one
        share is below 0 and another above 1. NaN where the gradient is 0.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.products / self.whole)


def split_by_path(run: LinearisedRun, ends: Array, max_lag: int) -> dict[int, PathSums]:
    """Splits the gradients of the losses of the steps `ends`, in the layers that have a carry.

    In a stack of layers the carry counts in all of them: a gradient that stays in the upper layer's
    carry and then comes down has not passed through U either.
    """
    layers = [number for number, one in run.linear.items() if one.carry is not None]
    sums = {number: np.zeros((7, max_lag + 1)) for number in layers}
    for rows in lag_by_lag(run, ends, max_lag, split=("carry", "rest")) if layers else ():
        for number in layers:
            part = run.linear[number].carried
            given = [rows.deltas, rows.split["carry"], rows.split["rest"]]
            whole, carry, gates = (
                unscaled(one[number][part].astype(np.float64), rows.exponents) for one in given
            )
            if rows.lag == 0:  # no step has been taken yet
                gates = np.zeros_like(gates)
            parts = (carry, gates, whole - carry - gates)
            column = [np.vdot(one, whole) for one in parts]
            column += [np.vdot(one, one) for one in (*parts, whole)]
            sums[number][:, rows.lag] += column
    return {number: PathSums(s[:3], s[3:6], s[6]) for number, s in sums.items()}


def mean_log_carry(one: Linear, counts: Array) -> Array:
    """For each unit, Σ log |carry| over steps and sequences, and their number: (H, 2)."""
    assert one.carry is not None
    with np.errstate(divide="ignore"):
        logs = np.where(counts[..., None], np.log(np.abs(one.carry.astype(np.float64))), 0)
    number = np.full(logs.shape[2], counts.sum(), np.float64)
    return np.stack([logs.sum(axis=(0, 1)), number], axis=1)


def time_constants(logs: Array) -> Array:
    """τ = −1 / mean log(carry), in steps: after τ steps the carry alone leaves 1/e.

    Example:
        >>> import numpy as np
        >>> time_constants(np.array([[3 * np.log(0.5), 3.0], [0.0, 3.0]])).round(3)
        array([1.443,   inf])
    """
    with np.errstate(divide="ignore"):
        return np.asarray(1 / np.maximum(-logs[:, 0] / logs[:, 1], 0.0))
