"""The gallery's cells, and the built-in cells written as forward equations alone."""

import importlib.util
from pathlib import Path

import numpy as np

import throughtime as tt
from throughtime.cells import CellDefinition

GALLERY = Path(__file__).parents[1] / "examples" / "cells.py"


def _gallery():
    spec = importlib.util.spec_from_file_location("gallery_of_cells", GALLERY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {n: made for n, made in vars(module).items() if isinstance(made, CellDefinition)}


CELLS = _gallery()


@tt.cell(W="H I", U="H H", b="H")
def rnn(x, h, W, U, b):
    return np.tanh(W @ x + U @ h + b)


@tt.cell(W="4H I", U="4H H", b="4H")
def lstm(x, h, c, W, U, b):
    i, f, a, o = np.split(W @ x + U @ h + b, 4)
    c = tt.sigmoid(f) * c + tt.sigmoid(i) * np.tanh(a)
    return tt.sigmoid(o) * np.tanh(c), c


@tt.cell(h="P", W="4H I", U="4H P", b="4H", p="3H", R="P H")
def whole_lstm(x, h, c, W, U, b, p, R):
    z_i, z_f, z_a, z_o = np.split(W @ x + U @ h + b, 4)
    p_i, p_f, p_o = np.split(p, 3)
    c_new = tt.sigmoid(z_i + p_i * c) * np.tanh(z_a) + tt.sigmoid(z_f + p_f * c) * c
    return R @ (tt.sigmoid(z_o + p_o * c_new) * np.tanh(c_new)), c_new


@tt.cell(W="3H I", U="3H H", b="3H", c="H")
def gru(x, h, W, U, b, c):
    x_r, x_z, x_n = np.split(W @ x + b, 3)
    u_r, u_z, u_n = np.split(U @ h, 3)
    r, z = tt.sigmoid(x_r + u_r), tt.sigmoid(x_z + u_z)
    return (1 - z) * np.tanh(x_n + r * (u_n + c)) + z * h


@tt.cell(W="3H I", U="3H H", b="3H")
def original_gru(x, h, W, U, b):
    x_r, x_z, x_n = np.split(W @ x + b, 3)
    U_r, U_z, U_n = np.split(U, 3)
    r, z = tt.sigmoid(x_r + U_r @ h), tt.sigmoid(x_z + U_z @ h)
    return (1 - z) * np.tanh(x_n + U_n @ (r * h)) + z * h


INPUTS, UNITS, OUTPUTS = 3, 4, 2
BUILT_IN = {
    "RNN": (rnn(INPUTS, UNITS), tt.RNN(INPUTS, UNITS)),
    "LSTM": (lstm(INPUTS, UNITS), tt.LSTM(INPUTS, UNITS)),
    "LSTM peepholes projection": (
        whole_lstm(INPUTS, UNITS, P=OUTPUTS),
        tt.LSTM(INPUTS, UNITS, peepholes=True, projection=OUTPUTS),
    ),
    "GRU": (gru(INPUTS, UNITS), tt.GRU(INPUTS, UNITS)),
    "GRU original": (original_gru(INPUTS, UNITS), tt.GRU(INPUTS, UNITS, reset_after=False)),
}


def made(definition, inputs=3, units=3):
    """A cell of these sizes; I = H suits those that add the input to the output."""
    sizes = {"P": 2} if any("P" in shape for shape in definition.shapes.values()) else {}
    return definition(inputs, units, **sizes)


def parameters(cell, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    return {n: (0.6 * rng.standard_normal(s)).astype(dtype) for n, s in cell.shapes().items()}
