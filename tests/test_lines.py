"""Which line of a user's backward pass is wrong: small files in the habits of strangers."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

import throughtime as tt
from throughtime.source import Program, Recipe, annotate, annotated_text, first_wrong
from throughtime.source.lines import what_fits
from throughtime.source.lines.line_finding import LineFinding, with_doubts

RNN = """
import numpy as np

class RNN:
    def __init__(self):
        self.Wx, self.Wh = np.random.randn(4, 3) * 0.7, np.random.randn(4, 4) * 0.7
        self.Wy, self.b = np.random.randn(2, 4) * 0.7, np.random.randn(4, 1) * 0.3

    def forward(self, inputs, targets):
        h = np.zeros((4, 1))
        self.xs, self.targets, self.hs, self.ys = inputs, targets, [h], []
        loss = 0
        for x, target in zip(inputs, targets):
            h = np.tanh(self.Wx @ x + self.Wh @ h + self.b)
            self.hs.append(h)
            y = self.Wy @ h
            self.ys.append(y)
            loss += 0.5 * np.sum((y - target) ** 2)
        return loss

    def backward(self):
        self.dWx, self.dWh = np.zeros_like(self.Wx), np.zeros_like(self.Wh)
        self.dWy, self.db = np.zeros_like(self.Wy), np.zeros_like(self.b)
        dh_next = np.zeros((4, 1))
        for t in reversed(range(len(self.xs))):
            dy = self.ys[t] - self.targets[t]
            self.dWy += dy @ self.hs[t + 1].T
            dh = self.Wy.T @ dy + dh_next
            dz = dh * (1 - self.hs[t + 1] ** 2)
            self.dWx += dz @ self.xs[t].T
            self.dWh += dz @ self.hs[t].T
            self.db += dz
            dh_next = self.Wh.T @ dz
"""

LSTM = """
import numpy as np

def sigmoid(x):
    return 1 / (1 + np.exp(-x))

class LSTM:
    def __init__(self):
        self.p = {}
        for gate in "ifog":
            self.p["W" + gate] = np.random.randn(3, 2) * 0.7
            self.p["b" + gate] = np.random.randn(2) * 0.3

    def step(self, x, h, c):
        p, z = self.p, np.concatenate([x, h], axis=1)
        i = sigmoid(z @ p["Wi"] + p["bi"])
        f = sigmoid(z @ p["Wf"] + p["bf"])
        o = sigmoid(z @ p["Wo"] + p["bo"])
        g = np.tanh(z @ p["Wg"] + p["bg"])
        c_next = f * c + i * g
        tc = np.tanh(c_next)
        return o * tc, c_next, (z, i, f, o, g, c, tc)

    def forward(self, x):
        h = c = np.zeros((x.shape[1], 2))
        self.caches, self.out = [], []
        for x_t in x:
            h, c, cache = self.step(x_t, h, c)
            self.caches.append(cache)
            self.out.append(h)
        return np.stack(self.out)

    def backward(self, dout):
        grads = {name: np.zeros_like(value) for name, value in self.p.items()}
        dh_next = dc_next = np.zeros_like(dout[0])
        for t in reversed(range(len(dout))):
            z, i, f, o, g, c_prev, tc = self.caches[t]
            dh = dout[t] + dh_next
            do = dh * tc
            dc = dh * o * (1 - tc ** 2) + dc_next
            di = dc * g
            df = dc * c_prev
            dg = dc * i
            deltas = {"i": di * i * (1 - i), "f": df * f * (1 - f)}
            deltas["o"], deltas["g"] = do * o * (1 - o), dg * (1 - g ** 2)
            dz = np.zeros_like(z)
            for gate, delta in deltas.items():
                grads["W" + gate] += z.T @ delta
                grads["b" + gate] += delta.sum(axis=0)
                dz += delta @ self.p["W" + gate].T
            dh_next = dz[:, 1:]
            dc_next = dc * f
        return grads
"""

CHARS = """
import numpy as np

