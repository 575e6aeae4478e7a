"""Ways in which people write a network: what is found in them, and what is not said of them."""

import numpy as np
import pytest

import throughtime as tt
from found_files import verdict
from throughtime.source import Program, checked_without_safety, find, which_line
from throughtime.source.mending.mend import mend
from throughtime.source.pairing import pairs, places

# Both in one object, in a table that functions have as a default: made after the functions are.
BOTH_IN_ONE = """
import numpy as np

hidden_size, vocab_size = 20, 30

class Weight:
    def __init__(self, value):
        self.v, self.d, self.m = value, np.zeros_like(value), np.zeros_like(value)

class Weights:
    def __init__(self):
        self.U = Weight(np.random.rand(hidden_size, vocab_size))
        self.W = Weight(np.random.rand(hidden_size, hidden_size))
        self.V = Weight(np.random.rand(vocab_size, hidden_size))

    def every(self):
        return [self.U, self.W, self.V]

weights = Weights()

def step(index, before, p=weights):
    h = np.tanh(p.U.v[:, index] + p.W.v @ before)
    e = np.exp(p.V.v @ h)
    return h, e / e.sum()

def loss_func(inputs, targets, h_prev, p=weights):
    hs, ps, loss = {-1: h_prev.ravel()}, {}, 0
    for t in range(len(inputs)):
        hs[t], ps[t] = step(inputs[t], hs[t - 1])
        loss -= np.log(ps[t][targets[t]])
    for w in p.every():
        w.d.fill(0)
    carried = np.zeros(hidden_size)
    for t in reversed(range(len(inputs))):
        dy = ps[t].copy()
        dy[targets[t]] -= 1
        p.V.d += np.outer(dy, hs[t])
        dz = (p.V.v.T @ dy + carried) * (1 - hs[t] ** 2)
        p.U.d[:, inputs[t]] += dz
        p.W.d += np.outer(dz, hs[t - 1])
        carried = p.W.v.T @ dz
    return loss, hs[len(inputs) - 1]

def train():
    while True:
        loss, h = loss_func([1, 2], [2, 3], np.zeros((hidden_size, 1)))
        for w in weights.every():
            w.m += w.d ** 2
            w.v -= 0.1 * w.d / np.sqrt(w.m + 1e-8)
"""


def test_parameters_that_hold_their_gradients_and_are_the_default_of_an_argument(write):
    found = find(write(BOTH_IN_ONE))
    assert found.name == "loss_func"
    assert found.recipe.gradients == {name: f"weights.{name}.d" for name in "UWV"}
    assert verdict(found) == "agree"
    wrong = find(write(BOTH_IN_ONE.replace("hs[t] ** 2", "hs[t]")))
    assert verdict(wrong) == "disagree"
    done = mend(wrong.recipe, progress=False)
    assert done.is_mended
    assert "hs[t] ** 2" in done.diff() or "np.square(hs[t])" in done.diff()


def test_small_numbers_of_an_optimiser_are_none_of_the_loss(write):
    assert checked_without_safety(find(write(BOTH_IN_ONE)).recipe, 0) is None


