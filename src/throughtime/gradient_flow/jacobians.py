"""The derivative of a cell's step: as a linear map of gradients, and as a matrix.

What a step does to a gradient is a product with U, preceded by products with numbers that do not
depend on that gradient: gates and slopes of the forward pass. Here those numbers are computed once
for all steps, so that the gradients of many losses can pass through a step side by side, as rows
(n, B, ·), and so that a step's Jacobian can be written out.

`Linear.vjp` takes δs_t to δs_{t−1}; `Linear.jvp`, its transpose, takes ds_{t−1} to ds_t. Both are
tested against the cells' own `step_backward`, and against each other.

The Jacobian ∂s_t/∂s_{t−1} is that of the full state. The state of an LSTM is h *and* c: with c held
fixed, the carousel would be left out, and what remains forgets within a step, however open the
forget gates are. From it follow singular values and the Lyapunov spectrum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import (
    GRU,
    LSTM,
    RNN,
    Cell,
    State,
    Tape,
    input_gradient,
    relu_slope,
    sigmoid_slope,
    tanh_slope,
)
from throughtime.gradient_flow.tolerances import LYAPUNOV_CHECKPOINTS, LYAPUNOV_STEPS

Steps: TypeAlias = int | slice | Array  # one step for all rows, or one for each row
Edges: TypeAlias = Literal["all", "carry", "rest"]


class Linear(ABC):
    """The derivative of every step of one run of a cell.

    Attributes:
        carry: (T, B, H), the factor of the direct path from a state to the one before it, past
            all gates' inputs: the forget gate of an LSTM, z of a GRU; None for an RNN.
        carried: the part of the state that this path carries, "c" or "h".
        sizes: the sizes of the parts of the state.
        steps, batch: T and B.
    """

    carried: ClassVar[str] = "h"
    carry: Array | None = None

    def __init__(self, cell: Cell, p: Mapping[str, Array], tape: Tape) -> None:
        self.cell, self.p, self.active = cell, p, tape.active
        self.sizes = cell.state_sizes
        self.dtype = tape.states["h"].dtype
        self.steps, self.batch = tape.inputs.shape[:2]

    @abstractmethod
    def vjp(self, at: Steps, later: State, edges: Edges = "all") -> tuple[dict[str, Array], State]:
        """Takes rows of gradients one step back: a vector-Jacobian product for each.

        Args:
            at: the step, or the step of each row.
            later: gradient with respect to the state after the step, as far as it comes from
                outside this step: (n, B, ·) for each part.
            edges: the paths to the state before the step that count: the carry, the rest, or all.

        Returns:
            "h", "c", "z": the full gradient with respect to the state after the step and to its
            pre-activations; and the gradient with respect to the state before the step.
        """

    @abstractmethod
    def jvp(self, at: int, change: State) -> State:
        """Takes a small change of the state before a step, (n, B, ·) for each part, to after it."""

    def to_inputs(self, at: Steps, dz: Array) -> Array:
        """δx of rows, (n, B, I), from what `vjp` gives as their "z"."""
        return input_gradient(dz, self.p["W"])

    def _slopes(self, coefficients: list[Array]) -> Array:
        """(T, B, gates, H) in C order; 0 beyond a sequence's length, where nothing is kept."""
        return self._within(np.stack(coefficients, axis=2))

    def _within(self, array: Array) -> Array:
        """The array with zeros beyond each sequence's length."""
        if self.active is None:
            return array
        active = self.active.reshape(self.active.shape[:2] + (1,) * (array.ndim - 2))
        return np.where(active, array, array.dtype.type(0))


