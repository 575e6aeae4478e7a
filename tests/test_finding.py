"""A user's own file: what is found in it without a line of glue, and what is refused."""

import json
import sys
import textwrap

import numpy as np
import pytest

import throughtime as tt
from found_files import report_of, verdict
from throughtime.source import Program, as_python, find

CLASS = """
import numpy as np
import matplotlib.pyplot as plt
from numpy.random import randn

class RNN:
    def __init__(self, input_size, output_size, hidden_size=64):
        self.Whh = randn(hidden_size, hidden_size) / 1000
        self.Wxh = randn(hidden_size, input_size) / 1000
        self.Why = randn(output_size, hidden_size) / 1000
        self.bh = np.zeros((hidden_size, 1))

    def forward(self, inputs):
        self.inputs, self.hs = inputs, {-1: np.zeros((self.Whh.shape[0], 1))}
        for t, x in enumerate(inputs):
            self.hs[t] = np.tanh(self.Wxh @ x + self.Whh @ self.hs[t - 1] + self.bh)
        return self.Why @ self.hs[len(inputs) - 1], self.hs

    def backprop(self, d_y, learn_rate=2e-2):
        last = len(self.inputs) - 1
        d_Why = d_y @ self.hs[last].T
        d_Whh, d_Wxh, d_bh = 0 * self.Whh, 0 * self.Wxh, 0 * self.bh
        d_h = self.Why.T @ d_y
        for t in reversed(range(last + 1)):
            temp = (1 - self.hs[t] ** 2) * d_h
            d_bh += temp
            d_Whh += temp @ self.hs[t - 1].T
            d_Wxh += temp @ self.inputs[t].T
            d_h = self.Whh.T @ temp
        self.Whh -= learn_rate * d_Whh
        self.Wxh -= learn_rate * d_Wxh
        self.Why -= learn_rate * d_Why
        self.bh -= learn_rate * d_bh
"""

SCRIPT = """
import numpy as np
data = open('input.txt', 'r').read()
chars = list(set(data))
data_size, vocab_size = len(data), len(chars)
char_to_ix = { ch:i for i,ch in enumerate(chars) }
hidden_size = 100
seq_length = 25
learning_rate = 1e-1
Wxh = np.random.randn(hidden_size, vocab_size)*0.01
Whh = np.random.randn(hidden_size, hidden_size)*0.01
Why = np.random.randn(vocab_size, hidden_size)*0.01
"""

STEP = """
xs, hs, ps = {}, {}, {}
hs[-1] = np.copy(hprev)
loss = 0
for t in range(len(inputs)):
  xs[t] = np.zeros((vocab_size,1))
  xs[t][inputs[t]] = 1
  hs[t] = np.tanh(np.dot(Wxh, xs[t]) + np.dot(Whh, hs[t-1]))
  y = np.dot(Why, hs[t])
  ps[t] = np.exp(y) / np.sum(np.exp(y))
  loss += -np.log(ps[t][targets[t],0])
dWxh, dWhh, dWhy = np.zeros_like(Wxh), np.zeros_like(Whh), np.zeros_like(Why)
dhnext = np.zeros_like(hs[0])
for t in reversed(range(len(inputs))):
  dy = np.copy(ps[t])
  dy[targets[t]] -= 1
  dWhy += np.dot(dy, hs[t].T)
  dhraw = (1 - hs[t] * hs[t]) * (np.dot(Why.T, dy) + dhnext)
  dWxh += np.dot(dhraw, xs[t].T)
  dWhh += np.dot(dhraw, hs[t-1].T)
  dhnext = np.dot(Whh.T, dhraw)
"""

FUNCTION = (
    SCRIPT
    + "def lossFun(inputs, targets, hprev):"
    + textwrap.indent(STEP, "  ")
    + "  return loss, dWxh, dWhh, dWhy, hs[len(inputs)-1]\n"
)

LOOP = (
    SCRIPT
    + "n, p = 0, 0\nhprev = np.zeros((hidden_size, 1))\nwhile True:\n"
    + "  inputs = [char_to_ix[ch] for ch in data[p:p+seq_length]]\n"
    + "  targets = [char_to_ix[ch] for ch in data[p+1:p+seq_length+1]]"
    + textwrap.indent(STEP, "  ")
    + "  for dparam in [dWxh, dWhh, dWhy]:\n    np.clip(dparam, -1e-9, 1e-9, out=dparam)\n"
    + "  Wxh -= learning_rate * dWxh\n  Whh -= learning_rate * dWhh\n"
    + "  Why -= learning_rate * dWhy\n  n += 1\n"
)

