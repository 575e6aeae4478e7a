"""The cells: one file a cell, its equations forward and backward in plain NumPy.

They are written to be read, and they are the truth that faster twins are tested against.
"""

from throughtime.cells.activations import relu_slope, sigmoid, sigmoid_slope, tanh_slope
from throughtime.cells.cell import Cell, added
from throughtime.cells.compiled import KEPT, NUMBERS, WORTH_KEEPING, kept_names
from throughtime.cells.gru import GRU
from throughtime.cells.lstm import LSTM
from throughtime.cells.products import input_gradient, is_indices, product, weight_gradient
from throughtime.cells.rnn import RNN
from throughtime.cells.tape import Columns, LocalGradients, State, Tape, active_steps

__all__ = [
    "GRU",
    "KEPT",
    "LSTM",
    "NUMBERS",
    "RNN",
    "WORTH_KEEPING",
    "Cell",
    "Columns",
    "LocalGradients",
    "State",
    "Tape",
    "active_steps",
    "added",
    "input_gradient",
    "is_indices",
    "kept_names",
    "product",
    "relu_slope",
    "sigmoid",
    "sigmoid_slope",
    "tanh_slope",
    "weight_gradient",
]