class LinearRNN(Linear):
    """δz = δs ⊙ φ′(z), δs_{t−1} = Uᵀ δz."""

    def __init__(self, cell: RNN, p: Mapping[str, Array], tape: Tape) -> None:
        super().__init__(cell, p, tape)
        s = tape.kept["s"]
        slope = tanh_slope(s) if cell.nonlinearity == "tanh" else relu_slope(s)
        self.slope = self._within(slope)

    def vjp(self, at: Steps, later: State, edges: Edges = "all") -> tuple[dict[str, Array], State]:
        dz = later["h"] * self.slope[at]
        before = np.zeros_like(dz) if edges == "carry" else _product(dz, self.p["U"])
        return {"h": later["h"], "z": dz}, {"h": before}

    def jvp(self, at: int, change: State) -> State:
        return {"h": (change["h"] @ self.p["U"].T) * self.slope[at]}


class LinearLSTM(Linear):
    """δc = δc_later + δm ⊙ β, δz = (δc ⊙ γ_i, δc ⊙ γ_f, δc ⊙ γ_a, δm ⊙ γ_o),
    δc_{t−1} = δc ⊙ (f + peepholes), δh_{t−1} = Uᵀ δz, where m = o ⊙ tanh c."""

    carried: ClassVar[str] = "c"

    def __init__(self, cell: LSTM, p: Mapping[str, Array], tape: Tape) -> None:
        super().__init__(cell, p, tape)
        i, f, a, o, tanh_c = (tape.kept[name] for name in ("i", "f", "a", "o", "tanh_c"))
        gamma_i = a * sigmoid_slope(i)
        gamma_f = tape.states["c"][:-1] * sigmoid_slope(f)
        gamma_a = i * tanh_slope(a)
        gamma_o = tanh_c * sigmoid_slope(o)
        self.gamma = self._slopes([gamma_i, gamma_f, gamma_a])
        self.gamma_o = self._within(gamma_o)
        self.beta = self._within(o * tanh_slope(tanh_c))  # ∂m/∂c at fixed gates
        self.carry = self._within(f)
        self.peep: Array | None = None  # c_{t−1} -> c_t through the peepholes of i and f
        if cell.peepholes:
            p_i, p_f, p_o = np.split(p["p"], 3)
            self.peep = self._within(gamma_i * p_i + gamma_f * p_f)
            self.beta = self.beta + self.gamma_o * p_o

    def vjp(self, at: Steps, later: State, edges: Edges = "all") -> tuple[dict[str, Array], State]:
        dh, H = later["h"], self.cell.units
        dm = _product(dh, self.p["R"]) if "R" in self.p else dh
        dc = later["c"] + dm * self.beta[at]
        dz = np.empty((*dc.shape[:-1], 4, H), dc.dtype)
        np.multiply(dc[..., None, :], self.gamma[at], out=dz[..., :3, :])
        np.multiply(dm, self.gamma_o[at], out=dz[..., 3, :])
        dz = dz.reshape(*dc.shape[:-1], 4 * H)
        before = {"h": np.zeros_like(dh), "c": np.zeros_like(dc)}
        if edges != "rest":
            assert self.carry is not None
            before["c"] = dc * self.carry[at]
        if edges != "carry":
            before["h"] = _product(dz, self.p["U"])
            if self.peep is not None:
                before["c"] = before["c"] + dc * self.peep[at]
        return {"h": dh, "c": dc, "z": dz}, before

    def jvp(self, at: int, change: State) -> State:
        assert self.carry is not None
        z = (change["h"] @ self.p["U"].T).reshape(*change["c"].shape[:-1], 4, self.cell.units)
        c = (z[..., :3, :] * self.gamma[at]).sum(axis=-2) + change["c"] * self.carry[at]
        if self.peep is not None:
            c = c + change["c"] * self.peep[at]
        m = z[..., 3, :] * self.gamma_o[at] + c * self.beta[at]
        return {"h": m @ self.p["R"].T if "R" in self.p else m, "c": c}


