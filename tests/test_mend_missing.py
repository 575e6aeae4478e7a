"""Statements that are missing altogether: a mend has to find what would stand there."""

from dataclasses import replace

import pytest

from throughtime.source import Recipe
from throughtime.source.lines.annotate import first_wrong
from throughtime.source.lines.which_line import confirmed
from throughtime.source.mending.mend import mend

READER = '''
"""An LSTM cell gate by gate, columns, one answer at each step."""
import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


class Reader:
    def __init__(self, inputs=2, units=3, outputs=2):
        draw = np.random.RandomState(1).randn
        for gate in "figo":
            setattr(self, f"W{gate}", draw(units, units + inputs))
            setattr(self, f"b{gate}", draw(units, 1))
        self.V, self.e, self.units = draw(outputs, units), draw(outputs, 1), units

    def run(self, xs):
        h = c = np.zeros((self.units, 1))
        self.kept, answers = [], []
        for x in xs:
            z, before = np.vstack([h, x]), c
            f, i = sigmoid(self.Wf @ z + self.bf), sigmoid(self.Wi @ z + self.bi)
            g, o = np.tanh(self.Wg @ z + self.bg), sigmoid(self.Wo @ z + self.bo)
            c = f * before + i * g
            s = np.tanh(c)
            h = o * s
            self.kept.append((z, before, f, i, g, o, s, h))
            answers.append(self.V @ h + self.e)
        return answers

    def backward(self, errors):
        dWf, dWi, dWg, dWo = (np.zeros_like(W) for W in (self.Wf, self.Wi, self.Wg, self.Wo))
        dbf, dbi, dbg, dbo = (np.zeros_like(b) for b in (self.bf, self.bi, self.bg, self.bo))
        dV, de = np.zeros_like(self.V), np.zeros_like(self.e)
        dh_next, dc_next = np.zeros((self.units, 1)), np.zeros((self.units, 1))
        for t in reversed(range(len(errors))):
            z, before, f, i, g, o, s, h = self.kept[t]
            dy = np.copy(errors[t])
            dV += dy @ h.T
            de += dy
            dh = self.V.T @ dy + dh_next
            dc = dh * o * (1 - s**2) + dc_next
            dzo = dh * s * o * (1 - o)
            dzf = dc * before * f * (1 - f)
            dzi = dc * g * i * (1 - i)
            dzg = dc * i * (1 - g**2)
            dWf += dzf @ z.T
            dbf += dzf
            dWi += dzi @ z.T
            dbi += dzi
            dWg += dzg @ z.T
            dbg += dzg
            dWo += dzo @ z.T
            dbo += dzo
            dz = self.Wf.T @ dzf + self.Wi.T @ dzi + self.Wg.T @ dzg + self.Wo.T @ dzo
            dh_next = dz[: self.units]
            dc_next = dc * f
        return dWf, dWi, dWg, dWo, dbf, dbi, dbg, dbo, dV, de
'''
NAMES = ("Wf", "Wi", "Wg", "Wo", "bf", "bi", "bg", "bo", "V", "e")


@pytest.fixture
def recipe(tmp_path):
    return Recipe(
        tmp_path / "reader.py",
        setup="net = Reader(); x = np.random.randn(4, 2, 1); y = np.random.randn(4, 2, 1)",
        loss="loss = sum(0.5 * np.sum((a - b) ** 2) for a, b in zip(net.run(x), y))",
        gradient="grads = net.backward([a - b for a, b in zip(net.run(x), y)])",
        parameters={name: f"net.{name}" for name in NAMES},
        gradients={name: f"grads[{n}]" for n, name in enumerate(NAMES)},
        steps={"x": 0, "y": 0},
    )


def mended(recipe, *faults):
    text = READER
    for right, mistaken in faults:
        assert right in text
        text = text.replace(right, mistaken)
    recipe.path.write_text(text)
    found = mend(recipe, progress=False)
    assert found.is_mended, str(found)
    return found


@pytest.mark.parametrize(
    ("name", "statement"),
    [("e", "de += dy"), ("bi", "dbi += dzi"), ("Wg", "dWg += dzg @ z.T")],
)
def test_a_gradient_that_nothing_is_added_to_gets_its_sum(recipe, name, statement):
    """One of two dozen tries: nothing else is tried before what stays 0."""
    found = mended(recipe, (f"            {statement}\n", ""))
    assert statement in found.after[recipe.path.resolve()]
    assert len(found.hunks) == 1
    assert found.tries < 1000


def test_several_gradients_that_nothing_is_added_to(recipe):
    lines = ("de += dy", "dbf += dzf", "dbo += dzo")
    found = mended(recipe, *((f"            {line}\n", "") for line in lines))
    assert all(line in found.after[recipe.path.resolve()] for line in lines)


def test_sums_without_a_beginning_get_one(recipe):
    """`dW = …` at each step, and no `dW` before the loop: `+=` alone would not run."""
    zeros = READER[READER.index("        dWf, dWi") : READER.index("        dV, de")]
    sums = [f"d{kind}{gate} +=" for kind in "Wb" for gate in "figo"]
    found = mended(recipe, (zeros, ""), *((each, each.replace("+=", "=")) for each in sums))
    after = found.after[recipe.path.resolve()]
    assert all(each in after for each in sums)
    assert after.count(" = 0\n") == len(sums)


