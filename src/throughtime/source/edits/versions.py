"""Edited versions of a user's functions, put into a program that is loaded already.

Only the functions that differ are compiled, and take the place of the code that is there: a try
costs one run of the gradient, and not one of the whole file.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from throughtime.source import older
from throughtime.source.edits.edit import Edit, FileText, Unit, spliced
from throughtime.source.recipe import Program


@dataclass(frozen=True)
class Replaced:
    """A function with another text.

    Attributes:
        path: of its file.
        names: its classes and itself.
        text: from `def` on, as it is indented in the file.
    """

    path: Path
    names: tuple[str, ...]
    text: str


def replaced_functions(
    file: FileText, units: Sequence[Unit], edits: Sequence[Edit]
) -> list[Replaced] | None:
    """The functions that edits of a file change; None where one changes something else too."""
    found = []
    left = {splice for edit in edits for splice in edit.splices}
    for unit in units:
        start, end = _extent(file, unit)
        own = [s for s in left if start <= s.start and s.end <= end]
        if not own:
            continue
        if not unit.plain:
            return None
        left -= set(own)
        moved = [type(s)(s.start - start, s.end - start, s.new) for s in own]
        text = spliced(file.data[start:end], moved).decode()
        found.append(Replaced(file.path, unit.names, text))
    return None if left else found


def _extent(file: FileText, unit: Unit) -> tuple[int, int]:
    """The first byte of a function's lines, and the one after them."""
    end = file.data.find(b"\n", file.end(unit.node))
    return file.starts[unit.node.lineno], end + 1 if end >= 0 else len(file.data)


def changed_functions(path: Path, before: str, after: str) -> list[Replaced] | None:
    """The functions in which two texts of a file differ; None where something else does.

    Example:
        >>> text = "def f():\\n    return 1\\n"
        >>> [r.text for r in changed_functions(Path("f.py"), text, text.replace("1", "2"))]
        ['def f():\\n    return 2\\n']
    """
    old, new = FileText.of(path, before), FileText.of(path, after)
    units, others = new.units(), old.units()
    if [u.names for u in units] != [u.names for u in others]:
        return None
    extents, found, ends = [], [], [(0, 0)]
    for unit, other in zip(units, others, strict=True):
        (a, b), (c, d) = _extent(new, unit), _extent(old, other)
        extents.append((new.data[ends[-1][0] : a], old.data[ends[-1][1] : c]))
        ends.append((b, d))
        if new.data[a:b] != old.data[c:d]:
            if not unit.plain:
                return None
            found.append(Replaced(path, unit.names, new.data[a:b].decode()))
    extents.append((new.data[ends[-1][0] :], old.data[ends[-1][1] :]))
    return found if all(one == other for one, other in extents) else None


@lru_cache(maxsize=4096)
def compiled(replaced: Replaced) -> types.CodeType:
    """The code of a function; SyntaxError where its text is no Python."""
    indentation = len(replaced.text) - len(replaced.text.lstrip(" \t"))
    lines = [f"{' ' * n}class {name}:" for n, name in enumerate(replaced.names[:-1])]
    if indentation and not lines:
        lines = ["if 1:"]
    if indentation < len(lines):
        raise SyntaxError("a method that is indented less deeply than its class")
    code = older.compiled("\n".join([*lines, replaced.text]), str(replaced.path))
    for name in replaced.names:
        code = next(
            part
            for part in code.co_consts
            if isinstance(part, types.CodeType) and part.co_name == name
        )
    return code


def functions_of(program: Program, replaced: Replaced) -> list[types.FunctionType]:
    """The function in a loaded program, in each module that its file was run as.

    Empty where one of them has none, or where something wraps it.
    """
    found: list[types.FunctionType] = []
    for space in program.namespaces(replaced.path):
        function = _function_of(space, replaced.names)
        if function is None:
            return []
        if not any(function is other for other in found):
            found.append(function)
    return found


def _function_of(space: Any, names: Sequence[str]) -> types.FunctionType | None:
    found: Any = None
    owner = ""
    for name in names:
        private = name.startswith("__") and not name.endswith("__") and owner.strip("_")
        key = f"_{owner.lstrip('_')}{name}" if private else name  # as Python calls it in a class
        if space is None or key not in space:
            return None
        found, owner = space[key], name
        space = vars(found) if isinstance(found, type) else None
    if isinstance(found, staticmethod | classmethod):
        found = found.__func__
    if isinstance(found, property):
        found = found.fget
    return found if isinstance(found, types.FunctionType) else None


@contextlib.contextmanager
def put_in(program: Program, version: Sequence[Replaced]) -> Iterator[bool]:
    """While functions have another text; False where that cannot be done in place."""
    before: list[tuple[types.FunctionType, types.CodeType]] = []
    try:
        for replaced in version:
            functions, code = functions_of(program, replaced), compiled(replaced)
            free = len(code.co_freevars)
            if not functions or any(len(f.__code__.co_freevars) != free for f in functions):
                yield False
                return
            for function in functions:
                before.append((function, function.__code__))
                function.__code__ = code
        yield True
    finally:
        for function, code in before:
            function.__code__ = code
