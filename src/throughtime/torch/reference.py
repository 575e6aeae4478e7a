"""The reference: the recurrence step by step in torch's own operations, for torch to differentiate.

The step is the cell's own, see `step`, so that any cell has one.

It is slow, and right wherever torch is: in the backward pass of a backward pass, within
`torch.func` and in forward mode, where the engine is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from throughtime.cells import Cell
from throughtime.torch.config import ModuleConfig
from throughtime.torch.direction import Result, RunDirection, StepOrder, StepOrders
from throughtime.torch.models.weights import (
    MaybeTensor,
    TorchWeights,
    engine_parameters,
    has_candidate_bias,
)
from throughtime.torch.step import Tensors, torch_step


def reference_direction(config: ModuleConfig, orders: StepOrders) -> RunDirection:
    """Computes one direction after the other by `recurrence`."""

    def run(
        k: int, x: torch.Tensor, h: MaybeTensor, c: MaybeTensor, weights: TorchWeights
    ) -> Result:
        layer, reverse = divmod(k, config.directions)
        return recurrence(config.cell(layer), orders[reverse], x, h, c, weights)

    return run


def recurrence(
    cell: Cell,
    order: StepOrder,
    x: torch.Tensor,
    h: MaybeTensor,
    c: MaybeTensor,
    weights: TorchWeights,
) -> Result:
    """Outputs in the order of `x`, and the final h (B, P) and c (B, H), None but for the LSTM."""
    p = engine_parameters(weights, has_candidate_bias(cell), torch)
    given = {name: part for name, part in (("h", h), ("c", c)) if part is not None}
    lengths = None if order.lengths is None else torch.from_numpy(order.lengths)
    outputs, final = steps(cell, p, order.to_engine(x), given, lengths)
    return order.from_engine(outputs), final["h"], final.get("c")


def steps(
    cell: Cell,
    p: Mapping[str, torch.Tensor],
    x: torch.Tensor,
    state: Mapping[str, torch.Tensor],
    lengths: MaybeTensor,
) -> tuple[torch.Tensor, Tensors]:
    """All steps of a cell by its own equations.

    Args:
        cell: any cell.
        p: its parameters by name.
        x: inputs (T, B, I), or class indices (T, B).
        state: the initial state by name, (B, n); zeros for parts that are missing.
        lengths: (B,), the steps of each sequence; beyond them its state stays. All T if None.

    Returns:
        the output after every step, (T, B, ·), and the final state.
    """
    step = torch_step(cell)
    if not x.is_floating_point():
        x = torch.nn.functional.one_hot(x, cell.inputs).to(next(iter(p.values())).dtype)
    known, like = step.prepared(p), x
    own = {
        name: state[name] if name in state else like.new_zeros(x.shape[1], size)
        for name, size in cell.state_sizes.items()
    }
    active = None
    if lengths is not None:
        active = torch.arange(len(x))[:, None, None] < lengths[:, None]
    if type(cell).of_inputs is Cell.of_inputs:  # the step takes W x + b
        x = x @ p["W"].transpose(0, 1) + p["b"]
    outputs = []
    for t in range(len(x)):
        after = step(known, x[t], own)
        if active is not None:
            after = {name: torch.where(active[t], after[name], own[name]) for name in after}
        own = after
        outputs.append(own["h"])
    return torch.stack(outputs), own
