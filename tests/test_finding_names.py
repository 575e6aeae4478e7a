"""What people call parameters, gradients and arguments: each file in other words."""

import pytest

from found_files import report_of, verdict
from throughtime.source import find

# Parameters come one by one from a function, and symbols' vectors are looked up in an argument.
ONE_BY_ONE = """
import numpy as np

def initmat(hidden_size, num_uniq_feat):
    W = np.random.randn(hidden_size, hidden_size) / 2
    U = np.random.randn(hidden_size, num_uniq_feat) / 2
    V = np.random.randn(num_uniq_feat, hidden_size) / 2
    return W, U, V, np.zeros([hidden_size, 1])

def CostFun(inputs, targets, s_m1, hidden_size, vectors, W, U, V, sbias):
    steps = len(inputs)
    x = vectors[inputs].T
    s = np.zeros([hidden_size, steps + 1])
    s[:, -1] = s_m1[:, 0]
    for i in range(steps):
        s[:, i] = np.tanh(W @ s[:, i - 1] + U @ x[:, i] + sbias[:, 0])
    y = V @ s[:, :-1]
    p = np.exp(y) / np.sum(np.exp(y), axis=0)
    loss = -np.sum(np.log(p[targets, range(steps)]))
    dy = p - vectors[targets].T
    dV = dy @ s[:, :-1].T
    dU, dW, dsbias, dh = 0 * U, 0 * W, 0 * sbias, 0 * sbias
    for i in reversed(range(steps)):
        dz = (1 - s[:, [i]] ** 2) * (V.T @ dy[:, [i]] + dh)
        dU += dz @ x[:, [i]].T
        dW += dz @ s[:, [i - 1]].T
        dsbias += dz
        dh = W.T @ dz
    return loss, dW, dU, dV, dsbias
"""

# A parameter holds its array as `a` and its gradient as `d`; ones stand beside x and h.
HOLDERS = """
import numpy as np

class Param:
    def __init__(self, a):
        self.a = a
        self.d = np.zeros_like(a)
        self.m = np.zeros_like(a)

class Layer:
    def __init__(self, x_n, h_n, name=""):
        self.x_n, self.h_n = x_n, h_n
        self.W = Param(np.random.randn(h_n, x_n + h_n + 1) / 2)

    def forward(self, x):
        t_n, _, b = x.shape
        self.h, self.joined = np.zeros((t_n + 1, self.h_n, b)), []
        for t in range(t_n):
            self.joined.append(np.vstack((x[t], self.h[t - 1], np.ones((1, b)))))
            self.h[t] = np.tanh(self.W.a @ self.joined[-1])
        return self.h[:-1]

    def backward(self, dh):
        carried = 0
        for t in reversed(range(len(dh))):
            dz = (dh[t] + carried) * (1 - self.h[t] ** 2)
            self.W.d += dz @ self.joined[t].T
            carried = (self.W.a.T @ dz)[self.x_n : self.x_n + self.h_n]
"""

# The gradients are summed up in lists of the network's, for the weights of its cell.
ACCUMULATED = """
import math
import random

class Cell:
    def __init__(self, n, m):
        self.W_x = [[random.uniform(-1, 1) for _ in range(n)] for _ in range(m)]
        self.W_h = [[random.uniform(-1, 1) for _ in range(m)] for _ in range(m)]

    def forward(self, x, h):
        pairs = zip(self.W_x, self.W_h)
        return [math.tanh(sum(a * b for a, b in zip(r, x)) + sum(a * b for a, b in zip(q, h)))
                for r, q in pairs]

class Layer:
    def __init__(self, input_size, hidden_size):
        self.cell = Cell(input_size, hidden_size)
        self.grad_acc_Wx = [[0.0 for _ in row] for row in self.cell.W_x]
        self.grad_acc_Wh = [[0.0 for _ in row] for row in self.cell.W_h]

    def forward(self, xs):
        self.xs, self.hs = xs, [[0.0] * len(self.cell.W_h)]
        for x in xs:
            self.hs.append(self.cell.forward(x, self.hs[-1]))
        return self.hs[1:]

    def backward(self, dY):
        n = len(self.cell.W_h)
        back = [0.0] * n
        for t in reversed(range(len(self.xs))):
            dz = [(dY[t][i] + back[i]) * (1 - self.hs[t + 1][i] ** 2) for i in range(n)]
            for i in range(n):
                for j in range(len(self.xs[t])):
                    self.grad_acc_Wx[i][j] += dz[i] * self.xs[t][j]
                for j in range(n):
                    self.grad_acc_Wh[i][j] += dz[i] * self.hs[t][j]
            back = [sum(self.cell.W_h[j][i] * dz[j] for j in range(n)) for i in range(n)]
"""

