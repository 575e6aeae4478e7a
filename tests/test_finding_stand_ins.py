"""Files whose data or packages are not there: what is counted in them, and looked up, stands in."""

import ast

import pytest

from found_files import report_of, verdict
from throughtime.source import find
from throughtime.source.finding.stand_ins import stand_ins
from throughtime.source.slices import Slices

PASSES = """
def step(xs, h_prev):
    hs, ps, vs, ts = {-1: np.copy(h_prev)}, {}, {}, {}
    loss = 0
    for t, item in enumerate(xs[:-1]):
        vs[t] = VECTOR(item)
        ts[t] = VECTOR(xs[t + 1])
        hs[t] = np.tanh(U @ vs[t] + W @ hs[t - 1] + b)
        scores = V @ hs[t] + c
        ps[t] = np.exp(scores) / np.sum(np.exp(scores))
        loss += -np.log(np.sum(ts[t] * ps[t]))
    dU, dW, dV, db, dc = map(np.zeros_like, (U, W, V, b, c))
    dh_next = np.zeros_like(h_prev)
    for t in reversed(range(len(xs) - 1)):
        dy = ps[t] - ts[t]
        dV += dy @ hs[t].T
        dc += dy
        dz = (V.T @ dy + dh_next) * (1 - hs[t] ** 2)
        dU += dz @ vs[t].T
        dW += dz @ hs[t - 1].T
        db += dz
        dh_next = W.T @ dz
    return loss, dU, dW, dV, db, dc
"""

WEIGHTS = """
U = np.random.randn(hidden_size, char_length) * 0.1
W = np.random.randn(hidden_size, hidden_size) * 0.1
V = np.random.randn(char_length, hidden_size) * 0.1
b = np.zeros((hidden_size, 1))
c = np.zeros((char_length, 1))
"""

# The text has one name where it is read and another where it is used, so that nothing is counted.
LOST_TEXT = f"""
import numpy as np

data = open("shakespeare.txt").read()
chars = list(set(corpus))
char_length = len(chars)
hidden_size = 64
both_size = hidden_size + char_length
char_to_ix = {{ch: i for i, ch in enumerate(chars)}}
{WEIGHTS}
def vector(ix):
    v = np.zeros((char_length, 1))
    v[ix] = 1
    return v
{PASSES.replace("VECTOR", "vector")}
"""

# A table of one-hot vectors that a package which is not installed makes of words.
LOST_TABLE = f"""
import numpy as np
from a_package_of_words import Binarizer, stories

words = stories.words()
char_length = len(set(words))
hidden_size = 32
binarizer = Binarizer()
one_hot_of = dict(zip(words, binarizer.fit_transform(words)))
{WEIGHTS}
{
    PASSES.replace("VECTOR(item)", "np.array(one_hot_of[item])[:, None]").replace(
        "VECTOR(xs[t + 1])", "np.array(one_hot_of[xs[t + 1]])[:, None]"
    )
}
"""

LOST_OBJECT = """
import numpy as np

class Activations:
    def sigmoid(self, z):
        return 1 / (1 + np.exp(-z))

    def softmax(self, z):
        e = np.exp(z - z.max())
        return e / e.sum()

class RNN:
    def __init__(self, input_dim=3, hidden_dim=32, output_dim=3):
        self.U = np.random.randn(hidden_dim, input_dim) * 0.1
        self.W = np.random.randn(hidden_dim, hidden_dim) * 0.1
        self.V = np.random.randn(output_dim, hidden_dim) * 0.1

    def forward(self, xs):
        self.xs, self.hs, self.ps = xs, {-1: np.zeros((len(self.W), 1))}, {}
        for t, x in enumerate(xs):
            self.hs[t] = activations.sigmoid(self.U @ x + self.W @ self.hs[t - 1])
            self.ps[t] = activations.softmax(self.V @ self.hs[t])
        return self.ps

    def loss(self, ps, targets):
        return -sum(np.log(ps[t][k, 0]) for t, k in enumerate(targets))

    def backward(self, targets):
        dU, dW, dV = map(np.zeros_like, (self.U, self.W, self.V))
        dh_next = np.zeros((len(self.W), 1))
        for t in reversed(range(len(targets))):
            dy = self.ps[t].copy()
            dy[targets[t]] -= 1
            dV += dy @ self.hs[t].T
            dz = (self.V.T @ dy + dh_next) * self.hs[t] * (1 - self.hs[t])
            dU += dz @ self.xs[t].T
            dW += dz @ self.hs[t - 1].T
            dh_next = self.W.T @ dz
        return dU, dW, dV
"""

# A loss that looks at the first output alone, of functions that are made for a single one.
ONE_OUTPUT = """
import numpy as np

n_inputs, n_hidden, n_outputs = 3, 8, 1
rate = 0.05
U = np.random.randn(n_hidden, n_inputs) * 0.1
W = np.random.randn(n_hidden, n_hidden) * 0.1
V = np.random.randn(n_outputs, n_hidden) * 0.1

def forward(xs):
    hs, ys = [np.zeros((n_hidden, 1))], []
    for x in xs:
        hs.append(np.tanh(U @ x + W @ hs[-1]))
        ys.append(V @ hs[-1])
    return ys, hs

def compute_loss(ys, targets):
    return sum((y - t)[0, 0] ** 2 for y, t in zip(ys, targets))

def backward(xs, targets, ys, hs):
    global U, W, V
    dU, dW, dV = map(np.zeros_like, (U, W, V))
    dh_next = np.zeros((n_hidden, 1))
    for t in reversed(range(len(xs))):
        dy = 2 * (ys[t] - targets[t])
        dV += dy @ hs[t + 1].T
        dz = (V.T @ dy + dh_next) * (1 - hs[t + 1] ** 2)
        dU += dz @ xs[t].T
        dW += dz @ hs[t].T
        dh_next = W.T @ dz
    U -= rate * dU
    W -= rate * dW
    V -= rate * dV
"""

