"""What all cells share: the loop over time, forward and backward.

A cell's own file holds the equations of one step. Here the steps follow one another: states are
carried, sequences that have ended stand still, and the gradients of every step are collected.
If the compiled engine is in use, a cell's compiled twin does the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import compiled
from throughtime.cells.description import CellDescription
from throughtime.cells.tape import Kept, LocalGradients, State, Tape, active_steps
from throughtime.engine_settings import use_compiled
from throughtime.functions import input_gradient, is_indices, product

if TYPE_CHECKING:
    from throughtime.cells.step_equations import StepEquations


@dataclass(frozen=True)
class Cell(CellDescription, ABC):
    """A recurrent cell: its sizes and options; parameters and states are passed in.

    Args:
        inputs: I, the number of input features or of classes.
        units: H, the number of hidden units.
        bidirectional: whether a layer made of this cell also runs backwards, with parameters
            of its own; the cell itself knows one direction only.
    """

    @property
    def multiplies_in_bfloat16(self) -> bool:
        """Whether the cell has a form whose products of matrices are in bfloat16."""
        return compiled.has_twin(self)

    @property
    def compiles_in_bfloat16(self) -> bool:
        """Whether that form is compiled here; the readable one multiplies where it is not."""
        return compiled.has_twin(self)

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

    def prepared(self, p: Mapping[str, Array]) -> Mapping[str, Array]:
        """The parameters, with what all steps would otherwise compute from them again."""
        return p

    def of_inputs(self, p: Mapping[str, Array], inputs: Array) -> Array:
        """z_x = W x_t + b for every step, which needs no state: (T, B, G·H)."""
        return product(p["W"], inputs) + p["b"]

    def input_gradient(
        self, p: Mapping[str, Array], tape: Tape, deltas: Mapping[str, Array]
    ) -> Array:
        """δx_t = Wᵀ δz_t for every step: (T, B, I)."""
        return input_gradient(deltas["z"], p["W"])

    @property
    def equations(self) -> StepEquations:
        """The step as a graph, recorded from `step` itself, and what is derived from it."""
        return _equations(self)

    def forward_values(self, p: Mapping[str, Array], tape: Tape) -> dict[int, Array]:
        """What is known of every step of a tape, (T, B, …), by the number of its node."""
        own = self.equations
        trace = own.backward.trace
        known = {node.number: p[name] for name, node in trace.parameters.items()}
        known |= {node.number: tape.states[name][:-1] for name, node in trace.states.items()}
        known |= {node.number: tape.kept[name] for name, node in own.kept.items()}
        if trace.inputs in own.coefficients.takes:
            known[trace.inputs.number] = self.of_inputs(p, tape.inputs)
        return known

    def zero_state(self, batch: int, dtype: np.dtype[Any]) -> State:
        """The initial state of B sequences, all zeros."""
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
            state: initial state, (B, H) for each part; zeros if not given.
            lengths: (B,) steps of each sequence; beyond them the output is 0 and the state does
                not change. All T steps if not given.

        Returns:
            outputs (T, B, H), the final state, and the tape for `backward`.
        """
        if use_compiled() and compiled.has_twin(self):
            return compiled.forward(self, p, inputs, state, lengths)
        p = self.prepared(p)
        steps, batch = inputs.shape[:2]
        active = None if lengths is None else active_steps(steps, lengths)
        z_x = self.of_inputs(p, inputs)
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
        need_deltas: bool = True,
        gradient: Mapping[str, Array] | None = None,
    ) -> LocalGradients:
        """Backpropagation through time, over all steps of the tape.

        Args:
            p: the parameters of the forward pass.
            tape: its tape.
            doutputs: gradient of the loss with respect to the outputs, (T, B, H).
            dstate: gradient with respect to the final state; parts may be missing.
            need_inputs: whether to compute δx.
            need_deltas: whether the gradients of every step are wanted.
            gradient: arrays with the parameters' names and shapes, to which the gradient is
                added; new ones if not given.
        """
        if use_compiled() and compiled.has_twin(self):
            wishes = (need_inputs, need_deltas, gradient)
            return compiled.backward(self, p, tape, doutputs, dstate, *wishes)
        p = self.prepared(p)
        steps, batch = tape.inputs.shape[:2]
        dlater = self.zero_state(batch, dtype_of(p, tape.inputs)) | (dstate or {})
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
        found = self.parameter_gradients(p, tape, through_time)
        return LocalGradients(
            parameters=found if gradient is None else added(gradient, found),
            inputs=self.input_gradient(p, tape, through_time) if wanted else None,
            state=dlater,
            deltas=through_time,
        )


@lru_cache(maxsize=64)
def _equations(cell: Cell) -> StepEquations:
    from throughtime.cells.step_equations import recorded

    return recorded(type(cell).__name__, cell.step, cell.shapes(), cell.state_sizes)


def dtype_of(p: Mapping[str, Array], inputs: Array) -> np.dtype[Any]:
    """The precision of a run: the parameters', or the inputs' where there are none."""
    return next((array.dtype for array in p.values()), inputs.dtype)


def added(gradient: Mapping[str, Array], found: Mapping[str, Array]) -> dict[str, Array]:
    """`gradient`, after adding to each of its arrays, in place, what was found."""
    for name, array in found.items():
        gradient[name][...] += array
    return dict(gradient)


def _where(active: Array, new: State, old: State) -> State:
    return {name: np.where(active, new[name], old[name]) for name in new}


def _through_time(steps: list[dict[str, Array]]) -> dict[str, Array]:
    """One dictionary of arrays with time as their first axis, from one for each step."""
    return {name: np.stack([step[name] for step in steps]) for name in steps[0]}
