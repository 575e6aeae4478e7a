"""A small live example: the real cell run forward and backward, and a numerical second opinion.

One sequence, a few steps, float64, L = Σ_t E_t with E_t = ½‖h_t − y_t‖². Weights, inputs,
targets and the state before the first step are drawn at random; none of them is 0, so that no
term of the gradient hides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.cells import GRU, LSTM, RNN, Cell, LocalGradients, Tape
from throughtime.engine_settings import engine
from throughtime.parameters import Parameters

# The numbers that decide.

# Of the differences: their error is of its sixth order, their rounding of order 1e-16 divided by
# it, and both are near 1e-13.
DIFFERENCE_STEP = 2.0**-8
# How far from 0 every ReLU's argument must stay, so that moving a number never crosses it.
KINK_DISTANCE = 0.05
# Relative, of a value from its numerical derivative, which itself is good to about 1e-12.
AGREES_WITHIN = 1e-9

EXAMPLE_CELLS: dict[str, Cell] = {
    "rnn": RNN(2, 2),
    "rnn relu": RNN(2, 2, "relu"),
    "lstm": LSTM(2, 2),
    "lstm peepholes": LSTM(2, 2, peepholes=True),
    "lstm projection": LSTM(2, 3, projection=2),
    "gru": GRU(2, 2),
    "gru original": GRU(2, 2, reset_after=False),
}

Nudge: TypeAlias = Callable[[str, int, Array], Array]
Forward: TypeAlias = Callable[[Mapping[str, Array], Array, Mapping[str, Array], Nudge], Array]


@dataclass(frozen=True)
class Example:
    """A cell, its numbers, and both ways to a gradient. The batch axis is left out everywhere.

    Attributes:
        cell: the real cell.
        p: its parameters by name.
        x, y: inputs (T, I) and targets (T, H).
        state: the state before the first step, by name, (H,).
        tape: of the real forward pass, (T, 1, ·).
        gradients: of the real backward pass.
        values: what both hand out, by the name that it has in the equations, (T, ·): the inner
            values "x", "h", "h_before" and those that the tape keeps; "δE" = ∂E_t/∂h_t; "δh",
            "δc", "δz", and δz gate by gate as "δz_i" and so on; "δx"; the gradients "δW", "δU",
            "δb" … in the parameter's shape; "δh_0" and "δc_0".
    """

    cell: Cell
    p: Parameters
    x: Array
    y: Array
    state: dict[str, Array]
    tape: Tape
    gradients: LocalGradients
    values: dict[str, Array]

    def __getitem__(self, name: str) -> Array:
        return self.values[name]

    @property
    def steps(self) -> int:
        """T."""
        return len(self.x)

    def errors(self, nudge: Nudge) -> Array:
        """E_1 … E_T of the plain forward pass, its inner values passed through `nudge`."""
        outputs = _plain(self.cell)(self.p, self.x, self.state, nudge)
        errors: Array = ((outputs - self.y) ** 2).sum(axis=1) / 2
        return errors

    def recorded(self) -> dict[str, Array]:
        """Every inner value of the plain forward pass by name, (T, …)."""
        return _record(self.cell, self.p, self.x, self.state)

    def terms(self, name: str) -> Array:
        """∂E_t/∂(the value at step k alone), numerically: (T losses, T steps, …)."""
        shape = self.recorded()[name].shape[1:]
        terms = np.zeros((self.steps, self.steps, *shape))
        for k in range(self.steps):
            for entry in np.ndindex(shape):
                terms[(slice(None), k, *entry)] = self._slope(name, k, entry)
        return terms

    def numerical(self, name: str) -> Array:
        """∂L/∂(the value at one step alone), numerically, for every step: (T, …)."""
        total: Array = self.terms(name).sum(axis=0)
        return total

    def numerical_at_all_steps(self, name: str) -> Array:
        """∂L/∂(a parameter): moved once, for the whole run."""
        shape = self.p[name].shape
        slopes = [self._slope(name, None, entry).sum() for entry in np.ndindex(shape)]
        return np.array(slopes).reshape(shape)

    def _slope(self, name: str, step: int | None, entry: tuple[int, ...]) -> Array:
        """∂E_t/∂(one entry), (T,).

        Central differences at h, 2h and 4h, combined so that their errors of second and fourth
        order cancel (Richardson 1911).
        """

        def central(by: float) -> Array:
            up, down = (partial(_moved, name, step, entry, sign * by) for sign in (1, -1))
            difference: Array = (self.errors(up) - self.errors(down)) / (2 * by)
            return difference

        h = DIFFERENCE_STEP
        slope: Array = (64 * central(h) - 20 * central(2 * h) + central(4 * h)) / 45
        return slope


def example(name: str, seed: int = 0, steps: int = 3) -> Example:
    """A small example of a cell.

    Args:
        name: "rnn", "rnn relu", "lstm", "lstm peepholes", "lstm projection", "gru" or
            "gru original".
        seed: of all numbers.
        steps: T.

    Example:
        >>> e = example("lstm")
        >>> do = e["δh"] * e["tanh_c"]
        >>> relative_difference(do, e.numerical("o")) < 1e-9
        True
    """
    if name not in EXAMPLE_CELLS:
        refuse("example", "one of " + ", ".join(EXAMPLE_CELLS), repr(name))
    cell, rng = EXAMPLE_CELLS[name], np.random.default_rng(seed)
    while True:
        p = Parameters(cell.shapes(), "float64")
        p.flat[...] = _apart_from_zero(rng, p.flat.shape)
        x = _apart_from_zero(rng, (steps, cell.inputs))
        y = _apart_from_zero(rng, (steps, cell.output_size))
        state = {k: _apart_from_zero(rng, (n,)) for k, n in cell.state_sizes.items()}
        if name != "rnn relu" or _differentiable(_record(cell, p, x, state)["z"]):
            return _run(cell, p, x, y, state)


def relative_difference(value: Array, numerical: Array) -> float:
    """‖value − numerical‖ / ‖numerical‖; 0 where both are exactly 0, infinite where one is."""
    if value.shape != numerical.shape:
        refuse("value", f"shape {numerical.shape}", value.shape)
    distance, norm = float(np.linalg.norm(value - numerical)), float(np.linalg.norm(numerical))
    if norm == 0:
        return math.inf if distance else 0.0
    return distance / norm


def _run(cell: Cell, p: Parameters, x: Array, y: Array, state: dict[str, Array]) -> Example:
    batch = {name: array[None] for name, array in state.items()}
    with engine("readable"):  # the code that is quoted is the code that runs
        outputs, _, tape = cell.forward(p, x[:, None], batch)
        gradients = cell.backward(p, tape, outputs - y[:, None])
    values = {"x": x, "δE": outputs[:, 0] - y}
    for name, states in tape.states.items():
        values |= {name: states[1:, 0], f"{name}_before": states[:-1, 0]}
    values |= {name: array[:, 0] for name, array in tape.kept.items()}
    values |= {f"δ{name}": array[:, 0] for name, array in gradients.deltas.items()}
    by_gate = np.split(values["δz"], len(cell.gates), axis=1)
    values |= {f"δz_{gate}": dz for gate, dz in zip(cell.gates, by_gate, strict=True)}
    values |= {f"δ{name}": array for name, array in gradients.parameters.items()}
    values |= {f"δ{name}_0": array[0] for name, array in gradients.state.items()}
    assert gradients.inputs is not None
    values["δx"] = gradients.inputs[:, 0]
    return Example(cell, p, x, y, state, tape, gradients, values)


def _plain(cell: Cell) -> Forward:
    if isinstance(cell, RNN):
        return partial(forward_rnn, relu=cell.nonlinearity == "relu")
    return forward_lstm if isinstance(cell, LSTM) else forward_gru


def _record(
    cell: Cell, p: Mapping[str, Array], x: Array, state: Mapping[str, Array]
) -> dict[str, Array]:
    seen: dict[str, list[Array]] = {}

    def note(name: str, t: int, value: Array) -> Array:
        seen.setdefault(name, []).append(value)
        return value

    _plain(cell)(p, x, state, note)
    return {name: np.stack(values) for name, values in seen.items()}


def _moved(
    name: str, step: int | None, entry: tuple[int, ...], by: float, at: str, t: int, value: Array
) -> Array:
    """`value`, with one entry moved if it is the value asked for; at every step without `step`."""
    if at != name or step not in (None, t):
        return value
    moved = value.copy()
    moved[entry] += by
    return moved


def _apart_from_zero(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Numbers of size 0.2 … 0.8 with random signs."""
    numbers: Array = rng.uniform(0.2, 0.8, shape) * rng.choice([-1.0, 1.0], shape)
    return numbers


