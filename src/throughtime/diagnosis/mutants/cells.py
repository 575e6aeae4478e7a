"""The cells as people write them, in all their variants, forward and backward, one step each.

Every `hook` is a place where backward passes go wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from throughtime.arrays import Array
from throughtime.cells.activations import sigmoid
from throughtime.diagnosis.mutants.change import Hook
from throughtime.diagnosis.mutants.walk import Tape, Weights, recur, recur_back

ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": lambda z: np.maximum(z, 0),
    "identity": lambda z: z,
}
SLOPES = {  # in terms of the activated value
    "tanh": lambda a: 1 - a * a,
    "sigmoid": lambda s: s * (1 - s),
    "relu": lambda s: (s > 0).astype(float),
    "identity": np.ones_like,
}


@dataclass(frozen=True)
class RNN:
    """h_t = φ(z), z = W x_t + b + U h_{t−1} + c."""

    nonlinearity: str = "tanh"
    gates: ClassVar[str] = "s"

    @property
    def activations(self) -> tuple[str, ...]:
        """What each gate is squashed by."""
        return (self.nonlinearity,)

    def step(self, z_x: Array, w: Weights, h: Array, c: Array) -> tuple[Array, Array, Array, Array]:
        s = ACTIVATIONS[self.nonlinearity](z_x + recur(h, w.U) + w.c)
        return s[:, 0], s[:, 0], s, np.zeros_like(h)

    def step_back(
        self, w: Weights, U: Array, tape: Tape, s: int, dh: Array, dc: Array, hook: Hook
    ) -> tuple[Array, Array, Array, Array]:
        slopes = hook("slopes", _slopes(self.activations, tape.v[s]), v=tape.v[s])
        dz = dh[:, None] * slopes
        return dz, dz, recur_back(dz, U), dc

    def candidate_operand(self, tape: Tape, steps: Array, h: Array) -> dict[int, Array]:
        return {}


@dataclass(frozen=True)
class LSTM:
    """c_t = i ⊙ a + f ⊙ c_{t−1}; h_t = o ⊙ ψ(c_t).

    Attributes:
        squash: ψ, "tanh" or "identity".
        coupled: whether f = 1 − i, so that there are but three gates.
    """

    squash: str = "tanh"
    coupled: bool = False

    @property
    def gates(self) -> str:  # type: ignore[override]
        """In the model's own order."""
        return "iao" if self.coupled else "ifao"

    @property
    def activations(self) -> tuple[str, ...]:
        """What each gate is squashed by."""
        return tuple("tanh" if gate == "a" else "sigmoid" for gate in self.gates)

    def step(self, z_x: Array, w: Weights, h: Array, c: Array) -> tuple[Array, Array, Array, Array]:
        v = sigmoid(z := z_x + recur(h, w.U) + w.c)
        v[:, -2] = np.tanh(z[:, -2])
        i, a, o = v[:, 0], v[:, -2], v[:, -1]
        f = 1 - i if self.coupled else v[:, 1]
        c = i * a + f * c
        return o * ACTIVATIONS[self.squash](c), c, v, np.zeros_like(h)

    def step_back(
        self, w: Weights, U: Array, tape: Tape, s: int, dh: Array, dc: Array, hook: Hook
    ) -> tuple[Array, Array, Array, Array]:
        v, c = tape.v[s], tape.c[s + 1]
        i, a, o = v[:, 0], v[:, -2], v[:, -1]
        m = ACTIVATIONS[self.squash](c)
        dc = dc + dh * o * hook("cell_slope", SLOPES[self.squash](m), m=m)
        before = hook("c_before", tape.c[s], now=c)
        d = {"i": dc * a, "a": dc * i, "o": dh * m}
        if self.coupled:
            f = 1 - i
            d["i"] = d["i"] - dc * hook("update", before)
        else:
            f = v[:, 1]
            d["f"] = dc * before
        d = hook("dgates", d)
        slopes = hook("slopes", _slopes(self.activations, v), v=v)
        dz = np.stack([d[gate] for gate in self.gates], axis=1) * slopes
        return dz, dz, recur_back(dz, U), dc * f

    def candidate_operand(self, tape: Tape, steps: Array, h: Array) -> dict[int, Array]:
        return {}


@dataclass(frozen=True)
class GRU:
    """h_t = k ⊙ h_{t−1} + (1 − k) ⊙ n, where k, the share that is kept, is z or 1 − z.

    Attributes:
        reset_after: n = tanh(W_n x + b_n + r ⊙ (U_n h_{t−1} + c_n)); otherwise r acts on h_{t−1}.
        keep: "z" or "1-z".
    """

    reset_after: bool = True
    keep: str = "z"
    gates: ClassVar[str] = "rzn"

    @property
    def activations(self) -> tuple[str, ...]:
        """What each gate is squashed by."""
        return ("sigmoid", "sigmoid", "tanh")

    def step(self, z_x: Array, w: Weights, h: Array, c: Array) -> tuple[Array, Array, Array, Array]:
        rz = sigmoid(z_x[:, :2] + recur(h, w.U[:2]) + w.c[:2])
        r, z = rz[:, 0], rz[:, 1]
        u = (h if self.reset_after else r * h) @ w.U[2].T + w.c[2]
        n = np.tanh(z_x[:, 2] + (r * u if self.reset_after else u))
        kept = z if self.keep == "z" else 1 - z
        now = kept * h + (1 - kept) * n
        return now, now, np.stack([r, z, n], axis=1), u

    def step_back(
        self, w: Weights, U: Array, tape: Tape, s: int, dh: Array, dc: Array, hook: Hook
    ) -> tuple[Array, Array, Array, Array]:
        v, h = tape.v[s], tape.h[s]
        r, z, n = v[:, 0], v[:, 1], v[:, 2]
        kept, sign = (z, 1) if self.keep == "z" else (1 - z, -1)
        slopes = hook("slopes", _slopes(self.activations, v), v=v)
        d = {"n": dh * (1 - kept), "z": sign * dh * (hook("update", h) - n)}
        dz_n = d["n"] * slopes[:, 2]
        if self.reset_after:
            du_n = dz_n * r
            d["r"] = dz_n * tape.u[s]
            through = du_n @ U[2]
        else:
            du_n = dz_n
            dreset = dz_n @ U[2]  # with respect to r ⊙ h_{t−1}
            d["r"] = dreset * h
            through = dreset * r
        dz_r, dz_z = d["r"] * slopes[:, 0], d["z"] * slopes[:, 1]
        gates = dz_r @ U[0] + dz_z @ U[1] + through
        direct, gates = hook("paths", (dh * kept, gates))
        dz = np.stack([dz_r, dz_z, dz_n], axis=1)
        return dz, np.stack([dz_r, dz_z, du_n], axis=1), direct + gates, dc

    def candidate_operand(self, tape: Tape, steps: Array, h: Array) -> dict[int, Array]:
        return {} if self.reset_after else {2: tape.v[steps][:, :, 0] * h}


def _slopes(activations: tuple[str, ...], v: Array) -> Array:
    """φ′ of every gate, (B, G, H)."""
    return np.stack([SLOPES[name](v[:, k]) for k, name in enumerate(activations)], axis=1)
