"""Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from throughtime.arrays import Array, positive, real, sizes
from throughtime.cells.description import (
    SOME_SIZE,
    GateSpec,
    OptionSpec,
    ParameterSpec,
    StateSpec,
)
from throughtime.cells.recurrence import Cell
from throughtime.cells.tape import Kept, State, Tape
from throughtime.equations import sigmoid
from throughtime.functions import outer_sum, sigmoid_slope, tanh_slope, weight_gradient


@dataclass(frozen=True)
class LSTM(Cell):
    """LSTM layer.

    Parameters, rows gate by gate in the order i, f, a, o: `W (4H, I)`, `U (4H, H)`, `b (4H,)`;
    with peepholes `p (3H,)`, in the order i, f, o; with a projection to P outputs `R (P, H)`,
    and then `U (4H, P)`. State: `h (B, H)` or `(B, P)`, and `c (B, H)`.

    Args:
        peepholes: the gates also see the cell state (Gers and Schmidhuber 2000).
        projection: P, the size of h where it is not H (Sak et al. 2014).
        forget_bias: the forget gate's bias at initialisation; 1 lets gradients through c pass
            from the start (Jozefowicz et al. 2015).
        chrono: longest dependency expected, in steps; initialises b_f to log u with u uniform
            in 1 … chrono − 1, and b_i to −b_f (Tallec and Ollivier 2018), in place of
            `forget_bias`.

    Example:
        >>> from throughtime import LSTM
        >>> LSTM(3, 4, peepholes=True).shapes()
        {'W': (16, 3), 'U': (16, 4), 'b': (16,), 'p': (12,)}
    """

    peepholes: bool = field(default=False, kw_only=True)
    projection: int | None = field(default=None, kw_only=True)
    forget_bias: float = field(default=1.0, kw_only=True)
    chrono: int | None = field(default=None, kw_only=True)

    gate_specs: ClassVar = (
        GateSpec("i", "input", "sigmoid"),
        GateSpec("f", "forget", "sigmoid"),
        GateSpec("a", "candidate", "tanh"),
        GateSpec("o", "output", "sigmoid"),
    )
    parameter_specs: ClassVar = (
        *Cell.parameter_specs,
        ParameterSpec("p", ("3H",), "peepholes"),
        ParameterSpec("R", ("P", "H"), "projection"),
    )
    state_specs: ClassVar = (StateSpec("h", "P", "o"), StateSpec("c", "H", "ifa"))
    option_specs: ClassVar = (
        OptionSpec("peepholes", {"": False, "peepholes": True}),
        OptionSpec("projection", {"": None, "projection": SOME_SIZE}),
    )
    kept: ClassVar = ("i", "f", "a", "o", "tanh_c")
    engine_number: ClassVar = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.projection is not None:
            sizes(self, "projection")
        if self.chrono is not None:
            object.__setattr__(self, "chrono", positive("chrono", self.chrono, at_least=3))
        object.__setattr__(self, "forget_bias", real("forget_bias", self.forget_bias))

    @property
    def output_size(self) -> int:
        return self.projection or self.units

    @property
    def engine_options(self) -> dict[str, bool]:
        return {"peepholes": self.peepholes, "projection": self.projection is not None}

    def initialise(self, p: Mapping[str, Array], rng: np.random.Generator) -> None:
        super().initialise(p, rng)
        b_i, b_f, _, _ = np.split(p["b"], 4)
        b_f[...] = self.forget_bias
        if self.chrono is not None:
            b_f[...] = np.log(rng.uniform(1, self.chrono - 1, self.units))
            b_i[...] = -b_f

    def step(self, p: Mapping[str, Array], z_x: Array, state: State) -> tuple[State, Kept]:
        """z = W x + b + U h_{t−1}; c_t = i ⊙ a + f ⊙ c_{t−1}; h_t = o ⊙ tanh c_t."""
        h_before, c_before = state["h"], state["c"]
        z_i, z_f, z_a, z_o = np.split(z_x + h_before @ p["U"].T, 4, axis=-1)
        if self.peepholes:
            p_i, p_f, p_o = np.split(p["p"], 3)
            z_i, z_f = z_i + p_i * c_before, z_f + p_f * c_before
        i, f, a = sigmoid(z_i), sigmoid(z_f), np.tanh(z_a)
        c = i * a + f * c_before
        if self.peepholes:
            z_o = z_o + p_o * c
        o = sigmoid(z_o)
        tanh_c = np.tanh(c)
        m = o * tanh_c
        h = m @ p["R"].T if self.projection else m
        return {"h": h, "c": c}, {"i": i, "f": f, "a": a, "o": o, "tanh_c": tanh_c}

    def step_backward(
        self, p: Mapping[str, Array], kept: Kept, before: State, dstate: State
    ) -> tuple[Array, State, State]:
        """From δh_t and the part of δc_t that comes from step t + 1 to δz, δh_{t−1}, δc_{t−1}."""
        i, f, a, o, tanh_c = (kept[name] for name in ("i", "f", "a", "o", "tanh_c"))
        dh, dc = dstate["h"], dstate["c"]
        dm = dh @ p["R"] if self.projection else dh

        do = dm * tanh_c  # h = o ⊙ tanh c
        dz_o = do * sigmoid_slope(o)
        dc = dc + dm * o * tanh_slope(tanh_c)  # term 1: from step t + 1; term 2: through h_t
        if self.peepholes:
            p_i, p_f, p_o = np.split(p["p"], 3)
            dc = dc + dz_o * p_o  # term 3: the output gate sees c_t

        di = dc * a  # c = i ⊙ a + f ⊙ c_{t−1}
        da = dc * i
        df = dc * before["c"]
        dz_i = di * sigmoid_slope(i)
        dz_f = df * sigmoid_slope(f)
        dz_a = da * tanh_slope(a)

        dc_before = dc * f  # the error carousel
        if self.peepholes:
            dc_before = dc_before + dz_i * p_i + dz_f * p_f
        dz = np.concatenate([dz_i, dz_f, dz_a, dz_o], axis=1)
        dh_before = dz @ p["U"]  # Uᵀ δz: the sum over the four gates
        return dz, {"h": dh_before, "c": dc_before}, {"h": dh, "c": dc}

    def parameter_gradients(
        self, p: Mapping[str, Array], tape: Tape, deltas: Mapping[str, Array]
    ) -> dict[str, Array]:
        """δW = Σ δz_t x_tᵀ, δU = Σ δz_t h_{t−1}ᵀ, δb = Σ δz_t, and the options' own."""
        dz, h, c = deltas["z"], tape.states["h"], tape.states["c"]
        gradients = {
            "W": weight_gradient(dz, tape.inputs, self.inputs),
            "U": outer_sum(dz, h[:-1]),
            "b": dz.sum(axis=(0, 1)),
        }
        if self.peepholes:
            dz_i, dz_f, _, dz_o = np.split(dz, 4, axis=2)
            terms = [dz_i * c[:-1], dz_f * c[:-1], dz_o * c[1:]]  # i and f see c_{t−1}, o sees c_t
            gradients["p"] = np.concatenate(terms, axis=2).sum(axis=(0, 1))
        if self.projection:
            m = tape.kept["o"] * tape.kept["tanh_c"]
            gradients["R"] = outer_sum(deltas["h"], m)
        return gradients
