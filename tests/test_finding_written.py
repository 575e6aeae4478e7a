"""How people write their networks down: in containers, with keywords, as scripts."""

import ast
import re

import numpy as np
import pytest

from found_files import report_of, verdict
from throughtime.source import find
from throughtime.source.containers import by_structure
from throughtime.source.finding.essentials import essentials
from throughtime.source.finding.words import keywords_read, words_for
from throughtime.source.pairing import is_named_gradient, pairs, places


def wrong(found):
    return {name for name, part in report_of(found).tensors.items() if part.verdict != "agree"}


# Parameters in a tuple, gradients in another; what the gates gave is kept in a list `g_s`.
TUPLES = """
import numpy as np

def init(hidden_size, vocab_size):
    draw = np.random.RandomState(0).randn
    A, R = draw(hidden_size, vocab_size), draw(hidden_size, hidden_size)
    return A, R, draw(vocab_size, hidden_size)

def forward_pass(inputs, state, params):
    A, R, O = params
    g_s, output_s = [state], []
    for x in inputs:
        g_s.append(np.tanh(A @ x + R @ g_s[-1]))
        e = np.exp(O @ g_s[-1])
        output_s.append(e / e.sum())
    return g_s, output_s

def backward_pass(inputs, g, outputs, targets, params):
    A, R, O = params
    one, two, three = np.zeros_like(A), np.zeros_like(R), np.zeros_like(O)
    carried, loss = np.zeros_like(g[0]), 0.0
    for t in reversed(range(len(inputs))):
        loss -= np.sum(targets[t] * np.log(outputs[t]))
        over = outputs[t] - targets[t]
        three += over @ g[t + 1].T
        inner = (O.T @ over + carried) * (1 - g[t + 1] ** 2)
        one += inner @ inputs[t].T
        two += inner @ g[t].T
        carried = R.T @ inner
    grads = one, two, three
    return loss, grads
"""


@pytest.mark.parametrize("mistaken", [False, True])
def test_tuples_of_parameters_and_gradients_are_pairs(write, mistaken):
    text = TUPLES.replace("two += inner @ g[t].T", "two += inner @ g[t + 1].T")
    found = find(write(text if mistaken else TUPLES))
    assert len(found.recipe.parameters) == 3
    assert len(wrong(found)) == mistaken


def test_places_in_lists_say_nothing_by_themselves():
    params = [np.ones((2, 3)), np.ones((3, 3)), np.ones(3)]
    others = [np.ones((4, 3)), np.ones((3, 3)), np.ones(3)]  # of another shape: something else
    held, kept = [*places("params", params)], [*places("g_s", others, ("g_s",))]
    assert not by_structure(held, kept)
    assert not pairs(held, kept)
    assert len(by_structure(held, [*places("grads", params)])) == 3


def test_layers_of_one_shape_are_told_apart_by_their_numbers():
    held = [*places("net.layers", [{"W": np.ones((2, 2))}, {"W": np.ones((2, 2))}], ("layers",))]
    held += places("net.V", np.ones((2, 2)), ("net", "V"))
    theirs = {"layer_1": {"W": np.ones((2, 2))}, "layer_0": {"W": np.ones((2, 2))}}
    kept = [*places("grads", {**theirs, "V": np.ones((2, 2))}, ("grads",))]
    found = {place.text: gradient.text for place, gradient in pairs(held, kept).values()}
    assert found["net.layers[0]['W']"] == "grads['layer_0']['W']"
    assert found["net.layers[1]['W']"] == "grads['layer_1']['W']"


def test_the_gate_g_is_no_gradient_wherever_it_stands():
    gate = next(places("net.params", {"g": (np.ones(2),)}, ("net", "params")))
    gradient = next(places("net.grads", {"g": (np.ones(2),)}, ("net", "grads")))
    assert not is_named_gradient(gate)
    assert is_named_gradient(gradient)


def test_a_module_holds_no_parameters():
    assert not list(places("np", np))


