"""The cells as people write them, in all their variants, and the walk through time that they share.

Every call of `intervene` is a place where backward passes go wrong. One layer is walked in one
direction: time is that direction's own, which runs the other way in the second direction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import relu_slope, sigmoid, sigmoid_slope, tanh_slope
from throughtime.diagnosis.mutants.interventions import Interventions
from throughtime.equations import relu


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
class MutantTape:
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

    In an LSTM these are ψ(c_t), ψ′(c_t), and c_{t−1} in δ of f and in δ of a coupled f. A GRU
    uses the last one alone, for h_{t−1} in δ of z.
    """

    slopes: Array
    m: Array
    bend: Array
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


class MutantCell(Protocol):
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

    def local(self, tape: MutantTape, intervene: Interventions) -> Local:
        """The part of every step's derivatives that does not depend on later steps."""

    def step_back(
        self,
        w: Weights,
        tape: MutantTape,
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

    def candidate_operand(self, tape: MutantTape, steps: Array, h: Array) -> dict[int, Array]:
        """By gate, what U multiplies in the forward pass, where it is not h_{t−1}."""


def forward(cell: MutantCell, w: Weights, x: Array, h: Array, c: Array) -> MutantTape:
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
    return MutantTape(x, *map(np.array, (hs, cs, vs, us, ms)))


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
    cell: MutantCell,
    w: Weights,
    tape: MutantTape,
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
    sent: list[tuple[Array, Array]] = []  # back to the step before, by each step so far
    for t in intervene("order", range(T)[::-1]):
        dh_next, dc_next = intervene("carried", (dh_next, dc_next), t=t, T=T)
        dm = dhs[t] = intervene("dh", dh_out[t] + dh_next, out=dh_out[t], t=t, T=T)
        if w.R is not None:
            dm = intervene("dm", dm @ w.R, dh=dm, R=w.R)
        arrived = dh_next, dc_next
        dz[t], du[t], *back = cell.step_back(w, tape, local, steps[t], dm, dc_next, intervene)
        own = (back[0], back[1])
        dh_next, dc_next = intervene("handed_back", own, arrived=arrived, earlier=sent)
        sent.append(own)
    return Deltas(dz, du, dhs, dh_out, dh_next, dc_next)


def products(
    cell: MutantCell, w: Weights, tape: MutantTape, deltas: Deltas, intervene: Interventions
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
    for gate, operand in intervene("x_of_gates", {}, tape=tape).items():
        W[gate] = outer(deltas.z[:, :, gate], operand, keep["W"])
    u = intervene("delta_u", deltas.u, z=deltas.z)
    U = outer(u.reshape(T, B, G * H), h, keep["U"]).reshape(G, H, -1)
    operands = cell.candidate_operand(tape, steps, h)
    for gate, operand in intervene("candidate", operands, tape=tape, h=h).items():
        U[gate] = outer(u[:, :, gate], operand, keep["U"])
    b = biases(deltas, intervene)
    c = np.einsum("tbgh,tb->gh", deltas.u, keep["c"])
    p = np.zeros((G, H))
    if cell.peepholes:
        before, now = tape.c[:-1][steps, :, None], tape.c[1:][steps, :, None]
        before = intervene("c_of_peepholes", before, now=now)
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


class Quantities:
    """What stands in a step of the backward pass, each passed through an intervention.

    Args:
        intervene: the interventions.
        values: the step's quantities by their names, from which a wrong one may be taken; computed
            only where an intervention asks for one.
    """

    def __init__(
        self, intervene: Interventions, values: Callable[[], Mapping[str, Array]] = dict
    ) -> None:
        self.touched = "quantity" in intervene.interventions
        self.intervene, self.values = intervene, values

    def __call__(self, of: str, part: str, value: Array, **more: Array) -> Array:
        """The value that stands at a site.

        Args:
            of: what is computed there, "δf" for one.
            part: which part of it: the operand that δ is multiplied with, δ itself, or a term.
            value: the right one.
            more: quantities that are known only there, by their names.
        """
        if not self.touched:
            return value

        def known(name: str) -> Array:
            return more[name] if name in more else self._known[name]

        wrong: Array = self.intervene("quantity", value, of=of, part=part, known=known)
        return wrong

    @cached_property
    def _known(self) -> Mapping[str, Array]:
        return self.values()


def biases(deltas: Deltas, intervene: Interventions) -> Array:
    """δb = Σ δz, (G, H)."""
    kept = intervene("kept_b", np.ones(deltas.z.shape[:2]))
    b: Array = np.einsum("tbgh,tb->gh", deltas.z, kept)
    return b


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": relu,
    "identity": lambda z: z,
}
SLOPES: dict[str, Callable[[Array], Array]] = {  # in terms of the activated value
    "tanh": tanh_slope,
    "sigmoid": sigmoid_slope,
    "relu": relu_slope,
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

    def local(self, tape: MutantTape, intervene: Interventions) -> Local:
        h = tape.h[:-1]
        return Local(_slopes(self.activations, tape, intervene), h, h, h, h)

    def step_back(
        self,
        w: Weights,
        tape: MutantTape,
        local: Local,
        s: int,
        dh: Array,
        dc: Array,
        intervene: Interventions,
    ) -> tuple[Array, Array, Array, Array]:
        dz = dh[:, None] * local.slopes[s]
        back = Quantities(intervene)("δh_{t−1}", "δ", dz, plain=dh[:, None])
        return dz, dz, recur_back(back, w.U), dc

    def candidate_operand(self, tape: MutantTape, steps: Array, h: Array) -> dict[int, Array]:
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

    def local(self, tape: MutantTape, intervene: Interventions) -> Local:
        c = intervene("cells", tape.c)
        m = ACTIVATIONS[self.squash](c[1:])
        bend = intervene("cell_slope", SLOPES[self.squash](m), m=m, tape=tape)
        before = intervene("c_before", c[:-1], now=c[1:])
        slopes = _slopes(self.activations, tape, intervene)
        return Local(slopes, m, bend, before, intervene("update", before))

    def step_back(
        self,
        w: Weights,
        tape: MutantTape,
        local: Local,
        s: int,
        dh: Array,
        dc: Array,
        intervene: Interventions,
    ) -> tuple[Array, Array, Array, Array]:
        v = tape.v[s]
        i, a, o = v[:, 0], v[:, -2], v[:, -1]
        f = 1 - i if self.coupled else v[:, 1]
        slopes = local.slopes[s]
        at = Quantities(
            intervene, lambda: self._values(tape, s, i, f, a, o) | self._beside(tape, s)
        )
        later = at("δc", "term of step t + 1", dc)
        own = at("δc", "term of δh", dh * at("δc", "o", o) * local.bend[s])
        dc = later + own
        if self.peepholes:
            dc = dc + at("δc", "term of p_o", w.p[-1] * dh * local.m[s] * slopes[:, -1])
        deltas = {"δh": dh, "δc": dc, "δc of step t + 1": later, "δh ⊙ o ⊙ ψ′(c_t)": own}
        operands = {"i": a, "a": i, "f": local.before[s], "o": local.m[s]}
        d = {
            gate: at(
                f"δ{gate}",
                "term",
                at(f"δ{gate}", "δ", dh if gate == "o" else dc, **deltas)
                * at(f"δ{gate}", "operand", operand),
            )
            for gate, operand in operands.items()
        }
        if self.coupled:
            d["i"] = d["i"] - at("δi", "term of f = 1 − i", dc * local.update[s])
        d = intervene("dgates", d)
        dz = np.empty_like(v)
        for k, gate in enumerate(self.gates):
            np.multiply(d[gate], slopes[:, k], out=dz[:, k])
        dc = at("δc_{t−1}", "δ", dc, **deltas) * at("δc_{t−1}", "f", f)
        if self.peepholes:
            back = w.p[:-2] * dz[:, :-2]
            for k, gate in enumerate(self.gates[:-2]):
                dc = dc + at("δc_{t−1}", f"term of p_{gate}", back[:, k])
        plain = np.stack([d[gate] for gate in self.gates], axis=1) if at.touched else dz
        return dz, dz, recur_back(at("δh_{t−1}", "δ", dz, plain=plain), w.U), dc

    def _beside(self, tape: MutantTape, s: int) -> dict[str, Array]:
        """f of the steps beside step s, by name; of step s itself where there is none."""
        steps = {"f_{t−1}": max(s - 1, 0), "f_{t+1}": min(s + 1, len(tape.v) - 1)}
        return {
            name: 1 - tape.v[k][:, 0] if self.coupled else tape.v[k][:, 1]
            for name, k in steps.items()
        }

    def _values(self, tape: MutantTape, s: int, *gates: Array) -> dict[str, Array]:
        """What an operand in step s may be taken for, by name."""
        i, f, a, o = gates
        before, now, psi = tape.c[s], tape.c[s + 1], ACTIVATIONS[self.squash]
        found = {"i": i, "f": f, "a": a, "o": o, "1": np.ones_like(i)}
        found |= {f"1 − {name}": 1 - found[name] for name in "ifo"}
        found |= {"c_t": now, "c_{t−1}": before, "ψ(c_t)": psi(now), "ψ(c_{t−1})": psi(before)}
        if tape.h[s].shape == now.shape:
            found |= {"h_t": tape.h[s + 1], "h_{t−1}": tape.h[s]}
        return found

    def candidate_operand(self, tape: MutantTape, steps: Array, h: Array) -> dict[int, Array]:
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

    def local(self, tape: MutantTape, intervene: Interventions) -> Local:
        h = tape.h[:-1]
        return Local(_slopes(self.activations, tape, intervene), h, h, h, intervene("update", h))

    def step_back(
        self,
        w: Weights,
        tape: MutantTape,
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
        at = Quantities(intervene, lambda: self._values(tape, s))
        apart = at("δz", "first operand", local.update[s]) - at("δz", "second operand", n)
        d = {
            "n": at("δn", "term", dh * at("δn", "operand", 1 - kept)),
            "z": at("δz", "term", sign * dh * at("δz", "operand", apart)),
        }
        dz_n = d["n"] * slopes[:, 2]
        if self.reset_after:
            du_n = dz_n * at("δh_{t−1} through n", "operand", r)
            d["r"] = at("δr", "δ", dz_n, **d) * at("δr", "operand", tape.u[s])
            through = du_n @ w.U[2]
        else:
            du_n = dz_n
            dreset = dz_n @ w.U[2]  # with respect to r ⊙ h_{t−1}
            d["r"] = at("δr", "δ", dreset, **d) * at("δr", "operand", h)
            through = dreset * at("δh_{t−1} through n", "operand", r)
        d["r"] = at("δr", "term", d["r"])
        dz_r, dz_z = d["r"] * slopes[:, 0], d["z"] * slopes[:, 1]
        back_r = at("δh_{t−1}", "δr", dz_r, plain=d["r"])
        back_z = at("δh_{t−1}", "δz", dz_z, plain=d["z"])
        gates = back_r @ w.U[0] + back_z @ w.U[1] + through
        direct = dh * at("δh_{t−1}", "share kept", kept)
        direct, gates = intervene("paths", (direct, gates))
        dz = np.stack([dz_r, dz_z, dz_n], axis=1)
        return dz, np.stack([dz_r, dz_z, du_n], axis=1), direct + gates, dc

    def _values(self, tape: MutantTape, s: int) -> dict[str, Array]:
        """What an operand in step s may be taken for, by name."""
        r, z, n = (tape.v[s][:, k] for k in range(3))
        found = {"r": r, "z": z, "n": n, "1": np.ones_like(r), "0": np.zeros_like(r)}
        found |= {"1 − r": 1 - r, "1 − z": 1 - z, "h_t": tape.h[s + 1], "h_{t−1}": tape.h[s]}
        found["r ⊙ h_{t−1}"] = r * tape.h[s]
        for name, k in (("z_{t−1}", max(s - 1, 0)), ("z_{t+1}", min(s + 1, len(tape.v) - 1))):
            found |= {name: tape.v[k][:, 1], f"1 − {name}": 1 - tape.v[k][:, 1]}
        return found | ({"U_n h_{t−1}": tape.u[s]} if self.reset_after else {})

    def candidate_operand(self, tape: MutantTape, steps: Array, h: Array) -> dict[int, Array]:
        return {} if self.reset_after else {2: tape.v[steps][:, :, 0] * h}


def _slopes(activations: tuple[str, ...], tape: MutantTape, intervene: Interventions) -> Array:
    """φ′ of every gate at every step, (T, B, G, H)."""
    v = tape.v
    slopes = np.stack([SLOPES[name](v[:, :, k]) for k, name in enumerate(activations)], axis=2)
    return intervene("slopes", slopes, v=v, tape=tape)  # type: ignore[no-any-return]
