"""A line that is right for what its function ought to be given: the fault is at the call."""

import pytest

from throughtime.source import Recipe
from throughtime.source.lines.annotate import annotate, first_wrong
from throughtime.source.lines.call_changes import _other_steps
from throughtime.source.mending.mend import mend
from throughtime.source.recipe import Program

ELMAN = '''
"""An Elman network whose step back is a method; it is told the state before by its caller."""
import numpy as np


class Elman:
    def __init__(self, inputs=2, units=3, outputs=2):
        draw = np.random.RandomState(3).randn
        self.W, self.U, self.V = draw(units, inputs), draw(units, units), draw(outputs, units)

    def forward(self, xs):
        states, answers = np.zeros((len(xs), self.U.shape[0], 1)), []
        for t in range(len(xs)):
            before = states[t - 1] if t > 0 else np.zeros((self.U.shape[0], 1))
            states[t] = np.tanh(self.W @ xs[t] + self.U @ before)
            answers.append(self.V @ states[t])
        return states, np.array(answers)

    def loss(self, answers, ys):
        return 0.5 * np.sum((answers - ys) ** 2)

    def step_back(self, x, state, error, before, following):
        delta = (self.V.T @ error + self.U.T @ following) * (1 - state**2)
        self.dV += error @ state.T
        self.dU += delta @ before.T
        self.dW += delta @ x.T
        return delta

    def backward(self, xs, ys, states, answers):
        zero = np.zeros((self.U.shape[0], 1))
        self.dW, self.dU, self.dV = self.W * 0, self.U * 0, self.V * 0
        deltas = np.zeros((len(xs) + 1, self.U.shape[0], 1))
        for t in reversed(range(len(xs))):
            deltas[t] = self.step_back(
                xs[t], states[t], answers[t] - ys[t], GIVEN, deltas[t + 1]
            )
'''


@pytest.fixture
def elman(tmp_path):
    return Recipe(
        tmp_path / "elman.py",
        setup="net = Elman(); x = np.random.randn(5, 2, 1); y = np.random.randn(5, 2, 1)",
        loss="s, a = net.forward(x); loss = net.loss(a, y)",
        gradient="s, a = net.forward(x); net.backward(x, y, s, a)",
        parameters={"W": "net.W", "U": "net.U", "V": "net.V"},
        gradients={"W": "net.dW", "U": "net.dU", "V": "net.dV"},
        steps={"x": 0, "y": 0},
    )


def found_in(recipe, given):
    recipe.path.write_text(ELMAN.replace("GIVEN", given))
    findings = annotate(Program(recipe))
    return first_wrong(findings), [f.line for f in findings if f.status == "wrong"]


def within(text):
    return next(n for n, line in enumerate(ELMAN.split("\n"), start=1) if text in line)


def test_the_state_after_for_the_state_before_is_wrong_where_it_is_given(elman):
    first, wrong = found_in(elman, "states[t + 1] if t < len(xs) - 1 else zero")
    assert wrong == [within("= self.step_back(")]
    assert first.expected == "states[t - 1] if t > 0 else zero"


def test_where_no_argument_fits_neither_the_line_nor_the_call_is_accused(elman):
    first, wrong = found_in(elman, "np.sin(7 * states[t]) + states[0]")
    assert not wrong
    assert first.line == within("delta @ before.T")
    assert first.doubtful == (within("= self.step_back("),)
    assert first.noticed[-1].startswith("unless before")


def test_before_the_first_step_there_is_no_state_to_give(elman):
    first, wrong = found_in(elman, "states[t]")
    assert wrong == [within("= self.step_back(")]
    assert first.expected == "states[t - 1] if t > 0 else np.zeros_like(states[t])"


def test_a_line_that_a_change_of_its_own_makes_right_is_accused_alone(elman):
    elman.path.write_text(
        ELMAN.replace("GIVEN", "states[t - 1] if t > 0 else zero").replace(
            "self.dU += delta @ before.T", "self.dU += delta @ state.T"
        )
    )
    findings = annotate(Program(elman))
    assert [f.line for f in findings if f.status == "wrong"] == [within("delta @ before.T")]
    assert first_wrong(findings).edit == ("delta @ state.T", "delta @ before.T")


def test_the_call_is_mended(elman):
    elman.path.write_text(ELMAN.replace("GIVEN", "states[t + 1] if t < len(xs) - 1 else zero"))
    found = mend(elman, progress=False)
    assert found.is_mended, str(found)
    after = found.after[elman.path.resolve()].replace(" ", "")
    assert "delta@before.T" in after
    assert "states[t-1]ift>0elsezero,deltas[t+1]" in after


def test_an_argument_of_another_step_where_the_steps_are_the_second_axis(elman):
    """As of a batch: how many steps there are is the size of that axis."""
    text = ELMAN.replace("GIVEN", "kept[:, t]").replace(
        "        zero = ", "        kept = states.transpose(1, 0, 2)\n        zero = "
    )
    elman.path.write_text(text)
    first = first_wrong(annotate(Program(elman)))
    assert first.expected == "kept[:, t - 1] if t > 0 else np.zeros_like(kept[:, t])"
    assert list(_other_steps("kept[:, t]"))[-1] == (
        "kept[:, t + 1] if t < kept.shape[1] - 1 else np.zeros_like(kept[:, t])"
    )
