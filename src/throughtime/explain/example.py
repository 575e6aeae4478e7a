"""A small live example: the real cell run forward and backward, and two second opinions.

One sequence, a few steps, float64, L = Σ_t E_t with E_t = ½‖h_t − y_t‖². Weights, inputs,
targets and the state before the first step are drawn at random; none of them is 0, so that no
term of the gradient hides. The second opinions come from the forward step alone: one is derived
from its equations, the other moves a number and runs the step again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.cells import GRU, LSTM, RNN, Cell, LocalGradients, Tape
from throughtime.engine_settings import engine
from throughtime.explain.traced_step import Move, TracedStep
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


@dataclass(frozen=True)
class Example:
    """A cell, its numbers, and three ways to a gradient. The batch axis is left out everywhere.

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

    @cached_property
    def traced(self) -> TracedStep:
        """The cell's step as a graph."""
        return TracedStep(self.cell)

    def errors(self, move: Move | None = None) -> Array:
        """E_1 … E_T of the forward equations, of each run: (T, N)."""
        steps = self.traced.run(self.p, self.x, self.state, move)
        outputs = np.stack([step(self.traced.nodes["h"]) for step in steps])
        errors: Array = ((outputs - self.y[:, None]) ** 2).sum(axis=2) / 2
        return errors

    def recorded(self) -> dict[str, Array]:
        """Every named value of the forward equations, (T, …)."""
        steps = self.traced.run(self.p, self.x, self.state)
        named = {name: node for name, node in self.traced.nodes.items() if node.batched}
        return {name: np.stack([s(node)[0] for s in steps]) for name, node in named.items()}

    def derived(self, name: str) -> Array:
        """∂L/∂(the value at one step alone) as it is derived from the step, for every step."""
        steps = self.traced.run(self.p, self.x, self.state)
        return self.traced.derived(steps, self["δE"], name)

    def terms(self, name: str) -> Array:
        """∂E_t/∂(the value at step k alone), numerically: (T losses, T steps, …)."""
        return np.stack([self._slopes(name, k) for k in range(self.steps)], axis=1)

    def numerical(self, name: str) -> Array:
        """∂L/∂(the value at one step alone), numerically, for every step: (T, …)."""
        total: Array = self.terms(name).sum(axis=0)
        return total

    def numerical_at_all_steps(self, name: str) -> Array:
        """∂L/∂(a parameter): moved once, for the whole run."""
        total: Array = self._slopes(name, None).sum(axis=0)
        return total

    def _slopes(self, name: str, step: int | None) -> Array:
        """∂E_t/∂(every entry), (T, …).

        Central differences at h, 2h and 4h, combined so that their errors of second and fourth
        order cancel (Richardson 1911).
        """
        shape, h = self.traced.shape(name), DIFFERENCE_STEP
        one_by_one = np.eye(math.prod(shape)).reshape(-1, *shape)

        def errors(by: float) -> Array:
            if name not in self.p:
                return self.errors(Move(name, step, by * one_by_one))
            columns = [self.errors(Move(name, step, by * entry)) for entry in one_by_one]
            return np.concatenate(columns, axis=1)

        def central(by: float) -> Array:
            difference: Array = (errors(by) - errors(-by)) / (2 * by)
            return difference

        slopes: Array = (64 * central(h) - 20 * central(2 * h) + central(4 * h)) / 45
        return slopes.reshape(self.steps, *shape)


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
        found = _run(cell, p, x, y, state)
        if name != "rnn relu" or _differentiable(found.recorded()["z"]):
            return found


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


def _apart_from_zero(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Numbers of size 0.2 … 0.8 with random signs."""
    numbers: Array = rng.uniform(0.2, 0.8, shape) * rng.choice([-1.0, 1.0], shape)
    return numbers


def _differentiable(z: Array) -> bool:
    """Whether every ReLU stays clear of its kink, and one of them passes a gradient each step."""
    return bool((np.abs(z) > KINK_DISTANCE).all() and (z > 0).any(axis=1).all())
