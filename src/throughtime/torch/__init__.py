"""`torch.nn.RNN`, `LSTM` and `GRU` on the compiled engine, with their inside open.

The modules are built, called, saved and loaded as torch's are. On the CPU, in float32 and
float64, the engine answers; elsewhere torch's own kernels do, which is said once.
"""

from importlib.util import find_spec

if find_spec("torch") is None:
    raise ImportError(
        "throughtime.torch: expected PyTorch, got none; pip install 'throughtime[torch]'"
    )

from throughtime.torch.accelerating import accelerate, restore
from throughtime.torch.modules import GRU, LSTM, RNN
from throughtime.torch.states import LayerStates
from throughtime.torch.taps import LayerTap, Taps, taps
from throughtime.torch.windows import Window, windows

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