def loss_and_gradients(inputs, targets, hprev):
    xs, hs, ps = {}, {}, {}
    hs[-1] = np.copy(hprev)
    loss = 0
    for t in range(len(inputs)):
        xs[t] = np.zeros((4, 1))
        xs[t][inputs[t]] = 1
        hs[t] = np.tanh(np.dot(Wxh, xs[t]) + np.dot(Whh, hs[t - 1]) + bh)
        y = np.dot(Why, hs[t]) + by
        ps[t] = np.exp(y) / np.sum(np.exp(y))
        loss += -np.log(ps[t][targets[t], 0])
    dWxh, dWhh, dWhy = np.zeros_like(Wxh), np.zeros_like(Whh), np.zeros_like(Why)
    dbh, dby = np.zeros_like(bh), np.zeros_like(by)
    dhnext = np.zeros_like(hs[0])
    for t in reversed(range(len(inputs))):
        dy = np.copy(ps[t])
        dy[targets[t]] -= 1
        dWhy += np.dot(dy, hs[t].T)
        dby += dy
        dh = np.dot(Why.T, dy) + dhnext
        dhraw = (1 - hs[t] * hs[t]) * dh
        dbh += dhraw
        dWxh += np.dot(dhraw, xs[t].T)
        dWhh += np.dot(dhraw, hs[t - 1].T)
        dhnext = np.dot(Whh.T, dhraw)
    for dparam in [dWxh, dWhh, dWhy, dbh, dby]:
        np.clip(dparam, -5, 5, out=dparam)
    return loss, dWxh, dWhh, dWhy, dbh, dby
"""


def program(folder, text, *changes):
    """A file with some of its lines changed, and its recipe."""
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "net.py"
    path.write_text(text)
    if "class RNN" in text:
        names = ["Wx", "Wh", "Wy", "b"]
        setup = "net = RNN(); x = np.random.randn(4, 3, 1); y = np.random.randn(4, 2, 1)"
        return Program(
            Recipe(
                path,
                setup,
                loss="loss = net.forward(x, y)",
                gradient="net.forward(x, y); net.backward()",
                parameters={name: f"net.{name}" for name in names},
                gradients={name: f"net.d{name}" for name in names},
                steps={"x": 0, "y": 0},
            )
        )
    if "class LSTM" in text:
        names = [f"{kind}{gate}" for kind in "Wb" for gate in "ifog"]
        setup = "net = LSTM(); x = np.random.randn(4, 2, 1); weights = np.random.randn(4, 2, 2)"
        return Program(
            Recipe(
                path,
                setup,
                loss="loss = np.sum(weights * net.forward(x))",
                gradient="net.forward(x); grads = net.backward(weights)",
                parameters={name: f"net.p['{name}']" for name in names},
                gradients={name: f"grads['{name}']" for name in names},
                steps={"x": 0, "weights": 0},
            )
        )
    names = ["Wxh", "Whh", "Why", "bh", "by"]
    sizes = {"Wxh": (3, 4), "Whh": (3, 3), "Why": (4, 3), "bh": (3, 1), "by": (4, 1)}
    setup = "\n".join(f"{name} = np.random.randn{sizes[name]} * 0.7" for name in names)
    return Program(
        Recipe(
            path,
            setup + "\nx, y, h0 = [0, 2, 1, 3], [2, 1, 3, 3], np.zeros((3, 1))",
            loss="loss = loss_and_gradients(x, y, h0)[0]",
            gradient="found = loss_and_gradients(x, y, h0)[1:]",
            parameters={name: name for name in names},
            gradients={name: f"found[{number}]" for number, name in enumerate(names)},
            steps={"x": 0, "y": 0},
        )
    )


def line_of(program, text):
    lines = program.recipe.path.read_text().split("\n")
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def of(findings, status):
    return [finding.line for finding in findings if finding.status == status]


@pytest.mark.parametrize("text", [RNN, LSTM, CHARS], ids=["rnn", "lstm", "chars"])
def test_no_line_of_a_right_backward_pass_is_wrong(tmp_path, text):
    found = annotate(program(tmp_path, text))
    assert of(found, "wrong") == of(found, "follows") == []
    assert len(of(found, "right")) > len(of(found, "unknown"))


def test_right_lines_have_their_meaning(tmp_path):
    made = program(tmp_path, RNN)
    meaning = {finding.target: finding.meaning for finding in annotate(made)}
    assert meaning["dy"] == "∂L/∂y_t"
    assert meaning["dh"] == "∂L/∂h_t"
    assert meaning["dh_next"] == "∂L/∂h as used in line 14"
    assert meaning["self.dWh"] == "∂L/∂Wh, the part of one step"


FAULTS = {
    "transposed": (RNN, "self.Wh.T @ dz", "self.Wh @ dz", "with self.Wh.T for self.Wh"),
    "previous state": (RNN, "dz @ self.hs[t].T", "dz @ self.hs[t + 1].T", "self.hs[t].T for"),
    "slope": (RNN, "dh * (1 - self.hs[t + 1] ** 2)", "dh * (1 - self.hs[t + 1])", "** 2"),
    "sign": (RNN, "self.ys[t] - self.targets[t]", "self.targets[t] - self.ys[t]", "other sign"),
    "next error dropped": (RNN, "self.Wy.T @ dy + dh_next", "self.Wy.T @ dy", "is only"),
    "wrong operand": (LSTM, "df = dc * c_prev", "df = dc * tc", "with c_prev for tc"),
    "carousel dropped": (LSTM, "(1 - tc ** 2) + dc_next", "(1 - tc ** 2)", ""),
    "one slope left out": (CHARS, "(1 - hs[t] * hs[t]) * dh", "dh * 1", "times (1 - hs[t] ** 2)"),
    "clipped": (CHARS, "np.clip(dparam, -5, 5", "np.clip(dparam, -0.1, 0.1", "right before"),
    "averaged": (
        CHARS,
        "-np.log(ps[t][targets[t], 0])",
        "-np.log(ps[t][targets[t], 0]) / 3",
        "3 times",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_one_fault_is_found_at_its_line(tmp_path, name):
    text, right, wrong, noticed = FAULTS[name]
    made = program(tmp_path, text, (right, wrong))
    found = annotate(made)
    expected = line_of(made, wrong)
    if name == "averaged":  # the loss is divided: the backward pass is a multiple from its start
        expected = line_of(made, "dy[targets[t]] -= 1")
    assert of(found, "wrong") == [expected]
    first = first_wrong(found)
    assert any(noticed in said for said in first.noticed) or not noticed
    assert first.expected
    assert first.mended


def test_two_faults_are_both_found_and_what_follows_is_not_accused(tmp_path):
    changes = [("dc_next = dc * f", "dc_next = dc * i"), ("do = dh * tc", "do = dh * c_prev")]
    made = program(tmp_path, LSTM, *changes)
    found = annotate(made)
    assert of(found, "wrong") == [line_of(made, new) for _, new in reversed(changes)]
    assert line_of(made, "dc = dh * o") in of(found, "follows")
    text = annotated_text(found)
    assert "✗" in text
    assert "follows from lines" in text
    json.dumps([finding.to_dict() for finding in found])


def test_a_report_that_agrees_is_believed(tmp_path):
    made = program(tmp_path, RNN)
    report = tt.check(made.target(), progress=False)
    assert of(annotate(made, report), "wrong") == []


def test_the_parameters_are_left_as_they_were(tmp_path):
    made = program(tmp_path, RNN, ("self.Wh.T @ dz", "self.Wh @ dz"))
    before = {name: value.copy() for name, value in made.parameters.items()}
    annotate(made)
    assert all(np.array_equal(before[name], value) for name, value in made.parameters.items())


LISTS = """
import math