# Gradients called updates, added to the weights, set to 0 by `*= 0`; an error that is only shown.
UPDATES = """
import numpy as np

rate, bits = 0.1, 6
w_in = np.random.randn(2, 5)
w_back = np.random.randn(5, 5)
w_out = np.random.randn(5, 1)
w_in_update = np.zeros_like(w_in)
w_back_update = np.zeros_like(w_back)
w_out_update = np.zeros_like(w_out)

for n in range(10000):
    a, b = np.random.randint(0, 2, bits), np.random.randint(0, 2, bits)
    overall_error = 0
    states, deltas = [np.zeros((1, 5))], []
    for t in range(bits):
        x = np.array([[a[t], b[t]]])
        state = np.tanh(x @ w_in + states[-1] @ w_back)
        out = 1 / (1 + np.exp(-state @ w_out))
        out_error = max(a[t], b[t]) - out
        deltas.append(out_error * out * (1 - out))
        overall_error += np.abs(out_error[0])
        states.append(state)
    carried = np.zeros((1, 5))
    for t in range(bits):
        x = np.array([[a[bits - t - 1], b[bits - t - 1]]])
        state, before = states[-t - 1], states[-t - 2]
        delta = (carried @ w_back.T + deltas[-t - 1] @ w_out.T) * (1 - state ** 2)
        w_out_update += state.T @ deltas[-t - 1]
        w_back_update += before.T @ delta
        w_in_update += x.T @ delta
        carried = delta
    w_in += w_in_update * rate
    w_back += w_back_update * rate
    w_out += w_out_update * rate
    w_in_update *= 0
    w_back_update *= 0
    w_out_update *= 0
    if n % 1000 == 0:
        print(overall_error)
"""


def test_a_step_whose_loss_is_known_by_its_error_alone(write):
    found = find(write(UPDATES))
    assert set(found.recipe.parameters) == {"w_in", "w_back", "w_out"}
    assert "loss: half the sum of squares of out_error; overall_error, which is" in str(found)
    assert verdict(found) == "agree"
    whole = find(write(UPDATES.replace("deltas.append(out_error", "deltas.append(2 * out_error")))
    assert "loss: the sum of squares of out_error" in str(whole)
    assert verdict(whole) == "agree"
    wrong = find(write(UPDATES.replace("before.T @ delta", "state.T @ delta")))
    assert verdict(wrong) == "disagree"
    done = mend(wrong.recipe, progress=False)
    assert done.is_mended
    changed = [line for line in done.diff().split("\n") if line.startswith("+ ")]
    assert len(changed) == 1
    assert changed[0].strip("+ ").startswith("w_back_update += ")


def test_an_error_that_is_only_shown_is_no_reason_to_accuse(write):
    # Cross-entropy of a sigmoid: its gradient is that of no error's square.
    with pytest.raises(tt.CheckError):
        find(write(UPDATES.replace("out_error * out * (1 - out)", "np.exp(out_error)")))


def arrays(names, shapes):
    draw = np.random.default_rng(0)
    return [
        place
        for name, shape in zip(names, shapes, strict=True)
        for place in places(name, draw.standard_normal(shape), (name,))
    ]


def test_gradients_whose_names_differ_in_the_first_letter_alone():
    shapes = [(4, 9), (4, 9), (5, 4), (4,)]
    held = arrays(["wf", "wi", "wy", "bf"], shapes)
    found = pairs(held, arrays(["duf", "dui", "duy", "dbf"], shapes))
    assert {n: g.leaf for n, (_, g) in found.items()} == {
        "bf": "dbf", "wf": "duf", "wi": "dui", "wy": "duy"
    }  # fmt: skip
    alone = pairs(held, arrays(["duf", "dgi", "dxy", "dbf"], shapes))
    assert set(alone) == {"bf"}


def test_names_of_derivatives_by_something():
    shapes = [(4, 9), (4, 1)]
    gradients = arrays(["dL_by_dW_iz", "dLoss_wrt_db_z"], shapes)
    assert set(pairs(arrays(["W_iz", "b_z"], shapes), gradients)) == {"W_iz", "b_z"}


def test_layers_hold_weights_and_the_gradient_of_w():
    """`weights` with `nabla_w` and `biases` with `nabla_b`, of the same object alone."""

    class Layer:
        def __init__(self, rows):
            self.weights, self.biases = np.zeros((rows, 2)), np.zeros(rows)
            self.nabla_w, self.nabla_b = np.ones((rows, 2)), np.ones(rows)

    held = list(places("net", [Layer(3), Layer(3)]))
    parameters = [p for p in held if p.leaf in ("weights", "biases")]
    gradients = [p for p in held if p.leaf.startswith("nabla")]
    found = {p.text: g.text for p, g in pairs(parameters, gradients).values()}
    assert found == {
        f"net[{n}].{name}": f"net[{n}].nabla_{name[0]}"
        for n in (0, 1)
        for name in ("weights", "biases")
    }
    # Of two that begin alike and have one shape, none is taken.
    twins = list(places("net", {"wa": np.zeros(3), "wb": np.zeros(3), "dw": np.ones(3)}))
    assert pairs(twins[:2], twins[2:]) == {}