def _differentiable(z: Array) -> bool:
    """Whether every ReLU stays clear of its kink, and one of them passes a gradient each step."""
    return bool((np.abs(z) > KINK_DISTANCE).all() and (z > 0).any(axis=1).all())


# The forward passes once more, for one sequence, with a hand on every inner value.
#
# They share no code with the cells: plain vectors, one matrix product a gate. Every value is passed
# through `nudge(name, t, value)` before it is used, so that a caller can move a single entry at a
# single step and see what the loss does. If a value is used more than once, each use has a name of
# its own: moving "c" moves c_t for all that read it, moving "c_in_h" only for h_t, "c_carried" only
# for step t + 1.


def _sigma(z: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-z))
    return result


def forward_rnn(
    p: Mapping[str, Array], x: Array, state: Mapping[str, Array], nudge: Nudge, *, relu: bool
) -> Array:
    """s_1 … s_T (T, H)."""
    s, outputs = state["h"], []
    for t, x_t in enumerate(x):
        W, U, b = (nudge(name, t, p[name]) for name in ("W", "U", "b"))
        z = nudge("z", t, W @ nudge("x", t, x_t) + U @ nudge("h_before", t, s) + b)
        s = nudge("h", t, np.where(z > 0, z, 0) if relu else np.tanh(z))
        outputs.append(s)
    return np.stack(outputs)


