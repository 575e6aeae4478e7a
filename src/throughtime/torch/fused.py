"""A module's call in one compiled call each way, layers and directions included.

Tensors are handed over by address: making an array of each would take longer than a small call.
What is saved for the backward pass is saved by torch's own means, so that changes are noticed,
hooks on saved tensors see it, and memory is given back when the graph is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.nn.functional import dropout

from throughtime import _engine
from throughtime.arrays import Array, refuse
from throughtime.cells import WORTH_KEEPING
from throughtime.torch.arguments import Arguments, is_autocast_to_bfloat16
from throughtime.torch.config import ModuleConfig, config_of
from throughtime.torch.direction import (
    DirectionTape,
    InPlaceChanges,
    LayerDirection,
    Result,
    StepOrders,
    address_of_none,
    masked,
    run_layers,
    step_orders,
)
from throughtime.torch.double_backward import gradients_by_autograd, module_gradients
from throughtime.torch.eager import eager_direction
from throughtime.torch.execution import backward_row
from throughtime.torch.models.weights import MaybeTensor, module_weight_names

Gradients: TypeAlias = tuple[MaybeTensor, ...]


@dataclass(eq=False, slots=True)
class FusedCall:
    """One call of a module, as the engine is to compute it.

    Attributes:
        module, config: the module that is called, and its configuration.
        steps, batch: T and B.
        running: (T,) how many sequences run at each step, of a PackedSequence; else None.
        ragged: whether some of them end before others.
        masks: factors of dropout after each layer but the last; or none.
        number: the call's number, counted over all modules.
        batch_order: (B,) the sequences' places before packing, None where nothing was sorted.
        wanted: whether the forward pass is to fill in `tape`.
        tape: what it kept.
        bfloat16: whether products are in bfloat16, in both passes.
    """

    module: Any
    config: ModuleConfig
    steps: int
    batch: int
    running: MaybeTensor
    ragged: bool
    masks: list[torch.Tensor]
    number: int
    batch_order: MaybeTensor
    wanted: bool = False
    tape: MaybeTensor = None
    bfloat16: bool = False

    @property
    def stack(self) -> _engine.Stack:
        """The engine's description of all layers."""
        return self.config.stack_in_bfloat16 if self.bfloat16 else self.config.stack

    def places(self) -> tuple[int, list[tuple[int, int, int]]]:
        """How many numbers the tape has, and where h, c and gates of each direction begin."""
        return self.stack.places(self.steps, self.batch, self.ragged, bool(self.masks))

    def tapes(self) -> list[DirectionTape]:
        """Views of the tape, one a direction, each in its own order of time."""
        T, B, config, tape = self.steps, self.batch, self.config, self.tape
        assert tape is not None

        def view(start: int, steps: int, width: int) -> torch.Tensor:
            return tape[start : start + steps * B * width].view(steps, B, width)

        return [
            DirectionTape(
                view(h, T + 1, config.outputs),
                view(c, T + 1, config.units) if config.lstm else None,
                view(inner, T, config.kept),
            )
            for h, c, inner in self.places()[1]
        ]

    def orders(self) -> StepOrders:
        """The orders of steps of both directions."""
        return step_orders(self.running, self.steps, self.batch)

    def directions(self) -> list[LayerDirection]:
        """What ran at once, one direction at a time, with what each kept."""
        orders, config, found = self.orders(), self.config, []
        for k, tape in enumerate(self.tapes()):
            layer, reverse = divmod(k, config.directions)
            own = (self.module, self.number, layer, config.cell(layer), orders[reverse])
            more = (self.steps, True, self.batch_order, tape, self.bfloat16)
            found.append(LayerDirection(*own, *more))
        return found


