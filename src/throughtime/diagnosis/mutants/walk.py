"""What the three cells share: their arrays, the walk back through time, and the products.

One layer in one direction: time is that direction's own, which runs the other way in the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.interventions import Interventions


class Weights(NamedTuple):
    """A layer's W (G, H, I), U (G, H, P), biases b and c (G, H), c on U h_{t−1}'s side.

    Peepholes p (G, H), 0 where a gate has none; and R (P, H), which h_t = R m_t is projected by,
    None where h_t is m_t, what the cell gives, itself.
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
        h, c: states (T + 1, B, P) and (T + 1, B, H), the initial ones first; c is h in cells that
            have no c.
        v: activated gates (T, B, G, H).
        u: the GRU's U_n h_{t−1} + c_n (T, B, H); 0 in other cells.
        m: what h_t is projected from (T, B, H); h_t itself where it is not.
    """

    x: Array
    h: Array
    c: Array
    v: Array
    u: Array
    m: Array


class Local(NamedTuple):
    """Derivatives of every step: φ′ of the gates (T, B, G, H), and (T, B, H) what else it takes.

    Of an LSTM ψ(c_t), ψ′(c_t) ⊙ o, c_{t−1} as f's δ takes it, and as a coupled f's does; of a
    GRU the last alone, h_{t−1} as z's δ takes it.
    """

    slopes: Array
    m: Array
    through: Array
    before: Array
    update: Array


class Deltas(NamedTuple):
    """δ of the pre-activations on the side of x and on that of h_{t−1}, (T, B, G, H) each.

    And δh of every step, (T, B, P), in whole and as it comes from the output alone.
    """

    z: Array
    u: Array
    h: Array
    out: Array


class Cell(Protocol):
    """One step forward and one step back; the rest is `forward` and `backward` below."""

    @property
    def gates(self) -> str:
        """A letter for each gate, in the model's own order."""

    @property
    def activations(self) -> tuple[str, ...]:
        """What each gate is squashed by."""

    @property
    def peepholes(self) -> bool:
        """Whether gates see the cell state."""

    def step(self, z_x: Array, w: Weights, h: Array, c: Array) -> tuple[Array, Array, Array, Array]:
        """(m_t, c_t, v_t, u_t) from z_x = W x_t + b (B, G, H)."""

    def local(self, tape: Tape, intervene: Interventions) -> Local:
        """What of every step's derivatives does not depend on later steps."""

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
        """(δz, δu, δh_{t−1}, δc_{t−1}) from δm_t and what step t + 1 sends back of δc_t.

        `s` is the step whose values are used, t itself where nothing is wrong, and `w` has the
        recurrent matrix as the recursion takes it.
        """

    def candidate_operand(self, tape: Tape, steps: Array, h: Array) -> dict[int, Array]:
        """By gate: what U is multiplied by in the forward pass where that is not h_{t−1}."""


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
    """(B, G, H) from h (B, P) and U (G, H, P): U h of every gate."""
    G, H, K = w.shape
    result: Array = (product @ w.reshape(G * H, K).T).reshape(len(product), G, H)
    return result


def recur_back(du: Array, U: Array) -> Array:
    """Uᵀ δu, summed over the gates: (B, G, H) -> (B, P)."""
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
    """The recursion: δz of every step from what the output sends into every step, (T, B, P)."""
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
    return Deltas(dz, du, dhs, dh_out)


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
