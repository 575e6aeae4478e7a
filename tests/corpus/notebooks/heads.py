"""From the states to the loss and back, with what the notebooks get wrong there."""

from __future__ import annotations

from typing import Any

import numpy as np

from corpus.notebooks.cells import sigmoid
from corpus.notebooks.habits import NO_HEAD, Habits
from corpus.notebooks.storage import Views
from throughtime.arrays import Array


class Head:
    """Outputs and loss of states (T, B, H), and their derivatives."""

    def __init__(self, s: Habits, w: Views, mistakes: frozenset[str]) -> None:
        self.s, self.mistakes = s, mistakes
        self.w = w
        if s.head == "outside":
            self.w = w | {"V": s.weights(90, (s.O, s.H)) / max(s.scale, 0.1)}
        self.targets = s.targets()[: s.T]
        self.answered = np.zeros((s.T, 1, 1), s.dtype)
        self.answered[s.T - 1 if s.last else slice(None)] = 1

    def has(self, kind: str) -> bool:
        return kind in self.mistakes

    def forward(self, h: Array) -> Any:
        """The loss; outputs are kept."""
        s, w = self.s, self.w
        self.h = h
        self.hidden = h
        if s.head == "two layers":
            self.hidden = np.tanh(h @ w["V1"].T + w["c1"] if s.biases else h @ w["V1"].T)
        y = self.hidden
        if s.head not in NO_HEAD:
            y = self.hidden @ w["V"].T
            y = y + w["c"] if "c" in w else y
        if s.head.startswith("sigmoid"):
            y = sigmoid(y)
        if s.error == "softmax":
            p = np.exp(y - y.max(axis=2, keepdims=True))
            y = p / p.sum(axis=2, keepdims=True)
        self.y = y
        if s.root:
            self.loss = np.sqrt(self.mean_square())
            return self.loss
        self.loss = (self.errors(y) * self.answered[:, :, 0]).sum() * self.weight()
        return np.asarray(self.loss, s.dtype)

    def mean_square(self) -> Any:
        """Over all answers."""
        off = (self.y - self.targets) * self.answered
        return (off**2).sum() / (self.answered.sum() * self.s.B * self.s.O)

    def errors(self, y: Array) -> Array:
        """(T, B)."""
        s, e = self.s, self.s.epsilon
        if s.error == "softmax":
            p = np.take_along_axis(y, self.targets[:, :, None], 2)[:, :, 0]
            return np.asarray(-np.log(p + e))
        a = self.targets
        if s.error == "binary":
            return np.asarray(-(a * np.log(y + e) + (1 - a) * np.log(1 - y + e)).sum(axis=2))
        if s.error == "sum":
            return np.asarray((a * y).sum(axis=2))
        return np.asarray(((y - a) ** 2).sum(axis=2) / (2 if s.half else 1))

    def weight(self, *, wrong: bool = False) -> Any:
        """What each error counts: 1 / T and so on, where means are taken."""
        s = self.s
        T = 1 if s.time == "sum" or s.last else s.T
        B = 1 if s.batch == "sum" else s.B
        O = s.O if s.outputs == "mean" else 1  # noqa: E741
        if wrong:
            T = s.T if self.has("averaged_over_steps") else T
            T = 1 if self.has("summed_over_steps") else T
            B = s.B if self.has("divided_by_batch") else B
            B = 1 if self.has("summed_over_batch") else B
            O = 1 if self.has("averaged_over_outputs") else O  # noqa: E741
            O = s.O if self.has("divided_by_classes") else O  # noqa: E741
        return np.array(1 / (T * B * O), s.dtype)

    def output_gradient(self) -> Array:
        """δ of the head's outputs before any squashing, (T, B, O)."""
        s, y = self.s, self.y
        answered = self.answered.copy()
        if self.has("output_gradient_at_every_step"):
            answered[...] = 1
        if self.has("output_gradient_at_last_step_only"):
            answered[:-1] = 0
        if s.root:
            dy = (y - self.targets) / (answered.sum() * s.B * s.O)
            dy = 2 * dy if self.has("root_taken") else dy / self.loss
            dy = dy * y * (1 - y) if s.head == "sigmoid, squared" else dy
        else:
            dy = self.of_error() * self.weight(wrong=True)
        if self.has("last_dy_at_every_step"):
            dy = np.broadcast_to(dy[-1:], dy.shape).copy()
        if self.has("output_gradient_at_every_step"):
            dy = np.broadcast_to(dy[-1:], dy.shape)
        return np.asarray(dy * answered, s.dtype)

    def of_error(self) -> Array:
        """The derivative of `errors`, through softmax or sigmoid."""
        s, y, a, e = self.s, self.y, self.targets, self.s.epsilon
        if self.has("targets_shifted"):
            a = np.roll(a, -1, axis=0)
        if s.error == "sum":
            return a
        if s.error == "softmax":
            return self.of_softmax(y, a)
        if s.error == "binary":
            dy = y - a
            if e and not self.has("epsilon_in_log"):
                dy = (-a / (y + e) + (1 - a) / (1 - y + e)) * y * (1 - y)
            return dy * y * (1 - y) if self.has("sigmoid_derivative_twice") else dy
        dy = (y - a) * (1 if s.half else 2)
        if self.has("half_squared_error"):
            dy = dy / 2
        if self.has("factor_two_of_square"):
            dy = dy * 2
        if s.head == "sigmoid, squared" and not self.has("sigmoid_derivative_missing"):
            dy = dy * y * (1 - y)
        return dy

    def of_softmax(self, p: Array, labels: Array) -> Array:
        """The derivative of −log(p_k + ε) by the logits."""
        e = self.s.epsilon
        hot = np.eye(self.s.O, dtype=p.dtype)[labels]
        if self.has("diagonal_of_softmax"):
            return np.asarray(
                -hot * (1 - p)
            )  # −1/p_k times p_k (1 − p_k), and nothing for the others
        dy = p - hot
        if e and not self.has("epsilon_in_log"):
            own = np.take_along_axis(p, labels[:, :, None], 2)
            dy = dy * own / (own + e)
        if self.has("softmax_derivative_twice"):
            dy = p * (dy - (p * dy).sum(axis=2, keepdims=True))
        if self.has("different_loss"):
            dy = p * ((p - hot) - (p * (p - hot)).sum(axis=2, keepdims=True))
        return np.asarray(dy)

    def back(self, d: Views) -> Array:
        """δh (T, B, H); adds the head's own gradient to `d`."""
        s, w = self.s, self.w
        dy = self.output_gradient()
        if s.head in NO_HEAD:
            return dy
        hidden = self.hidden
        if self.has("head_takes_previous_h"):
            hidden = np.concatenate([np.zeros_like(hidden[:1]), hidden[:-1]])
        if "V" in d:
            own = np.einsum("tbo,tbh->oh", dy, hidden)
            d["V"] += dy[0].T @ hidden[0] if self.has("only_last_step_kept") else own
        if "c" in d:
            own = dy.sum(axis=(0, 1))
            own = dy[0].sum(axis=0) if self.has("only_last_step_kept") else own
            d["c"] += own
        down = dy
        if self.has("output_gradient_at_every_step_to_h"):
            down = np.broadcast_to(dy[-1:], dy.shape)
        dh = down @ w["V"]
        if s.head == "two layers":
            slope = 1 - self.hidden**2
            if self.has("head_derivative_missing"):
                slope = np.ones_like(slope)
            dz = dh * slope
            d["V1"] += np.einsum("tbm,tbh->mh", dz, self.h)
            if "c1" in d:
                d["c1"] += dz.sum(axis=(0, 1))
            dh = dz @ w["V1"]
        if self.has("output_delta_accumulates"):  # += into an array that is never cleared
            dh = np.cumsum(dh[::-1], axis=0)[::-1]
        return np.asarray(dh)
