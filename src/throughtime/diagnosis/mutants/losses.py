"""Losses as people write them: how much each output counts, and the gradient by the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.cells import sigmoid
from throughtime.equations import softmax

KINDS = ("softmax", "squared_error", "absolute_error", "binary", "weighted", "given")
ACTIVATIONS = ("identity", "sigmoid", "tanh", "softmax")
OF_DISTANCES = ("squared_error", "absolute_error")  # the kinds that have an activation


@dataclass(frozen=True)
class ModelLoss:
    """How outputs become one number.

    Attributes:
        kind: "softmax", the cross-entropy in nats with classes or probabilities;
            "squared_error", "absolute_error"; "binary", the cross-entropy of σ(y); "weighted",
            Σ targets ⊙ outputs; "given", see `GivenLoss`.
        time, batch, outputs: "sum" or "mean" over steps, sequences and the outputs of one step;
            by default means, but sums over everything in a "weighted" loss, and over the outputs
            in a "softmax".
        half: whether squared errors are halved.
        root: whether the square root of the loss is taken, without the L2 term.
        last: whether only the last step has a target.
        activation: of the outputs, before an error is taken: "identity", "sigmoid", "tanh" or
            "softmax".
        epsilon: ε where a cross-entropy takes log(p + ε).
        exact: whether the derivative knows of ε; people derive that of log p.
        scale: what all of it is multiplied with.
    """

    kind: str = "softmax"
    time: str = ""
    batch: str = ""
    outputs: str = ""
    half: bool = False
    root: bool = False
    last: bool = False
    activation: str = "identity"
    epsilon: float = 0.0
    exact: bool = True
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            refuse("loss", "one of " + ", ".join(KINDS[:-1]), repr(self.kind))
        usual = "sum" if self.kind == "weighted" else "mean"
        defaults = {"time": usual, "batch": usual, "outputs": usual}
        if self.kind == "softmax":
            defaults["outputs"] = "sum"
        for name, default in defaults.items():
            if not getattr(self, name):
                object.__setattr__(self, name, default)
            if getattr(self, name) not in ("sum", "mean"):
                refuse(name, "'sum' or 'mean'", repr(getattr(self, name)))
        self._refuse_what_it_lacks()

    def _refuse_what_it_lacks(self) -> None:
        """Nothing that is said of a loss is ignored."""
        if self.activation not in ACTIVATIONS:
            refuse("output_activation", "one of " + ", ".join(ACTIVATIONS), repr(self.activation))
        if self.activation != "identity" and self.kind not in OF_DISTANCES:
            expected = f"'identity' with the loss {self.kind!r}"
            refuse("output_activation", expected, repr(self.activation))
        if self.epsilon and self.kind not in ("softmax", "binary"):
            refuse("epsilon", f"0 with the loss {self.kind!r}", self.epsilon)

    def weights(self, steps: int, lengths: Array) -> Array:
        """(T, B): the weight of each step's error."""
        counted = self.whole(steps, lengths)
        t = np.arange(steps)[:, None]
        return counted * ((t == lengths - 1) if self.last else (t < lengths))

    def whole(self, steps: int, lengths: Array) -> Array:
        """(T, B): the same weights, as if every step of every sequence had a target."""
        weights = np.full((steps, len(lengths)), self.scale)
        if self.time == "mean" and not self.last:
            weights = weights / lengths
        if self.batch == "mean":
            weights = weights / len(lengths)
        return weights

    def errors(self, y: Array, targets: Array) -> tuple[Array, Array]:
        """The error e (T, B), and its derivative by the outputs (T, B, O)."""
        e, slope = self._summed(y, targets)
        share = y.shape[-1] if self.outputs == "mean" else 1
        return e / share, slope / share

    def _summed(self, y: Array, targets: Array) -> tuple[Array, Array]:
        """The same, summed over the outputs."""
        if self.kind == "softmax" and not self.epsilon:
            shifted = y - y.max(axis=-1, keepdims=True)
            p = np.exp(shifted)
            log_sum = np.log(p.sum(axis=-1))
            return log_sum - (targets * shifted).sum(axis=-1), softmax(y) - targets
        if self.kind == "softmax":
            p = softmax(y)
            e = -(targets * np.log(p + self.epsilon)).sum(axis=-1)
            if not self.exact:
                return e, p - targets
            return e, _back("softmax", p, -targets / (p + self.epsilon))
        if self.kind == "weighted":
            return (targets * y).sum(axis=-1), targets
        if self.kind == "binary" and not self.epsilon:
            e = np.logaddexp(0, y) - targets * y
            return e.sum(axis=-1), sigmoid(y) - targets
        if self.kind == "binary":
            p, q = sigmoid(y), sigmoid(-y)
            e = -targets * np.log(p + self.epsilon) - (1 - targets) * np.log(q + self.epsilon)
            if not self.exact:
                return e.sum(axis=-1), p - targets
            slope = (1 - targets) / (q + self.epsilon) - targets / (p + self.epsilon)
            return e.sum(axis=-1), _back("sigmoid", p, slope)
        a = self.activated(y)
        if self.kind == "absolute_error":
            e, slope = np.abs(a - targets), np.sign(a - targets)
        else:
            scale = 0.5 if self.half else 1
            e, slope = scale * (a - targets) ** 2, 2 * scale * (a - targets)
        return e.sum(axis=-1), _back(self.activation, a, slope)

    def activated(self, y: Array) -> Array:
        """The outputs as a distance sees them."""
        return _activated(self.activation, y)

    def evaluate(self, y: Array, targets: Array, weights: Array) -> tuple[float, Array]:
        """The loss without an L2 term, and its derivative by the outputs (T, B, O)."""
        e, slope = self.errors(y, targets)
        value, dy = float((weights * e).sum()), weights[..., None] * slope
        if not self.root:
            return value, dy
        root = float(np.sqrt(value))
        return root, dy / (2 * root)


