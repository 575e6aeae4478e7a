"""The statements of a file that a function needs: its own constants and tables, made small."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable

from throughtime.source.meanings import SIZE_KINDS, TEXT, VALUES, size_kind

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
OUTSIDE = {
    "open", "read", "readlines", "load", "loadtxt", "genfromtxt", "read_csv", "load_data",
    "urlopen", "urlretrieve", "get", "download", "input", "raw_input", "argv", "parse_args",
    "load_dataset", "fetch_openml", "read_table", "read_excel", "savetxt", "save", "makedirs",
    "print", "show", "plot", "figure", "get_input", "read_text", "readline",
}  # fmt: skip
"""Calls that reach out of the program, or only show something: none of them is run."""


def top_level(tree: ast.Module) -> list[ast.stmt]:
    """The statements of a file, with those under `if __name__ == "__main__":` in their place."""
    found: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.If) and "__name__" in ast.dump(node.test):
            found += node.body
        else:
            found.append(node)
    return found


def names_read(node: ast.AST) -> set[str]:
    """Names that are read in a piece of code and not bound in it."""
    loads, stores = set(), set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            (loads if isinstance(part.ctx, ast.Load) else stores).add(part.id)
        elif isinstance(part, ast.arg):
            stores.add(part.arg)
        elif isinstance(part, ast.Global):
            loads |= set(part.names)
        elif isinstance(part, DEFINITIONS) and hasattr(part, "name"):
            stores.add(part.name)
        elif isinstance(part, ast.AugAssign) and isinstance(part.target, ast.Name):
            loads.add(part.target.id)
    if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda | ast.AsyncFunctionDef):
        return loads - (stores - _read_first(node))
    stores -= {n for part in ast.walk(node) if isinstance(part, ast.Global) for n in part.names}
    return loads - stores


def _read_first(node: ast.AST) -> set[str]:
    """Names that a statement reads as well as sets, as `x += 1` and `x = x.T` do."""
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    if isinstance(node, ast.Assign):
        inner = {
            n.id
            for part in ast.walk(node.value)
            if isinstance(part, ast.comprehension | ast.Lambda)
            for n in ast.walk(part.target if isinstance(part, ast.comprehension) else part.args)
            if isinstance(n, ast.Name)
        }
        return {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)} - inner
    return set()


def names_set(node: ast.stmt) -> set[str]:
    """Names that a statement sets, or changes in place."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            found.add(part.id)
        elif isinstance(part, ast.Subscript | ast.Attribute) and isinstance(part.ctx, ast.Store):
            base: ast.AST = part
            while isinstance(base, ast.Subscript | ast.Attribute):
                base = base.value
            if isinstance(base, ast.Name):
                found.add(base.id)
    return found


def reaches_out(node: ast.AST) -> bool:
    """Whether a statement opens, loads, prints or shows something."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call):
            name = part.func.attr if isinstance(part.func, ast.Attribute) else getattr(
                part.func, "id", "")  # fmt: skip
            if name in OUTSIDE and not (name == "get" and not part.args):
                return True
        if isinstance(part, ast.Attribute) and part.attr == "argv":
            return True
    return False


class Slices:
    """What stands at the top of a file, and which of it is needed for a name.

    Args:
        tree: of the file.
        within: statements that come after those at the top, as those of a `main` function.
    """

    def __init__(self, tree: ast.Module, within: Iterable[ast.stmt] = ()) -> None:
        self.definitions: dict[str, ast.AST] = {}
        self.statements: list[ast.stmt] = []
        self.imported: set[str] = set()
        for node in [*top_level(tree), *within]:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imported |= {(a.asname or a.name).split(".")[0] for a in node.names}
            elif isinstance(node, DEFINITIONS):
                self.definitions[node.name] = node
            else:
                self.statements.append(node)

    def globals_of(self, names: Iterable[str]) -> set[str]:
        """The names at the top of the file that definitions read, directly or through others."""
        waiting, seen, found = list(names), set(), set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.definitions:
                waiting += names_read(self.definitions[name])
            elif name not in self.imported and not hasattr(builtins, name):
                found.add(name)
        return found

    def text(self, names: Iterable[str], known: Iterable[str] = ()) -> str:
        """The statements that set these names, in their order, made small; "" where none does.

        Loops and conditions are left out, as is whatever reaches out of the program: text that
        would be read from a file is a short one of five symbols.
        """
        wanted, kept = set(names) - set(known), set()
        known = set(known)
        lines: list[str] = []
        for node in reversed(self.statements):
            sets = names_set(node) & wanted
            if not sets or isinstance(node, ast.While | ast.Delete):
                continue
            if isinstance(node, ast.For | ast.If | ast.Try) and not _harmless(node):
                continue
            line = small(node)
            if not line:
                continue
            lines.append(line)
            for read in names_read(ast.parse(line)):
                if read in self.definitions:
                    wanted |= self.globals_of([read]) - known
                elif read not in self.imported and not hasattr(builtins, read):
                    wanted.add(read)
            kept |= sets
            wanted -= known
        missing = [name for name in sorted(wanted - kept) if name not in self.imported]
        for name in missing:
            if kind := size_kind(name):
                lines.append(f"{name} = {VALUES[kind][0]}" if kind in VALUES else "")
        return "\n".join(line for line in reversed(lines) if line)


def _harmless(node: ast.stmt) -> bool:
    """Whether a compound statement only fills tables: short, and without calls of methods."""
    size = sum(isinstance(part, ast.stmt) for part in ast.walk(node))
    return size <= 6 and not reaches_out(node)


def small(node: ast.stmt) -> str:
    """A statement's text; a size in it is made small, and what reaches out is drawn instead."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Name):
            return _one(target.id, value)
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=False))
            if len(target.elts) == len(value.elts) and all(
                isinstance(name, ast.Name) for name, _ in pairs
            ):
                if any(_is_number(v) or reaches_out(v) for _, v in pairs):
                    return "\n".join(_one(n.id, v) for n, v in pairs)  # type: ignore[attr-defined]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        return _one(node.target.id, node.value)
    if isinstance(node, ast.With):
        inner = [small(part) for part in node.body if isinstance(part, ast.Assign)]
        return "\n".join(line for line in inner if line)
    return "" if reaches_out(node) else ast.unparse(node)


def _one(name: str, value: ast.expr) -> str:
    """`name = value`, made small."""
    kind = size_kind(name)
    if _is_number(value) and kind in SIZE_KINDS and isinstance(ast.literal_eval(value), int):
        return f"{name} = {VALUES[kind][0]}"
    if not reaches_out(value):
        return f"{name} = {ast.unparse(value)}"
    if kind in SIZE_KINDS:
        return f"{name} = {VALUES[kind][0]}"
    return f"{name} = {TEXT!r}" if _holds_text(value) else ""


def _is_number(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, int | float)


def _holds_text(value: ast.expr) -> bool:
    """Whether an expression reads text."""
    return any(word in ast.dump(value) for word in ("'open'", "'read'", "'readlines'"))

