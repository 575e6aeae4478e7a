"""Which of a model's modules are ours."""

from __future__ import annotations

from typing import Any

import torch

from throughtime.arrays import refuse
from throughtime.torch.modules import GRU, LSTM, RNN


def named_modules(model: object, what: str) -> dict[str, Any]:
    """The modules of `throughtime.torch` inside a model, by their names there.

    Raises:
        TypeError: for what is no module.
        ValueError: where there is none.
    """
    if not isinstance(model, torch.nn.Module):
        refuse(f"{what}: model", "a torch.nn.Module", type(model).__name__, error=TypeError)
    found = {n: m for n, m in model.named_modules() if isinstance(m, RNN | LSTM | GRU)}
    if not found:
        torchs = (torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU)
        left = [n or "itself" for n, m in model.named_modules() if isinstance(m, torchs)]
        actual = f"torch's own ({', '.join(left)})" if left else "no recurrent module"
        way_out = "call throughtime.torch.accelerate(model) first" if left else ""
        refuse(f"{what}: model", "a module of throughtime.torch inside", actual, way_out)
    return found
