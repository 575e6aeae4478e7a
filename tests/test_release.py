"""The version is the same wherever it stands."""

import re
import sys
import tomllib
from pathlib import Path

import throughtime as tt

ROOT = Path(__file__).parents[1]


def test_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert project["version"] == tt.__version__ == cited[1]
    assert f"## {tt.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_recipe_asks_for_what_the_project_asks_for():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    pyproject, recipe = tomllib.loads(text), (ROOT / "recipe" / "meta.yaml").read_text("utf-8")
    assert f'set version = "{tt.__version__}"' in recipe
    needed = pyproject["project"]["dependencies"] + pyproject["build-system"]["requires"]
    for one in needed:
        name, bound = re.fullmatch(r"([\w-]+)(>=[\d.]+)", one).groups()
        assert f"- {name} {bound}\n" in recipe, one


def test_wheels_are_tested_with_what_the_tests_import():
    """The tests of a wheel run in an environment that has nothing else."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    wheels = tomllib.loads(text)["tool"]["cibuildwheel"]
    named = {re.split(r"\W", one)[0] for one in wheels["test-requires"].split()}
    files = ["conftest.py", "tests/conftest.py", "tests/helpers.py", "tests/engine_examples.py"]
    files += re.findall(r"\{project\}/(tests/\w+\.py)", wheels["test-command"])
    imported = {
        word
        for file in files
        for word in re.findall(r"^(?:from|import) (\w+)", (ROOT / file).read_text("utf-8"), re.M)
    }
    own = {"throughtime", "numpy", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
    assert imported - own - {*sys.stdlib_module_names} <= named
