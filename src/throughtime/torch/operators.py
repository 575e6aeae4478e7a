"""One direction as registered operators, which compilers can trace: `torch.ops.throughtime`.

Both know the shapes of what they give, on tensors without numbers too. The backward pass is an
operator itself, and differentiable by way of `reference.recurrence`.
"""

from __future__ import annotations

from typing import Any, Optional  # the operators' schemas are read from these annotations

import torch
from torch import Tensor

from throughtime.arrays import refuse
from throughtime.cells import Cell, active_steps
from throughtime.torch.arguments import Arguments
from throughtime.torch.config import ModuleConfig
from throughtime.torch.direction import (
    DirectionTape,
    LayerStates,
    Result,
    RunDirection,
    StepOrder,
    packed_orders,
    paired,
    reversed_steps,
    with_memory,
)
from throughtime.torch.double_backward import operator_gradients
from throughtime.torch.eager import EngineRun, EngineTape, engine_backward, engine_forward
from throughtime.torch.models.weights import TorchWeights, cell_of, engine_parameters, kind_of


def _recurrence(
    x: Tensor,
    h: Tensor,
    c: Optional[Tensor],  # noqa: UP045
    W: Tensor,
    U: Tensor,
    b: Tensor,
    cb: Optional[Tensor],  # noqa: UP045
    R: Optional[Tensor],  # noqa: UP045
    p: Optional[Tensor],  # noqa: UP045
    sizes: Optional[Tensor],  # noqa: UP045
    mode: str,
    reset_after: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(T, B, I) -> h (T + 1, B, ·) with the initial one, the final c, and the tape: c, gates.

    With the sizes of a PackedSequence, x holds its rows, and the fifth result h of each row; time
    runs backwards where `reverse` says so. Without sizes the fifth result is empty.
    """
    order = _order(x, h, sizes, reverse)
    run = _engine_run(order, x, h, c, W, U, b, cb, R, p, mode, reset_after)
    kept = engine_forward(run)
    assert kept.inner is not None
    every_c = x.new_empty(0) if kept.c is None else torch.from_numpy(kept.c)
    last_c = x.new_empty(0) if kept.c is None else every_c[-1].clone()
    every_h, inner = torch.from_numpy(kept.h), torch.from_numpy(kept.inner)
    rows = x.new_empty(0) if sizes is None else order.from_engine(every_h[1:])
    if sizes is not None and order.in_order:
        rows = rows.clone()  # results of an operator share no memory
    return every_h, last_c, every_c, inner, rows


def _recurrence_backward(
    dh: Optional[Tensor],  # noqa: UP045
    dc: Optional[Tensor],  # noqa: UP045
    drows: Optional[Tensor],  # noqa: UP045
    every_h: Tensor,
    every_c: Tensor,
    inner: Tensor,
    x: Tensor,
    h: Tensor,
    c: Optional[Tensor],  # noqa: UP045
    W: Tensor,
    U: Tensor,
    b: Tensor,
    cb: Optional[Tensor],  # noqa: UP045
    R: Optional[Tensor],  # noqa: UP045
    p: Optional[Tensor],  # noqa: UP045
    sizes: Optional[Tensor],  # noqa: UP045
    mode: str,
    reset_after: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients by x, h, c, W, U, b, cb, R, p; empty for what the cell does not have."""
    order = _order(x, h, sizes, reverse)
    run = _engine_run(order, x, h, c, W, U, b, cb, R, p, mode, reset_after)
    kept = EngineTape(
        every_h.contiguous().numpy(),
        None if c is None else every_c.contiguous().numpy(),
        inner.contiguous().numpy(),
    )
    dstate = {} if dc is None or c is None else {"c": dc.numpy()}
    doutputs, rest = _upstream(order, dh, drows)
    dstate |= {} if rest is None else {"h": rest}
    found = engine_backward(run, kept, doutputs, dstate, need_inputs=True, need_deltas=False)
    d = {name: torch.from_numpy(array) for name, array in found.parameters.items()}
    d |= {name: torch.from_numpy(array) for name, array in found.state.items() if name == "h"}
    if dh is not None:
        d["h"] = d["h"] + dh[0]
    by_c = x.new_empty(0) if c is None else torch.from_numpy(found.state["c"])
    assert found.inputs is not None
    names = ("W", "U", "b", "c", "R", "p")
    dW, dU, db, dcb, dR, dp = (d[name] if name in d else x.new_empty(0) for name in names)
    dx = order.from_engine(torch.from_numpy(found.inputs))
    return dx, d["h"], by_c, dW, dU, db, dcb, dR, dp


def _upstream(order: StepOrder, dh: Tensor | None, drows: Tensor | None) -> tuple[Any, Any]:
    """The gradient by h of every step, and by that of ended sequences, which stands still."""
    rest = None
    every = None if dh is None else dh[1:].contiguous()
    if every is not None and order.lengths is not None:
        ended = ~torch.from_numpy(active_steps(order.steps, order.lengths))
        rest = (every * ended).sum(0).numpy()
    if drows is not None:
        ordered = order.to_engine(drows)
        every = ordered if every is None else every + ordered
    return None if every is None else every.numpy(), rest


def _order(x: Tensor, h: Tensor, sizes: Tensor | None, reverse: bool) -> StepOrder:
    """Of the rows of a PackedSequence, or of steps."""
    if sizes is None:
        return StepOrder(int(x.shape[0]), int(x.shape[1]))
    found = packed_orders(sizes)[reverse]
    if found.batch != h.shape[0]:
        expected = f"as many sequences as the first step has, {found.batch}"
        refuse("hx", expected, h.shape[0], error=RuntimeError)
    return found


recurrence = torch.library.custom_op("throughtime::recurrence", _recurrence, mutates_args=())
recurrence_backward = torch.library.custom_op(
    "throughtime::recurrence_backward", _recurrence_backward, mutates_args=()
)


@recurrence.register_fake
def _shapes(
    x: Tensor, h: Tensor, c: Tensor | None, W: Tensor, U: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """By arithmetic alone: sizes may be symbols."""
    *_, sizes, mode, _, _ = rest
    T, B, H = x.shape[0], h.shape[0], W.shape[0] // len(kind_of(mode).gates)
    rows = x.new_empty(0)
    if sizes is not None:
        T, rows = sizes.shape[0], x.new_empty(x.shape[0], U.shape[1])
    every_h = x.new_empty(T + 1, B, U.shape[1])
    last_c = x.new_empty(0) if c is None else x.new_empty(B, H)
    every_c = x.new_empty(0) if c is None else x.new_empty(T + 1, B, H)
    inner = x.new_empty(T, B, len(kind_of(mode).kept) * H)
    return every_h, last_c, every_c, inner, rows


@recurrence_backward.register_fake
def _gradient_shapes(
    dh: Any, dc: Any, drows: Any, every_h: Tensor, every_c: Tensor, inner: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    x, *_ = given = rest[:9]
    return tuple(x.new_empty(0 if t is None else t.shape) for t in given)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    tensors, ctx.options = inputs[:-3], inputs[-3:]
    every_h, _, every_c, inner, _ = output
    ctx.mark_non_differentiable(every_c, inner)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(every_h, every_c, inner, *tensors)


def _gradient(ctx: Any, dh: Any, dc: Any, _c: Any, _inner: Any, drows: Any) -> tuple[Any, ...]:
    every_h, every_c, inner, *tensors, sizes = ctx.saved_tensors
    if dc is not None and tensors[2] is None:
        dc = None
    if sizes is None:
        drows = None
    tape = (every_h, every_c, inner)
    found = recurrence_backward(dh, dc, drows, *tape, *tensors, sizes, *ctx.options)
    asked = [d if t is not None else None for d, t in zip(found, tensors, strict=True)]
    return *asked, None, None, None, None


def _keep_for_second(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:-3])
    ctx.options = inputs[-3:-1]


def _second_gradient(ctx: Any, *dd: Any) -> tuple[Any, ...]:
    """Of the gradients as functions of dh, dc and the inputs; the tape is one of these."""
    dh, dc, _, _, _, _, *inputs, sizes = ctx.saved_tensors
    if sizes is not None:
        what = "torch.ops.throughtime.recurrence_backward"
        refuse(what, "no further derivative of a PackedSequence", "one", error=RuntimeError)
    cell = _cell(*inputs[3:], *ctx.options)
    d_dh, d_dc, *d_inputs = operator_gradients(cell, dh, dc, inputs, dd)
    return d_dh, d_dc, None, None, None, None, *d_inputs, None, None, None, None


def operator_direction(
    module: Any, arguments: Arguments, tapes: list[DirectionTape]
) -> RunDirection:
    """Computes one direction after the other by operators, and appends what each keeps."""
    sizes, batch = arguments.sizes, arguments.batch

    def run(k: int, x: Tensor, h: Tensor | None, c: Tensor | None, weights: TorchWeights) -> Result:
        reverse = bool(module.bidirectional and k % 2)
        flipped = reverse and sizes is None
        lstm = module.mode == "LSTM"
        x = x.flip(0) if flipped else x
        if h is None:
            h = x.new_zeros(batch, weights.weight_hh.shape[1])
        if c is None and lstm:
            c = x.new_zeros(batch, weights.weight_ih.shape[0] // 4)
        p = engine_parameters(weights, module.mode == "GRU" and module.reset_after, torch)
        given = [p.get(name) for name in ("W", "U", "b", "c", "R", "p")]
        every_h, last_c, every_c, inner, rows = recurrence(
            x, h, c, *given, sizes, module.mode, module.reset_after, reverse
        )
        tapes.append(DirectionTape(every_h.detach(), every_c if lstm else None, inner))
        y = every_h[1:] if sizes is None else rows
        return (y.flip(0) if flipped else y), every_h[-1], last_c if lstm else None

    return run


def operator_states(
    config: ModuleConfig, arguments: Arguments, tapes: list[DirectionTape]
) -> list[LayerStates]:
    """The inner values of all layers, from what the operators kept."""
    steps, lengths = tapes[0].inner.shape[0], None
    if arguments.sizes is not None:
        lengths = (torch.arange(arguments.batch) < arguments.sizes[:, None]).sum(0)
    turned = reversed_steps(steps, arguments.batch, lengths)
    own = []
    for k, tape in enumerate(tapes):
        own_steps = turned if k % config.directions == 1 else None
        names, batch_order = config.kept_names, arguments.unsorted
        own.append(tape.states(config.units, names, own_steps, batch_order))
    return paired(own, config.directions)


def _cell(
    W: Tensor, U: Tensor, b: Any, cb: Any, R: Any, p: Any, mode: str, reset_after: bool
) -> Cell:
    units, inputs = int(W.shape[0]) // len(kind_of(mode).gates), int(W.shape[1])
    projection = 0 if R is None else int(U.shape[1])
    return cell_of(mode, inputs, units, projection, p is not None, reset_after)


def _engine_run(
    order: StepOrder,
    x: Tensor,
    h: Tensor,
    c: Any,
    W: Tensor,
    U: Tensor,
    b: Tensor,
    cb: Any,
    R: Any,
    p: Any,
    mode: str,
    reset_after: bool,
) -> EngineRun:
    given = {"W": W, "U": U, "b": b, "c": cb, "R": R, "p": p}
    state = {"h": h.detach().numpy()} | ({} if c is None else {"c": c.detach().numpy()})
    return EngineRun(
        _cell(W, U, b, cb, R, p, mode, reset_after),
        {name: with_memory(t).detach().numpy() for name, t in given.items() if t is not None},
        order.to_engine(with_memory(x).detach()).numpy(),
        state,
        order.lengths,
        order.steps,
    )


def _one_by_one(operator: Any) -> Any:
    """The operator's rule for vmap: it runs once for each entry of the batch."""

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        found = []
        for k in range(info.batch_size):
            pairs = zip(args, in_dims, strict=True)
            found.append(operator(*(a if dim is None else a.select(dim, k) for a, dim in pairs)))
        results = tuple(torch.stack(parts) for parts in zip(*found, strict=True))
        return results, (0,) * len(results)

    return rule


for _operator in (recurrence, recurrence_backward):
    _operator.register_vmap(_one_by_one(_operator))
recurrence.register_autograd(_gradient, setup_context=_keep)
recurrence_backward.register_autograd(_second_gradient, setup_context=_keep_for_second)