def forward_lstm(
    p: Mapping[str, Array], x: Array, state: Mapping[str, Array], nudge: Nudge
) -> Array:
    """h_1 … h_T (T, H), or (T, P) where `p` has a projection `R`; peepholes where it has `p`."""
    h, c, outputs = state["h"], state["c"], []
    for t, x_t in enumerate(x):
        q = {name: nudge(name, t, p[name]) for name in p}
        W, U, b = (np.split(q[name], 4) for name in ("W", "U", "b"))
        peep = np.split(q["p"], 3) if "p" in q else np.zeros((3, len(c)))
        x_t, h, c = nudge("x", t, x_t), nudge("h_before", t, h), nudge("c_before", t, c)

        h_in = [nudge(f"h_in_{gate}", t, h) for gate in "ifao"]
        wx = [W[k] @ x_t + U[k] @ h_in[k] + b[k] for k in range(4)]
        i = nudge("i", t, _sigma(nudge("z_i", t, wx[0] + peep[0] * nudge("c_in_i", t, c))))
        f = nudge("f", t, _sigma(nudge("z_f", t, wx[1] + peep[1] * nudge("c_in_f", t, c))))
        a = nudge("a", t, np.tanh(nudge("z_a", t, wx[2])))
        c = nudge("c", t, i * a + f * nudge("c_kept", t, c))
        o = nudge("o", t, _sigma(nudge("z_o", t, wx[3] + peep[2] * nudge("c_in_o", t, c))))
        m = nudge("m", t, o * np.tanh(nudge("c_in_h", t, c)))
        h = nudge("h", t, q["R"] @ m if "R" in q else m)
        outputs.append(h)
        c = nudge("c_carried", t, c)
    return np.stack(outputs)


def forward_gru(
    p: Mapping[str, Array], x: Array, state: Mapping[str, Array], nudge: Nudge
) -> Array:
    """h_1 … h_T (T, H); the reset gate acts after the product where `p` has the bias `c`."""
    h, outputs = state["h"], []
    for t, x_t in enumerate(x):
        q = {name: nudge(name, t, p[name]) for name in p}
        W, U, b = (np.split(q[name], 3) for name in ("W", "U", "b"))
        x_t, h = nudge("x", t, x_t), nudge("h_before", t, h)

        h_r, h_z, h_n = (nudge(f"h_in_{gate}", t, h) for gate in "rzn")
        r = nudge("r", t, _sigma(nudge("z_r", t, W[0] @ x_t + b[0] + U[0] @ h_r)))
        z = nudge("z", t, _sigma(nudge("z_z", t, W[1] @ x_t + b[1] + U[1] @ h_z)))
        if "c" in q:
            through_reset = r * nudge("u_n", t, U[2] @ h_n + q["c"])
        else:
            through_reset = U[2] @ nudge("r⊙h", t, r * h_n)
        n = nudge("n", t, np.tanh(nudge("z_n", t, W[2] @ x_t + b[2] + through_reset)))
        h = nudge("h", t, (1 - z) * n + z * nudge("h_leaked", t, h))
        outputs.append(h)
    return np.stack(outputs)
