"""Each fault's page: its example runs, its fragments of C++ compile, its links lead somewhere."""

import importlib
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from throughtime import cli
from throughtime.diagnosis import FAULTS, Section
from throughtime.diagnosis.example_networks import (
    GRU,
    LSTM,
    RNN,
    ExampleNetwork,
    Projected,
    TwoDirections,
    TwoLayers,
)

DOCS = Path(__file__).parents[1] / "docs"
HEADINGS = [
    "How it comes about",
    "How it shows",
    "What looks like it",
    "What to change",
]
TWO_CALLS = {"updated_in_backward", "random_buffer", "accumulated_without_zeroing", "state_carried"}
OF_THE_NUMBERS = {"step_too_small"}  # its wrong and right are numerical gradients

COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
PRELUDE = """
#include <algorithm>
#include <cmath>
#include <vector>
using Vector = std::vector<double>;
using Matrix = std::vector<Vector>;
struct Step { Vector h; };
int T, B, H, O, t, j, k, m, b, f, label, length, count;
double loss, lambda, limit, norm, rate, sum, tanh_c;
float u, lossf(float);
Vector dh, dh_next, dc, dc_next, dz, dz_gate, di, df, da, d_o, db, db_f, dx, h_0, arrived;
Vector through_gates, dm, f_t, p_i, p_f;
Matrix h, hs, c, x, xs, i, a, o, z, n, W, U, U_i, U_f, V, dW, dU, dV, p, y, dy, dzs, mask;
Matrix dh_output, dh_lower, dh_forwards, dh_backwards, R, dR, dE;
std::vector<int> order, words;
std::vector<Step> caches;
std::vector<Step*> tape;
bool dropped();
void back(int), run(Vector);
"""


def blocks(name, language):
    text = FAULTS[name].markdown
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def references(name):
    """What stands in square brackets in the prose of a page."""
    prose = re.sub(
        r"^```.*?^```$|`[^`]*`", "", FAULTS[name].markdown, flags=re.MULTILINE | re.DOTALL
    )
    return re.findall(r"\[([^\]]*)\]", prose)


def every():
    return pytest.mark.parametrize("name", list(FAULTS))


# --- the pages ---


@every()
def test_the_example_is_wrong_as_the_page_says_and_right_agrees(name):
    space = {}
    exec("\n".join(blocks(name, "python")), space)
    if name in OF_THE_NUMBERS:
        return
    wrong, right = space["Wrong"], space["Right"]
    assert issubclass(wrong, ExampleNetwork)
    assert right().agrees()
    if name not in TWO_CALLS:
        assert not wrong().agrees()
    elif name == "accumulated_without_zeroing":
        assert wrong().agrees()  # once


@every()
def test_a_page_has_its_parts(name):
    text = FAULTS[name].markdown
    lines = text.splitlines()
    assert lines[0] == f"# {name}"
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    assert len(lines) < 80
    assert FAULTS[name].summary.endswith(".")
    assert len(blocks(name, "python")) >= 2
    (cpp,) = blocks(name, "cpp")
    assert re.search(r"// wrong|wrong = ", cpp)
    assert re.search(r"// right|right = ", cpp)


@every()
def test_references_are_to_other_faults(name):
    named = {n for n in references(name) if n.isidentifier() and len(n) > 3}
    assert named
    assert named <= set(FAULTS) - {name}


def test_the_order_of_the_index_and_of_the_mutants_is_settled():
    """No two faults share a place or a rank, so that neither order rests on their names."""
    for section in Section:
        places = [fault.place for fault in FAULTS.values() if fault.section is section]
        assert places == sorted(set(places))
    ranks = [fault.rank for fault in FAULTS.values() if fault.mutations]
    assert len(ranks) == len(set(ranks)) > 30


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_the_lines_of_cpp_compile():
    bodies = [f"void {name}() {{\n{blocks(name, 'cpp')[0]}}}" for name in FAULTS]
    said = subprocess.run(
        [COMPILER, "-std=c++20", "-fsyntax-only", "-w", "-x", "c++", "-"],
        input="\n".join([PRELUDE, *bodies]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not said.returncode, said.stderr


# --- the networks of the examples ---

NETWORKS = [RNN, LSTM, GRU, Projected, TwoLayers, TwoDirections]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("sizes", [(5, 2), (1, 3)])
def test_the_networks_are_right_as_they_stand(network, sizes):
    assert network(*sizes).agrees()


@pytest.mark.parametrize("network", NETWORKS)
def test_no_gradient_of_theirs_is_small(network):
    _, numerical = network().both
    for array in numerical.values():
        assert np.abs(array).max() > 0.01


# --- the documentation ---


@pytest.fixture
def documentation(monkeypatch, tmp_path):
    """The folder of pages that the documentation is built from."""
    monkeypatch.syspath_prepend(str(DOCS))
    fault_pages = importlib.import_module("fault_pages")
    (tmp_path / "left-over.md").write_text("a fault that was renamed")
    fault_pages.write(tmp_path)
    return tmp_path


def test_the_documentation_has_every_page_and_no_other(documentation):
    files = {f"{fault.page}.md" for fault in FAULTS.values()}
    assert {path.name for path in documentation.iterdir()} == files | {"index.md", "corpus.txt"}
    index = (documentation / "index.md").read_text("utf-8")
    for name, fault in FAULTS.items():
        text = (documentation / f"{fault.page}.md").read_text("utf-8")
        assert text.startswith(f"# {name}\n\n")
        assert f"| [{name}]({fault.page}.md) | {fault.summary} |" in index
        for other, file in re.findall(r"^\[(\w+)\]: (.*)$", text, re.MULTILINE):
            assert f"[{other}]" in fault.markdown
            assert file in files


def test_the_documentation_is_written_only_where_it_has_changed(documentation):
    before = {path: path.stat().st_mtime_ns for path in documentation.iterdir()}
    importlib.import_module("fault_pages").write(documentation)
    assert {path: path.stat().st_mtime_ns for path in documentation.iterdir()} == before


def test_the_table_of_what_cannot_be_told_apart_names_faults():
    table = (DOCS / "faults.md").read_text("utf-8").split("## What cannot be told apart")[1]
    named = set(re.findall(r"`(\w+)`", table))
    assert len(named) > 20
    assert named <= set(FAULTS)


# --- the command ---


def test_a_page_is_printed(capsys):
    assert cli.main(["explain", "fault", "dh_next_missing"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("# dh_next_missing\n")
    assert not re.search(r"\[[a-z]+_[a-z_]+\]", said)  # references are names alone
    assert "dc_next_missing, recurrent_untransposed" in said
    assert cli.main(["explain", "fault", "dh-next-missing"]) == 0
    assert capsys.readouterr().out == said


def test_all_faults_are_listed(capsys):
    assert cli.main(["explain", "fault"]) == 0
    said = capsys.readouterr().out
    for name in FAULTS:
        assert f"{name}\n" in said or f"{name} " in said
        assert FAULTS[name].summary.split()[-1] in said
    assert max(map(len, said.splitlines())) <= 100


def test_a_name_that_no_fault_has(capsys):
    assert cli.main(["explain", "fault", "dh_next_mising"]) == 3
    assert "perhaps dh_next_missing" in capsys.readouterr().err
    assert cli.main(["explain", "fault", "xyzzy"]) == 3
    assert "lists all" in capsys.readouterr().err
    assert cli.main(["explain", "lstm", "dh_next_missing"]) == 3
    assert "explain fault dh_next_missing" in capsys.readouterr().err
    assert cli.main(["explain", "fault", "factor_two", "--seed", "1"]) == 3
    assert "--seed" in capsys.readouterr().err
