"""Files that are one step from beginning to end, and networks whose parameters are numbers."""

import ast

import pytest

from found_files import report_of, verdict
from throughtime.source import find, which_line
from throughtime.source.finding.training_steps import regions
from throughtime.source.mending.mend import mend

STRAIGHT = """
import numpy as np

np.random.seed(0)
T, n_in, n_hid, n_out = 7, 3, 4, 2
x = np.random.randn(T, n_in)
y = np.random.randn(T, n_out)
for row in range(n_out):
    y[:, row] -= y[:, row].mean()
Wx = np.random.randn(n_hid, n_in) * 0.5
Wh = np.random.randn(n_hid, n_hid) * 0.5
b = np.zeros(n_hid)
Wo = np.random.randn(n_out, n_hid) * 0.5

h = np.zeros((T + 1, n_hid))
o = np.zeros((T, n_out))
for t in range(T):
    h[t] = np.tanh(Wx @ x[t] + Wh @ h[t - 1] + b)
    o[t] = Wo @ h[t]
loss = 0.5 * np.sum((o - y) ** 2)
print("loss", loss)

dWx = np.zeros_like(Wx)
dWh = np.zeros_like(Wh)
db = np.zeros_like(b)
dWo = np.zeros_like(Wo)
dh_next = np.zeros(n_hid)
for t in reversed(range(T)):
    do = o[t] - y[t]
    dWo += np.outer(do, h[t])
    dh = Wo.T @ do + dh_next
    dz = dh * (1 - h[t] ** 2)
    dWx += np.outer(dz, x[t])
    dWh += np.outer(dz, h[t - 1])
    db += dz
    dh_next = Wh.T @ dz
print(dWx, dWh, db, dWo)
"""

UNROLLED = """
import numpy as np

def sigmoid(z):
    return 1 / (1 + np.exp(-z))

x1, x2, x3 = np.array([[1.0], [0.5]]), np.array([[0.2], [-1.0]]), np.array([[0.3], [0.7]])
target = np.array([[1.0]])
U = np.array([[0.1, -0.4], [0.3, 0.2], [-0.5, 0.6]])
W = np.array([[0.2, -0.3, 0.1], [0.4, 0.1, -0.2], [0.3, 0.5, -0.1]])
V = np.array([[0.7, -0.2, 0.5]])
h0 = np.zeros((3, 1))
h1 = np.tanh(U @ x1 + W @ h0)
h2 = np.tanh(U @ x2 + W @ h1)
h3 = np.tanh(U @ x3 + W @ h2)
y = sigmoid(V @ h3)
loss = 0.5 * ((y - target) ** 2).sum()
dy = (y - target) * y * (1 - y)
dV = dy @ h3.T
dz3 = (V.T @ dy) * (1 - h3**2)
dz2 = (W.T @ dz3) * (1 - h2**2)
dz1 = (W.T @ dz2) * (1 - h1**2)
dW = dz3 @ h2.T + dz2 @ h1.T + dz1 @ h0.T
dU = dz3 @ x3.T + dz2 @ x2.T + dz1 @ x1.T
U -= 0.1 * dU
W -= 0.1 * dW
V -= 0.1 * dV
"""

# The state is a number for each sequence, and so is each of the two parameters; the step names no
# loss, but takes the derivative of the file's only one.
COUNTING = """
import numpy as np

np.random.seed(1)
X = np.around(np.random.rand(20, 10))
t = X.sum(axis=1)

def states(X, wx, wr):
    S = np.zeros((X.shape[0], X.shape[1] + 1))
    for k in range(X.shape[1]):
        S[:, k + 1] = wx * X[:, k] + wr * S[:, k]
    return S

def loss(y, t):
    return np.mean((t - y) ** 2)

def output_gradient(y, t):
    return 2 * (y - t)

def backward(X, S, at_end, wr):
    over_time = np.zeros((X.shape[0], X.shape[1] + 1))
    over_time[:, -1] = at_end
    dwx = dwr = 0
    for k in range(X.shape[1], 0, -1):
        dwx += np.mean(over_time[:, k] * X[:, k - 1])
        dwr += np.mean(over_time[:, k] * S[:, k - 1])
        over_time[:, k - 1] = over_time[:, k] * wr
    return (dwx, dwr), over_time

def signs(X, t, W):
    S = states(X, W[0], W[1])
    at_end = output_gradient(S[:, -1], t)
    grads, _ = backward(X, S, at_end, W[1])
    return np.sign(grads)

W = [-1.5, 1.2]
for i in range(500):
    for k, sign in enumerate(signs(X, t, W)):
        W[k] -= 0.001 * sign
"""
OWN_STEP = (
    "wx, wr = 1.2, 0.9; S = states(X, wx, wr); L = loss(S[:, -1], t); "
    "(dwx, dwr), _ = backward(X, S, output_gradient(S[:, -1], t), wr)"
)

