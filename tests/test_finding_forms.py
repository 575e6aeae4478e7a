"""Ways in which strangers make a network, keep its output and use up its gradient."""

import re

import pytest

from found_files import report_of, verdict
from throughtime.gradcheck import CheckError
from throughtime.source import find

# What the base's constructor needs comes through **kwargs; a method makes the weights afterwards.
BUILT_LATER = """
import numpy as np

class Layer:
    def __init__(self, n_units, n_in=None, start=np.random.randn):
        self.n_units, self.n_in, self.start = n_units, n_in, start
        self.scale = 0.5

class Recurrent(Layer):
    def __init__(self, last_alone=False, **kwargs):
        super().__init__(**kwargs)
        self.last_alone = last_alone
        self.W = self.d_W = None

    def connect(self, previous=None):
        assert self.n_in is not None
        self.W = self.start(self.n_in + self.n_units, self.n_units).astype(np.float32)

    def forward(self, x):
        assert np.ndim(x) == 3
        self.cells, x = [np.zeros((len(x), self.n_units), np.float32)], x.astype(np.float32)
        self.held = []
        for t in range(x.shape[1]):
            self.held.append(np.hstack([x[:, t], self.cells[-1]]))
            self.cells.append(np.tanh(self.held[-1] @ self.W))
        return self.cells[-1]

    def backward(self, grad):
        self.d_W = np.zeros(self.W.shape)
        for t in reversed(range(len(self.held))):
            dz = grad * (1 - self.cells[t + 1] ** 2)
            self.d_W += self.held[t].T @ dz
            grad = dz @ self.W[self.n_in:].T
        return grad
"""


def test_a_constructor_that_passes_its_arguments_on_and_weights_made_by_a_method(write):
    found = find(write(BUILT_LATER))
    assert re.search(r"net = Recurrent\(n_units=4, n_in=5\)\s*net\.connect\(\)", found.recipe.setup)
    assert verdict(found) == "agree"


def test_sequences_are_not_taken_for_steps_in_single_precision(write):
    # Where T sequences of one step are meant, the last step alone is right; in float32 the loss of
    # all of them differs from their sum by its rounding.
    one_step = BUILT_LATER.replace("reversed(range(len(self.held)))", "[len(self.held) - 1]")
    found = find(write(one_step))
    assert "(B, T, I)" in found.said[-1]
    assert verdict(found) == "disagree"


# Parameters that one function returns and others take one by one; a step of a rate of its own.
APART = """
import numpy as np

units = 30

def init_params():
    Wx = np.random.randn(1, units)
    Wh = np.random.randn(units, units)
    bh = np.random.randn(1, units)
    Wy = np.random.randn(units, 1)
    return Wx, Wh, bh, Wy

def forward(Wx, Wh, bh, Wy, x):
    states, outs, state = np.zeros((len(x), units)), np.zeros(len(x)), np.zeros((1, units))
    for t, value in enumerate(x):
        state = np.tanh(value.dot(Wx) + state.dot(Wh) + bh)
        states[t], outs[t] = state.ravel(), (state @ Wy).item()
    return outs, states

def mse(actual, predicted):
    return np.mean((actual - predicted) ** 2)

def backward(x, actual, predicted, states, Wx, Wh, bh, Wy):
    rate = 1e-5
    dWx, dWh, dbh, dWy = (np.zeros_like(w) for w in (Wx, Wh, bh, Wy))
    carried = np.zeros((1, units))
    for t in reversed(range(len(states))):
        d = 2 * (predicted[t] - actual[t]) / len(actual)
        dWy += states[t].reshape(-1, 1) * d
        dz = (d * Wy.T + carried) * (1 - states[t] ** 2)
        if t > 0:
            dWh += states[t - 1].reshape(-1, 1) @ dz
        dWx += x[t] * dz
        dbh += dz
        carried = dz @ Wh.T
    Wx -= rate * dWx
    Wh -= rate * dWh
    bh -= rate * dbh
    Wy -= rate * dWy
    return Wx, Wh, bh, Wy
"""
NEW_ONES = re.sub(r"\n    (\w+) -= rate \* (\w+)", r"\n    \1 = \1 - rate * \2", APART)


