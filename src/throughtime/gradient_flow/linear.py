"""A cell's step as the linear map that it is for gradients and for small changes.

What a step does to a gradient is a product with U and, before it, products with numbers that do
not depend on that gradient: gates and slopes of the forward pass. Here those numbers are worked
out once for all steps, so that the gradients of many losses can pass through a step side by
side, as rows (n, B, ·), and so that a step's Jacobian can be written out.

`vjp` is δs_t -> δs_{t−1}, `jvp` its transpose, ds_{t−1} -> ds_t. Both are tested against the
cells' own `step_backward`, and against each other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
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
    relu_slope,
    sigmoid_slope,
    tanh_slope,
)

Steps: TypeAlias = int | slice | Array  # one step for all rows, or one for each row
Edges: TypeAlias = Literal["all", "carry", "rest"]


class Linear(ABC):
    """The derivative of every step of one run of a cell.

    Attributes:
        carry: (T, B, H), the factor of the direct path from a state to the one before it, past
            all gates' inputs: the forget gate of an LSTM, z of a GRU; None for an RNN.
        carried: the part of the state that takes it, "c" or "h".
        sizes: of the parts of the state.
        steps, batch: T and B.
    """

    carried: ClassVar[str] = "h"
    carry: Array | None = None

    def __init__(self, cell: Cell, p: Mapping[str, Array], tape: Tape) -> None:
        self.cell, self.p, self.active = cell, p, tape.active
        self.sizes = cell.state_sizes
        self.dtype = p["U"].dtype
        self.steps, self.batch = tape.inputs.shape[:2]

    @abstractmethod
    def vjp(self, at: Steps, later: State, edges: Edges = "all") -> tuple[dict[str, Array], State]:
        """Rows of gradients one step back.

        Args:
            at: the step, or the step of each row.
            later: gradient with respect to the state after it, as far as it comes from outside
                this step: (n, B, ·) a part.
            edges: which paths to the state before it count: the carry, the rest, or all.

        Returns:
            "h", "c", "z": the full gradient with respect to the state after the step and its
            pre-activations; and that with respect to the state before it.
        """

    @abstractmethod
    def jvp(self, at: int, change: State) -> State:
        """A small change of the state before a step, (n, B, ·) a part -> of the one after."""

    def _slopes(self, coefficients: list[Array]) -> Array:
        """(T, B, gates, H) in C order; 0 beyond a sequence's length, where nothing is kept."""
        return self._within(np.stack(coefficients, axis=2))

    def _within(self, array: Array) -> Array:
        """0 beyond a sequence's length."""
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
    """The published GRU: the candidate sees U_n (r ⊙ h_{t−1}), so that δz_r waits for U_nᵀ δz_n."""

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
    """Of a cell that has no form of its own here: by the cell's `step_backward`, row by row."""

    def __init__(self, cell: Cell, p: Mapping[str, Array], tape: Tape) -> None:
        super().__init__(cell, p, tape)
        self.tape = tape

    def vjp(self, at: Steps, later: State, edges: Edges = "all") -> tuple[dict[str, Array], State]:
        rows = later["h"].shape[:2]

        def side_by_side(array: Array) -> Array:
            """(T, B, N) -> what the rows see of it, (n·B, N)."""
            seen = np.broadcast_to(array[at], (*rows, array.shape[2]))
            return seen.reshape(-1, array.shape[2])

        dz, dbefore, dafter = self.cell.step_backward(
            self.p,
            {name: side_by_side(array) for name, array in self.tape.kept.items()},
            {name: side_by_side(array[:-1]) for name, array in self.tape.states.items()},
            {name: array.reshape(-1, array.shape[2]) for name, array in later.items()},
        )
        active = np.True_ if self.active is None else side_by_side(self.active)

        def apart(array: Array, beyond: Array | None = None) -> Array:
            """(n·B, N) -> (n, B, N), with something else beyond a sequence's length."""
            zero = array.dtype.type(0)
            own = active.reshape(*rows, 1) if active.ndim else active
            return np.where(own, array.reshape(*rows, -1), zero if beyond is None else beyond)

        deltas = {name: apart(array, later[name]) for name, array in dafter.items()}
        if edges == "carry":
            before = {name: np.zeros_like(array) for name, array in later.items()}
        else:
            before = {name: apart(array) for name, array in dbefore.items()}
        return deltas | {"z": apart(dz)}, before

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
    """(n, B, G·H) times (G·H, H) as one product of matrices."""
    product: Array = (rows.reshape(-1, rows.shape[-1]) @ U).reshape(*rows.shape[:-1], U.shape[1])
    return product
