"""The cells as people write them, in all their variants, and the walk through time that they share.

Every call of `intervene` is a place where backward passes go wrong. One layer is walked in one
direction: time is that direction's own, which runs the other way in the second direction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import sigmoid
from throughtime.diagnosis.mutants.interventions import Interventions


class Weights(NamedTuple):
    """A layer's W (G, H, I), U (G, H, P), and biases b and c (G, H), where c is added to U h_{t−1}.

    Peepholes are p (G, H), 0 for gates that have none. R (P, H) is the projection in h_t = R m_t;
    it is None where h_t is m_t itself, the output of the cell.
    """

    W: Array
    U: Array
    b: Array
    c: Array
    p: Array
    R: Array | None = None


@dataclass(frozen=True)
class Tape:
    """What a forward pass keeps.

    Attributes:
        x: inputs (T, B, I).
        h, c: states (T + 1, B, P) and (T + 1, B, H), the initial ones first; c is h in cells
            without a cell state.
        v: activated gates (T, B, G, H).
        u: the GRU's U_n h_{t−1} + c_n (T, B, H); 0 in other cells.
        m: what h_t is projected from (T, B, H); h_t itself where nothing is projected.
    """

    x: Array
    h: Array
    c: Array
    v: Array
    u: Array
    m: Array


class Local(NamedTuple):
    """What the recursion needs of every step: φ′ of the gates (T, B, G, H), and four (T, B, H).

    In an LSTM these are ψ(c_t), ψ′(c_t) ⊙ o, and c_{t−1} in δ of f and in δ of a coupled f. A GRU
    uses the last one alone, for h_{t−1} in δ of z.
    """

    slopes: Array
    m: Array
    through: Array
    before: Array
    update: Array


class Deltas(NamedTuple):
    """δ of the pre-activations on the side of x and on the side of h_{t−1}, (T, B, G, H) each.

    With them δh of every step, (T, B, P): the whole, and the part that comes from the output; and δ
    of the initial states, (B, P) and (B, H).
    """

    z: Array
    u: Array
    h: Array
    out: Array
    start_h: Array
    start_c: Array


class Cell(Protocol):
    """One step forward and one step back; `forward` and `backward` below do the rest."""

    @property
    def gates(self) -> str:
        """A letter for each gate, in the model's own order."""

    @property
    def activations(self) -> tuple[str, ...]:
        """The activation of each gate."""

    @property
    def peepholes(self) -> bool:
        """Whether gates see the cell state."""

    def step(self, z_x: Array, w: Weights, h: Array, c: Array) -> tuple[Array, Array, Array, Array]:
        """(m_t, c_t, v_t, u_t) from z_x = W x_t + b (B, G, H)."""

    def local(self, tape: Tape, intervene: Interventions) -> Local:
        """The part of every step's derivatives that does not depend on later steps."""

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
        """(δz, δu, δh_{t−1}, δc_{t−1}) from δm_t and the part of δc_t that step t + 1 sends back.

        `s` is the step whose values are used, which is t where nothing is wrong. `w` holds the
        recurrent matrix as the recursion uses it.
        """

    def candidate_operand(self, tape: Tape, steps: Array, h: Array) -> dict[int, Array]:
        """By gate, what U multiplies in the forward pass, where it is not h_{t−1}."""


def forward(cell: Cell, w: Weights, x: Array, h: Array, c: Array) -> Tape:
    """All steps, from inputs (T, B, I) and the initial states (B, P) and (B, H)."""
    z_x = np.einsum("tbi,ghi->tbgh", x, w.W) + w.b
    hs, cs, vs, us, ms = [h], [c], [], [], []
    for z in z_x:
        m, c, v, u = cell.step(z, w, h, c)
        h = m if w.R is None else m @ w.R.T
        hs.append(h)
        cs.append(c)
        vs.append(v)
        us.append(u)
        ms.append(m)
    return Tape(x, *map(np.array, (hs, cs, vs, us, ms)))


def recur(product: Array, w: Array) -> Array:
    """U h of every gate, (B, G, H), from h (B, P) and U (G, H, P)."""
    G, H, K = w.shape
    result: Array = (product @ w.reshape(G * H, K).T).reshape(len(product), G, H)
    return result


