"""What a forward pass keeps for the backward pass, and the gradients of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array

State = dict[str, Array]  # "h" (B, H) and, for LSTM, "c" (B, H)
Kept = dict[str, Array]  # what one step keeps for its backward pass: name to (B, H)


class Columns(Mapping[str, Array]):
    """An array (T, B, n·H) as n views (T, B, H) of its columns, by name."""

    def __init__(self, packed: Array, names: tuple[str, ...]) -> None:
        self.packed, self.names = packed, names

    def __getitem__(self, name: str) -> Array:
        if name not in self.names:
            raise KeyError(name)
        H = self.packed.shape[2] // len(self.names)
        k = self.names.index(name)
        return self.packed[..., k * H : (k + 1) * H]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def steps(self, start: int, stop: int) -> Columns:
        """Steps start … stop − 1 alone."""
        return Columns(self.packed[start:stop], self.names)


class Tape(NamedTuple):
    """What a forward pass keeps for the backward pass.

    Attributes:
        inputs: (T, B, I), or class indices (T, B).
        states: by name, (T + 1, B, H); entry t is the state *before* step t (from 0), so that
            entry T is the final state.
        kept: by name, (T, B, H): gates and other inner values; from a compiled forward pass
            columns of one array.
        active: (T, B, 1), whether step t lies within the sequence; None where all have length T.
    """

    inputs: Array
    states: dict[str, Array]
    kept: Mapping[str, Array]
    active: Array | None

    def steps(self, start: int, stop: int) -> Tape:
        """The tape of steps start … stop − 1 alone, as if the run had begun at `start`."""
        kept: Mapping[str, Array]
        if isinstance(self.kept, Columns):
            kept = self.kept.steps(start, stop)
        else:
            kept = {name: array[start:stop] for name, array in self.kept.items()}
        return Tape(
            self.inputs[start:stop],
            {name: array[start : stop + 1] for name, array in self.states.items()},
            kept,
            None if self.active is None else self.active[start:stop],
        )


class LocalGradients(NamedTuple):
    """The gradients of one cell or layer.

    Attributes:
        parameters: by name, in the parameter's shape.
        inputs: δx (T, B, I); None for class indices, or if it was not asked for.
        state: gradient with respect to the initial state, by name, (B, H).
        deltas: "h", "c" (LSTM), "z": the gradient with respect to the hidden state, the cell
            state and the pre-activations of every step, each (T, B, ·); 0 beyond a
            sequence's length.
    """

    parameters: dict[str, Array]
    inputs: Array | None
    state: State
    deltas: dict[str, Array]


def active_steps(steps: int, lengths: Array) -> Array:
    """(T, B, 1): whether step t lies within sequence b."""
    result: Array = (np.arange(steps)[:, None] < lengths)[..., None]
    return result
