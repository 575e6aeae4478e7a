"""The version is the same wherever it stands."""

import re
import tomllib
from pathlib import Path

import throughtime as tt

ROOT = Path(__file__).parents[1]


def test_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert project["version"] == tt.__version__ == cited[1]
    assert f"## {tt.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