# Data with sequences last; a matrix that may be given, and is no size.
SEQUENCES_LAST = """
import numpy as np

class GRULike:
    def __init__(self, units, seq_len, classes, features=None, embedding_matrix=None):
        if embedding_matrix is not None:
            features = embedding_matrix.shape[1]
        self.seq_len, self.units = seq_len, units
        self.W = np.random.randn(features, units)
        self.U = np.random.randn(units, units)
        self.V = np.random.randn(units, classes)

    def forward_prop(self, x):
        self.A = np.zeros((self.seq_len + 1, self.units, x.shape[-1]))
        for t in range(self.seq_len):
            self.A[t + 1] = np.tanh(self.W.T @ x[t] + self.U @ self.A[t])
        e = np.exp(self.V.T @ self.A[-1])
        self.p = e / e.sum(axis=0)
        return self.p

    def backward_prop(self, x, labels):
        dL_by_dW, dL_by_dU = np.zeros_like(self.W), np.zeros_like(self.U)
        dL_by_dV = self.A[-1] @ (self.p - labels).T
        dh = self.V @ (self.p - labels)
        for t in reversed(range(self.seq_len)):
            dz = dh * (1 - self.A[t + 1] ** 2)
            dL_by_dW += x[t] @ dz.T
            dL_by_dU += dz @ self.A[t].T
            dh = self.U.T @ dz
        return dL_by_dW, dL_by_dU, dL_by_dV
"""


def test_sequences_on_the_last_axis_and_a_matrix_that_need_not_be_given(write):
    found = find(write(SEQUENCES_LAST))
    assert set(found.recipe.parameters) == {"W", "U", "V"}
    assert verdict(found) == "agree"
    wrong = find(write(SEQUENCES_LAST.replace("dh = self.U.T @ dz", "dh = self.U @ dz")))
    assert verdict(wrong) == "disagree"


def test_what_lies_beside_the_scripts_that_import_a_file_of_a_folder(tmp_path):
    (tmp_path / "models").mkdir()
    squash = "import numpy as np\ndef squash(z):\n    return 1 / (1 + np.exp(-z))\n"
    (tmp_path / "own_activations.py").write_text(squash)
    net = SEQUENCES_LAST.replace("np.tanh(", "squash(").replace(
        "(1 - self.A[t + 1] ** 2)", "self.A[t + 1] * (1 - self.A[t + 1])"
    )
    path = tmp_path / "models" / "net.py"
    path.write_text(f"from own_activations import *\n{net}")
    assert verdict(find(path)) == "agree"


# For each output all the way back, so that no δ is the whole derivative of a value.
EACH_OUTPUT_BACK = """
import numpy as np

class RNN:
    def __init__(self, word_dim, hidden_dim=10):
        self.U = np.random.randn(hidden_dim, word_dim)
        self.V = np.random.randn(word_dim, hidden_dim)
        self.W = np.random.randn(hidden_dim, hidden_dim)

    def forward(self, x):
        s, o = np.zeros((len(x), len(self.W))), np.zeros((len(x), len(self.V)))
        h = np.zeros(len(self.W))
        for t in range(len(x)):
            h = s[t] = np.tanh(self.U[:, x[t]] + self.W @ h)
            e = np.exp(self.V @ s[t])
            o[t] = e / e.sum()
        return o, s

    def loss(self, x, y):
        o, _ = self.forward(x)
        return -np.sum(np.log(o[np.arange(len(y)), y]))

    def bptt(self, x, y):
        o, s = self.forward(x)
        dU, dV, dW = np.zeros(self.U.shape), np.zeros(self.V.shape), np.zeros(self.W.shape)
        o[np.arange(len(y)), y] -= 1
        for t in range(len(y)):
            dV += np.outer(o[t], s[t])
            delta = self.V.T @ o[t] * (1 - s[t] ** 2)
            for k in range(t, -1, -1):
                dW += np.outer(delta, s[k - 1])
                dU[:, x[k]] += delta
                delta = self.W.T @ delta * (1 - s[k - 1] ** 2)
        return [dU, dV, dW]
"""


