"""What goes into a network and what comes out: checked inputs and states, tapes and results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from throughtime.arrays import (
    Array,
    all_finite,
    array_of,
    fits,
    floats,
    indices,
    refuse,
    same_names,
)
from throughtime.cells import is_indices
from throughtime.network.layers import Layer, LayerTape
from throughtime.network.losses import LossValue
from throughtime.parameters import Parameters


def checked_inputs(
    first: Layer,
    size: int,
    dtype: np.dtype[Any],
    inputs: object,
    axes: tuple[str, str] = ("T", "B"),
) -> Array:
    """Numbers (T, B, I) of the network's precision, or class indices (T, B).

    Args:
        axes: ("B", "T") where the batch comes first; the array is not turned.
    """
    array = array_of("inputs", inputs)
    if is_indices(array) and array.ndim != 3:
        if not first.takes_indices():
            refuse("inputs", f"numbers of {dtype}", array.dtype, error=TypeError)
        fits("inputs", array, axes)
        array = indices("inputs", array, size)
    elif not first.takes_numbers():
        way_out = "class indices select the vectors: .astype(int)"
        expected = f"class indices ({', '.join(axes)})"
        refuse("inputs", expected, array.dtype, way_out, error=TypeError)
    else:
        array = floats("inputs", inputs, dtype, (*axes, size))
    if not array.size:
        refuse("inputs", "at least one step and one sequence", f"shape {array.shape}")
    return array


def checked_state(state: Mapping[str, Array], zero: Parameters) -> Parameters:
    """The given state, with the names and shapes of `zero`, which may be overwritten."""
    if (
        isinstance(state, Parameters)  # what a run has given back: looked at as one vector
        and (state.shapes, state.dtype) == (zero.shapes, zero.dtype)
        and all_finite(state.flat)
    ):
        return state
    same_names("state", state, zero)
    for name, array in state.items():
        zero[name] = floats(f"state[{name!r}]", array, zero.dtype, zero.shapes[name])
    return zero


class NetworkTape(NamedTuple):
    """What a forward pass keeps for the backward pass: one tape for each layer."""

    layers: tuple[LayerTape, ...]

    def steps(self, start: int, stop: int) -> NetworkTape:
        """The tape of steps start … stop − 1 alone, as if the run had begun at `start`."""
        return NetworkTape(tuple(tape.steps(start, stop) for tape in self.layers))


@dataclass(frozen=True, repr=False)
class Run:
    """A forward pass with all its inner values. Layers are numbered as in parameters' names.

    Attributes:
        outputs: (T, B, K).
        hidden: layer to hidden states after every step, (T, B, H); both directions of a
            bidirectional layer side by side, (T, B, 2H).
        cells: layer to cell states after every step, (T, B, H); LSTM layers only.
        gates: layer to gate to its values, (T, B, H).
        state: the final state, `"0.h" (B, H)` and so on, from which a run can be continued.
    """

    outputs: Array
    hidden: dict[int, Array]
    cells: dict[int, Array]
    gates: dict[int, dict[str, Array]]
    state: Parameters

    def __repr__(self) -> str:
        inside = {f"hidden[{n}]": a.shape for n, a in self.hidden.items()}
        inside |= {f"cells[{n}]": a.shape for n, a in self.cells.items()}
        return f"<Run: {_shapes({'outputs': self.outputs.shape, **inside})}>"


@dataclass(frozen=True, repr=False)
class Gradients:
    """The gradients of a backward pass.

    Attributes:
        parameters: with the names and shapes of `Network.parameters`.
        inputs: ∂L/∂x (T, B, I); None for class indices.
        state: ∂L/∂(initial state), with the state's names and shapes.
        deltas: layer to "h", "c", "z": ∂L/∂h_t, ∂L/∂c_t, ∂L/∂z_t of every step, (T, B, ·); for
            Dense and Embedding "z" alone, their outputs. The second direction's names begin
            with "1.".
        loss: the loss and its terms, if it was computed along with them.
    """

    parameters: Parameters
    inputs: Array | None
    state: Parameters
    deltas: dict[int, dict[str, Array]]
    loss: LossValue | None = None

    def __repr__(self) -> str:
        inside = {
            f"deltas[{n}]['{d}']": a.shape for n, own in self.deltas.items() for d, a in own.items()
        }
        return f"<Gradients: {self.parameters!r}; {_shapes(inside)}>"


def _shapes(arrays: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in arrays.items())
