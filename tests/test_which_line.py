"""The line that is wrong, as a report says it, and the tutorial that leads to it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from quoted_output import quoted
from throughtime import cli
from throughtime.gradcheck import Cause, SourceLine
from throughtime.source import LineFinding, Recipe, which_line
from throughtime.source.lines.which_line import ONCE, _says_more, agreed, summary

ROOT = Path(__file__).parents[1]

FEW = ["--evaluations", "400"]
RNN = """
import numpy as np

class RNN:
    def __init__(self, input_size, hidden_size):
        self.W = np.random.randn(hidden_size, input_size) * 0.5

    def forward(self, x):
        self.x, self.h = x, [np.zeros(len(self.W))]
        for t in range(len(x)):
            self.h.append(np.tanh(self.W @ x[t] + self.h[-1]))
        return np.array(self.h[1:])

    def backward(self, dh):
        self.dW, carried = np.zeros_like(self.W), 0
        for t in reversed(range(len(self.x))):
            dz = (dh[t] + carried) * (1 - self.h[t + 1] ** 2)
            self.dW += np.outer(dz, self.x[t])
            carried = SIGN dz
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_tutorial_shows_what_its_commands_print(here, capfd):
    """From a file with a mistake to its cause, the line, the diff, and a gradient that agrees."""
    page = (ROOT / "docs" / "tutorial-own-lstm.md").read_text("utf-8")
    Path("my_lstm.py").write_text((ROOT / "examples" / "my_lstm.py").read_text("utf-8"))
    for command in re.findall(r"^\$ throughtime (.*)$", page, re.MULTILINE):
        cli.main(command.split())
    assert quoted(page, capfd.readouterr().out) == 6


def test_in_a_notebook_the_cell_is_said(here, capfd):
    code = {"cell_type": "code", "metadata": {}, "outputs": []}
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "# A network"},
        {**code, "source": "import numpy as np\nseed = 1"},
        {**code, "source": RNN.replace("SIGN", "-").splitlines(keepends=True)},
    ]
    book = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    Path("net.ipynb").write_text(json.dumps(book))
    cli.main(["check", "net.ipynb", *FEW])
    said = " ".join(capfd.readouterr().out.split())
    assert re.search(
        r"counted through all code cells: line \d+ is net\.ipynb, cell 2, line 19\.", said
    )


@pytest.mark.parametrize("sign", ["-", "+"])
def test_a_report_says_the_line_in_all_its_forms(here, capfd, sign):
    Path("rnn.py").write_text(RNN.replace("SIGN", sign))
    status = cli.main(["check", "rnn.py:RNN", *FEW, "--json", "r.json", "--html", "r.html"])
    said, data = capfd.readouterr().out, json.loads(Path("r.json").read_text())
    page = Path("r.html").read_text("utf-8")
    if sign == "+":
        assert status == 0
        assert "Which line" not in said + page
        assert data["lines"] is None
        return
    assert status == 1
    assert "Line 19 is wrong: carried should be" in said
    assert said.rstrip().endswith("`throughtime mend rnn.py:RNN` looks for the edit that mends it.")
    wrong = [line["line"] for line in data["lines"]["lines"] if line["status"] == "wrong"]
    assert wrong == [19]
    listed = [line["line"] for line in data["lines"]["lines"]]
    assert listed == list(range(14, 20))  # the whole function
    assert page.count('<tr class="wrong">') == 1
    assert "<code>            carried = - dz</code>" in page


def test_the_lines_can_be_left_out(here, capfd):
    Path("rnn.py").write_text(RNN.replace("SIGN", "-"))
    assert cli.main(["check", "rnn.py", "--no-lines", *FEW]) == 1
    assert "Which line" not in capfd.readouterr().out


# Two looks that agree, and two that do not.

WRONG = LineFinding(
    Path("a.py"), 8, 8, "backward", "dc", "wrong", expected="∂L/∂c_t",
    noticed=("it is 3 times that", "equals it with f for i"), edit=("i", "f"), mended=("U",),
    order=1,
)  # fmt: skip
FOLLOWS = replace(WRONG, line=9, status="follows", expected="", noticed=(), edit=None, order=0)
RIGHT = replace(FOLLOWS, line=7, status="right", meaning="∂L/∂h_t")


def test_what_both_looks_say_is_said():
    other = replace(WRONG, noticed=("equals it with f for i",))
    found = agreed((RIGHT, WRONG, FOLLOWS), (RIGHT, other, FOLLOWS))
    assert [finding.status for finding in found] == ["right", "wrong", "follows"]
    assert found[1].noticed == ("equals it with f for i",)  # the factor was a coincidence
    assert summary(found).startswith("Line 8 is wrong: dc should be ∂L/∂c_t; equals it with")


@pytest.mark.parametrize(
    "second",
    [
        (),
        (replace(WRONG, line=7),),
        (replace(WRONG, expected="∂L/∂o_t"),),
        (replace(WRONG, status="unknown"),),
    ],
    ids=["not looked at", "another line", "another value", "in doubt"],
)
def test_a_line_that_is_wrong_at_one_point_alone_is_a_doubt(second):
    found = agreed((RIGHT, WRONG, FOLLOWS), second)
    assert "wrong" not in {finding.status for finding in found}
    assert "follows" not in {finding.status for finding in found}
    assert found[1].noticed == (ONCE,)
    assert found[1].edit is None
    assert summary(found) == "It is not certain. Line 8 may be wrong."


def test_a_multiple_of_a_derivative_is_not_marked_as_right():
    multiple = replace(RIGHT, meaning="3 · ∂L/∂h_t")
    line = SourceLine("a.py", 7, 7, "dh = dy", "right", meaning=multiple.meaning)
    assert line.mark == "∝"
    assert replace(line, meaning="∂L/∂h_t").mark == "✓"
    assert "lines marked ∝" in summary((multiple,))


def test_a_derivative_by_coincidence_is_none():
    (found,) = agreed((RIGHT,), (replace(RIGHT, status="unknown", meaning=""),))
    assert (found.status, found.meaning) == ("unknown", "")


def test_the_lines_lead_where_the_causes_say_less():
    def leads(*causes):
        return _says_more([WRONG], SimpleNamespace(causes=causes, tensors={"U": 0, "W": 0}))

    sure = Cause("recurrent_untransposed", "", "", confidence=0.99)
    assert leads()
    assert leads(replace(sure, fault="between_steps"))
    assert leads(replace(sure, confidence=0.5))
    assert leads(replace(sure, where="W"))
    assert not leads(replace(sure, where="U"))
    assert not leads(sure)


def test_a_search_that_fails_leaves_one_sentence(here):
    Path("rnn.py").write_text("import numpy as np\n")
    recipe = Recipe(here / "rnn.py", "1 / 0", "loss = 0", "", {}, {})
    found = which_line(recipe, SimpleNamespace(causes=()), 0)
    assert found.summary.startswith("It is not known, since the lines could not be looked at: ")
    assert found.lines == ()