NUMBERS = """
import numpy as np

class RNN:
    def __init__(self):
        self.wx, self.wh, self.b = 0.5, 0.8, 0.1

    def forward(self, xs):
        self.xs, self.h = xs, [0.0]
        for x in xs:
            self.h.append(np.tanh(self.wx * x + self.wh * self.h[-1] + self.b))
        return self.h[-1]

    def loss(self, y):
        return 0.5 * (self.h[-1] - y) ** 2

    def backward(self, y):
        dh = self.h[-1] - y
        self.dwx = self.dwh = self.db = 0.0
        for t in range(len(self.xs) - 1, -1, -1):
            dz = dh * (1 - self.h[t + 1] ** 2)
            self.dwx += dz * self.xs[t]
            self.dwh += dz * self.h[t]
            self.db += dz
            dh = dz * self.wh
        return self.dwx, self.dwh, self.db
"""


@pytest.mark.parametrize(
    ("text", "right", "wrong", "steps"),
    [
        (STRAIGHT, "Wh.T @ dz", "Wh @ dz", {"x": 0, "y": 0}),
        (UNROLLED, "(W.T @ dz3)", "(W @ dz3)", {}),
        (COUNTING, "over_time[:, k] * wr", "over_time[:, k] / wr", {"X": 1}),
        (NUMBERS, "dz * self.wh", "dz * self.wx", {"x": 0}),
    ],
    ids=["straight", "unrolled", "counting", "numbers"],
)
def test_such_files_are_found_and_judged(tmp_path, text, right, wrong, steps):
    assert right in text
    assert wrong not in text
    path = tmp_path / "file.py"
    path.write_text(text)
    found = find(path)
    assert dict(found.recipe.steps) == steps
    assert verdict(found) == "agree"
    path.write_text(text.replace(right, wrong))
    assert verdict(find(path)) == "disagree"


def test_all_parameters_of_a_straight_file_are_checked(tmp_path):
    path = tmp_path / "straight.py"
    path.write_text(STRAIGHT)
    assert sorted(find(path).recipe.parameters) == ["Wh", "Wo", "Wx", "b"]
    path.write_text(STRAIGHT.replace("Wh.T @ dz", "Wh @ dz"))
    found = find(path)
    lines = which_line(found.recipe, report_of(found), 0).lines
    assert ["Wh @ dz" in line.code for line in lines if line.status == "wrong"] == [True]


def test_a_loss_of_a_step_of_one_s_own_may_be_called_otherwise(tmp_path):
    path = tmp_path / "counting.py"
    path.write_text(COUNTING)
    found = find(path, setup=OWN_STEP)
    assert sorted(found.recipe.parameters) == ["wr", "wx"]
    assert verdict(found) == "agree"


def test_a_weight_that_is_a_number_is_put_back_as_a_factor(tmp_path):
    path = tmp_path / "counting.py"
    path.write_text(COUNTING.replace("over_time[:, k] * wr", "over_time[:, k]"))
    mended = mend(find(path).recipe, progress=False)
    assert mended.is_mended
    assert "+        over_time[:, k - 1] = over_time[:, k] * wr" in mended.diff()


