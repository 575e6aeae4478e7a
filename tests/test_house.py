"""The house: lower floors know nothing of higher ones, files are read in one sitting."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "throughtime"

FLOORS = [
    {"arrays", "storage", "parameters", "progress", "engine", "_engine"},
    {"cells", "checking"},
    {"layers", "losses", "network"},
    {"truncation", "contributions", "diagnosis", "gradient_flow", "nonfinite"},
    {"training", "targets", "bridges", "torch", "explain"},
    {"report", "plots", "check", "flow", "flow_record"},
    {"cli", "__init__", "__main__", "bench"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def modules():
    return sorted(SOURCE.rglob("*.py"))


def room(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[0]


def imported(path):
    """The modules of this package that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("throughtime"):
            rest = (node.module or "").split(".")[1:]
            yield from [rest[0]] if rest else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("throughtime."):
                    yield alias.name.split(".")[1]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_floor_imports_a_higher_one(path):
    for other in imported(path):
        if other in FLOOR:  # names that `from throughtime import` takes are no rooms
            assert FLOOR[other] <= FLOOR[room(path)], f"{path.name} imports {other}"


def test_every_room_has_a_floor():
    assert {room(path) for path in modules()} <= set(FLOOR)


def test_checking_knows_no_network():
    for path in (SOURCE / "checking").glob("*.py"):
        assert set(imported(path)) <= {"arrays", "storage", "progress", "checking"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_is_read_in_one_sitting(path):
    limit = 450 if path.name == "network.py" else 350
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, throughtime; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"torch", "jax", "matplotlib", "jinja2", "tqdm", "scipy", "pandas"}
    assert not heavy & set(loaded)


def test_the_public_names_exist_and_are_documented():
    import throughtime as tt

    for name in tt.__all__:
        assert getattr(tt, name).__doc__, name
