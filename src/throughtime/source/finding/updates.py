"""What the user's own updates say of the sign of a gradient."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from throughtime.source.finding.candidates import returned
from throughtime.source.finding.training_steps import is_gradient
from throughtime.source.meanings import size_kind


def is_added(texts: Iterable[str], parameters: Iterable[str]) -> bool:
    """Whether updates add gradients to parameters, `W += rate * dW`, and none takes them away.

    Args:
        texts: of the user's files.
        parameters: their dotted names.
    """
    names = {name.rpartition(".")[2] for name in parameters}
    signs = {sign for text in texts for node in ast.walk(ast.parse(text))
             if (sign := _sign(node, names))}  # fmt: skip
    return signs == {1}


def moved_by(function: ast.FunctionDef) -> tuple[str, ...]:
    """The names that a function returns after an update of them, `W = W - rate * dW`."""
    moved = {
        _leaf(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        for node in ast.walk(function)
        if isinstance(node, ast.Assign | ast.AugAssign) and _sign(node, set())
    }
    return tuple(name for name in returned(function) if name in moved)


def _sign(node: ast.AST, names: set[str]) -> int:
    """With which sign a statement adds a gradient to what may be a parameter; 0 where it is none.

    What a loop runs over is a parameter where a rate stands beside it.
    """
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.Sub):
        target: ast.expr = node.target
        value, minus = node.value, isinstance(node.op, ast.Sub)
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp):
        target, value, minus = node.targets[0], node.value.right, isinstance(node.value.op, ast.Sub)
        if ast.unparse(node.value.left) != ast.unparse(target):
            return 0
        if not isinstance(node.value.op, ast.Add | ast.Sub):
            return 0
    else:
        return 0
    own, words = _leaf(target), {_leaf(part) for part in ast.walk(value)} - {""}
    rate = any(size_kind(word) == "rate" for word in words)
    if is_gradient(own) or not (own in names or rate):
        return 0
    if not (rate or any(is_gradient(word) for word in words)):
        return 0
    while isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult | ast.Div):
        value = value.left
    minus = minus != (isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub))
    return -1 if minus else 1


def _leaf(node: ast.AST) -> str:
    """The last name of an expression, "" where it has none."""
    while isinstance(node, ast.Subscript):
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            return node.slice.value
        node = node.value
    return str(getattr(node, "attr", getattr(node, "id", "")))