@pytest.mark.parametrize("text", [APART, NEW_ONES])
def test_parameters_given_one_by_one_and_moved_at_a_rate_that_stands_in_the_function(write, text):
    found = find(write(text))
    assert set(found.recipe.parameters) == {"Wx", "Wh", "bh", "Wy"}
    assert any("(old − new)/1e-05" in note for note in found.notes)
    assert verdict(found) == "agree"


def test_a_loss_that_differs_by_a_factor_from_what_is_gone_down_is_no_misreading(write):
    # The derivative of a mean without its 2/T: all tensors are wrong by one factor, at T = 1 too.
    wrong = "2 * (predicted[t] - actual[t]) / len(actual)"
    found = find(write(APART.replace(wrong, "(predicted[t] - actual[t])")))
    report = report_of(found)
    assert report.verdict == "disagree"


# A class with a rate of its own, which no argument gives.
OWN_RATE = """
import numpy as np

class Net:
    def __init__(self, n_in, n_hidden, learning_rate=0.003):
        self.W = np.random.randn(n_hidden, n_in)
        self.U = np.random.randn(n_hidden, n_hidden)
        self.learning_rate = learning_rate

    def forward(self, xs):
        self.xs, self.hs = xs, [np.zeros((self.U.shape[0], 1))]
        for x in xs:
            self.hs.append(np.tanh(self.W @ x.reshape(-1, 1) + self.U @ self.hs[-1]))
        return self.hs[-1]

    def backward(self, dh):
        dW, dU = np.zeros_like(self.W), np.zeros_like(self.U)
        for t in reversed(range(len(self.xs))):
            dz = dh * (1 - self.hs[t + 1] ** 2)
            dW += dz @ self.xs[t].reshape(1, -1)
            dU += dz @ self.hs[t].T
            dh = self.U.T @ dz
        self.step(dW, dU)

    def step(self, gW, gU):
        self.W -= self.learning_rate * gW
        self.U -= self.learning_rate * gU
"""


def test_the_rate_of_an_update_is_the_object_s_own(write):
    found = find(write(OWN_RATE))
    assert any("(old − new)/0.003" in note for note in found.notes)
    assert verdict(found) == "agree"


# A loss of the last of the outputs, which are kept as a list.
LAST = """
import numpy as np

class Net:
    def __init__(self, n_in, n_hidden, n_out):
        self.U = np.random.randn(n_in, n_hidden)
        self.W = np.random.randn(n_hidden, n_hidden)
        self.V = np.random.randn(n_hidden, n_out)

    def forward(self, inputs):
        self.hs, self.outputs = {-1: np.zeros((1, self.W.shape[0]))}, []
        for t in range(len(inputs)):
            self.hs[t] = np.tanh(inputs[t].reshape(1, -1) @ self.U + self.hs[t - 1] @ self.W)
            self.outputs.append(self.hs[t] @ self.V)
        return self.outputs

    def compute_loss(self, y_pred, y_true):
        return 0.5 * (y_true - y_pred) ** 2

    def backward(self, inputs, target, learning_rate):
        dU, dW = np.zeros_like(self.U), np.zeros_like(self.W)
        dy = self.outputs[-1] - target.reshape(1, -1)
        dV = self.hs[len(inputs) - 1].T @ dy
        dh = dy @ self.V.T
        for t in reversed(range(len(inputs))):
            dz = dh * (1 - self.hs[t] ** 2)
            dU += inputs[t].reshape(-1, 1) @ dz
            dW += self.hs[t - 1].T @ dz
            dh = dz @ self.W.T
        self.U -= learning_rate * dU
        self.W -= learning_rate * dW
        self.V -= learning_rate * dV
"""


