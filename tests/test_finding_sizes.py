"""Sizes, activations and cells that a network of a stranger is made with."""

from found_files import report_of
from stranger_networks import BASE, PLAIN
from throughtime.source import find

# One output, as the code has it; its inputs are written out; its loop runs to a number of steps.
ONE_OUTPUT = """
import numpy as np

class Sigmoid:
    def forward(self, x):
        return 1 / (1 + np.exp(-x))

    def backward(self, y):
        return y * (1 - y)

class RNNLayer:
    def __init__(self, input_dim, hidden_dim, output_dim, input_length, activator):
        self.input_length, self.activator = input_length, activator
        self.out = np.zeros((1, input_length))
        self.U = np.random.randn(hidden_dim, input_dim)
        self.W = np.random.randn(hidden_dim, hidden_dim)
        self.V = np.random.randn(output_dim, hidden_dim)

    def forward(self, x):
        self.xs, self.hs = [], [np.zeros((len(self.W), 1))]
        for t in range(self.input_length):
            self.xs.append(x[:, t].reshape((2, 1)))
            self.hs.append(self.activator.forward(self.U @ self.xs[-1] + self.W @ self.hs[-1]))
            self.out[0, t] = self.activator.forward(self.V @ self.hs[-1])

    def calc_loss(self, label):
        return -np.mean(label * np.log(self.out) + (1 - label) * np.log(1 - self.out))

    def backward(self, label):
        self.dU, self.dW, self.dV = (np.zeros_like(a) for a in (self.U, self.W, self.V))
        d, dh = (self.out - label) / self.input_length, 0
        for t in reversed(range(self.input_length)):
            h = self.hs[t + 1]
            self.dV += d[0, t] * h.T
            dz = (self.V.T * d[0, t] + dh) * self.activator.backward(h)
            self.dU += dz @ self.xs[t].T
            self.dW += dz @ self.hs[t].T
            dh = self.W.T @ dz
"""


def test_a_network_of_one_output_with_sizes_of_its_own(write):
    found = find(write(ONE_OUTPUT))
    assert found.name == "RNNLayer"
    assert report_of(found).verdict == "agree"


# A single output is no loss, though it is a number; what a pass is given may say nothing.
NO_LOSS = """
import numpy as np

class Net:
    def __init__(self, layer_sizes, steps):
        self.steps = steps
        self.U = np.random.randn(layer_sizes[1], layer_sizes[0])
        self.W = np.random.randn(layer_sizes[1], layer_sizes[1])
        self.V = np.random.randn(1, layer_sizes[1])

    def feedforward(self, x):
        self.xs, self.hs = [], [np.zeros((len(self.W), 1))]
        for v in x:
            self.xs.append(np.reshape(v, (-1, 1)))
            self.hs.append(np.tanh(self.U @ self.xs[-1] + self.W @ self.hs[-1]))
        return self.V @ self.hs[-1]

    def backpropagation(self, real_output, tmp):
        self.dV = tmp * self.hs[-1].T
        self.dU, self.dW = np.zeros_like(self.U), np.zeros_like(self.W)
        d = self.V.T * tmp
        for t in reversed(range(self.steps)):
            d = d * (1 - self.hs[t + 1] ** 2)
            self.dU += d @ self.xs[t].T
            self.dW += d @ self.hs[t].T
            d = self.W.T @ d
"""


def test_a_single_output_is_not_taken_for_the_loss(write):
    found = find(write(NO_LOSS))
    assert "drawn weights" in str(found)
    assert report_of(found).verdict == "agree"


# Cells for more steps than are run keep what they were made with in the place of gradients.
MORE_CELLS = """
import numpy as np

class Cell:
    def __init__(self):
        self.U, self.W = np.random.randn(4, 5), np.random.randn(4, 4)
        self.dU, self.dW = np.random.randn(4, 5), np.random.randn(4, 4)

class RNN:
    def __init__(self, dropout):
        self.dropout = dropout
        self.cells = [Cell() for _ in range(20)]

    def forward(self, x):
        self.x, self.hs = x, [np.zeros((4, 1))]
        for cell, v in zip(self.cells, x):
            h = np.tanh(cell.U @ v.reshape(5, 1) + cell.W @ self.hs[-1])
            self.hs.append(h * (np.random.rand(4, 1) > 0.5) if self.dropout == "yes" else h)
        return self.hs[-1]

    def backward(self, d):
        for t in reversed(range(len(self.x))):
            dz = d * (1 - self.hs[t + 1] ** 2)
            self.cells[t].dU = dz @ self.x[t].reshape(1, 5)
            self.cells[t].dW = dz @ self.hs[t].T
            d = self.cells[t].W.T @ dz

if __name__ == "__main__":
    net = RNN(dropout="yes")
"""


def test_cells_that_are_not_run_have_no_gradient_and_dropout_is_off(write):
    found = find(write(MORE_CELLS))
    assert "cells.5.U" in found.recipe.parameters
    assert "cells.19.U" not in found.recipe.parameters
    assert report_of(found).verdict == "agree"


# The activation is a class that a pass is given and makes objects of.
CLASS_GIVEN = BASE.format(
    **{
        **PLAIN,
        "before": """
class Tanh:
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, d):
        return d * (1 - self.y ** 2)
""",
        "given": "x, activation_func",
        "step": "self.xs.append(x[t].reshape(-1, 1)); assert activation_func().forward(0) == 0",
    }
)


def test_a_pass_may_be_given_a_class_of_activations(write):
    found = find(write(CLASS_GIVEN))
    assert "Tanh)" in found.recipe.gradient
    assert report_of(found).verdict == "agree"


# Passes whose names say nothing: one works out gradients of weights, the other is called before it.
OTHER_NAMES = BASE.format(
    **{
        **PLAIN,
        "methods": """
    def teach(self, x, y):
        out = self.reckon(x)
        self.amend(out - y)
""",
    }
).replace("def forward", "def reckon").replace("def backward", "def amend")  # fmt: skip


def test_passes_are_known_by_what_they_do(write):
    found = find(write(OTHER_NAMES))
    assert "net.amend(d)" in found.recipe.gradient
    assert report_of(found).verdict == "agree"


# Data that the constructor may be given, and has to be; their gradient is none of a parameter.
OPTIONAL_DATA = BASE.format(
    **{
        **PLAIN,
        "made": "X=None, Y='none'",
        "making": "self.x_data, self.y_data = X, Y",
        "inputs": "X.shape[1]",
        "outputs": "Y.shape[1]",
        "given": "",
        "step": "x = self.x_data; self.xs.append(x[t].reshape(-1, 1))",
        "back": "",
        "first": "d = [o - y[:, None] for o, y in zip(self.ys, self.y_data)]",
        "end": """self.dU, self.dW, self.dV = dU, dW, dV
        self.dx_data = np.zeros_like(self.x_data)""",
        "methods": """
    def loss(self):
        pairs = zip(self.ys, self.y_data)
        return 0.5 * sum(np.sum((o - y[:, None]) ** 2) for o, y in pairs)
""",
    }
).replace("range(len(x))", "range(len(self.x_data))")


def test_data_that_may_be_left_out_are_given_and_are_no_parameters(write):
    found = find(write(OPTIONAL_DATA))
    assert set(found.recipe.parameters) == {"U", "W", "V"}
    assert not any("x_data" in line for line in found.said)
    assert report_of(found).verdict == "agree"
