"""The pytest plugin: what passes, what fails, and what a failure looks like."""

import importlib.util
import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

EXAMPLES = """
import numpy as np
import pytest
import throughtime as tt

W = np.random.default_rng(0).standard_normal((3, 2))
x = np.random.default_rng(1).standard_normal((5, 3))


def target(factor=1.0, offset=None):
    def loss():
        terms = (np.tanh(x @ W) ** 2).sum(axis=1)
        return terms if offset is None else np.float32(offset + terms.sum())

    def gradient():
        y = np.tanh(x @ W)
        return {"W": factor * x.T @ (2 * y * (1 - y**2))}

    return tt.Target({"W": W}, loss, gradient)


def test_right(assert_gradients):
    report = assert_gradients(target())
    assert report.verdict == "agree"


def test_network(assert_gradients):
    net = tt.Network([tt.RNN(2, 3)], tt.MeanSquaredError(), dtype="float64")
    assert_gradients(net, np.ones((4, 1, 2)), np.zeros((4, 1, 3)), k1=2, seed=3)
"""

WRONG = """
def test_wrong(assert_gradients):
    assert_gradients(target(1 / 5))
"""

UNRESOLVED = """
def test_vague(assert_gradients):
    assert_gradients(target(offset=1e6){option})
"""


@pytest.fixture
def run(pytester):
    """Runs tests in a file that begins with the examples."""

    def run(text="", *arguments):
        pytester.makepyfile(EXAMPLES + text)
        return pytester.runpytest("-p", "no:cacheprovider", *arguments)

    return run


def test_the_example_of_the_docs_passes(pytester):
    page = Path(__file__).parents[1] / "docs" / "testing.md"
    example = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[0]
    pytester.makepyfile(example)
    pytester.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_right_gradients_pass(run):
    run().assert_outcomes(passed=2)


def test_a_wrong_gradient_fails_with_the_table_and_no_traceback(run):
    result = run(WRONG)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_wrong _*",
            "DISAGREE: the gradient and the numerical one are d = 0.667 apart*",
            "tensor  verdict *",
            "W       disagree*",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    # Where a frame of a stack would stand: "test_it.py:12: …", not "test_it.py::test_wrong - …".
    result.stdout.no_re_match_line(r".*test_\w+\.py:\d+: ")
    result.stdout.no_fnmatch_line("*assert_gradients(target*")


@pytest.mark.parametrize(
    ("choice", "outcome"), [("", "failed"), ("fail", "failed"), ("skip", "skipped"), ("pass", "")]
)
@pytest.mark.parametrize("where", ["in the call", "in the ini file"])
def test_what_becomes_of_an_unresolved_check(run, pytester, choice, outcome, where):
    option = f', unresolved="{choice}"' if choice and where == "in the call" else ""
    if choice and where == "in the ini file":
        pytester.makeini(f"[pytest]\nthroughtime_unresolved = {choice}")
    result = run(UNRESOLVED.format(option=option), "-rs")
    outcomes = {"passed": 2 + (not outcome)} | ({outcome: 1} if outcome else {})
    result.assert_outcomes(**outcomes)
    if outcome:
        result.stdout.fnmatch_lines("*UNRESOLVED: *")


def test_a_check_that_cannot_run_says_why(run):
    result = run(
        """
def test_broken(assert_gradients):
    rng = np.random.default_rng(0)
    assert_gradients(tt.Target({"W": W}, rng.random, lambda: {"W": W}))
"""
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["the gradient could not be checked", "", "loss: expected the same number *"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


def test_ctrl_c_during_a_diagnosis_ends_the_session_after_the_table(run):
    result = run(
        """
def test_interrupted(assert_gradients):
    wrong, calls = target(1 / 5), []

    def loss(last):
        calls.append(1)
        if len(calls) == last:
            raise KeyboardInterrupt
        return wrong.loss()

    tt.check(tt.Target({"W": W}, lambda: loss(None), wrong.gradient), diagnose=False)
    last = 2 * len(calls) + 5  # in the diagnosis of a second check
    assert_gradients(tt.Target({"W": W}, lambda: loss(last), wrong.gradient))


def test_after_it():
    pass
"""
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["W       disagree*", "*The diagnosis was interrupted; *"])
    result.stdout.fnmatch_lines("*Interrupted: Ctrl-C*")


def test_an_error_in_the_users_own_code_keeps_its_traceback(run):
    result = run(
        """
def test_broken(assert_gradients):
    assert_gradients(tt.Target({"W": W}, lambda: 1 / 0, lambda: {"W": W}))
"""
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines("*ZeroDivisionError*")


@pytest.mark.parametrize("how", ["option", "ini"])
def test_effort(run, pytester, how):
    arguments = ["--throughtime-effort", "quick"] if how == "option" else []
    if how == "ini":
        pytester.makeini("[pytest]\nthroughtime_effort = quick")
    result = run(
        """
def test_effort(assert_gradients):
    assert assert_gradients(target()).effort == "quick"
    assert assert_gradients(target(), effort="exhaustive").effort == "exhaustive"
""",
        *arguments,
    )
    result.assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("throughtime_effort = great", "throughtime_effort: expected one of quick, normal, exh*"),
        ("throughtime_unresolved = no", "throughtime_unresolved: expected one of fail, skip, p*"),
    ],
)
def test_values_that_mean_nothing(run, pytester, line, message):
    pytester.makeini(f"[pytest]\n{line}")
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(f"*{message}")


def test_an_unknown_choice_in_the_call(run):
    result = run(UNRESOLVED.format(option=', unresolved="maybe"'))
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines("*unresolved: expected one of 'fail', 'skip', 'pass', got 'maybe'")


@pytest.mark.skipif(not importlib.util.find_spec("xdist"), reason="needs pytest-xdist")
def test_under_xdist_and_in_the_junit_file(pytester):
    pytester.makepyfile(EXAMPLES + WRONG)
    result = pytester.runpytest_subprocess("-n", "1", "--junitxml", "junit.xml")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines("DISAGREE: *")
    text = (pytester.path / "junit.xml").read_text(encoding="utf-8")
    assert '<property name="gradient" value="AGREE: ' in text
    assert '<property name="gradient" value="DISAGREE: ' in text


def test_pytest_starts_without_the_package(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_before(request):
            assert "pytest_throughtime" in sys.modules
            assert "throughtime" not in sys.modules
            request.getfixturevalue("assert_gradients")
            assert "throughtime" not in sys.modules
        """
    )
    pytester.runpytest_subprocess("-p", "no:sybil").assert_outcomes(passed=1)