def _activated(activation: str, y: Array) -> Array:
    known: dict[str, Callable[[Array], Array]] = {"sigmoid": sigmoid, "tanh": np.tanh}
    known |= {"softmax": softmax}
    return known[activation](y) if activation in known else y


def _back(activation: str, a: Array, slope: Array) -> Array:
    """The derivative by the outputs, from the one by the activated outputs a."""
    if activation == "softmax":
        shares: Array = a * (slope - (a * slope).sum(axis=-1, keepdims=True))
        return shares
    slopes = {"sigmoid": a * (1 - a), "tanh": 1 - a * a}
    return slope * slopes[activation] if activation in slopes else slope


def as_targets(
    kind: str,
    given: Array,
    steps: int,
    batch: int,
    outputs: int,
    last: bool,
    *,
    batch_first: bool = False,
) -> Array:
    """Targets as (T, B, O): classes become one-hot, and targets of the last step are repeated.

    Args:
        batch_first: whether messages name the axes B and T in this order.
    """
    if kind == "given":
        return np.zeros((steps, batch, outputs))
    array = np.asarray(given)
    many = outputs > 1 and array.size in (steps * batch, batch * last)
    if array.dtype.kind in "iu" and (kind == "softmax" or (kind in OF_DISTANCES and many)):
        wanted = (batch,) if last and array.size == batch else (steps, batch)
        if array.size != np.prod(wanted):
            order = wanted[::-1] if batch_first else wanted
            refuse("layout's targets", order, array.shape)
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
    expected = f"{whole}, T, B and O"
    if batch_first:
        expected = f"{(batch, steps, outputs)}, B, T and O"
    expected += f", or {whole[1:]} of the last step" if last else ""
    refuse("layout's targets", expected, array.shape)


@dataclass(frozen=True, kw_only=True)
class GivenLoss(ModelLoss):
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
