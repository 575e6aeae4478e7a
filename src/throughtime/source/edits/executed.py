"""What runs when the loss and the gradient are called: which lines, and what is there to use.

At every line of the user's functions the names, attributes and entries that these mention are
looked up: their shapes say what could stand for what.
"""

from __future__ import annotations

import ast
import sys
import types
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from throughtime.source.edits.edit import FileText, Unit, names_in
from throughtime.source.recipe import Program
from throughtime.source.text import read_source
from throughtime.source.tolerances import (
    MOST_ENTRIES,
    MOST_MARKED,
    VISITS,
)


@dataclass(frozen=True)
class Value:
    """What an expression is where a line begins.

    Attributes:
        kind: "numbers", an array or a float; "whole", an int; "size", one of the object whose
            method it is, which this does not mention; "other", what is none of these.
        shape: of numbers.
        mark: equal where the values are, but for an unlikely accident.
        whole: of an int, or a size, its value.
        empty: whether all numbers of an array are 0.
    """

    kind: Literal["numbers", "whole", "size", "other"]
    shape: tuple[int, ...] = ()
    mark: int = 0
    whole: int = 0
    empty: bool = False


@dataclass(frozen=True)
class Executed:
    """What ran.

    Attributes:
        texts: path to text, of each of the user's files that took part in the gradient.
        gradient: path to the lines that the gradient ran.
        loss: path to those that the loss ran.
        values: path to line to expression to its value there.
    """

    texts: Mapping[Path, str]
    gradient: Mapping[Path, frozenset[int]]
    loss: Mapping[Path, frozenset[int]]
    values: Mapping[Path, Mapping[int, Mapping[str, Value]]]


def executed(program: Program, texts: Mapping[Path, str]) -> Executed:
    """Runs loss and gradient once each, and looks on.

    Args:
        program: of the user's.
        texts: those of its files that are not read as they stand.
    """
    folder = program.recipe.path.resolve().parent
    watch = _Watch(folder, texts)
    loss = watch.lines_of(program.loss)
    gradient = watch.lines_of(program.gradient)
    used = {path: file.data.decode() for path, file in watch.files.items() if path in gradient}
    return Executed(used, gradient, loss, watch.values)


def is_atom(node: ast.expr) -> bool:
    """Whether an expression is a name, an attribute or an entry, and calls nothing."""
    if isinstance(node, ast.Name):
        return True
    if isinstance(node, ast.Attribute):
        return node.attr not in ("T", "shape", "size", "dtype") and is_atom(node.value)
    return isinstance(node, ast.Subscript) and is_atom(node.value) and _is_index(node.slice)


def _is_index(node: ast.expr) -> bool:
    return all(
        isinstance(
            part,
            ast.Name | ast.Constant | ast.BinOp | ast.UnaryOp | ast.Slice | ast.Tuple
            | ast.Subscript | ast.operator | ast.unaryop | ast.expr_context | ast.Attribute,
        )
        for part in ast.walk(node)
    )  # fmt: skip


class _Watch:
    """Collects lines and values while the user's functions run."""

    def __init__(self, folder: Path, texts: Mapping[Path, str]) -> None:
        self._folder = str(folder)
        self._texts = {path.resolve(): text for path, text in texts.items()}
        self.files: dict[Path, FileText] = {}
        self.values: dict[Path, dict[int, dict[str, Value]]] = {}
        self._atoms: dict[str, dict[int, list[tuple[str, types.CodeType]]]] = {}
        self._paths: dict[str, Path | None] = {}
        self._stored: dict[str, set[str]] = {}
        self._visits: dict[tuple[str, int], int] = defaultdict(int)
        self._lines: dict[Path, set[int]] = {}

    def lines_of(self, function: Callable[[], object]) -> dict[Path, frozenset[int]]:
        """The lines that a call runs."""
        self._lines, before = {}, sys.gettrace()
        sys.settrace(self._called)
        try:
            function()
        finally:
            sys.settrace(before)
        return {path: frozenset(lines) for path, lines in self._lines.items()}

    def _called(self, frame: types.FrameType, event: str, argument: object) -> Any:
        name = frame.f_code.co_filename
        if name not in self._paths:
            self._paths[name] = self._opened(name)
        return None if self._paths[name] is None else self._ran

    def _opened(self, name: str) -> Path | None:
        """A file of the user's folder; None for others."""
        if not name.startswith(self._folder):
            return None
        path = Path(name)
        try:
            text = self._texts[path] if path in self._texts else read_source(path).text
        except ValueError:
            return None
        file = FileText.of(path, text)
        self.files[path], self.values[path] = file, {}
        self._stored[name] = names_in(file.tree, ast.Store)
        self._atoms[name] = {}
        for unit in file.units():
            atoms = _atoms(file, unit)
            for line in range(unit.node.lineno, (unit.node.end_lineno or 0) + 1):
                self._atoms[name][line] = atoms
        return path

    def _ran(self, frame: types.FrameType, event: str, argument: object) -> Any:
        if event != "line":
            return self._ran
        name, line = frame.f_code.co_filename, frame.f_lineno
        path = self._paths[name]
        assert path is not None
        self._lines.setdefault(path, set()).add(line)
        self._visits[name, line] += 1
        if self._visits[name, line] <= VISITS and line in self._atoms[name]:
            self.values[path][line] = _looked_up(self._atoms[name][line], frame, self._stored[name])
        return self._ran