def test_a_loss_of_the_last_output_of_a_list(write):
    found = find(write(LAST))
    assert "loss: net.compute_loss(out[-1], y)" in found.said
    assert verdict(found) == "agree"
    wrong = find(write(LAST.replace("self.hs[t] ** 2", "np.tanh(self.hs[t]) ** 2")))
    assert wrong.said[1:3] == found.said[1:3]
    assert verdict(wrong) == "disagree"


# Outputs and states passed on under letters that elsewhere mean targets: `d` is what is desired.
LETTERS = """
import numpy as np

def hot(n, size):
    found = np.zeros(size)
    found[n] = 1
    return found

class Model:
    def forward(self, x):
        raise NotImplementedError

class Net(Model):
    def __init__(self, vocab_size, hidden_dims, out_vocab_size):
        self.v, self.h, self.o = vocab_size, hidden_dims, out_vocab_size
        self.V = np.random.randn(hidden_dims, vocab_size)
        self.U = np.random.randn(hidden_dims, hidden_dims)
        self.W = np.random.randn(out_vocab_size, hidden_dims)
        self.deltaV, self.deltaU, self.deltaW = 0 * self.V, 0 * self.U, 0 * self.W

    def predict(self, x):
        s, y = np.zeros((len(x) + 1, self.h)), np.zeros((len(x), self.o))
        for t in range(len(x)):
            s[t] = np.tanh(self.V @ hot(x[t], self.v) + self.U @ s[t - 1])
            e = np.exp(self.W @ s[t])
            y[t] = e / e.sum()
        return y, s

    def acc_deltas_bptt(self, x, d, y, s, steps):
        for t in reversed(range(len(x))):
            out = hot(d[t], self.o) - y[t]
            self.deltaW += np.outer(out, s[t])
            delta = (self.W.T @ out) * (1 - s[t] ** 2)
            for back in range(min(steps, t) + 1):
                self.deltaV += np.outer(delta, hot(x[t - back], self.v))
                self.deltaU += np.outer(delta, s[t - back - 1])
                delta = (self.U.T @ delta) * (1 - s[t - back - 1] ** 2)

    def apply_deltas(self, learning_rate):
        self.V += learning_rate * self.deltaV
        self.U += learning_rate * self.deltaU
        self.W += learning_rate * self.deltaW
"""


def test_what_a_forward_pass_returned_is_no_target_when_it_is_passed_on(write):
    found = find(write(LETTERS))
    assert "gradient: net.acc_deltas_bptt(x, y, out[0], out[1], T)" in found.said
    assert verdict(found) == "agree"
    assert verdict(find(write(LETTERS.replace("1 - s[t] ** 2", "1 - s[t]")))) == "disagree"


# A forward pass that returns nothing, and keeps states that begin with the one before all steps.
KEPT = """
import numpy as np

class Net:
    def __init__(self, n_neurons):
        self.n = n_neurons
        self.U = np.random.randn(n_neurons, 1)
        self.W = np.random.randn(n_neurons, n_neurons)

    def forward(self, X_t):
        self.X, self.O = X_t, [np.ones((self.n, 1)) for _ in X_t]
        self.H = [np.zeros((self.n, 1)) for _ in range(len(X_t) + 1)]
        for t, x in enumerate(X_t):
            self.O[t] = 1 / (1 + np.exp(-self.U * x.reshape(1, 1)))
            self.H[t + 1] = np.tanh(self.U @ x.reshape(1, 1) + self.W @ self.H[t]) * self.O[t]

    def backward(self, dvalues):
        self.dU, self.dW = np.zeros_like(self.U), np.zeros_like(self.W)
        carried = np.zeros((self.n, 1))
        for t in reversed(range(len(self.X))):
            d = dvalues[t].reshape(-1, 1) + carried
            inner = self.H[t + 1] / self.O[t]
            x = self.X[t].reshape(1, 1)
            dz = d * self.O[t] * (1 - inner ** 2)
            do = d * inner * self.O[t] * (1 - self.O[t])
            self.dU += (dz + do) @ x
            self.dW += dz @ self.H[t].T
            carried = self.W.T @ dz
"""


