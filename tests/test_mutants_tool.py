"""The tool that breaks backward passes: what it changes, and that it tells caught from survived."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture
def mutants_of(monkeypatch):
    spec = importlib.util.spec_from_file_location("mutations", TOOLS / "mutations.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mutations", module)
    spec.loader.exec_module(module)
    return module.mutants_of


def bodies(mutants_of, line):
    """What becomes of one line in a function; the Greek name shifts columns counted in bytes."""
    source = f"def δ(x, y, z):\n    {line}\n\ndef other(x):\n    return -x + x\n"
    found = mutants_of(source, frozenset({"δ"}))
    for mutant in found:
        compile(mutant.source, "mutant", "exec")
        assert mutant.source != source
        assert mutant.source.endswith("return -x + x\n")
        assert mutant.line == 2
    plain = [mutant.after.replace("(", "").replace(")", "") for mutant in found]
    assert len(set(plain)) == len(plain)
    return set(plain)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("return x + y", {"return x - y", "return x", "return y"}),
        ("return 'δ', 1 - x", {"return 'δ', 1 + x", "return 'δ', 1", "return 'δ', x"}),
        ("return x * y", {"return x", "return y"}),
        ("return x / y", {"return x", "return x * y"}),
        ("return x @ y", {"return y @ x"}),
        ("return x.T", {"return x"}),
        ("return x**2", {"return x"}),
        ("return -x", {"return x"}),
        ("return x[:-1]", {"return x[1:]"}),
        ("return x[1:]", {"return x[:-1]"}),
        ("return x[::-1]", {"return x[:]"}),
        ("return x[y:z]", {"return x[:z]", "return x[y:]"}),
        ("return where(x, y, z)", {"return y", "return z"}),
        ("return x if y else z", {"return x", "return z"}),
        ("return outer_sum(x, y)", {"return outer_sumy, x"}),
        ("return x < y", {"return x <= y"}),
        ("return x and y", {"return x", "return y"}),
        ("return not x", {"return x"}),
        ("return reversed(x)", {"return x"}),
        ("return x | y", {"return x", "return y"}),
        ("x += y", {"pass"}),
        ("x[y] = z", {"pass"}),
        ("if x: y = z", {"if False and x: y = z"}),
        ("if x: refuse('what')", set()),
        ("if x: raise ValueError(f'{-y}')", set()),
        ("assert -x", set()),
        ("x: int | str = y", set()),
        ("return x", set()),
    ],
)
def test_changes(mutants_of, line, expected):
    assert {text.replace("(", "").replace(")", "") for text in expected} == bodies(mutants_of, line)


def run(*options):
    command = [sys.executable, str(TOOLS / "mutants.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_list_covers_every_backward_pass():
    done = run("--list")
    assert done.returncode == 0
    files = {line.split(":")[0] for line in done.stdout.splitlines()}
    package = TOOLS.parent / "src" / "throughtime"
    cells = {f"cells/{name}.py" for name in ("rnn", "lstm", "gru", "recurrence")} | {"functions.py"}
    network = {
        f"network/{path.name}"
        for path in (package / "network").glob("*.py")
        if "def backward" in path.read_text(encoding="utf-8")
    }
    assert cells | network | {"network/losses.py", "network/truncation.py"} <= files


def test_a_file_that_is_not_mutated():
    done = run("--only", "cells/none.py")
    assert done.returncode == 3
    assert "--only: expected one of functions.py, " in done.stderr
