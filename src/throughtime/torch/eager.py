"""One direction after the other on the engine, for taps, a memory limit, or a look in between.

Both passes of a direction are given as arrays in, arrays out, and as an autograd function on them.
Inputs, weights and tape are saved by torch's own means, so that changed ones are noticed, hooks
on saved tensors see them, and memory is given back when the graph is.

With a memory limit the forward pass keeps h of every step, which is the output anyway, and c at
the borders of segments only; the backward pass runs each segment again. Segments are whole
numbers of the engine's chunks, so that the gradients are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch

from throughtime import _engine
from throughtime.arrays import Array, finite
from throughtime.cells import Cell, Columns, LocalGradients, State, Tape, active_steps
from throughtime.engine_settings import products_in_bfloat16
from throughtime.network import MemoryBudget, byte_count
from throughtime.torch.config import ModuleConfig
from throughtime.torch.direction import (
    DirectionTape,
    InPlaceChanges,
    LayerDirection,
    Result,
    RunDirection,
    StepOrders,
    with_memory,
)
from throughtime.torch.double_backward import direction_gradients
from throughtime.torch.execution import backward_row
from throughtime.torch.models.weights import (
    MaybeTensor,
    TorchWeights,
    engine_parameters,
    has_candidate_bias,
    torch_gradients,
)

MaybeArray = Array | None


class EngineRun(NamedTuple):
    """One direction's parameters and inputs, as arrays, in that direction's order of time.

    Attributes:
        cell, p: the cell and its parameters by name.
        inputs: (T, B, I), contiguous.
        state: the initial state by name; None for zeros.
        lengths: (B,), or None.
        segment: steps that are differentiated at once; T where there is no memory limit.
        bfloat16: whether the compiled engine's products are in bfloat16.
    """

    cell: Cell
    p: Mapping[str, Array]
    inputs: Array
    state: State | None
    lengths: MaybeArray
    segment: int
    bfloat16: bool = False

    def products(self) -> AbstractContextManager[None]:
        """Within it the engine multiplies as this run asks for."""
        return products_in_bfloat16() if self.bfloat16 else nullcontext()


class EngineTape(NamedTuple):
    """What the engine's forward pass keeps.

    Attributes:
        h: (T + 1, B, ·), from the initial state on.
        c: likewise, or at the borders of segments alone.
        inner: (T, B, n·H), the gates side by side; None with segments.
    """

    h: Array
    c: MaybeArray
    inner: MaybeArray


def segment_of(cell: Cell, limit: int | str | None, share: int, steps: int, batch: int) -> int:
    """The longest segment for which the limit has room, divided among `share` directions.

    Raises:
        ValueError: where there is room for none; the message names the smallest limit.
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


def engine_forward(run: EngineRun) -> EngineTape:
    """Runs all steps."""
    T, B = run.inputs.shape[:2]
    if run.segment >= T:
        return _forward(run)
    h = np.empty((T + 1, B, run.cell.output_size), run.inputs.dtype)
    borders: list[Array] = []
    segment = run
    for start in range(0, T, run.segment):
        segment = _segment(run, start, segment.state)
        found = _forward(segment)
        h[start : start + len(found.h)] = found.h
        end = {"h": found.h[-1].copy()}
        if found.c is not None:
            borders.append(found.c[0].copy())
            end["c"] = found.c[-1].copy()
        segment = segment._replace(state=end)
    return EngineTape(h, np.stack([*borders, end["c"]]) if borders else None, None)