def test_states_that_are_kept_are_the_output_where_nothing_is_returned(write):
    found = find(write(KEPT))
    assert "loss: drawn weights times out" in found.said
    assert "out = net.H[1:]" in found.recipe.loss
    assert verdict(found) == "agree"


# A layer that divides by the number of sequences, as for an upstream gradient of each one's loss.
MEAN = """
import numpy as np

class RNN:
    def __init__(self, n_in, n_hidden):
        self.W = np.random.randn(n_in + n_hidden, n_hidden)
        self.b = np.random.randn(n_hidden, 1)

    def forward(self, x):
        self.h = np.zeros((self.b.shape[0], x.shape[1], x.shape[2] + 1))
        for t in range(x.shape[2]):
            both = np.concatenate((x[:, :, t], self.h[:, :, t - 1]))
            self.h[:, :, t] = np.tanh(self.W.T @ both + self.b)
        return self.h[:, :, :-1]

    def backward(self, x, grad):
        self.dW, self.db = np.zeros_like(self.W), np.zeros_like(self.b)
        carried = np.zeros((self.b.shape[0], x.shape[1]))
        for t in reversed(range(x.shape[2])):
            dz = (grad[:, :, t] + carried) * (1 - self.h[:, :, t] ** 2)
            self.dW += np.concatenate((x[:, :, t], self.h[:, :, t - 1])) @ dz.T
            self.db += dz.sum(axis=1, keepdims=True)
            carried = self.W[x.shape[0]:] @ dz
        self.dW /= x.shape[1]
        self.db /= x.shape[1]
"""


def test_a_layer_that_divides_by_the_number_of_sequences_is_not_accused(write):
    found = find(write(MEAN))
    assert "loss: drawn weights times out, as a mean over the sequences" in found.said
    assert verdict(found) == "agree"
    plain = find(write(re.sub(r"\n +self\.d\w /= x.shape\[1\]", "", MEAN)))
    assert "loss: drawn weights times out" in plain.said
    assert verdict(plain) == "agree"


# An argument that is a base's: an object of what inherits from it is given.
OF_A_KIND = LAST.replace("n_out):", "n_out, loss):\n        self.loss = loss").replace(
    "self.outputs[-1] - target.reshape(1, -1)", "self.loss.slope(self.outputs[-1], target)"
) + """
class Loss:
    def slope(self, y, target):
        raise NotImplementedError

class SquaredLoss(Loss):
    def slope(self, y, target):
        return y - target.reshape(1, -1)
"""  # fmt: skip


def test_an_argument_of_a_base_class_is_an_object_of_what_inherits_from_it(write):
    found = find(write(OF_A_KIND))
    assert "SquaredLoss()" in found.recipe.setup
    assert verdict(found) == "agree"


def test_a_script_of_another_project_that_imports_a_file_of_this_name_is_left_alone(write):
    other = """
import numpy as np
from layers.net import Net

net = Net(5, 4)
for n in range(10):
    x, y = np.random.randn(6, 5), np.random.randn(5)
    out = net.run(x)
    loss = np.sum((out - y) ** 2)
    dW, dU, db = net.gradients(x, out - y)
    net.W -= 0.1 * dW
"""
    here = "import numpy as np\n\nclass Net:\n    def __init__(self, n, h):\n        self.W = 1.0\n"
    there = here + "\n    def run(self, x):\n        return x.sum(axis=0) * self.W\n"
    there += "\n    def gradients(self, x, d):\n        return 2 * np.sum(d * x), 0.0, 0.0\n"
    write(there, "theirs/layers/net.py")
    write(other, "theirs/main.py")
    path = write(here, "mine/net.py")
    with pytest.raises(CheckError) as problem:
        find(path)
    assert "main.py" not in str(problem.value)


