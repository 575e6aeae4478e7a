"""The learning rate of the user's own update, where no argument gives it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping

from throughtime.source.finding.candidates import Function
from throughtime.source.meanings import size_kind


def rate_of(
    functions: Iterable[Function], known: Mapping[str, ast.AST], value: Callable[[str], object]
) -> float | None:
    """The one learning rate that functions, and those that they call, multiply an update by.

    None where there is none, or where there are several.

    Args:
        functions: passes of the user's.
        known: the functions and methods of the user's by name.
        value: gives the value of a name that is no function's own, as `self.lr` or `RATE`.
    """
    rates: set[float] = set()  # of updates by a name of a rate,
    read: set[float] = set()  # of names of rates that are read anywhere, as in update(lr * grads),
    written: set[float] = set()  # and numbers that are written out in updates
    for function in reached(functions, known):
        own = _constants(function)
        taken = {a.arg for a in (*function.args.args, *function.args.kwonlyargs)}
        for node in ast.walk(function):
            for part in _factors(node):
                name = ast.unparse(part)
                found: object = own.get(name)
                if isinstance(part, ast.Constant):
                    found = part.value
                elif found is None and name not in taken:
                    found = value(name)
                if isinstance(found, float) and found > 0:
                    (written if isinstance(part, ast.Constant) else rates).add(found)
        for name in _rates_read(function):
            if name not in taken:
                given = own.get(name, value(name))
                if isinstance(given, float) and given > 0:
                    read.add(given)
    best = rates or read or written
    return best.pop() if len(best) == 1 else None


def _rates_read(function: Function) -> set[str]:
    """The names of learning rates that a function reads."""
    return {
        ast.unparse(part)
        for part in ast.walk(function)
        if isinstance(part, ast.Name | ast.Attribute)
        and isinstance(part.ctx, ast.Load)
        and size_kind(getattr(part, "id", getattr(part, "attr", ""))) == "rate"
    }


def reached(functions: Iterable[Function], known: Mapping[str, ast.AST]) -> list[Function]:
    """Functions, and those that they call, and so on."""
    waiting, found = list(functions), []
    while waiting:
        function = waiting.pop()
        if function in found:
            continue
        found.append(function)
        for part in ast.walk(function):
            if isinstance(part, ast.Call):
                other = known.get(getattr(part.func, "attr", getattr(part.func, "id", "")))
                if isinstance(other, ast.FunctionDef):
                    waiting.append(other)
    return found


def _constants(function: Function) -> dict[str, object]:
    """The names that a function sets to a number."""
    return {
        ast.unparse(target): node.value.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
    }


def _factors(node: ast.AST) -> list[ast.expr]:
    """What an update multiplies by: names of a rate, or the number before what is taken away."""
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.Sub):
        value = node.value
    elif (
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.BinOp)
        and isinstance(node.value.op, ast.Add | ast.Sub)
        and ast.unparse(node.value.left) == ast.unparse(node.targets[0])
    ):
        value = node.value.right
    else:
        return []
    named = [
        part
        for part in ast.walk(value)
        if isinstance(part, ast.Name | ast.Attribute)
        and size_kind(getattr(part, "id", getattr(part, "attr", ""))) == "rate"
    ]
    if named or not (isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult)):
        return list(named)
    return [part for part in (value.left, value.right) if isinstance(part, ast.Constant)]