COURSE = """
def init_params(n_x, n_a):
    return {"Wax": np.random.randn(n_a, n_x), "Waa": np.random.randn(n_a, n_a)}

def rnn_forward(x, a0, parameters):
    a, states = a0, [a0]
    for t in range(x.shape[0]):
        a = np.tanh(parameters["Wax"] @ x[t] + parameters["Waa"] @ a)
        states.append(a)
    caches = (states, x, parameters)
    return np.array(states[1:]), caches

def rnn_backward(da, caches):
    states, x, parameters = caches
    gradients = {"dWax": 0.0, "dWaa": 0.0}
    carried = 0.0
    for t in reversed(range(len(x))):
        dz = (da[t] + carried) * (1 - states[t + 1] ** 2)
        gradients["dWax"] = gradients["dWax"] + dz @ x[t].T
        gradients["dWaa"] = gradients["dWaa"] + dz @ states[t].T
        carried = parameters["Waa"].T @ dz
    return gradients
"""


def test_a_class_that_uses_its_gradient_up_in_an_update(write):
    found = find(write(CLASS))
    assert list(found.recipe.parameters) == ["Whh", "Wxh", "Why", "bh"]
    assert "update" in found.notes[0]
    assert verdict(found) == "agree"
    wrong = find(write(CLASS.replace("self.Whh.T @ temp", "self.Whh @ temp")))
    assert verdict(wrong) == "disagree"
    assert Program(wrong.recipe).length == 6
    assert Program(wrong.recipe).at_length(1).length == 1


def test_a_function_of_a_script_with_its_own_constants(write):
    found = find(write(FUNCTION))
    assert found.name == "lossFun"
    assert set(found.recipe.parameters) == {"Wxh", "Whh", "Why"}
    assert {name: a.shape for name, a in Program(found.recipe).parameters.items()}["Whh"] == (4, 4)
    assert verdict(found) == "agree"
    assert verdict(find(write(FUNCTION.replace("hs[t] * hs[t]", "hs[t]")))) == "disagree"


def test_the_training_loop_of_a_script_without_its_clip_and_update(write):
    found = find(write(LOOP))
    assert "loop" in found.name
    assert set(found.recipe.parameters) == {"Wxh", "Whh", "Why"}
    assert dict(found.recipe.steps) == {"inputs": 0, "targets": 0}
    assert verdict(found) == "agree"
    assert verdict(find(write(LOOP.replace("hs[t] * hs[t]", "hs[t]")))) == "disagree"


def test_lines_are_run_as_they_are_given(write):
    lines = LOOP.split("\n")
    first = next(n for n, line in enumerate(lines, 1) if line.startswith("  inputs ="))
    last = next(n for n, line in enumerate(lines, 1) if "np.dot(Whh.T, dhraw)" in line)
    assert verdict(find(write(LOOP), f"{first}-{last}")) == "agree"
    clipped = find(write(LOOP), f"{first}-{last + 2}")
    assert verdict(clipped) == "disagree"
    with pytest.raises(tt.CheckError, match="lines with statements"):
        find(write(LOOP), "900-901")


def test_functions_of_a_notebook_whose_parameters_a_function_makes(tmp_path):
    cells = ["%matplotlib inline\nimport numpy as np", COURSE, "x = undefined_here\nprint(x)"]
    notebook = {"cells": [{"cell_type": "code", "source": cell} for cell in cells]}
    (tmp_path / "net.ipynb").write_text(json.dumps(notebook))
    found = find(tmp_path / "net.ipynb")
    assert set(found.recipe.parameters) == {"Wax", "Waa"}
    assert verdict(found) == "agree"


TIME_FIRST = """
import numpy as np

class Net:
    def __init__(self, input_size, hidden_size):
        self.W = np.random.randn(input_size, hidden_size)
        self.U = np.random.randn(hidden_size, hidden_size)

    def forward(self, x):
        steps, sequences, _ = x.shape
        self.x, self.hs = x, [np.zeros((sequences, len(self.U)))]
        for t in range(steps):
            self.hs.append(np.tanh(x[t] @ self.W + self.hs[-1] @ self.U))
        return np.stack(self.hs[1:])

    def backward(self, dout):
        dW, dU, carried = 0 * self.W, 0 * self.U, 0
        for t in reversed(range(len(dout))):
            dz = (dout[t] + carried) * (1 - self.hs[t + 1] ** 2)
            dW += self.x[t].T @ dz
            dU += self.hs[t].T @ dz
            carried = dz @ self.U.T
        return dW, dU
"""


