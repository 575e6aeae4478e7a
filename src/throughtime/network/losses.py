"""Losses of a whole run: an error for each step and sequence, and the weights of their sum.

L = Σ_t Σ_b w_tb e_tb. The errors e depend on one step's output and target; the weights w express
the reductions. `time="mean"` divides by each sequence's own length, `batch="mean"` by B. The
backward pass uses the same weights, so that it cannot divide where the loss does not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from throughtime import _engine
from throughtime.arrays import Array, fits, floats, indices, refuse
from throughtime.cells import is_indices
from throughtime.engine_settings import use_compiled

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class LossValue:
    """A loss and its parts.

    Attributes:
        value: the scalar loss, summed in float64.
        terms: (T, B), e_tb before weighting; 0 beyond a sequence's length.
        weights: (T, B) in float64; value = Σ weights·terms.
        doutputs: ∂L/∂outputs, (T, B, K).
    """

    value: float
    terms: Array
    weights: Array
    doutputs: Array


@dataclass(frozen=True)
class Loss(ABC):
    """A loss.

    Args:
        time: how errors are reduced over a sequence's steps, "mean" or "sum".
        batch: how sequences are reduced, "mean" or "sum".
    """

    time: Reduction = field(default="mean", kw_only=True)
    batch: Reduction = field(default="mean", kw_only=True)

    def __post_init__(self) -> None:
        for name in ("time", "batch"):
            if getattr(self, name) not in ("mean", "sum"):
                refuse(name, "'mean' or 'sum'", repr(getattr(self, name)))

    @abstractmethod
    def check_targets(self, targets: object, outputs: Array) -> Array:
        """The targets as an array that fits the outputs (T, B, K); refuses others."""

    @abstractmethod
    def errors(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """e_tb (T, B), and its derivative with respect to the outputs, (T, B, K)."""

    def weights(self, steps: int, batch: int, lengths: Array | None = None) -> Array:
        """(T, B): the weight of each error; 0 beyond a sequence's length."""
        share = batch if self.batch == "mean" else 1
        if lengths is None:
            return np.full((steps, batch), 1 / (steps if self.time == "mean" else 1) / share)
        weights = (np.arange(steps)[:, None] < lengths).astype(np.float64)
        if self.time == "mean":
            weights /= lengths
        return weights / share

    def evaluate(self, outputs: Array, targets: Array, weights: Array) -> LossValue:
        """The loss, its terms and its gradient with respect to the outputs, in one pass."""
        errors, derivative = self.errors(outputs, targets)
        terms = np.where(weights > 0, errors, 0)
        doutputs = derivative * weights[..., None].astype(outputs.dtype)
        return LossValue(float((weights * terms).sum()), terms, weights, doutputs)


