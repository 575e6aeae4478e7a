"""What a forward pass keeps, and what a backward pass finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array

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
        packed: all that is kept in one array, as the compiled twin works on it; None from a
            readable forward pass.
    """

    inputs: Array
    states: dict[str, Array]
    kept: dict[str, Array]
    active: Array | None
    packed: Array | None = None

    def steps(self, start: int, stop: int) -> Tape:
        """The tape of steps start … stop − 1 alone, as if the run had begun at `start`."""
        return Tape(
            self.inputs[start:stop],
            {name: array[start : stop + 1] for name, array in self.states.items()},
            {name: array[start:stop] for name, array in self.kept.items()},
            None if self.active is None else self.active[start:stop],
            None if self.packed is None else self.packed[start:stop],
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


def active_steps(steps: int, lengths: Array) -> Array:
    """(T, B, 1): whether step t lies within sequence b."""
    result: Array = (np.arange(steps)[:, None] < lengths)[..., None]
    return result