# What a pass has kept is given to the other, and updates add what is called a derivative.
KEPT = """
import numpy as np

class Net:
    def __init__(self, input_size, hidden_size, learning_rate):
        draw = np.random.RandomState(0).randn
        self.rate_ = learning_rate
        self.learning_rate = learning_rate
        self.weight_in = draw(hidden_size, input_size + hidden_size)
        self.weight_final = draw(input_size, hidden_size)
        self.hidden_size = hidden_size

    def forward(self, inputs):
        self.joined, self.states = {}, {-1: np.zeros((self.hidden_size, 1))}
        outputs = []
        for t in range(len(inputs)):
            self.joined[t] = np.concatenate((self.states[t - 1], inputs[t]))
            self.states[t] = np.tanh(self.weight_in @ self.joined[t])
            outputs += [self.weight_final @ self.states[t]]
        return outputs

    def bptt(self, errors, inputs):
        derivative_in, derivative_final, later = 0, 0, 0
        for t in reversed(range(len(inputs))):
            derivative_final += errors[t] @ self.states[t].T
            inner = (self.weight_final.T @ errors[t] + later) * (1 - self.states[t] ** 2)
            derivative_in += inner @ inputs[t].T
            later = (self.weight_in.T @ inner)[: self.hidden_size]
        self.weight_in += derivative_in * self.learning_rate
        self.weight_final += derivative_final * self.learning_rate

    def train(self, inputs, labels):
        outputs = self.forward(inputs)
        errors = [b - a for a, b in zip(outputs, labels)]
        self.bptt(errors, self.joined)
"""


def test_a_pass_is_given_what_the_other_has_kept(write):
    found = find(write(KEPT))
    assert "net.bptt(d, net.joined)" in found.recipe.gradient
    assert verdict(found) == "agree"
    assert any("with the other sign" in note for note in found.notes)


def test_a_sign_is_not_believed_for_a_single_tensor(write):
    """Of two guesses, a sign and a rate, one tensor may be right by chance."""
    text = KEPT.replace("derivative_in += inner @", "derivative_in += 2 * inner @")
    text = text.partition("    def train")[0].replace("errors, inputs):", "errors):")
    first = "derivative_in, derivative_final, later ="
    text = text.replace(first, f"inputs = self.joined\n        {first}")
    with pytest.raises(ValueError, match=r"may be misread"):
        find(write(text))


CONSTANT = """NAMES = ["i", "g"]

class Base:
    names = property(lambda self: NAMES)
"""
# A constructor of keywords, tables of functions, and a method that makes the gradients' arrays.
KEYWORDS = """
import numpy as np

SLOPES = {"tanh": (np.tanh, lambda a: 1 - a ** 2), "id": (lambda v: v, lambda a: 1.0)}

class Base:
    def __init__(self, **kwargs):
        draw = np.random.RandomState(0).randn
        self.kind = kwargs["kind"]
        self.params, self.grads = {}, {}
        for name, wide in (("i", kwargs["n_in"]), ("g", kwargs["n_hidden"])):
            self.params[name] = (draw(kwargs["n_hidden"], wide), draw(kwargs["n_hidden"], 1))

    def forward(self, inputs):
        raise NotImplementedError

    def initialize_gradients(self):
        for name, held in self.params.items():
            self.grads[name] = [np.zeros(part.shape) for part in held]

    def backward(self, dout):
        dh = np.zeros_like(self.hs[0])
        for t in reversed(range(len(self.inputs))):
            dz = (dout[t] + dh) * SLOPES[self.kind][1](self.hs[t + 1])
            self.grads["i"][0] += dz @ self.inputs[t].T
            self.grads["g"][0] += dz @ self.hs[t].T
            self.grads["i"][1] += dz
            self.grads["g"][1] += dz
            dh = self.params["g"][0].T @ dz

class Recurrent(Base):
    def forward(self, inputs):
        self.inputs, self.hs = inputs, [np.zeros((len(self.params["g"][0]), 1))]
        for v in inputs:
            z = self.params["i"][0] @ v + self.params["g"][0] @ self.hs[-1] + self.params["i"][1]
            self.hs.append(SLOPES[self.kind][0](z + self.params["g"][1]))
        return np.array(self.hs[1:])
"""


def test_a_constructor_of_keywords_and_tables(write):
    found = find(write(KEYWORDS))
    assert found.name == "Recurrent"
    assert not any("Tried before" in note for note in found.notes)
    assert "initialize_gradients()" in found.recipe.setup
    assert len(found.recipe.parameters) == 4
    assert verdict(found) == "agree"