TWO_PARTS = """
import numpy as np

class Half:
    def __init__(self, vocab, hidden):
        self.E = np.random.randn(vocab, hidden) * 0.3
        self.W = np.random.randn(hidden, hidden) * 0.3

    def run(self, ids, h):
        self.ids, self.hs = ids, [h]
        for i in ids:
            self.hs.append(np.tanh(self.E[i] + self.hs[-1] @ self.W))
        return self.hs

    def back(self, dhs, dh):
        self.dE, self.dW = np.zeros_like(self.E), np.zeros_like(self.W)
        for t in reversed(range(len(self.ids))):
            dz = (dh + dhs[t]) * (1 - self.hs[t + 1] ** 2)
            self.dE[self.ids[t]] += dz
            self.dW += np.outer(self.hs[t], dz)
            dh = self.W @ dz
        return dh

class Encoder(Half):
    def forward(self, ids):
        return self.run(ids, np.zeros(len(self.W)))[-1]

    def backward(self, dh):
        return self.back(np.zeros((len(self.ids), len(dh))), dh)

class Decoder(Half):
    def __init__(self, vocab, hidden):
        super().__init__(vocab, hidden)
        self.V = np.random.randn(hidden, vocab) * 0.3

    def forward(self, ids, h, targets):
        hs, self.targets = self.run(ids, h), targets
        y = np.array(hs[1:]) @ self.V
        self.p = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
        return -np.log(self.p[np.arange(len(ids)), targets]).sum()

    def backward(self):
        dy = self.p.copy()
        dy[np.arange(len(self.targets)), self.targets] -= 1
        self.dV = np.array(self.hs[1:]).T @ dy
        return self.back(dy @ self.V.T, np.zeros(len(self.W)))

class Translator:
    def __init__(self, vocab=10, hidden=16):
        self.encoder, self.decoder = Encoder(vocab, hidden), Decoder(vocab, hidden)

    def train_step(self, src, tgt, lr=0.1):
        loss = self.decoder.forward(tgt[:-1], self.encoder.forward(src), tgt[1:])
        self.encoder.backward(self.decoder.backward())
        for half, names in ((self.encoder, "EW"), (self.decoder, "EWV")):
            for name in names:
                setattr(half, name, getattr(half, name) - lr * getattr(half, "d" + name))
        return loss
"""


def test_a_network_of_two_parts_is_checked_whole(tmp_path):
    path = tmp_path / "translator.py"
    path.write_text(TWO_PARTS)
    found = find(path)
    assert found.name == "Translator"
    assert len(found.recipe.parameters) == 5
    assert verdict(found) == "agree"
    path.write_text(TWO_PARTS.replace("return -np.log(self.p", "return -2 * np.log(self.p"))
    assert verdict(find(path)) == "disagree"


def test_targets_may_be_called_as_a_size_is(tmp_path):
    path = tmp_path / "numbers.py"
    path.write_text(
        NUMBERS.replace("xs", "X")
        .replace("def loss(self, y)", "def error(self, X, D)")
        .replace("- y) ** 2", "- D[0]) ** 2")
        .replace("def backward(self, y)", "def bptt(self, X, D)")
        .replace("self.h[-1] - y", "self.h[-1] - D[0]")
    )
    found = find(path)
    assert "net.error(x, y)" in found.recipe.loss
    assert verdict(found) == "agree"


# The loss of a step is worked out when its update is done, of outputs from before it.
LOSS_AT_LAST = """
import numpy as np

class Net:
    def __init__(self, n_in, n_hid):
        self.W, self.U = np.random.randn(n_hid, n_in) * 0.4, np.random.randn(n_hid, n_hid) * 0.4
        self.lr = 0.01

    def forward(self, x):
        self.x, self.h = x, np.zeros((steps + 1, len(self.U)))
        for t in range(steps):
            self.h[t] = np.tanh(self.W @ x[t] + self.U @ self.h[t - 1])
        return self.h[:-1].copy()

    def backward(self, dy):
        dW, dU, carried = np.zeros_like(self.W), np.zeros_like(self.U), 0
        for t in reversed(range(steps)):
            dz = (dy[t] + carried) * (1 - self.h[t] ** 2)
            dW += np.outer(dz, self.x[t])
            dU += np.outer(dz, self.h[t - 1])
            carried = self.U.T @ dz
        self.W -= self.lr * dW
        self.U -= self.lr * dU

if __name__ == "__main__":
    steps = 4
    xs, ys = np.random.randn(9, steps, 3), np.random.randn(9, steps, 5)
    net = Net(3, 5)
    for epoch in range(1000):
        for n in range(len(xs)):
            y = net.forward(xs[n])
            net.backward(y - ys[n])
            loss = 0
            for t in range(steps):
                loss += 0.5 * np.sum((y[t] - ys[n][t]) ** 2)
        print(epoch, loss)
"""


def test_a_loss_that_is_worked_out_after_the_update_is_the_step_s(tmp_path):
    path = tmp_path / "at_last.py"
    path.write_text(LOSS_AT_LAST)
    found = find(path)
    assert found.name.startswith("the loop of line")
    assert verdict(found) == "agree"
    path.write_text(LOSS_AT_LAST.replace("self.U.T @ dz", "self.U @ dz"))
    assert verdict(find(path)) == "disagree"