# Whether it learns is a switch, and no rate; that is an attribute.
SWITCHED = """
import numpy as np

class RNN:
    def __init__(self, input_size, hidden_size, output_size, learning_rate=0.01):
        self.U = np.random.randn(hidden_size, input_size) * 0.1
        self.W = np.random.randn(hidden_size, hidden_size) * 0.1
        self.V = np.random.randn(output_size, hidden_size) * 0.1
        self.learning_rate = learning_rate

    def forward(self, xs):
        self.xs, self.hs = xs, [np.zeros((len(self.W), 1))]
        for x in xs:
            self.hs.append(np.tanh(self.U @ x.reshape(-1, 1) + self.W @ self.hs[-1]))
        return self.V @ self.hs[-1]

    def backward(self, dy, learn=True):
        dU, dW = np.zeros_like(self.U), np.zeros_like(self.W)
        dV = dy @ self.hs[-1].T
        dh = self.V.T @ dy
        for t in reversed(range(len(self.xs))):
            dz = dh * (1 - self.hs[t + 1] ** 2)
            dU += dz @ self.xs[t].reshape(1, -1)
            dW += dz @ self.hs[t].T
            dh = self.W.T @ dz
        if learn:
            self.U -= self.learning_rate * dU
            self.W -= self.learning_rate * dW
            self.V -= self.learning_rate * dV
"""

# Functions that are given an object which only holds arrays, one of them the terms of the loss.
HOLDER = """
import numpy as np

class Holder:
    def __init__(self, steps, input_size=1, hidden_size=3, output_size=1):
        self.U = np.random.randn(hidden_size, input_size) * 0.1
        self.W = np.random.randn(hidden_size, hidden_size) * 0.1
        self.V = np.random.randn(output_size, hidden_size) * 0.1
        self.hs = [np.zeros((hidden_size, 1)) for _ in range(steps + 1)]
        self.ys = [np.zeros((output_size, 1)) for _ in range(steps)]
        self.loss = np.zeros(steps)

def forward(holder, X, y, steps):
    for t in range(steps):
        holder.hs[t + 1] = np.tanh(holder.U @ X[t].reshape(-1, 1) + holder.W @ holder.hs[t])
        holder.ys[t] = holder.V @ holder.hs[t + 1]
        holder.loss[t] = np.sum((y[t].reshape(-1, 1) - holder.ys[t]) ** 2)

def backward(holder, X, y, t):
    dU, dW, dV = map(np.zeros_like, (holder.U, holder.W, holder.V))
    dh_next = np.zeros_like(holder.hs[0])
    for t in range(t - 1, -1, -1):
        dy = 2 * (holder.ys[t] - y[t].reshape(-1, 1))
        dV += dy @ holder.hs[t + 1].T
        dz = (holder.V.T @ dy + dh_next) * (1 - holder.hs[t + 1] ** 2)
        dU += dz @ X[t].reshape(1, -1)
        dW += dz @ holder.hs[t].T
        dh_next = holder.W.T @ dz
    return {"dU": dU, "dW": dW, "dV": dV}

if __name__ == "__main__":
    X, y = np.array([[1.0], [2.0]]), np.array([[2.0], [3.0]])
    steps = len(X)
    holder = Holder(steps)
    forward(holder, X, y, steps)
    grads = backward(holder, X, y, steps)
"""

FILES = {
    "lost text": LOST_TEXT,
    "lost table": LOST_TABLE,
    "lost object": LOST_OBJECT,
    "one output": ONE_OUTPUT,
    "switched": SWITCHED,
    "holder": HOLDER,
}


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_found_and_agrees(name, tmp_path):
    path = tmp_path / "net.py"
    path.write_text(FILES[name])
    found = find(path)
    assert len(found.recipe.parameters) == (5 if "W @ hs[t - 1] + b" in FILES[name] else 3)
    assert verdict(found) == "agree"


@pytest.mark.parametrize("name", ["lost text", "lost table", "one output"])
def test_the_same_file_with_a_fault_is_found_and_disagrees(name, tmp_path):
    path = tmp_path / "net.py"
    wrong = FILES[name].replace("dh_next = W.T @ dz", "dh_next = W @ dz")
    assert wrong != FILES[name]
    path.write_text(wrong)
    report = report_of(find(path))
    assert report.verdict == "disagree"
    assert report.tensors["V"].verdict == "agree"


def test_a_size_waits_for_what_it_is_computed_from():
    text = "both = hidden + symbols\nW = np.zeros((both, 3))\nx = np.zeros(symbols)"
    file = Slices(ast.parse(text))
    assert list(stand_ins(["both", "symbols", "W"], file)) == ["symbols"]


def test_nothing_stands_in_for_an_array():
    file = Slices(ast.parse("def f(x):\n    return W @ x + table.get(x)"))
    assert stand_ins(["W", "table"], file) == {}