FILES = {"one by one": ONE_BY_ONE, "holders": HOLDERS, "accumulated": ACCUMULATED}


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_found_and_agrees(name, tmp_path):
    path = tmp_path / "net.py"
    path.write_text(FILES[name])
    assert verdict(find(path)) == "agree"


def test_a_fault_beside_parameters_one_by_one_is_seen(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(ONE_BY_ONE.replace("dh = W.T @ dz", "dh = W @ dz"))
    report = report_of(find(path))
    assert report.verdict == "disagree"
    assert report.tensors["V"].verdict == "agree"


def test_a_users_line_may_call_the_object_anything(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(ACCUMULATED)
    line = (
        "m = Layer(2, 3); X = [[0.5, -0.2], [0.3, 0.8], [-0.4, 0.2]]; "
        "d = [[0.3, -0.7, 0.1], [0.6, 0.2, -0.4], [-0.5, 0.4, 0.2]]; y = m.forward(X); "
        "loss = sum(a * b for p, q in zip(d, y) for a, b in zip(p, q)); m.backward(d)"
    )
    found = find(path, setup=line)
    assert set(found.recipe.parameters) == {"m.cell.W_x", "m.cell.W_h"}
    assert verdict(found) == "agree"


def test_gradients_that_are_returned_within_each_other_are_kept(tmp_path):
    path = tmp_path / "layer.py"
    path.write_text("""
import numpy as np

class Layer:
    def __init__(self, n, m):
        self.kernel = np.random.randn(m, n)
        self.loop = np.random.randn(m, m)

    def forward(self, x):
        self.x, self.h = x, [np.zeros(len(self.loop))]
        for row in x:
            self.h.append(np.tanh(self.kernel @ row + self.loop @ self.h[-1]))
        return self.h[-1]

    def backward(self, d):
        first, second = np.zeros_like(self.kernel), np.zeros_like(self.loop)
        for t in reversed(range(len(self.x))):
            dz = d * (1 - self.h[t + 1] ** 2)
            first += np.outer(dz, self.x[t])
            second += np.outer(dz, self.h[t])
            d = self.loop.T @ dz
        return d, (first, second)
""")
    line = (
        "m = Layer(2, 3); x = np.random.randn(4, 2); d = np.random.randn(3); y = m.forward(x); "
        "loss = np.sum(d * y); dh, (dK, dL) = m.backward(d)"
    )
    found = find(path, setup=line)
    assert set(found.recipe.parameters) == {"m.kernel", "m.loop"}
    assert verdict(found) == "agree"


def test_gradients_may_begin_with_g(tmp_path):
    path = tmp_path / "net.py"
    text = ONE_BY_ONE
    for name in ("W", "U", "V"):
        text = text.replace(f"d{name}", f"g{name}")
    assert "return loss, gW, gU, gV, dsbias" in text
    path.write_text(text)
    found = find(path)
    assert set(found.recipe.parameters) == {"W", "U", "V", "sbias"}
    assert verdict(found) == "agree"


def test_what_no_pass_touches_is_no_gradient(tmp_path):
    path = tmp_path / "net.py"
    path.write_text("""
import numpy as np

class RNN:
    def __init__(self):
        self.W = [0.7, 0.9]
        self.W_delta = [0.001, 0.001]

    def forward(self, x):
        self.s = np.zeros(len(x) + 1)
        for t in range(len(x)):
            self.s[t + 1] = x[t] * self.W[0] + self.s[t] * self.W[1]
        return self.s

    def backward_gradient(self, x, s, d):
        wx, wr = 0.0, 0.0
        for t in reversed(range(len(x))):
            wx += d * x[t]
            wr += d * s[t]
            d = d * self.W[1]
        return (wx, wr), d
""")
    line = (
        "m = RNN(); X = np.random.randn(6); s = m.forward(X); loss = 0.5 * (s[-1] - 0.3) ** 2; "
        "grads, left = m.backward_gradient(X, s, s[-1] - 0.3)"
    )
    found = find(path, setup=line)
    assert verdict(found) == "agree"