class Unit:
    def __init__(self):
        self.w, self.u = [0.7], [0.4]

    def forward(self, x):
        self.h = [0.0]
        for value in x:
            self.h.append(math.tanh(self.w[0] * value + self.u[0] * self.h[-1]))
        return 0.5 * self.h[-1] ** 2

    def backward(self, x):
        self.dw, self.du = [0.0], [0.0]
        dh = self.h[-1]
        for t in reversed(range(len(x))):
            dz = dh * (1 - self.h[t + 1] ** 2)
            self.dw[0] += dz * x[t]
            self.du[0] += dz * self.h[t]
            dh = dz * self.u[0]
"""


def test_single_numbers_in_lists_are_read_too(tmp_path):
    path = tmp_path / "unit.py"
    path.write_text(LISTS.replace("dz * self.u[0]", "dz * self.w[0]"))
    recipe = Recipe(
        path,
        setup="unit, x = Unit(), [0.3, -0.8, 0.5]",
        loss="loss = unit.forward(x)",
        gradient="unit.forward(x); unit.backward(x)",
        parameters={"w": "unit.w", "u": "unit.u"},
        gradients={"w": "unit.dw", "u": "unit.du"},
    )
    found = annotate(Program(recipe))
    assert of(found, "wrong") == [line_of(Program(recipe), "dh = dz * self.w[0]")]
    assert first_wrong(found).edit == ("dz * self.w[0]", "dz * self.u[0]")


CLIPPED = """
import numpy as np