class LinearGRU(Linear):
    """δz = δh ⊙ (ρ, ζ, ν), δh_{t−1} = δh ⊙ z + Uᵀ (δz_r, δz_z, r ⊙ δz_n): all factors of δh."""

    def __init__(self, cell: GRU, p: Mapping[str, Array], tape: Tape) -> None:
        super().__init__(cell, p, tape)
        r, z, n = (tape.kept[name] for name in ("r", "z", "n"))
        nu = (1 - z) * tanh_slope(n)
        zeta = (tape.states["h"][:-1] - n) * sigmoid_slope(z)
        rho = nu * tape.kept["u_n"] * sigmoid_slope(r)
        self.to_z = self._slopes([rho, zeta, nu])
        self.to_u = self._slopes([rho, zeta, nu * r])
        self.carry = self._within(z)

    def vjp(self, at: Steps, later: State, edges: Edges = "all") -> tuple[dict[str, Array], State]:
        assert self.carry is not None
        dh = later["h"]
        shape = (*dh.shape[:-1], 3 * self.cell.units)
        dz = (dh[..., None, :] * self.to_z[at]).reshape(shape)
        before = np.zeros_like(dh)
        if edges != "rest":
            before = dh * self.carry[at]
        if edges != "carry":
            du = (dh[..., None, :] * self.to_u[at]).reshape(shape)
            before = before + _product(du, self.p["U"])
        return {"h": dh, "z": dz}, {"h": before}

    def jvp(self, at: int, change: State) -> State:
        assert self.carry is not None
        h = change["h"]
        u = (h @ self.p["U"].T).reshape(*h.shape[:-1], 3, self.cell.units)
        return {"h": h * self.carry[at] + (u * self.to_u[at]).sum(axis=-2)}


class LinearOriginalGRU(Linear):
    """The GRU as published: the candidate sees U_n (r ⊙ h_{t−1}), so δz_r needs U_nᵀ δz_n first."""

    def __init__(self, cell: GRU, p: Mapping[str, Array], tape: Tape) -> None:
        super().__init__(cell, p, tape)
        r, z, n = (tape.kept[name] for name in ("r", "z", "n"))
        h = tape.states["h"][:-1]
        self.nu = self._within((1 - z) * tanh_slope(n))
        self.zeta = self._within((h - n) * sigmoid_slope(z))
        self.rho = self._within(h * sigmoid_slope(r))
        self.r = self._within(r)
        self.carry = self._within(z)
        self.U_rz, self.U_n = p["U"][: 2 * cell.units], p["U"][2 * cell.units :]

    def vjp(self, at: Steps, later: State, edges: Edges = "all") -> tuple[dict[str, Array], State]:
        assert self.carry is not None
        dh = later["h"]
        dz_n = dh * self.nu[at]
        dreset = _product(dz_n, self.U_n)  # with respect to r ⊙ h_{t−1}
        dz_rz = np.concatenate([dreset * self.rho[at], dh * self.zeta[at]], axis=-1)
        before = np.zeros_like(dh)
        if edges != "rest":
            before = dh * self.carry[at]
        if edges != "carry":
            before = before + dreset * self.r[at] + _product(dz_rz, self.U_rz)
        return {"h": dh, "z": np.concatenate([dz_rz, dz_n], axis=-1)}, {"h": before}

    def jvp(self, at: int, change: State) -> State:
        assert self.carry is not None
        h = change["h"]
        u_r, u_z = np.split(h @ self.U_rz.T, 2, axis=-1)
        reset = u_r * self.rho[at] + h * self.r[at]
        n = (reset @ self.U_n.T) * self.nu[at]
        return {"h": h * self.carry[at] + u_z * self.zeta[at] + n}


