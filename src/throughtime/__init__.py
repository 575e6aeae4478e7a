"""Backpropagation through time you can trust."""

from importlib import import_module
from typing import Any

from throughtime import plots
from throughtime.bridges import from_torch, to_torch, torch_state_dict
from throughtime.cells import GRU, LSTM, RNN
from throughtime.check import Report, check, sweep
from throughtime.checking import CheckError, Derivative, Sweep, Target, derivative, frozen
from throughtime.checking.cause import Cause
from throughtime.contributions import Contributions, contributions
from throughtime.diagnosis import layouts
from throughtime.diagnosis.compare import Comparison, compare
from throughtime.engine import engine, engine_info, release_workspace, set_threads
from throughtime.flow import Flow, NonFinite, first_nonfinite, flow
from throughtime.flow_record import FlowRecord, FlowRecorder
from throughtime.layers import Dense, Dropout, Embedding
from throughtime.losses import BinaryCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy
from throughtime.network import Gradients, Network, Run
from throughtime.parameters import Parameters
from throughtime.targets import library_target, program_target, target_of
from throughtime.truncation import truncated_loss_and_gradient

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "BinaryCrossEntropy",
    "Cause",
    "CheckError",
    "Comparison",
    "Contributions",
    "Dense",
    "Derivative",
    "Dropout",
    "Embedding",
    "Flow",
    "FlowRecord",
    "FlowRecorder",
    "Gradients",
    "MeanSquaredError",
    "Network",
    "NonFinite",
    "Parameters",
    "Report",
    "Run",
    "SoftmaxCrossEntropy",
    "Sweep",
    "Target",
    "check",
    "compare",
    "contributions",
    "derivative",
    "engine",
    "engine_info",
    "first_nonfinite",
    "flow",
    "from_torch",
    "frozen",
    "layouts",
    "library_target",
    "plots",
    "program_target",
    "release_workspace",
    "set_threads",
    "sweep",
    "target_of",
    "to_torch",
    "torch_state_dict",
    "truncated_loss_and_gradient",
]


def __getattr__(name: str) -> Any:
    """`throughtime.torch` is imported when it is first asked for, since torch is."""
    if name == "torch":
        return import_module("throughtime.torch")
    raise AttributeError(f"module 'throughtime' has no attribute {name!r}")
