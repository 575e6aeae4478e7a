"""Faults that hide each other, or that stand elsewhere than where the wrong values are computed."""

from dataclasses import replace

import numpy as np
import pytest

from throughtime.source import Recipe
from throughtime.source.lines.annotate import annotate, first_wrong
from throughtime.source.lines.what_fits import WhatFits
from throughtime.source.mending.mend import mend
from throughtime.source.recipe import Program

CELL = '''
"""An LSTM whose cell goes back one step at a time; its loss is the root of a mean square."""
import numpy as np


def s(z):
    return 1 / (1 + np.exp(-z))


class Cell:
    def __init__(self, inputs=2, units=3, outputs=2):
        draw = np.random.RandomState(1).randn
        self.W, self.V, self.units = draw(4 * units, units + inputs), draw(outputs, units), units

    def forward(self, xs):
        n, h, c = self.units, np.zeros((self.units, 1)), np.zeros((self.units, 1))
        self.kept, self.cs, answers = [], {-1: c}, []
        for t, x in enumerate(xs):
            q = np.vstack([h, x])
            z = self.W @ q
            i, f, o, g = s(z[:n]), s(z[n : 2 * n]), s(z[2 * n : 3 * n]), np.tanh(z[3 * n :])
            c = f * c + i * g
            h = o * np.tanh(c)
            self.cs[t] = c
            self.kept.append((q, i, f, o, g, c))
            answers.append(self.V @ h)
        return np.array(answers)

    def loss(self, p, y):
        return np.sqrt(np.mean((p - y) ** 2))

    def step_back(self, dh, dc_next, c_before, kept):
        q, i, f, o, g, c = kept
        dc = dh * o * (1 - np.tanh(c) ** 2) + dc_next
        di, df, dg = dc * g, dc * c_before, dc * i
        do = dh * np.tanh(c)
        zi, zf, zo, zg = di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g**2)
        return np.vstack([zi, zf, zo, zg]), f * dc

    def backward(self, p, y):
        dW, dV = np.zeros_like(self.W), np.zeros_like(self.V)
        dh_next, dc_next = np.zeros((self.units, 1)), np.zeros((self.units, 1))
        for t in reversed(range(len(p))):
            dy = (p[t] - y[t]) / p.size / np.sqrt(np.mean((p - y) ** 2))
            dV += dy @ (self.kept[t][3] * np.tanh(self.kept[t][5])).T
            dh = self.V.T @ dy + dh_next
            dz, dc_next = self.step_back(dh, dc_next, self.cs[t - 1], self.kept[t])
            dW += dz @ self.kept[t][0].T
            dh_next = (self.W.T @ dz)[: self.units]
        return dW, dV
'''


@pytest.fixture
def cell(tmp_path):
    return Recipe(
        tmp_path / "cell.py",
        setup="net = Cell(); x = np.random.randn(4, 2, 1); y = np.random.randn(4, 2, 1)",
        loss="loss = net.loss(net.forward(x), y)",
        gradient="p = net.forward(x); dW, dV = net.backward(p, y)",
        parameters={"W": "net.W", "V": "net.V"},
        gradients={"W": "dW", "V": "dV"},
        steps={"x": 0, "y": 0},
    )


@pytest.fixture
def edits_alone(monkeypatch):
    """Without what the values in lines show."""
    monkeypatch.setattr("throughtime.source.mending.mend._Search._by_lines", lambda *_: None)


def mended(recipe, text, *faults):
    for right, mistaken in faults:
        assert text.count(right) == 1
        text = text.replace(right, mistaken)
    recipe.path.write_text(text)
    found = mend(recipe, progress=False)
    assert found.is_mended, str(found)
    return found.after[recipe.path.resolve()]


def test_the_slope_of_a_root_and_a_state_that_was_not_kept(cell):
    """The factor hides that one tensor is wrong besides, and what it needs has no name."""
    after = mended(
        cell, CELL, (" / p.size / np.sqrt(np.mean((p - y) ** 2))", ""),
        ("(self.kept[t][3] * np.tanh(self.kept[t][5]))", "self.kept[t][5]"),
    )  # fmt: skip
    assert "np.sqrt(np.mean((p - y) ** 2))" in after
    assert ".size" in after
    assert "dV += dy @ (self.kept[t][3] * np.tanh(self." in after  # of cs[t], or kept[t][5]