# A file beside it that asks for its data when it is imported, and cannot have them.
ASKS = """
import socket

def hot(n, size):
    found = [[0.0] for _ in range(size)]
    found[n] = [1.0]
    return found

text = socket.create_connection(("127.0.0.1", 9)).recv(100).decode()
vocab_size = len(set(text))
"""
OF_SYMBOLS = """
import numpy as np
from data import hot, vocab_size

class Net:
    def __init__(self, hidden_size):
        self.W = np.random.randn(hidden_size, vocab_size)
        self.U = np.random.randn(hidden_size, hidden_size)
        self.V = np.random.randn(vocab_size, hidden_size)

    def forward(self, inputs, targets):
        xs, hs, ps, loss = {}, {-1: np.zeros((self.U.shape[0], 1))}, {}, 0.0
        for t in range(len(inputs)):
            xs[t] = np.array(hot(inputs[t], vocab_size))
            hs[t] = np.tanh(self.W @ xs[t] + self.U @ hs[t - 1])
            ps[t] = np.exp(self.V @ hs[t])
            ps[t] /= ps[t].sum()
            loss -= np.log(ps[t][targets[t], 0])
        return loss, xs, hs, ps

    def backward(self, xs, hs, ps, targets):
        dW, dU, dV = np.zeros_like(self.W), np.zeros_like(self.U), np.zeros_like(self.V)
        carried = np.zeros_like(hs[-1])
        for t in reversed(range(len(xs))):
            dy = ps[t].copy()
            dy[targets[t]] -= 1
            dV += dy @ hs[t].T
            dz = (self.V.T @ dy + carried) * (1 - hs[t] ** 2)
            dW += dz @ xs[t].T
            dU += dz @ hs[t - 1].T
            carried = self.U.T @ dz
        return dW, dU, dV
"""


def test_a_file_beside_it_that_cannot_have_its_data_gives_its_functions(write):
    write(ASKS, "data.py")
    found = find(write(OF_SYMBOLS))
    assert verdict(found) == "agree"
    write(ASKS.replace("[1.0]", "[undefined]"), "data.py")  # a fault of its own is said
    with pytest.raises(CheckError, match=r"data\.py, line 6: NameError"):
        find(write(OF_SYMBOLS))


# A step in a method that the file does not call: its sequences and labels are drawn.
IN_A_METHOD = """
import numpy as np

class Net:
    def __init__(self, input_nodes, hidden_nodes, output_nodes, learn_rate):
        self.weight1 = np.random.random((hidden_nodes, input_nodes))
        self.weight2 = np.random.random((output_nodes, hidden_nodes))
        self.back_weight = np.random.random((hidden_nodes, hidden_nodes))
        self.learn_rate = learn_rate

    def forward(self, x):
        states = {0: np.zeros((self.back_weight.shape[0], 1))}
        for i, element in enumerate(x):
            states[i + 1] = np.tanh(self.weight1 @ element + self.back_weight @ states[i])
        out = np.exp(self.weight2 @ states[len(x)])
        return out / out.sum(), states

    def backpropagation(self, input_layer, output_layer, states):
        d_weight1, d_back = np.zeros_like(self.weight1), np.zeros_like(self.back_weight)
        d_weight2 = output_layer @ states[len(input_layer)].T
        d = self.weight2.T @ output_layer
        for t in reversed(range(len(input_layer))):
            dz = (1 - states[t + 1] ** 2) * d
            d_back += dz @ states[t].T
            d_weight1 += dz @ input_layer[t].T
            d = self.back_weight.T @ dz
        self.weight1 -= self.learn_rate * d_weight1
        self.weight2 -= self.learn_rate * d_weight2
        self.back_weight -= self.learn_rate * d_back

    def fit(self, x, y, epochs):
        for e in range(epochs):
            loss = 0
            for sequence, label in zip(x, y):
                output, states = self.forward(sequence)
                loss -= np.log(output[label])
                d_out = output
                d_out[label] -= 1
                self.backpropagation(sequence, d_out, states)
"""


