"""A cell as a layer, in one direction or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np

from throughtime.arrays import Array, Shape
from throughtime.cells import Cell, LocalGradients, State, Tape
from throughtime.network.layers import Layer, LayerTape

Arrays = TypeVar("Arrays", bound=Mapping[str, Array])

# Names in the second direction begin with its number: "W" runs forwards, "1.W" backwards.
PREFIXES = ("", "1.")


class RecurrentTape(NamedTuple):
    """One tape for each direction; time runs backwards in the second one."""

    directions: tuple[Tape, ...]
    lengths: Array | None

    def steps(self, start: int, stop: int) -> RecurrentTape:
        """Steps start … stop − 1 alone; for one direction, since the other begins at the end."""
        if len(self.directions) > 1:
            raise ValueError("a bidirectional layer cannot be cut in time: it needs the future")
        return RecurrentTape((self.directions[0].steps(start, stop),), None)


@dataclass(frozen=True)
class RecurrentLayer(Layer):
    """Runs a cell over the steps and, if it is bidirectional, a second one backwards.

    The outputs of both directions are concatenated: (T, B, 2H).
    """

    cell: Cell

    @cached_property
    def prefixes(self) -> tuple[str, ...]:
        """The prefix of the names of each direction."""
        return PREFIXES if self.cell.bidirectional else PREFIXES[:1]

    def input_size(self) -> int:
        return self.cell.inputs

    def output_size(self, inputs: int) -> int:
        return self.cell.output_size * len(self.prefixes)

    def takes_indices(self) -> bool:
        return True

    def shapes(self) -> dict[str, Shape]:
        return self._shapes

    def state_sizes(self) -> dict[str, int]:
        return self._state_sizes

    @cached_property
    def _of_cell(self) -> dict[str, Shape]:
        return self.cell.shapes()

    @cached_property
    def _sizes_of_cell(self) -> dict[str, int]:
        return self.cell.state_sizes

    @cached_property
    def _shapes(self) -> dict[str, Shape]:
        cell = self._of_cell
        return {prefix + name: cell[name] for prefix in self.prefixes for name in cell}

    @cached_property
    def _state_sizes(self) -> dict[str, int]:
        cell = self._sizes_of_cell
        return {prefix + name: cell[name] for prefix in self.prefixes for name in cell}

    def initialise(self, p: Mapping[str, Array], rng: np.random.Generator) -> None:
        for prefix in self.prefixes:
            self.cell.initialise(_direction(p, prefix, self._of_cell), rng)

    def forward(
        self,
        p: Mapping[str, Array],
        inputs: Array,
        state: State | None,
        lengths: Array | None,
        rng: np.random.Generator | None,
    ) -> tuple[Array, State, LayerTape]:
        if len(self.prefixes) == 1:
            y, final, tape = self.cell.forward(p, inputs, state, lengths)
            return y, final, RecurrentTape((tape,), lengths)
        outputs, tapes, final = [], [], {}
        for prefix in self.prefixes:
            x = reverse(inputs, lengths) if prefix else inputs
            own = _direction(p, prefix, self._of_cell)
            initial = state and _direction(state, prefix, self._sizes_of_cell)
            y, end, tape = self.cell.forward(own, x, initial, lengths)
            outputs.append(reverse(y, lengths) if prefix else y)
            final |= {prefix + name: array for name, array in end.items()}
            tapes.append(tape)
        return np.concatenate(outputs, axis=2), final, RecurrentTape(tuple(tapes), lengths)

    def backward(
        self,
        p: Mapping[str, Array],
        tape: LayerTape,
        doutputs: Array,
        dstate: State | None,
        need_inputs: bool,
        need_deltas: bool,
        gradient: Mapping[str, Array],
    ) -> LocalGradients:
        assert isinstance(tape, RecurrentTape)
        wanted = {"need_inputs": need_inputs, "need_deltas": need_deltas}
        if len(self.prefixes) == 1:
            (direction,) = tape.directions
            return self.cell.backward(p, direction, doutputs, dstate, gradient=gradient, **wanted)
        dinitial: State = {}
        deltas: dict[str, Array] = {}
        dinputs: Array | None = None
        parts = np.split(doutputs, 2, axis=2)
        for prefix, part, direction in zip(self.prefixes, parts, tape.directions, strict=True):
            found = self.cell.backward(
                _direction(p, prefix, self._of_cell),
                direction,
                reverse(part, tape.lengths) if prefix else part,
                dstate and _direction(dstate, prefix, self._sizes_of_cell),
                gradient=_direction(gradient, prefix, self._of_cell),
                **wanted,
            )
            dinitial |= {prefix + name: array for name, array in found.state.items()}
            for name, array in found.deltas.items():
                deltas[prefix + name] = reverse(array, tape.lengths) if prefix else array
            if found.inputs is not None:
                dx = reverse(found.inputs, tape.lengths) if prefix else found.inputs
                dinputs = dx if dinputs is None else dinputs + dx  # both directions saw x_t
        return LocalGradients(dict(gradient), dinputs, dinitial, deltas)

    def parameter_gradients(
        self, p: Mapping[str, Array], tape: LayerTape, deltas: Mapping[str, Array]
    ) -> dict[str, Array]:
        """The cell's; for one direction only, since no other tape can be cut."""
        assert isinstance(tape, RecurrentTape)
        (direction,) = tape.directions
        return self.cell.parameter_gradients(p, direction, deltas)

    def state_after(self, tape: RecurrentTape, steps: int) -> State:
        """The state after the first `steps` steps; for one direction."""
        (direction,) = tape.directions
        return {name: array[steps] for name, array in direction.states.items()}

    def states(self, tape: RecurrentTape, name: str) -> Array:
        """The state after every step, both directions side by side: (T, B, H) or (T, B, 2H)."""
        arrays = [direction.states[name][1:] for direction in tape.directions]
        return _side_by_side(arrays[:1] + [reverse(array, tape.lengths) for array in arrays[1:]])

    def kept_size(self) -> int:
        """Number of gate and other inner values that a step keeps for each sequence."""
        return len(self.prefixes) * self.cell.kept_size

    def kept(self, tape: RecurrentTape) -> dict[str, Array]:
        """Gates and other inner values of every step, both directions side by side."""
        forwards, *backwards = (direction.kept for direction in tape.directions)
        return {
            name: _side_by_side(
                [forwards[name]] + [reverse(kept[name], tape.lengths) for kept in backwards]
            )
            for name in forwards
        }


def reverse(array: Array, lengths: Array | None) -> Array:
    """(T, B, …) with time reversed, each sequence within its own length."""
    if lengths is None:
        return array[::-1]
    t = np.arange(len(array))[:, None]
    source = np.where(t < lengths, lengths - 1 - t, t)
    return array[source, np.arange(array.shape[1])]


def _direction(
    arrays: Arrays, prefix: str, names: Mapping[str, object]
) -> Arrays | dict[str, Array]:
    if len(arrays) == len(names):  # there is but one direction
        return arrays
    return {name: arrays[prefix + name] for name in names}


def _side_by_side(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=2)