def engine_backward(
    run: EngineRun,
    kept: EngineTape,
    doutputs: MaybeArray,
    dstate: State,
    need_inputs: bool,
    need_deltas: bool,
) -> LocalGradients:
    """All gradients, from those by the outputs (T, B, ·) and by the final state."""
    if kept.inner is not None:
        return _backward(run, kept, doutputs, dstate, need_inputs, need_deltas, None)
    gradient = {name: np.zeros_like(array) for name, array in run.p.items()}
    starts = range(0, len(run.inputs), run.segment)
    parts = []
    for k, start in reversed(list(enumerate(starts))):
        state = {"h": kept.h[start]} | ({} if kept.c is None else {"c": kept.c[k]})
        segment = _segment(run, start, state)
        own = None if doutputs is None else doutputs[start : start + run.segment]
        tape = _forward(segment)
        found = _backward(segment, tape, own, dstate, need_inputs, need_deltas, gradient)
        dstate = found.state
        parts.append(found)
    parts.reverse()
    dinputs = np.concatenate([p.inputs for p in parts if p.inputs is not None] or [run.inputs])
    names = parts[0].deltas
    deltas = {name: np.concatenate([part.deltas[name] for part in parts]) for name in names}
    return LocalGradients(gradient, dinputs if need_inputs else None, dstate, deltas)


def engine_tape(run: EngineRun, kept: EngineTape) -> Tape:
    """The tape of a forward pass without segments."""
    states = {"h": kept.h} | ({} if kept.c is None else {"c": kept.c})
    active = None if run.lengths is None else active_steps(len(run.inputs), run.lengths)
    assert kept.inner is not None
    return Tape(run.inputs, states, Columns(kept.inner, run.cell.kept_names), active)


def _segment(run: EngineRun, start: int, state: State | None) -> EngineRun:
    inputs, lengths = run.inputs[start : start + run.segment], run.lengths
    if lengths is not None:
        lengths = np.clip(lengths - start, 0, len(inputs))
    return run._replace(inputs=inputs, state=state, lengths=lengths)


def _forward(run: EngineRun) -> EngineTape:
    with run.products():
        _, _, tape = run.cell.forward(run.p, run.inputs, run.state, run.lengths)
    if isinstance(tape.kept, Columns):
        inner = tape.kept.packed
    else:  # the readable engine keeps one array a gate
        inner = np.concatenate([tape.kept[name] for name in run.cell.kept_names], axis=2)
    return EngineTape(tape.states["h"], tape.states.get("c"), inner)


def _backward(
    run: EngineRun,
    kept: EngineTape,
    doutputs: MaybeArray,
    dstate: State,
    need_inputs: bool,
    need_deltas: bool,
    gradient: Mapping[str, Array] | None,
) -> LocalGradients:
    with run.products():
        return run.cell.backward(
            run.p,
            engine_tape(run, kept),
            doutputs,
            dstate,
            need_inputs=need_inputs,
            need_deltas=need_deltas,
            gradient=gradient,
        )


WEIGHT_COUNT = len(TorchWeights._fields)


