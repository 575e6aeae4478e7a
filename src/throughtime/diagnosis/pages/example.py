"""Small networks whose backward pass comes in pieces, so that an example can get one of them wrong.

Rows are vectors: x_t is (B, I), h_t is (B, H). A head V h + d answers at every step; the loss is
the cross-entropy, summed over steps and sequences. No bias and no initial state is 0, since a 0
hides mistakes, and T, B, H and O differ, so that a factor tells where it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import ClassVar

import numpy as np

from throughtime.arrays import Array
from throughtime.gradcheck import Target

I, H, O = 2, 3, 4  # noqa: E741  inputs, hidden units, classes
STEP = 1e-5
EXACT = 1e-7  # a discrepancy that central differences in float64 may have

Gradient = dict[str, Array]
Step = dict[str, Array]


def sigmoid(z: Array) -> Array:
    """1 / (1 + e⁻ᶻ)."""
    return np.asarray(1 / (1 + np.exp(-z)))


def softmax(outputs: Array) -> Array:
    """Over the last axis."""
    exp = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=-1, keepdims=True))


class Network:
    """What the three cells share: data, head, loss, the way back, and a numerical gradient.

    Args:
        T, B: steps and sequences.
        start: scale of the initial states.
        scale: of the weights.

    Attributes:
        p: parameters: W (G·H, I), U (G·H, H), b (G·H,), V (O, H), d (O,).
        x, y: inputs (T, B, I), and targets (T, B, O), 1 in the right class.
        h: h_0 … h_T of the last run, each (B, H).
        tape: what its steps kept, one mapping a step.
    """

    gates: ClassVar[int] = 1

    def __init__(
        self, T: int = 5, B: int = 2, *, start: float = 0.5, scale: float = 0.7, features: int = I
    ) -> None:
        self.T, self.B = T, B
        rng, rows = np.random.default_rng(0), self.gates * H
        shapes = {"W": (rows, features), "U": (rows, H), "b": (rows,), "V": (O, H), "d": (O,)}
        self.p = {name: scale * rng.standard_normal(shape) for name, shape in shapes.items()}
        states = start * rng.standard_normal((2, B, H))
        self.h0: Array = states[0]
        self.c0: Array = states[1]
        self.x = rng.standard_normal((T, B, I))
        self.y = np.eye(O)[rng.integers(O, size=(T, B))]
        self.h: list[Array] = []
        self.c: list[Array] = []
        self.tape: list[Step] = []

    # --- forward ---

    def forward(self) -> Array:
        """Outputs (T, B, O), before the softmax."""
        self.h, self.c, self.tape = [self.first()], [self.c0], []
        for x in self.inputs():
            self.step(x)
        self.seen = self.see(np.array(self.h[1:]))
        return np.asarray(self.seen @ self.p["V"].T + self.p["d"])

    def first(self) -> Array:
        """h_0."""
        return self.h0

    def inputs(self) -> Array:
        """(T, B, ·)."""
        return self.x

    def step(self, x: Array) -> None:
        """One step of the cell: appends to `h`, and keeps what the way back needs."""
        raise NotImplementedError

    def keep(self, step: Step) -> None:
        """Puts a step's values on the tape."""
        self.tape.append(step)

    def see(self, h: Array) -> Array:
        """What the head sees of the hidden states (T, B, H)."""
        return h

    def loss(self, outputs: Array) -> float:
        """From outputs (T, B, O)."""
        return float(-(self.y * np.log(softmax(outputs))).sum())

    # --- backward ---

    def gradient(self) -> Gradient:
        """By name, like the parameters."""
        dy = self.output_delta(self.forward())
        d = self.buffers()
        d["V"] += np.einsum("tbo,tbh->oh", dy, self.seen)
        d["d"] += dy.sum(axis=(0, 1))
        self.below(self.walk(self.see_backward(dy @ self.p["V"]), d), d)
        return self.finished(d)

    def output_delta(self, outputs: Array) -> Array:
        """δ of the outputs, (T, B, O)."""
        return softmax(outputs) - self.y

    def buffers(self) -> Gradient:
        """What the contributions are added to."""
        return {name: np.zeros_like(array) for name, array in self.p.items()}

    def see_backward(self, dseen: Array) -> Array:
        """δh of the outputs, from δ of what the head saw."""
        return dseen

    def walk(self, dh_output: Array, d: Gradient) -> Array:
        """Goes back through time, adds to `d`, and returns δ of the inputs."""
        dx = np.zeros((self.T, self.B, self.p["W"].shape[1]))
        dh_next, dc_next = np.zeros_like(self.h0), np.zeros_like(self.h0)
        for t in reversed(range(self.T)):
            dh = self.arriving(dh_output[t], dh_next)
            dz, dh_next, dc_next = self.back(t, dh, dc_next)
            self.accumulate(d, t, dz)
            dx[t] = dz @ self.p["W"]
        return dx

    def arriving(self, dh_output: Array, dh_next: Array) -> Array:
        """δh of a step, from its own output and from the next step."""
        return dh_output + dh_next

    def back(self, t: int, dh: Array, dc_next: Array) -> tuple[Array, Array, Array]:
        """δz of step t, and what the step before is sent: δh and δc."""
        raise NotImplementedError

    def hand_back(self, t: int, dz: Array) -> Array:
        """δh for the step before, from δz of step t."""
        return np.asarray(dz @ self.p["U"])  # Uᵀδz, written for rows

    def accumulate(self, d: Gradient, t: int, dz: Array) -> None:
        """Adds step t's contributions."""
        step = self.tape[t]
        d["W"] += dz.T @ step["x"]
        d["U"] += dz.T @ step["h_before"]
        d["b"] += dz.sum(axis=0)

    def below(self, dx: Array, d: Gradient) -> None:
        """What lies under the inputs takes its part of the gradient from δx."""

    def finished(self, d: Gradient) -> Gradient:
        """What happens to the gradient before it is handed over."""
        return d

    # --- compared ---

    def numerical(self) -> Gradient:
        """Central differences of the loss."""
        found = {}
        for name, array in self.p.items():
            found[name] = np.empty_like(array)
            for place, value in np.ndenumerate(array):
                ends = []
                for moved in (value + STEP, value - STEP):
                    array[place] = moved
                    ends.append(self.loss(self.forward()))
                array[place] = value
                found[name][place] = (ends[0] - ends[1]) / (2 * STEP)
        return found

    @cached_property
    def both(self) -> tuple[Gradient, Gradient]:
        """The gradient and the numerical one."""
        numerical = self.numerical()
        return self.gradient(), numerical

    def discrepancy(self, *names: str) -> float:
        """‖g − n‖ / (‖g‖ + ‖n‖) over some tensors; over all where none is named."""
        g, n = self._flat(names)
        sizes = float(np.linalg.norm(g) + np.linalg.norm(n))
        return float(np.linalg.norm(g - n)) / sizes if sizes else 0.0

    def agrees(self, *names: str) -> bool:
        """Whether these tensors are right; all where none is named."""
        return all(self.discrepancy(name) < EXACT for name in names or self.p)

    def slope(self, *names: str) -> float:
        """α of the regression g = α n."""
        g, n = self._flat(names)
        return float(g @ n / (n @ n))

    def cosine(self, *names: str) -> float:
        """Of the angle between g and n."""
        g, n = self._flat(names)
        return float(g @ n / np.linalg.norm(g) / np.linalg.norm(n))

    def target(self) -> Target:
        """For `tt.check`."""
        return Target(self.p, lambda: self.loss(self.forward()), self.gradient, steps=self.T)

    def _flat(self, names: Iterable[str]) -> tuple[Array, Array]:
        chosen = tuple(names) or tuple(self.p)
        g, n = (np.concatenate([d[name].ravel() for name in chosen]) for d in self.both)
        return g, n