def test_a_line_is_given_the_constants_that_its_class_reads(write):
    line = (
        "net = Recurrent(kind='tanh', n_in=3, n_hidden=4); net.initialize_gradients(); "
        "x = np.random.randn(6, 3, 1); y = np.random.randn(6, 4, 1); out = net.forward(x); "
        "loss = 0.5 * np.sum((out - y) ** 2); net.backward(out - y)"
    )
    found = find(write(KEYWORDS.replace("class Base:", CONSTANT)), setup=line)
    assert len(found.recipe.parameters) == 4
    assert verdict(found) == "agree"


def test_words_are_those_that_the_code_looks_for():
    text = "def f(kind, **kw):\n    if kind in ('a', 'b') or kind.lower() == 'c': return kw['n']"
    (function,) = parsed_text(text)
    assert words_for("kind", [function], []) == ["'a'", "'b'", "'c'"]
    assert keywords_read([function]) == ["n"]


def parsed_text(text):
    return ast.parse(text).body


# A line of the user's, of a class whose backward pass returns a list, or moves the parameters.
LINE = """
import numpy as np

class Net:
    def __init__(self, n_in, n_hidden):
        draw = np.random.RandomState(0).randn
        self.inner, self.last = Cell(n_in, n_hidden), draw(2, n_hidden)

    def forward(self, x):
        self.x, self.hs = x, [np.zeros(len(self.inner.U))]
        for v in x:
            self.hs.append(np.tanh(self.inner.W @ v + self.inner.U @ self.hs[-1]))
        return self.last @ self.hs[-1]

    def backward(self, dy):
        dL_dlast, dL_dW, dL_dU = np.outer(dy, self.hs[-1]), 0, 0
        dh = self.last.T @ dy
        for t in reversed(range(len(self.x))):
            dz = dh * (1 - self.hs[t + 1] ** 2)
            dL_dW, dL_dU = dL_dW + np.outer(dz, self.x[t]), dL_dU + np.outer(dz, self.hs[t])
            dh = self.inner.U.T @ dz
        return [dL_dlast, dL_dU, dL_dW]

    def learn(self, out, y, lr):
        dlast, dU, dW = self.backward(out - y)
        self.last -= lr * dlast
        self.inner.W -= lr * dW
        self.inner.U -= lr * dU

class Cell:
    def __init__(self, n_in, n_hidden):
        self.W, self.U = np.random.randn(n_hidden, n_in), np.random.randn(n_hidden, n_hidden)
"""
BEGUN = (
    "net = Net(4, 4); x = np.random.randn(6, 4); y = np.random.randn(2); out = net.forward(x); "
    "loss = 0.5 * np.sum((out - y) ** 2); "
)


@pytest.mark.parametrize("call", ["g = net.backward(out - y)", "net.learn(out, y, 0.5)"])
def test_a_line_gives_names_and_a_rate_by_position(write, call):
    found = find(write(LINE), setup=BEGUN + call)
    assert set(found.recipe.parameters) == {"last", "inner.W", "inner.U"}
    assert verdict(found) == "agree"


def test_an_uphill_step_of_a_line_is_no_gradient(write):
    """The loss is the user's own, and so is the sign of the update."""
    text = LINE.replace("-= lr", "+= lr")
    found = find(write(text), setup=BEGUN + "net.learn(out, y, 0.5)")
    assert len(wrong(found)) == 3


