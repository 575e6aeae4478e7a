"""Kinds of networks that people publish: how they are made, called, and what keeps the gradient."""

import numpy as np
import pytest

import throughtime as tt
from found_files import report_of
from stranger_networks import BASE, PLAIN
from throughtime.source import Program, find


def verdicts(found):
    return {name: tensor.verdict for name, tensor in report_of(found).tensors.items()}


FUNCTIONS = """
import numpy as np

def run(x, h, P):
    hs = [h]
    for v in x:
        hs.append(np.tanh(P["U"] @ v + P["W"] @ hs[-1]))
    return hs

def back_through(x, y, P, hs):
    dU, dW, dh = np.zeros_like(P["U"]), np.zeros_like(P["W"]), np.zeros(len(P["W"]))
    for t in reversed(range(len(x))):
        dz = (hs[t + 1] - y[t] + dh) * (1 - hs[t + 1] ** 2)
        dU += np.outer(dz, x[t])
        dW += np.outer(dz, hs[t])
        dh = P["W"].T @ dz
    return {"dU": dU, "dW": dW}, dh
"""
LINE = (
    "P = {'U': np.random.randn(4, 5), 'W': np.random.randn(4, 4)}; x = np.random.randn(6, 5); "
    "y = np.random.randn(6, 4); h = np.zeros(4); hs = run(x, h, P); "
    "loss = 0.5 * np.sum((np.array(hs[1:]) - y) ** 2); back_through(x, y, P, hs)"
)


def test_what_the_last_call_of_a_line_returns_is_the_gradient(write):
    found = find(write(FUNCTIONS), setup=LINE)
    assert set(found.recipe.parameters) == {"U", "W"}
    assert report_of(found).verdict == "agree"


# The layers are in a list of the class; a step returns their gradients in a list, by position.
LAYERS = """
import numpy as np

class Recurrent:
    def __init__(self, shape):
        self.shape = shape

    def start(self):
        self.weights = np.random.randn(sum(self.shape), self.shape[1])

    def out(self, x):
        h, held, hs = np.zeros((x.shape[1], self.shape[1])), [], []
        for v in x:
            held.append(np.hstack([v, h]))
            h = np.tanh(held[-1] @ self.weights)
            hs.append(h)
        return np.array(hs), held

    def gradients(self, d, held, hs):
        dW, dx, dh = np.zeros_like(self.weights), [], 0
        for t in reversed(range(len(d))):
            dz = (d[t] + dh) * (1 - hs[t] ** 2)
            dW += held[t].T @ dz
            both = dz @ self.weights.T
            dx.insert(0, both[:, :self.shape[0]])
            dh = both[:, self.shape[0]:]
        return dW, np.array(dx)

class Stack:
    parts = []

    def add(self, part):
        self.parts.append(part)
        part.start()

    def train_step(self, x, y):
        kept, out = [], x
        for part in self.parts:
            out, held = part.out(out)
            kept.append((held, out))
        loss, d = 0.5 * np.sum((out - y) ** 2), out - y
        dW = [None] * len(self.parts)
        for n in reversed(range(len(self.parts))):
            dW[n], d = self.parts[n].gradients(d, *kept[n])
        return loss, dW
"""


def test_gradients_in_a_list_belong_to_layers_by_position(write):
    line = (
        "net = Stack(); net.add(Recurrent([3, 4])); net.add(Recurrent([4, 2])); "
        "x = np.random.randn(6, 3, 3); y = np.random.randn(6, 3, 2); "
        "loss, dW = net.train_step(x, y)"
    )
    found = find(write(LAYERS), setup=line)
    shapes = {np.shape(a) for a in Program(found.recipe).parameters.values()}
    assert shapes == {(7, 4), (6, 2)}
    assert report_of(found).verdict == "agree"


# The rate is an attribute, the gradient is used up; states are kept in a list made beforehand.
USED_UP = """
import numpy as np

class Net:
    def __init__(self, steps, n_in, n_hidden, learning_rate=0.02):
        self.learning_rate = learning_rate
        self.kept = [np.zeros((n_hidden, 1)) for _ in range(steps + 1)]
        self.U = np.random.randn(n_hidden, n_in)
        self.W = np.random.randn(n_hidden, n_hidden)

    def feed(self, x):
        self.x = x
        for t, v in enumerate(x, start=1):
            self.kept[t] = np.tanh(self.U @ v.reshape(-1, 1) + self.W @ self.kept[t - 1])
        return self.kept[len(x)]

    def move(self, steps):
        self.U = self.U - steps[0]
        self.W = self.W - steps[1]

    def learn(self, d):
        dU, dW = np.zeros_like(self.U), np.zeros_like(self.W)
        for t in reversed(range(1, len(self.x) + 1)):
            d = d * (1 - self.kept[t] ** 2)
            dU += d @ self.x[t - 1].reshape(1, -1)
            dW += d @ self.kept[t - 1].T
            d = self.W.T @ d
        grads = np.asarray([dU, dW])
        self.move(grads * self.learning_rate)
"""


