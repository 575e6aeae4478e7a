"""Backpropagation through time you can trust."""

from throughtime.cells import GRU, LSTM, RNN
from throughtime.contributions import Contributions, contributions
from throughtime.layers import Dense, Dropout, Embedding
from throughtime.losses import BinaryCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy
from throughtime.network import Gradients, Network, Run
from throughtime.parameters import Parameters
from throughtime.truncation import truncated_loss_and_gradient

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "BinaryCrossEntropy",
    "Contributions",
    "Dense",
    "Dropout",
    "Embedding",
    "Gradients",
    "MeanSquaredError",
    "Network",
    "Parameters",
    "Run",
    "SoftmaxCrossEntropy",
    "contributions",
    "truncated_loss_and_gradient",
]
