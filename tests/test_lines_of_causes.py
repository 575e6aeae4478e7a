"""Lines that only follow are not blamed, and what is said of a line says something."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

import throughtime as tt
from throughtime.source import Recipe
from throughtime.source.lines.annotate import suspected
from throughtime.source.lines.which_line import confirmed, summary
from throughtime.source.recipe import Program

# Each step overwrites what the one before has kept; all gradients of a step come out of a method.
OVERWRITTEN = """
import numpy as np

def sigmoid(v):
    return 1 / (1 + np.exp(-v))

class Cell:
    def __init__(self, size=3, inputs=2):
        draw = np.random.default_rng(1)
        self.p = {k: draw.standard_normal((size, size + inputs)) * 0.6 for k in "uk"}
        self.p |= {k: draw.standard_normal((size, 1)) * 0.3 for k in "ab"}
        self.size = size

    def step(self, x, s):
        self.before = s
        self.joined = np.vstack([s, x])
        self.gate = sigmoid(self.p["u"] @ self.joined + self.p["a"])
        self.new = np.tanh(self.p["k"] @ self.joined + self.p["b"])
        return self.gate * self.new + (1 - self.gate) * s

    def forward(self, xs):
        s, out = np.zeros((self.size, 1)), []
        for x in xs:
            s = self.step(x, s)
            out.append(s)
        return np.array(out)

    def step_back(self, ds):
        dgate = ds * (self.new - self.before)
        dnew = ds * self.gate
        zgate = dgate * self.gate * (1 - self.gate)
        znew = dnew * (1 - self.new ** 2)
        back = self.p["u"].T @ zgate + self.p["k"].T @ znew
        return {
            "u": zgate @ self.joined.T, "k": znew @ self.joined.T, "a": zgate, "b": znew,
            "s": back[:self.size] + ds * (1 - self.gate),
        }

    def backward(self, dout):
        total = {name: np.zeros_like(value) for name, value in self.p.items()}
        carried = np.zeros((self.size, 1))
        for t in reversed(range(len(dout))):
            carried = carried + dout[t]
            grads = self.step_back(carried)
            total["u"] += grads["u"]
            total["k"] += grads["k"]
            total["a"] += grads["a"]
            total["b"] += grads["b"]
            carried = grads["s"]
        return total
"""

# The activation is an object, which holds the outputs of the last step alone.
ACTIVATION = """
import numpy as np

class Squash:
    def forward(self, v):
        self.made = np.tanh(v)

    def backward(self, dv):
        self.dv = dv * (1 - self.made ** 2)

class Net:
    def __init__(self):
        draw = np.random.default_rng(1)
        self.A = draw.standard_normal((3, 3)) * 0.6
        self.B = draw.standard_normal((3, 2)) * 0.6
        self.f = Squash()

    def forward(self, xs):
        self.xs, self.s = xs, [np.zeros((3, 1))]
        for x in xs:
            z = self.A @ self.s[-1] + self.B @ x
            self.f.forward(z)
            self.s.append(self.f.made)
        return np.array(self.s[1:])

    def backward(self, dout):
        dA, dB, carried = np.zeros_like(self.A), np.zeros_like(self.B), np.zeros((3, 1))
        for t in reversed(range(len(dout))):
            ds = dout[t] + carried
            self.f.backward(ds)
            dz = self.f.dv
            dA += dz @ self.s[t].T
            dB += dz @ self.xs[t].T
            carried = self.A.T @ dz
        return {"A": dA, "B": dB}
"""

# The loss sees the last step alone, and so does the backward pass: its loop runs once.
LAST_STEP = """
import numpy as np

class Last:
    def __init__(self):
        draw = np.random.default_rng(1)
        self.W = draw.standard_normal((3, 6)) * 0.6

    def forward(self, xs):
        self.joined, self.s = [], [np.zeros((3, 1))]
        for x in xs:
            joined = np.vstack([[[1.0]], x, self.s[-1]])
            self.joined.append(joined)
            self.s.append(np.tanh(self.W @ joined))
        return self.s[-1]

    def backward(self, ds):
        dW = np.zeros_like(self.W)
        steps = [len(self.joined) - 1]
        for t in steps:
            dz = ds * (1 - self.s[t + 1] ** 2)
            dW += dz @ self.joined[t].T
            ds = (self.W.T @ dz)[3:]
        return {"W": dW}
