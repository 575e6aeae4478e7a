"""Where the engine cannot compute: on other devices and in other precisions torch's kernels do."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from throughtime.arrays import refuse

PRECISIONS = (torch.float32, torch.float64)
_said: set[tuple[str, str]] = set()


def answers(module: Any, input: Any) -> bool:
    """Whether torch's kernels answer for the module's weights.

    Raises:
        TypeError, RuntimeError: where input is no tensor, or on another device than the weights.
    """
    x = input.data if isinstance(input, PackedSequence) else input
    W = module._parameters.get("weight_ih_l0")
    if W is None:  # a tensor that was put in its place
        W = module.weight_ih_l0
    if isinstance(x, torch.Tensor) and x.is_cpu and W.is_cpu:
        return W.dtype not in PRECISIONS
    if not isinstance(x, torch.Tensor):
        what = f"{type(module).__name__}: input"
        refuse(what, "a tensor or a PackedSequence", type(x).__name__, error=TypeError)
    if W.device != x.device:
        _apart(module, x, W)
    return not (W.is_meta and W.dtype in PRECISIONS)


def forward(module: Any, input: Any, hx: Any, states: bool) -> Any:
    """Torch's own forward pass; what it cannot give is refused."""
    W = module.weight_ih_l0
    name, where = type(module).__name__, f"{W.device.type} in {str(W.dtype).split('.')[1]}"
    for what, asked in (
        ("peepholes=True", module.peepholes),
        ("reset_after=False", not module.reset_after),
        ("states=True", states),
        ("memory_limit", module.memory_limit is not None),
        ("taps", module._taps is not None),
        ("windows", module._carry is not None),
    ):
        if asked:
            expected = "weights on the CPU in float32 or float64"
            way_out = "move the model: .to('cpu', torch.float32)"
            refuse(f"{name}: {what}", expected, where, way_out, error=RuntimeError)
    if (name, where) not in _said:
        _said.add((name, where))
        message = (
            f"throughtime.torch.{name}: the engine computes on the CPU in float32 and float64; "
            f"on {where} torch's own kernels answer"
        )
        warnings.warn(message, stacklevel=2)
    return module.torchs.forward(module, input, hx)


def _apart(module: Any, x: torch.Tensor, W: torch.Tensor) -> None:
    way_out = f"input.to({str(W.device)!r}), or module.to({str(x.device)!r})"
    if W.is_meta:
        way_out = f"module.to_empty(device={str(x.device)!r}), then load its weights"
    what = f"{type(module).__name__}: input"
    expected = f"a tensor on {W.device}, where the weights are"
    refuse(what, expected, f"one on {x.device}", way_out, error=RuntimeError)
