"""Backpropagation through time you can trust."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from throughtime import plots
    from throughtime.cells import GRU, LSTM, RNN, cell, derive
    from throughtime.derivatives import Derivative, derivative
    from throughtime.diagnosis import Comparison, compare, layouts
    from throughtime.engine_settings import engine, engine_info, release_workspace, set_threads
    from throughtime.equations import (
        EquationError,
        gelu,
        logsumexp,
        relu,
        sigmoid,
        softmax,
        softplus,
        stop_gradient,
        surrogate,
    )
    from throughtime.gradcheck import Cause, CheckError, Sweep, Target, frozen
    from throughtime.gradient_flow import FlowRecord, NonFinite
    from throughtime.network import (
        BinaryCrossEntropy,
        Contributions,
        Dense,
        Dropout,
        Embedding,
        Gradients,
        MeanSquaredError,
        Network,
        PrecisionCost,
        Run,
        SoftmaxCrossEntropy,
        contributions,
        precision_cost,
        truncated_loss_and_gradient,
    )
    from throughtime.parameters import Parameters
    from throughtime.questions import (
        Flow,
        FlowRecorder,
        Report,
        check,
        first_nonfinite,
        flow,
        sweep,
    )
    from throughtime.targets import library_target, program_target, target_of
    from throughtime.torch import from_torch, to_torch, torch_state_dict

__version__ = "0.1.0"

# What is public is imported when it is first asked for, so that `import throughtime` is quick.
# The imports above tell type checkers the same, and a test compares the two.
HOMES = {
    "cells": ("GRU", "LSTM", "RNN", "cell", "derive"),
    "derivatives": ("Derivative", "derivative"),
    "diagnosis": ("Comparison", "compare", "layouts"),
    "engine_settings": ("engine", "engine_info", "release_workspace", "set_threads"),
    "equations": (
        "EquationError",
        "gelu",
        "logsumexp",
        "relu",
        "sigmoid",
        "softmax",
        "softplus",
        "stop_gradient",
        "surrogate",
    ),
    "gradcheck": ("Cause", "CheckError", "Sweep", "Target", "frozen"),
    "gradient_flow": ("FlowRecord", "NonFinite"),
    "network": (
        "BinaryCrossEntropy",
        "Contributions",
        "Dense",
        "Dropout",
        "Embedding",
        "Gradients",
        "MeanSquaredError",
        "Network",
        "PrecisionCost",
        "Run",
        "SoftmaxCrossEntropy",
        "contributions",
        "precision_cost",
        "truncated_loss_and_gradient",
    ),
    "parameters": ("Parameters",),
    "questions": ("Flow", "FlowRecorder", "Report", "check", "first_nonfinite", "flow", "sweep"),
    "targets": ("library_target", "program_target", "target_of"),
    "torch": ("from_torch", "to_torch", "torch_state_dict"),
}

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
    "EquationError",
    "Flow",
    "FlowRecord",
    "FlowRecorder",
    "Gradients",
    "MeanSquaredError",
    "Network",
    "NonFinite",
    "Parameters",
    "PrecisionCost",
    "Report",
    "Run",
    "SoftmaxCrossEntropy",
    "Sweep",
    "Target",
    "cell",
    "check",
    "compare",
    "contributions",
    "derivative",
    "derive",
    "engine",
    "engine_info",
    "first_nonfinite",
    "flow",
    "from_torch",
    "frozen",
    "gelu",
    "layouts",
    "library_target",
    "logsumexp",
    "plots",
    "precision_cost",
    "program_target",
    "release_workspace",
    "relu",
    "set_threads",
    "sigmoid",
    "softmax",
    "softplus",
    "stop_gradient",
    "surrogate",
    "sweep",
    "target_of",
    "to_torch",
    "torch_state_dict",
    "truncated_loss_and_gradient",
]

HOME_OF = {name: room for room, names in HOMES.items() for name in names}
ROOMS = {*HOMES, "arrays", "derivatives", "explain", "plots", "report", "storage", "training"}


def __getattr__(name: str) -> Any:
    if name in HOME_OF:
        found = getattr(import_module(f"throughtime.{HOME_OF[name]}"), name)
        globals()[name] = found
        return found
    if name in ROOMS:
        return import_module(f"throughtime.{name}")
    raise AttributeError(f"module 'throughtime' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__"})
