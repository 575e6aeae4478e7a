"""What older files mean by expressions that Python 3 and NumPy 2 read otherwise, or refuse.

An array of one entry was a number wherever one was wanted, and whole numbers of Python 2 divide to
whole numbers. The syntax tree is changed before it is compiled; the file stays as it is.
"""

from __future__ import annotations

import ast
import builtins
import types
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

PYTHON_2 = {"xrange", "raw_input", "unicode", "basestring"}  # names that Python 3 lacks
METHODS_OF_2 = {"iteritems", "itervalues", "iterkeys", "has_key"}
SINGLE, QUOTIENT, WORDS, RAGGED = "_single_", "_quotient_", "_words_", "_ragged_"  # builtins, below
REDUCED = {"sum", "max", "min", "mean", "prod"}  # functions of NumPy that took a generator
NOTE = "Read as Python 2: whole numbers divide to whole numbers."


def is_python_2(tree: ast.AST) -> bool:
    """Whether a file is one of Python 2, by names that only that has."""
    future = any(
        isinstance(part, ast.ImportFrom)
        and part.module == "__future__"
        and any(alias.name == "division" for alias in part.names)
        for part in ast.walk(tree)
    )
    if future:
        return False
    names = [part for part in ast.walk(tree) if isinstance(part, ast.Name)]
    stored = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    for part in ast.walk(tree):
        if isinstance(part, ast.Name) and part.id in PYTHON_2 - stored:
            return True
        if isinstance(part, ast.Attribute) and part.attr in METHODS_OF_2:
            return True
    return False


def compiled(what: str | ast.Module, name: str, *, old: bool | None = None) -> types.CodeType:
    """The code of statements of a user's.

    Args:
        what: text, or its syntax tree, which is changed.
        name: of the file.
        old: whether it is Python 2; None: to be seen from the statements.
    """
    return _of_text(what, name, old) if isinstance(what, str) else _of_tree(what, name, old)


@lru_cache(maxsize=512)
def _of_text(text: str, name: str, old: bool | None) -> types.CodeType:
    return _of_tree(ast.parse(text, name), name, old)


def _of_tree(tree: ast.Module, name: str, old: bool | None) -> types.CodeType:
    tree = _Older(is_python_2(tree) if old is None else old).visit(tree)
    return compile(ast.fix_missing_locations(tree), name, "exec")


class _Older(ast.NodeTransformer):
    """Puts calls in the place of expressions that have another meaning today."""

    def __init__(self, old: bool) -> None:
        self._old = old

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.body[:0] = _late_defaults(node)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        target = node.targets[0]
        if len(node.targets) == 1 and isinstance(target, ast.Subscript) and _is_item(target):
            node.value = _call(SINGLE, node.value, _loaded(target.value))
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.target, ast.Subscript) and _is_item(node.target):
            node.value = _call(SINGLE, node.value, _loaded(node.target.value))
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if not _is_numpys(node.func) or len(node.args) != 1 or node.keywords:
            return node
        (given,) = node.args
        if node.func.attr in REDUCED and isinstance(given, ast.GeneratorExp):  # type: ignore[attr-defined]
            node.args = [ast.copy_location(ast.ListComp(given.elt, given.generators), given)]
        if node.func.attr in ("array", "asarray") and not isinstance(given, ast.Constant):  # type: ignore[attr-defined]
            return _call(RAGGED, node.func, given)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        words = isinstance(node.left, ast.Constant) and isinstance(node.left.value, str)
        if isinstance(node.op, ast.Mod) and words:
            return _call(WORDS, node.left, node.right)
        if self._old and isinstance(node.op, ast.Div):
            return _call(QUOTIENT, node.left, node.right)
        return node


