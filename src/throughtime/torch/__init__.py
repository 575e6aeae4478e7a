"""All that knows PyTorch: drop-in modules, and what is done with a user's own torch model.

`RNN`, `LSTM` and `GRU` are built, called, saved and loaded as `torch.nn`'s are. On the CPU, in
float32 and float64, the engine computes them; elsewhere torch's own kernels do, and this is said
once.

The files of this folder import torch. Those in `models` do not, and the whole package uses them.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from throughtime.doors import door

if TYPE_CHECKING:
    from throughtime.torch.any_cell import Recurrent
    from throughtime.torch.direction import LayerStates
    from throughtime.torch.gradient_taps import LayerTap, Taps, taps
    from throughtime.torch.models.flow import module_flow
    from throughtime.torch.models.nonfinite import first_in_module
    from throughtime.torch.models.targets import (
        function_target,
        is_function,
        is_module,
        module_target,
    )
    from throughtime.torch.models.weights import from_torch, to_torch, torch_state_dict
    from throughtime.torch.modules import GRU, LSTM, RNN
    from throughtime.torch.swapping import accelerate, restore
    from throughtime.torch.truncation import Window, Windows, windows
else:
    WITH_TORCH = {
        "any_cell": "Recurrent",
        "direction": "LayerStates",
        "gradient_taps": "LayerTap Taps taps",
        "modules": "GRU LSTM RNN",
        "swapping": "accelerate restore",
        "truncation": "Window Windows windows",
    }
    WITHOUT = {
        "models.flow": "module_flow",
        "models.nonfinite": "first_in_module",
        "models.targets": "function_target is_function is_module module_target",
        "models.weights": "from_torch to_torch torch_state_dict",
    }
    opened = door(__name__, WITH_TORCH | WITHOUT)

    def __getattr__(name: str) -> Any:
        needs_torch = name in " ".join(WITH_TORCH.values()).split()
        if needs_torch and find_spec("torch") is None:
            raise ImportError("throughtime.torch: expected PyTorch, got none; pip install torch")
        return opened(name)


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
