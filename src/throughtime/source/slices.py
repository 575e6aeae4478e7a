"""The statements of a file that a function needs: its own constants and tables, made small."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from throughtime.source.meanings import SIZE_KINDS, VALUES, size_kind

OLD_BUILTINS = {"xrange", "raw_input", "unicode", "long"}
FILLS = {"append", "extend", "add", "update", "insert", "fill", "setdefault"}
MADE_LATER = re.compile(r"^_?(init|build|setup|set_up|reset)(?!\w*(plot|log|print))", re.I)
"""Methods that make the weights of an object which is there, as `net.init_weights(x)`."""
COUNTS = re.compile(r"size|dim|num_?|^n_|len|count|units|_no$|epochs?$|iter", re.I)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
OUTSIDE = {
    "load", "loadtxt", "genfromtxt", "read_csv", "load_data",
    "urlopen", "urlretrieve", "get", "download", "argv", "parse_args",
    "load_dataset", "fetch_openml", "read_table", "read_excel", "savetxt", "save", "makedirs",
    "print", "show", "plot", "figure", "get_input", "read_text",
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
    loads: set[str] = set()
    stores: set[str] = set()
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
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            called = part.value.func
            if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                filled = called.attr in FILLS or MADE_LATER.match(called.attr)
                found |= {called.value.id} if filled else set()
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
        in_order: whether all statements come before what is asked for, so that the last one that
            sets a name counts; else those before the file's training loop count.
        as_written: whether sizes stay as they are, and are not made small.
        siblings: definitions that the file imports from others of its folder.
    """

    def __init__(
        self,
        tree: ast.Module,
        within: Iterable[ast.stmt] = (),
        *,
        in_order: bool = False,
        as_written: bool = False,
        siblings: Mapping[str, ast.AST] | None = None,
    ) -> None:
        self._in_order, self._as_written = in_order, as_written
        self._called: dict[tuple[int, ...], dict[str, list[ast.Call]]] = {}
        self._scopes: list[Sequence[ast.AST]] | None = None
        self.definitions: dict[str, ast.AST] = {}
        self.siblings: dict[str, ast.AST] = dict(siblings or {})
        self.statements: list[ast.stmt] = []
        self.imported: set[str] = set()
        self._set: set[str] = set()  # names that some statement sets, where `*` is imported
        self.attached: list[tuple[str, str, ast.Assign]] = []  # class, method, `A.b = c`
        self._add([*top_level(tree), *within])
        if "*" in self.imported:
            self._set = {name for node in self.statements for name in names_set(node)}

    def _add(self, nodes: Iterable[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imported |= {(a.asname or a.name).split(".")[0] for a in node.names}
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self.definitions[node.name] = node
            elif isinstance(node, ast.Try | ast.With):
                self._add(node.body if isinstance(node, ast.Try) else [*_opening(node), *node.body])
            elif (pair := _attached(node)) and pair[0] in self.definitions:
                assert isinstance(node, ast.Assign)
                self.attached.append((*pair, node))
            else:
                self.statements.append(node)

    @property
    def classes(self) -> dict[str, ast.ClassDef]:
        """The classes of the file by name, with those of its folder that it imports."""
        every = {**self.siblings, **self.definitions}
        return {name: node for name, node in every.items() if isinstance(node, ast.ClassDef)}

    def scopes(self) -> list[Sequence[ast.AST]]:
        """The statements at the top of the file, and each function: names mean one thing in it."""
        if self._scopes is None:
            self._scopes = [list(self.statements)]
            for node in self.definitions.values():
                functions = (p for p in ast.walk(node) if isinstance(p, ast.FunctionDef))
                self._scopes += [[part] for part in functions]
        return self._scopes

    def calls_of(self, name: str, within: Sequence[ast.AST] | None = None) -> Iterator[ast.Call]:
        """The calls of a function or method of this name, anywhere in the file or in a scope."""
        nodes = within if within is not None else [*self.statements, *self.definitions.values()]
        key = tuple(map(id, nodes))  # asked for again and again, while the file stays
        if key not in self._called:
            found: dict[str, list[ast.Call]] = {}
            for node in nodes:
                for part in ast.walk(node):
                    if isinstance(part, ast.Call):
                        called = getattr(part.func, "attr", getattr(part.func, "id", ""))
                        found.setdefault(called, []).append(part)
            self._called[key] = found
        yield from self._called[key].get(name, ())

    def results_of(
        self, name: str, *, method: bool, within: Sequence[ast.AST]
    ) -> Iterator[list[str]]:
        """The names that results of calls of a function are given in a scope, "" for none."""
        for node in within:
            for part in ast.walk(node):
                if isinstance(part, ast.Assign) and isinstance(part.value, ast.Call):
                    func = part.value.func
                    if getattr(func, "attr" if method else "id", "") == name:
                        target = part.targets[0]
                        every = target.elts if isinstance(target, ast.Tuple) else [target]
                        yield [getattr(t, "id", getattr(t, "attr", "")) for t in every]

    def names_used(self, functions: Iterable[ast.AST]) -> set[str]:
        """The names that functions read."""
        return {name for function in functions for name in names_read(function)}

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
            elif self.is_own(name):
                found.add(name)
        return found

    def closure(self, names: Iterable[str]) -> set[str]:
        """These names, and those that the statements which set them read, and so on."""
        waiting, found = list(names), set()
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found.add(name)
            for node in self.statements:
                if name in names_set(node):
                    waiting += [read for read in names_read(node) if self.is_own(read)]
        return found

    def is_set(self, name: str) -> bool:
        """Whether some statement sets a name."""
        return any(name in names_set(node) for node in self.statements)

    def is_loaded(self, name: str) -> bool:
        """Whether some statement sets a name, and all that do reach out of the program.

        So does one that gives another name to what was loaded.
        """
        setting = [node for node in self.statements if name in names_set(node)]
        return bool(setting) and all(not small(n) or self._renames(n, name) for n in setting)

    def _renames(self, node: ast.stmt, name: str) -> bool:
        value = getattr(node, "value", None)
        renamed = isinstance(node, ast.Assign) and isinstance(value, ast.Name)
        return renamed and value.id != name and self.is_loaded(value.id)  # type: ignore[union-attr]

    def text(self, names: Iterable[str], known: Iterable[str] = ()) -> str:
        """The statements that set these names, in their order, made small; "" where none does.

        Long loops and conditions are left out, as is whatever reaches out of the program, and
        what reads a name that only those would set.
        """
        usable = self._usable(set(known))
        wanted, kept = set(names) - set(known), set()
        lines: list[str] = []
        for sets, line in reversed(usable):
            if not sets & wanted:
                continue
            lines.append(line)
            kept |= sets
            for read in names_read(ast.parse(line)):
                if read in self.definitions:
                    wanted |= self.globals_of([read]) - set(known)
                elif self.is_own(read) and read not in known:
                    wanted.add(read)
        for name in sorted(wanted - kept):
            kind = size_kind(name)
            if kind in VALUES and is_count(name) and not self._is_computed(name):
                lines.append(f"{name} = {VALUES[kind][0]}")
        lines += [ast.unparse(node) for _, _, node in reversed(self.attached)]
        return "\n".join(reversed(lines))

    def _usable(self, known: set[str]) -> list[tuple[set[str], str]]:
        """The statements that can be run, made small, with the names that each sets."""
        found: list[tuple[set[str], str]] = []
        there, trained = set(known), False
        for node in self.statements:
            idle = isinstance(node, ast.Expr) and not names_set(node)
            if (
                idle
                or isinstance(node, ast.While | ast.Delete)
                or (isinstance(node, ast.For | ast.If) and not _harmless(node))
            ):
                trained = trained or isinstance(node, ast.While | ast.For)
                continue
            sets = names_set(node)
            line = small(node) if not self._as_written or reaches_out(node) else ast.unparse(node)
            if not line or (trained and sets <= there and not self._in_order):
                continue
            read = {n for n in names_read(ast.parse(line)) if self.is_own(n)}
            read |= self.globals_of(n for n in names_read(node) if n in self.definitions)
            if any(not size_kind(n) or self._is_computed(n) for n in read - there):
                continue
            found.append((sets, line))
            there |= sets
        return found

    def is_own(self, name: str) -> bool:
        """Whether a name is neither defined, nor imported, nor Python's."""
        known = name in self.definitions or name in self.imported
        if "*" in self.imported and name not in self._set:
            return False
        return not (known or hasattr(builtins, name) or name in OLD_BUILTINS)

    def _is_computed(self, name: str) -> bool:
        """Whether the file computes what it sets a name to, so that it may be no number."""
        values = [
            node.value
            for node in self.statements
            if isinstance(node, ast.Assign) and name in names_set(node)
        ]
        if re.search(r"size|dim|^num_|^n_|_len$|count", name):
            return False
        return any(not _is_number(value) and not reaches_out(value) for value in values)


def is_count(name: str) -> bool:
    """Whether a name can only be that of a number or a setting, and of no data."""
    if size_kind(name) in ("rate", "small", "path", "scale", "dropout", "hidden"):
        return True
    return bool(COUNTS.search(name)) or name.isupper() or len(name) <= 2


def free_names(body: Iterable[ast.AST], known: Iterable[str] = ()) -> set[str]:
    """The names that statements read before they set them."""
    set_already, free = set(known), set()

    def read(node: ast.AST) -> None:
        inner = {
            n.id
            for part in ast.walk(node)
            if isinstance(part, ast.comprehension)
            for n in ast.walk(part.target)
            if isinstance(n, ast.Name)
        }
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id not in set_already | inner:
                free.add(part.id)

    def store(target: ast.AST) -> None:
        for part in ast.walk(target):
            if isinstance(part, ast.Name):
                if isinstance(part.ctx, ast.Store):
                    set_already.add(part.id)
                else:
                    read(part)

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Assign):
            read(node.value)
            for target in node.targets:
                store(target)
        elif isinstance(node, ast.AugAssign):
            read(node.value)
            if isinstance(node.target, ast.Name):
                if node.target.id not in set_already:
                    free.add(node.target.id)
            else:
                store(node.target)
        elif isinstance(node, ast.For):
            read(node.iter)
            store(node.target)
            for part in [*node.body, *node.orelse]:
                visit(part)
        elif isinstance(node, DEFINITIONS):
            set_already.add(getattr(node, "name", ""))
        elif isinstance(node, ast.stmt) and hasattr(node, "body"):
            for field, value in ast.iter_fields(node):
                for part in value if isinstance(value, list) else [value]:
                    if isinstance(part, ast.stmt):
                        visit(part)
                    elif isinstance(part, ast.withitem):
                        read(part.context_expr)
                        if part.optional_vars is not None:
                            store(part.optional_vars)
                    elif isinstance(part, ast.AST) and field != "handlers":
                        read(part)
        else:
            read(node)

    for node in body:
        visit(node)
    return free


def _opening(node: ast.With) -> list[ast.stmt]:
    """`with f() as name` as `name = f()`."""
    return [
        ast.copy_location(ast.Assign([item.optional_vars], item.context_expr), node)
        for item in node.items
        if item.optional_vars is not None
    ]


def _attached(node: ast.stmt) -> tuple[str, str] | None:
    """Class and method of `Class.method = function`."""
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
        target = node.targets[0]
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            return target.value.id, target.attr
    return None


def _harmless(node: ast.stmt) -> bool:
    """Whether a compound statement only fills tables: short, and without calls of methods."""
    size = sum(isinstance(part, ast.stmt) for part in ast.walk(node))
    return size <= 6 and not reaches_out(node)


def small(node: ast.stmt) -> str:
    """A statement's text; a size in it is made small; "" for what reaches out."""
    if isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) for t in node.targets):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        sized = [name for name in names if size_kind(name) in SIZE_KINDS]
        text = _one((sized or names)[0], node.value)
        return text and "".join(f"{n} = " for n in names) + text.partition(" = ")[2]
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=False))
            if len(target.elts) == len(value.elts) and any(_is_number(v) for _, v in pairs):
                lines = [_one(n.id, v) for n, v in pairs if isinstance(n, ast.Name)]
                return "\n".join(lines) if len(lines) == len(pairs) and all(lines) else ""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        return _one(node.target.id, node.value)
    return "" if reaches_out(node) else ast.unparse(node)


def _one(name: str, value: ast.expr) -> str:
    """`name = value`, made small."""
    kind = size_kind(name)
    if _is_number(value) and kind in SIZE_KINDS and isinstance(ast.literal_eval(value), int):
        # One output, or one input, is not made more: a mean over it is no mean then.
        single = kind in ("inputs", "outputs") and ast.literal_eval(value) == 1
        return f"{name} = {1 if single else VALUES[kind][0]}"
    if not reaches_out(value):
        return f"{name} = {ast.unparse(value)}"
    if kind in SIZE_KINDS:
        return f"{name} = {VALUES[kind][0]}"
    return ""


def _is_number(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, int | float)
