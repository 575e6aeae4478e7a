"""Networks whose data, steps or sizes are kept in ways that no argument's name says."""

import ast

import pytest

import throughtime as tt
from found_files import verdict
from throughtime.source import bench, find, regions

# Sequences come first and steps last; the gradients of the sequences are kept apart, and `backward`
# of the loss has another number of arguments than the network's.
APART = """
import numpy as np

class Loss:
    def __call__(self, y, y_hat):
        return self.forward(y, y_hat)

class Squares(Loss):
    def forward(self, y, y_hat):
        return np.sum((y - y_hat) ** 2, axis=(1, 2))

    def backward(self, y, y_hat):
        return 2 * (y_hat - y)

class Grads:
    def __init__(self, dWx, dWh, dWy):
        self.dWx, self.dWh, self.dWy = dWx, dWh, dWy

class Net:
    def __init__(self, input_size, hidden_size, output_size, loss: Loss):
        self.Wx = np.random.randn(hidden_size, input_size)
        self.Wh = np.random.randn(hidden_size, hidden_size)
        self.Wy = np.random.randn(output_size, hidden_size)
        self.loss = loss

    def forward(self, x):
        n, _, T = x.shape
        h = np.zeros((n, len(self.Wh), T + 1))
        y = np.zeros((n, len(self.Wy), T))
        for t in range(T):
            h[:, :, [t]] = np.tanh(self.Wx @ x[:, :, [t]] + self.Wh @ h[:, :, [t - 1]])
            y[:, :, [t]] = self.Wy @ h[:, :, [t]]
        return y, h

    def backward(self, x, y, y_hat, h):
        T = x.shape[2]
        last = y_hat[:, :, [T - 1]]
        losses = self.loss(y, last)
        dy = self.loss.backward(y, last)
        dWy = dy @ h[:, :, [T - 1]].transpose(0, 2, 1)
        dh = self.Wy.T @ dy
        dWx, dWh = np.zeros((len(x), *self.Wx.shape)), np.zeros((len(x), *self.Wh.shape))
        for t in reversed(range(T)):
            dz = dh * (1 - h[:, :, [t]] ** 2)
            dWx += dz @ x[:, :, [t]].transpose(0, 2, 1)
            dWh += dz @ h[:, :, [t - 1]].transpose(0, 2, 1)
            dh = self.Wh.T @ dz
        return Grads(dWx, dWh, dWy), losses

    def train(self, X, Y, rate):
        y_hat, h = self.forward(X)
        grads, losses = self.backward(X, Y, y_hat, h)
        self.Wx -= rate * grads.dWx.mean(axis=0)
"""


def test_steps_on_the_last_axis_and_a_gradient_for_each_sequence(write):
    found = find(write(APART))
    assert dict(found.recipe.steps) == {"x": 2}
    assert found.recipe.gradients["Wh"] == "np.sum(back[0].dWh, axis=0)"
    assert verdict(found) == "agree"
    wrong = find(write(APART.replace("self.Wh.T @ dz", "self.Wh @ dz")))
    assert verdict(wrong) == "disagree"


# `forward` is one step, `predict` the loop; the target is one number, in a list, for the last step.
STEPWISE = """
import numpy as np

def one_hot(i, n):
    return np.eye(n)[i]

class Net:
    def __init__(self, vocab_size, hidden_dims, out_vocab_size):
        self.V = 0.3 * np.random.randn(hidden_dims, vocab_size)
        self.U = 0.3 * np.random.randn(hidden_dims, hidden_dims)
        self.W = 0.3 * np.random.randn(out_vocab_size, hidden_dims)
        self.deltaV, self.deltaU, self.deltaW = 0 * self.V, 0 * self.U, 0 * self.W

    def forward(self, x, s_previous):
        s = np.tanh(self.V @ one_hot(x, self.V.shape[1]) + self.U @ s_previous)
        e = np.exp(self.W @ s)
        return e / e.sum(), s

    def predict(self, x):
        s, y = np.zeros((len(x) + 1, len(self.U))), np.zeros((len(x), len(self.W)))
        for t in range(len(x)):
            y[t], s[t] = self.forward(x[t], s[t - 1])
        return y, s

    def acc_deltas_bptt(self, x, d, y, s, steps):
        last = len(x) - 1
        delta_out = one_hot(d[0], len(self.W)) - y[last]
        self.deltaW += np.outer(delta_out, s[last])
        delta = self.W.T @ delta_out
        for t in range(last, max(last - steps, 0) - 1, -1):
            delta = delta * (1 - s[t] ** 2)
            self.deltaV += np.outer(delta, one_hot(x[t], self.V.shape[1]))
            self.deltaU += np.outer(delta, s[t - 1])
            delta = self.U.T @ delta

    def apply_deltas(self, learning_rate):
        self.V += learning_rate * self.deltaV
        self.U += learning_rate * self.deltaU
        self.W += learning_rate * self.deltaW
"""


