"""Gradients by autograd: those that are differentiated again, which the engine cannot compute.

The recurrence is computed once more in torch's own operations, see `reference`, and autograd
differentiates it; what comes out can be differentiated in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from throughtime.cells import Cell
from throughtime.torch.config import ModuleConfig
from throughtime.torch.direction import Result, StepOrder, StepOrders, masked, run_layers
from throughtime.torch.models.weights import MaybeTensor, TorchWeights
from throughtime.torch.reference import recurrence, reference_direction


def gradients_by_autograd(
    function: Callable[..., Any],
    inputs: Sequence[MaybeTensor],
    upstream: Sequence[MaybeTensor],
    create_graph: bool,
) -> tuple[MaybeTensor, ...]:
    """The gradients by those inputs of `function` that require them.

    Args:
        function: takes the inputs, returns as many results as `upstream` has entries.
        inputs: tensors, or None.
        upstream: the gradients by the results, None where there is none.
        create_graph: whether the gradients are to be differentiated again.
    """
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        # Each is cut off from the others, since one may be a function of another.
        own = [None if t is None else _cut_off(t, create_graph) for t in inputs]
        results = function(*own)
        asked = [t for t in own if t is not None and t.requires_grad]
        pairs = [(y, d) for y, d in zip(results, upstream, strict=True) if d is not None]
        found = iter(
            torch.autograd.grad(
                [y for y, _ in pairs],
                asked,
                [d for _, d in pairs],
                create_graph=create_graph,
                allow_unused=True,
            )
        )
    return tuple(next(found) if t is not None and t.requires_grad else None for t in own)


def _cut_off(tensor: torch.Tensor, create_graph: bool) -> torch.Tensor:
    if create_graph:
        return tensor.view_as(tensor)
    return tensor.detach().requires_grad_(tensor.requires_grad)


def direction_gradients(
    cell: Cell, order: StepOrder, inputs: Sequence[MaybeTensor], upstream: Sequence[MaybeTensor]
) -> tuple[MaybeTensor, ...]:
    """Of one direction, by x, h_0, c_0 and its weights."""

    def run(x: torch.Tensor, h: MaybeTensor, c: MaybeTensor, *weights: MaybeTensor) -> Result:
        return recurrence(cell, order, x, h, c, TorchWeights(*weights))

    return gradients_by_autograd(run, inputs, upstream, create_graph=True)


def module_gradients(
    config: ModuleConfig,
    orders: StepOrders,
    masks: Sequence[torch.Tensor],
    inputs: Sequence[MaybeTensor],
    upstream: Sequence[MaybeTensor],
) -> tuple[MaybeTensor, ...]:
    """Of a module's call, by x, h_0, c_0 and the weights of all directions.

    Args:
        config, orders: of the module and of its call.
        masks: factors of dropout after each layer but the last; or none.
        inputs: x, h_0, c_0 and the weights.
        upstream: the gradients by outputs, final h and final c.
    """
    run_one = reference_direction(config, orders)

    def run(x: torch.Tensor, h: MaybeTensor, c: MaybeTensor, *weights: torch.Tensor) -> Result:
        return run_layers(config, x, (h, c), weights, run_one, masked(masks))

    return gradients_by_autograd(run, inputs, upstream, create_graph=True)


def operator_gradients(
    cell: Cell,
    dh: MaybeTensor,
    dc: MaybeTensor,
    inputs: Sequence[MaybeTensor],
    upstream: Sequence[MaybeTensor],
) -> list[MaybeTensor]:
    """Of the gradients that a registered operator gives, by dh, dc and the operator's inputs.

    Args:
        cell: the operator's.
        dh, dc: the gradients by h of every step, the initial one included, and by the final c.
        inputs: x, h_0, c_0 and the cell's parameters W, U, b, c, R, p.
        upstream: the gradients by the gradients by the inputs.
    """
    with torch.enable_grad():
        given = [None if t is None else t.detach().requires_grad_() for t in (dh, dc, *inputs)]
        found = _operator_backward(cell, given[0], given[1], given[2:])
        paired = zip(found, upstream, strict=True)
        pairs = [(g, d) for g, d in paired if g is not None and d is not None]
        second = iter(
            torch.autograd.grad(
                [g for g, _ in pairs], _present(given), [d for _, d in pairs], allow_unused=True
            )
        )
    return [None if t is None else next(second) for t in given]


def _operator_backward(
    cell: Cell, dh: MaybeTensor, dc: MaybeTensor, inputs: Sequence[Any]
) -> list[MaybeTensor]:
    """Gradients by the inputs as differentiable functions of them, of dh and of dc."""
    x, h, c, W, U, b, candidate, R, p = inputs
    b_hh = torch.zeros_like(b)
    if candidate is not None:
        b_hh = torch.cat([b.new_zeros(2 * cell.units), candidate])
    order = StepOrder(int(x.shape[0]), int(x.shape[1]))
    outputs, _, last_c = recurrence(cell, order, x, h, c, TorchWeights(W, U, b, b_hh, R, p))
    every_h = torch.cat([h[None], outputs])
    pairs = [(y, d) for y, d in ((every_h, dh), (last_c, dc)) if d is not None and y is not None]
    results, upstream = [y for y, _ in pairs], [d for _, d in pairs]
    asked = _present(inputs)
    found = iter(
        torch.autograd.grad(results, asked, upstream, create_graph=True, allow_unused=True)
    )
    return [None if t is None else next(found) for t in inputs]


def _present(tensors: Iterable[Any]) -> list[torch.Tensor]:
    return [t for t in tensors if t is not None]