def test_time_is_the_axis_along_which_steps_depend_on_those_before(write):
    found = find(write(TIME_FIRST))
    assert dict(found.recipe.steps) == {"x": 0}
    assert verdict(found) == "agree"
    assert Program(found.recipe).at_length(1).loss() != Program(found.recipe).at_length(2).loss()


def test_a_derivative_of_something_else_than_the_output_is_no_reason_to_accuse(write):
    logistic = TIME_FIRST.replace(
        "return np.stack(self.hs[1:])", "return 1 / (1 + np.exp(-3 * np.stack(self.hs[1:])))"
    )
    with pytest.raises(tt.CheckError, match="it may be misread"):
        find(write(logistic))


def test_older_files_are_read_and_libraries_may_be_absent(write):
    text = CLASS.replace("import numpy as np", "import numpy as np\nimport nowhere_at_all as no")
    text = text.replace("        last = ", "        print 'back', d_y\n        last = ")
    text = text.replace("in enumerate(inputs):", "in zip(xrange(len(inputs)), inputs):")
    text = text.replace(
        "np.zeros((hidden_size, 1))", "np.row_stack([np.zeros(np.int(1))] * hidden_size)"
    )
    assert verdict(find(write(text))) == "agree"


def test_what_cannot_be_read_is_refused_and_not_accused(write):
    with pytest.raises(tt.CheckError, match=r"got only helper; .* net\.py:120-184"):
        find(write("import numpy as np\ndef helper(x): return x\n"))
    nonsense = CLASS.replace("(1 - self.hs[t] ** 2) * d_h", "self.hs[t] + 3")
    nonsense = nonsense.replace("d_y @ self.hs[last].T", "2 * d_y @ self.hs[last].T")
    with pytest.raises(tt.CheckError, match="it may be misread"):
        find(write(nonsense))


def test_how_an_object_is_made_can_be_given(write):
    text = CLASS.replace("input_size, output_size,", "q, r, s,").replace("input_size", "q")
    text = text.replace("output_size", "r").replace(
        "(self, q, r, s, hidden_size=64)", "(self, *sizes)"
    )
    text = text.replace(
        "        self.Whh =", "        q, r, hidden_size = sizes\n        self.Whh ="
    )
    with pytest.raises(tt.CheckError, match="say how one goes, with your own sizes"):
        find(write(text), "RNN")
    found = find(write(text), "RNN", setup="RNN(5, 3, 2)")
    assert Program(found.recipe).parameters["Why"].shape == (3, 2)
    assert verdict(found) == "agree"


def test_what_functions_take_as_parameters_can_be_given(write):
    text = COURSE[: COURSE.index("def init_params")] + COURSE[COURSE.index("def rnn_forward") :]
    made = "params = {'Wax': np.ones((3, 5)), 'Waa': np.eye(3)}"
    found = find(write("import numpy as np\n" + text), setup=made)
    assert Program(found.recipe).parameters["Waa"].shape == (3, 3)
    assert verdict(found) == "agree"


def test_what_was_found_is_printed_as_python_that_runs(write):
    found = find(write(CLASS))
    assert str(found).startswith("found: RNN\n  parameters: Whh, Wxh, Why, bh (4 arrays)")
    space = {}
    exec(as_python(found.recipe, found.name), space)
    space["test_gradient"]()