def test_a_loop_beside_a_single_step_is_the_forward_pass(write):
    found = find(write(STEPWISE))
    assert "net.predict(x)" in found.recipe.loss
    assert verdict(found) == "agree"
    wrong = find(write(STEPWISE.replace("self.U.T @ delta", "self.U @ delta")))
    assert verdict(wrong) == "disagree"


# A cell for each of ten steps; words for settings; sizes that are written out; data that only the
# training loop reads.
UNROLLED = """
import numpy as np

class Cell:
    def __init__(self, hidden, wide):
        self.W = np.random.randn(hidden, hidden) / 4
        self.V = np.random.randn(hidden, wide) / 4

    def step(self, h, x):
        self.h_in, self.x_in = h, x
        self.h_out = np.tanh(self.W @ h + self.V @ x)

    def back(self, dh):
        dz = dh * (1 - self.h_out ** 2)
        self.dW, self.dV, self.dh_in = dz @ self.h_in.T, dz @ self.x_in.T, self.W.T @ dz

class Model:
    def __init__(self, X_input, Y_input, optimizer, dropout):
        self.X_input, self.Y_input = X_input, Y_input
        assert optimizer in ("SGD", "ADAM") and dropout == "no"
        self.cells = [Cell(7, 9) for _ in range(10)]
        self.Wy = np.random.randn(3, 7) / 3
        self.loss = []

    def forward(self, x_inputs, y_inputs, is_train):
        y, h = y_inputs.reshape(3, 1), np.zeros((7, 1))
        for n, x_input in enumerate(x_inputs):
            self.cells[n].step(h, x_input.reshape(9, 1))
            h = self.cells[n].h_out
        self.h, self.error = h, self.Wy @ h - y
        if is_train == True:
            self.loss.append(0.5 * np.sum(self.error ** 2))

    def backward(self, x_inputs):
        self.dWy = self.error @ self.h.T
        dh = self.Wy.T @ self.error
        for n in reversed(range(len(x_inputs))):
            self.cells[n].back(dh)
            dh = self.cells[n].dh_in

    def start(self):
        for x, y in zip(self.X_input, self.Y_input):
            self.forward(x, y, is_train=True)
            self.backward(x)

if __name__ == "__main__":
    Model(load("x"), load("y"), optimizer="SGD", dropout="no").start()
"""


def test_settings_and_sizes_that_the_file_writes_out(write):
    found = find(write(UNROLLED))
    assert "'SGD', 'no')" in found.recipe.setup
    assert verdict(found) == "agree"
    assert any("other numbers of steps" in note.lower() for note in found.notes)  # ten cells
    assert verdict(find(write(UNROLLED.replace("self.W.T @ dz", "self.W @ dz")))) == "disagree"


# One step a call, of which lists are kept; the update is inside, and the loss has no name.
KEPT = """
import numpy as np

class Net:
    def __init__(self, input_dim, output_dim):
        self.U = np.random.uniform(-0.5, 0.5, size=(input_dim, output_dim))
        self.W = np.random.uniform(-0.5, 0.5, size=(output_dim, output_dim))
        self.output_state = np.zeros((1, output_dim))
        self.output_states = []

    def forward(self, x):
        self.output_state = np.tanh(x @ self.U + self.output_state @ self.W)
        self.output_states.append(self.output_state)

    def backward(self, x, y, seq_length, lr):
        carried, dU, dW = 0, 0, 0
        for t in reversed(range(seq_length)):
            error = self.output_states[t] - y[t] + carried
            dz = error * (1 - self.output_states[t] ** 2)
            dU = dU + np.outer(x[t], dz)
            if t:
                dW = dW + self.output_states[t - 1].T @ dz
            carried = dz @ self.W.T
        self.U -= lr * dU
        self.W -= lr * dW
"""


def test_a_step_that_keeps_its_states_is_run_for_each(write):
    found = find(write(KEPT))
    assert "[net.forward(v) for v in x]" in found.recipe.loss
    assert verdict(found) == "agree"
    assert verdict(find(write(KEPT.replace("dz @ self.W.T", "dz @ self.W")))) == "disagree"


# A loop over sequences, each with an update in a method: an epoch is no training step.
EPOCH = """
import numpy as np

class Cell:
    def __init__(self, n):
        self.W, self.V, self.o = np.random.randn(n, n), np.random.randn(n), np.random.randn(n)

    def forward(self, x, h):
        self.h, self.x = h, x
        return np.tanh(self.W @ h + self.V * x)

    def backward_layer(self, dh, learning_rate):
        self.W -= learning_rate * np.outer(dh, self.h)
        self.V -= learning_rate * dh * self.x
        return self.W.T @ dh

cell, learning_rate = Cell(4), 0.1
X, Y, losses = np.random.randn(20, 6), np.random.randn(20), []
for epoch in range(9):
    loss, h = 0, np.zeros(4)
    for n in range(len(X)):
        x, y = X[n], Y[n]
        for v in x:
            h = cell.forward(v, h)
        dout = cell.o @ h - y
        loss += dout ** 2
        dh_next = dout * cell.o
        for v in x:
            dh_prev = cell.backward_layer(dh_next, learning_rate)
            dh_next = dh_prev
    losses.append(loss)
"""


