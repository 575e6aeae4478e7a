"""What the user's own updates say of the sign of a gradient."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping

from throughtime.source.finding.candidates import returned
from throughtime.source.finding.training_steps import is_gradient
from throughtime.source.meanings import size_kind
from throughtime.source.text import tree_of

MOVES = re.compile(r"optim|update|adam|sgd|adagrad|rmsprop|apply_grad|^step$", re.I)
CLEARS = re.compile(r"zero|reset|clear|clip", re.I)  # beside it: these are no updates
BACKWARD = re.compile(r"back|bptt|grad", re.I)


def is_added(texts: Iterable[str], parameters: Iterable[str]) -> bool:
    """Whether updates add gradients to parameters, `W += rate * dW`, and none takes them away.

    Args:
        texts: of the user's files.
        parameters: their dotted names.
    """
    names = {name.rpartition(".")[2] for name in parameters}
    signs = {sign for text in texts for node in ast.walk(tree_of(text))
             if (sign := _sign(node, names))}  # fmt: skip
    return signs == {1}


def moved_by(function: ast.FunctionDef) -> tuple[str, ...]:
    """The names that a function returns after an update of them, `W = W - rate * dW`."""
    moved = {
        _leaf(_target(node))
        for node in ast.walk(function)
        if isinstance(node, ast.Assign | ast.AugAssign) and _sign(node, set())
    }
    return tuple(name for name in returned(function) if name in moved)


def is_moved(texts: Iterable[str], name: str) -> bool:
    """Whether an update of the user's moves what has this name, `W -= rate * dW`."""
    return any(
        _sign(node, {name}) and name == _leaf(_target(node))
        for text in texts
        for node in ast.walk(tree_of(text))
    )


def is_plain_descent(texts: Iterable[str], parameters: Iterable[str]) -> bool:
    """Whether every parameter has an update that is a rate times its gradient and nothing more.

    Then what it is moved by is a gradient, whether right or wrong, and no optimiser's step.

    Example:
        >>> is_plain_descent(["W -= rate * dW\\nb = b - 0.1 * db"], ["net.W", "b"])
        True
        >>> is_plain_descent(["W -= rate * dW / np.sqrt(memory + 1e-8)"], ["W"])
        False
    """
    names = {name.rpartition(".")[2] for name in parameters}
    moved = {
        _leaf(_target(node))
        for text in texts
        for node in ast.walk(tree_of(text))
        if _sign(node, names) == -1 and _is_scaled_gradient(node)
    }
    return names <= moved


def _is_scaled_gradient(node: ast.AST) -> bool:
    """Whether what an update takes away is a product of a rate, or a number, and a gradient."""
    value = node.value if isinstance(node, ast.AugAssign | ast.Assign) else None
    if isinstance(node, ast.Assign):
        value = node.value.right  # type: ignore[attr-defined]
    if not isinstance(value, ast.BinOp) or not isinstance(value.op, ast.Mult):
        return False
    sides = [value.left, value.right]
    rates = [
        side for side in sides if isinstance(side, ast.Constant) or size_kind(_leaf(side)) == "rate"
    ]
    return len(rates) == 1 and any(is_gradient(_leaf(s)) for s in sides if s not in rates)


def without_optimisers(functions: Iterable[ast.FunctionDef], own: Mapping[str, ast.AST]) -> str:
    """Statements after which passes of `net` leave its parameters where they are.

    What they call to move them, as `self.optimizer.step(dW)` or `self.update(dW, db)`, is replaced
    by what keeps its arguments in the object, under the names that they have. "" where they call
    nothing of the kind.

    Args:
        functions: the passes, and methods that they call.
        own: the methods of the object's class.
    """
    found: dict[str, str] = {}
    for function in functions:
        for node in ast.walk(function):
            call = node.value if isinstance(node, ast.Expr) else None
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            place, name = ast.unparse(call.func.value), call.func.attr
            words = [place.rpartition(".")[2], name]
            if place.split(".")[0] != "self" or not re.fullmatch(r"[\w.]+", place):
                continue
            if not any(MOVES.search(word) for word in words) or CLEARS.search(name):
                continue
            if place == "self" and (name not in own or BACKWARD.search(name)):
                continue
            kept = [ast.unparse(part) for part in call.args if isinstance(part, ast.Name)]
            keep = "None"
            if kept and len(kept) == len(call.args):
                keep = f"vars(net).update(zip({kept!r}, given))"
            target = re.sub(r"^self\b", "net", place)
            found[f"{target}.{name}"] = f"{target}.{name} = lambda *given, **_: {keep}"
    return "\n".join(found.values())


def _target(node: ast.AST) -> ast.AST:
    return node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", node)


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
