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
