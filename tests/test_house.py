"""The house: lower floors know nothing of higher ones, rooms are entered by their doors."""

import ast
import importlib
import subprocess
import sys
from collections import defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import throughtime as tt

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "throughtime"

FLOORS = [
    {
        "arrays",
        "functions",
        "storage",
        "parameters",
        "progress",
        "engine_settings",
        "_engine",
        "doors",
    },
    {"cells", "codegen", "derivatives", "equations"},
    {"network", "gradcheck"},
    {"diagnosis", "gradient_flow"},
    {"training", "torch", "explain"},
    {"targets"},
    {"source"},
    {"report", "plots", "questions"},
    {"cli", "integrations", "__init__", "__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Rooms that stay out of each other's way, though nothing but habit would bring them together.
KNOWS_ONLY = {
    "derivatives": {"arrays", "derivatives"},
    "equations": {"arrays", "doors", "functions", "derivatives", "equations"},
    "codegen": {"arrays", "storage", "equations", "codegen"},
    "gradcheck": {"arrays", "storage", "progress", "derivatives", "gradcheck"},
}


def files():
    return sorted(SOURCE.rglob("*.py"))


def shown(path):
    return str(path.relative_to(SOURCE))


def module(path):
    parts = ("throughtime", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules():
    return {module(path) for path in files()} | {"throughtime._engine"}


@cache
def imported(path):
    """The modules of this package that a file imports, in functions and for types too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("throughtime"):
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & modules()
            outer = {node.module} if len(inner) < len(node.names) else set()
            found |= inner | outer
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & modules()
    return found


def room_of(name):
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("path", files(), ids=shown)
def test_no_floor_imports_a_higher_one(path):
    own = FLOOR[room_of(module(path))]
    for other in imported(path):
        assert FLOOR[room_of(other)] <= own, f"{shown(path)} imports {other}"


def test_every_room_has_a_floor():
    assert {room_of(name) for name in modules()} <= set(FLOOR)


@pytest.mark.parametrize("room", KNOWS_ONLY)
def test_numerical_derivatives_and_the_check_know_no_network(room):
    for path in (SOURCE / room).rglob("*.py"):
        assert {room_of(other) for other in imported(path)} <= KNOWS_ONLY[room], shown(path)


def test_no_file_imports_itself_by_way_of_others():
    graph = {module(path): imported(path) - {module(path)} for path in files()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" → ".join(circle.args[1]))


@pytest.mark.parametrize("path", files(), ids=shown)
def test_a_room_is_entered_by_its_door(path):
    """From outside, a room's own names are taken from its `__init__`."""
    own = room_of(module(path))
    for other in imported(path):
        if room_of(other) in DOORS - {own}:
            assert other.count(".") == 1, f"{shown(path)} imports {other}"


# The others hold files that are wanted one by one, since they import matplotlib or much else.
DOORS = {"cells", "derivatives", "gradcheck", "network", "gradient_flow", "training"}
DOORS |= {"targets", "torch", "equations", "codegen"}


# The rooms inside `source/`, the lower ones first: what runs a file stands in none of them.
INSIDE_SOURCE = ["", "edits", "finding", "lines", "mending"]


def inner_room(name):
    parts = name.split(".")[2:]
    return parts[0] if parts and parts[0] in INSIDE_SOURCE else ""


@pytest.mark.parametrize("path", sorted((SOURCE / "source").rglob("*.py")), ids=shown)
def test_no_room_inside_source_imports_a_higher_one(path):
    if path.parent.name == "source" and path.name == "__init__.py":
        return  # the door
    own = INSIDE_SOURCE.index(inner_room(module(path)))
    for other in imported(path):
        if room_of(other) == "source":
            assert INSIDE_SOURCE.index(inner_room(other)) <= own, f"{shown(path)} imports {other}"


@pytest.mark.parametrize("path", files(), ids=shown)
def test_nothing_shipped_imports_what_is_not(path):
    """The benchmarks and the tests lie beside the package, and a wheel has neither."""
    helpers = {other.stem for other in (ROOT / "tests").glob("*.py")}
    beside = {"benchmarks", "corpus", "docs", "examples", "tests", "tools"} | helpers
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        assert not beside & {name.split(".")[0] for name in names}, shown(path)


# One word, one meaning, but for these, each with its reason.
ARCHITECTURE = "the field's own name, of a cell, a torch module, a mutant and an example"
EXTENDED = "the same thing on two floors: the upper one can also be drawn and written"
SHARED_NAMES = dict.fromkeys(["RNN", "LSTM", "GRU"], ARCHITECTURE)
SHARED_NAMES |= dict.fromkeys(["Report", "Flow", "FlowRecorder"], EXTENDED)


def test_no_two_classes_share_a_name():
    homes = defaultdict(list)
    for path in files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(shown(path))
    shared = {name: places for name, places in homes.items() if len(places) > 1}
    assert {name: shared[name] for name in shared if name not in SHARED_NAMES} == {}
    assert set(SHARED_NAMES) <= set(shared), "an exception that none needs any more"


def test_no_public_word_is_a_module_too():
    files = {name.split(".")[1] for name in modules() if name.count(".") == 1}
    assert files & set(tt.__all__) == {"plots"}  # which is public as it is


def doors():
    """The `__init__` of each room whose door opens when somebody asks."""
    text = "from throughtime.doors import door\n"
    return [path for path in files() if text in path.read_text(encoding="utf-8")]


def behind(tree, room):
    """The words of a room that its door imports, by file: as types are told, and as it runs."""
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    told, opened = {}, {}
    for node in block.body:
        own = node.module == room
        for alias in node.names:
            file = alias.name if own else node.module.removeprefix(f"{room}.")
            told.setdefault(file, set()).update(() if own else {alias.name})
    for node in ast.walk(ast.Module(block.orelse, [])):
        if isinstance(node, ast.Dict):
            for file, words in zip(node.keys, node.values, strict=True):
                opened[file.value] = set(words.value.split())
    return told, opened


@pytest.mark.parametrize("path", doors(), ids=shown)
def test_a_door_opens_to_what_type_checkers_are_told(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    told, opened = behind(tree, module(path))
    assert told == opened
    room = sys.modules.get(module(path)) or importlib.import_module(module(path))
    assert {word for words in opened.values() for word in words} <= set(room.__all__)
    for file, words in opened.items():  # a file of a word's name would hide the word
        assert not words & {other.stem for other in path.parent.iterdir()}, file
    with pytest.raises(AttributeError, match="has no attribute 'nowhere'"):
        room.nowhere  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, throughtime; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"torch", "jax", "matplotlib", "jinja2", "tqdm", "scipy", "pandas"}
    assert not heavy & set(loaded)


def test_what_a_user_does_with_a_torch_model_imports_no_torch():
    """The files in `torch/models` are for programs without torch too; those beside it are not."""
    names = " ".join(module(path) for path in sorted((SOURCE / "torch/models").glob("*.py")))
    code = f"import importlib, sys; [importlib.import_module(n) for n in '{names}'.split()]; "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


def test_the_public_names_exist_and_are_documented():
    for name in tt.__all__:
        assert getattr(tt, name).__doc__, name