def test_an_epoch_of_updates_is_no_training_step():
    assert "the loop of line 19" not in {region.name for region in regions(ast.parse(EPOCH))}


# The loss has no name: its derivative is taken, by a function beside the loss's own.
UNNAMED = """
import numpy as np

def mse(y_true, y_pred):
    return np.mean((y_true - y_pred) ** 2)

def mse_derivative(y_true, y_pred):
    return 2 * (y_pred - y_true) / np.size(y_true)

class Cell:
    def __init__(self, n):
        self.W, self.U, self.o = np.random.randn(n, n), np.random.randn(n), np.random.randn(n)
        self.dW, self.dU, self.do = np.zeros((n, n)), np.zeros(n), np.zeros(n)
        self.kept = []

    def forward(self, x, h):
        self.kept.append((x, h, np.tanh(self.W @ h + self.U * x)))
        return self.kept[-1][-1]

    def backward_step(self, dh):
        x, h, new = self.kept.pop()
        dz = dh * (1 - new ** 2)
        self.dW += np.outer(dz, h)
        self.dU += dz * x
        return self.W.T @ dz

cell, h_train = Cell(4), np.zeros(4)
X, Y = np.random.randn(20, 6), np.random.randn(20)
for n in range(len(X)):
    x_seq, y_true = X[n], Y[n]
    for v in x_seq:
        h_train = cell.forward(v, h_train)
    y_pred = cell.o @ h_train
    dL_dy = mse_derivative(y_true, y_pred)
    cell.do += dL_dy * h_train
    dh_next = dL_dy * cell.o
    for v in x_seq:
        dh_prev = cell.backward_step(dh_next)
        dh_next = dh_prev
"""


def test_a_loss_of_which_only_the_derivative_is_called(write):
    found = find(write(UNNAMED))
    assert set(found.recipe.parameters) == {"cell.W", "cell.U", "cell.o"}  # and no state
    assert verdict(found) == "agree"
    assert verdict(find(write(UNNAMED.replace("self.W.T @ dz", "self.W @ dz")))) == "disagree"


def test_states_that_a_pass_is_given_and_sets_are_no_parameters(write):
    moved = "back = self.W.T @ dz\n        self.W -= rate * np.outer(dz, h)\n        "
    moved += "self.U -= rate * dz * x\n        return back"
    text = UNNAMED.replace("return self.W.T @ dz", moved)
    text = text.replace("step(self, dh)", "step(self, dh, rate)")
    text = text.replace("cell, h_train =", "rate, cell, h_train = 0.1,")
    text = text.replace("step(dh_next)", "step(dh_next, rate)")
    text = text.replace("self.dW += np.outer(dz, h)", "pass").replace("self.dU += dz * x", "pass")
    text = text.replace("self.dW, self.dU, self.do = np.zeros((n, n)), np.zeros(n), ", "self.do = ")
    found = find(write(text))
    assert {"cell.W", "cell.U"} <= set(found.recipe.parameters) <= {"cell.W", "cell.U", "cell.o"}


# --- what a refusal says ---

ODD = """
import numpy as np

class Net:
    def __init__(self, n_in, n_hidden):
        self.W = np.random.randn(n_hidden, n_in)

    def forward(self, x, thing):
        assert thing == "odd", "no such thing"
        return self.W @ x

    def backward(self, x, dout, mystery):
        self.dW = dout @ x.T + mystery
"""


def test_a_refusal_says_what_was_tried_and_gives_a_whole_line(write):
    with pytest.raises(tt.CheckError) as told:
        find(write(ODD))
    said = str(told.value)
    assert "..." not in said
    assert "Net.forward and Net.backward" in said
    assert "net.py, line 9: AssertionError: no such thing" in said
    line = said.split('--with "')[1].split('"')[0]
    ast.parse(line)
    assert "net = Net(5, 4)" in line


def test_a_doubted_reading_is_a_line_that_can_be_given(write):
    nonsense = KEPT.replace("dz = error * (1", "dz = 3 - error * (2").replace("- y[t]", "+ 7")
    with pytest.raises(tt.CheckError, match="it may be misread") as told:
        find(write(nonsense))
    assert "..." not in str(told.value)
    line = str(told.value).split('--with "')[1].split('"')[0]
    assert verdict(find(write(nonsense), setup=line)) == "disagree"


def test_slow_code_counts_as_several_runs(write, monkeypatch):
    monkeypatch.setattr(bench, "ORDINARY_TRY", 1e-9)
    tried = bench.Bench(write("a = 1\n"))
    tried.run("b = 1")
    assert tried.tries > 1