def test_what_a_function_is_given_is_mended_where_it_is_called(cell):
    after = mended(cell, CELL, ("dc_next, self.cs[t - 1], self", "dc_next, self.cs[-1], self"))
    assert "dc_next, self.cs[t - 1], self" in after


STEPS = '''
"""A tanh network that is told each error by a call; an error before the last goes on from there."""
import numpy as np


class Told:
    def __init__(self, inputs=2, units=3, outputs=2):
        draw = np.random.RandomState(2).randn
        self.W, self.U, self.V = draw(units, inputs), draw(units, units), draw(outputs, units)
        self.dW = np.zeros(self.W.shape)
        self.dU = np.zeros(self.U.shape)
        self.dV = np.zeros(self.V.shape)
        self.dh = np.zeros((units, 1))
        self.hs, self.xs = [np.zeros((units, 1))], []

    def step(self, x):
        self.hs.append(np.tanh(self.W @ x + self.U @ self.hs[-1]))
        self.xs.append(x)
        return self.V @ self.hs[-1]

    def back(self, dy):
        h = self.hs.pop()
        self.dV += dy @ h.T
        self.dh = (1 - h**2) * (self.V.T @ dy + self.U.T @ self.dh)
        self.dW += self.dh @ self.xs.pop().T
        self.dU += self.dh @ self.hs[-1].T
'''


@pytest.fixture
def told(tmp_path):
    return Recipe(
        tmp_path / "told.py",
        setup="net = Told(); x = np.random.randn(4, 2, 1); y = np.random.randn(4, 2, 1)",
        loss="loss = 0.5 * sum(np.sum((net.step(a) - b) ** 2) for a, b in zip(x, y))",
        gradient="d = [net.step(a) - b for a, b in zip(x, y)]\n[net.back(e) for e in d[::-1]]",
        parameters={name: f"net.{name}" for name in "WUV"},
        gradients={name: f"net.d{name}" for name in "WUV"},
        steps={"x": 0, "y": 0},
    )


def test_sums_that_begin_with_ones_begin_with_zeros_and_the_rest_is_found_after(told):
    """They hide that nothing is carried back from call to call."""
    text = STEPS.replace("np.zeros(self.", "np.ones(self.")
    text = text.replace("self.dh = np.zeros((", "self.dh = np.ones((")
    after = mended(told, text, (" + self.U.T @ self.dh", ""))
    assert "ones" not in after
    assert "self.U.T" in after


@pytest.mark.usefixtures("edits_alone")
def test_a_gradient_that_goes_to_the_weights_themselves_goes_to_its_sum(told):
    after = mended(told, STEPS, ("self.dU += ", "self.U += "))
    assert after == STEPS


LIST = '''
"""A tanh network over a batch; the last state is read, and states are looked up by their step."""
import numpy as np


def forward(xs, W, U):
    hs = []
    for t, x in enumerate(xs):
        before = hs[t - 1] if t > 0 else np.zeros((len(x), len(U)))
        hs.append(np.tanh(x @ W + before @ U))
    return hs


def backward(xs, hs, W, U, d):
    dW, dU, dh, step = np.zeros_like(W), np.zeros_like(U), np.zeros_like(d), 1
    for t in range(len(xs) - 1, -1, -1):
        own = d.copy() if t == len(xs) - 1 else 0 * d
        own += dh @ U.T
        dz = own * (1 - hs[t] ** 2)
        dW += xs[t].T @ dz
        dU += np.transpose(hs[t - 1] if t >= step else 0 * d) @ dz
        dh = dz
    return dW, dU
'''


@pytest.fixture
def listed(tmp_path):
    return Recipe(
        tmp_path / "listed.py",
        setup="W, U = np.random.randn(2, 3), np.random.randn(3, 3)\n"
        "x, d = np.random.randn(4, 2, 2), np.random.randn(2, 3)",
        loss="loss = np.sum(d * forward(x, W, U)[-1])",
        gradient="dW, dU = backward(x, forward(x, W, U), W, U, d)",
        parameters={"W": "W", "U": "U"},
        gradients={"W": "dW", "U": "dU"},
        steps={"x": 0},
    )


def test_an_error_of_the_last_step_alone_beside_a_matrix_that_is_not_transposed(listed):
    after = mended(
        listed, LIST, ("d.copy() if t == len(xs) - 1 else 0 * d", "d.copy()"), ("U.T", "U")
    )
    assert "own = d.copy() * (t == len(xs) - 1)" in after
    assert "dh @ U.T" in after