def _late_defaults(node: ast.FunctionDef) -> list[ast.stmt]:
    """Statements that look up, in a call, a default that was None when the function was made.

    A function is made before the statements of the file are run that set `p` of `def f(p=p)`.
    """
    given = node.args.defaults
    positional = [*node.args.posonlyargs, *node.args.args]
    pairs = [*zip(positional[len(positional) - len(given) :], given, strict=True),
             *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]  # fmt: skip
    lines = [
        f"if {argument.arg} is None: {argument.arg} = globals().get({default.id!r})"
        for argument, default in pairs
        if isinstance(default, ast.Name) and not hasattr(builtins, default.id)
    ]
    found = ast.parse("\n".join(lines)).body
    for statement in found:
        for part in ast.walk(statement):
            ast.copy_location(part, node.body[0])
    return found


def _is_item(target: ast.Subscript) -> bool:
    """Whether an assignment may be to one entry, of something that is cheap to look at twice."""
    parts = target.slice.elts if isinstance(target.slice, ast.Tuple) else [target.slice]
    plain = all(isinstance(p, ast.Name | ast.Attribute | ast.Load | ast.Store)
                for p in ast.walk(target.value))  # fmt: skip
    return plain and not any(isinstance(part, ast.Slice) for part in parts)


def _is_numpys(node: ast.expr) -> bool:
    """Whether it is a function of NumPy under one of its usual names, as `np.sum`."""
    return isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in ("np", "numpy")


def _loaded(node: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(node), mode="eval").body


def _call(name: str, *given: ast.expr) -> ast.Call:
    function = ast.copy_location(ast.Name(name, ast.Load()), given[0])
    return ast.copy_location(ast.Call(function, list(given), []), given[0])


def _single(value: Any, place: Any) -> Any:
    """An array of one entry as a number, where it is put into an array of numbers."""
    alone = isinstance(value, np.ndarray) and value.size == 1 and value.ndim
    if alone and isinstance(place, np.ndarray) and place.dtype.kind in "fiuc":
        return value.reshape(())[()]
    return value


def _ragged(make: Callable[[Any], Any], value: Any) -> Any:
    """An array of what has several shapes: one of objects, as NumPy made it before 1.24."""
    try:
        return make(value)
    except ValueError:
        if not isinstance(value, list | tuple):
            raise
        found = np.empty(len(value), dtype=object)
        for n, part in enumerate(value):
            found[n] = part
        return found


def _quotient(a: Any, b: Any) -> Any:
    """What `/` gave in Python 2."""
    return a // b if _is_whole(a) and _is_whole(b) else a / b


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) or (
        isinstance(value, np.ndarray) and value.dtype.kind in "iu"
    )


def _words(form: str, given: Any) -> str:
    """`form % given`; what does not fit, as an array of one entry, is shown as it is."""
    try:
        return str(form % given)
    except TypeError:
        return f"{form} {given}"


class _Number:
    """`float` or `int`, that also takes an array of one entry."""

    def __init__(self, kind: type) -> None:
        self.kind, self.dtype = kind, np.dtype(kind)
        self.__name__, self.__doc__ = kind.__name__, kind.__doc__

    def __call__(self, *given: Any, **named: Any) -> Any:
        if given and isinstance(given[0], np.ndarray) and given[0].size == 1:
            given = (given[0].item(), *given[1:])
        return self.kind(*given, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kind, name)

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, self.kind)

    def __subclasscheck__(self, kind: type) -> bool:
        return issubclass(kind, self.kind)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self.kind,)

    def __or__(self, other: Any) -> Any:
        return self.kind | (other.kind if isinstance(other, _Number) else other)

    def __ror__(self, other: Any) -> Any:
        return other | self.kind

    def __eq__(self, other: object) -> bool:
        return other is self.kind or (isinstance(other, _Number) and other.kind is self.kind)

    def __hash__(self) -> int:
        return hash(self.kind)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Number:
        return self


BUILTINS: dict[str, Any] = {
    SINGLE: _single,
    QUOTIENT: _quotient,
    WORDS: _words,
    RAGGED: _ragged,
    "float": _Number(float),
}
