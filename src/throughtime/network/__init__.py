"""Layers, head and loss, stacked; backpropagation through time, whole and truncated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from throughtime.doors import door
from throughtime.network.bfloat16 import RecurrentInBfloat16, checked_products
from throughtime.network.checkpointing import MemoryBudget, byte_count
from throughtime.network.data import Gradients, NetworkTape, Run, checked_inputs, checked_state
from throughtime.network.layers import Dense, Dropout, Embedding, Layer, LayerTape, MaskTape
from throughtime.network.losses import (
    BinaryCrossEntropy,
    Loss,
    LossValue,
    MeanSquaredError,
    Reduction,
    SoftmaxCrossEntropy,
)
from throughtime.network.network import Network
from throughtime.network.recurrent import RecurrentLayer, RecurrentTape, reverse
from throughtime.network.stack import Spec, as_layer, build, describe
from throughtime.network.truncation import (
    TruncationWindow,
    differentiate_window,
    merged_windows,
    one_direction,
    truncated_loss_and_gradient,
    windows,
)

if TYPE_CHECKING:
    from throughtime.network.as_c import network_as_c
    from throughtime.network.per_step_gradients import Contributions, contributions
    from throughtime.network.precision import PrecisionCost, precision_cost
else:
    __getattr__ = door(
        __name__,
        {
            "as_c": "network_as_c",
            "per_step_gradients": "Contributions contributions",
            "precision": "PrecisionCost precision_cost",
        },
    )

__all__ = [
    "BinaryCrossEntropy",
    "Contributions",
    "Dense",
    "Dropout",
    "Embedding",
    "Gradients",
    "Layer",
    "LayerTape",
    "Loss",
    "LossValue",
    "MaskTape",
    "MeanSquaredError",
    "MemoryBudget",
    "Network",
    "NetworkTape",
    "PrecisionCost",
    "RecurrentInBfloat16",
    "RecurrentLayer",
    "RecurrentTape",
    "Reduction",
    "Run",
    "SoftmaxCrossEntropy",
    "Spec",
    "TruncationWindow",
    "as_layer",
    "build",
    "byte_count",
    "checked_inputs",
    "checked_products",
    "checked_state",
    "contributions",
    "describe",
    "differentiate_window",
    "merged_windows",
    "network_as_c",
    "one_direction",
    "precision_cost",
    "reverse",
    "truncated_loss_and_gradient",
    "windows",
]