def test_an_object_with_its_data(tmp_path, monkeypatch):
    (tmp_path / "own_net.py").write_text(
        CLASS.replace(
            "        self.Whh -=", "        return d_Whh, d_Wxh, d_Why, d_bh\n        self.Whh -="
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    from own_net import RNN

    draw = np.random.default_rng(0)
    net, x = RNN(3, 2, 4), draw.standard_normal((5, 3, 1))
    for array in (net.Whh, net.Wxh, net.Why):
        array[...] = draw.standard_normal(array.shape)
    before = net.Whh.copy()
    report = tt.check(net, x, progress=False, time_axis=0)
    assert report.verdict == "agree"
    assert report.steps == 5
    assert np.array_equal(net.Whh, before)
    assert not hasattr(net, "hs")
    assert "found: RNN" in report.notes[0]
    with pytest.raises(tt.CheckError, match="lr=, the learning rate"):
        tt.check(net, x, update="backprop", loss="forward")


SHADOWED = """
import numpy as np

class Net:
    def __init__(self, input_size, hidden_size, output_size):
        self.W = np.random.randn(hidden_size, input_size)
        self.U = np.random.randn(hidden_size, hidden_size)
        self.V = np.random.randn(output_size, hidden_size)

    def forward(self, x):
        assert np.shape(x)[1:] == (self.W.shape[1], 1)
        h, y = [np.zeros((len(self.U), 1))], []
        for part in x:
            h.append(np.tanh(self.W @ part + self.U @ h[-1]))
            y.append(self.V @ h[-1])
        y = np.array(y)
        return h, y

    def compute_loss(self, y_pred, y_true):
        return SCALE * np.sum((y_pred - y_true) ** 2)

    def backward(self, x, y, y_pred, h):
        grads = {"W": 0 * self.W, "U": 0 * self.U, "V": 0 * self.V}
        carried = 0
        for t in reversed(range(len(x))):
            dy = y_pred[t] - y[t]
            dz = (self.V.T @ dy + carried) * (1 - h[t + 1] ** 2)
            grads["V"] += dy @ h[t + 1].T
            grads["W"] += dz @ x[t].T
            grads["U"] += dz @ h[t].T
            carried = self.U.T @ dz
        return grads

    def train_step(self, x, y_true):
        h, y_pred = self.forward(x)
        loss = self.compute_loss(y_pred, y_true)
        return loss, self.backward(x, y_true, y_pred, h)
"""


def test_targets_are_the_data_though_the_forward_pass_calls_its_output_so(write):
    found = find(write(SHADOWED.replace("SCALE", "0.5")))
    assert found.recipe.gradient.endswith("net.backward(x, y, out[1], out[0])")
    assert verdict(found) == "agree"
    scaled = find(write(SHADOWED.replace("SCALE", "len(y_pred)")))  # the file's own calls: no guess
    assert verdict(scaled) == "disagree"
    program = Program(scaled.recipe)
    program.loss()
    space = vars(program._files.main)
    assert np.shape(space["y"]) == np.shape(space["out"][1])  # nothing is broadcast


def test_a_gradient_that_is_read_as_0_throughout_is_no_reason_to_accuse(write):
    nothing = SHADOWED.replace("SCALE", "0.5").replace("dy = y_pred[t] - y[t]", "dy = 0 * y[t]")
    with pytest.raises(tt.CheckError, match=r"exactly 0, .* misread: .*net\.backward\(x, y, "):
        find(write(nothing))


def test_a_loss_that_is_a_list_of_arrays_of_several_shapes_is_no_loss(write):
    ragged = SHADOWED.replace(
        "SCALE * np.sum((y_pred - y_true) ** 2)",
        "[np.zeros(n) for n in range(2)] if np.ndim(y_true) < 3 else "
        "[0.5 * np.sum((y_pred - y_true) ** 2)]",
    )
    assert verdict(find(write(ragged))) == "agree"


def test_gradients_that_are_kept_for_each_step_are_summed(write):
    kept = SHADOWED.replace("SCALE", "0.5").replace(
        '"U": 0 * self.U', '"U": np.zeros((len(x), 4, 4))'
    )
    found = find(write(kept.replace('grads["U"] +=', 'grads["U"][t] +=')))
    assert list(found.recipe.parameters) == ["W", "U", "V"]
    assert "summed here: the gradients of U." in found.notes[0]
    assert verdict(found) == "agree"


def test_parameters_without_a_gradient_are_said(write):
    text = SHADOWED.replace("SCALE", "0.5").replace('grads["U"] += dz @ h[t].T', "pass")
    found = find(write(text.replace(', "U": 0 * self.U', "")))
    assert list(found.recipe.parameters) == ["W", "V"]
    assert "\n  not checked: U: no gradient of theirs was found\n" in str(found)
    assert found.notes[0].startswith("Not checked: U: the loss depends on them")


DELEGATED = """
import numpy as np

class Net:
    def __init__(self, stm_size, input_size, output_size, char2idx):
        assert len(char2idx) == input_size
        shapes = [(input_size, stm_size), (stm_size, stm_size), (stm_size, output_size)]
        self.wu, self.wv, self.ww = (np.random.randn(*shape) for shape in shapes)

    def forward(self, inputs, stm_init):
        hiddens, outputs = [stm_init], []
        for part in inputs:
            hiddens.append(np.tanh(part @ self.wu + hiddens[-1] @ self.wv))
            outputs.append(hiddens[-1] @ self.ww)
        return np.array(outputs), np.array(hiddens)

    def backward(self, inputs, hiddens, dout_outputs):
        return self.through_time(inputs, hiddens, dout_outputs)

    def through_time(self, inputs, hiddens, dout_outputs):
        ww_grad, wu_grad, wv_grad = 0 * self.ww, 0 * self.wu, 0 * self.wv
        carried = 0
        for t in reversed(range(len(inputs))):
            ww_grad += hiddens[t + 1].T @ dout_outputs[t]
            dz = (dout_outputs[t] @ self.ww.T + carried) * (1 - hiddens[t + 1] ** 2)
            wu_grad += inputs[t].T @ dz
            wv_grad += hiddens[t].T @ dz
            carried = dz @ self.wv.T
        return ww_grad, wv_grad, wu_grad
"""


def test_names_of_results_tables_and_states_in_other_words(write):
    found = find(write(DELEGATED))
    assert list(found.recipe.parameters) == ["wu", "wv", "ww"]
    assert found.recipe.gradients["wu"] == "back[2]"
    assert verdict(found) == "agree"


TRAINED = """
import numpy as np

class RNN:
    def __init__(self, hidden_size):
        self.model = {"W": np.random.randn(1, hidden_size), "U": np.eye(hidden_size)}

    def forward(self, x, h):
        return np.tanh(x * self.model["W"] + h @ self.model["U"])

    def cost_function(self, h, y):
        return 0.5 * np.sum((h - y) ** 2)

    def train_step(self, x, y, h):
        hs, loss = [h], 0.0
        for part, aim in zip(x, y):
            hs.append(self.forward(part, hs[-1]))
            loss += self.cost_function(hs[-1], aim)
        loss /= COUNT
        grads, carried = {"W": 0 * self.model["W"], "U": 0 * self.model["U"]}, 0
        for t in reversed(range(len(x))):
            dz = (hs[t + 1] - y[t] + carried) * (1 - hs[t + 1] ** 2)
            grads["W"] += np.sum(x[t] * dz, axis=0, keepdims=True)
            grads["U"] += hs[t].T @ dz
            carried = dz @ self.model["U"].T
        return grads, loss
"""


def test_a_training_step_runs_its_own_forward_pass(write):
    found = find(write(TRAINED.replace("COUNT", "1")))
    assert "forward" not in found.recipe.gradient
    assert verdict(found) == "agree"


@pytest.mark.parametrize("space", [{"__name__": "__main__"}, {}], ids=["notebook", "no module"])
def test_an_object_of_a_class_in_a_notebooks_cell(space, monkeypatch):
    import linecache

    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)  # as in a notebook

    cell = "<a cell>"
    text = (
        "import numpy as np\n"
        "class Mine:\n"
        "    def __init__(self):\n"
        "        self.W = np.full((2, 3), 0.3)\n"
        "    def forward(self, x):\n"
        "        self.x, self.h = x, np.tanh(x @ self.W.T).sum(axis=0)\n"
        "        return self.h\n"
        "    def loss(self, out, y):\n"
        "        return 0.5 * np.sum((out - y) ** 2)\n"
        "    def backward(self, y):\n"
        "        slope = 1 - np.tanh(self.x @ self.W.T) ** 2\n"
        "        self.dW = ((self.h - y) * slope).T @ self.x\n"
    )
    linecache.cache[cell] = (len(text), None, text.splitlines(keepends=True), cell)
    exec(compile(text, cell, "exec"), space)
    x, y = np.random.default_rng(0).standard_normal((5, 3)), np.ones(2)
    report = tt.check(space["Mine"](), x, y, time_axis=0, progress=False)
    assert report.verdict == "agree"
    del linecache.cache[cell]
    with pytest.raises(tt.CheckError, match="since the source of its class cannot be read"):
        tt.check(space["Mine"](), x, y, progress=False)


LAYER = """
import numpy as np
from layers import Layer

class Net(Layer):
    def __init__(self, name, input_size, hidden_size):
        super().__init__("net" + name)
        self.W = np.random.randn(input_size, hidden_size)
        self.U = np.random.randn(hidden_size, hidden_size)

    def forward(self, x, h):
        self.x, self.hs = x, [h]
        for part in x:
            self.hs.append(np.tanh(part @ self.W + self.hs[-1] @ self.U))
        return np.array(self.hs[1:])

    def backward(self, grad_in):
        self.grad_W, self.grad_U, carried = 0 * self.W, 0 * self.U, 0
        for t in reversed(range(len(self.x))):
            dz = (grad_in[t] + carried) * (1 - self.hs[t + 1] ** 2)
            self.grad_W += np.outer(self.x[t], dz)
            self.grad_U += np.outer(self.hs[t], dz)
            carried = dz @ self.U.T
"""
BASE = """
import numpy as np

class Layer:
    def __init__(self, name):
        self.name = name

    def __call__(self, *words):
        return self.forward(*words)

    def loss(self, out, target):
        return 0.5 * np.sum((out - target) ** 2)
"""


def test_what_a_class_has_from_a_class_of_another_file(write):
    write(BASE, "layers.py")
    found = find(write(LAYER))  # an object that is called, by a method of its base
    assert list(found.recipe.parameters) == ["W", "U"]
    assert verdict(found) == "agree"
    own = LAYER.replace("grad_in):", "target):").replace("grad_in[t]", "self.hs[t + 1] - target[t]")
    found = find(write(own))
    assert "net.loss(" in str(found)  # which stands in the other file
    assert verdict(found) == "agree"


def test_an_initial_state_of_0_where_the_gradient_is_right_there_alone(write):
    write(BASE, "layers.py")
    found = find(
        write(LAYER.replace("np.outer(self.hs[t], dz)", "np.outer(self.hs[t], dz) * (t > 0)"))
    )
    assert verdict(found) == "agree"
    assert any("initial state is 0" in note for note in found.notes)
    wrong = find(write(LAYER.replace("np.outer(self.hs[t], dz)", "np.outer(self.hs[t + 1], dz)")))
    assert verdict(wrong) == "disagree"
    assert not any("initial state is 0" in note for note in wrong.notes)


UPHILL = """
import numpy as np

def forward(x, W, U):
    hs = [np.zeros(W.shape[1])]
    for part in x:
        hs.append(np.tanh(np.dot(part, W) + np.dot(hs[-1], U)))
    return np.array(map(None or list, hs))

def cost(out, y):
    return 0.5 * np.sum((out[1:] - y) ** 2)

def backward(x, out, y, U):
    dW, dU, carried = np.zeros((x.shape[1], len(U))), 0 * U, 0
    for t in range(len(x) - 1, -1, -1):
        dz = (y[t] - out[t + 1] + carried) * (1 - out[t + 1] ** 2)
        dW += np.outer(x[t], dz)
        dU += np.outer(out[t], dz)
        carried = np.dot(dz, U.T)
    return dW, dU

W, U = np.random.randn(5, 4), np.random.randn(4, 4)
x, y = np.random.randn(6, 5), np.random.randn(6, 4)
for step in range(10): print 'step', step
for step in range(10):
    out = forward(x, W, U)
    dW, dU = backward(x, out, y, U)
    W += 0.1 * dW
    U += 0.1 * dU
"""


def test_gradients_that_the_users_updates_add_and_lists_of_python_2(write):
    found = find(write(UPHILL))
    assert any("add the gradient to the parameters" in note for note in found.notes)
    assert verdict(found) == "agree"
    assert (
        verdict(find(write(UPHILL.replace("dU += np.outer(out[t]", "dU += np.outer(out[t + 1]"))))
        == "disagree"
    )
    down = report_of(find(write(UPHILL.replace("+= 0.1", "-= 0.1"))))
    assert down.verdict == "disagree"  # it goes uphill, since all of it has the wrong sign
    for tensor in down.tensors.values():
        assert tensor.worst.gradient == pytest.approx(-tensor.worst.numerical)


WRITTEN_OUT = """
import numpy as np

seq_len = 4
x = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]])
y = np.array([[0.1, 0.2], [0.3, 0.1], [0.5, 0.7], [0.2, 0.4]])
W, U = np.random.randn(3, 2), np.random.randn(2, 2)
for step in range(1000):
    hs = [np.zeros((1, 2))]
    for t in range(seq_len):
        hs.append(np.tanh(x[t] @ W + hs[-1] @ U))
    loss = 0.5 * sum(np.sum((hs[t + 1] - y[t]) ** 2) for t in range(seq_len))
    dW, dU, dh = 0 * W, 0 * U, 0
    for t in reversed(range(seq_len)):
        dz = (hs[t + 1] - y[t] + dh) * (1 - hs[t + 1] ** 2)
        dW += np.dot(x[t].reshape(3, 1), dz.reshape(-1, 2)) + 0 * x.reshape(seq_len, 3).sum()
        dU += hs[t].T @ dz
        dh = dz @ U.T
    W -= 0.1 * dW
    U -= 0.1 * dU
"""


def test_data_that_are_written_out_keep_the_sizes_of_the_file(write):
    assert verdict(find(write(WRITTEN_OUT))) == "agree"


MADE_BY_A_METHOD = """
import numpy as np

class LSTM:
    def __init__(self, units, n_x, T_x):
        self.units, self.n_x, self.T_x = units, n_x, T_x

    def initialise_params(self):
        shape = (self.units, self.units + self.n_x)
        return {"W": np.random.randn(*shape), "b": np.random.randn(self.units, 1)}

    def cell_forward(self, xt, a_prev, parameters):
        return np.tanh(parameters["W"] @ np.vstack((a_prev, xt)) + parameters["b"])

    def all_forward(self, x, parameters):
        assert x.shape[0] == self.n_x
        a, caches = np.zeros((self.units, x.shape[1])), []
        for t in range(x.shape[2]):
            caches.append((a, x[:, :, t]))
            a = self.cell_forward(x[:, :, t], a, parameters)
        return a, (caches, a)

    def back_prop(self, da, caches, parameters):
        steps, a = caches
        dW, db = 0 * parameters["W"], 0 * parameters["b"]
        for before, xt in reversed(steps):
            dz = da * (1 - a**2)
            dW += dz @ np.vstack((before, xt)).T
            db += dz.sum(axis=1, keepdims=True)
            da, a = parameters["W"][:, : self.units].T @ dz, before
        return {"dW": dW, "db": db}
"""


def test_parameters_that_a_method_makes_and_the_passes_are_given(write):
    found = find(write(MADE_BY_A_METHOD))
    assert list(found.recipe.parameters) == ["W", "b"]
    assert "all_forward" in found.recipe.gradient
    assert verdict(found) == "agree"


APART = """
import numpy as np

def forward_pass(hidden_size, inputs, h_prev, c_prev, p):
    assert h_prev.shape == (hidden_size, 1) and c_prev.shape == h_prev.shape
    W_f, W_v, b_f, b_v = p
    z_s, h_s, outputs = [], [h_prev], []
    for x in inputs:
        z_s.append(np.vstack((h_s[-1], x)))
        h_s.append(np.tanh(W_f @ z_s[-1] + b_f))
        outputs.append(W_v @ h_s[-1] + b_v)
    return z_s, h_s, outputs

def backward_pass(hidden_size, z, h, outputs, targets, p):
    W_f, W_v, b_f, b_v = p
    W_f_d, W_v_d, b_f_d, b_v_d = (0 * part for part in p)
    loss, carried = 0, 0
    for t in reversed(range(len(outputs))):
        dv = outputs[t] - targets[t]
        loss += 0.5 * np.sum(dv**2)
        dz = (W_v.T @ dv + carried) * (1 - h[t + 1] ** 2)
        W_f_d, W_v_d = W_f_d + dz @ z[t].T, W_v_d + dv @ h[t + 1].T
        b_f_d, b_v_d = b_f_d + dz, b_v_d + dv
        carried = (W_f.T @ dz)[:hidden_size]
    return loss, (W_f_d, W_v_d, b_f_d, b_v_d)
"""


def test_parameters_that_the_passes_take_apart(write):
    found = find(write(APART))
    assert list(found.recipe.parameters) == ["W_f", "W_v", "b_f", "b_v"]
    assert verdict(found) == "agree"


KEPT = """
import numpy as np

class Tanh:
    def forward(self, inputs):
        self.output = np.tanh(inputs)
        return self.output

    def backward(self, dvalues):
        return (1 - self.output**2) * dvalues

class Net:
    def __init__(self, n_neurons, Activation):
        self.n_neurons, self.Activation = n_neurons, Activation
        self.Wx, self.Wh = np.random.randn(n_neurons, 1), np.random.randn(n_neurons, n_neurons)
        self.Wy = np.random.randn(1, n_neurons)

    def forward(self, X_t):
        self.X_t, self.H = X_t, [np.zeros((self.n_neurons, 1))]
        self.Y_hat = np.zeros((len(X_t), 1))
        for t, xt in enumerate(X_t):
            out = self.Wx @ xt.reshape(1, 1) + self.Wh @ self.H[-1]
            self.H.append(self.Activation.forward(out))
            self.Y_hat[t] = self.Wy @ self.H[-1]

    def backward(self, dvalues):
        self.dWx, self.dWh, self.dWy, dht = 0 * self.Wx, 0 * self.Wh, 0 * self.Wy, 0
        for t in reversed(range(len(self.X_t))):
            dy = dvalues[t].reshape(1, 1)
            self.dWy += dy @ self.H[t + 1].T
            self.Activation.output = self.H[t + 1]
            dz = self.Activation.backward(self.Wy.T @ dy + dht)
            self.dWx += dz @ self.X_t[t].reshape(1, 1)
            self.dWh += dz @ self.H[t].T
            dht = self.Wh.T @ dz
"""


def test_an_output_that_is_kept_and_an_activation_that_is_an_object(write):
    found = find(write(KEPT))
    assert "net.Y_hat" in found.recipe.loss
    assert verdict(found) == "agree"


def test_what_is_suggested_runs_or_says_what_stops_it(write):
    missing = KEPT.replace("self.Activation.forward(", "self.activation.forward(")
    with pytest.raises(tt.CheckError, match="'Net' object has no attribute 'activation'") as told:
        find(write(missing))
    assert '--with "net = Net(' in str(told.value)
    assert "net.py, line" in str(told.value)


BY_LENGTH = """
import numpy as np

class Net:
    def __init__(self, n_units, X_length, y_length):
        self.Wx, self.Wh = np.random.randn(X_length, n_units), np.random.randn(n_units, n_units)
        self.Wo = np.random.randn(n_units, y_length)

    def predict(self, X_seq):
        h = [np.zeros((X_seq.shape[1], len(self.Wh)))]
        for part in X_seq:
            h.append(np.tanh(part @ self.Wx + h[-1] @ self.Wh))
        return np.array([part @ self.Wo for part in h[1:]]), np.array(h)

    def loss(self, X_seq, y_seq):
        return 0.5 * np.sum((self.predict(X_seq)[0] - y_seq) ** 2)

    def grad(self, X_seq, y_seq):
        out, h = self.predict(X_seq)
        d_Wx, d_Wh, d_Wo, carried = 0 * self.Wx, 0 * self.Wh, 0 * self.Wo, 0
        for t in reversed(range(len(X_seq))):
            d_out = out[t] - y_seq[t]
            d_Wo += h[t + 1].T @ d_out
            d_s = (d_out @ self.Wo.T + carried) * (1 - h[t + 1] ** 2)
            d_Wx += X_seq[t].T @ d_s
            d_Wh += h[t].T @ d_s
            carried = d_s @ self.Wh.T
        return d_Wx, d_Wh, d_Wo
"""


def test_no_axis_is_time_on_whose_length_the_parameters_depend(write):
    found = find(write(BY_LENGTH))
    assert verdict(found) == "agree"
    assert found.recipe.steps.get("x", 0) == 0


def test_a_small_number_in_the_logarithm_is_said_to_explain_what_is_left(write, capsys):
    from throughtime import cli

    path = write(FUNCTION.replace("[targets[t],0])", "[targets[t],0] + 1e-9)"))
    assert cli.main(["check", str(path), "--effort", "quick"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "AGREE" in said
    assert "Checked with 0 in place of ε = 1e-09 (net.py:" in said
    assert "Which line" not in said


def test_causes_are_sought_without_a_small_number_in_the_logarithm(write, monkeypatch):
    from throughtime.cli import own_file

    wrong = FUNCTION.replace("dhnext = np.dot(Whh.T", "dhnext = np.dot(Whh")
    path = write(wrong.replace("[targets[t],0])", "[targets[t],0] + 1e-3)"))
    given = []

    def diagnosed(target, report, *limits):
        given.append(target.loss())
        return report

    monkeypatch.setattr(own_file, "diagnosed", diagnosed)
    report = own_file.judge(str(path), "", 0, {"effort": "quick", "progress": False}, True).report
    assert report.verdict == "disagree"
    assert "Checked with 0" not in str(report)
    assert "The causes were sought with 0 in place of ε = 0.001 (net.py:" in str(report)
    own_loss = Program(find(path).recipe, seed=0).target().loss()
    assert given[0] > own_loss  # of log(p), not of log(p + 0.001)


def test_a_gradient_of_the_data_alone_is_no_check(write):
    alone = """
import numpy as np
x, y = np.random.randn(6, 5), np.random.randn(6, 4)
W = np.random.randn(5, 4)
for step in range(10):
    out = np.tanh(x @ W)
    loss = 0.5 * np.sum((out - y) ** 2)
    dz = (out - y) * (1 - out**2)
    dx = dz @ W.T
    dout, dloss = out - y, 1.0
    x -= 0.1 * dx
"""
    with pytest.raises(tt.CheckError):
        find(write(alone))
