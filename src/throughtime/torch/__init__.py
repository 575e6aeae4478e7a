"""All that knows PyTorch: drop-in modules, and what is done with a user's own torch model.

`RNN`, `LSTM` and `GRU` are built, called, saved and loaded as `torch.nn`'s are. On the CPU, in
float32 and float64, the engine computes them; elsewhere torch's own kernels do, and this is said
once.

The files of this folder import torch; so what they have is imported when it is first asked for,
see `IN_FILES`. The files in `models` do not import torch, and the whole package uses them.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from throughtime.torch.models.flow import module_flow
from throughtime.torch.models.nonfinite import first_in_module
from throughtime.torch.models.targets import (
    function_target,
    is_function,
    is_module,
    module_target,
)
from throughtime.torch.models.weights import from_torch, to_torch, torch_state_dict

if TYPE_CHECKING:
    from throughtime.torch.any_cell import Recurrent
    from throughtime.torch.direction import LayerStates
    from throughtime.torch.gradient_taps import LayerTap, Taps, taps
    from throughtime.torch.modules import GRU, LSTM, RNN
    from throughtime.torch.swapping import accelerate, restore
    from throughtime.torch.truncation import Window, Windows, windows

IN_FILES = {
    "GRU": "modules",
    "LSTM": "modules",
    "RNN": "modules",
    "LayerStates": "direction",
    "LayerTap": "gradient_taps",
    "Recurrent": "any_cell",
    "Taps": "gradient_taps",
    "Window": "truncation",
    "Windows": "truncation",
    "accelerate": "swapping",
    "restore": "swapping",
    "taps": "gradient_taps",
    "windows": "truncation",
}

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "LayerStates",
    "LayerTap",
    "Recurrent",
    "Taps",
    "Window",
    "Windows",
    "accelerate",
    "first_in_module",
    "from_torch",
    "function_target",
    "is_function",
    "is_module",
    "module_flow",
    "module_target",
    "restore",
    "taps",
    "to_torch",
    "torch_state_dict",
    "windows",
]


def __getattr__(name: str) -> Any:
    if name not in IN_FILES:
        raise AttributeError(f"module 'throughtime.torch' has no attribute {name!r}")
    if find_spec("torch") is None:
        raise ImportError("throughtime.torch: expected PyTorch, got none; pip install torch")
    return getattr(import_module(f"throughtime.torch.{IN_FILES[name]}"), name)
