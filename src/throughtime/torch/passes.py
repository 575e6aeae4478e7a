"""Both passes of one direction on the engine: arrays in, arrays out.

With a memory limit the forward pass keeps h of every step, which is the output anyway, and c at
the borders of segments only; the backward pass runs each segment again. Segments are whole
numbers of the engine's chunks, so that the gradients are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from throughtime import _engine
from throughtime.arrays import Array
from throughtime.cells import Cell, Columns, LocalGradients, State, Tape, active_steps
from throughtime.network import MemoryBudget, byte_count

Maybe = Array | None


class Run(NamedTuple):
    """One direction's parameters and inputs, in that direction's order of time.

    Attributes:
        cell, p: the cell and its parameters by name.
        inputs: (T, B, I), contiguous.
        state: the initial state by name; None for zeros.
        lengths: (B,), or None.
        segment: steps that are differentiated at once; T where there is no memory limit.
    """

    cell: Cell
    p: Mapping[str, Array]
    inputs: Array
    state: State | None
    lengths: Maybe
    segment: int


class Kept(NamedTuple):
    """h (T + 1, B, ·); c likewise, or at the segments' borders; gates, None with segments."""

    h: Array
    c: Maybe
    inner: Maybe


def segment_of(cell: Cell, limit: int | str | None, share: int, steps: int, batch: int) -> int:
    """The longest segment of which the limit, divided among so many directions, has room.

    Raises:
        ValueError: where there is no room for any; the message names the smallest limit.
    """
    if limit is None:
        return steps
    width = 8  # bytes of a float64; float32 then has room to spare
    carried = sum(cell.state_sizes.values()) - cell.output_size  # h is there anyway
    kept = len(cell.kept_names) * cell.units + sum(cell.state_sizes.values())
    budget = MemoryBudget(
        steps,
        _engine.chunk_steps(batch),
        kept * batch * width * share,
        carried * batch * width * share,
        0,
    )
    return budget.longest_segment(byte_count(limit))


def forward(run: Run) -> Kept:
    """Runs all steps."""
    T, B = run.inputs.shape[:2]
    if run.segment >= T:
        return _forward(run)
    h = np.empty((T + 1, B, run.cell.output_size), run.inputs.dtype)
    borders: list[Array] = []
    stretch = run
    for start in range(0, T, run.segment):
        stretch = _stretch(run, start, stretch.state)
        found = _forward(stretch)
        h[start : start + len(found.h)] = found.h
        end = {"h": found.h[-1].copy()}
        if found.c is not None:
            borders.append(found.c[0].copy())
            end["c"] = found.c[-1].copy()
        stretch = stretch._replace(state=end)
    return Kept(h, np.stack([*borders, end["c"]]) if borders else None, None)


def backward(
    run: Run,
    kept: Kept,
    doutputs: Maybe,
    dstate: State,
    need_inputs: bool,
    need_deltas: bool,
) -> LocalGradients:
    """All gradients, from those by the outputs (T, B, ·) and by the final state."""
    if kept.inner is not None:
        return _backward(run, kept, doutputs, dstate, need_inputs, need_deltas, None)
    gradient = {name: np.zeros_like(array) for name, array in run.p.items()}
    starts = range(0, len(run.inputs), run.segment)
    pieces = []
    for k, start in reversed(list(enumerate(starts))):
        state = {"h": kept.h[start]} | ({} if kept.c is None else {"c": kept.c[k]})
        stretch = _stretch(run, start, state)
        own = None if doutputs is None else doutputs[start : start + run.segment]
        tape = _forward(stretch)
        found = _backward(stretch, tape, own, dstate, need_inputs, need_deltas, gradient)
        dstate = found.state
        pieces.append(found)
    pieces.reverse()
    dinputs = np.concatenate([p.inputs for p in pieces if p.inputs is not None] or [run.inputs])
    names = pieces[0].deltas
    deltas = {name: np.concatenate([piece.deltas[name] for piece in pieces]) for name in names}
    return LocalGradients(gradient, dinputs if need_inputs else None, dstate, deltas)


def tape_of(run: Run, kept: Kept) -> Tape:
    """The tape of a forward pass without segments."""
    states = {"h": kept.h} | ({} if kept.c is None else {"c": kept.c})
    active = None if run.lengths is None else active_steps(len(run.inputs), run.lengths)
    assert kept.inner is not None
    return Tape(run.inputs, states, Columns(kept.inner, run.cell.kept_names), active)


def _stretch(run: Run, start: int, state: State | None) -> Run:
    inputs, lengths = run.inputs[start : start + run.segment], run.lengths
    if lengths is not None:
        lengths = np.clip(lengths - start, 0, len(inputs))
    return run._replace(inputs=inputs, state=state, lengths=lengths)


def _forward(run: Run) -> Kept:
    _, _, tape = run.cell.forward(run.p, run.inputs, run.state, run.lengths)
    if isinstance(tape.kept, Columns):
        inner = tape.kept.packed
    else:  # the readable engine keeps one array a gate
        inner = np.concatenate([tape.kept[name] for name in run.cell.kept_names], axis=2)
    return Kept(tape.states["h"], tape.states.get("c"), inner)


def _backward(
    run: Run,
    kept: Kept,
    doutputs: Maybe,
    dstate: State,
    need_inputs: bool,
    need_deltas: bool,
    gradient: Mapping[str, Array] | None,
) -> LocalGradients:
    return run.cell.backward(
        run.p,
        tape_of(run, kept),
        doutputs,
        dstate,
        need_inputs=need_inputs,
        need_deltas=need_deltas,
        gradient=gradient,
    )
