"""Layers of little frameworks: made with all settings at once, put together later, run by step."""

import pytest

from found_files import report_of, verdict
from throughtime.source import find

# All its settings come in one dictionary, and its arrays are made when a network is put together.
SETTINGS = """
import numpy as np

class RNNLayer:
    def __init__(self, config):
        self.config = config
        self.hidden = config["dim_hidden"]
        self.clip = config["clip"]

    def accept(self, shape_in):
        self.size = int(np.prod(shape_in))
        self.h0 = np.zeros((1, self.hidden))
        self.U = np.random.normal(0, 0.3, (self.size, self.hidden))
        self.W = np.random.normal(0, 0.3, (self.hidden, self.hidden))

    def forward(self, x):
        self.x, self.h = x, [self.h0]
        for row in x:
            self.h.append(np.tanh(row @ self.U + self.h[-1] @ self.W))
        return np.array(self.h[1:])

    def backward(self, d):
        self.dU, self.dW = np.zeros_like(self.U), np.zeros_like(self.W)
        dh_next = np.zeros_like(self.h0)
        for t in reversed(range(len(self.x))):
            dz = (d[t] + dh_next) * (1 - self.h[t + 1] ** 2)
            self.dU += self.x[t].reshape(-1, 1) @ dz
            self.dW += self.h[t].T @ dz
            dh_next = dz @ self.W.T
        np.clip(self.dW, -self.clip, self.clip, out=self.dW)
        return self.dU, self.dW
"""

LATER = """
import numpy as np

class rnn:
    def __init__(self, units):
        self.units = units
        self.W = np.random.uniform(-0.3, 0.3, (units, units))
        self.U = None

    def set_input_shape(self, input_shape):
        assert len(input_shape) == 2
        self.time_steps, input_dim = input_shape
        self.U = np.random.uniform(-0.3, 0.3, (input_dim, self.units))

    def forward(self, x):
        self.x = x
        self.h = np.zeros((len(x), self.time_steps + 1, self.units))
        for t in range(self.time_steps):
            self.h[:, t + 1] = np.tanh(x[:, t] @ self.U + self.h[:, t] @ self.W)
        return self.h[:, -1]

    def backward(self, grad):
        self.dU, self.dW = np.zeros_like(self.U), np.zeros_like(self.W)
        for t in reversed(range(self.time_steps)):
            dz = grad * (1 - self.h[:, t + 1] ** 2)
            self.dU += self.x[:, t].T @ dz
            self.dW += self.h[:, t].T @ dz
            grad = dz @ self.W.T
"""

# The layer of the outputs keeps what its last call gave; their sum is a variable, for an optimiser.
SHARES = """
import numpy as np

class Dense:
    def __init__(self, n_in, n_out):
        self.weights = np.random.uniform(-0.5, 0.5, (n_in, n_out))

    def forward(self, x):
        self.x = x
        return x @ self.weights

    def backward(self, d):
        self._gradient_weights = self.x.T @ d
        return d @ self.weights.T

    @property
    def gradient_weights(self):
        return self._gradient_weights

class RNN:
    def __init__(self, input_size, hidden_size, output_size):
        self.hidden_size = hidden_size
        both = input_size + hidden_size
        self.layers = [Dense(both, hidden_size), Dense(hidden_size, output_size)]
        self.optimizer = None

    def forward(self, x):
        h = np.zeros((1, self.hidden_size))
        self.joined, self.h, out = [], [], []
        for row in x:
            self.joined.append(np.hstack((row[None], h)))
            h = np.tanh(self.layers[0].forward(self.joined[-1]))
            self.h.append(h)
            out.append(self.layers[1].forward(h)[0])
        return np.array(out)

    def backward(self, error):
        self._gradient_weights = np.zeros_like(self.layers[0].weights)
        output_gradient_weights = np.zeros_like(self.layers[1].weights)
        dh = np.zeros((1, self.hidden_size))
        for t in reversed(range(len(error))):
            self.layers[1].x, self.layers[0].x = self.h[t], self.joined[t]
            dh = dh + self.layers[1].backward(error[t][None])
            back = self.layers[0].backward(dh * (1 - self.h[t] ** 2))
            dh = back[:, -self.hidden_size:]
            self._gradient_weights += self.layers[0].gradient_weights
            output_gradient_weights += self.layers[1].gradient_weights
        if self.optimizer is not None:
            self.optimizer.update(self.layers[1].weights, output_gradient_weights)
        return dh
"""

# What a file takes from others with `*` hides nothing that the user's line makes.
STARRED = """
from cells_of_others import *
import numpy as np

class GRUCell:
    def __init__(self, d, h):
        self.W = np.random.randn(h, d)
        self.U = np.random.randn(h, h)
        self.dW, self.dU = np.zeros((h, d)), np.zeros((h, h))

    def forward(self, x, h):
        self.x, self.h0 = x, h
        self.h = np.tanh(self.W @ x + self.U @ h)
        return self.h

    def backward(self, d):
        dz = d * (1 - self.h**2)
        self.dW += np.outer(dz, self.x)
        self.dU += np.outer(dz, self.h0)
        return self.W.T @ dz, self.U.T @ dz
"""


@pytest.mark.parametrize("text", [SETTINGS, LATER], ids=["settings", "later"])
def test_a_layer_that_is_made_in_parts_is_found_and_agrees(text, tmp_path):
    path = tmp_path / "layer.py"
    path.write_text(text)
    found = find(path)
    assert set(found.recipe.parameters) == {"U", "W"}
    assert verdict(found) == "agree"


def test_one_steps_share_is_no_gradient(tmp_path):
    path = tmp_path / "layer.py"
    path.write_text(SHARES)
    found = find(path)
    assert set(found.recipe.parameters) == {"layers.0"}
    assert any(line.startswith("not checked: layers.1") for line in found.said)
    assert verdict(found) == "agree"


def test_a_sum_that_is_put_back_into_the_layer_is_its_gradient(tmp_path):
    path = tmp_path / "layer.py"
    back = "self.layers[1]._gradient_weights = output_gradient_weights"
    put = SHARES.replace("        if self.optimizer is not None:", f"        {back}\n        if 0:")
    path.write_text(put)
    assert verdict(find(path)) == "agree"
    path.write_text(put.replace("self.layers[1].x, ", "self.layers[1].x = self.h[0]; _, "))
    report = report_of(find(path))
    assert report.tensors["layers.1"].verdict == "disagree"


def test_a_users_line_is_read_beside_a_starred_import(tmp_path):
    path = tmp_path / "cell.py"
    path.write_text(STARRED)
    (tmp_path / "cells_of_others.py").write_text("from math import *\n")
    line = (
        "m = GRUCell(3, 4); x = np.random.randn(3); h = np.random.randn(4); "
        "d = np.random.randn(4); out = m.forward(x, h); loss = np.sum(d * out); "
        "dx, dh = m.backward(d)"
    )
    found = find(path, setup=line)
    assert {"m.W", "m.U"} <= set(found.recipe.parameters)
    assert "d" not in found.recipe.parameters
    assert verdict(found) == "agree"
