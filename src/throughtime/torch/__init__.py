"""All that knows PyTorch: drop-in modules, targets, weights, and the flow inside a torch model.

`RNN`, `LSTM` and `GRU` are built, called, saved and loaded as `torch.nn`'s are. On the CPU, in
float32 and float64, the engine answers; elsewhere torch's own kernels do, which is said once.

They are imported when they are first asked for, since they import torch. The files beside them
that a program without torch imports too do not.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from throughtime.torch.direction import LayerStates
    from throughtime.torch.gradient_taps import LayerTap, Taps, taps
    from throughtime.torch.modules import GRU, LSTM, RNN, accelerate, restore
    from throughtime.torch.truncation import Window, windows

FILES = {
    "GRU": "modules",
    "LSTM": "modules",
    "RNN": "modules",
    "LayerStates": "direction",
    "LayerTap": "gradient_taps",
    "Taps": "gradient_taps",
    "Window": "truncation",
    "accelerate": "modules",
    "restore": "modules",
    "taps": "gradient_taps",
    "windows": "truncation",
}

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "LayerStates",
    "LayerTap",
    "Taps",
    "Window",
    "accelerate",
    "restore",
    "taps",
    "windows",
]


def __getattr__(name: str) -> Any:
    if name not in FILES:
        raise AttributeError(f"module 'throughtime.torch' has no attribute {name!r}")
    if find_spec("torch") is None:
        raise ImportError(
            "throughtime.torch: expected PyTorch, got none; pip install 'throughtime[torch]'"
        )
    return getattr(import_module(f"throughtime.torch.{FILES[name]}"), name)