class FusedRecurrence(torch.autograd.Function):
    """(call, x, h_0, c_0, *weights) -> outputs, final h and c; x as the module's inputs come."""

    @staticmethod
    def forward(
        ctx: Any,
        call: FusedCall,
        x: torch.Tensor,
        h: MaybeTensor,
        c: MaybeTensor,
        *weights: torch.Tensor,
    ) -> Result:
        ctx.set_materialize_grads(False)
        ordered = plain(x)
        *results, tape = forward(call, ordered, h, c, weights, call.masks)
        ctx.call, outputs = call, results[0]
        ctx.changes = None
        if not own_outputs(call) and not outputs.is_inference():  # they are the tape's memory
            ctx.changes = InPlaceChanges(outputs)
        own = None if ordered is x else ordered
        ctx.save_for_backward(x, h, c, own, tape, *weights, *call.masks)
        if call.wanted:
            call.tape = tape
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, dy: MaybeTensor, dh: MaybeTensor, dc: MaybeTensor) -> Gradients:
        call = ctx.call
        count = len(call.config.shapes)
        if dy is None and dh is None and dc is None:
            return (None,) * (4 + count)
        x, h, c, ordered, tape, *weights = ctx.saved_tensors
        masks = weights[count:]
        del weights[count:]
        way = backward_row(call.module, "fused", (dy, dh, dc)).way
        if way != "fused":
            inputs, upstream = (x, h, c, *weights), (dy, dh, dc)
            if way == "double_backward":
                found = module_gradients(call.config, call.orders(), masks, inputs, upstream)
                return None, *found
            return None, *_by_direction(call, inputs, masks, upstream)
        ordered = x if ordered is None else ordered
        if ctx.changes is not None and ctx.changes.any():
            tape = forward(call, ordered, h, c, weights, masks)[-1]
        wanted = ctx.needs_input_grad[1:4]
        return None, *backward(call, ordered, weights, masks, tape, (dy, dh, dc), wanted)


def fused_call(
    module: Any, arguments: Arguments, weights: Sequence[torch.Tensor], number: int, wanted: bool
) -> tuple[Result, FusedCall]:
    """Results of a module's call; `wanted` says whether the call is to have its tape."""
    config, x, sizes = config_of(module), arguments.x, arguments.sizes
    validate(module, config, weights)
    steps, ragged = x.shape[0], False
    if sizes is not None:
        steps, ragged = len(sizes), int(sizes[-1]) != arguments.batch
    masks = []
    if module.dropout and module.training:
        ones = torch.ones(*x.shape[:-1], config.width, dtype=x.dtype)
        masks = [dropout(ones, module.dropout, True) for _ in range(config.layers - 1)]
    call = FusedCall(
        module,
        config,
        steps,
        arguments.batch,
        sizes,
        ragged,
        masks,
        number,
        arguments.unsorted,
        wanted,
        bfloat16=is_autocast_to_bfloat16(x.dtype),
    )
    given = (x, arguments.h, arguments.c, *weights)
    if torch.is_grad_enabled() and _requires_grad(given):
        outputs, h, c = FusedRecurrence.apply(call, *given)
    else:
        x, h, c = (plain(t) for t in given[:3])
        outputs, h, c, call.tape = forward(call, x, h, c, weights, masks)
    return (outputs, h, c), call


def _requires_grad(given: tuple[MaybeTensor, ...]) -> bool:
    return any(t is not None and t.requires_grad for t in reversed(given))


def own_outputs(call: FusedCall) -> bool:
    """Whether outputs have memory of their own, since the tape has them in another order."""
    return call.ragged or call.config.directions > 1


