"""What comes into a network: inputs and states, fit for it or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
from throughtime.network.layers import Layer
from throughtime.parameters import Parameters


def checked_inputs(first: Layer, size: int, dtype: np.dtype[Any], inputs: object) -> Array:
    """Numbers (T, B, I) of the network's precision, or class indices (T, B)."""
    array = array_of("inputs", inputs)
    if is_indices(array) and array.ndim != 3:
        if not first.takes_indices():
            refuse("inputs", f"numbers of {dtype}", array.dtype, error=TypeError)
        fits("inputs", array, ("T", "B"))
        array = indices("inputs", array, size)
    elif not first.takes_numbers():
        way_out = "class indices select the vectors: .astype(int)"
        refuse("inputs", "class indices (T, B)", array.dtype, way_out, error=TypeError)
    else:
        array = floats("inputs", inputs, dtype, ("T", "B", size))
    if not array.size:
        refuse("inputs", "at least one step and one sequence", f"shape {array.shape}")
    return array


def checked_state(state: Mapping[str, Array], zero: Parameters) -> Parameters:
    """The given state, of the names and shapes of `zero`, which may be written to."""
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