@pytest.mark.parametrize(
    "faults",
    [
        [("            dc_next = dc * f\n", "")],
        [("            dc_next = dc * f\n", ""), (" + dc_next", ""), ("dc_next =", "_ =")],
        [("            dh_next = dz[: self.units]\n", "")],
        [(READER[READER.index("            dz = ") : READER.index("            dc_next")], "")],
    ],
    ids=["dc never set", "no dc", "dh never set", "nothing goes back through the gates"],
)  # fmt: skip
def test_what_is_handed_on_and_never_set_is_set(recipe, faults):
    found = mended(recipe, *faults)
    assert len(found.hunks) == 1


LAYERS = '''
"""A layer whose unit is called once for each step, and back as often."""
import numpy as np


class Unit:
    def __init__(self, inputs, units):
        self.W, self.U = np.random.randn(units, inputs), np.random.randn(units, units)

    def forward(self, x, h):
        self.x, self.before = x, h
        self.after = np.tanh(self.W @ x + self.U @ h)
        return self.after

    def backward(self, dh):
        """Of one step."""
        dz = dh * (1 - self.after**2)
        self.dW += np.outer(dz, self.x)
        self.dU += np.outer(dz, self.before)
        return self.U.T @ dz


class Layer:
    def __init__(self, inputs, units):
        self.unit = Unit(inputs, units)

    def run(self, xs):
        h = np.zeros(len(self.unit.U))
        for x in xs:
            h = self.unit.forward(x, h)
        return h

    def back(self, dh, count):
        self.unit.dW, self.unit.dU = np.zeros_like(self.unit.W), np.zeros_like(self.unit.U)
        for _ in range(count):
            dh = self.unit.backward(dh)
'''


@pytest.fixture
def layers(tmp_path):
    return Recipe(
        tmp_path / "layers.py",
        setup="net = Layer(2, 3); x = np.random.randn(4, 2); y = np.random.randn(3)",
        loss="loss = 0.5 * np.sum((net.run(x) - y) ** 2)",
        gradient="net.back(net.run(x) - y, len(x))",
        parameters={"W": "net.unit.W", "U": "net.unit.U"},
        gradients={"W": "net.unit.dW", "U": "net.unit.dU"},
        steps={"x": 0},
    )


def test_what_each_step_overwrites_is_kept_for_each(layers):
    layers.path.write_text(LAYERS)
    found = mend(layers, progress=False)
    assert found.is_mended, str(found)
    after = found.after[layers.path.resolve()]
    assert "self.x, self.before, self.after = self.steps.pop()" in after
    assert after.index('"""Of one step."""') < after.index("pop()") < after.index("dz = ")


def test_it_is_kept_beside_other_faults_and_where_the_loss_runs_both_passes(layers):
    """Nothing agrees as yet once it is kept, and all is nearer to right."""
    text = LAYERS.replace("(1 - self.after**2)", "(1 - np.tanh(self.after) ** 2)")
    layers.path.write_text(text)
    both = replace(layers, loss=f"{layers.gradient}; {layers.loss}", steps={})
    found = mend(both, progress=False)
    assert found.is_mended, str(found)
    after = found.after[layers.path.resolve()]
    assert "self.x, self.before, self.after = self.steps.pop()" in after
    assert "(1 - self.after ** 2)" in after


@pytest.mark.parametrize(
    "terms",
    [
        (" + self.Wi.T @ dzi", " + self.Wo.T @ dzo"),
        (" + self.Wi.T @ dzi", " + self.Wg.T @ dzg", " + self.Wo.T @ dzo"),
    ],
)
def test_several_terms_that_a_sum_lacks_are_found_together(recipe, terms):
    found = mended(recipe, *((term, "") for term in terms))
    assert len(found.hunks) == 1
    assert all(term in found.after[recipe.path.resolve()] for term in terms)


@pytest.mark.parametrize(
    ("right", "mistaken"),
    [("dc = dh * o * (1 - s**2)", "dc = dh * (1 - s**2)"), ("dc * before * f", "dc * f")],
)
def test_the_line_that_lacks_an_operand_is_blamed_and_not_what_it_is_made_of(
    recipe, right, mistaken
):
    """With δh · o in place of δh more would agree; but δh is right, and so is its other use."""
    recipe.path.write_text(READER.replace(right, mistaken))
    line = READER[: READER.index(right)].count("\n") + 1
    found = first_wrong(confirmed(recipe, 0))
    assert found is not None
    assert (found.line, found.status) == (line, "wrong")


def test_a_sum_that_each_step_begins_anew_is_blamed_there(recipe):
    zeros = "            dWi = np.zeros_like(self.Wi)\n"
    loop = "            z, before, f"
    recipe.path.write_text(READER.replace(loop, zeros + loop))
    found = first_wrong(confirmed(recipe, 0))
    assert found is not None
    assert found.edit == (zeros.strip(), "")
    assert found.line == READER[: READER.index(loop)].count("\n") + 1


def test_a_right_file_has_no_sum_that_is_missing(recipe):
    recipe.path.write_text(READER)
    found = mend(recipe, progress=False)
    assert found.is_mended
    assert not found.hunks