def forward(
    call: FusedCall,
    x: torch.Tensor,
    h: MaybeTensor,
    c: MaybeTensor,
    weights: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, MaybeTensor, torch.Tensor]:
    """Outputs as rows or steps, as x; final h and c of all directions; the tape."""
    config, dtype, B = call.config, x.dtype, call.batch
    size, places = call.places()
    memory = _numbers((size,), dtype)
    tape = torch.from_numpy(memory)
    shape = (*x.shape[:-1], config.width)
    if own_outputs(call):
        outputs = new(shape, dtype)
        y = outputs.data_ptr()
    else:
        y, first = 0, places[-1][0] + B * config.outputs
        last = first + call.steps * B * config.outputs
        outputs = torch.from_numpy(memory[first:last].reshape(shape))
    final_h = new((config.direction_count, B, config.outputs), dtype)
    final_c = new((config.direction_count, B, config.units), dtype) if config.lstm else None
    h, c, weights = plain(h), plain(c), [plain(w) for w in weights]
    _engine.stack_forward(
        call.stack,
        float64=dtype is torch.float64,
        steps=call.steps,
        batch=B,
        rows=_rows(call, x),
        running=_address(call.running),
        x=_address(x),
        weights=[_address(w) for w in weights],
        masks=[mask.data_ptr() for mask in masks],
        tape=tape.data_ptr(),
        h0=_address(h),
        c0=_address(c),
        outputs=y,
        h=final_h.data_ptr(),
        c=_address(final_c),
    )
    return outputs, final_h, final_c, tape


def backward(
    call: FusedCall,
    x: torch.Tensor,
    weights: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor],
    tape: torch.Tensor,
    upstream: tuple[MaybeTensor, MaybeTensor, MaybeTensor],
    wanted: Sequence[bool],
) -> list[MaybeTensor]:
    """Gradients by x, h_0, c_0 where they are wanted, and by the weights."""
    config, dtype, B = call.config, x.dtype, call.batch
    dy, dh_final, dc_final = map(plain, upstream)
    weights = [plain(w) for w in weights]
    dx = new(x.shape, dtype) if wanted[0] else None
    dh = new((config.direction_count, B, config.outputs), dtype) if wanted[1] else None
    dc = new((config.direction_count, B, config.units), dtype) if wanted[2] else None
    dweights = [new(shape, dtype) for shape in config.shapes]
    _engine.stack_backward(
        call.stack,
        float64=dtype is torch.float64,
        steps=call.steps,
        batch=B,
        rows=_rows(call, x),
        running=_address(call.running),
        x=_address(x),
        weights=[_address(w) for w in weights],
        masks=[mask.data_ptr() for mask in masks],
        tape=tape.data_ptr(),
        doutputs=_address(dy),
        dh=_address(dh_final),
        dc=_address(dc_final),
        dx=_address(dx),
        dh0=_address(dh),
        dc0=_address(dc),
        dweights=[d.data_ptr() for d in dweights],
    )
    return [dx, dh, dc, *dweights]


def _rows(call: FusedCall, x: torch.Tensor) -> int:
    """The rows of x: T·B, or fewer in a packed batch."""
    return call.steps * call.batch if call.running is None else x.shape[0]


def validate(module: Any, config: ModuleConfig, weights: Sequence[torch.Tensor]) -> None:
    """Validates the weights, which the engine takes by address.

    Raises:
        ValueError: where a weight has another shape than the module's options say, or another
            dtype than the first one.
        RuntimeError: where one is on another device.
    """
    dtype = weights[0].dtype
    for k, (w, shape) in enumerate(zip(weights, config.shapes, strict=True)):
        if w.shape != shape or w.dtype is not dtype or not w.is_cpu:
            what = f"{type(module).__name__}: {module_weight_names(module)[k]}"
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


def _address(tensor: MaybeTensor) -> int:
    """Where a tensor's numbers begin; 0 for None, which has none."""
    if tensor is None:
        return 0
    return tensor.data_ptr() or address_of_none(tensor)


def _by_direction(
    call: FusedCall, inputs: Gradients, masks: Sequence[torch.Tensor], upstream: Gradients
) -> Gradients:
    """The same gradients, the call computed once more, one direction after the other."""
    config, orders, order = call.config, call.orders(), call.batch_order
    own = (call.module, config, orders, call.number, False, order)
    run_one = eager_direction(*own, [], call.bfloat16)

    def run(x: torch.Tensor, h: MaybeTensor, c: MaybeTensor, *weights: torch.Tensor) -> Result:
        return run_layers(config, x, (h, c), weights, run_one, masked(masks))

    return gradients_by_autograd(run, inputs, upstream, create_graph=False)
