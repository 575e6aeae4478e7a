"""The vanilla recurrent network (Elman 1990): s_t = φ(W x_t + U s_{t−1} + b)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.cells.description import Activation, GateSpec, OptionSpec, StateSpec
from throughtime.cells.recurrence import Cell
from throughtime.cells.tape import Kept, State, Tape
from throughtime.equations import relu
from throughtime.functions import outer_sum, relu_slope, tanh_slope, weight_gradient


@dataclass(frozen=True)
class RNN(Cell):
    """Vanilla recurrent layer.

    Parameters: `W (H, I)`, `U (H, H)`, `b (H,)`. State: `h (B, H)`, which is also the output.

    Args:
        nonlinearity: φ, "tanh" or "relu".

    Example:
        >>> from throughtime import RNN
        >>> RNN(3, 4).shapes()
        {'W': (4, 3), 'U': (4, 4), 'b': (4,)}
    """

    nonlinearity: Literal["tanh", "relu"] = "tanh"

    gate_specs: ClassVar = (GateSpec("s", "candidate", "tanh"),)
    state_specs: ClassVar = (StateSpec("h", "P", "s"),)
    option_specs: ClassVar = (OptionSpec("nonlinearity", {"tanh": "tanh", "relu": "relu"}),)
    kept: ClassVar = ("s",)
    engine_number: ClassVar = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nonlinearity not in ("tanh", "relu"):
            refuse("nonlinearity", "'tanh' or 'relu'", repr(self.nonlinearity))

    @property
    def activations(self) -> dict[str, Activation]:
        return {"s": self.nonlinearity}

    @property
    def engine_options(self) -> dict[str, bool]:
        return {"relu": self.nonlinearity == "relu"}

    def step(self, p: Mapping[str, Array], z_x: Array, state: State) -> tuple[State, Kept]:
        """s_t = φ(z), z = W x_t + b + U s_{t−1}."""
        z = z_x + state["h"] @ p["U"].T
        s = np.tanh(z) if self.nonlinearity == "tanh" else relu(z)
        return {"h": s}, {"s": s}

    def step_backward(
        self, p: Mapping[str, Array], kept: Kept, before: State, dstate: State
    ) -> tuple[Array, State, State]:
        """δz = δs ⊙ φ′(z), δs_{t−1} = Uᵀ δz."""
        s, ds = kept["s"], dstate["h"]
        dz = ds * (tanh_slope(s) if self.nonlinearity == "tanh" else relu_slope(s))
        return dz, {"h": dz @ p["U"]}, {"h": ds}

    def parameter_gradients(
        self, p: Mapping[str, Array], tape: Tape, deltas: Mapping[str, Array]
    ) -> dict[str, Array]:
        """δW = Σ δz_t x_tᵀ, δU = Σ δz_t s_{t−1}ᵀ, δb = Σ δz_t."""
        dz = deltas["z"]
        return {
            "W": weight_gradient(dz, tape.inputs, self.inputs),
            "U": outer_sum(dz, tape.states["h"][:-1]),
            "b": dz.sum(axis=(0, 1)),
        }