class LinearByStep(Linear):
    """For a cell without a linear form of its own here: its `step_backward`, row by row."""

    def __init__(self, cell: Cell, p: Mapping[str, Array], tape: Tape) -> None:
        super().__init__(cell, p, tape)
        self.tape = tape

    def vjp(self, at: Steps, later: State, edges: Edges = "all") -> tuple[dict[str, Array], State]:
        rows = later["h"].shape[:2]
        kept, before_step = self._seen(at, rows)
        dz, dbefore, dafter = self.cell.step_backward(
            self.p,
            kept,
            before_step,
            {name: array.reshape(-1, array.shape[2]) for name, array in later.items()},
        )
        active = np.True_ if self.active is None else _side_by_side(self.active, at, rows)

        def apart(array: Array, beyond: Array | None = None) -> Array:
            """(n, B, N) from (n·B, N), with other numbers beyond a sequence's length."""
            zero = array.dtype.type(0)
            own = active.reshape(*rows, 1) if active.ndim else active
            return np.where(own, array.reshape(*rows, -1), zero if beyond is None else beyond)

        deltas = {name: apart(array, later[name]) for name, array in dafter.items()}
        if edges == "carry":
            before = {name: np.zeros_like(array) for name, array in later.items()}
        else:
            before = {name: apart(array) for name, array in dbefore.items()}
        return deltas | {"z": apart(dz)}, before

    def to_inputs(self, at: Steps, dz: Array) -> Array:
        rows = dz.shape[:2]
        kept, before = self._seen(at, rows)
        tape = Tape(
            np.empty((1, dz.shape[0] * dz.shape[1], self.cell.inputs), self.dtype),
            {name: np.stack([array, array]) for name, array in before.items()},
            {name: array[None] for name, array in kept.items()},
            None,
        )
        dx = self.cell.input_gradient(self.p, tape, {"z": dz.reshape(1, -1, dz.shape[2])})
        return dx.reshape(*rows, -1)

    def _seen(self, at: Steps, rows: tuple[int, ...]) -> tuple[State, State]:
        """What the rows see of kept values, and of the state before the step, each (n·B, N)."""
        kept = {n: _side_by_side(array, at, rows) for n, array in self.tape.kept.items()}
        states = self.tape.states.items()
        return kept, {n: _side_by_side(array[:-1], at, rows) for n, array in states}

    def jvp(self, at: int, change: State) -> State:
        """By the step's Jacobian, whose rows are the gradients of each part of the new state."""
        size = sum(self.sizes.values())
        places = np.cumsum(list(self.sizes.values()))[:-1]
        eye = np.repeat(np.eye(size, dtype=self.dtype)[:, None], self.batch, axis=1)
        _, before = self.vjp(at, dict(zip(self.sizes, np.split(eye, places, axis=2), strict=True)))
        rows = np.concatenate([before[name] for name in self.sizes], axis=2)  # (after, B, before)
        moved = np.concatenate([change[name] for name in self.sizes], axis=2)
        after = np.einsum("kbs,nbs->nbk", rows, moved)
        return dict(zip(self.sizes, np.split(after, places, axis=2), strict=True))


def _side_by_side(array: Array, at: Steps, rows: tuple[int, ...]) -> Array:
    """(n·B, N), what the rows (n, B) see of an array (T, B, N)."""
    return np.broadcast_to(array[at], (*rows, array.shape[2])).reshape(-1, array.shape[2])


def linear(cell: Cell, p: Mapping[str, Array], tape: Tape) -> Linear:
    """The derivative of every step of the tape."""
    if isinstance(cell, RNN):
        return LinearRNN(cell, p, tape)
    if isinstance(cell, LSTM):
        return LinearLSTM(cell, p, tape)
    if isinstance(cell, GRU):
        return (LinearGRU if cell.reset_after else LinearOriginalGRU)(cell, p, tape)
    return LinearByStep(cell, p, tape)


def _product(rows: Array, U: Array) -> Array:
    """(n, B, G·H) times (G·H, H), as one product of matrices."""
    product: Array = (rows.reshape(-1, rows.shape[-1]) @ U).reshape(*rows.shape[:-1], U.shape[1])
    return product


