"""The compiled twins: arrays are made here and passed on; the equations are in native/.

The results have the form of the readable cells' results, so that either engine accepts the tape of
the other.
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
from throughtime.cells.tape import Columns, LocalGradients, State, Tape, active_steps
from throughtime.engine_settings import in_bfloat16
from throughtime.functions import is_indices

WORTH_KEEPING = 2**15  # numbers; NumPy is quicker to make a smaller array


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
    _engine.forward(engine_cell(cell, in_bfloat16()), **_common(cell, p, tape, lengths))
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
    # The gradient of an array that is not contiguous is summed in another one, and then added.
    own = {n: a if a.flags.c_contiguous else np.zeros(a.shape, dtype) for n, a in gradient.items()}
    wanted = need_inputs and not is_indices(tape.inputs)
    dinputs = _empty(T, B, cell.inputs, dtype) if wanted else None
    deltas: dict[str, Array] = {}
    if need_deltas:
        deltas = {name: _empty(T, B, size, dtype) for name, size in sizes.items()}
        deltas["z"] = _empty(T, B, len(p["b"]), dtype)
    lengths = None if tape.active is None else tape.active.sum(axis=(0, 2))
    _engine.backward(
        engine_cell(cell, in_bfloat16()),
        **_common(cell, p, tape, lengths),
        doutputs=doutputs,
        dh=d["h"],
        dc=d.get("c"),
        dW=own["W"],
        dU=own["U"],
        db=own["b"],
        dp=own.get("p"),
        dR=own.get("R"),
        dc_bias=own.get("c"),
        dinputs=dinputs,
        delta_h=deltas.get("h"),
        delta_c=deltas.get("c"),
        delta_z=deltas.get("z"),
        fresh=fresh,
    )
    for name, array in gradient.items():
        if own[name] is not array:
            array += own[name]
    return LocalGradients(dict(gradient), dinputs, d, deltas)


def _common(
    cell: CellDescription, p: Mapping[str, Array], tape: Tape, lengths: Array | None
) -> dict[str, Any]:
    """What both passes are given: parameters, inputs, lengths, states, and what is kept."""
    numbers, classes = _numbers_or_classes(tape.inputs)
    return {
        "W": p["W"],
        "U": p["U"],
        "b": p["b"],
        "p": p.get("p"),
        "R": p.get("R"),
        "c_bias": p.get("c"),
        "inputs": numbers,
        "classes": classes,
        "lengths": None if lengths is None else np.ascontiguousarray(lengths, np.intp),
        "h": _contiguous(tape.states["h"]),
        "c": _contiguous(tape.states["c"]) if "c" in cell.state_sizes else None,
        "kept": _packed(cell, tape),
    }


def _packed(cell: CellDescription, tape: Tape) -> Array:
    """What the steps kept, side by side."""
    if isinstance(tape.kept, Columns):
        return tape.kept.packed
    return np.concatenate([tape.kept[name] for name in cell.kept_names], axis=2)  # a readable tape


def _empty(steps: int, batch: int, size: int, dtype: np.dtype[Any]) -> Array:
    """An array (T, B, N) to be filled in; a large one is in memory that the engine reuses."""
    if steps * batch * size < WORTH_KEEPING:
        return np.empty((steps, batch, size), dtype)
    return _engine.empty(steps, batch, size, dtype == np.float64)


def _to_fill(shape: Shape, dtype: np.dtype[Any]) -> Array:
    return _empty(1, 1, math.prod(shape), dtype).reshape(shape)


def _contiguous(array: Array) -> Array:
    """The array in C order without gaps; a copy if it is not."""
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


@lru_cache(maxsize=256)
def engine_cell(cell: CellDescription, bfloat16: bool = False) -> _engine.Cell:
    """The cell as the engine knows it, and whether its products are in bfloat16."""
    number = type(cell).engine_number
    assert number is not None
    return _engine.Cell(
        kind=number,
        inputs=cell.inputs,
        units=cell.units,
        outputs=cell.output_size,
        **cell.engine_options,
        bfloat16=bfloat16,
    )


def dense_forward(p: Mapping[str, Array], inputs: Array) -> Array:
    """W x_t + b for every step; p has "W" and, where there is a bias, "b"."""
    T, B = inputs.shape[:2]
    outputs = _empty(T, B, p["W"].shape[0], p["W"].dtype)
    given = _numbers_or_classes(inputs)
    _engine.dense_forward(T, B, p["W"], p.get("b"), *given, outputs, bfloat16=in_bfloat16())
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
    _engine.dense_backward(T, B, p["W"], *given, doutputs, dW, db, dinputs, bfloat16=in_bfloat16())
    return dinputs


def embedding_backward(inputs: Array, doutputs: Array, dE: Array) -> None:
    """Adds δy_t to the row of dE that x_t selected, for every step."""
    classes = np.ascontiguousarray(inputs, np.intp)
    _engine.embedding_backward(classes, doutputs, dE)


def _numbers_or_classes(inputs: Array) -> tuple[Array | None, Array | None]:
    if is_indices(inputs):
        return None, np.ascontiguousarray(inputs, np.intp)
    return inputs, None
