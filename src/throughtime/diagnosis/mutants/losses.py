"""Losses as people write them: what each output counts, and the gradient by the outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array, refuse

KINDS = ("softmax", "squared_error", "binary", "weighted", "given")


@dataclass(frozen=True)
class Loss:
    """How outputs become one number.

    Attributes:
        kind: "softmax", the cross-entropy in nats against classes or probabilities;
            "squared_error"; "binary", the cross-entropy of σ(y); "weighted", Σ targets ⊙ outputs;
            "given", see `GivenLoss`.
        time, batch, outputs: "sum" or "mean" over steps, sequences and outputs of one step;
            `outputs` concerns squared errors and binary cross-entropies alone.
        half: whether squared errors are halved.
        root: whether the root of it all is taken, the L2 term aside.
        last: whether the last step alone is answered.
    """

    kind: str = "softmax"
    time: str = "mean"
    batch: str = "mean"
    outputs: str = "mean"
    half: bool = False
    root: bool = False
    last: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            refuse("loss", "one of " + ", ".join(KINDS[:-1]), repr(self.kind))
        for name in ("time", "batch", "outputs"):
            if getattr(self, name) not in ("sum", "mean"):
                refuse(name, "'sum' or 'mean'", repr(getattr(self, name)))

    def weights(self, steps: int, lengths: Array) -> Array:
        """(T, B): what each output's error counts."""
        counted = self.whole(steps, lengths)
        t = np.arange(steps)[:, None]
        return counted * ((t == lengths - 1) if self.last else (t < lengths))

    def whole(self, steps: int, lengths: Array) -> Array:
        """(T, B): the same, as if no step lay beyond a sequence's end nor before its answer."""
        weights = np.ones((steps, len(lengths)))
        if self.time == "mean" and not self.last and self.kind != "weighted":
            weights = weights / lengths
        if self.batch == "mean" and self.kind != "weighted":
            weights = weights / len(lengths)
        return weights

    def errors(self, y: Array, targets: Array) -> tuple[Array, Array]:
        """e (T, B), and its derivative by the outputs (T, B, O)."""
        if self.kind == "softmax":
            shifted = y - y.max(axis=-1, keepdims=True)
            p = np.exp(shifted)
            log_sum = np.log(p.sum(axis=-1))
            return log_sum - (targets * shifted).sum(axis=-1), softmax(y) - targets
        if self.kind == "weighted":
            return (targets * y).sum(axis=-1), targets
        share = y.shape[-1] if self.outputs == "mean" else 1
        if self.kind == "binary":
            e = np.logaddexp(0, y) - targets * y
            return e.sum(axis=-1) / share, (1 / (1 + np.exp(-y)) - targets) / share
        scale = (0.5 if self.half else 1) / share
        return ((y - targets) ** 2).sum(axis=-1) * scale, 2 * scale * (y - targets)

    def evaluate(self, y: Array, targets: Array, weights: Array) -> tuple[float, Array]:
        """The loss without an L2 term, and its derivative by the outputs (T, B, O)."""
        e, slope = self.errors(y, targets)
        value, dy = float((weights * e).sum()), weights[..., None] * slope
        if not self.root:
            return value, dy
        root = float(np.sqrt(value))
        return root, dy / (2 * root)


def softmax(y: Array) -> Array:
    """Along the last axis."""
    p = np.exp(y - y.max(axis=-1, keepdims=True))
    shares: Array = p / p.sum(axis=-1, keepdims=True)
    return shares


def as_targets(kind: str, given: Array, steps: int, batch: int, outputs: int, last: bool) -> Array:
    """Targets as (T, B, O): classes become one-hot, a last step's answers stand at every step."""
    if kind == "given":
        return np.zeros((steps, batch, outputs))
    array = np.asarray(given)
    if kind == "softmax" and array.dtype.kind in "iu":
        wanted = (batch,) if last and array.size == batch else (steps, batch)
        if array.size != np.prod(wanted):
            refuse("layout's targets", wanted, array.shape)
        if array.min() < 0 or array.max() >= outputs:
            refuse(
                "layout's targets", f"classes 0 … {outputs - 1}", f"{array.min()} … {array.max()}"
            )
        array = np.eye(outputs)[array.reshape(wanted)]
    array = np.asarray(array, np.float64)
    whole = (steps, batch, outputs)
    if array.size == np.prod(whole):
        return array.reshape(whole)
    if last and array.size == batch * outputs:
        return np.broadcast_to(array.reshape(batch, outputs), whole).copy()
    expected = f"{whole}, T, B and O" + (f", or {whole[1:]} of the last step" if last else "")
    refuse("layout's targets", expected, array.shape)
