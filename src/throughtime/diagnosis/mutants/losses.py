"""Losses as people write them: how much each output counts, and the gradient by the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse

KINDS = ("softmax", "squared_error", "binary", "weighted", "given")


@dataclass(frozen=True)
class Loss:
    """How outputs become one number.

    Attributes:
        kind: "softmax", the cross-entropy in nats with classes or probabilities;
            "squared_error"; "binary", the cross-entropy of σ(y); "weighted", Σ targets ⊙ outputs;
            "given", see `GivenLoss`.
        time, batch, outputs: "sum" or "mean" over steps, sequences and the outputs of one step;
            `outputs` concerns only squared errors and binary cross-entropies.
        half: whether squared errors are halved.
        root: whether the square root of the loss is taken, without the L2 term.
        last: whether only the last step has a target.
        epsilon: ε of a softmax's −log(p + ε).
    """

    kind: str = "softmax"
    time: str = "mean"
    batch: str = "mean"
    outputs: str = "mean"
    half: bool = False
    root: bool = False
    last: bool = False
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            refuse("loss", "one of " + ", ".join(KINDS[:-1]), repr(self.kind))
        for name in ("time", "batch", "outputs"):
            if getattr(self, name) not in ("sum", "mean"):
                refuse(name, "'sum' or 'mean'", repr(getattr(self, name)))

    def weights(self, steps: int, lengths: Array) -> Array:
        """(T, B): the weight of each step's error."""
        counted = self.whole(steps, lengths)
        t = np.arange(steps)[:, None]
        return counted * ((t == lengths - 1) if self.last else (t < lengths))

    def whole(self, steps: int, lengths: Array) -> Array:
        """(T, B): the same weights, as if every step of every sequence had a target."""
        weights = np.ones((steps, len(lengths)))
        if self.time == "mean" and not self.last and self.kind != "weighted":
            weights = weights / lengths
        if self.batch == "mean" and self.kind != "weighted":
            weights = weights / len(lengths)
        return weights

    def errors(self, y: Array, targets: Array) -> tuple[Array, Array]:
        """The error e (T, B), and its derivative by the outputs (T, B, O)."""
        if self.kind == "softmax" and self.epsilon:
            p = softmax(y)
            shares = targets * p / (p + self.epsilon)
            slope = p * shares.sum(axis=-1, keepdims=True) - shares
            return -(targets * np.log(p + self.epsilon)).sum(axis=-1), slope
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
    """Targets as (T, B, O): classes become one-hot, and targets of the last step are repeated."""
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


@dataclass(frozen=True, kw_only=True)
class GivenLoss(Loss):
    """A torch module's own loss; its derivative by the outputs is computed by autograd.

    Attributes:
        loss: from what the module returns to a tensor, the loss or its terms.
        seen: what the module returned when it was last called.
        batch_first: whether its outputs are (B, T, O).
    """

    kind: str = "given"
    loss: Callable[[Any], Any]
    seen: Any
    batch_first: bool = False

    def evaluate(self, y: Array, targets: Array, weights: Array) -> tuple[float, Array]:
        """The loss, and its derivative by the outputs (T, B, O)."""
        torch = import_module("torch")
        whole = isinstance(self.seen, torch.Tensor)
        first = self.seen if whole else self.seen[0]
        with torch.enable_grad():
            leaf = torch.from_numpy(y).to(first).requires_grad_()
            outputs = self._as_returned(leaf, first.shape)
            value = self.loss(outputs if whole else (outputs, *self.seen[1:]))
            if not value.requires_grad:
                refuse("layout of a module", "a loss of every step's outputs", "one of others")
            (dy,) = torch.autograd.grad(value.sum(), leaf)
        return float(value.detach().double().sum()), dy.double().cpu().numpy()

    def _as_returned(self, y: Any, shape: Any) -> Any:
        """Outputs (T, B, O) in the module's shape: batch first, unbatched, or the last step's."""
        for axes in self._views(y):
            if axes.shape == shape:
                return axes
        return refuse("layout of a module", f"outputs of {tuple(y.shape)}", tuple(shape))

    def _views(self, y: Any) -> Iterator[Any]:
        yield y.swapaxes(0, 1) if self.batch_first else y
        yield y[-1]
        yield y[:, 0]
        yield y[-1, 0]


def detached(outputs: Any) -> Any:
    """What a module returned, a tensor or a tuple of tensors, without its backward pass."""
    if isinstance(outputs, tuple | list):
        return tuple(detached(one) for one in outputs)
    return outputs.detach() if hasattr(outputs, "detach") else outputs