# Layers in a list, with their gradients in a dict of another's making.
LAYERS = """
import numpy as np

class Layer:
    def __init__(self, n_in, n_hidden):
        draw = np.random.RandomState(n_in).randn
        self.W, self.U = draw(n_in, n_hidden), draw(n_hidden, n_hidden)

class Stack:
    def __init__(self, n_in, hidden_sizes):
        sizes = [n_in, *hidden_sizes]
        self.layers = [Layer(a, b) for a, b in zip(sizes, sizes[1:])]

    def forward(self, x):
        kept = []
        for layer in self.layers:
            hs = [np.zeros((len(x), len(layer.U)))]
            for t in range(x.shape[1]):
                hs.append(np.tanh(x[:, t] @ layer.W + hs[-1] @ layer.U))
            kept.append((x, hs))
            x = np.stack(hs[1:], axis=1)
        return x, kept

    def backward(self, dx, kept):
        grads = {}
        for n in reversed(range(len(self.layers))):
            layer, (x, hs) = self.layers[n], kept[n]
            own = {"W": np.zeros_like(layer.W), "U": np.zeros_like(layer.U)}
            dh, below = 0, np.zeros_like(x)
            for t in reversed(range(x.shape[1])):
                dz = (dx[:, t] + dh) * (1 - hs[t + 1] ** 2)
                own["W"] += x[:, t].T @ dz
                own["U"] += hs[t].T @ dz
                dh, below[:, t] = dz @ layer.U.T, dz @ layer.W.T
            grads[f"layer_{n}"], dx = own, below
        return grads

class Model:
    def __init__(self, input_size, hidden_sizes):
        self.stack = Stack(input_size, hidden_sizes)

    def compute_loss(self, y_pred, y):
        return 0.5 * np.sum((y_pred - y) ** 2), y_pred - y

    def train_step(self, x, y):
        y_pred, kept = self.stack.forward(x)
        loss, dloss = self.compute_loss(y_pred, y)
        if loss > 0:
            stack_grads = self.stack.backward(dloss, kept)
        all_grads = {"stack": stack_grads}
        return loss
"""


def test_layers_by_number_and_by_name_are_the_same(write):
    line = (
        "net = Model(4, [4, 4]); x = np.random.randn(2, 6, 4); y = np.random.randn(2, 6, 4); "
        "out, kept = net.stack.forward(x); loss = 0.5 * np.sum((out - y) ** 2); "
        "g = net.stack.backward(out - y, kept)"
    )
    found = find(write(LAYERS), setup=line)
    assert len(found.recipe.parameters) == 4
    assert verdict(found) == "agree"


def test_layers_of_a_training_step(write):
    found = find(write(LAYERS))
    assert len(found.recipe.parameters) == 2  # of one layer
    assert verdict(found) == "agree"


# A script whose data are numbers of eight bits: made small, they are zeros.
BITS = """
import numpy as np

binary_dim = 8
largest = 2 ** binary_dim
bits = np.unpackbits(np.array([range(largest)], dtype=np.uint8).T, axis=1)
alpha = 0.1
np.random.seed(1)
first = np.random.randn(2, 4)
last = np.random.randn(4, 1)
inner = np.random.randn(4, 4)
for step in range(1000):
    first_update, last_update, inner_update = 0 * first, 0 * last, 0 * inner
    a, b = np.random.randint(largest // 2, size=2)
    hs, deltas, loss = [np.ones(4)], [], 0.0
    for t in range(binary_dim):
        X = np.array([[bits[a][t], bits[b][t]]])
        y = np.array([[bits[a + b][t]]]).T
        h = np.tanh(X @ first + hs[-1] @ inner)
        out = h @ last
        loss += 0.5 * np.sum((y - out) ** 2)
        deltas.append(y - out)
        hs.append(h)
    later = np.zeros(4)
    for t in reversed(range(binary_dim)):
        X = np.array([[bits[a][t], bits[b][t]]])
        delta = (later @ inner.T + deltas[t] @ last.T) * (1 - hs[t + 1] ** 2)
        last_update += np.atleast_2d(hs[t + 1]).T @ deltas[t]
        inner_update += np.atleast_2d(hs[t]).T @ delta
        first_update += X.T @ delta
        later = delta
    first += alpha * first_update
    last += alpha * last_update
    inner += alpha * inner_update
"""


def test_data_that_leave_a_parameter_idle_are_taken_as_they_are_written(write):
    found = find(write(BITS))
    assert set(found.recipe.parameters) == {"first", "last", "inner"}
    assert verdict(found) == "agree"


def test_a_parameter_that_data_leave_idle_is_said(write):
    text = BITS.replace("[[bits[a][t], bits[b][t]]]", "[[0.0, 0.0]]")
    found = find(write(text))
    assert set(found.recipe.parameters) == {"last", "inner"}
    assert "not checked: first" in str(found)
    assert any(note.startswith("Not checked: first: with these data") for note in found.notes)


