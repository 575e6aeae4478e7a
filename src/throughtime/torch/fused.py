"""A module's call in one compiled call each way, layers and directions included.

Tensors are handed over by address: to make an array of each would take longer than a small call.
What is saved for the backward pass is saved by torch's own means, so that changes are noticed,
hooks on saved tensors see it, and memory is given back when the graph is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from throughtime import _engine
from throughtime.arrays import Array, refuse
from throughtime.cells import WORTH_KEEPING
from throughtime.torch.arguments import weight_names
from throughtime.torch.changes import Changes
from throughtime.torch.config import Form
from throughtime.torch.double_backward import gradients
from throughtime.torch.states import Kept
from throughtime.torch.weights import Maybe

Result = tuple[torch.Tensor, torch.Tensor, Maybe]  # outputs, final h, final c
Gradients = tuple[Maybe, ...]


@dataclass(eq=False, slots=True)
class Pass:
    """One call of a module.

    Attributes:
        module, form: whose call it is.
        steps, batch: T and B.
        running: (T,) how many sequences run at each step, of a PackedSequence; else None.
        ragged: whether they do not all run at all steps.
        masks: factors of dropout for the outputs of each layer but the last; or none.
        again: the same call a direction at a time, for gradients that are to be differentiated
            themselves, or looked at on the way.
        number: of all modules' calls.
        order: (B,) the sequences' places before packing, None where nothing was sorted.
        tape: what the forward pass kept, where `wanted`.
    """

    module: Any
    form: Form
    steps: int
    batch: int
    running: Maybe
    ragged: bool
    masks: list[torch.Tensor]
    again: Callable[..., Result]
    number: int
    order: Maybe
    wanted: bool = False
    tape: Maybe = None

    def places(self) -> tuple[int, list[tuple[int, int, int]]]:
        """Of the tape: its numbers, and for every side where its h, c and gates begin."""
        stack = self.form.stack
        return stack.places(self.steps, self.batch, self.ragged, bool(self.masks))

    def kept(self) -> list[Kept]:
        """Views of the tape, one a side, each in its own order of time."""
        T, B, form, tape = self.steps, self.batch, self.form, self.tape
        assert tape is not None

        def view(start: int, steps: int, width: int) -> torch.Tensor:
            return tape[start : start + steps * B * width].view(steps, B, width)

        return [
            Kept(
                view(h, T + 1, form.outputs),
                view(c, T + 1, form.units) if form.lstm else None,
                view(inner, T, form.kept),
            )
            for h, c, inner in self.places()[1]
        ]


class Whole(torch.autograd.Function):
    """(pass, x, h_0, c_0, *weights) -> outputs, final h and c; x as the module's inputs come."""

    @staticmethod
    def forward(
        ctx: Any, call: Pass, x: torch.Tensor, h: Maybe, c: Maybe, *weights: torch.Tensor
    ) -> Result:
        ctx.set_materialize_grads(False)
        laid = plain(x)
        *results, tape = forward(call, laid, h, c, weights, call.masks)
        ctx.call, outputs = call, results[0]
        ctx.changes = None
        if not own_outputs(call) and not outputs.is_inference():  # they are the tape's memory
            ctx.changes = Changes(outputs)
        own = None if laid is x else laid
        ctx.save_for_backward(x, h, c, own, tape, *weights, *call.masks)
        if call.wanted:
            call.tape = tape
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, dy: Maybe, dh: Maybe, dc: Maybe) -> Gradients:
        call = ctx.call
        count = len(call.form.shapes)
        if dy is None and dh is None and dc is None:
            return (None,) * (4 + count)
        x, h, c, laid, tape, *weights = ctx.saved_tensors
        masks = weights[count:]
        del weights[count:]
        if torch.is_grad_enabled() or call.module._taps is not None:
            return None, *_again(call, (x, h, c, *weights), masks, (dy, dh, dc))
        laid = x if laid is None else laid
        if ctx.changes is not None and ctx.changes.any():
            tape = forward(call, laid, h, c, weights, masks)[-1]
        wanted = ctx.needs_input_grad[1:4]
        return None, *backward(call, laid, weights, masks, tape, (dy, dh, dc), wanted)


def own_outputs(call: Pass) -> bool:
    """Whether outputs have memory of their own, since the tape has them in another order."""
    return call.ragged or call.form.directions > 1