def test_the_line_that_adds_to_a_sum_and_not_the_one_that_returns_it(write):
    path = write(EACH_OUTPUT_BACK)
    number = 1 + path.read_text().split("\n").index(" " * 16 + "dW += np.outer(delta, s[k - 1])")
    found = find(path)
    report = tt.check(
        Program(found.recipe).target(), progress=False, diagnose=False, effort="quick"
    )
    assert report.verdict == "disagree"  # s[-1] is the last state, and not the first
    wrong = [line for line in which_line(found.recipe, report, 0).lines if line.status == "wrong"]
    assert [line.line for line in wrong] == [number]
    text = EACH_OUTPUT_BACK.replace(
        "            for k in",
        "            delta = delta.copy()\n" + " " * 12 + "delta[0] *= 2\n" + " " * 12 + "for k in",
    )
    other = find(write(text, "other.py"))
    report = tt.check(
        Program(other.recipe).target(), progress=False, diagnose=False, effort="quick"
    )
    lines = which_line(other.recipe, report, 0).lines
    assert all("return" not in line.code for line in lines if line.status == "wrong")


# Sizes called lengths; a network that adds up the gradients of a cell whose arrays are its own.
OF_A_CELL = """
import numpy as np
from layers.base import Layer

class RNNCell(Layer):
    def __init__(self, input_length, hidden_length):
        self.kernel = np.random.randn(input_length, hidden_length)
        self.recurrent = np.random.randn(hidden_length, hidden_length)

    def forward(self, x, h):
        return np.tanh(x @ self.kernel + h @ self.recurrent)

    def backward(self, d, x, h):
        dz = d * (1 - self.forward(x, h) ** 2)
        self.kernel_grad, self.recurrent_grad = np.outer(x, dz), np.outer(h, dz)
        return self.recurrent @ dz

class RNN(Layer):
    def __init__(self, input_length, hidden_length):
        self.cell = RNNCell(input_length, hidden_length)
        self.kernel, self.recurrent = self.cell.kernel, self.cell.recurrent

    def forward(self, xs):
        self.h = [np.zeros(len(self.recurrent))]
        for x in xs:
            self.h.append(self.cell.forward(x, self.h[-1]))
        return np.array(self.h[1:])

    def backward(self, d_out, xs):
        self.kernel_grad = np.zeros_like(self.kernel)
        self.recurrent_grad = np.zeros_like(self.recurrent)
        carried = 0
        for t in reversed(range(len(xs))):
            carried = self.cell.backward(d_out[t] + carried, xs[t], self.h[t])
            self.kernel_grad += self.cell.kernel_grad
            self.recurrent_grad += self.cell.recurrent_grad
"""


def test_arrays_of_a_cell_that_are_its_networks_too_and_a_folder_that_is_no_package(tmp_path):
    (tmp_path / "layers").mkdir()
    (tmp_path / "layers" / "base.py").write_text("class Layer:\n    trainable = True\n")
    (tmp_path / "net.py").write_text(OF_A_CELL)
    found = find(tmp_path / "net.py", "RNN")
    assert set(found.recipe.parameters) == {"kernel", "recurrent"}
    shapes = {n: a.shape for n, a in Program(found.recipe).parameters.items()}
    assert shapes == {"kernel": (5, 4), "recurrent": (4, 4)}
    assert verdict(found) == "agree"


