"""The fault that CONTRIBUTING.md adds: it takes one file in a copy of the package."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import throughtime
from throughtime import _engine

ROOT = Path(__file__).parents[1]
PACKAGE = Path(throughtime.__file__).parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# An editable installation's finder would find the original; a copy comes before it in the path.
START = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
sys.path[:0] = sys.argv[1:3]
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A folder with a copy of the package that has the guide's fault, called toy."""
    folder = tmp_path_factory.mktemp("copy")
    package = folder / "throughtime"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("native", "__pycache__"))
    shutil.copy(_engine.__file__, package)
    (text,) = re.findall(r"^````python\n(.*?)^````$", GUIDE, re.MULTILINE | re.DOTALL)
    (package / "diagnosis" / "faults" / "toy.py").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def run(copy):
    def run(code):
        command = [sys.executable, "-c", START + code, str(copy), str(ROOT / "docs")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
        return done.stdout

    return run


def test_the_command_line_shows_its_page(run):
    said = run("from throughtime import cli; sys.exit(cli.main(['explain', 'fault', 'toy']))")
    assert said.startswith("# toy\n\nWhat comes back from the next step is added three times.\n")
    assert "- term_counted_twice is the same" in said


def test_the_example_of_its_page_runs(run):
    run("""
import re
from throughtime.diagnosis import FAULTS
assert "toy" in FAULTS and FAULTS["toy"].said()[1] == "Add it once."
space = {}
for block in re.findall(r"^```python\\n(.*?)^```$", FAULTS["toy"].markdown, re.M | re.S):
    exec(block, space)
assert space["Right"]().agrees() and not space["Wrong"]().agrees()
""")


def test_the_documentation_has_its_page_and_its_line(run):
    said = run("""
import fault_pages
pages = fault_pages.pages()
print(pages["toy.md"])
print(pages["index.md"])
""")
    assert "[term_counted_twice]: term-counted-twice.md" in said
    rows = said.split("## What comes back from the next step")[1].split("## Operands")[0].split()
    assert rows.index("[toy](toy.md)") > rows.index("[wrong_matrix](wrong-matrix.md)")
    assert "\ntoy\n" in said.split("{toctree}")[1]


def test_a_gradient_with_it_is_diagnosed(run):
    said = run("""
import numpy as np
import throughtime as tt
from dataclasses import replace
from throughtime.diagnosis.mutants import mutants
from throughtime.diagnosis.model_from_target import model_from_target

net = tt.Network([tt.RNN(3, 4), tt.Dense(4, 3)], tt.SoftmaxCrossEntropy(), dtype="float64", seed=0)
rng = np.random.default_rng(0)
target = tt.target_of(net, rng.normal(size=(5, 2, 3)), rng.integers(0, 3, (5, 2)))
(wrong,) = mutants(model_from_target(target).model, ["toy"])
report = tt.check(replace(target, gradient=lambda: wrong.gradient), progress=False)
print(report.causes[0].fault, report.causes[0].statement)
""")
    assert said == "toy What comes back from the next step is added three times.\n"