def _atoms(file: FileText, unit: Unit) -> list[tuple[str, types.CodeType]]:
    """All atoms that a function reads, compiled."""
    found: dict[str, types.CodeType] = {}
    for node in ast.walk(unit.node):
        if isinstance(node, ast.expr) and is_atom(node):
            text = file.of_node(node)
            if text not in found and "\n" not in text:
                found[text] = compile(text, "<atom>", "eval")
    return list(found.items())


def _looked_up(
    atoms: list[tuple[str, types.CodeType]], frame: types.FrameType, stored: set[str]
) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for text, code in atoms:
        try:
            thing = eval(code, frame.f_globals, frame.f_locals)
        except Exception:  # not there yet: whatever looking it up may raise
            continue
        found[text] = _value(thing)
        if isinstance(thing, dict):
            for key in list(thing)[:MOST_ENTRIES]:
                if isinstance(key, str):
                    found.setdefault(f"{text}[{key!r}]", _value(thing[key]))
        if "[" in text:
            continue
        if isinstance(thing, np.ndarray) and thing.ndim:
            for axis, size in enumerate(thing.shape):
                found[f"{text}.shape[{axis}]"] = Value("whole", whole=size, mark=size)
            if thing.ndim > 1:
                found[f"{text}.size"] = Value("whole", whole=thing.size, mark=thing.size)
        elif isinstance(thing, list | tuple | dict):
            found[f"len({text})"] = Value("whole", whole=len(thing), mark=len(thing))
    for text, thing in _unmentioned(frame, stored):
        if text not in found and (value := _value(thing)).kind == "numbers":
            found[text] = value
        elif isinstance(thing, list | tuple):
            size = Value("size", mark=len(thing), whole=len(thing))
            found.setdefault(f"len({text})", size)
    for name, thing in list(_own(frame).items()):
        if isinstance(thing, int | np.integer) and not isinstance(thing, bool):
            found.setdefault(f"self.{name}", Value("size", mark=int(thing), whole=int(thing)))
    return found


def _unmentioned(frame: types.FrameType, stored: set[str]) -> Iterator[tuple[str, object]]:
    """What a function might have used: a mistake may leave the right name out altogether.

    Of what is global only what the file itself sets: the lines that run it have names of their own.
    """
    yield from list(frame.f_locals.items())
    for name, thing in list(frame.f_globals.items()):
        if isinstance(thing, np.ndarray) and name in stored:
            yield name, thing
    for name, thing in list(_own(frame).items()):
        if isinstance(thing, np.ndarray):
            yield f"self.{name}", thing


def _own(frame: types.FrameType) -> Mapping[str, object]:
    """The attributes of the object whose method runs."""
    own: Mapping[str, object] = getattr(frame.f_locals.get("self"), "__dict__", {})
    return own


def _value(thing: object) -> Value:
    if isinstance(thing, bool | np.bool_):
        return Value("other", mark=int(thing))
    if isinstance(thing, int | np.integer):
        return Value("whole", mark=int(thing), whole=int(thing))
    if isinstance(thing, float | np.floating):
        return Value("numbers", (), hash(float(thing)))
    if isinstance(thing, np.ndarray) and thing.dtype.kind in "fiu":
        some = np.ascontiguousarray(thing.reshape(-1)[:MOST_MARKED])
        mark = hash((thing.shape, some.tobytes()))
        return Value("numbers", thing.shape, mark, empty=not thing.any())
    if type(thing).__module__ == "torch" and hasattr(thing, "detach"):  # a tensor by hand
        return _value(thing.detach().cpu().numpy())
    return Value("other", mark=id(thing))