@dataclass(frozen=True)
class Lyapunov:
    """Mean growth per step of small changes of a layer's state, direction by direction.

    Attributes:
        exponents: (q,) descending, in nats per step: a change grows as exp(exponent · steps).
            Above 0: exploding; −ln 2 / exponent: the half-life.
        spread: (q,) standard deviation over sequences; 0 where there is one.
        convergence: (checkpoints, q): the running estimate after `steps` steps.
        steps: (checkpoints,).
    """

    exponents: Array
    spread: Array
    convergence: Array = field(repr=False)
    steps: Array = field(repr=False)

    @property
    def half_life(self) -> float:
        """Steps after which the longest-lived change is halved; infinite if it grows."""
        first = float(self.exponents[0])
        return float(-np.log(2) / first) if first < 0 else np.inf

    @property
    def drift(self) -> float:
        """How far the first exponent moved in the second half of the run; NaN if it is −∞."""
        half = self.convergence[(len(self.convergence) - 1) // 2]
        with np.errstate(invalid="ignore"):
            return float(abs(half[0] - self.exponents[0]))


def jacobian(one: Linear, step: int) -> Array:
    """J = ∂s_t/∂s_{t−1}, (B, n, n), over all parts of the state, h first.

    Rows belong to the state after the step, columns to the state before it. What is taken one step
    back is the identity's rows: eᵢᵀ J is the gradient of sᵢ.
    """
    eye = np.eye(sum(one.sizes.values()), dtype=one.dtype)
    _, before = one.vjp(step, _state(one, np.repeat(eye[:, None], one.batch, axis=1)))
    return _joined(before).transpose(1, 0, 2)


def singular_values(one: Linear, samples: int, lengths: Array) -> Array:
    """Those of J at `samples` evenly spread steps, each of another sequence: (samples, n)."""
    T = one.steps
    steps = np.unique(np.linspace(0, T - 1, min(samples, T)).astype(int))
    found = []
    for number, t in enumerate(steps):
        living = np.flatnonzero(lengths > t)
        if len(living):
            J = jacobian(one, int(t))[living[number % len(living)]]
            found.append(np.linalg.svd(J, compute_uv=False))
    return np.array(found)


def lyapunov(
    one: Linear, lengths: Array, count: int, transient: int, rng: np.random.Generator
) -> Lyapunov:
    """The first `count` exponents, by QR (Benettin et al. 1980; Engelken et al. 2023).

    Directions are taken *forwards* in time, Q_t R_t = J_t Q_{t−1}: products in the other order have
    the same singular values only in the limit, and their QR does not settle on the same directions.
    The first `transient` steps only turn the directions, and do not count.
    """
    T, batch = min(one.steps, LYAPUNOV_STEPS), one.batch
    size = sum(one.sizes.values())
    count = min(count, size)
    start = rng.standard_normal((batch, size, count))
    Q = np.linalg.qr(start)[0].astype(one.dtype)
    sums, steps = np.zeros((batch, count)), np.zeros(batch)
    checkpoints = min(LYAPUNOV_CHECKPOINTS, T - transient)
    marks = np.unique(np.linspace(transient + 1, T, checkpoints).astype(int))
    convergence = []
    for t in range(T):
        living = lengths > t
        moved = one.jvp(t, _state(one, Q.transpose(2, 0, 1)))
        new, R = np.linalg.qr(_joined(moved).transpose(1, 2, 0)[living])
        Q[living] = new
        if t >= transient:
            with np.errstate(divide="ignore"):
                stretch = np.abs(np.diagonal(R, axis1=1, axis2=2)).astype(np.float64)
                sums[living] += np.log(stretch)
            steps[living] += 1
        if t + 1 in marks:
            convergence.append(_mean(sums, steps))
    used = steps > 0
    each = sums[used] / steps[used, None]
    mean = _mean(sums, steps)
    order = np.argsort(-mean)
    finite = np.where(np.isfinite(each), each, np.nan)
    spread = finite.std(axis=0)[order]
    return Lyapunov(mean[order], spread, np.array(convergence)[:, order], marks)


def _mean(sums: Array, steps: Array) -> Array:
    used = steps > 0
    return np.asarray((sums[used] / steps[used, None]).mean(axis=0))


def _state(one: Linear, rows: Array) -> State:
    """Splits (n, B, all parts) by part of the state."""
    places = np.cumsum(list(one.sizes.values()))[:-1]
    return dict(zip(one.sizes, np.split(rows, places, axis=2), strict=True))


def _joined(state: State) -> Array:
    return np.concatenate(list(state.values()), axis=2)