@pytest.mark.usefixtures("edits_alone")
def test_the_state_before_for_the_one_after(listed):
    after = mended(
        listed, LIST,
        ("hs[t - 1] if t >= step else 0 * d", "hs[t + 1] if t < len(xs) - 1 else 0 * d"),
    )  # fmt: skip
    assert "hs[t-1] if t > 0 else 0 * d" in after


@pytest.mark.usefixtures("edits_alone")
def test_a_condition_that_holds_one_step_too_late(listed):
    after = mended(listed, LIST, ("t >= step", "t > step"))
    assert "hs[t - 1] if t > step-1 else 0 * d" in after


def test_a_package_that_imports_its_own_file(listed):
    """The file is loaded twice then, and edits have to be made in what runs."""
    package = listed.path.parent / "nets"
    package.mkdir()
    (package / "__init__.py").write_text("from .listed import backward\n")
    (package / "base.py").write_text("scale = 1.0\n")
    text = "from .base import scale\n" + LIST.replace("dh @ U.T", "dh @ U")
    (package / "listed.py").write_text(text)
    recipe = Recipe(
        package / "listed.py",
        listed.setup, listed.loss, listed.gradient,
        parameters=listed.parameters, gradients=listed.gradients, steps=listed.steps,
    )  # fmt: skip
    found = mend(recipe, progress=False)
    assert found.is_mended, str(found)


def test_a_factor_of_steps_and_of_the_logarithm_of_a_base(listed):
    """No size is that factor alone; each tensor is that many times too large at each length."""
    text = LIST.replace("d.copy()", "d / len(xs) / np.log(2)")
    of_base_2 = replace(listed, loss=f"{listed.loss} / len(x) / np.log(2)")
    after = mended(of_base_2, text, ("d / len(xs) / np.log(2)", "d.copy()"))
    assert "np.log(2)" in after


def frames(count, **made):
    """The variables at some steps: each made anew, or the same at all."""
    draw = np.random.default_rng(3)
    return [({"np": np}, {name: make(draw) for name, make in made.items()}) for _ in range(count)]


def fits(wanted):
    return [lambda value, w=w: np.allclose(value, w, rtol=1e-5) for w in wanted]


def column(draw):
    return draw.standard_normal((4, 1))


def test_two_operands_of_one_sum():
    steps = frames(3, A=lambda d: d.standard_normal((4, 4)), p=column, q=column, r=column, s=column)
    own = [space for _, space in steps]
    wanted = [v["A"].T @ v["p"] + v["A"] @ v["q"] for v in own]
    what = WhatFits(steps, ["A", "p", "q", "r", "s"], "@")
    found = what.expressions("A.T @ r + A @ s", wanted, fits(wanted))
    assert found[0].text == "A.T @ p + A @ q"


def test_a_factor_that_is_a_sum_at_each_step():
    """The slope of 1 − p is p times that of −log p."""
    steps = frames(3, p=column, label=column)
    own = [space for _, space in steps]
    wanted = [(v["p"] - v["label"]) * np.sum(v["p"] * v["label"]) for v in own]
    found = WhatFits(steps, ["p", "label"], "@").slopes_of_sums("p - label", wanted)
    assert found == [" * np.sum(p * label)"]


def test_what_should_be_0_is_not_that_less_itself():
    steps = frames(2, dc=column, before=column)
    wanted = [np.zeros((4, 1))] * 2
    what = WhatFits(steps, ["dc", "before"], "@")
    assert what.expressions("dc * before", wanted, fits(wanted)) == []


def test_which_line_is_the_call_that_gives_what_is_wrong(cell):
    mistaken = "dc_next, self.cs[-1], self.kept[t]"
    cell.path.write_text(CELL.replace("dc_next, self.cs[t - 1], self.kept[t]", mistaken))
    found = first_wrong(annotate(Program(cell)))
    assert found.line == within("self.step_back(")
    assert found.expected == "self.cs[t - 1]"
    assert found.noticed == (f"it is c_before in line {within('dc * c_before')} of Cell.step_back",)


def within(text):
    return next(n for n, line in enumerate(CELL.split("\n"), start=1) if text in line)


def test_what_should_be_0_has_no_factor():
    steps = frames(2, dz=column)
    assert WhatFits(steps, ["dz"], "@").factors("dz", [np.zeros((4, 1))] * 2) == []
