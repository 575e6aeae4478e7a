"""Networks that are made in several statements, and files that are no Python as they stand."""

import pytest

from found_files import report_of, verdict
from throughtime.source import find
from throughtime.source.newer import as_it_is_meant
from throughtime.source.text import parsed, read_source


def wrong(found):
    return {name for name, part in report_of(found).tensors.items() if part.verdict != "agree"}


# A framework: layers are added, and the network is finished, in a script beside it.
FRAMEWORK = """
import numpy as np

class Recurrent:
    def __init__(self, units):
        self.units = units

    def connect(self, width, seed):
        draw = np.random.RandomState(seed).randn
        self.W, self.U = draw(width, self.units), draw(self.units, self.units)
        return self.units

    def forward(self, x):
        self.x, self.hs = x, [np.zeros((len(x), self.units))]
        for t in range(x.shape[1]):
            self.hs.append(np.tanh(x[:, t] @ self.W + self.hs[-1] @ self.U))
        return np.stack(self.hs[1:], axis=1)

    def backward(self, dout):
        self.dW, self.dU, dh = np.zeros_like(self.W), np.zeros_like(self.U), 0
        dx = np.zeros_like(self.x)
        for t in reversed(range(self.x.shape[1])):
            dz = (dout[:, t] + dh) * (1 - self.hs[t + 1] ** 2)
            self.dW += self.x[:, t].T @ dz
            self.dU += self.hs[t].T @ dz
            dh, dx[:, t] = dz @ self.U.T, dz @ self.W.T
        return dx

class Net:
    def __init__(self, shape):
        self.width, self.stack, self.ready = shape[-1], [], False

    def add(self, layer):
        self.stack.append(layer)

    def finish(self, seed):
        if not self.stack:
            raise RuntimeError("no layers were added")
        width = self.width
        for n, layer in enumerate(self.stack):
            width = layer.connect(width, seed + n)
        self.ready = True

    def forward(self, x):
        if not self.ready:
            raise RuntimeError("finish it first")
        for layer in self.stack:
            x = layer.forward(x)
        self.out = x
        return x

    def loss(self, out, y):
        return 0.5 * np.sum((out - y) ** 2)

    def backward(self, y):
        d = self.out - y
        for layer in reversed(self.stack):
            d = layer.backward(d)

    def fit(self, x, y):
        for _ in range(100):
            self.forward(x)
            self.backward(y)
"""
USE = """
from net import Net, Recurrent

def build(n_features):
    model = Net((10, n_features))
    model.add(Recurrent(4))
    model.add(Recurrent(5))
    model.finish(3)
    model.fit(load(), None)
    return model
"""


def test_a_framework_is_used_as_a_script_beside_it_does(write):
    path = write(FRAMEWORK)
    write(USE, "train.py")
    found = find(path, "Net")
    assert len(found.recipe.parameters) == 4
    assert "model.add(Recurrent(4))" in found.recipe.setup
    assert verdict(found) == "agree"


PLAIN_NET = """
import numpy as np

class Net:
    def __init__(self, n_in, n_hidden):
        draw = np.random.RandomState(0).randn
        self.W, self.U = draw(n_hidden, n_in), draw(n_hidden, n_hidden)

    def forward(self, x):
        self.x, self.hs = x, [np.zeros(len(self.U))]
        for v in x:
            self.hs.append(np.tanh(self.W @ v + self.U @ self.hs[-1]))
        return np.array(self.hs[1:])

    def backward(self, dout):
        self.dW, self.dU, dh = np.zeros_like(self.W), np.zeros_like(self.U), 0
        for t in reversed(range(len(self.x))):
            dz = (dout[t] + dh) * (1 - self.hs[t + 1] ** 2)
            self.dW += np.outer(dz, self.x[t])
            self.dU += np.outer(dz, self.hs[t])
            dh = self.U.T @ dz
        return self.dW, self.dU
"""


# Slips of the pen, and Pythons of other years.
def test_quotes_within_the_braces_of_an_f_string(write):
    text = PLAIN_NET + '\n        print(f"sum: {" ".join(map(str, self.dW))} and {\'x\'}")\n'
    source = read_source(write(text))
    assert "class Net" in source.text
    assert len(source.text) == len(text)
    parsed(source)


