"""The reference: the recurrence step by step in torch's own operations, for torch to differentiate.

It is slow, and right wherever torch is: in the backward pass of a backward pass, within
`torch.func` and in forward mode, where the engine is not asked.
"""

from __future__ import annotations

from typing import TypeAlias

import torch

from throughtime.cells import GRU, LSTM, Cell, active_steps
from throughtime.torch.config import ModuleConfig
from throughtime.torch.direction import Result, RunDirection, StepOrder, StepOrders
from throughtime.torch.models.weights import (
    MaybeTensor,
    TorchWeights,
    engine_parameters,
    has_candidate_bias,
)

Tensors: TypeAlias = dict[str, torch.Tensor]


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
    x = order.to_engine(x)
    if h is None:
        h = x.new_zeros(order.batch, cell.output_size)
    if c is None and "c" in cell.state_sizes:
        c = x.new_zeros(order.batch, cell.units)
    active = None
    if order.lengths is not None:
        active = torch.from_numpy(active_steps(order.steps, order.lengths))
    z_x = x @ p["W"].transpose(0, 1) + p["b"]
    outputs = []
    for t in range(order.steps):
        h_after, c_after = _step(cell, p, z_x[t], h, c)
        if active is not None:  # beyond a sequence's end its state stays
            h_after = torch.where(active[t], h_after, h)
            c_after = None if c is None else torch.where(active[t], c_after, c)
        h, c = h_after, c_after
        outputs.append(h)
    return order.from_engine(torch.stack(outputs)), h, c


def _step(
    cell: Cell, p: Tensors, z_x: torch.Tensor, h: torch.Tensor, c: MaybeTensor
) -> tuple[torch.Tensor, MaybeTensor]:
    if isinstance(cell, LSTM):
        return _lstm(cell, p, z_x, h, c)
    if isinstance(cell, GRU):
        return _gru(cell, p, z_x, h), None
    z = z_x + h @ p["U"].transpose(0, 1)
    return (torch.relu(z) if getattr(cell, "nonlinearity", "") == "relu" else torch.tanh(z)), None


def _lstm(
    cell: LSTM, p: Tensors, z_x: torch.Tensor, h: torch.Tensor, c: MaybeTensor
) -> tuple[torch.Tensor, MaybeTensor]:
    z_i, z_f, z_a, z_o = (z_x + h @ p["U"].transpose(0, 1)).split(cell.units, dim=-1)
    if cell.peepholes:
        p_i, p_f, p_o = p["p"].split(cell.units)
        z_i, z_f = z_i + p_i * c, z_f + p_f * c
    c = torch.sigmoid(z_i) * torch.tanh(z_a) + torch.sigmoid(z_f) * c
    if cell.peepholes:
        z_o = z_o + p_o * c
    h = torch.sigmoid(z_o) * torch.tanh(c)
    return (h @ p["R"].transpose(0, 1) if cell.projection else h), c


def _gru(cell: GRU, p: Tensors, z_x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    H = cell.units
    x_r, x_z, x_n = z_x.split(H, dim=-1)
    u_r, u_z = (h @ p["U"][: 2 * H].transpose(0, 1)).split(H, dim=-1)
    r, z, U_n = torch.sigmoid(x_r + u_r), torch.sigmoid(x_z + u_z), p["U"][2 * H :].transpose(0, 1)
    u_n = r * (h @ U_n + p["c"]) if cell.reset_after else (r * h) @ U_n
    n = torch.tanh(x_n + u_n)
    return (1 - z) * n + z * h
