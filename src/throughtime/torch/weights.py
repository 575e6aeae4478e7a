"""A direction's weights as torch has them and as the engine has them, and its gradients back.

torch has two biases where one will do; in the GRU the candidate's second one, c, stands within
the reset gate's product. Nothing but biases is copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from throughtime.arrays import Array
from throughtime.cells import CELLS, GRU, LSTM, RNN, Cell

Tensors: TypeAlias = dict[str, torch.Tensor]
Maybe: TypeAlias = "torch.Tensor | None"


class Weights(NamedTuple):
    """One direction of one layer, tensors or arrays; None for what it has not."""

    W: Any
    U: Any
    b_ih: Any = None
    b_hh: Any = None
    R: Any = None
    p: Any = None

    def present(self) -> list[Any]:
        """Those that it has, in this order, which is the engine's."""
        return [w for w in self if w is not None]


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_peephole")


def kind_of(mode: str) -> type[Cell]:
    """The cell's class for torch's `mode`, such as "RNN_TANH"."""
    return CELLS[mode.split("_")[0]]


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


def separate(cell: Cell) -> bool:
    """Whether the candidate's two biases stay apart: in the GRU that resets after the product."""
    return isinstance(cell, GRU) and cell.reset_after


def engine_parameters(weights: Weights, separate: bool, library: Any = torch) -> dict[str, Any]:
    """The engine's parameters by name, from torch's weights as tensors or as arrays.

    Args:
        weights: those of one direction.
        separate: see `separate`.
        library: torch, for functions that can be differentiated, or numpy.
    """
    W, U, b_ih, b_hh, R, p = weights
    found = {"W": W, "U": U}
    if b_ih is None or b_hh is None:
        found["b"] = library.zeros_like(W[:, 0])
        if separate:
            found["c"] = library.zeros_like(W[: len(W) // 3, 0])
    elif separate:
        rz = 2 * len(W) // 3
        found["b"] = library.concatenate([b_ih[:rz] + b_hh[:rz], b_ih[rz:]])
        found["c"] = b_hh[rz:]
    else:
        found["b"] = b_ih + b_hh
    if R is not None:
        found["R"] = R
    if p is not None:
        found["p"] = p
    return found


def torch_gradients(weights: Weights, found: Mapping[str, Array]) -> Weights:
    """From the gradients by the engine's parameters to those by torch's weights."""
    d = {name: torch.from_numpy(array) for name, array in found.items()}
    db_ih = db_hh = None
    if weights.b_ih is not None:
        db_ih = db_hh = d["b"]
        if "c" in found:
            rz = 2 * len(found["c"])
            db_hh = torch.from_numpy(np.concatenate([found["b"][:rz], found["c"]]))
    return Weights(d["W"], d["U"], db_ih, db_hh, d.get("R"), d.get("p"))
