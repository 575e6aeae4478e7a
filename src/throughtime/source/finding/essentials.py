"""A training step without what it only counts or shows: its loss and gradient are the same."""

from __future__ import annotations

import ast
import builtins
import copy
from collections.abc import Iterator, Sequence

from throughtime.source.finding.training_steps import LOSS_NAME, is_gradient, is_pass
from throughtime.source.slices import names_set, reaches_out

LIBRARIES = ("np", "numpy", "math", "random", "time", "torch")


def essentials(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements of a step without those whose results nothing in it reads.

    A prediction that is put into letters, an accuracy and a counter fail where data are lost that
    only they need. What may change an object, as a call of a method of the user's does, stays.

    Args:
        body: statements, which stay as they are.

    Example:
        >>> tree = ast.parse("h = x @ W\\nword += letters[np.argmax(h)]\\nloss = h.sum()")
        >>> [ast.unparse(node) for node in essentials(tree.body)]
        ['h = x @ W', 'loss = h.sum()']
    """
    kept = [copy.deepcopy(node) for node in body]
    while idle := [node for node in _simple(kept) if _is_idle(node, kept)]:
        kept = _without(kept, {id(node) for node in idle})
    return kept


def _simple(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements, those within loops and conditions too, without these themselves."""
    for node in body:
        inner = [part for field in ("body", "orelse") for part in getattr(node, field, [])]
        if inner:
            yield from _simple(inner)
        else:
            yield node


def _is_idle(node: ast.stmt, body: Sequence[ast.stmt]) -> bool:
    """Whether nothing but a statement itself reads what it sets, and it does nothing else."""
    if isinstance(node, ast.Expr):
        call = node.value
        shown = isinstance(call, ast.Call) and getattr(call.func, "id", "") == "print"
        if shown or isinstance(call, ast.Constant):
            return True
        if not (isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "append"):
            return False
    elif not isinstance(node, ast.Assign | ast.AugAssign):
        return False
    sets = names_set(node)
    if not sets or any(LOSS_NAME.search(n) or is_gradient(n) for n in sets) or is_pass(node):
        return False
    if any(isinstance(p, ast.Attribute) and isinstance(p.ctx, ast.Store) for p in ast.walk(node)):
        return False
    if not reaches_out(node) and not all(map(_is_harmless, _calls(node))):
        return False
    others = (other for other in _parts(body) if other is not node)
    return not any(sets & _reads(other) for other in others)


def _calls(node: ast.stmt) -> Iterator[ast.Call]:
    own = node.value if isinstance(node, ast.Expr) else None
    yield from (p for p in ast.walk(node) if isinstance(p, ast.Call) and p is not own)


def _is_harmless(call: ast.Call) -> bool:
    """Whether a call changes nothing: one of a library's, or of a function by its name alone."""
    func = call.func
    if isinstance(func, ast.Name):
        return True
    while isinstance(func, ast.Attribute):
        func = func.value
    base = getattr(func, "id", "")
    return base in LIBRARIES or hasattr(builtins, base) or not base


def _parts(body: Sequence[ast.stmt]) -> Iterator[ast.AST]:
    """Simple statements, and the headers of loops and conditions."""
    for node in body:
        inner = [part for field in ("body", "orelse") for part in getattr(node, field, [])]
        if not inner:
            yield node
            continue
        yield from (getattr(node, name) for name in ("test", "iter") if hasattr(node, name))
        yield from getattr(node, "items", [])
        yield from _parts(inner)


def _reads(node: ast.AST) -> set[str]:
    """The names that a statement reads; it reads what it changes in place, too."""
    read = {p.id for p in ast.walk(node) if isinstance(p, ast.Name) and isinstance(p.ctx, ast.Load)}
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        read.add(node.target.id)
    return read


def _without(body: Sequence[ast.stmt], idle: set[int]) -> list[ast.stmt]:
    """The statements without some of them; loops and conditions that have none left go, too."""
    found: list[ast.stmt] = []
    for node in body:
        if id(node) in idle:
            continue
        if getattr(node, "body", None):
            node.body = _without(node.body, idle)  # type: ignore[attr-defined]
            node.orelse = _without(getattr(node, "orelse", []), idle)  # type: ignore[attr-defined]
            if not node.body:  # type: ignore[attr-defined]
                continue
        found.append(node)
    return found
