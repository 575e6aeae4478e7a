"""Training steps with the file's own data: what these leave out is said, and rates are read."""

import ast

import pytest

from found_files import report_of, verdict
from throughtime import cli
from throughtime.gradcheck import CheckError
from throughtime.source import find
from throughtime.source.finding.training_steps import losses_in

# The data have a single step, so that the recurrent weights are never multiplied with anything.
STEP = """
import numpy as np

class RNN:
    def __init__(self):
        rng = np.random.RandomState(0)
        self.U, self.W, self.V = (rng.randn(*shape) * 0.5 for shape in ((4, 3), (4, 4), (2, 4)))

    def forward(self, xs):
        self.xs, self.hs = xs, [np.zeros((4, 1))]
        for x in xs:
            self.hs.append(np.tanh(self.U @ x + self.W @ self.hs[-1]))
        return self.V @ self.hs[-1]

    def backprop(self, dy, learn_rate=2e-2):
        dU, dW = np.zeros_like(self.U), np.zeros_like(self.W)
        dV = dy @ self.hs[-1].T
        dh = self.V.T @ dy
        for t in reversed(range(len(self.xs))):
            dz = dh * (1 - self.hs[t + 1] ** 2)
            dU += dz @ self.xs[t].T
            dW += dz @ self.hs[t].T
            dh = self.W.T @ dz
        TIMES
            self.U -= learn_rate * dU
            self.W -= learn_rate * dW
            self.V -= learn_rate * dV

rnn = RNN()
for epoch in range(20):
    x, y = [np.array([[1.0], [0.5], [-0.5]])], np.array([[1.0], [0.0]])
    out = rnn.forward(x)
    loss = 0.5 * np.sum((out - y) ** 2)
    rnn.backprop(out - y)
"""


def test_an_update_that_is_made_five_times_is_five_times_too_large(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(STEP.replace("TIMES", "for _ in range(5):"))
    found = find(path)
    report = report_of(found)
    assert report.verdict == "disagree"
    for tensor in report.tensors.values():
        if tensor.worst.numerical:
            assert tensor.worst.gradient == pytest.approx(5 * tensor.worst.numerical, rel=1e-6)
    # What the file's own data leave out is named.
    assert set(found.recipe.parameters) == {"rnn.U", "rnn.V"}
    assert "not checked: rnn.W: the loss does not depend on them here" in found.said
    assert any("rnn.W" in note for note in found.notes)


def test_an_update_that_is_made_once_agrees(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(STEP.replace("TIMES", "for _ in range(1):"))
    assert verdict(find(path)) == "agree"


def test_what_is_made_of_the_derivative_of_an_error_is_no_loss():
    body = ast.parse("next_err_drv_in = d @ W\nloss_grad = e\nsquared_loss = 0.5 * e @ e").body
    assert losses_in(body) == {"squared_loss"}


# Two classes have a method of one name, and only one of them a default for its rate.
TWO_CLASSES = """
import numpy as np

class RNN:
    def __init__(self, n, m):
        self.U, self.W = np.random.randn(m, n) * 0.5, np.random.randn(m, m) * 0.5

    def forward(self, x):
        self.x, self.h = x, [np.zeros(len(self.W))]
        for row in x:
            self.h.append(np.tanh(self.U @ row + self.W @ self.h[-1]))
        return self.h[-1]

    def backward(self, d, learning_rate):
        dU, dW = np.zeros_like(self.U), np.zeros_like(self.W)
        for t in reversed(range(len(self.x))):
            dz = d * (1 - self.h[t + 1] ** 2)
            dU += np.outer(dz, self.x[t])
            dW += np.outer(dz, self.h[t])
            d = self.W.T @ dz
        self.U -= learning_rate * dU
        self.W -= learning_rate * dW

class Chain:
    def backward(self, X, y_true, learning_rate=0.01):
        for layer in self.layers:
            y_true = layer.backward(y_true, learning_rate)
"""


def test_a_rate_by_its_place_is_that_of_the_objects_own_class(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(TWO_CLASSES)
    line = (
        "m = RNN(3, 4); X = np.random.randn(5, 3); d = np.random.randn(4); h = m.forward(X); "
        "loss = np.sum(d * h); dx = m.backward(d, 1.0)"
    )
    found = find(path, setup=line)
    assert any("(old − new)/1.0" in note for note in found.notes)
    assert verdict(found) == "agree"


def test_a_name_that_nothing_sets_is_named(tmp_path):
    path = tmp_path / "net.py"
    text = TWO_CLASSES.replace("d = self.W.T @ dz", "d = W.T @ dz")
    path.write_text(text)
    said = r"NameError: name 'W' is not defined, which nothing in the file sets"
    with pytest.raises(CheckError, match=said):
        find(path)


def test_what_is_mended_says_what_it_leaves_out(tmp_path, capsys):
    path = tmp_path / "net.py"
    path.write_text(STEP.replace("TIMES", "for _ in range(5):"))
    cli.main(["mend", str(path), "--processes", "1"])
    said = " ".join(capsys.readouterr().out.split())
    assert "Not checked: rnn.W: with these data the loss does not depend on them" in said
