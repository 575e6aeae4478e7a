"""`import throughtime` is quick, and shows all that is public."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import throughtime as tt


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


def test_nothing_is_imported_before_it_is_asked_for():
    code = (
        "import sys, throughtime; print(*[m for m in sys.modules if m.startswith('throughtime')])"
    )
    assert run(code) == ["throughtime"]
    assert "numpy" not in run("import sys, throughtime; print(*sys.modules)")


def test_a_class_does_not_bring_in_reports_or_diagnosis():
    code = "import sys, throughtime as tt; tt.LSTM; print(*sys.modules)"
    rooms = {m.split(".")[1] for m in run(code) if m.startswith("throughtime.")}
    assert not rooms & {"report", "diagnosis", "gradcheck", "torch", "cli"}


def rooms_after(code):
    """The rooms of which a file is imported after the code has run; an open door alone is none."""
    names = run(f"import sys\n{code}\nprint(*sys.modules)")
    return {m.split(".")[1] for m in names if m.startswith("throughtime.") and m.count(".") > 1}


CHECK = """
import numpy as np, throughtime as tt
w = np.ones(3)
target = tt.Target({"w": w}, lambda: float(w @ w), lambda: {"w": FACTOR * w})
assert tt.check(target).verdict == VERDICT
"""


def test_a_check_imports_the_checker_and_a_disagreement_the_diagnosis():
    agrees = CHECK.replace("FACTOR", "2").replace("VERDICT", "'agree'")
    assert rooms_after(agrees) == {"derivatives", "gradcheck", "targets", "questions"}
    disagrees = CHECK.replace("FACTOR", "3").replace("VERDICT", "'disagree'")
    found = rooms_after(disagrees)
    assert "diagnosis" in found
    assert not found & {"source", "report", "gradient_flow", "torch", "training", "cli"}


def test_a_network_is_checked_without_what_only_derived_cells_need():
    code = """
import numpy as np, throughtime as tt
net = tt.Network([tt.LSTM(1, 2)], tt.MeanSquaredError(), seed=0)
tt.check(net, np.ones((3, 1, 1), "f"), np.zeros((3, 1, 2), "f"))
"""
    found = rooms_after(code)
    assert "network" in found
    assert not found & {"codegen", "source", "report", "gradient_flow", "torch", "training"}


COMMAND = """
import runpy, sys
sys.argv = ["throughtime", *WORDS]
try:
    runpy.run_module("throughtime", run_name="__main__")
except SystemExit:
    pass
print(*sys.modules)
"""


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["chekc"], []], ids=" ".join)
def test_the_command_line_alone_imports_no_room_and_no_numpy(words):
    names = run(COMMAND.replace("WORDS", repr(words)))
    rooms = {name.split(".")[1] for name in names if name.startswith("throughtime.")}
    assert rooms == {"cli"}
    assert "numpy" not in names


def test_a_command_imports_its_own_file_and_no_other():
    names = run(COMMAND.replace("WORDS", "['check', '--help']"))
    assert "throughtime.cli.check" in names
    assert not {"train", "mend", "demo", "own_file"} & {
        name.split(".")[2] for name in names if name.startswith("throughtime.cli.")
    }
    rooms = {m.split(".")[1] for m in names if m.startswith("throughtime.") and m.count(".") > 1}
    assert rooms <= {"cli", "derivatives", "gradcheck", "questions", "report", "targets"}


def test_every_public_name_is_there_and_the_type_checker_is_told_of_each():
    assert all(hasattr(tt, name) for name in tt.__all__)
    assert set(dir(tt)) == {*tt.__all__, "__version__"}
    tree = ast.parse(Path(tt.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    told = {
        (node.module.removeprefix("throughtime").lstrip("."), alias.name)
        for node in block.body
        for alias in node.names
    }
    assert told - {("", "plots")} == {(home, n) for home, names in tt.HOMES.items() for n in names}
    assert {name for _, name in told} == set(tt.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lstm'"):
        tt.lstm  # noqa: B018