def recur_back(du: Array, U: Array) -> Array:
    """Uᵀ δu summed over the gates, (B, P), from δu (B, G, H)."""
    B, G, H = du.shape
    result: Array = du.reshape(B, G * H) @ U.reshape(G * H, -1)
    return result


def backward(
    cell: Cell,
    w: Weights,
    tape: Tape,
    dh_out: Array,
    intervene: Interventions,
    dstate: tuple[Array, Array],
) -> Deltas:
    """The recursion: δz of every step, from what the output sends into every step (T, B, P)."""
    T = len(tape.x)
    steps = intervene("cache", np.arange(T))
    w = w._replace(U=intervene("U", w.U, W=w.W))
    local = cell.local(tape, intervene)
    dh_next, dc_next = dstate
    dz, du, dhs = np.empty_like(tape.v), np.empty_like(tape.v), np.empty_like(dh_out)
    for t in reversed(range(T)):
        dh_next, dc_next = intervene("carried", (dh_next, dc_next), t=t, T=T)
        dm = dhs[t] = intervene("dh", dh_out[t] + dh_next, out=dh_out[t], t=t, T=T)
        if w.R is not None:
            dm = intervene("dm", dm @ w.R, dh=dm, R=w.R)
        dz[t], du[t], dh_next, dc_next = cell.step_back(
            w, tape, local, steps[t], dm, dc_next, intervene
        )
    return Deltas(dz, du, dhs, dh_out, dh_next, dc_next)


def products(
    cell: Cell, w: Weights, tape: Tape, deltas: Deltas, intervene: Interventions
) -> Weights:
    """δW = Σ δz xᵀ, δU = Σ δu h_{t−1}ᵀ, δb = Σ δz, δc = Σ δu, δp = Σ δz ⊙ c, δR = Σ δh mᵀ."""
    T, B, G, H = deltas.z.shape
    x = intervene("x", tape.x)
    h = intervene("h_before", tape.h[:-1], states=tape.h)
    steps = intervene("cache", np.arange(T))
    ones = np.ones((T, B))
    keep = {kind: intervene(f"kept_{kind}", ones) for kind in "WUcpR"}

    def outer(delta: Array, operand: Array, kept: Array) -> Array:
        rows = (delta * kept[:, :, None]).reshape(T * B, -1)
        product: Array = rows.T @ operand.reshape(T * B, -1)
        return product

    W = outer(deltas.z.reshape(T, B, G * H), x, keep["W"]).reshape(G, H, -1)
    U = outer(deltas.u.reshape(T, B, G * H), h, keep["U"]).reshape(G, H, -1)
    for gate, operand in cell.candidate_operand(tape, steps, h).items():
        U[gate] = outer(deltas.u[:, :, gate], operand, keep["U"])
    b = biases(deltas, intervene)
    c = np.einsum("tbgh,tb->gh", deltas.u, keep["c"])
    p = np.zeros((G, H))
    if cell.peepholes:
        before, now = tape.c[:-1][steps, :, None], tape.c[1:][steps, :, None]
        seen = np.concatenate([before] * (G - 1) + [now], axis=2)  # the last gate, o, sees c_t
        p = np.einsum("tbgh,tbgh,tb->gh", deltas.z, seen, keep["p"])
    R = None
    if w.R is not None:
        dh, m = (
            intervene("dh_R", deltas.h, out=deltas.out),
            intervene("m", tape.m[steps], tape=tape),
        )
        R = outer(dh, m, keep["R"])
    return Weights(W, U, b, c, p, R)


def biases(deltas: Deltas, intervene: Interventions) -> Array:
    """δb = Σ δz, (G, H)."""
    kept = intervene("kept_b", np.ones(deltas.z.shape[:2]))
    b: Array = np.einsum("tbgh,tb->gh", deltas.z, kept)
    return b


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
        """The activation of each gate."""
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
        coupled: whether f = 1 − i, so that there are only three gates.
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
        """The activation of each gate."""
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
        """The activation of each gate."""
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