class Net:
    def __init__(self):
        self.W, self.U = np.random.randn(2, 2), np.random.randn(2, 2)

    def forward(self, x):
        self.x, self.h = x, [np.zeros(2)]
        for t in range(len(x)):
            self.h.append(np.tanh(self.W @ x[t] + self.U @ self.h[-1]))
        return sum((np.clip(h, -2, 2) ** 2).sum() for h in self.h)

    def backward(self):
        dW, dU, carried = np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(2)
        for t in reversed(range(len(self.x))):
            dz = (2 * self.h[t + 1] + carried) * (1 - self.h[t + 1] ** 2)
            dW += np.outer(dz, self.x[t])
            dU += np.outer(dz, self.h[t])
            carried = self.U.T @ dz
        carried = np.clip(carried, -50, 50)
        for grad in (dW, dU):
            np.clip(grad, -LIMIT, LIMIT, out=grad)
        return dW, dU
"""


@pytest.mark.parametrize(("limit", "lines"), [("0.01", [23]), ("100", [])])
def test_a_line_that_clips_is_wrong_only_where_it_changes_the_gradient(tmp_path, limit, lines):
    path = tmp_path / "net.py"
    path.write_text(CLIPPED.replace("LIMIT", limit))
    recipe = Recipe(path, setup="net = Net(); x = np.random.randn(3, 2)",
                    loss="loss = net.forward(x)", gradient="net.forward(x); g = net.backward()",
                    parameters={"W": "net.W", "U": "net.U"},
                    gradients={"W": "g[0]", "U": "g[1]"}, steps={"x": 0})  # fmt: skip
    found = annotate(Program(recipe))
    assert [finding.line for finding in found if finding.expected] == lines


@pytest.mark.parametrize(
    ("text", "turned"),
    [
        ("dz", "dz.T"),
        ("self.W.T", "self.W"),
        ("h[t - 1]", "h[t - 1].T"),
        ("1", "(1).T"),
        ("a - b", "(a - b).T"),
        ("a @ b.T", "(a @ b.T).T"),
    ],
)
def test_what_is_transposed_can_be_read_again(text, turned):
    """`1.T` is no Python, and `a - b.T` is something else."""
    found = what_fits._turned(what_fits.Made(text, (np.ones((2, 3)),), 0.0))
    assert found.text == turned
    assert found.values[0].shape == (3, 2)
    ast.parse(found.text)


def test_what_is_made_of_a_doubtful_line_is_doubtful_too():
    """Unless a change of its own makes it right; a variable with the same values is none."""
    read = {1: {"dh"}, 2: {"df"}, 3: {"df"}, 4: {"dW"}, 5: {"other"}, 6: {"df"}}

    def line(number, target, status, edit=None, doubtful=()):
        return LineFinding(
            Path("net.py"), number, number, "backward", target, status,
            expected="∂L/∂x", edit=edit, doubtful=doubtful,
        )  # fmt: skip

    found = with_doubts(
        [
            line(1, "df", "unknown", doubtful=(9,)),
            line(2, "dW", "wrong"),
            line(3, "dU", "wrong", ("np.dot(df, h.T)", "dW")),
            line(4, "total", "wrong"),
            line(5, "db", "wrong"),
            line(6, "dR", "wrong", ("x.T", "h.T @ 1")),
        ],
        lambda finding: read[finding.line],
    )
    assert [one.status for one in found] == ["unknown"] * 4 + ["wrong"] * 2
    assert [one.doubtful for one in found] == [(9,), (1,), (1,), (2,), (), ()]
    assert found[2].edit is None


def test_a_doubt_goes_on_through_lines_that_follow():
    read = {1: {"y"}, 2: {"dy"}, 3: {"dh"}, 4: {"other"}}

    def line(number, target, status):
        return LineFinding(
            Path("net.py"), number, number, "backward", target, status, expected="∂L/∂x"
        )

    found = with_doubts(
        [
            line(1, "dy", "unknown"),
            line(2, "dh", "follows"),
            line(3, "dW", "wrong"),
            line(4, "db", "wrong"),
        ],
        lambda finding: read[finding.line],
    )
    assert [one.status for one in found] == ["unknown", "follows", "unknown", "wrong"]
    assert found[2].doubtful == (1,)
