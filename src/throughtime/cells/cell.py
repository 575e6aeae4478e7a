"""What all cells share: the walk through time, forward and backward.

A cell's own file holds the equations of one step. Here one step follows another: states are
carried, sequences that have ended stand still, and the gradients of every step are collected.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from throughtime.arrays import Array, Shape, sizes
from throughtime.cells.products import input_gradient, is_indices, product

State = dict[str, Array]  # "h" (B, H) and, for LSTM, "c" (B, H)
Kept = dict[str, Array]  # what one step keeps for its backward pass, by name, each (B, H)


@dataclass(frozen=True)
class Tape:
    """What a forward pass keeps for the backward pass.

    Attributes:
        inputs: (T, B, I), or class indices (T, B).
        states: by name, (T + 1, B, H); entry t is the state *before* step t (from 0), so that
            entry T is the final state.
        kept: by name, (T, B, H): gates and other inner values.
        active: (T, B, 1), whether step t lies within the sequence; None where all have length T.
    """

    inputs: Array
    states: dict[str, Array]
    kept: dict[str, Array]
    active: Array | None

    def steps(self, start: int, stop: int) -> Tape:
        """The tape of steps start … stop − 1 alone, as if the run had begun at `start`."""
        return Tape(
            self.inputs[start:stop],
            {name: array[start : stop + 1] for name, array in self.states.items()},
            {name: array[start:stop] for name, array in self.kept.items()},
            None if self.active is None else self.active[start:stop],
        )


@dataclass(frozen=True)
class LocalGradients:
    """What the backward pass of one cell or layer finds.

    Attributes:
        parameters: by name, in the parameter's shape.
        inputs: δx (T, B, I); None for class indices, or where it was not asked for.
        state: gradient with respect to the initial state, by name, (B, H).
        deltas: "h", "c" (LSTM), "z": the gradient with respect to the hidden state, the cell
            state and the pre-activations of every step, each (T, B, ·); 0 beyond a
            sequence's length.
    """

    parameters: dict[str, Array]
    inputs: Array | None
    state: State
    deltas: dict[str, Array]


@dataclass(frozen=True)
class Cell(ABC):
    """A recurrent cell: its sizes and options; parameters and states are passed in.

    Args:
        inputs: I, the number of input features or of classes.
        units: H, the number of hidden units.
        bidirectional: whether a layer made of this cell also runs backwards, with parameters
            of its own; the cell itself knows one direction only.
    """

    inputs: int
    units: int
    bidirectional: bool = field(default=False, kw_only=True)

    gates: ClassVar[str]  # a letter for each gate, in the order of the rows of W, U and b

    def __post_init__(self) -> None:
        sizes(self, "inputs", "units")

    @property
    def output_size(self) -> int:
        """Size of h_t in one direction."""
        return self.units

    @property
    def state_sizes(self) -> dict[str, int]:
        """Size of each part of the state."""
        return {"h": self.output_size}

    def shapes(self) -> dict[str, Shape]:
        """Name and shape of every parameter; rows gate by gate, in the order of `gates`."""
        rows = len(self.gates) * self.units
        return {"W": (rows, self.inputs), "U": (rows, self.output_size), "b": (rows,)}

    def initialise(self, p: Mapping[str, Array], rng: np.random.Generator) -> None:
        """Weights uniform in ±1/√H, biases 0."""
        for array in p.values():
            if array.ndim == 2:
                array[...] = rng.uniform(-1, 1, array.shape) / np.sqrt(self.units)

    @abstractmethod
    def step(self, p: Mapping[str, Array], z_x: Array, state: State) -> tuple[State, Kept]:
        """One step forward, given z_x = W x_t + b (B, G·H) and the state before it."""

    @abstractmethod
    def step_backward(
        self, p: Mapping[str, Array], kept: Kept, before: State, dstate: State
    ) -> tuple[Array, State, State]:
        """One step backward, given the gradient of everything later with respect to its state.

        Returns:
            δz (B, G·H), the gradient with respect to the state before the step, and the
            full gradient with respect to the state after it (for LSTM, δc_t also has what
            comes through h_t).
        """

    @abstractmethod
    def parameter_gradients(
        self, p: Mapping[str, Array], tape: Tape, deltas: Mapping[str, Array]
    ) -> dict[str, Array]:
        """The sums over the tape's steps that make up the gradient of each parameter."""

    def zero_state(self, batch: int, dtype: np.dtype[Any]) -> State:
        """The state of B sequences that have not begun."""
        return {name: np.zeros((batch, n), dtype) for name, n in self.state_sizes.items()}

    def forward(
        self,
        p: Mapping[str, Array],
        inputs: Array,
        state: State | None = None,
        lengths: Array | None = None,
    ) -> tuple[Array, State, Tape]:
        """Runs all steps.

        Args:
            p: the cell's parameters by name.
            inputs: (T, B, I), or class indices (T, B).
            state: initial state, (B, H) a part; zeros where it is not given.
            lengths: (B,) steps of each sequence; beyond them the output is 0 and the state
                stands still. All T steps where it is not given.

        Returns:
            outputs (T, B, H), the final state, and the tape for `backward`.
        """
        steps, batch = inputs.shape[:2]
        active = None if lengths is None else active_steps(steps, lengths)
        z_x = product(p["W"], inputs) + p["b"]
        state = state or self.zero_state(batch, z_x.dtype)
        states, kept = [state], []
        for t in range(steps):
            after, inner = self.step(p, z_x[t], state)
            state = after if active is None else _where(active[t], after, state)
            states.append(state)
            kept.append(inner)
        tape = Tape(inputs, _through_time(states), _through_time(kept), active)
        outputs = tape.states["h"][1:]
        return outputs if active is None else outputs * active, state, tape

    def backward(
        self,
        p: Mapping[str, Array],
        tape: Tape,
        doutputs: Array | None = None,
        dstate: State | None = None,
        *,
        need_inputs: bool = True,
    ) -> LocalGradients:
        """Backpropagation through time, over all steps of the tape.

        Args:
            p: the parameters that the forward pass had.
            tape: what it kept.
            doutputs: gradient of the loss with respect to the outputs, (T, B, H).
            dstate: the same with respect to the final state; parts may be missing.
            need_inputs: whether to compute δx.
        """
        steps, batch = tape.inputs.shape[:2]
        dlater = self.zero_state(batch, p["W"].dtype) | (dstate or {})
        collected: list[State] = [{}] * steps
        for t in reversed(range(steps)):
            arriving = dlater
            if doutputs is not None:
                arriving = dlater | {"h": dlater["h"] + doutputs[t]}
            kept = {name: array[t] for name, array in tape.kept.items()}
            before = {name: array[t] for name, array in tape.states.items()}
            dz, dbefore, dafter = self.step_backward(p, kept, before, arriving)
            deltas = dafter | {"z": dz}
            if tape.active is not None:
                # An ended sequence's state stands still: its gradient passes unchanged.
                dbefore = _where(tape.active[t], dbefore, dlater)
                deltas = {name: array * tape.active[t] for name, array in deltas.items()}
            dlater = dbefore
            collected[t] = deltas
        through_time = _through_time(collected)
        wanted = need_inputs and not is_indices(tape.inputs)
        return LocalGradients(
            parameters=self.parameter_gradients(p, tape, through_time),
            inputs=input_gradient(through_time["z"], p["W"]) if wanted else None,
            state=dlater,
            deltas=through_time,
        )


def active_steps(steps: int, lengths: Array) -> Array:
    """(T, B, 1): whether step t lies within sequence b."""
    result: Array = (np.arange(steps)[:, None] < lengths)[..., None]
    return result


def _where(active: Array, new: State, old: State) -> State:
    return {name: np.where(active, new[name], old[name]) for name in new}


def _through_time(steps: list[dict[str, Array]]) -> dict[str, Array]:
    """A dictionary a step -> one dictionary of arrays with time as their first axis."""
    return {name: np.stack([step[name] for step in steps]) for name in steps[0]}