"""

# The initial state is kept as a view of the array that the states are written to.
VIEW = """
import numpy as np

class Batch:
    def __init__(self):
        draw = np.random.default_rng(1)
        self.W = draw.standard_normal((6, 4)) * 0.6
        self.b = draw.standard_normal(4) * 0.6

    def forward(self, xs, start=None):
        states = np.zeros((len(xs), 3, 4))
        if start is None:
            start = states[0]
        self.start = start
        s = start
        for t in range(len(xs)):
            s = np.tanh(np.hstack([xs[t], s]) @ self.W + self.b)
            states[t] = s
        self.xs, self.states = xs, states
        return states

    def step_back(self, ds, s, before, x):
        dz = ds * (1 - s ** 2)
        dW = np.hstack([x, before]).T @ dz
        return dW, dz.sum(axis=0), dz @ self.W[2:].T

    def backward(self, dout):
        self.dW, self.db, carried = np.zeros_like(self.W), np.zeros_like(self.b), 0
        for t in reversed(range(len(self.xs))):
            before = self.states[t - 1] if t else self.start
            dW, db, carried = self.step_back(dout[t] + carried, self.states[t], before, self.xs[t])
            self.dW += dW
            self.db += db
        return {"W": self.dW, "b": self.db}
"""
AVERAGED = VIEW.replace(
    "        return {", "        self.dW /= 3\n        self.db /= 3\n        return {"
)

# A GRU whose reset gate acts before the product; each matrix has its own line.
RESET = """
import numpy as np

def sigmoid(v):
    return 1 / (1 + np.exp(-v))

class Gru:
    def __init__(self):
        draw = np.random.default_rng(1)
        self.p = {k: draw.standard_normal((3, n)) * 0.7
                  for k, n in {"Wr": 2, "Wz": 2, "Wn": 2, "Ur": 3, "Uz": 3, "Un": 3}.items()}

    def forward(self, xs):
        p, h, self.kept, out = self.p, np.zeros((3, 1)), [], []
        for x in xs:
            r = sigmoid(p["Wr"] @ x + p["Ur"] @ h)
            z = sigmoid(p["Wz"] @ x + p["Uz"] @ h)
            n = np.tanh(p["Wn"] @ x + p["Un"] @ (r * h))
            self.kept.append((x, h, r, z, n))
            h = z * h + (1 - z) * n
            out.append(h)
        return np.array(out)

    def backward(self, dout):
        p, g = self.p, {k: np.zeros_like(v) for k, v in self.p.items()}
        carried = np.zeros((3, 1))
        for t in reversed(range(len(dout))):
            x, h, r, z, n = self.kept[t]
            dh = dout[t] + carried
            dn = dh * (1 - z) * (1 - n ** 2)
            dz = dh * (h - n) * z * (1 - z)
            drh = p["Un"].T @ dn
            dr = drh * h * r * (1 - r)
            g["Wr"] += dr @ x.T
            g["Wz"] += dz @ x.T
            g["Wn"] += dn @ x.T
            g["Ur"] += dr @ h.T
            g["Uz"] += dz @ h.T
            g["Un"] += dn @ (r * h).T
            carried = dh * z + drh * r + p["Ur"].T @ dr + p["Uz"].T @ dz
        return g
