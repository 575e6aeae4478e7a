"""One direction as registered operators, which compilers can trace: `torch.ops.throughtime`.

Both know the shapes of what they give, on tensors without numbers too. The backward pass is an
operator itself, and differentiable by way of `reference.recurrence`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional  # the operators' schemas are read from these annotations

import torch
from torch import Tensor

from throughtime.arrays import refuse
from throughtime.cells import KEPT, Cell, active_steps
from throughtime.torch import passes, reference
from throughtime.torch.step_order import Layout, packed
from throughtime.torch.weights import Weights, cell_of

GATES = {"LSTM": 4, "GRU": 3}  # by torch's mode; the RNN has one


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

    With the sizes of a PackedSequence x are its rows, and so is the fifth result, h of each; they
    are walked over backwards where `reverse` says so. Without sizes it is empty.
    """
    layout = _layout(x, h, sizes, reverse)
    run = _run(layout, x, h, c, W, U, b, cb, R, p, mode, reset_after)
    kept = passes.forward(run)
    assert kept.inner is not None
    every_c = x.new_empty(0) if kept.c is None else torch.from_numpy(kept.c)
    last_c = x.new_empty(0) if kept.c is None else every_c[-1].clone()
    every_h, inner = torch.from_numpy(kept.h), torch.from_numpy(kept.inner)
    rows = x.new_empty(0) if sizes is None else layout.back(every_h[1:])
    if sizes is not None and layout.in_order:
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
) -> list[Tensor]:
    """Gradients by x, h, c, W, U, b, cb, R, p; empty ones for what the cell has not."""
    layout = _layout(x, h, sizes, reverse)
    run = _run(layout, x, h, c, W, U, b, cb, R, p, mode, reset_after)
    kept = passes.Kept(
        every_h.contiguous().numpy(),
        None if c is None else every_c.contiguous().numpy(),
        inner.contiguous().numpy(),
    )
    dstate = {} if dc is None or c is None else {"c": dc.numpy()}
    doutputs, rest = _arriving(layout, dh, drows)
    dstate |= {} if rest is None else {"h": rest}
    found = passes.backward(run, kept, doutputs, dstate, need_inputs=True, need_deltas=False)
    d = {name: torch.from_numpy(array) for name, array in found.parameters.items()}
    d |= {name: torch.from_numpy(array) for name, array in found.state.items() if name == "h"}
    if dh is not None:
        d["h"] = d["h"] + dh[0]
    by_state = [d["h"], x.new_empty(0) if c is None else torch.from_numpy(found.state["c"])]
    assert found.inputs is not None
    names = ("W", "U", "b", "c", "R", "p")
    by_parameter = [d[name] if name in d else x.new_empty(0) for name in names]
    return [layout.back(torch.from_numpy(found.inputs)), *by_state, *by_parameter]


def _arriving(layout: Layout, dh: Tensor | None, drows: Tensor | None) -> tuple[Any, Any]:
    """The gradient by h of every step, and by that of ended sequences, which stands still."""
    rest = None
    every = None if dh is None else dh[1:].contiguous()
    if every is not None and layout.lengths is not None:
        ended = ~torch.from_numpy(active_steps(layout.steps, layout.lengths))
        rest = (every * ended).sum(0).numpy()
    if drows is not None:
        laid = layout.lay(drows)
        every = laid if every is None else every + laid
    return None if every is None else every.numpy(), rest


def _layout(x: Tensor, h: Tensor, sizes: Tensor | None, reverse: bool) -> Layout:
    """Of the rows of a PackedSequence, or of steps."""
    if sizes is None:
        return Layout(int(x.shape[0]), int(x.shape[1]))
    found = packed(sizes)[reverse]
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
    T, B, H = x.shape[0], h.shape[0], W.shape[0] // GATES.get(mode, 1)
    rows = x.new_empty(0)
    if sizes is not None:
        T, rows = sizes.shape[0], x.new_empty(x.shape[0], U.shape[1])
    every_h = x.new_empty(T + 1, B, U.shape[1])
    last_c = x.new_empty(0) if c is None else x.new_empty(B, H)
    every_c = x.new_empty(0) if c is None else x.new_empty(T + 1, B, H)
    inner = x.new_empty(T, B, len(KEPT[mode.split("_")[0]]) * H)
    return every_h, last_c, every_c, inner, rows