# A script that reads data which are not there, and puts its predictions into letters.
SCRIPT = """
import numpy as np

class Net:
    def __init__(self, n_in, n_hidden, n_out):
        draw = np.random.RandomState(0).randn
        self.w, self.u = draw(n_hidden, n_in), draw(n_hidden, n_hidden)
        self.v = draw(n_out, n_hidden)
        self.dw, self.du, self.dv = 0 * self.w, 0 * self.u, 0 * self.v
        self.xs, self.hs, self.dh = [], [np.zeros((n_hidden, 1))], 0

    def step(self, x):
        self.xs.append(x)
        self.hs.append(np.tanh(self.w @ x + self.u @ self.hs[-1]))
        return self.v @ self.hs[-1]

    def back(self, dy):
        h = self.hs.pop()
        self.dv += dy @ h.T
        dz = (self.v.T @ dy + self.dh) * (1 - h ** 2)
        self.dw += dz @ self.xs.pop().T
        self.du += dz @ self.hs[-1].T
        self.dh = self.u.T @ dz

def cross_entropy_loss(scores, y):
    return np.sum(np.log(np.sum(np.exp(scores), axis=1)) - scores[range(len(y)), y])

def cross_entropy_gradient(scores, y):
    found = np.exp(scores) / np.sum(np.exp(scores), axis=1, keepdims=True)
    found[range(len(y)), y] -= 1
    return found

data = []
for line in open("data/words.csv"):
    data.append([int(part) for part in line.split(",")])
data = np.array(data)
unique_chars = data.shape[1] - 1
x = data[:, :unique_chars]
y = data[:, unique_chars]
n = len(x)
k = np.unique(y).shape[0]
rnn = Net(unique_chars, 20, k)
letters = {y[0]: "e", y[1]: "l"}
for epoch in range(100):
    scores = np.empty((n, k))
    word = ""
    for i in range(n):
        pred = rnn.step(x[i].reshape(x.shape[1], 1))
        word += letters[np.argmax(pred)]
        scores[i] = pred.reshape(k)
    loss = cross_entropy_loss(scores, y)
    print(word, loss)
    dscores = cross_entropy_gradient(scores, y)
    for i in range(n - 1, -1, -1):
        rnn.back(dscores[i].reshape(k, 1))
    rnn.update(epoch)
"""


@pytest.mark.parametrize("mistaken", [False, True])
def test_a_step_without_what_it_only_shows(write, mistaken):
    text = SCRIPT.replace("self.dh) * (1 - h ** 2)", "self.dh) * (1 - h)")
    found = find(write(text if mistaken else SCRIPT))
    assert len(found.recipe.parameters) == 3
    assert wrong(found) == ({"rnn.w", "rnn.u"} if mistaken else set())


def test_what_may_change_an_object_is_essential():
    text = "p = net.step(x)\nnet.h = p\nseen.append(p)\nn += 1\nd = loss_of(p)\nloss = d"
    kept = [re.sub(r"\s+", " ", part) for part in map(ast.unparse, essentials(parsed_text(text)))]
    assert kept == ["p = net.step(x)", "net.h = p", "d = loss_of(p)", "loss = d"]


# A network of a single number in and out.
NARROW = """
import numpy as np

class Net:
    def __init__(self, input_size=1, output_size=1, hidden_size=100):
        draw = np.random.RandomState(0).randn
        self.W, self.U = draw(hidden_size, input_size), draw(hidden_size, hidden_size)
        self.V = draw(output_size, hidden_size)

    def forward(self, x):
        self.x, self.hs = x, [np.zeros((len(self.U), 1))]
        for v in x:
            self.hs.append(np.tanh(self.W @ v.reshape(1, 1) + self.U @ self.hs[-1]))
        self.out = self.V @ self.hs[-1]
        return self.out

    def loss(self, out, y):
        return 0.5 * np.sum((out - y) ** 2)

    def backward(self, y):
        self.dW, self.dU = np.zeros_like(self.W), np.zeros_like(self.U)
        self.dV = (self.out - y) @ self.hs[-1].T
        dh = self.V.T @ (self.out - y)
        for t in reversed(range(len(self.x))):
            dz = dh * (1 - self.hs[t + 1] ** 2)
            self.dW += dz @ self.x[t].reshape(1, 1)
            self.dU += dz @ self.hs[t].T
            dh = self.U.T @ dz
"""


def test_a_network_of_one_input(write):
    found = find(write(NARROW))
    assert len(found.recipe.parameters) == 3
    assert verdict(found) == "agree"
