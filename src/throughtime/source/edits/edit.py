"""Small edits of a user's own source, each a minimal change of its text.

An edit is some splices: bytes of the file that others take the place of, so that everything else
stays as it was formatted. What edits there are stands in `expression_edits` and `statement_edits`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from throughtime.source.tolerances import (
    ALIKE_COST,
)

FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
BEGINNING = re.compile(r"[ \t]*\w+ = 0\n")  # a sum that begins with nothing


@dataclass(frozen=True, order=True)
class Splice:
    """The bytes from `start` to `end` of a file, replaced."""

    start: int
    end: int
    new: str


@dataclass(frozen=True)
class Edit:
    """One thing that is changed, at one place of a file or at all places alike.

    Attributes:
        path: of the file.
        splices: in order, none over another.
        kind: what is done, in words: "transposed", "index", …
        line: of the first statement that changes, from 1.
        cost: how unlikely it is, and how much it changes: of two that do the same, the cheaper
            one is proposed.
        key: edits of one function with the same key are the same edit elsewhere; "": none is.
        lines: of all statements that change.
    """

    path: Path
    splices: tuple[Splice, ...]
    kind: str
    line: int
    cost: float
    key: str = ""
    lines: tuple[int, ...] = ()

    def overlaps(self, other: Edit) -> bool:
        """Whether both cannot be made together."""
        if self.path != other.path:
            return False
        return any(_overlap(a, b) for a in self.splices for b in other.splices)


def _overlap(a: Splice, b: Splice) -> bool:
    """Whether two splices change the same bytes, or put something in at the same place.

    Sums may begin at the same place, each with its own `x = 0`.
    """
    if a.start == a.end == b.start == b.end:
        return a.new == b.new or not (BEGINNING.fullmatch(a.new) and BEGINNING.fullmatch(b.new))
    return a.start < b.end and b.start < a.end


def splices_of(start: int, old: str, new: str) -> tuple[Splice, ...]:
    """What turns a text into another one, with what stays inside left untouched.

    So an edit around an expression and one within it can be made together.

    Args:
        start: the first byte of `old`.
        old, new: the texts.

    Example:
        >>> splices_of(0, "tanh(c[t])", "c[t]")
        (Splice(start=0, end=5, new=''), Splice(start=9, end=10, new=''))
        >>> splices_of(0, "dh", "(dh / 2)")
        (Splice(start=0, end=0, new='('), Splice(start=2, end=2, new=' / 2)'))
    """
    size, at = len(old.encode()), old.find(new)
    if new and at >= 0 and old.count(new) == 1:
        first, last = len(old[:at].encode()), len(old[: at + len(new)].encode())
        pair = (Splice(start, start + first, ""), Splice(start + last, start + size, ""))
        return tuple(splice for splice in pair if splice.start < splice.end)
    at = new.find(old)
    if at >= 0 and new.count(old) == 1:
        pair = (
            Splice(start, start, new[:at]),
            Splice(start + size, start + size, new[at + len(old) :]),
        )
        return tuple(splice for splice in pair if splice.new)
    return (Splice(start, start + size, new),)


@dataclass(frozen=True)
class Unit:
    """A function of the file, not inside another one: what is compiled anew for an edit.

    Attributes:
        path: of its file.
        names: its classes and itself, as ("LSTM", "backward").
        node: its syntax tree.
        plain: whether no decorator replaces it by something else.
    """

    path: Path
    names: tuple[str, ...]
    node: FUNCTION
    plain: bool


@dataclass(frozen=True)
class FileText:
    """A file's text with its syntax tree, addressed by bytes.

    Attributes:
        path: of the file.
        data: its text, UTF-8.
        tree: its syntax tree.
        starts: the first byte of each line, line 1 at index 1.
    """

    path: Path
    data: bytes
    tree: ast.Module
    starts: tuple[int, ...] = field(repr=False)

    @classmethod
    def of(cls, path: Path, text: str) -> FileText:
        """Parsed; SyntaxError where it is no Python."""
        data = text.encode()
        starts, at = [0, 0], 0
        for line in data.split(b"\n"):
            at += len(line) + 1
            starts.append(at)
        return cls(path, data, ast.parse(text), tuple(starts))

    def start(self, node: ast.expr | ast.stmt) -> int:
        """The first byte of a node."""
        return self.starts[node.lineno] + node.col_offset

    def end(self, node: ast.expr | ast.stmt) -> int:
        """The byte after a node."""
        return self.starts[node.end_lineno or 0] + (node.end_col_offset or 0)

    def of_node(self, node: ast.expr | ast.stmt) -> str:
        """The text of a node, without brackets around it."""
        return self.data[self.start(node) : self.end(node)].decode()

    def indentation(self, node: ast.stmt) -> str:
        """What stands before a statement on its line; statements after `;` have none of their own.

        Example:
            >>> text = FileText.of(Path("f.py"), "def f():\\n    x = 1\\n")
            >>> text.indentation(text.tree.body[0].body[0])
            '    '
        """
        before = self.data[self.starts[node.lineno] : self.start(node)].decode()
        return before if not before.strip() else ""

    def after_lines(self, node: ast.stmt) -> int:
        """The first byte after the lines of a statement."""
        return min(self.starts[(node.end_lineno or node.lineno) + 1], len(self.data))

    def above(self, node: ast.stmt, *lines: str) -> Splice:
        """Lines of their own above a statement, indented as it is."""
        at, before = self.starts[node.lineno], self.indentation(node)
        return Splice(at, at, "".join(f"{before}{line}\n" for line in lines))

    def below(self, node: ast.stmt, *lines: str) -> Splice:
        """Lines of their own below a statement, indented as it is.

        Example:
            >>> text = FileText.of(Path("f.py"), "def f():\\n    x = 1\\n")
            >>> text.below(text.tree.body[0].body[0], "y = 2").new
            '    y = 2\\n'
        """
        at, before = self.after_lines(node), self.indentation(node)
        gap = "" if self.data[:at].endswith(b"\n") else "\n"
        return Splice(at, at, gap + "".join(f"{before}{line}\n" for line in lines))

    def alone(self, node: ast.stmt) -> bool:
        """Whether a statement has its lines for itself."""
        before = self.data[self.starts[node.lineno] : self.start(node)]
        end = self.data.find(b"\n", self.end(node))
        after = self.data[self.end(node) : end if end >= 0 else len(self.data)].strip()
        return not before.strip() and (not after or after.startswith(b"#"))

    def units(self) -> list[Unit]:
        """All functions that stand in no other one."""
        return list(_units(self.path, self.tree.body, ()))


def _units(path: Path, body: Sequence[ast.stmt], names: tuple[str, ...]) -> Iterable[Unit]:
    for node in body:
        if isinstance(node, FUNCTION):
            known = {"staticmethod", "classmethod", "property"}
            plain = all(isinstance(d, ast.Name) and d.id in known for d in node.decorator_list)
            yield Unit(path, (*names, node.name), node, plain)
        elif isinstance(node, ast.ClassDef):
            yield from _units(path, node.body, (*names, node.name))


def spliced(data: bytes, splices: Iterable[Splice]) -> bytes:
    """The bytes with all splices made.

    Example:
        >>> spliced(b"a = b + c", [Splice(4, 5, "d"), Splice(6, 7, "*")])
        b'a = d * c'
    """
    parts, at = [], 0
    for splice in sorted(splices):
        parts += [data[at : splice.start], splice.new.encode()]
        at = splice.end
    return b"".join([*parts, data[at:]])


def edited(texts: Mapping[Path, str], edits: Iterable[Edit]) -> dict[Path, str]:
    """The texts with edits made that do not overlap."""
    found = dict(texts)
    by_path: dict[Path, list[Splice]] = {}
    for edit in edits:
        by_path.setdefault(edit.path, []).extend(edit.splices)
    for path, splices in by_path.items():
        found[path] = spliced(texts[path].encode(), splices).decode()
    return found


def alike(edits: Sequence[Edit]) -> list[Edit]:
    """The same edit at all places of a function, for each key that stands at several."""
    by_key: dict[str, list[Edit]] = {}
    for edit in edits:
        if edit.key:
            by_key.setdefault(edit.key, []).append(edit)
    found = []
    for key, group in by_key.items():
        places: list[Edit] = []
        for edit in sorted(group, key=lambda edit: (edit.splices, edit.cost)):
            if not any(edit.overlaps(other) for other in places):
                places.append(edit)
        if len(places) > 1:
            splices = tuple(sorted(splice for edit in places for splice in edit.splices))
            lines = tuple(sorted({edit.line for edit in places}))
            cost = min(edit.cost for edit in places) + ALIKE_COST
            first = places[0]
            found.append(
                Edit(first.path, splices, f"{first.kind}, at all places alike", lines[0], cost,
                     f"{key} everywhere", lines)
            )  # fmt: skip
    return found


def beginning(file: FileText, around: ast.AST, node: ast.stmt, target: ast.expr) -> list[Splice]:
    """`x = 0` before the loop, for a variable that is only assigned in it: else nothing.

    Args:
        file: the file.
        around: the function.
        node: the statement of the loop that shall add to the variable.
        target: the variable.
    """
    loops = [
        loop
        for loop in ast.walk(around)
        if isinstance(loop, ast.For | ast.While) and any(part is node for part in ast.walk(loop))
    ]
    if not isinstance(target, ast.Name) or not loops:
        return []
    outermost = min(loops, key=lambda loop: loop.lineno)
    known = {part.arg for part in ast.walk(around) if isinstance(part, ast.arg)}
    known |= {name for part in ast.walk(around) if isinstance(part, ast.Global)
              for name in part.names}  # fmt: skip
    known |= {part.id for part in ast.walk(around)
              if isinstance(part, ast.Name) and part.lineno < outermost.lineno}  # fmt: skip
    if target.id in known or not file.alone(outermost):
        return []
    return [file.above(outermost, f"{target.id} = 0")]


def names_in(node: ast.AST, context: type[ast.expr_context]) -> set[str]:
    """The variables that are read, or are set, in a piece of code."""
    return {
        part.id
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and isinstance(part.ctx, context)
    }


def root_of(node: ast.expr) -> str:
    """The variable that an attribute or an entry is of; "" where it is none's."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
