"""Networks whose data, steps or sizes are kept in ways that no argument's name says."""

import pytest

import throughtime as tt
from throughtime.source import Program, find


@pytest.fixture
def write(tmp_path):
    def written(text, name="net.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return written


def verdict(found):
    target = Program(found.recipe).target()
    return tt.check(target, progress=False, diagnose=False, effort="quick").verdict


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
