"""Kinds of faults that a mend has to undo: each network is right but for what a test breaks."""

import pytest

from throughtime.source import Recipe
from throughtime.source.mending.mend import mend

MINIMAL = '''
"""A minimal gated unit with peepholes of its own state, over a batch; the last state is read."""
import numpy as np


class Unit:
    def __init__(self, inputs=2, units=3):
        draw = np.random.RandomState(0).randn
        self.Wf, self.Uf = draw(inputs, units), draw(units, units)
        self.Wn, self.Un = draw(inputs, units), draw(units, units)
        self.look, self.read = draw(units), draw(units, 1)

    def forward(self, xs, y):
        h = np.zeros((xs.shape[1], len(self.look)))
        self.tape = []
        for x in xs:
            f = 1 / (1 + np.exp(-(x @ self.Wf + h @ self.Uf + h * self.look)))
            n = np.tanh(x @ self.Wn + (f * h) @ self.Un)
            self.tape.append((x, h, f, n))
            h = (1 - f) * h + f * n
        self.last, self.off = h, h @ self.read - y
        return 0.5 * np.mean(self.off**2)

    def backward(self):
        dWf, dUf = np.zeros_like(self.Wf), np.zeros_like(self.Uf)
        dWn, dUn = np.zeros_like(self.Wn), np.zeros_like(self.Un)
        dlook = np.zeros_like(self.look)
        doff = self.off / len(self.off)
        dread = self.last.T @ doff
        dh = doff @ self.read.T
        for x, h, f, n in self.tape[::-1]:
            dzn = dh * f * (1 - n**2)
            dfh = dzn @ self.Un.T
            df = dh * (n - h) + dfh * h
            dzf = df * f * (1 - f)
            dWf += x.T @ dzf
            dUf += h.T @ dzf
            dlook += np.sum(dzf * h, axis=0)
            dWn += x.T @ dzn
            dUn += (f * h).T @ dzn
            dh = dh * (1 - f) + dfh * f + dzf @ self.Uf.T + dzf * self.look
        return dWf, dUf, dWn, dUn, dlook, dread
'''


@pytest.fixture
def recipe(tmp_path):
    names = ("Wf", "Uf", "Wn", "Un", "look", "read")
    return Recipe(
        tmp_path / "unit.py",
        setup="net = Unit(); x = np.random.randn(4, 2, 2); y = np.random.randn(2, 1)",
        loss="loss = net.forward(x, y)",
        gradient="net.forward(x, y); grads = net.backward()",
        parameters={name: f"net.{name}" for name in names},
        gradients={name: f"grads[{n}]" for n, name in enumerate(names)},
        steps={"x": 0},
    )


def mended(recipe, *faults):
    text = MINIMAL
    for right, mistaken in faults:
        assert text.count(right) == 1
        text = text.replace(right, mistaken)
    recipe.path.write_text(text)
    return mend(recipe, progress=False)


@pytest.mark.parametrize(
    ("fault", "term"),
    [
        (("dh * (n - h) + dfh * h", "dh * (n - h)"), "dfh * h"),
        ((" + dzf * self.look", ""), "dzf * self.look"),
    ],
)
def test_a_term_that_is_missing_altogether_is_derived(recipe, monkeypatch, fault, term):
    """It is a product that stands nowhere: the values of the line say which, and no edit does."""
    monkeypatch.setattr("throughtime.source.mending.mend._Search._groups", lambda *_: [])
    found = mended(recipe, fault)
    assert found.is_mended, str(found)
    one, other = term.split(" * ")
    after = found.after[recipe.path.resolve()]
    assert f"{one} * {other}" in after or f"{other} * {one}" in after


@pytest.mark.parametrize(
    ("right", "mistaken"),
    [("np.sum(dzf * h, axis=0)", "np.sum(dzf * h)"), ("self.off / len(self.off)", "self.off")],
)
def test_a_sum_over_all_axes_is_one_over_the_batch(recipe, right, mistaken):
    found = mended(recipe, (right, mistaken))
    assert found.is_mended, str(found)
    assert len(found.hunks) == 1


COURSE = '''
"""An LSTM whose lists of states begin with the initial one, as an exercise has it."""
import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def forward(xs, ys, W, V, h, c):
    n, hs, cs, gates, qs, loss = len(h), [h], [c], [], [], 0.0
    for x, y in zip(xs, ys):
        z = np.concatenate([h, x])
        a = W @ z
        (i, f, o), g = np.split(sigmoid(a[: 3 * n]), 3), np.tanh(a[3 * n :])
        c = f * c + i * g
        h = o * np.tanh(c)
        hs.append(h)
        cs.append(c)
        gates.append((z, i, f, o, g))
        qs.append(V @ h - y)
        loss += 0.5 * np.sum(qs[-1] ** 2)
    return loss, hs, cs, gates, qs


def backward(hs, cs, gates, qs, W, V):
    n, dW, dV = len(hs[0]), np.zeros_like(W), np.zeros_like(V)
    dh_next, dc_next = np.zeros(n), np.zeros(n)
    for t in reversed(range(len(qs))):
        z, i, f, o, g = gates[t]
        c_before = cs[t]
        dV += np.outer(qs[t], hs[t + 1])
        dh = V.T @ qs[t] + dh_next
        do = dh * np.tanh(cs[t + 1])
        dc = dc_next + dh * o * (1 - np.tanh(cs[t + 1]) ** 2)
        di = dc * g
        df = dc * c_before
        dg = dc * i
        da = np.concatenate([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g**2)])
        dW += np.outer(da, z)
        dz = W.T @ da
        dh_next = dz[:n]
        dc_next = f * dc
    return dW, dV
'''


@pytest.fixture
def course(tmp_path):
    return Recipe(
        tmp_path / "course.py",
        setup="x, y = np.random.randn(4, 2), np.random.randn(4, 2)\n"
        "W, V = np.random.randn(12, 5), np.random.randn(2, 3)\n"
        "h, c = np.random.randn(3), np.random.randn(3)",
        loss="loss = forward(x, y, W, V, h, c)[0]",
        gradient="dW, dV = backward(*forward(x, y, W, V, h, c)[1:], W, V)",
        parameters={"W": "W", "V": "V"},
        gradients={"W": "dW", "V": "dV"},
        steps={"x": 0, "y": 0},
    )


def test_an_index_that_is_right_at_one_step_by_chance_is_not_taken(course):
    """At one step the item before the first is the last one, which is the one that is meant.

    More steps say nothing of it, since nothing is handed on from step to step.
    """
    text = COURSE.replace("hs[t + 1]", "hs[t]").replace("np.tanh(cs[t + 1])", "np.tanh(cs[t])")
    text = text.replace("dh_next = dz", "dh_before = dz").replace("dc_next = f", "dc_before = f")
    course.path.write_text(text.replace("c_before = cs[t]", "c_before = cs[t - 1]"))
    found = mend(course, progress=False)
    after = found.after[course.path.resolve()]
    assert found.is_mended, str(found)
    assert "hs[t + 1]" in after
    assert after.count("cs[t + 1]") == 2
