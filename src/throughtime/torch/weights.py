"""A direction's weights as torch has them and as the engine has them, and its gradients back.

torch has two biases where one will do; in the GRU the candidate's second one, c, stands within
the reset gate's product. Nothing but biases is copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import torch

from throughtime.cells import GRU, LSTM, RNN, Cell

Tensors: TypeAlias = dict[str, torch.Tensor]
Maybe: TypeAlias = torch.Tensor | None


class Weights(NamedTuple):
    """One direction of one layer; None for what it has not."""

    W: torch.Tensor
    U: torch.Tensor
    b_ih: torch.Tensor | None = None
    b_hh: torch.Tensor | None = None
    R: torch.Tensor | None = None
    p: torch.Tensor | None = None


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_peephole")


@lru_cache(maxsize=256)
def cell_of(
    mode: str, inputs: int, units: int, projection: int, peepholes: bool, reset_after: bool
) -> Cell:
    """The engine's cell for torch's `mode` and sizes."""
    if mode == "LSTM":
        return LSTM(inputs, units, projection=projection or None, peepholes=peepholes)
    if mode == "GRU":
        return GRU(inputs, units, reset_after=reset_after)
    return RNN(inputs, units, "relu" if mode == "RNN_RELU" else "tanh")


def engine_parameters(weights: Weights, gru: bool, reset_after: bool) -> Tensors:
    """The engine's parameters by name, as differentiable functions of torch's weights."""
    W, U, b_ih, b_hh, R, p = weights
    H = W.shape[0] // 3
    separate = gru and reset_after
    found = {"W": W, "U": U}
    if b_ih is None or b_hh is None:
        found["b"] = W.new_zeros(W.shape[0])
        if separate:
            found["c"] = W.new_zeros(H)
    elif separate:
        found["b"] = torch.cat([b_ih[: 2 * H] + b_hh[: 2 * H], b_ih[2 * H :]])
        found["c"] = b_hh[2 * H :]
    else:
        found["b"] = b_ih + b_hh
    if R is not None:
        found["R"] = R
    if p is not None:
        found["p"] = p
    return found


def torch_gradients(weights: Weights, found: Mapping[str, torch.Tensor]) -> Weights:
    """From the gradients by the engine's parameters to those by torch's weights."""
    db_ih = db_hh = None
    if weights.b_ih is not None:
        db_ih = db_hh = found["b"]
        if "c" in found:
            H = len(found["c"])
            db_hh = torch.cat([db_ih[: 2 * H], found["c"]])
    return Weights(found["W"], found["U"], db_ih, db_hh, found.get("R"), found.get("p"))