def test_the_data_of_a_method_that_is_not_called_are_drawn(write):
    found = find(write(IN_A_METHOD))
    assert "loop of line" in found.name
    assert verdict(found) == "agree"
    wrong = find(write(IN_A_METHOD.replace("self.back_weight.T @ dz", "self.back_weight @ dz")))
    assert verdict(wrong) == "disagree"


# Two of them in one script, of which it uses the second.
TWO = (
    OF_SYMBOLS.replace("from data import hot, vocab_size", "vocab_size = 30")
    .replace("np.array(hot(inputs[t], vocab_size))", "np.eye(vocab_size)[:, [inputs[t]]]")
    .partition("class Net")[0]
)
TWO += """
hidden_size = 20
Wx = np.random.randn(hidden_size, vocab_size)
Wh = np.random.randn(hidden_size, hidden_size)
Wy = np.random.randn(vocab_size, hidden_size)
""" + "".join(
    f"""
def {name}(inputs, targets, hprev):
    xs, hs, ps, loss = {{}}, {{-1: hprev}}, {{}}, 0.0
    for t in range(len(inputs)):
        xs[t] = np.eye(vocab_size)[:, [inputs[t]]]
        hs[t] = np.tanh(Wx @ xs[t] + Wh @ hs[t - 1])
        ps[t] = np.exp(Wy @ hs[t])
        ps[t] /= ps[t].sum()
        loss -= np.log(ps[t][targets[t], 0])
    dWx, dWh, dWy = np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(Wy)
    carried = np.zeros_like(hprev)
    for t in reversed(range(len(inputs))):
        dy = ps[t].copy()
        dy[targets[t]] -= 1
        dWy += dy @ hs[t].T
        dz = (Wy.T @ dy + {carried}) * (1 - hs[t] ** 2)
        dWx += dz @ xs[t].T
        dWh += dz @ hs[t - 1].T
        carried = Wh.T @ dz
    return loss, dWx, dWh, dWy
"""
    for name, carried in (("lossFun", "carried"), ("loss_", "0"))
)
TRAINED = """
while True:
    loss, dWx, dWh, dWy = loss_([1, 2], [2, 3], np.zeros((hidden_size, 1)))
    Wx -= 0.1 * dWx
"""


def test_of_two_functions_the_one_that_is_used_comes_first(write):
    assert find(write(TWO)).name == "lossFun"
    found = find(write(TWO + TRAINED))
    assert (found.name, verdict(found)) == ("loss_", "disagree")
    assert "lossFun" in found.others


def test_a_folder_beside_the_file_s_own_is_a_package_without_a_file_of_its_own(write):
    write(ASKS.partition("text =")[0], "parts/symbols.py")
    write("", "models/other.py")
    text = OF_SYMBOLS.replace("from data import hot, vocab_size", "from parts.symbols import hot")
    found = find(write(text.replace("\nclass", "\nvocab_size = 30\n\nclass"), "models/net.py"))
    assert verdict(found) == "agree"


def test_a_state_that_an_object_keeps_is_none_of_its_parameters(write):
    text = IN_A_METHOD.replace(
        "        self.learn_rate = learn_rate\n",
        """
        self.learn_rate = learn_rate
        self.output_state = np.zeros((hidden_nodes, 1))
""",
    ).replace("{0: np.zeros((self.back_weight.shape[0], 1))}", "{0: self.output_state}")
    text = text.replace(
        "            d = self.back_weight.T @ dz\n",
        """
            d = self.back_weight.T @ dz
        self.output_state = states[len(input_layer)]
""",
    )
    assert set(find(write(text)).recipe.parameters) == {"weight1", "weight2", "back_weight"}