def test_a_loss_at_parameters_that_have_moved_is_not_the_step_s():
    moved = LOSS_AT_LAST.replace(
        "            loss = 0\n", "            loss, y = 0, net.forward(xs[n])\n"
    )
    assert regions(ast.parse(LOSS_AT_LAST))
    assert not regions(ast.parse(moved))


# The number of sequences is named, and divided by twice: with one sequence nothing is wrong.
OVER_B_TWICE = """
import numpy as np

class Classifier:
    def __init__(self, input_size, hidden_size):
        self.W = np.random.randn(hidden_size, input_size) * 0.3
        self.U = np.random.randn(hidden_size, hidden_size) * 0.3
        self.V = np.random.randn(1, hidden_size) * 0.3

    def forward(self, X):
        steps, _, batch = X.shape
        self.X, self.h = X, [np.zeros((len(self.U), batch))]
        for t in range(steps):
            self.h.append(np.tanh(self.W @ X[t] + self.U @ self.h[-1]))
        return 1 / (1 + np.exp(-(self.V @ self.h[-1])))

    def loss(self, p, y):
        return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))

    def backward(self, p, y):
        batch = y.shape[1]
        dy = (p - y) / batch
        dW, dU, dV = np.zeros_like(self.W), np.zeros_like(self.U), dy @ self.h[-1].T / batch
        dh = self.V.T @ dy
        for t in reversed(range(len(self.X))):
            dz = dh * (1 - self.h[t + 1] ** 2)
            dW += dz @ self.X[t].T / batch
            dU += dz @ self.h[t].T / batch
            dh = self.U.T @ dz
        return dW, dU, dV
"""


def test_a_file_that_names_its_sequences_is_given_several(tmp_path):
    path = tmp_path / "twice.py"
    path.write_text(OVER_B_TWICE.replace(" / batch\n", "\n").replace("(p - y)", "(p - y) / batch"))
    assert verdict(find(path)) == "agree"
    path.write_text(OVER_B_TWICE)
    found = find(path)
    assert "steps from x (T, I, B), axis 0" in found.said
    assert verdict(found) == "disagree"


COUNTED = (
    "wx, wr = 1.2, 0.9; S = states(X, wx, wr); loss = loss(S[:, -1], t); "
    "late = [output_gradient(S[:, -1], t) if k == 9 else 0 * t for k in range(len(X[0]))]; "
    "(dwx, dwr), _ = backward(X, S, sum(late), wr)"
)


def test_a_line_that_counts_its_steps_is_not_run_with_fewer(tmp_path):
    """It would give no gradient at all there, and faults that it does not have would be named."""
    path = tmp_path / "counting.py"
    path.write_text(COUNTING)
    found = find(path, setup=COUNTED)
    assert not found.recipe.steps
    assert verdict(found) == "agree"
    assert find(path, setup=OWN_STEP).recipe.steps


# The parameters of each layer are put back into the list after an update, and the list is returned.
GIVEN_BACK = """
import numpy as np

def init(n_in, n_hid):
    return [[np.random.randn(n_in, n_hid) * 0.4, np.random.randn(n_hid, n_hid) * 0.4,
             np.random.randn(1, n_hid) * 0.1, np.random.randn(n_hid, 2) * 0.4]]

def forward(x, layers):
    hidden = []
    for W, U, b, V in layers:
        h, own = np.zeros((1, len(U))), []
        for t in range(len(x)):
            h = np.tanh(x[t][None] @ W + h @ U + b)
            own.append(h)
        hidden.append(own)
    return hidden, np.concatenate(own) @ V

def backward(layers, x, lr, dout, hidden):
    for i in range(len(layers)):
        W, U, b, V = layers[i]
        dW, dU, db, dV = [0] * 4
        carried = 0
        for t in range(len(x) - 1, -1, -1):
            dy = dout[t][None]
            dV += hidden[i][t].T @ dy
            dz = (dy @ V.T + carried) * (1 - hidden[i][t] ** 2)
            dW += x[t][:, None] @ dz
            if t > 0:
                dU += hidden[i][t - 1].T @ dz
            db += dz
            carried = dz @ U.T
        W -= lr * dW
        U -= lr * dU
        b -= lr * db
        V -= lr * dV
        layers[i] = [W, U, b, V]
    return layers
"""
ITS_STEP = (
    "layers = init(3, 4); x = np.random.randn(6, 3); y = np.random.randn(6, 2); "
    "hidden, out = forward(x, layers); loss = 0.5 * np.sum((out - y) ** 2); "
    "backward(layers, x, 1.0, out - y, hidden)"
)


