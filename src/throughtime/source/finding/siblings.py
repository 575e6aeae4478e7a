"""Definitions that a user's file imports from others of its folder."""

from __future__ import annotations

import ast
from pathlib import Path

from throughtime.gradcheck import CheckError
from throughtime.source.text import read_source

DEEPEST = 3  # files that import the next one
DEFINITIONS = (ast.FunctionDef, ast.ClassDef)


def siblings(tree: ast.Module, path: Path, depth: int = 0) -> dict[str, ast.AST]:
    """Classes and functions by the names under which a file imports them, and what they need.

    Bases of classes and losses may stand in another file. What `import layers` names with a dot
    is left out.

    Args:
        tree: of the file.
        path: of it.
    """
    found: dict[str, ast.AST] = {}
    if depth >= DEEPEST:
        return found
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        other = _file(node.module, path, node.level)
        if other is None or other == path:
            continue
        try:
            inner = ast.parse(read_source(other).text)
        except (CheckError, SyntaxError):
            continue
        there = {part.name: part for part in inner.body if isinstance(part, DEFINITIONS)}
        every = {**siblings(inner, other, depth + 1), **there}
        names = {alias.name: alias.asname or alias.name for alias in node.names}
        wanted = {n: n for n in every} if "*" in names else names
        for name, own in wanted.items():
            if name in every:
                found[own] = every[name]
        for part in list(found.values()):  # bases come with the classes
            for base in part.bases if isinstance(part, ast.ClassDef) else ():
                if isinstance(base, ast.Name) and base.id in every:
                    found.setdefault(base.id, every[base.id])
    return found


def _file(module: str, path: Path, level: int) -> Path | None:
    """The file of a module that stands beside a file, or in a folder there."""
    folder = path.parent
    for _ in range(max(level - 1, 0)):
        folder = folder.parent
    for root in (folder, folder.parent) if not level else (folder,):
        place = root.joinpath(*module.split("."))
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
    return None