class MeanSquaredError(Loss):
    """e = mean over the K outputs of (y − target)². Targets: numbers, (T, B, K).

    With `time="mean"` the loss is the average of the steps' errors.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> loss, y = tt.MeanSquaredError(), np.zeros((4, 1, 2))
        >>> loss.evaluate(y, y + 3, loss.weights(4, 1)).value
        9.0
    """

    def check_targets(self, targets: object, outputs: Array) -> Array:
        return floats("targets", targets, outputs.dtype, outputs.shape)

    def errors(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """δy = 2 (y − target) / K."""
        residual = outputs - targets
        return np.mean(residual**2, axis=2), residual * (2 / outputs.shape[2])


class SoftmaxCrossEntropy(Loss):
    """e = −log softmax(y)[target], in nats. Targets: class indices (T, B), or probabilities
    (T, B, K) that sum to 1.

    Softmax and logarithm are one step: log Σ exp(y) − y_target after subtracting the largest y,
    which neither overflows nor loses digits, and whose derivative is softmax(y) − target.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> loss, y = tt.SoftmaxCrossEntropy(time="mean"), np.zeros((4, 1, 8))
        >>> round(loss.evaluate(y, np.array([[0], [1], [2], [3]]), loss.weights(4, 1)).value, 4)
        2.0794
    """

    def check_targets(self, targets: object, outputs: Array) -> Array:
        steps, batch, classes = outputs.shape
        array = np.asarray(targets)
        if is_indices(array):
            fits("targets", array, (steps, batch))
            return indices("targets", array, classes)
        if array.ndim == 2:
            expected = "integers (T, B), or probabilities (T, B, K)"
            refuse("targets", expected, f"{array.dtype} {array.shape}", error=TypeError)
        probabilities = floats("targets", targets, outputs.dtype, outputs.shape)
        sums = probabilities.sum(axis=2)
        if probabilities.min() < 0 or np.abs(sums - 1).max() > 1e-4:
            worst = float(sums.flat[np.abs(sums - 1).argmax()])
            actual = f"a smallest one of {probabilities.min():.4g} and a sum of {worst:.6g}"
            refuse("targets", "probabilities that sum to 1 at every step", actual)
        return probabilities

    def evaluate(self, outputs: Array, targets: Array, weights: Array) -> LossValue:
        if not (use_compiled() and is_indices(targets)):
            return super().evaluate(outputs, targets, weights)
        outputs = np.ascontiguousarray(outputs)
        terms, doutputs = np.empty(targets.shape, outputs.dtype), np.empty_like(outputs)
        rows = (-1, outputs.shape[2])
        _engine.softmax(
            outputs.reshape(rows),
            np.ascontiguousarray(targets, np.intp).ravel(),
            weights.astype(outputs.dtype).ravel(),
            terms.ravel(),
            doutputs.reshape(rows),
        )
        terms[weights == 0] = 0
        return LossValue(float((weights * terms).sum()), terms, weights, doutputs)

    def errors(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """δy = softmax(y) − target."""
        shifted = outputs - outputs.max(axis=2, keepdims=True)
        exps = np.exp(shifted)
        sums = exps.sum(axis=2, keepdims=True)
        softmax = exps / sums
        log_sums = np.log(sums[..., 0])
        if is_indices(targets):
            place = targets[..., None]
            errors = log_sums - np.take_along_axis(shifted, place, axis=2)[..., 0]
            picked = np.take_along_axis(softmax, place, axis=2)
            np.put_along_axis(softmax, place, picked - 1, axis=2)
            return errors, softmax
        total = targets.sum(axis=2)
        errors = total * log_sums - (targets * shifted).sum(axis=2)
        return errors, softmax * total[..., None] - targets


class BinaryCrossEntropy(Loss):
    """e = mean over the K outputs of log(1 + exp(y)) − target·y, in nats: the cross-entropy of
    σ(y) against the target. Targets: numbers from 0 to 1, (T, B, K).

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> loss, y = tt.BinaryCrossEntropy(), np.zeros((4, 1, 1))
        >>> round(loss.evaluate(y, np.ones((4, 1, 1)), loss.weights(4, 1)).value, 4)
        0.6931
    """

    def check_targets(self, targets: object, outputs: Array) -> Array:
        array = floats("targets", targets, outputs.dtype, outputs.shape)
        if array.min() < 0 or array.max() > 1:
            refuse("targets", "numbers from 0 to 1", f"{array.min():.4g} … {array.max():.4g}")
        return array

    def errors(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """δy = (σ(y) − target) / K."""
        decay = np.exp(-np.abs(outputs))  # never overflows
        errors = np.maximum(outputs, 0) - outputs * targets + np.log1p(decay)
        sigma = np.where(outputs >= 0, 1, decay) / (1 + decay)
        return errors.mean(axis=2), (sigma - targets) / outputs.dtype.type(outputs.shape[2])


LOSSES: dict[str, type[Loss]] = {
    kind.__name__: kind for kind in (MeanSquaredError, SoftmaxCrossEntropy, BinaryCrossEntropy)
}