class EagerRecurrence(torch.autograd.Function):
    """(direction, x, h_0, c_0, *weights) -> outputs in the order of x, final h and c."""

    @staticmethod
    def forward(
        ctx: Any,
        direction: LayerDirection,
        x: torch.Tensor,
        h: MaybeTensor,
        c: MaybeTensor,
        *weights: MaybeTensor,
    ) -> Result:
        ctx.set_materialize_grads(False)
        ctx.direction, ctx.changes, order = direction, None, direction.order
        ordered = order.to_engine(with_memory(x).detach())
        kept = engine_forward(_engine_run(direction, ordered, h, c, weights))
        tape = DirectionTape(*map(_tensor, kept))
        if order.in_order:  # the outputs are the tape's memory
            outputs = torch.from_numpy(order.as_rows(kept.h[1:]))
            ctx.changes = None if outputs.is_inference() else InPlaceChanges(outputs)
        else:
            outputs = order.from_engine(tape.h[1:])
        own = None if ordered.data_ptr() == x.data_ptr() else ordered
        ctx.save_for_backward(x, h, c, *weights, own, *tape)
        if direction.wanted:
            direction.tape = tape
        final = None if kept.c is None else torch.from_numpy(kept.c[-1].copy())
        return outputs, torch.from_numpy(kept.h[-1].copy()), final

    @staticmethod
    def backward(
        ctx: Any, dy: MaybeTensor, dh: MaybeTensor, dc: MaybeTensor
    ) -> tuple[MaybeTensor, ...]:
        if dy is None and dh is None and dc is None:
            return (None,) * (4 + WEIGHT_COUNT)
        x, h, c, *rest = ctx.saved_tensors
        direction, weights = ctx.direction, rest[:WEIGHT_COUNT]
        order = direction.order
        if backward_row(direction.module, "eager", (dy, dh, dc)).way == "double_backward":
            inputs = (x, h, c, *weights)
            return None, *direction_gradients(direction.cell, order, inputs, (dy, dh, dc))
        ordered, *tape = rest[WEIGHT_COUNT:]
        ordered = order.to_engine(x) if ordered is None else ordered
        run = _engine_run(direction, ordered, h, c, weights)
        if ctx.changes is not None and ctx.changes.any():
            kept = engine_forward(run)
        else:
            kept = EngineTape(*map(_array, tape))
        taps = direction.module._taps
        found = engine_backward(
            run,
            kept,
            None if dy is None else _array(order.to_engine(dy)),
            _named(dh, dc),
            need_inputs=ctx.needs_input_grad[1],
            need_deltas=taps is not None,
        )
        if taps is not None:
            taps.record(direction, run, kept, found)
        dx = None if found.inputs is None else order.from_engine(torch.from_numpy(found.inputs))
        dh = None if h is None else torch.from_numpy(found.state["h"])
        dc = None if c is None else torch.from_numpy(found.state["c"])
        d = {name: torch.from_numpy(array) for name, array in found.parameters.items()}
        biases = TorchWeights(*weights).bias_ih is not None
        return None, dx, dh, dc, *torch_gradients(d, biases, torch)


def eager_direction(
    module: Any,
    config: ModuleConfig,
    orders: StepOrders,
    call: int,
    wanted: bool,
    batch_order: MaybeTensor,
    directions: list[LayerDirection],
    bfloat16: bool,
) -> RunDirection:
    """Computes one direction after the other on the engine, and appends each to `directions`.

    `bfloat16` says whether products are in that.
    """

    def run(
        k: int, x: torch.Tensor, h: MaybeTensor, c: MaybeTensor, weights: TorchWeights
    ) -> Result:
        layer, reverse = divmod(k, config.directions)
        cell, order = config.cell(layer), orders[reverse]
        share = config.direction_count
        segment = segment_of(cell, module.memory_limit, share, order.steps, order.batch)
        own = (module, call, layer, cell, order, segment, wanted, batch_order)
        direction = LayerDirection(*own, bfloat16=bfloat16)
        directions.append(direction)
        if torch.is_anomaly_enabled():
            finite(f"{type(module).__name__}: inputs of layer {layer}", x.detach().numpy())
        y, h, c = EagerRecurrence.apply(direction, x, h, c, *weights)
        return y, h, c

    return run


def _engine_run(
    direction: LayerDirection,
    ordered: torch.Tensor,
    h: MaybeTensor,
    c: MaybeTensor,
    weights: Sequence[MaybeTensor],
) -> EngineRun:
    """What the engine is given: the tensors' own memory."""
    arrays = TorchWeights(*map(_array, weights))
    return EngineRun(
        direction.cell,
        engine_parameters(arrays, has_candidate_bias(direction.cell), np),
        _array(ordered),
        _named(h, c) or None,
        direction.order.lengths,
        direction.segment,
        direction.bfloat16,
    )


def _named(h: MaybeTensor, c: MaybeTensor) -> dict[str, Array]:
    return {n: _array(tensor) for n, tensor in (("h", h), ("c", c)) if tensor is not None}


def _array(tensor: MaybeTensor) -> Any:
    if tensor is None:
        return None
    return with_memory(tensor).numpy(force=True)  # forced past requires_grad only


def _tensor(array: MaybeArray) -> Any:
    return None if array is None else torch.from_numpy(array)
