"""The loss that a file shows, and gradients that a network sums up of its layers'."""

import ast
from textwrap import indent

import pytest

from found_files import report_of
from throughtime.source import find
from throughtime.source.finding.training_steps import loss_given_back, made_of_losses
from throughtime.source.finding.used_data import uses_data

SCRIPT = """
import numpy as np

size, symbols, rate = 4, 3, 0.1
normal = np.random.RandomState(0).randn
Wx, Wh, Wo = normal(size, symbols), normal(size, size), normal(symbols, size)
inputs = [0, 2, 1, 1, 0, 2, 2]
targets = [2, 1, 1, 0, 2, 2, 0]
for epoch in range(100):
    hs, ps, terms_losses = {-1: np.zeros(size)}, {}, []
    for t in range(len(inputs)):
        x = np.eye(symbols)[inputs[t]]
        hs[t] = np.tanh(Wx @ x + Wh @ hs[t - 1])
        e = np.exp(Wo @ hs[t])
        ps[t] = e / e.sum()
        terms_losses.append(-np.log(ps[t][targets[t]]))
    total_loss = np.mean(terms_losses)
    dWx, dWh, dWo = np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(Wo)
    carried = np.zeros(size)
    for t in reversed(range(len(inputs))):
        dy = ps[t].copy()
        dy[targets[t]] -= 1
        dWo += np.outer(dy, hs[t])
        da = (Wo.T @ dy + carried) * (1 - hs[t] ** 2)
        dWx += np.outer(da, np.eye(symbols)[inputs[t]])
        dWh += np.outer(da, hs[t - 1])
        carried = Wh.T @ da
    Wx -= rate * dWx
    Wh -= rate * dWh
    Wo -= rate * dWo
"""

METHOD = """
import numpy as np

class CharNet:
    def __init__(self, symbols, size):
        normal = np.random.RandomState(0).randn
        self.symbols, self.size = symbols, size
        self.Wx, self.Wh = normal(size, symbols), normal(size, size)
        self.Wo = normal(symbols, size)

    def training_step(self, inputs, targets, rate):
        xs, hs, ps, loss = {}, {-1: np.zeros((self.size, 1))}, {}, 0
        for t in range(len(inputs)):
            xs[t] = np.zeros((self.symbols, 1))
            xs[t][inputs[t]] = 1
            hs[t] = np.tanh(self.Wx @ xs[t] + self.Wh @ hs[t - 1])
            e = np.exp(self.Wo @ hs[t])
            ps[t] = e / e.sum()
            loss += -np.log(ps[t][targets[t], 0])
        dWx, dWh, dWo = map(np.zeros_like, (self.Wx, self.Wh, self.Wo))
        carried = np.zeros((self.size, 1))
        for t in reversed(range(len(inputs))):
            dy = ps[t].copy()
            dy[targets[t]] -= 1
            dWo += dy @ hs[t].T
            da = (self.Wo.T @ dy + carried) * (1 - hs[t] ** 2)
            dWx += da @ xs[t].T
            dWh += da @ hs[t - 1].T
            carried = self.Wh.T @ da
        for param, dparam in zip([self.Wx, self.Wh, self.Wo], [dWx, dWh, dWo]):
            param += -rate * dparam
        return loss / len(targets)
"""


@pytest.mark.parametrize(
    ("text", "shown", "wrong", "mended"),
    [
        (SCRIPT, "total_loss", "dy = ps[t].copy()", "dy = ps[t] / len(inputs)"),
        (METHOD, "loss / len(targets)", "-= 1\n            dWo", "-= 1; dy /= len(inputs)"),
    ],
    ids=["a mean of terms", "what a step gives back"],
)
def test_the_loss_is_what_a_step_makes_of_its_terms(write, text, shown, wrong, mended):
    found = find(write(text))
    assert f"loss: {shown}" in found.said
    report = report_of(found)
    assert report.verdict == "disagree"
    assert {part.verdict for part in report.tensors.values()} == {"disagree"}
    if text is SCRIPT:
        right = text.replace(wrong, mended).replace(
            "dy[targets[t]] -= 1", "dy[targets[t]] -= 1 / len(inputs)"
        )
    else:
        right = text.replace("-= 1\n", "-= 1\n            dy /= len(inputs)\n", 1)
    assert report_of(find(write(right))).verdict == "agree"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("losses = []\ntotal_loss = np.mean(losses)", {"total_loss": {"losses"}}),
        ("loss = 0\nmean = loss / T", {}),  # it is not called a loss
        ("loss = 0\navg_loss = loss / T", {"avg_loss": {"loss"}}),
        ("smooth_loss = smooth_loss * 0.9 + loss * 0.1", {}),  # it goes on from step to step
        ("total_loss += loss\navg_loss = total_loss / n", {}),  # over more than this step
        ("loss = f(x)\nbest_loss = min(best_loss, loss)", {}),
    ],
)
def test_what_is_made_of_the_losses_of_one_step(text, wanted):
    assert made_of_losses(ast.parse(text).body) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("loss = 0\nreturn loss / len(x)", "loss / len(x)"),
        ("loss = 0\nreturn np.sum(loss) / T, dW", "np.sum(loss) / T"),
        ("loss = 0\nreturn loss, dW", ""),
        ("loss = 0\nreturn loss * 100", ""),
        ("return error / 2", ""),
    ],
)
def test_what_a_step_gives_back(text, wanted):
    body = ast.parse(f"def f():\n{indent(text, '    ')}").body[0].body
    assert loss_given_back(body) == wanted


