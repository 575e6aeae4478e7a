"""What `throughtime demo` breaks and has diagnosed: the LSTM that is written by hand."""

import subprocess
import sys

import pytest

import throughtime as tt
from throughtime.cli.demo_lstm import MISTAKES, faulty_lstm


def test_without_its_mistakes_the_gradient_agrees():
    assert tt.check(faulty_lstm(mistakes=())).verdict == "agree"


@pytest.mark.parametrize("mistakes", [*((one,) for one in MISTAKES), MISTAKES], ids=" and ".join)
def test_its_mistakes_are_named(mistakes):
    report = tt.check(faulty_lstm(mistakes))
    assert report.verdict == "disagree"
    assert {cause.fault for cause in report.causes} == set(mistakes)


def test_it_is_the_same_network_at_another_length():
    target = faulty_lstm()
    shorter = target.at_length(7)
    assert shorter.steps == 7
    assert shorter.parameters is target.parameters
    assert 0 < shorter.loss() < target.loss()


def test_the_demo_needs_nothing_that_is_not_shipped(tmp_path):
    code = (
        "import sys; sys.modules['benchmarks'] = sys.modules['corpus'] = None\n"
        "import throughtime.cli.demo, throughtime.cli.demo_lstm"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
