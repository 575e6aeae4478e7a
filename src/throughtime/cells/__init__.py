"""The cells: one file a cell, its equations forward and backward in plain NumPy.

They are written to be read, and they are the truth that faster twins are tested against.
"""

from throughtime.cells.cell import Cell
from throughtime.cells.gru import GRU
from throughtime.cells.lstm import LSTM
from throughtime.cells.rnn import RNN
from throughtime.cells.tape import LocalGradients, State, Tape

__all__ = ["GRU", "LSTM", "RNN", "Cell", "LocalGradients", "State", "Tape"]