def test_the_rate_is_the_objects_own_and_states_are_no_parameters(write):
    line = (
        "net = Net(6, 3, 4); x = np.random.randn(6, 3); y = np.random.randn(4, 1); "
        "out = net.feed(x); loss = 0.5 * np.sum((out - y) ** 2); net.learn(out - y)"
    )
    found = find(write(USED_UP), setup=line)
    assert set(found.recipe.parameters) == {"U", "W"}
    assert report_of(found).verdict == "agree"


KINDS = {
    "data of the constructor": {
        "made": "X, Y",
        "making": "self.X, self.Y = X, Y",
        "inputs": "X.shape[1]",
        "outputs": "Y.shape[1]",
        "given": "",
        "step": "self.xs.append(x[t].reshape(-1, 1))",
        "back": "",
        "first": "d = [o - y[:, None] for o, y in zip(self.ys, self.Y)]",
        "methods": """
    def loss(self):
        return 0.5 * sum(np.sum((o - y[:, None]) ** 2) for o, y in zip(self.ys, self.Y))
""",
    },
    "a list of symbols for the constructor": {
        "made": "chars",
        "making": "self.place = {c: n for n, c in enumerate(chars)}; n = len(chars)",
        "inputs": "n",
        "outputs": "n",
    },
    "a list of columns from above": {
        "result": "np.squeeze(np.array(self.ys))",
        "first": "assert isinstance(d, list) and d[0].shape == (len(self.V), 1)",
    },
    "a row for a column": {
        "result": "np.squeeze(np.array(self.ys))",
        "first": "assert np.shape(d)[1:] == (len(self.V), 1)",
    },
    "an argument that says nothing": {"back": "top", "first": "d = top"},
    "a flag for training": {
        "attributes": "training = False",
        "first": "d = d if self.training else []",
    },
    "a size with a default": {
        "given": "x, vocab_size=27",
        "step": "self.xs.append(np.eye(vocab_size)[:, [x[t]]])",
    },
    "a result that is not wanted in training": {
        "given": "x, return_all=True",
        "result": "np.array(self.ys) if return_all else None",
        "methods": "\n\ndef train(net, x, d):\n    net.forward(x, return_all=False)\n",
    },
    "an optimiser of its own": {
        "before": """
class Momentum:
    def __init__(self):
        self.held = {}

    def step(self, net, dU, dW, dV):
        for name, d in (("U", dU), ("W", dW), ("V", dV)):
            self.held[name] = 0.9 * self.held.get(name, 0.5) + d / (1 + np.abs(d))
            setattr(net, name, getattr(net, name) - 0.1 * self.held[name])
""",
        "more": "self.optimizer = Momentum()",
        "end": "self.dU, self.dW, self.dV = dU, dW, dV; self.optimizer.step(self, dU, dW, dV)",
    },
    "a method that takes the gradients": {
        "end": "self.update_weights(dU, dW, dV)",
        "methods": """
    def update_weights(self, dU, dW, dV):
        self.U -= np.sign(dU); self.W -= np.sign(dW); self.V -= np.sign(dV)
""",
    },
    "arrays of several shapes": {"more": "self.all = np.array([self.U, self.W, self.V])"},
}


def text_of(kind):
    words = {**PLAIN, **KINDS[kind]}
    text = BASE.format(**words)
    return text.replace("range(len(x))", "range(len(self.X))").replace(
        "x[t].reshape", "self.X[t].reshape"
    ) if kind.startswith("data") else text  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_found_and_a_right_one_agrees(kind, write):
    found = find(write(text_of(kind)))
    assert set(found.recipe.parameters) == {"U", "W", "V"}
    assert report_of(found).verdict == "agree"


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_of_a_kind_is_seen(kind, write):
    text = text_of(kind)
    wrong = text.replace("dh = self.W.T @ dz", "dh = self.W @ dz")
    assert wrong != text
    found = verdicts(find(write(wrong)))
    assert found["V"] == "agree"
    assert found["W"] == "disagree"


