"""The cells as people write them, in all their variants, forward and backward, one step each.

Every `intervene` is a place where backward passes go wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import sigmoid
from throughtime.diagnosis.mutants.interventions import Interventions
from throughtime.diagnosis.mutants.walk import Local, Tape, Weights, recur, recur_back

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": lambda z: np.maximum(z, 0),
    "identity": lambda z: z,
}
SLOPES: dict[str, Callable[[Array], Array]] = {  # in terms of the activated value
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
    peepholes: ClassVar[bool] = False

    @property
    def activations(self) -> tuple[str, ...]:
        """What each gate is squashed by."""
        return (self.nonlinearity,)

    def step(self, z_x: Array, w: Weights, h: Array, c: Array) -> tuple[Array, Array, Array, Array]:
        s = ACTIVATIONS[self.nonlinearity](z_x + recur(h, w.U) + w.c)
        return s[:, 0], s[:, 0], s, np.zeros_like(h)

    def local(self, tape: Tape, intervene: Interventions) -> Local:
        h = tape.h[:-1]
        return Local(_slopes(self.activations, tape.v, intervene), h, h, h, h)

    def step_back(
        self,
        w: Weights,
        tape: Tape,
        local: Local,
        s: int,
        dh: Array,
        dc: Array,
        intervene: Interventions,
    ) -> tuple[Array, Array, Array, Array]:
        dz = dh[:, None] * local.slopes[s]
        return dz, dz, recur_back(dz, w.U), dc

    def candidate_operand(self, tape: Tape, steps: Array, h: Array) -> dict[int, Array]:
        return {}


@dataclass(frozen=True)
class LSTM:
    """c_t = i ⊙ a + f ⊙ c_{t−1}; h_t = o ⊙ ψ(c_t), or R times that.

    Attributes:
        squash: ψ, "tanh" or "identity".
        coupled: whether f = 1 − i, so that there are but three gates.
        peepholes: whether i and f see p ⊙ c_{t−1}, and o sees p ⊙ c_t.
    """

    squash: str = "tanh"
    coupled: bool = False
    peepholes: bool = False

    @property
    def gates(self) -> str:
        """In the model's own order."""
        return "iao" if self.coupled else "ifao"

    @property
    def activations(self) -> tuple[str, ...]:
        """What each gate is squashed by."""
        return tuple("tanh" if gate == "a" else "sigmoid" for gate in self.gates)

    def step(self, z_x: Array, w: Weights, h: Array, c: Array) -> tuple[Array, Array, Array, Array]:
        z = z_x + recur(h, w.U) + w.c
        if self.peepholes:
            z[:, :-2] += w.p[:-2] * c[:, None]
        v = sigmoid(z)
        v[:, -2] = np.tanh(z[:, -2])
        i, a, o = v[:, 0], v[:, -2], v[:, -1]
        f = 1 - i if self.coupled else v[:, 1]
        c = i * a + f * c
        if self.peepholes:
            o = v[:, -1] = sigmoid(z[:, -1] + w.p[-1] * c)
        return o * ACTIVATIONS[self.squash](c), c, v, np.zeros_like(c)

    def local(self, tape: Tape, intervene: Interventions) -> Local:
        m = ACTIVATIONS[self.squash](tape.c[1:])
        through = tape.v[:, :, -1] * intervene("cell_slope", SLOPES[self.squash](m), m=m)
        before = intervene("c_before", tape.c[:-1], now=tape.c[1:])
        slopes = _slopes(self.activations, tape.v, intervene)
        return Local(slopes, m, through, before, intervene("update", before))

    def step_back(
        self,
        w: Weights,
        tape: Tape,
        local: Local,
        s: int,
        dh: Array,
        dc: Array,
        intervene: Interventions,
    ) -> tuple[Array, Array, Array, Array]:
        v, before = tape.v[s], local.before[s]
        i, a = v[:, 0], v[:, -2]
        f = 1 - i if self.coupled else v[:, 1]
        dc = dc + dh * local.through[s]
        if self.peepholes:
            dc = dc + w.p[-1] * dh * local.m[s] * local.slopes[s][:, -1]
        d = {"i": dc * a, "a": dc * i, "f": dc * before, "o": dh * local.m[s]}
        if self.coupled:
            d["i"] = d["i"] - dc * local.update[s]
        d = intervene("dgates", d)
        dz = np.empty_like(v)
        for k, gate in enumerate(self.gates):
            np.multiply(d[gate], local.slopes[s][:, k], out=dz[:, k])
        dc = dc * f
        if self.peepholes:
            dc = dc + (w.p[:-2] * dz[:, :-2]).sum(axis=1)
        return dz, dz, recur_back(dz, w.U), dc

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
    peepholes: ClassVar[bool] = False

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

    def local(self, tape: Tape, intervene: Interventions) -> Local:
        h = tape.h[:-1]
        return Local(_slopes(self.activations, tape.v, intervene), h, h, h, intervene("update", h))

    def step_back(
        self,
        w: Weights,
        tape: Tape,
        local: Local,
        s: int,
        dh: Array,
        dc: Array,
        intervene: Interventions,
    ) -> tuple[Array, Array, Array, Array]:
        v, h = tape.v[s], tape.h[s]
        r, z, n = v[:, 0], v[:, 1], v[:, 2]
        kept, sign = (z, 1) if self.keep == "z" else (1 - z, -1)
        slopes = local.slopes[s]
        d = {"n": dh * (1 - kept), "z": sign * dh * (local.update[s] - n)}
        dz_n = d["n"] * slopes[:, 2]
        if self.reset_after:
            du_n = dz_n * r
            d["r"] = dz_n * tape.u[s]
            through = du_n @ w.U[2]
        else:
            du_n = dz_n
            dreset = dz_n @ w.U[2]  # with respect to r ⊙ h_{t−1}
            d["r"] = dreset * h
            through = dreset * r
        dz_r, dz_z = d["r"] * slopes[:, 0], d["z"] * slopes[:, 1]
        gates = dz_r @ w.U[0] + dz_z @ w.U[1] + through
        direct, gates = intervene("paths", (dh * kept, gates))
        dz = np.stack([dz_r, dz_z, dz_n], axis=1)
        return dz, np.stack([dz_r, dz_z, du_n], axis=1), direct + gates, dc

    def candidate_operand(self, tape: Tape, steps: Array, h: Array) -> dict[int, Array]:
        return {} if self.reset_after else {2: tape.v[steps][:, :, 0] * h}


def _slopes(activations: tuple[str, ...], v: Array, intervene: Interventions) -> Array:
    """φ′ of every gate at every step, (T, B, G, H)."""
    slopes = np.stack([SLOPES[name](v[:, :, k]) for k, name in enumerate(activations)], axis=2)
    return intervene("slopes", slopes, v=v)  # type: ignore[no-any-return]
