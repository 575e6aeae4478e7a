"""Each fault's page: its example runs, its fragments of C++ compile, its links lead somewhere."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from throughtime import cli
from throughtime.diagnosis import FAULTS
from throughtime.diagnosis.pages import FOLDER, page, summary
from throughtime.diagnosis.example_networks import GRU, LSTM, RNN, Projected, TwoDirections, TwoLayers
from throughtime.diagnosis.example_networks import Network

DOCS = Path(__file__).parents[1] / "docs" / "faults"
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
Vector through_gates, dm;
Matrix h, hs, c, x, xs, i, a, o, z, n, W, U, U_i, U_f, V, dW, dU, dV, p, y, dy, dzs, mask;
Matrix dh_output, dh_lower, dh_forwards, dh_backwards, R, dR;
std::vector<int> order;
std::vector<Step> caches;
std::vector<Step*> tape;
bool dropped();
void back(int), run(Vector);
"""


def blocks(name, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL)


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
    assert issubclass(wrong, Network)
    assert right().agrees()
    if name not in TWO_CALLS:
        assert not wrong().agrees()
    elif name == "accumulated_without_zeroing":
        assert wrong().agrees()  # once


@every()
def test_a_page_has_its_parts(name):
    text = page(name)
    lines = text.splitlines()
    assert lines[0] == f"# {name}"
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    assert len(lines) < 80
    assert summary(name).endswith(".")
    assert len(blocks(name, "python")) >= 2
    (cpp,) = blocks(name, "cpp")
    assert re.search(r"// wrong|wrong = ", cpp)
    assert re.search(r"// right|right = ", cpp)


@every()
def test_links_lead_to_other_faults(name):
    links = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", page(name))
    assert links
    for _, where in links:
        assert where.removesuffix(".md").replace("-", "_") in FAULTS
        assert where != f"{FAULTS[name].page}.md"


def test_there_is_a_page_for_every_fault_and_none_beside():
    pages = {path.stem for path in FOLDER.glob("*.md")}
    assert pages == {fault.page for fault in FAULTS.values()}


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


@every()
def test_the_documentation_has_the_page(name):
    file = f"{FAULTS[name].page}.md"
    assert f"diagnosis/pages/{file}" in (DOCS / file).read_text("utf-8")
    index = (DOCS / "index.md").read_text("utf-8")
    assert f"| [{name}]({file}) | {summary(name)} |" in index


def test_the_table_of_what_cannot_be_told_apart_names_faults():
    index = (DOCS / "index.md").read_text("utf-8")
    table = index.split("## What cannot be told apart")[1]
    named = set(re.findall(r"`(\w+)`", table))
    assert len(named) > 20
    assert named <= set(FAULTS)


# --- the command ---


def test_a_page_is_printed(capsys):
    assert cli.main(["explain", "fault", "dh_next_missing"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("# dh_next_missing\n")
    assert ".md)" not in said  # links of a terminal are names
    assert "dc_next_missing, recurrent_untransposed" in said
    assert cli.main(["explain", "fault", "dh-next-missing"]) == 0
    assert capsys.readouterr().out == said


def test_all_faults_are_listed(capsys):
    assert cli.main(["explain", "fault"]) == 0
    said = capsys.readouterr().out
    for name in FAULTS:
        assert f"{name}\n" in said or f"{name} " in said
        assert summary(name).split()[-1] in said
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
