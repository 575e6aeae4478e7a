"""Layers, head and loss, stacked; backpropagation through time, whole and truncated."""

from throughtime.network.checkpointing import Budget, byte_count
from throughtime.network.data import checked_inputs, checked_state
from throughtime.network.dense import Dense
from throughtime.network.dropout import Dropout, MaskTape
from throughtime.network.embedding import Embedding
from throughtime.network.layers import Layer, LayerTape
from throughtime.network.losses import (
    BinaryCrossEntropy,
    Loss,
    LossValue,
    MeanSquaredError,
    Reduction,
    SoftmaxCrossEntropy,
)
from throughtime.network.network import Network
from throughtime.network.per_step_gradients import Contributions, contributions
from throughtime.network.recurrent import Recurrent, RecurrentTape, reverse
from throughtime.network.results import Gradients, NetworkTape, Run
from throughtime.network.stack import Spec, as_layer, build, describe
from throughtime.network.truncation import (
    Window,
    differentiate_window,
    merged_windows,
    one_direction,
    truncated_loss_and_gradient,
    windows,
)

__all__ = [
    "BinaryCrossEntropy",
    "Budget",
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
    "Network",
    "NetworkTape",
    "Recurrent",
    "RecurrentTape",
    "Reduction",
    "Run",
    "SoftmaxCrossEntropy",
    "Spec",
    "Window",
    "as_layer",
    "build",
    "byte_count",
    "checked_inputs",
    "checked_state",
    "contributions",
    "describe",
    "differentiate_window",
    "merged_windows",
    "one_direction",
    "reverse",
    "truncated_loss_and_gradient",
    "windows",
]