# A dense layer keeps the gradient of its last call; the network adds them up under other names.
LAYERS = """
import numpy as np

class Dense:
    def __init__(self, rows, columns, seed):
        self.weights = np.random.RandomState(seed).randn(rows, columns) * 0.5

    def forward(self, x):
        self.given = x
        return x @ self.weights

    def backward(self, error):
        self.gradient_weights = self.given.T @ error
        return error @ self.weights.T

class RecurrentLayer:
    def __init__(self, inputs, units, outputs):
        self.units = units
        self.hidden = Dense(inputs + units, units, 1)
        self.output = Dense(units, outputs, 2)

    def forward(self, x):
        self.kept, h, found = [], np.zeros((1, self.units)), []
        for t in range(len(x)):
            joined = np.concatenate([x[t : t + 1], h], axis=1)
            h = np.tanh(self.hidden.forward(joined))
            found.append(self.output.forward(h))
            self.kept.append((joined, h))
        return np.concatenate(found)

    def backward(self, error):
        carried = np.zeros((1, self.units))
        self.gradient_of_all = np.zeros_like(self.hidden.weights)
        self.gradient_of_outputs = np.zeros_like(self.output.weights)
        for t in reversed(range(len(error))):
            joined, h = self.kept[t]
            self.output.given, self.hidden.given = h, joined
            dh = self.output.backward(error[t : t + 1]) + carried
            da = dh * (1 - h**2)
            back = self.hidden.backward(da)
            carried = back[:, -self.units :]
            self.gradient_of_all += self.hidden.gradient_weights
            self.gradient_of_outputs += self.output.gradient_weights
        return error
"""


def test_a_network_s_sums_are_the_gradients_and_not_what_its_layers_keep(write):
    found = find(write(LAYERS))
    assert "gradient_of_outputs" in found.recipe.gradients["output"]
    assert "gradient_of_all" in found.recipe.gradients["hidden"]
    assert report_of(found).verdict == "agree"
    wrong = LAYERS.replace("+ carried\n", "+ 0 * carried\n")
    found = find(write(wrong))
    assert "gradient_of_all" in found.recipe.gradients["hidden"], "as the other one is"
    tensors = report_of(found).tensors
    assert {n: part.verdict for n, part in tensors.items()} == {
        "hidden": "disagree",
        "output": "agree",
    }


@pytest.mark.parametrize(
    ("setup", "run", "wanted"),
    [
        ("T = len(x)\nh = np.zeros((T, 4))", "out = net.forward(h)\nloss = np.sum(out)", False),
        ("n = x.shape[0]", "loss = net.loss(n)", False),
        ("inputs = [row for row in x]", "loss = net.loss(inputs)", True),
        ("", "loss = net.loss(x[0])", True),
    ],
)
def test_a_network_that_is_run_without_its_data_is_no_reading(setup, run, wanted):
    assert uses_data(["x"], setup, run) == wanted
    assert uses_data([], setup, run)


# The update sets the gradients back to 0, so that what they were is read from it.
WIPED = """
import numpy as np

class Weights:
    def __init__(self, inputs, units, outputs):
        normal = np.random.RandomState(0).randn
        self.wx, self.wh = normal(units, inputs), normal(units, units)
        self.wy = normal(outputs, units)
        self.wipe()

    def wipe(self):
        self.dwx, self.dwh, self.dwy = map(np.zeros_like, (self.wx, self.wh, self.wy))

    def descend(self, learning_rate=0.1):
        self.wx -= learning_rate * self.dwx
        self.wh -= learning_rate * self.dwh
        self.wy -= learning_rate * self.dwy
        self.wipe()

class Elman:
    def __init__(self, weights):
        self.weights = weights

    def propagate(self, inputs):
        w, h, self.kept, outputs = self.weights, np.zeros((len(self.weights.wh), 1)), [], []
        for x in inputs:
            before, h = h, np.tanh(w.wx @ x + w.wh @ h)
            self.kept.append((x, before, h))
            outputs.append(w.wy @ h)
        return np.array(outputs)

    def learn(self, inputs, targets, learning_rate=0.1):
        outputs, w = self.propagate(inputs), self.weights
        carried = 0
        for t in reversed(range(len(inputs))):
            x, before, h = self.kept[t]
            dy = outputs[t] - targets[t]
            w.dwy += dy @ h.T
            da = (w.wy.T @ dy + carried) * (1 - h**2)
            w.dwx += da @ x.T
            w.dwh += da @ before.T
            carried = w.wh.T @ da
        w.descend(learning_rate)
"""
LINE = (
    "net = Elman(Weights(3, 4, 2)); x = np.random.randn(6, 3, 1); y = np.random.randn(6, 2, 1); "
    "out = net.propagate(x); loss = 0.5 * np.sum((out - y) ** 2); net.learn(x, y, 1.0)"
)


def test_gradients_that_are_set_back_to_0_are_read_from_the_update(write):
    found = find(write(WIPED), setup=LINE)
    assert len(found.recipe.parameters) == 3
    assert report_of(found).verdict == "agree"
    wrong = find(write(WIPED.replace("w.wh.T @ da", "w.wh @ da")), setup=LINE)
    assert report_of(wrong).verdict == "disagree"
