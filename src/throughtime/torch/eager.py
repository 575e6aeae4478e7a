"""One direction as a `torch.autograd.Function`; tensors and the engine's arrays share memory.

Inputs, weights and tape are saved by torch's own means, so that changed ones are noticed, hooks
on saved tensors see them, and memory is given back when the graph is.
"""

from __future__ import annotations

from typing import Any

import torch

from throughtime.cells import GRU
from throughtime.torch import passes
from throughtime.torch.side import Side
from throughtime.torch.states import Kept
from throughtime.torch.steps import recurrence
from throughtime.torch.weights import Maybe, Weights, engine_parameters, torch_gradients

WEIGHTS = len(Weights._fields)


class Recurrence(torch.autograd.Function):
    """(side, x, h_0, c_0, *weights) -> outputs in the order of x, final h and c."""

    @staticmethod
    def forward(
        ctx: Any, side: Side, x: torch.Tensor, h: Maybe, c: Maybe, *weights: Maybe
    ) -> tuple[torch.Tensor, torch.Tensor, Maybe]:
        ctx.set_materialize_grads(False)
        ctx.side = side
        laid = side.layout.lay(x.detach())
        run = _run(side, laid, h, c, Weights(*weights))
        kept = _tensors(passes.forward(run))
        in_memory = side.layout.place is None and not side.layout.reverse
        outputs = torch.from_numpy(kept.h.numpy()[1:]) if in_memory else kept.h[1:]
        outputs = side.layout.back(outputs)
        ctx.changes = _Changes(outputs) if in_memory else None
        own = None if laid.data_ptr() == x.data_ptr() else laid
        ctx.save_for_backward(x, h, c, *weights, own, *kept)
        if side.wanted:
            side.kept = Kept(*kept)
        final = None if kept.c is None else kept.c[-1].clone()
        return outputs, kept.h[-1].clone(), final

    @staticmethod
    def backward(ctx: Any, dy: Maybe, dh: Maybe, dc: Maybe) -> tuple[Maybe, ...]:
        x, h, c, *rest = ctx.saved_tensors
        side, weights, laid = ctx.side, Weights(*rest[:WEIGHTS]), rest[WEIGHTS]
        if dy is None and dh is None and dc is None:
            return (None,) * (4 + WEIGHTS)
        taps = side.module._taps
        if torch.is_grad_enabled():  # somebody will differentiate what comes out
            if taps is not None:
                taps.refuse_higher_order()
            return None, *_differentiable(side, (x, h, c, *weights), (dy, dh, dc))
        run = _run(side, side.layout.lay(x) if laid is None else laid, h, c, weights)
        if ctx.changes is not None and ctx.changes.any():
            kept = passes.forward(run)  # the outputs, which are the tape's memory, were changed
        else:
            every_h, every_c, inner = rest[WEIGHTS + 1 :]
            kept = passes.Kept(every_h.numpy(), _array(every_c), _array(inner))
        given = {"h": dh, "c": dc}
        found = passes.backward(
            run,
            kept,
            None if dy is None else side.layout.lay(dy).numpy(),
            {name: d.numpy() for name, d in given.items() if d is not None},
            need_inputs=ctx.needs_input_grad[1],
            need_deltas=taps is not None,
        )
        if taps is not None:
            taps.record(side, run, kept, found)
        dx = None if found.inputs is None else side.layout.back(torch.from_numpy(found.inputs))
        pairs = (("h", h), ("c", c))
        before = [None if s is None else torch.from_numpy(found.state[n]) for n, s in pairs]
        gradient = {name: torch.from_numpy(array) for name, array in found.parameters.items()}
        return None, dx, *before, *torch_gradients(weights, gradient)


class _Changes:
    """Whether outputs were changed in place: torch counts that, for all who share a tensor."""

    def __init__(self, outputs: torch.Tensor) -> None:
        self.counter = outputs.detach()
        self.counter.data = outputs.new_empty(0)  # it shares the count but not the memory
        self.before = self.counter._version

    def any(self) -> bool:
        return bool(self.counter._version != self.before)


def _run(side: Side, laid: torch.Tensor, h: Maybe, c: Maybe, weights: Weights) -> passes.Run:
    """What the engine is given: views of the tensors."""
    cell = side.cell
    p = engine_parameters(weights, isinstance(cell, GRU), getattr(cell, "reset_after", False))
    given = {"h": h, "c": c}
    return passes.Run(
        cell,
        {name: tensor.detach().numpy() for name, tensor in p.items()},
        laid.numpy(),
        {n: s.detach().numpy() for n, s in given.items() if s is not None} or None,
        side.layout.lengths,
        side.segment,
    )


def _array(tensor: Maybe) -> Any:
    return None if tensor is None else tensor.numpy()


def _tensors(kept: passes.Kept) -> Kept:
    return Kept(*[None if array is None else torch.from_numpy(array) for array in kept])


def _differentiable(
    side: Side, inputs: tuple[Maybe, ...], dfinal: tuple[Maybe, ...]
) -> tuple[Maybe, ...]:
    """The same gradients by way of torch's own operations, which can be differentiated again."""
    own = [None if t is None else t.view_as(t) for t in inputs]  # each apart from the others
    with torch.autocast("cpu", enabled=False):
        x, h, c, *weights = own
        results = recurrence(side.cell, side.layout, x, h, c, Weights(*weights))
        asked = [t for t in own if t is not None and t.requires_grad]
        pairs = [(y, d) for y, d in zip(results, dfinal, strict=True) if d is not None]
        found = iter(
            torch.autograd.grad(
                [y for y, _ in pairs],
                asked,
                [d for _, d in pairs],
                create_graph=True,
                allow_unused=True,
            )
        )
    return tuple(next(found) if t is not None and t.requires_grad else None for t in own)