# One step alone, beside an activation function that has both passes.
CELL = """
import numpy as np

class Tanh:
    def __init__(self):
        pass

    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self):
        return 1 - self.y ** 2

class RNNCell:
    def __init__(self, input_dim, hidden_dim):
        self.U = np.random.randn(hidden_dim, input_dim)
        self.W = np.random.randn(hidden_dim, hidden_dim)
        self.act = Tanh()

    def forward(self, x, h):
        self.x, self.h = x.reshape(-1, 1), h.reshape(-1, 1)
        return self.act.forward(self.U @ self.x + self.W @ self.h).ravel()

    def backward(self, delta):
        dz = delta.T * self.act.backward()
        assert dz.shape == self.h.shape
        self.dU, self.dW = dz @ self.x.T, dz @ self.h.T
        return self.U.T @ dz, self.W.T @ dz
"""
TRAINER = """

class Net:
    def __init__(self, input_dim, hidden_dim):
        self.cell = RNNCell(input_dim, hidden_dim)

    def forward(self, x):
        hs = [np.zeros(len(self.cell.W))]
        for v in x:
            hs.append(self.cell.forward(v, hs[-1]))
        self.x, self.hs = x, hs
        return np.array(hs[1:])

    def backward(self, d):
        self.dU, self.dW = np.zeros_like(self.cell.U), np.zeros_like(self.cell.W)
        dh = 0
        for t in reversed(range(len(d))):
            self.cell.forward(self.x[t], self.hs[t])
            _, dh = self.cell.backward((d[t] + np.ravel(dh))[None])
            self.dU += self.cell.dU
            self.dW += self.cell.dW
"""


def test_a_cell_of_one_step_is_checked_and_it_is_said(write):
    found = find(write(CELL))
    assert found.name == "RNNCell"
    assert set(found.recipe.parameters) == {"U", "W"}
    assert any("A single step is checked" in note for note in found.notes)
    assert report_of(found).verdict == "agree"
    wrong = find(write(CELL.replace("dz @ self.h.T", "dz @ self.h.T * 2")))
    assert verdicts(wrong) == {"U": "agree", "W": "disagree"}


def test_what_runs_a_cell_over_all_steps_goes_before_it(write):
    found = find(write(CELL + TRAINER))
    assert found.name == "Net"
    assert report_of(found).verdict == "agree"


# Sequences side by side: outputs over classes along the first axis, classes as indices.
SIDE_BY_SIDE = """
import numpy as np

class RNN:
    def __init__(self, input_dim, output_dim, hidden_dim):
        self.U = np.random.randn(hidden_dim, input_dim)
        self.W = np.random.randn(hidden_dim, hidden_dim)
        self.V = np.random.randn(output_dim, hidden_dim)

    def forward(self, data):
        hs = [np.zeros((len(self.W), data.shape[2]))]
        for words in data:
            hs.append(np.tanh(self.U @ words + self.W @ hs[-1]))
        e = np.exp(self.V @ hs[-1])
        return e / e.sum(axis=0), np.array(hs)

    def backward(self, train_x, train_y, preds, states):
        d = preds.copy()
        for n, k in enumerate(train_y):
            d[k, n] -= 1
        self.dV = d @ states[-1].T
        dU, dW, dh = np.zeros_like(self.U), np.zeros_like(self.W), self.V.T @ d
        for t in reversed(range(len(train_x))):
            dz = dh * (1 - states[t + 1] ** 2)
            dU += dz @ train_x[t].T
            dW += dz @ states[t].T
            dh = self.W.T @ dz
        self.dU, self.dW = dU, dW
"""


def test_outputs_may_stand_in_columns_with_classes_as_indices(write):
    found = find(write(SIDE_BY_SIDE))
    assert "cross-entropy" in str(found)
    assert report_of(found).verdict == "agree"


# The file's loss gives its derivative too, under a name of one letter; it lacks what a mean needs.
OWN_LOSS = (
    BASE.format(**PLAIN)
    + """

def loss(y_hat, y):
    return ((y_hat - y) ** 2).mean(), 2 * (y_hat - y)

def train():
    for epoch in range(10000):
        x, y = np.random.randn(12, 5), np.random.randn(12, 5, 1)
        y_hat = net.forward(x)
        l, grad = loss(y_hat, y)
        net.backward(grad)
        net.U -= 0.001 * net.dU

if __name__ == "__main__":
    net = Net(5, 5)
    train()
"""
)