@recurrence_backward.register_fake
def _gradient_shapes(
    dh: Any, dc: Any, drows: Any, every_h: Tensor, every_c: Tensor, inner: Tensor, *rest: Any
) -> list[Tensor]:
    x, *_ = given = rest[:9]
    return [x.new_empty(0 if t is None else t.shape) for t in given]


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


def _keep_for_second(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.save_for_backward(*inputs[:-3])
    ctx.options = inputs[-3:-1]


def _second_gradient(ctx: Any, dd: list[Any]) -> tuple[Any, ...]:
    """Of the gradients as functions of dh, dc and the inputs; the tape is one of these."""
    dh, dc, _, _, _, _, *inputs, sizes = ctx.saved_tensors
    if sizes is not None:
        what = "torch.ops.throughtime.recurrence_backward"
        refuse(what, "no further derivative of a PackedSequence", "one", error=RuntimeError)
    with torch.enable_grad():
        given = [None if t is None else t.detach().requires_grad_() for t in (dh, dc, *inputs)]
        dh, dc, *inputs = given
        found = _differentiable(dh, dc, inputs, *ctx.options)
        pairs = [(g, d) for g, d in zip(found, dd, strict=True) if g is not None and d is not None]
        asked = _present(given)
        second = iter(
            torch.autograd.grad(
                [g for g, _ in pairs], asked, [d for _, d in pairs], allow_unused=True
            )
        )
    d_dh, d_dc, *d_inputs = [None if t is None else next(second) for t in given]
    return d_dh, d_dc, None, None, None, None, *d_inputs, None, None, None, None


def _differentiable(
    dh: Tensor | None, dc: Tensor | None, inputs: list[Any], mode: str, reset_after: bool
) -> list[Tensor | None]:
    """Gradients by the inputs as differentiable functions of them, of dh and of dc."""
    x, h, c, W, U, b, cb, R, p = inputs
    cell = _cell(W, U, b, cb, R, p, mode, reset_after)
    zero = None if cb is None else torch.cat([b.new_zeros(2 * cell.units), cb])
    weights = Weights(W, U, b, torch.zeros_like(b) if zero is None else zero, R, p)
    layout = Layout(int(x.shape[0]), int(x.shape[1]))
    outputs, _, last_c = reference.recurrence(cell, layout, x, h, c, weights)
    every_h = torch.cat([h[None], outputs])
    pairs = [(y, d) for y, d in ((every_h, dh), (last_c, dc)) if d is not None and y is not None]
    results, upstream = [y for y, _ in pairs], [d for _, d in pairs]
    asked = _present(inputs)
    found = iter(
        torch.autograd.grad(results, asked, upstream, create_graph=True, allow_unused=True)
    )
    return [None if t is None else next(found) for t in inputs]


def _present(tensors: Iterable[Any]) -> list[Tensor]:
    return [t for t in tensors if t is not None]


def _cell(
    W: Tensor, U: Tensor, b: Any, cb: Any, R: Any, p: Any, mode: str, reset_after: bool
) -> Cell:
    units, inputs = int(W.shape[0]) // GATES.get(mode, 1), int(W.shape[1])
    projection = 0 if R is None else int(U.shape[1])
    return cell_of(mode, inputs, units, projection, p is not None, reset_after)


def _run(
    layout: Layout,
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
) -> passes.Run:
    given = {"W": W, "U": U, "b": b, "c": cb, "R": R, "p": p}
    state = {"h": h.detach().numpy()} | ({} if c is None else {"c": c.detach().numpy()})
    return passes.Run(
        _cell(W, U, b, cb, R, p, mode, reset_after),
        {name: t.detach().numpy() for name, t in given.items() if t is not None},
        layout.lay(x.detach()).numpy(),
        state,
        layout.lengths,
        layout.steps,
    )


recurrence.register_autograd(_gradient, setup_context=_keep)
recurrence_backward.register_autograd(_second_gradient, setup_context=_keep_for_second)