def test_a_state_before_the_first_step_is_no_parameter_that_is_left():
    (place,) = places("h", {-1: np.zeros((4, 1))}, ("h",))
    assert place.leaf == "h"


LOOKED_UP = """
import numpy as np

def init_params(input_dim, hidden_dim, output_dim):
    P = {}
    for gate in ("a", "b"):
        P["W_" + gate] = np.random.randn(input_dim, hidden_dim)
        P["U_" + gate] = np.random.randn(hidden_dim, hidden_dim)
    P["V"] = np.random.randn(hidden_dim, output_dim)
    return P

def forward(P, x):
    h, steps, ys = np.zeros((x.shape[0], P["U_a"].shape[0])), [], []
    for t in range(x.shape[1]):
        a = np.tanh(x[:, t] @ P["W_a"] + h @ P["U_a"])
        b = np.tanh(x[:, t] @ P["W_b"] + h @ P["U_b"])
        steps.append((h, a, b))
        h = 0.5 * (a + b)
        ys.append(h @ P["V"])
    return np.stack(ys, axis=1), (x, h, steps)

def mse(y, target):
    return 0.5 * np.sum((y - target) ** 2) / y.shape[0]

def backward(P, y, target, cache):
    x, h, steps = cache
    G = {name: np.zeros_like(w) for name, w in P.items()}
    dy = (y - target) / y.shape[0]
    dnext = 0 * h
    for t in reversed(range(len(steps))):
        before, a, b = steps[t]
        G["V"] += (0.5 * (a + b)).T @ dy[:, t]
        dh = dy[:, t] @ P["V"].T + dnext
        da, db = 0.5 * dh * (1 - a**2), 0.5 * dh * (1 - b**2)
        for gate, d in (("a", da), ("b", db)):
            G["W_" + gate] += x[:, t].T @ d
            G["U_" + gate] += before.T @ d
        dnext = da @ P["U_a"].T + db @ P["U_b"].T
    return G
"""


