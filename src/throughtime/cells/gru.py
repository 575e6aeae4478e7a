"""Gated recurrent unit (Cho et al. 2014), in both forms of its reset gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from throughtime.arrays import Array
from throughtime.cells.description import GateSpec, OptionSpec, ParameterSpec, StateSpec
from throughtime.cells.recurrence import Cell
from throughtime.cells.tape import Kept, State, Tape
from throughtime.equations import sigmoid
from throughtime.functions import outer_sum, sigmoid_slope, tanh_slope, weight_gradient


@dataclass(frozen=True)
class GRU(Cell):
    """GRU layer.

    Parameters, rows gate by gate in the order r, z, n: `W (3H, I)`, `U (3H, H)`, `b (3H,)`; with
    `reset_after` also `c (H,)`, the candidate's recurrent bias. State: `h (B, H)`.

    Args:
        reset_after: True: n = tanh(W_n x + b_n + r ⊙ (U_n h_{t−1} + c)), as in cuDNN, PyTorch
            and Keras. False: n = tanh(W_n x + b_n + U_n (r ⊙ h_{t−1})), as published.

    Example:
        >>> from throughtime import GRU
        >>> GRU(3, 4).shapes()
        {'W': (12, 3), 'U': (12, 4), 'b': (12,), 'c': (4,)}
    """

    reset_after: bool = field(default=True, kw_only=True)

    gate_specs: ClassVar = (
        GateSpec("r", "reset", "sigmoid"),
        GateSpec("z", "update", "sigmoid"),
        GateSpec("n", "candidate", "tanh"),
    )
    parameter_specs: ClassVar = (*Cell.parameter_specs, ParameterSpec("c", ("H",), "reset_after"))
    state_specs: ClassVar = (StateSpec("h", "P", "zn"),)
    option_specs: ClassVar = (OptionSpec("reset_after", {"": True, "original": False}),)
    kept: ClassVar = ("r", "z", "n", "u_n")
    engine_number: ClassVar = 2

    @classmethod
    def kept_with(cls, *, reset_after: object = True, **options: object) -> tuple[str, ...]:
        return cls.kept if reset_after else ("r", "z", "n", "reset_h")

    @property
    def engine_options(self) -> dict[str, bool]:
        return {"reset_after": self.reset_after}

    def step(self, p: Mapping[str, Array], z_x: Array, state: State) -> tuple[State, Kept]:
        """h_t = (1 − z) ⊙ n + z ⊙ h_{t−1}."""
        h_before, H = state["h"], self.units
        x_r, x_z, x_n = np.split(z_x, 3, axis=-1)
        U_rz, U_n = np.split(p["U"], [2 * H])
        u_r, u_z = np.split(h_before @ U_rz.T, 2, axis=-1)
        r, z = sigmoid(x_r + u_r), sigmoid(x_z + u_z)
        if self.reset_after:
            u_n = h_before @ U_n.T + p["c"]
            n = np.tanh(x_n + r * u_n)
        else:
            reset_h = r * h_before
            n = np.tanh(x_n + reset_h @ U_n.T)
        h = (1 - z) * n + z * h_before
        kept = {"r": r, "z": z, "n": n}
        return {"h": h}, kept | ({"u_n": u_n} if self.reset_after else {"reset_h": reset_h})

    def step_backward(
        self, p: Mapping[str, Array], kept: Kept, before: State, dstate: State
    ) -> tuple[Array, State, State]:
        """From δh_t to δz = (δz_r, δz_z, δz_n) and δh_{t−1}."""
        r, z, n = kept["r"], kept["z"], kept["n"]
        h_before, dh, H = before["h"], dstate["h"], self.units
        U_n = p["U"][2 * H :]

        dn = dh * (1 - z)  # h = (1 − z) ⊙ n + z ⊙ h_{t−1}
        dz_n = dn * tanh_slope(n)
        dz_z = dh * (h_before - n) * sigmoid_slope(z)
        dh_before = dh * z  # term 1: the leak
        if self.reset_after:
            u_n = kept["u_n"]
            dr = dz_n * u_n
            dh_before = dh_before + (dz_n * r) @ U_n  # term 2: through the candidate
        else:
            dreset = dz_n @ U_n  # with respect to r ⊙ h_{t−1}
            dr = dreset * h_before
            dh_before = dh_before + dreset * r  # term 2: through the candidate
        dz_r = dr * sigmoid_slope(r)
        dz_rz = np.concatenate([dz_r, dz_z], axis=1)
        dh_before = dh_before + dz_rz @ p["U"][: 2 * H]  # terms 3 and 4: through r and z
        return np.concatenate([dz_rz, dz_n], axis=1), {"h": dh_before}, {"h": dh}

    def parameter_gradients(
        self, p: Mapping[str, Array], tape: Tape, deltas: Mapping[str, Array]
    ) -> dict[str, Array]:
        """δW = Σ δz_t x_tᵀ, δb = Σ δz_t; in δU and δc the candidate's part goes through r."""
        dz, h_before, r = deltas["z"], tape.states["h"][:-1], tape.kept["r"]
        dz_rz, dz_n = np.split(dz, [2 * self.units], axis=2)
        gradients = {"W": weight_gradient(dz, tape.inputs, self.inputs)}
        dU_n = outer_sum(dz_n * r, h_before) if self.reset_after else outer_sum(dz_n, r * h_before)
        gradients["U"] = np.concatenate([outer_sum(dz_rz, h_before), dU_n])
        gradients["b"] = dz.sum(axis=(0, 1))
        if self.reset_after:
            gradients["c"] = (dz_n * r).sum(axis=(0, 1))
        return gradients