def forward(
    call: Pass,
    x: torch.Tensor,
    h: Maybe,
    c: Maybe,
    weights: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, Maybe, torch.Tensor]:
    """Outputs as rows or steps, as x; final h and c of every side; the tape."""
    form, dtype, B = call.form, x.dtype, call.batch
    size, places = call.places()
    memory = _numbers((size,), dtype)
    tape = torch.from_numpy(memory)
    shape = (*x.shape[:-1], form.width)
    if own_outputs(call):
        outputs = new(shape, dtype)
        y = outputs.data_ptr()
    else:
        y, first = 0, places[-1][0] + B * form.outputs
        last = first + call.steps * B * form.outputs
        outputs = torch.from_numpy(memory[first:last].reshape(shape))
    final_h = new((form.sides, B, form.outputs), dtype)
    final_c = new((form.sides, B, form.units), dtype) if form.lstm else None
    h, c, weights = plain(h), plain(c), [plain(w) for w in weights]
    _engine.stack_forward(
        form.stack,
        *_extent(call, x),
        x.data_ptr(),
        _address(h),
        _address(c),
        [w.data_ptr() for w in weights],
        [mask.data_ptr() for mask in masks],
        tape.data_ptr(),
        y,
        final_h.data_ptr(),
        _address(final_c),
    )
    return outputs, final_h, final_c, tape


def backward(
    call: Pass,
    x: torch.Tensor,
    weights: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor],
    tape: torch.Tensor,
    arriving: tuple[Maybe, Maybe, Maybe],
    wanted: Sequence[bool],
) -> list[Maybe]:
    """Gradients by x, h_0, c_0 where they are wanted, and by the weights."""
    form, dtype, B = call.form, x.dtype, call.batch
    dy, dh_final, dc_final = map(plain, arriving)
    weights = [plain(w) for w in weights]
    dx = new(x.shape, dtype) if wanted[0] else None
    dh = new((form.sides, B, form.outputs), dtype) if wanted[1] else None
    dc = new((form.sides, B, form.units), dtype) if wanted[2] else None
    dweights = [new(shape, dtype) for shape in form.shapes]
    _engine.stack_backward(
        form.stack,
        *_extent(call, x),
        x.data_ptr(),
        [w.data_ptr() for w in weights],
        [mask.data_ptr() for mask in masks],
        tape.data_ptr(),
        _address(dy),
        _address(dh_final),
        _address(dc_final),
        _address(dx),
        _address(dh),
        _address(dc),
        [d.data_ptr() for d in dweights],
    )
    return [dx, dh, dc, *dweights]


def _extent(call: Pass, x: torch.Tensor) -> tuple[bool, int, int, int, int]:
    """Whether in float64; T, B, the rows of x, and where the sizes of a packed batch stand."""
    rows = call.steps * call.batch if call.running is None else x.shape[0]
    return x.dtype is torch.float64, call.steps, call.batch, rows, _address(call.running)


def fit(module: Any, form: Form, weights: Sequence[torch.Tensor]) -> None:
    """Looks at what the engine takes for granted.

    Raises:
        ValueError: where a weight has another shape than the module's form says, or another dtype
            than the first one.
        RuntimeError: where one is on another device.
    """
    dtype = weights[0].dtype
    for k, (w, shape) in enumerate(zip(weights, form.shapes, strict=True)):
        if w.shape != shape or w.dtype is not dtype or not w.is_cpu:
            what = f"{type(module).__name__}: {weight_names(module)[k]}"
            if not w.is_cpu:
                refuse(what, "a tensor on cpu, as the first", w.device, error=RuntimeError)
            if w.dtype is not dtype:
                refuse(what, f"{dtype}, as the first", w.dtype)
            refuse(what, f"shape {shape}", tuple(w.shape))


def plain(tensor: Any) -> Any:
    """A tensor whose memory is its numbers, one after the other; None for None."""
    if tensor is None or (
        tensor.is_contiguous() and not tensor.is_neg() and not tensor._is_zerotensor()
    ):
        return tensor
    return tensor.resolve_neg().clone(memory_format=torch.contiguous_format)


def new(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor to be filled; a large one in memory that the engine uses again."""
    return torch.from_numpy(_numbers(shape, dtype))  # quicker than torch.empty


def _numbers(shape: tuple[int, ...], dtype: torch.dtype) -> Array:
    twice, count = dtype is torch.float64, math.prod(shape)
    if count < WORTH_KEEPING:
        return np.empty(shape, np.float64 if twice else np.float32)
    return _engine.empty(1, 1, count, twice).reshape(shape)


def _address(tensor: Maybe) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _again(
    call: Pass, inputs: tuple[Maybe, ...], masks: list[torch.Tensor], arriving: tuple[Maybe, ...]
) -> Gradients:
    """The same gradients, the call done once more a direction at a time."""
    create, taps = torch.is_grad_enabled(), call.module._taps
    if create and taps is not None:
        taps.refuse_higher_order()
    return gradients(partial(call.again, call, masks, create), inputs, arriving, create)