def test_what_weights_are_looked_up_in_are_parameters_whatever_its_name(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(LOOKED_UP)
    found = find(path)
    assert set(Program(found.recipe).parameters) == {"W_a", "U_a", "W_b", "U_b", "V"}
    assert tt.check(Program(found.recipe).target(), effort="quick").verdict == "agree"


@pytest.mark.parametrize("setup", ["P = init_params(4, 5, 2)", "init_params(4, 5, 2)"])
def test_parameters_can_be_given_under_the_name_that_functions_have(tmp_path, setup):
    path = tmp_path / "net.py"
    path.write_text(LOOKED_UP)
    found = find(path, setup=setup)  # 4 and 5, which data are drawn for otherwise: in other places
    assert Program(found.recipe).parameters["W_a"].shape == (4, 5)


def test_a_few_sequences_are_no_steps(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(LOOKED_UP)
    lines = "x, target = np.random.randn(3, 7, 4), np.random.randn(3, 7, 2)\n"
    lines += "P = init_params(4, 5, 2)\ny, cache = forward(P, x)\n"
    lines += "loss = mse(y, target)\nG = backward(P, y, target, cache)"
    found = find(path, setup=lines)
    assert any("steps from x, axis 1" in said for said in found.said)


# Weights that a method makes from data, which are loaded and given to `fit` under other names.
MADE_FROM_DATA = """
import numpy as np
import pandas as pd

def load_data(path):
    values = pd.read_csv(path).values
    return values[:, :-1], values[:, -1]

class Series:
    def __init__(self, hidden_dim=20, learning_rate=0.1):
        self.hidden_dim, self.learning_rate, self.paras = hidden_dim, learning_rate, {}

    def init_paras(self, X, y):
        self.paras["U"] = np.random.randn(self.hidden_dim, X.shape[-1])
        self.paras["W"] = np.random.randn(self.hidden_dim, self.hidden_dim)
        self.paras["V"] = np.random.randn(1 if y.ndim == 1 else y.shape[1], self.hidden_dim)

    def forward(self, x):
        a = [np.zeros((self.hidden_dim, 1))]
        for t in range(x.shape[0]):
            a.append(np.tanh(self.paras["U"] @ x[[t]].T + self.paras["W"] @ a[-1]))
        return a, self.paras["V"] @ a[-1]

    def backward(self, x, a, y, out):
        d_paras = {"V": 2 * (out - y) @ a[-1].T, "W": 0.0, "U": 0.0}
        da = self.paras["V"].T @ (2 * (out - y))
        for t in range(x.shape[0])[::-1]:
            dz = da * (1 - a[t + 1] ** 2)
            d_paras["W"] = d_paras["W"] + dz @ a[t].T
            d_paras["U"] = d_paras["U"] + dz @ x[[t]]
            da = self.paras["W"].T @ dz
        return d_paras

    def fit(self, X, y):
        self.init_paras(X, y)
        for i in range(X.shape[0]):
            a, out = self.forward(X[i])
            iter_loss = np.square(y[i] - out)
            d_paras = self.backward(X[i], a, y[i], out)
            for key in d_paras:
                self.paras[key] -= self.learning_rate * d_paras[key]

if __name__ == "__main__":
    train_x, train_y = load_data("sales.csv")
    model = Series(hidden_dim=10)
    model.fit(train_x, train_y)
"""


def test_weights_that_a_method_makes_from_data_which_are_loaded(write):
    found = find(write(MADE_FROM_DATA))
    assert set(found.recipe.parameters) == {"U", "V", "W"}
    assert dict(found.recipe.steps) != {"X": 0}  # which are sequences, of which one is taken
    assert verdict(found) == "agree"
    wrong = find(write(MADE_FROM_DATA.replace('["W"].T @ dz', '["W"] @ dz')))
    assert verdict(wrong) == "disagree"


# A state that is kept from step to step, beside a δ of its name.
KEPT_STATE = """
import numpy as np

class CharNet:
    def __init__(self, vocab_size, hidden_size=20):
        self.Wxh = np.random.randn(hidden_size, vocab_size)
        self.Whh = np.random.randn(hidden_size, hidden_size)
        self.Why = np.random.randn(vocab_size, hidden_size)
        self.h = np.zeros((hidden_size, 1))

    def training_step(self, inputs, targets, rate=0.1):
        hs, ps, loss = {-1: np.copy(self.h)}, {}, 0
        for t in range(len(inputs)):
            hs[t] = np.tanh(self.Wxh[:, [inputs[t]]] + self.Whh @ hs[t - 1])
            e = np.exp(self.Why @ hs[t])
            ps[t] = e / e.sum()
            loss -= np.log(ps[t][targets[t], 0])
        dWxh, dWhh, dWhy = (np.zeros_like(W) for W in (self.Wxh, self.Whh, self.Why))
        dhnext = np.zeros_like(self.h)
        for t in reversed(range(len(inputs))):
            dy = ps[t].copy()
            dy[targets[t]] -= 1
            dWhy += dy @ hs[t].T
            dh = self.Why.T @ dy + dhnext
            dhraw = (1 - hs[t] ** 2) * dh
            dWxh[:, [inputs[t]]] += dhraw
            dWhh += dhraw @ hs[t - 1].T
            dhnext = self.Whh.T @ dhraw
        self.Wxh -= rate * dWxh
        self.Whh -= rate * dWhh
        self.Why -= rate * dWhy
        self.h = hs[len(inputs) - 1]
        return loss
"""


def test_a_kept_state_is_no_parameter_whose_gradient_is_wrong(write):
    found = find(write(KEPT_STATE))
    assert set(found.recipe.parameters) == {"Wxh", "Whh", "Why"}
    assert verdict(found) == "agree"