"""


def made(folder, text, setup, parameters, out="out"):
    path = folder / "net.py"
    path.write_text(text)
    setup += "; x = np.random.randn(4, 2, 1)"
    return Recipe(
        path,
        setup,
        loss=f"{out} = net.forward(x); loss = np.sum(d * {out})",
        gradient="net.forward(x); grads = net.backward(d)",
        parameters=parameters,
        gradients={name: f"grads['{name}']" for name in parameters},
        steps={"x": 0, "d": 0} if "Last" not in text else {"x": 0},
    )


def overwritten(folder, text=OVERWRITTEN):
    where = {name: f"net.p['{name}']" for name in "ukab"}
    return made(folder, text, "net = Cell(); d = np.random.randn(4, 3, 1)", where)


def activation(folder, text=ACTIVATION):
    where = {name: f"net.{name}" for name in "AB"}
    return made(folder, text, "net = Net(); d = np.random.randn(4, 3, 1)", where)


def last_step(folder, text=LAST_STEP):
    return made(folder, text, "net = Last(); d = np.random.randn(3, 1)", {"W": "net.W"})


def view(folder, text=VIEW):
    path = folder / "net.py"
    path.write_text(text)
    mean = "np.sum(d * net.forward(x)) / 3" if "dW /= " in text else ""
    return Recipe(
        path,
        "net = Batch(); x = np.random.randn(4, 3, 2); d = np.random.randn(4, 3, 4)",
        loss=f"loss = {mean or 'np.sum(d * net.forward(x))'}",
        gradient="net.forward(x); grads = net.backward(d)",
        parameters={"W": "net.W", "b": "net.b"},
        gradients={"W": "grads['W']", "b": "grads['b']"},
        steps={"x": 0, "d": 0},
    )


def averaged(folder):
    return view(folder, AVERAGED)


def reset(folder, text=RESET):
    where = {k: f"net.p['{k}']" for k in ("Wr", "Wz", "Wn", "Ur", "Uz", "Un")}
    return made(folder, text, "net = Gru(); d = np.random.randn(4, 3, 1)", where)


def line_of(recipe, text):
    lines = Path(recipe.path).read_text().split("\n")
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def wrong(recipe):
    return [finding for finding in confirmed(recipe, 0) if finding.status == "wrong"]


OVERWRITES = [(overwritten, OVERWRITTEN, "dgate = ds", "self.new"),
              (activation, ACTIVATION, "self.dv = dv", "self.made")]  # fmt: skip


@pytest.mark.parametrize(("make", "text", "line", "target"), OVERWRITES)
def test_values_that_each_step_overwrites_are_blamed_where_they_are_read_first(
    tmp_path, make, text, line, target
):
    recipe = make(tmp_path)
    (found,) = wrong(recipe)
    assert (found.line, found.target) == (line_of(recipe, line), target)
    assert re.fullmatch(r"what line \d+ made at that step", found.expected)
    assert set(found.mended) == set(recipe.parameters)
    assert {f.status for f in confirmed(recipe, 0)} == {"wrong", "follows"}


def test_the_values_that_a_step_keeps_in_lists_are_not_blamed(tmp_path):
    text = ACTIVATION.replace("self.made =", "self.all.append(0); self.all[-1] = self.made =")
    text = text.replace("    def forward(self, v)", "    all = []\n    def forward(self, v)")
    text = text.replace("1 - self.made ** 2", "1 - self.all.pop() ** 2")
    assert wrong(activation(tmp_path, text)) == []


@pytest.mark.parametrize("text", [VIEW, AVERAGED], ids=["summed", "averaged"])
def test_an_initial_state_that_is_a_view_should_be_a_copy(tmp_path, text):
    recipe = view(tmp_path, text)
    (found,) = wrong(recipe)
    assert (found.line, found.target) == (line_of(recipe, "self.start = start"), "self.start")
    assert found.expected == "a copy of start"
    assert found.edit == ("start", "start.copy()")
    changing = line_of(recipe, "states[t] = s")
    assert f"line {changing} changes its array" in found.noticed[0]
    assert found.mended == ("W",)
    mended = text.replace("self.start = start", "self.start = start.copy()")
    assert wrong(view(tmp_path, mended)) == []


ARCTAN = VIEW.replace("np.tanh(np.hst", "np.arctan(np.hst").replace("1 - s ** 2", "np.cos(s) ** 2")


@pytest.mark.parametrize("text", [VIEW, ARCTAN], ids=["recognised", "a cell of one's own"])
def test_what_is_met_at_the_first_step_tells_two_names_apart(tmp_path, text):
    """h_1, where the initial state is written over, at each length; h_T where an index wraps."""
    cause, *_ = tt.check(Program(view(tmp_path, text)).target(), progress=False).causes
    assert (cause.fault, cause.alternatives) == ("initial_state_overwritten", ())
    wraps = text.replace(" if t else self.start", "")
    cause, *_ = tt.check(Program(view(tmp_path, wraps)).target(), progress=False).causes
    assert (cause.fault, cause.alternatives) == ("wrapped_initial_state", ())


def test_where_all_directions_are_seen_both_names_are_given(tmp_path):
    """Of as many sequences as units: what the weights meet may be anything."""
    text = ARCTAN.replace("len(xs), 3, 4", "len(xs), 5, 4")
    recipe = view(tmp_path, text)
    setup = recipe.setup.replace("(4, 3, 2)", "(4, 5, 2)").replace("(4, 3, 4)", "(4, 5, 4)")
    for cause in tt.check(Program(replace(recipe, setup=setup)).target(), progress=False).causes:
        assert "initial_state_overwritten" in (cause.fault, *cause.alternatives)
        assert cause.confidence <= 0.5


def test_a_state_that_wraps_around_is_blamed_where_it_is_named(tmp_path):
    """The division at the end is right, and no sum that is a number is offered for it."""
    text = AVERAGED.replace(" if t else self.start", "").replace("/= 3", "/= self.xs.shape[1]")
    recipe = view(tmp_path, text)
    (found,) = wrong(recipe)
    assert found.line == line_of(recipe, "before = self.states[t - 1]")
    assert found.noticed == ("right at all steps but the first",)
    shown = suspected(Program(recipe))  # as the search for a mend has it
    assert shown
    assert not any("/=" in str(f.edit) or "(1 - " in str(f.edit) for f in shown)


def test_beside_a_mean_at_the_end_what_is_added_up_is_a_multiple(tmp_path):
    text = AVERAGED.replace("self.start = start", "self.start = start.copy()")
    recipe = view(tmp_path, text.replace("hstack([x, before])", "hstack([x, s])"))
    (found,) = wrong(recipe)
    assert found.line == line_of(recipe, "dW = np.hstack")
    assert found.expected == "3 · ∂L/∂W, the part of one step"


def test_a_loop_that_leaves_steps_out_is_wrong_and_not_the_sum_in_it(tmp_path):
    recipe = last_step(tmp_path)
    (found,) = wrong(recipe)
    assert found.line == line_of(recipe, "for t in steps")
    assert found.expected == "run for 3 steps"
    assert f"made in line {line_of(recipe, 'steps = [')}" in found.noticed[1]
    meanings = {f.line: f.meaning for f in confirmed(recipe, 0)}
    assert meanings[line_of(recipe, "dW +=")] == "∂L/∂W, the part of the last step"
    whole = LAST_STEP.replace("steps = [len(self.joined) - 1]", "steps = range(4)[::-1]")
    assert wrong(last_step(tmp_path, whole.replace("range(4)", "range(len(self.joined))"))) == []


def test_a_product_with_an_operand_is_written_as_one_would(tmp_path):
    recipe = reset(tmp_path, RESET.replace("(r * h).T", "h.T"))
    (found,) = wrong(recipe)
    assert found.line == line_of(recipe, 'g["Un"] +=')
    assert found.edit == ("dn @ h.T", "dn @ (r * h).T")
    assert wrong(reset(tmp_path)) == []


def test_nothing_is_said_twice(tmp_path):
    """What is wrong is never said to be what it should be."""
    for make in (overwritten, activation, last_step, view, reset):
        for found in confirmed(make(tmp_path), 0):
            assert not any(text.endswith(f"is {found.expected}") for text in found.noticed)
        assert "∂L/∂W; it is ∂L/∂W." not in summary(confirmed(make(tmp_path), 0))


def test_a_loop_that_is_left_early_is_said_to_be(tmp_path):
    text = LAST_STEP.replace("[len(self.joined) - 1]", "range(len(self.joined) - 1, -1, -1)")
    recipe = last_step(tmp_path, f"{text}".replace("dz)[3:]", "dz)[3:]; ends = t == 1"))
    assert wrong(recipe) == []
    text = text.replace("dz)[3:]", "dz)[3:]\n            if t == 1:\n                break")
    recipe = last_step(tmp_path, text)
    (found,) = wrong(recipe)
    assert found.noticed[1] == f"it may be left in line {line_of(recipe, 'break')}"


def test_values_in_a_tuple_that_is_overwritten_are_seen_too(tmp_path):
    text = ACTIVATION.replace("np.tanh(v)", "np.tanh(v)\n        self.kept = v, self.made")
    text = text.replace("self.dv = dv", "v, made = self.kept\n        self.dv = dv")
    recipe = activation(tmp_path, text.replace("1 - self.made", "1 - made"))
    (found,) = wrong(recipe)
    assert (found.target, found.mended) == ("made", ("A", "B"))


# δ of each step's forget gate is wrong, and 0 at the first step, where the cell's state is 0; the
# gradients of the weights are added up afterwards, from what a dictionary keeps by name.
KEPT_IN_ROWS = """
import numpy as np