def test_parameters_that_are_given_back_are_no_gradients(tmp_path):
    path = tmp_path / "given_back.py"
    path.write_text(GIVEN_BACK.replace("W -= lr * dW", "W = W - lr * dW").replace(
        "b -= lr * db", "b = b - lr * db"
    ))  # fmt: skip
    found = find(path, setup=ITS_STEP)
    assert len(found.recipe.parameters) == 4
    assert verdict(found) == "agree"


def test_a_loop_over_layers_is_not_said_to_leave_steps_out(tmp_path):
    path = tmp_path / "given_back.py"
    wrong = GIVEN_BACK.replace("            db += dz\n", "                db += dz\n")
    path.write_text(wrong)
    found = find(path, setup=ITS_STEP)
    report = report_of(found)
    assert [name for name, t in report.tensors.items() if t.verdict == "disagree"] == ["layers.0.2"]
    told = which_line(found.recipe, report, 0).lines
    assert all("range(len(layers))" not in one.code for one in told if one.status == "wrong")


def test_a_factor_that_all_lack_is_put_where_all_get_it(tmp_path):
    path = tmp_path / "straight.py"
    path.write_text(STRAIGHT.replace("do = o[t] - y[t]", "do = (o[t] - y[t]) * 3"))
    done = mend(find(path).recipe, progress=False)
    assert done.is_mended
    (added,) = (one for one in done.diff().splitlines() if one.startswith("+ "))
    assert added.strip("+ ").startswith("do = ")


LOSS_AND_GRADIENTS = """
import numpy as np

def rnn_forward(x, h0, Wx, Wh):
    h = [h0]
    for t in range(x.shape[1]):
        h.append(np.tanh(x[:, t] @ Wx + h[-1] @ Wh))
    return np.stack(h[1:], axis=1), (x, h, Wx, Wh)

def rnn_backward(dh, cache):
    x, h, Wx, Wh = cache
    dWx, dWh, dx, carried = np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(x), 0
    for t in reversed(range(x.shape[1])):
        dz = (dh[:, t] + carried) * (1 - h[t + 1] ** 2)
        dWx += x[:, t].T @ dz
        dWh += h[t].T @ dz
        dx[:, t] = dz @ Wx.T
        carried = dz @ Wh.T
    return dx, dWx, dWh

class CharModel:
    def __init__(self, vocab_dim, input_dim=6, hidden_dim=8):
        self.params = {
            "E": np.random.randn(vocab_dim, input_dim) * 0.5,
            "Wx": np.random.randn(input_dim, hidden_dim) * 0.5,
            "Wh": np.random.randn(hidden_dim, hidden_dim) * 0.5,
            "V": np.random.randn(hidden_dim, vocab_dim) * 0.5,
        }

    def loss(self, inputs, targets):
        p, grads = self.params, {}
        h0 = np.zeros((len(inputs), len(p["Wh"])))
        h, cache = rnn_forward(p["E"][inputs], h0, p["Wx"], p["Wh"])
        y = np.exp(h @ p["V"])
        y /= y.sum(axis=2, keepdims=True)
        hot = np.eye(len(p["E"]))[targets]
        loss = -(hot * np.log(y)).sum() / targets.size
        dy = (y - hot) / targets.size
        grads["V"] = np.einsum("bth,bto->ho", h, dy)
        dx, grads["Wx"], grads["Wh"] = rnn_backward(dy @ p["V"].T, cache)
        grads["E"] = np.zeros_like(p["E"])
        np.add.at(grads["E"], inputs, dx)
        return loss, grads
"""


def test_a_loss_that_runs_a_backward_pass_gives_both(tmp_path):
    path = tmp_path / "char_model.py"
    path.write_text(LOSS_AND_GRADIENTS)
    found = find(path, "CharModel")
    assert sorted(found.recipe.parameters) == ["E", "V", "Wh", "Wx"]
    assert verdict(found) == "agree"
    path.write_text(LOSS_AND_GRADIENTS.replace("dz @ Wh.T", "dz @ Wh"))
    assert verdict(find(path, "CharModel")) == "disagree"
