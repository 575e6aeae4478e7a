"""A place in a user's own file, as the command line names it, looked at before any of it is run."""

from __future__ import annotations

import ast
import re
from difflib import SequenceMatcher
from pathlib import Path

from throughtime.arrays import refuse
from throughtime.gradcheck import CheckError
from throughtime.source import Slices, candidates, parsed, read_source

SUFFIXES = (".py", ".ipynb")
LINES = re.compile(r"^(\d+)\s*-\s*(\d+)$|^cells?\s+(\d+(?:\s*[-,]\s*\d+)*)$")
NEAR = 0.6  # of SequenceMatcher, as difflib's own cutoff: below it, a name is not what was meant
MOST_NAMES = 8  # that are offered
WRITES_NAMES = {"globals", "exec", "setattr", "vars"}  # with which a name is set unseen


def split_place(place: str) -> tuple[Path, str]:
    """The file of `file.py`, `file.py:name`, `file.py:3-9` or `net.ipynb:cell 7`, and the rest."""
    if Path(place).is_file():
        return Path(place), ""
    path, _, name = place.rpartition(":")
    return Path(path or place), name


def look_at(place: str) -> None:
    """Refuses a place in a file that is missing, that cannot be parsed, or that lacks the name.

    Raises:
        CheckError: it says where the syntax is wrong, or which names there are, the nearest first.
    """
    path, name = split_place(place)
    if path.suffix not in SUFFIXES:
        return
    if not path.is_file():
        actual = f"the folder {path}" if path.is_dir() else str(path)
        refuse("target", "an existing Python file or notebook", actual, error=CheckError)
    try:
        source = read_source(path)
    except CheckError:
        return  # which is said where it is read next; a target in it may run all the same
    tree = parsed(source)
    if name and not LINES.match(name) and not imports_this_package(tree):
        _look_for(name, path, tree)


def imports_this_package(tree: ast.Module) -> bool:
    """Whether a file knows of targets, under whatever name."""
    for node in tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        if any(name.split(".")[0] == "throughtime" for name in names):
            return True
    return False


def _look_for(name: str, path: Path, tree: ast.Module) -> None:
    """Refuses a name that a file sets nowhere; where names may be set unseen, it is let through."""
    read = {part.id for part in ast.walk(tree) if isinstance(part, ast.Name)}
    first, _, method = name.partition(".")
    bound = _names_of(tree)
    if "*" in bound or read & WRITES_NAMES:
        return
    owner = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == first), None)
    if owner is not None and method and not owner.bases:
        own = [n.name for n in owner.body if isinstance(n, ast.FunctionDef)]
        if method not in own:
            _refuse_name(path, name, "method", [f"{first}.{one}" for one in own])
    if first not in bound:
        _refuse_name(path, name, "class or function", _offered(tree))


def _refuse_name(path: Path, name: str, kind: str, known: list[str]) -> None:
    near = sorted(known, key=lambda one: -_likeness(name, one))
    meant = [one for one in near[:1] if _likeness(name, one) >= NEAR]
    rest = near[len(meant) :]
    listed = ", ".join(rest[:MOST_NAMES]) + ", …" * (len(rest) > MOST_NAMES)
    if meant:
        way_out = f"did you mean {meant[0]}?" + f" It also has {listed}" * bool(rest)
    else:
        way_out = f"it has {listed or 'none'}"
    refuse(str(path), f"the name of a {kind} in it", repr(name), way_out, error=CheckError)


def _likeness(given: str, known: str) -> float:
    """How alike two names are, or the given one and the beginning of the other."""
    a, b = given.lower(), known.lower()
    return max(SequenceMatcher(None, a, part).ratio() for part in (b, b[: len(a)]))


def _offered(tree: ast.Module) -> list[str]:
    """What can be checked, the likeliest first, and then the other classes and functions."""
    slices = Slices(tree)
    likely = [candidate.name for candidate in candidates(tree, slices)]
    return list(dict.fromkeys([*likely, *slices.definitions]))


def _names_of(tree: ast.Module) -> set[str]:
    """Names that a file sets at its top, or with `global`."""
    found = {n for part in ast.walk(tree) if isinstance(part, ast.Global) for n in part.names}
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(part.name)
            continue
        if isinstance(part, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in part.names}
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            found.add(part.id)
        waiting += ast.iter_child_nodes(part)
    return found
