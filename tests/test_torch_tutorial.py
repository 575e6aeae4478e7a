"""The page "My torch model does not learn" shows what its model and its calls print."""

import io
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from quoted_output import quoted

torch = pytest.importorskip("torch", reason="torch is not installed")

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "does_not_learn.py"


def printed(*options):
    done = subprocess.run(
        [sys.executable, EXAMPLE, *options], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_page_shows_what_is_printed(monkeypatch):
    page = (ROOT / "docs" / "tutorial-torch-does-not-learn.md").read_text("utf-8")
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    before, after = printed(), printed("--remember")
    shown = io.StringIO()
    with redirect_stdout(shown):
        exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), {})
    assert quoted(page, before + after + shown.getvalue()) == 5
    last = [float(text.split()[-1]) for text in (before, after)]
    assert last[0] > 1.3
    assert last[1] < 0.1
