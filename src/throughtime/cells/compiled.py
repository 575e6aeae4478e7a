"""The compiled twins: arrays are made here and handed over; the equations are in native/.

What comes back has the form that the readable walk gives, so that the tape of one can be handed
to the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from throughtime import _engine
from throughtime.arrays import Array, Shape
from throughtime.cells.description import CellDescription
from throughtime.cells.functions import is_indices
from throughtime.cells.tape import Columns, LocalGradients, State, Tape, active_steps

WORTH_KEEPING = 2**15  # numbers; NumPy is quicker to make a smaller array

# The parameters in the engine's order; a cell has some of them.
PARAMETERS = ("W", "U", "b", "p", "R", "c")


def has_twin(cell: CellDescription) -> bool:
    """Whether this very class has a compiled twin; a class derived from it does not."""
    return type(cell).__dict__.get("engine_number") is not None


def forward(
    cell: CellDescription,
    p: Mapping[str, Array],
    inputs: Array,
    state: State | None,
    lengths: Array | None,
) -> tuple[Array, State, Tape]:
    """`Cell.forward`, compiled."""
    dtype = p["W"].dtype
    T, B = inputs.shape[:2]
    states = {}
    for name, size in cell.state_sizes.items():
        states[name] = _empty(T + 1, B, size, dtype)
        states[name][0] = 0 if state is None else state[name]
    names = cell.kept_names
    kept = Columns(_empty(T, B, len(names) * cell.units, dtype), names)
    active = None if lengths is None else active_steps(T, lengths)
    tape = Tape(inputs, states, kept, active)
    _engine.forward(engine_cell(cell), *_common(cell, p, tape, lengths))
    h = states["h"][1:]
    outputs = h if active is None else h * active
    return outputs, {name: array[T] for name, array in states.items()}, tape


def backward(
    cell: CellDescription,
    p: Mapping[str, Array],
    tape: Tape,
    doutputs: Array | None,
    dstate: State | None,
    need_inputs: bool,
    need_deltas: bool,
    gradient: Mapping[str, Array] | None,
) -> LocalGradients:
    """`Cell.backward`, compiled."""
    dtype = p["W"].dtype
    T, B = tape.inputs.shape[:2]
    sizes = cell.state_sizes
    d = {name: np.zeros((B, size), dtype) for name, size in sizes.items()}
    if dstate:
        for name, array in dstate.items():
            d[name][...] = array
    fresh = gradient is None and T * B > 0
    if gradient is None:
        new = _to_fill if fresh else np.zeros
        gradient = {name: new(array.shape, dtype) for name, array in p.items()}
    # What is not contiguous is added up elsewhere, and then added.
    own = {n: a if a.flags.c_contiguous else np.zeros(a.shape, dtype) for n, a in gradient.items()}
    wanted = need_inputs and not is_indices(tape.inputs)
    dinputs = _empty(T, B, cell.inputs, dtype) if wanted else None
    deltas: dict[str, Array] = {}
    if need_deltas:
        deltas = {name: _empty(T, B, size, dtype) for name, size in sizes.items()}
        deltas["z"] = _empty(T, B, len(p["b"]), dtype)
    lengths = None if tape.active is None else tape.active.sum(axis=(0, 2))
    _engine.backward(
        engine_cell(cell),
        *_common(cell, p, tape, lengths),
        doutputs,
        d["h"],
        d.get("c"),
        *[own.get(name) for name in PARAMETERS],
        dinputs,
        *[deltas.get(name) for name in ("h", "c", "z")],
        fresh,
    )
    for name, array in gradient.items():
        if own[name] is not array:
            array += own[name]
    return LocalGradients(dict(gradient), dinputs, d, deltas)


def _common(
    cell: CellDescription, p: Mapping[str, Array], tape: Tape, lengths: Array | None
) -> tuple[Array | None, ...]:
    """What both passes are given: parameters, inputs, lengths, states, inner values."""
    if isinstance(tape.kept, Columns):
        packed = tape.kept.packed
    else:  # the tape of a readable forward pass
        packed = np.concatenate([tape.kept[name] for name in cell.kept_names], axis=2)
    return (
        *[p.get(name) for name in PARAMETERS],
        *_numbers_or_classes(tape.inputs),
        None if lengths is None else np.ascontiguousarray(lengths, np.intp),
        _side_by_side(tape.states["h"]),
        _side_by_side(tape.states.get("c")),
        packed,
    )


def _empty(steps: int, batch: int, size: int, dtype: np.dtype[Any]) -> Array:
    """An array (T, B, N) to be filled; a large one in memory that the engine uses again."""
    if steps * batch * size < WORTH_KEEPING:
        return np.empty((steps, batch, size), dtype)
    return _engine.empty(steps, batch, size, dtype == np.float64)


def _to_fill(shape: Shape, dtype: np.dtype[Any]) -> Array:
    return _empty(1, 1, math.prod(shape), dtype).reshape(shape)


def _side_by_side(array: Array | None) -> Array | None:
    """The array, its numbers in C order without gaps."""
    if array is None or array.flags.c_contiguous:
        return array
    return np.ascontiguousarray(array)


@lru_cache(maxsize=256)
def engine_cell(cell: CellDescription) -> _engine.Cell:
    """The cell as the engine knows it."""
    number = type(cell).engine_number
    assert number is not None
    options = cell.engine_options
    return _engine.Cell(
        number,
        cell.inputs,
        cell.units,
        cell.output_size,
        options.get("relu", False),
        options.get("peepholes", False),
        options.get("projection", False),
        options.get("reset_after", False),
    )


def dense_forward(p: Mapping[str, Array], inputs: Array) -> Array:
    """W x_t + b for every step; p has "W" and, where there is a bias, "b"."""
    T, B = inputs.shape[:2]
    outputs = _empty(T, B, p["W"].shape[0], p["W"].dtype)
    _engine.dense_forward(T, B, p["W"], p.get("b"), *_numbers_or_classes(inputs), outputs)
    return outputs


def dense_backward(
    p: Mapping[str, Array],
    inputs: Array,
    doutputs: Array,
    need_inputs: bool,
    gradient: Mapping[str, Array],
) -> Array | None:
    """Adds the parameters' gradients to `gradient`; returns δx where it is wanted."""
    T, B = inputs.shape[:2]
    dinputs = _empty(T, B, p["W"].shape[1], p["W"].dtype) if need_inputs else None
    given = _numbers_or_classes(inputs)
    dW, db = gradient["W"], gradient.get("b")
    _engine.dense_backward(T, B, p["W"], *given, doutputs, dW, db, dinputs)
    return dinputs


def embedding_backward(inputs: Array, doutputs: Array, dE: Array) -> None:
    """Adds δy_t to the row of dE that x_t selected, for every step."""
    classes = np.ascontiguousarray(inputs, np.intp)
    _engine.embedding_backward(classes, doutputs, dE)


def _numbers_or_classes(inputs: Array) -> tuple[Array | None, Array | None]:
    if is_indices(inputs):
        return None, np.ascontiguousarray(inputs, np.intp)
    return inputs, None
