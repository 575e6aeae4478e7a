"""A place in a user's own file: what is missing in it is said before any of it is run."""

import json
import subprocess
import sys

import pytest

from helpers import RNN_CLASS
from throughtime.cli import FAILED, main

LSTM_NET = (
    RNN_CLASS.replace("RNN", "LSTMClassifier")
    + """

def make_data():
    print("data")
    return np.ones(3), np.ones(3)


raise SystemExit("run")
"""
)
FUNCTIONS = """
import numpy as np


def step_forward(p, x):
    hs = [np.zeros(len(p["U"]))]
    for t in range(len(x)):
        hs.append(np.tanh(p["W"] @ x[t] + p["U"] @ hs[-1]))
    return hs


def step_backward(p, x, hs, y):
    dW, dU, dh = np.zeros_like(p["W"]), np.zeros_like(p["U"]), hs[-1] - y
    for t in reversed(range(len(x))):
        dz = dh * (1 - hs[t + 1] ** 2)
        dW += np.outer(dz, x[t])
        dU += np.outer(dz, hs[t])
        dh = p["U"].T @ dz
    return {"W": dW, "U": dU}


def main():
    p = {"W": 0.3 * np.ones((4, 3)), "U": 0.3 * np.eye(4)}
    x, y = np.random.randn(7, 3), np.ones(4)
    for epoch in range(3):
        hs = step_forward(p, x)
        loss = 0.5 * np.sum((hs[-1] - y) ** 2)
        grads = step_backward(p, x, hs, y)
        for k in p:
            p[k] -= 0.1 * grads[k]
        print("epoch", epoch, loss)


def hello():
    print("epoch")


def seven():
    return 7
"""
SYNTAX = "import numpy as np\ndef f(x):\n    return (x +\n"
NOTEBOOK = {"cells": [{"cell_type": "code", "source": "x = 1\n"},
                      {"cell_type": "code", "source": "y = 2\nz = (1\n"}]}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lstm_net.py").write_text(LSTM_NET)
    (tmp_path / "gru_funcs.py").write_text(FUNCTIONS)
    (tmp_path / "syn.py").write_text(SYNTAX)
    (tmp_path / "syn.ipynb").write_text(json.dumps(NOTEBOOK))
    (tmp_path / "nonet.py").write_text("def area(r):\n    return 3.14 * r**2\n")
    (tmp_path / "stars.py").write_text("from numpy import *\n")
    return tmp_path


@pytest.mark.parametrize("command", ["check", "mend"])
@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("syn.py", "syn.py, line 3: syntax error: '(' was never closed"),
        ("syn.py:f", "syn.py, line 3: syntax error: '(' was never closed"),
        ("syn.ipynb", "syn.ipynb, cell 1, line 2: syntax error: '(' was never closed"),
        ("nofile.py", "target: expected an existing Python file or notebook, got nofile.py"),
        ("a/nofile.py:x", "target: expected an existing Python file or notebook, got a/nofile.py"),
        (
            "lstm_net.py:LTSM",
            "lstm_net.py: expected the name of a class or function in it, got 'LTSM'; "
            "did you mean LSTMClassifier? It also has make_data",
        ),
        (
            "lstm_net.py:xyz",
            "lstm_net.py: expected the name of a class or function in it, got 'xyz'; "
            "it has LSTMClassifier, make_data",
        ),
        (
            "lstm_net.py:LSTMClassifier.bakward",
            "lstm_net.py: expected the name of a method in it, got 'LSTMClassifier.bakward'; "
            "did you mean LSTMClassifier.backward? It also has LSTMClassifier.forward, "
            "LSTMClassifier.__init__",
        ),
        (
            "nonet.py",
            "nonet.py: expected functions or methods named as a forward and a backward pass, or a "
            "training step, got only area; if they have names of another kind, give the lines of a "
            'training step, nonet.py:120-184, or one of your own, --with "net = Net(5, 4); …',
        ),
        (
            "gru_funcs.py:hello",
            "gru_funcs.py:hello: expected functions or methods named as a forward and a backward "
            "pass, or a training step, got neither; leave the name out, and the whole file is "
            "searched, or give …",
        ),
    ],
)
def test_both_commands_say_the_same_of_a_place(here, capsys, command, place, said):
    assert main([command, place]) == FAILED
    out, error = capsys.readouterr()
    assert out == ""
    expected = f"throughtime {command}: {said.removesuffix('…')}"
    assert error.startswith(expected)
    assert said.endswith("…") or error == f"{expected}\n"


@pytest.mark.parametrize("place", ["stars.py:pi", "lstm_net.py:np"])
def test_names_that_may_be_there_are_looked_for_in_what_was_run(here, place):
    from throughtime.cli.places import look_at

    look_at(place)


def test_a_function_that_trains_is_searched_for_its_step_and_not_called(here, capsys):
    assert main(["check", "gru_funcs.py:main", "--effort", "quick"]) == 0
    out, error = capsys.readouterr()
    assert "found: the loop of line 25" in out
    assert "epoch" not in out + error


def test_a_function_that_returns_something_else_than_a_target(here, capsys):
    assert main(["check", "gru_funcs.py:seven"]) == FAILED
    error = capsys.readouterr().err
    assert "gru_funcs.py:seven: expected a Target, or what " in error
    expected = "; leave the name out to have the file itself looked through: throughtime check "
    assert error.endswith(f"{expected}gru_funcs.py\n")


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_method_is_its_class(here, capsys, method):
    place = f"lstm_net.py:LSTMClassifier.{method}"
    assert main(["check", place, "--effort", "quick"]) == 0
    assert "found: LSTMClassifier\n" in capsys.readouterr().out


def test_a_printed_target_names_the_file_from_the_folder_it_is_run_in(here, capsys):
    (here / "nets").mkdir()
    (here / "lstm_net.py").rename(here / "nets" / "lstm_net.py")
    assert main(["check", "nets/lstm_net.py", "--print-target"]) == 0
    printed = capsys.readouterr().out
    assert "    Path('nets/lstm_net.py'),  # from the folder in which this is run\n" in printed
    assert str(here) not in printed
    (here / "nets" / "test_net.py").write_text(printed)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "nets/test_net.py"]
    assert subprocess.run(command, cwd=here, capture_output=True).returncode == 0


def test_a_result_that_is_thrown_away_is_kept(tmp_path, capsys):
    path = tmp_path / "net.py"
    path.write_text(FUNCTIONS)
    step = (
        'p = {"W": np.random.randn(3, 2), "U": np.random.randn(3, 3)}; x = np.random.randn(6, 2); '
        "y = np.random.randn(3); hs = step_forward(p, x); loss = 0.5 * np.sum((hs[-1] - y) ** 2); "
    )
    call = "step_backward(p, x, hs, y)"
    for line in (call, f"grads = {call}"):
        assert main(["check", str(path), "--with", step + line, "--effort", "quick"]) == 0
        assert "parameters: W, U (2 arrays)" in capsys.readouterr().out
