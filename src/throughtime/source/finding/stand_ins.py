"""What stands in for values that a file cannot compute here, by how they are used.

A size that is counted in a text that is not there, a table of its letters, an object that another
file makes: functions read them, and without them nothing runs. What is made of them by the file
itself, as weights of that size, is computed as it is written there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

from throughtime.source.meanings import INPUTS, SIZE_KINDS, SYMBOLS, VALUES, size_kind
from throughtime.source.slices import Slices

SHAPED = {
    "zeros", "ones", "empty", "full", "randn", "rand", "random", "random_sample", "normal",
    "standard_normal", "uniform", "randint", "eye", "identity", "reshape", "range", "xrange",
    "arange", "one_hot", "to_categorical",
}  # fmt: skip
"""Calls whose arguments are numbers of entries."""
ARRAYS = {"array", "asarray", "atleast_2d", "reshape", "matrix"}
"""Calls that take an item of a table for an array: it holds a vector for each symbol."""


def stand_ins(lost: Iterable[str], slices: Slices) -> dict[str, str]:
    """Expressions for lost names whose use says what they are, those that others wait for first.

    A name is left out while its own statement reads another one that is found: that statement
    can be run then.

    Args:
        lost: names that have no value.
        slices: of the file.

    Example:
        >>> file = Slices(ast.parse("def f(x):\\n    return W @ np.zeros((count, 1))"))
        >>> stand_ins(["count", "W"], file)
        {'count': '5'}
    """
    nodes: list[ast.AST] = [*slices.statements, *slices.definitions.values()]
    uses = {name: _Use(name, nodes) for name in lost}
    found = {n: text for n, use in uses.items() if (text := use.expression(slices.classes))}
    waiting = {n for n in found if (slices.closure([n]) - {n}) & found.keys()}
    return {n: text for n, text in found.items() if n not in waiting}


class _Use:
    """How code uses a name: as a number of entries, as a table of symbols, as an object."""

    def __init__(self, name: str, nodes: Iterable[ast.AST]) -> None:
        self.name = name
        self.is_size = self.is_table = self.of_arrays = False
        self.called: set[str] = set()
        for node in nodes:
            self._look(node, False)

    def _look(self, node: ast.AST, as_array: bool) -> None:
        if isinstance(node, ast.Subscript) and self._is(node.value):
            self.is_table |= not isinstance(node.slice, ast.Slice | ast.Constant | ast.Tuple)
            self.of_arrays |= as_array
        elif isinstance(node, ast.Attribute) and self._is(node.value):
            self.called.add(node.attr)
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = [*node.args, *(k.value for k in node.keywords)]
            self.is_size |= called in SHAPED and any(map(self._is, _numbers(given)))
            as_array = called in ARRAYS
        for part in ast.iter_child_nodes(node):
            self._look(part, as_array)

    def _is(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id == self.name

    def expression(self, classes: Mapping[str, ast.ClassDef]) -> str:
        """What stands in for the name; "" where its use does not say."""
        for made, node in classes.items():
            own = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            if made.lower() == self.name.lower() and made != self.name and self.called & own:
                return f"{made}()"
        if self.is_size:
            kind = size_kind(self.name)
            return VALUES[kind][0] if kind in SIZE_KINDS else str(INPUTS)
        if not self.is_table or self.called - {"get", "keys", "values", "items"}:
            return ""
        item = f"np.eye({INPUTS})[n % {INPUTS}]" if self.of_arrays else f"n % {INPUTS}"
        return f"{{key: {item} for n, key in enumerate([*range({INPUTS}), *{SYMBOLS!r}])}}"


def _numbers(given: Iterable[ast.expr]) -> Iterator[ast.AST]:
    """The parts of arguments that are numbers: those of tuples and of sums and products, too."""
    for part in given:
        if isinstance(part, ast.Tuple | ast.List):
            yield from _numbers(part.elts)
        elif isinstance(part, ast.BinOp):
            yield from _numbers([part.left, part.right])
        elif isinstance(part, ast.Call) and getattr(part.func, "id", "") in ("range", "int"):
            yield from _numbers(part.args)
        else:
            yield part
