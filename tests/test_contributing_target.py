"""A toy target, made exactly as CONTRIBUTING says, in a copy of the package."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import package_copy

GUIDE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTION = GUIDE.partition("## How to add a target")[2].partition("\n## ")[0]
FILE, ROW = re.findall(r"^ *```\w+\n(.*?)^ *```$", SECTION, re.DOTALL | re.MULTILINE)

CHECK = """
import numpy as np
import throughtime as tt

A = np.diag([1.0, 2.0, 3.0])
fun, start = lambda x: x @ A @ x / 2, np.ones(3)
for jac in (lambda x: A @ x, lambda x: A @ x / 3):
    print(tt.check((fun, jac, start)).verdict)
print(tt.target_of((fun, lambda x: A @ x, start)).parameters)
"""


@pytest.fixture
def environment(tmp_path):
    variables = package_copy(tmp_path)
    targets = tmp_path / "throughtime" / "targets"
    (targets / "minimised.py").write_text(FILE, encoding="utf-8")
    table = targets / "recognise.py"
    text = table.read_text(encoding="utf-8")
    imports = "from throughtime.targets.minimised import is_minimised, minimised_target\n"
    begin = text.index("from throughtime.targets")
    text = text[:begin] + imports + text[begin:]
    head, _, rows = text.partition("KINDS = (\n")
    end = rows.index("\n)\n") + 1
    row = f"    {ROW.strip()}\n"
    text = f"{head}KINDS = (\n{rows[:end]}{row}{rows[end:]}"
    table.write_text(text, encoding="utf-8")
    return variables


def test_check_recognises_it(environment, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CHECK], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["agree", "disagree", "{'x': array([1., 1., 1.])}"]