def test_the_files_own_loss_is_used_where_it_gives_its_derivative_too(write):
    assert set(verdicts(find(write(OWN_LOSS))).values()) == {"disagree"}
    right = OWN_LOSS.replace("2 * (y_hat - y)", "2 * (y_hat - y) / y.size")
    assert report_of(find(write(right))).verdict == "agree"


# A parameter whose gradient is always 0 stays where it is in an update: it is a parameter.
STAYS = BASE.format(
    **{
        **PLAIN,
        "back": "d, rate=0.1",
        "end": "dW *= 0; self.U -= rate * dU; self.W -= rate * dW; self.V -= rate * dV",
    }
)


def test_a_parameter_that_an_update_leaves_alone_is_looked_at(write):
    assert verdicts(find(write(STAYS))) == {"U": "agree", "V": "agree", "W": "disagree"}


# One variable may be called alike in several functions, and mean the state in one of them.
OTHER_SCOPE = BASE.format(
    **{
        **PLAIN,
        "given": "x",
        "step": "self.xs.append(np.eye(self.U.shape[1])[:, [x[t]]])",
        "result": "np.array(self.hs), np.array(self.ys)",
        "back": "x, y",
        "first": "d = [o - np.eye(len(self.V))[:, [k]] for o, k in zip(self.ys, y)]",
        "methods": """
    def calculate_loss(self, x, y):
        N = np.sum((len(one) for one in y))
        total = 0
        for a, b in zip(x, y):
            _, o = self.forward(a)
            total += sum(np.sum((v - np.eye(len(self.V))[:, [k]]) ** 2) for v, k in zip(o, b))
        return total / 2 + 0 * N

    def predict(self, x):
        h, y = self.forward(x)
        return y

    def numpy_sgd_step(self, x, y, rate):
        self.backward(x, y)
        self.U -= rate * self.dU
""",
    }
)


def test_a_name_means_what_it_means_in_its_own_function(write):
    found = find(write(OTHER_SCOPE))
    assert "calculate_loss([x], [y])" in str(found)
    assert report_of(found).verdict == "agree"


def test_an_optimiser_is_left_out_of_a_line_too(write):
    line = (
        "net = Net(5, 5); x = np.random.randn(6, 5); y = np.random.randn(6, 5, 1); "
        "out = net.forward(x); loss = 0.5 * np.sum((out - y) ** 2); net.backward(out - y)"
    )
    found = find(write(text_of("a method that takes the gradients")), setup=line)
    assert any("left out" in note for note in found.notes)
    assert report_of(found).verdict == "agree"


# Its base class has the loss, a mean; the backward pass, which uses its gradient up, is of a sum.
INHERITED_LOSS = """
import numpy as np

class Base:
    def mse(self, y_true, y_pred):
        return np.mean((y_true - y_pred) ** 2)

class Net(Base):
    def __init__(self, inputs, hidden, outputs):
        self.W = np.random.randn(hidden, inputs + hidden) * 0.3
        self.V = np.random.randn(outputs, hidden) * 0.3
        self.hidden = hidden

    def forward(self, xs):
        h, self.zs, self.hs, out = np.zeros(self.hidden), [], [], []
        for x in xs:
            self.zs.append(np.concatenate([h, x.ravel()]))
            h = np.tanh(self.W @ self.zs[-1])
            self.hs.append(h)
            out.append(self.V @ h)
        return np.array(out)

    def backward(self, xs, y_true, y_pred, lr):
        dW, dV, dh = np.zeros_like(self.W), np.zeros_like(self.V), np.zeros(self.hidden)
        for t in reversed(range(len(xs))):
            dy = y_pred[t].ravel() - y_true[t].ravel()
            dV += np.outer(dy, self.hs[t])
            dz = (self.V.T @ dy + dh) * (1 - self.hs[t] ** 2)
            dW += np.outer(dz, self.zs[t])
            dh = self.W[:, :self.hidden].T @ dz
        self.W -= lr * dW
        self.V -= lr * dV
"""


def test_the_networks_own_loss_is_not_passed_over_for_one_that_fits_better(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(INHERITED_LOSS)
    found = find(path)
    assert "loss = net.mse(y, out)" in found.recipe.loss
    report = tt.check(Program(found.recipe).target(), diagnose=False, progress=False)
    assert report.verdict == "disagree"