def sigmoid(v):
    return 1 / (1 + np.exp(-v))

class Net:
    def __init__(self, size=3):
        draw = np.random.default_rng(1)
        self.w = {k: draw.standard_normal((size, 1)) * 0.7 for k in ("uf", "ui")}
        self.w |= {k: draw.standard_normal((size, size)) * 0.5 for k in ("wf", "wi")}
        self.size, self.g = size, {}

    def forward(self, xs):
        n = len(xs)
        self.xs = xs
        self.h, self.c, self.f, self.i = (np.zeros((n + 1, self.size)) for _ in range(4))
        for t in range(1, n + 1):
            x, h = xs[t - 1].reshape(1), self.h[t - 1]
            self.f[t] = sigmoid(self.w["uf"] @ x + self.w["wf"] @ h)
            self.i[t] = np.tanh(self.w["ui"] @ x + self.w["wi"] @ h)
            self.c[t] = self.f[t] * self.c[t - 1] + self.i[t]
            self.h[t] = np.tanh(self.c[t])
        return self.h[n]

    def backward(self, dh):
        n = len(self.xs)
        odd = 0.3 + np.arange(n)[:, None]
        self.g["bf"] = dh * odd * self.c[:n] * self.f[1:] * (1 - self.f[1:])
        self.g["bi"] = dh * odd * (1 - self.i[1:] ** 2)
        for name in self.w:
            self.g[name] = np.zeros_like(self.w[name])
        for t in range(1, n + 1):
            self.g["uf"] += np.outer(self.g["bf"][t - 1], self.xs[t - 1])
            self.g["wf"] += np.outer(self.g["bf"][t - 1], self.h[t - 1])
            self.g["ui"] += np.outer(self.g["bi"][t - 1], self.xs[t - 1])
            self.g["wi"] += np.outer(self.g["bi"][t - 1], self.h[t - 1])
"""


def test_a_sum_of_what_is_0_at_first_and_wrong_then_is_not_blamed(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(KEPT_IN_ROWS)
    names = "uf", "ui", "wf", "wi"
    recipe = Recipe(
        path,
        setup="net = Net(); x = np.random.randn(4, 1); d = np.random.randn(3)",
        loss="loss = np.sum(d * net.forward(x))",
        gradient="net.forward(x); net.backward(d)",
        parameters={name: f"net.w[{name!r}]" for name in names},
        gradients={name: f"net.g[{name!r}]" for name in names},
    )
    assert wrong(recipe) == []
    summed = 'self.g["uf"] +='
    (said,) = (f for f in confirmed(recipe, 0) if f.line == line_of(recipe, summed))
    assert said.doubtful
    assert set(said.doubtful) <= {line_of(recipe, 'self.g["bf"] =')}
