"""One direction as a `torch.autograd.Function`, for those who look in between or limit memory.

Inputs, weights and tape are saved by torch's own means, so that changed ones are noticed, hooks
on saved tensors see them, and memory is given back when the graph is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from throughtime.arrays import Array
from throughtime.torch import passes, reference
from throughtime.torch.changes import Changes
from throughtime.torch.direction import Side
from throughtime.torch.double_backward import gradients
from throughtime.torch.states import Kept
from throughtime.torch.weights import Maybe, Weights, engine_parameters, separate, torch_gradients

WEIGHTS = len(Weights._fields)


class Recurrence(torch.autograd.Function):
    """(side, x, h_0, c_0, *weights) -> outputs in the order of x, final h and c."""

    @staticmethod
    def forward(
        ctx: Any, side: Side, x: torch.Tensor, h: Maybe, c: Maybe, *weights: Maybe
    ) -> tuple[torch.Tensor, torch.Tensor, Maybe]:
        ctx.set_materialize_grads(False)
        ctx.side, ctx.changes = side, None
        laid = side.layout.lay(x.detach())
        kept = passes.forward(_run(side, laid, h, c, weights))
        tape = Kept(*map(_tensor, kept))
        if side.layout.in_order:  # the outputs are the tape's memory
            outputs = torch.from_numpy(side.layout.as_rows(kept.h[1:]))
            ctx.changes = None if outputs.is_inference() else Changes(outputs)
        else:
            outputs = side.layout.back(tape.h[1:])
        own = None if laid.data_ptr() == x.data_ptr() else laid
        ctx.save_for_backward(x, h, c, *weights, own, *tape)
        if side.wanted:
            side.kept = tape
        final = None if kept.c is None else torch.from_numpy(kept.c[-1].copy())
        return outputs, torch.from_numpy(kept.h[-1].copy()), final

    @staticmethod
    def backward(ctx: Any, dy: Maybe, dh: Maybe, dc: Maybe) -> tuple[Maybe, ...]:
        if dy is None and dh is None and dc is None:
            return (None,) * (4 + WEIGHTS)
        x, h, c, *rest = ctx.saved_tensors
        side, weights = ctx.side, rest[:WEIGHTS]
        taps = side.module._taps
        if torch.is_grad_enabled():  # somebody will differentiate what comes out
            if taps is not None:
                taps.refuse_higher_order()
            return None, *_differentiable(side, (x, h, c, *weights), (dy, dh, dc))
        laid, *tape = rest[WEIGHTS:]
        run = _run(side, side.layout.lay(x) if laid is None else laid, h, c, weights)
        if ctx.changes is not None and ctx.changes.any():
            kept = passes.forward(run)
        else:
            kept = passes.Kept(*map(_array, tape))
        found = passes.backward(
            run,
            kept,
            None if dy is None else _array(side.layout.lay(dy)),
            _named(dh, dc),
            need_inputs=ctx.needs_input_grad[1],
            need_deltas=taps is not None,
        )
        if taps is not None:
            taps.record(side, run, kept, found)
        dx = None if found.inputs is None else side.layout.back(torch.from_numpy(found.inputs))
        dh = None if h is None else torch.from_numpy(found.state["h"])
        dc = None if c is None else torch.from_numpy(found.state["c"])
        return None, dx, dh, dc, *torch_gradients(Weights(*weights), found.parameters)


def _run(
    side: Side, laid: torch.Tensor, h: Maybe, c: Maybe, weights: Sequence[Maybe]
) -> passes.Run:
    """What the engine is given: the tensors' own memory."""
    arrays = Weights(*map(_array, weights))
    return passes.Run(
        side.cell,
        engine_parameters(arrays, separate(side.cell), np),
        _array(laid),
        _named(h, c) or None,
        side.layout.lengths,
        side.segment,
    )


def _named(h: Maybe, c: Maybe) -> dict[str, Array]:
    return {n: _array(tensor) for n, tensor in (("h", h), ("c", c)) if tensor is not None}


def _array(tensor: Maybe) -> Any:
    return None if tensor is None else tensor.numpy(force=True)  # forced past requires_grad only


def _tensor(array: Array | None) -> Any:
    return None if array is None else torch.from_numpy(array)


def _differentiable(
    side: Side, inputs: tuple[Maybe, ...], dfinal: tuple[Maybe, ...]
) -> tuple[Maybe, ...]:
    """The same gradients by way of torch's own operations, which can be differentiated again."""

    def unrolled(x: torch.Tensor, h: Maybe, c: Maybe, *weights: Maybe) -> tuple[Maybe, ...]:
        return reference.recurrence(side.cell, side.layout, x, h, c, Weights(*weights))

    return gradients(unrolled, inputs, dfinal, create=True)
