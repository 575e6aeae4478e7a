"""The same recurrence step by step in torch's own operations, for torch to differentiate.

It is slow, and right wherever torch is: in the backward pass of a backward pass, within
`torch.func` and in forward mode, where the engine has no say.
"""

from __future__ import annotations

import torch

from throughtime.cells import GRU, LSTM, Cell, active_steps
from throughtime.torch.step_order import Layout
from throughtime.torch.weights import Maybe, Tensors, Weights, engine_parameters, separate


def recurrence(
    cell: Cell, layout: Layout, x: torch.Tensor, h: Maybe, c: Maybe, weights: Weights
) -> tuple[torch.Tensor, torch.Tensor, Maybe]:
    """Outputs in the order of `x`, and the final h (B, P) and c (B, H), None but for LSTM."""
    p = engine_parameters(weights, separate(cell))
    x = layout.lay(x)
    if h is None:
        h = x.new_zeros(layout.batch, cell.output_size)
    if c is None and isinstance(cell, LSTM):
        c = x.new_zeros(layout.batch, cell.units)
    active = None
    if layout.lengths is not None:
        active = torch.from_numpy(active_steps(layout.steps, layout.lengths))
    z_x = x @ p["W"].transpose(0, 1) + p["b"]
    outputs = []
    for t in range(layout.steps):
        h_after, c_after = _step(cell, p, z_x[t], h, c)
        if active is not None:  # an ended sequence's state stands still
            h_after = torch.where(active[t], h_after, h)
            c_after = None if c is None else torch.where(active[t], c_after, c)
        h, c = h_after, c_after
        outputs.append(h)
    return layout.back(torch.stack(outputs)), h, c


def _step(
    cell: Cell, p: Tensors, z_x: torch.Tensor, h: torch.Tensor, c: Maybe
) -> tuple[torch.Tensor, Maybe]:
    if isinstance(cell, LSTM):
        return _lstm(cell, p, z_x, h, c)
    if isinstance(cell, GRU):
        return _gru(cell, p, z_x, h), None
    z = z_x + h @ p["U"].transpose(0, 1)
    return (torch.relu(z) if getattr(cell, "nonlinearity", "") == "relu" else torch.tanh(z)), None


def _lstm(
    cell: LSTM, p: Tensors, z_x: torch.Tensor, h: torch.Tensor, c: Maybe
) -> tuple[torch.Tensor, Maybe]:
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