def test_a_text_that_is_no_python_stays_as_it_is():
    for text in ('f"{" ".join(', "def f(:\n", 'x = "{" + "}"\n'):
        assert as_it_is_meant(text) == text


def test_a_first_line_that_is_indented_by_a_slip(write):
    path = write(" " + PLAIN_NET.lstrip())
    assert read_source(path).text.startswith("import numpy")
    assert verdict(find(path)) == "agree"


# Python 2: a print statement over two lines; arrays are given to the constructor, `c` beside `b`.
OLD = """
import numpy as np

class Net:
    def __init__(self, U, W, V, b, c, seq_length):
        self.U, self.W, self.V, self.b, self.c = U, W, V, b, c
        self.seq_length = seq_length

    def forward_pass(self, x, y, h0):
        H, P, L = {-1: h0}, {}, 0
        for t in xrange(self.seq_length):
            H[t] = np.tanh(np.dot(self.W, H[t - 1]) + self.U[:, [x[t]]] + self.b)
            e = np.exp(np.dot(self.V, H[t]) + self.c)
            P[t] = e / e.sum()
            L += -np.log(P[t][y[t]])
        return H, P, L

    def backward_pass(self, x, y, H, P):
        grads = {n: np.zeros_like(getattr(self, n)) for n in ("U", "W", "V", "b", "c")}
        later = np.zeros_like(self.b)
        for t in reversed(xrange(self.seq_length)):
            over = P[t].copy()
            over[y[t]] -= 1
            grads["V"] += np.dot(over, H[t].T)
            grads["c"] += over
            inner = (np.dot(self.V.T, over) + later) * (1 - H[t] ** 2)
            grads["W"] += np.dot(inner, H[t - 1].T)
            grads["U"][:, [x[t]]] += inner
            grads["b"] += inner
            later = np.dot(self.W.T, inner)
        return grads

    def show(self, loss):
        print '(after) %d: %f' % \\
              (self.seq_length, loss)
"""


@pytest.mark.parametrize("mistaken", [False, True])
def test_arrays_that_a_constructor_is_given_in_python_2(write, mistaken):
    text = OLD.replace('grads["c"] += over', 'grads["c"] += np.sum(over)')
    found = find(write(text if mistaken else OLD))
    assert "loss: out[2] of forward_pass" in str(found)
    assert len(found.recipe.parameters) == 5  # with `c`, which is no state
    assert wrong(found) == ({"c"} if mistaken else set())


# A layer of a course whose other files are not here: its base class, and a default that is called.
OF_A_COURSE = """
import numpy as np
from layers_of_the_course import Layer
from tools_of_the_course import *

class Recurrent(Layer):
    def __init__(self, width=3, units=4, name="recurrent", regularizer=Squared(0.01)):
        super().__init__(name=name)
        self.regularizer = regularizer
        self.W = 0.5 * np.random.randn(width, units)
        self.U = 0.5 * np.random.randn(units, units)

    def forward(self, x):
        self.x, self.hs = x, [np.zeros(self.W.shape[1])]
        for t in range(len(x)):
            self.hs.append(np.tanh(x[t] @ self.W + self.hs[-1] @ self.U))
        return np.array(self.hs[1:])

    def backward(self, dout):
        self.dW, self.dU = np.zeros_like(self.W), np.zeros_like(self.U)
        dh = np.zeros(self.W.shape[1])
        for t in reversed(range(len(self.x))):
            dz = (dout[t] + dh) * (1 - self.hs[t + 1] ** 2)
            self.dW += np.outer(self.x[t], dz)
            self.dU += np.outer(self.hs[t], dz)
            dh = self.U @ dz
"""


@pytest.mark.parametrize(
    ("code", "is_wrong"),
    [
        (OF_A_COURSE, set()),
        (OF_A_COURSE.replace("np.outer(self.hs[t], dz)", "np.outer(dz, self.hs[t])"), {"U"}),
    ],
)
def test_a_base_class_and_a_default_of_files_that_are_not_here(tmp_path, code, is_wrong):
    (tmp_path / "recurrent.py").write_text(code)
    assert wrong(find(tmp_path / "recurrent.py")) == is_wrong
