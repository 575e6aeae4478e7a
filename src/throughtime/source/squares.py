"""A loss that a training step does not write down: the sum of squares of its errors, or half.

Where a step sets `error = y - out` and takes the gradient of half its square, the loss that it
shows may be another, as the sum of |error|. A statement is put after the one that sets the error,
which adds up its squares over the steps.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterable, Sequence

NAME = "_sum_of_squares"
ERROR = re.compile(r"err(or)?s?(_?\w)?$|_err(or)?s?_|residual|^diff(erence)?$|_diff$", re.I)


def errors_of(body: Iterable[ast.stmt]) -> list[str]:
    """Names of errors that statements set, each to a value of its own."""
    found = [
        part.targets[0].id
        for node in body
        for part in ast.walk(node)
        if isinstance(part, ast.Assign)
        and len(part.targets) == 1
        and isinstance(part.targets[0], ast.Name)
        and not isinstance(part.value, ast.Constant | ast.List | ast.Dict)
    ]
    return [name for name in dict.fromkeys(found) if ERROR.search(name)]


def with_squares(body: Sequence[ast.stmt], error: str, *, half: bool) -> list[ast.stmt]:
    """Copies of statements that leave the sum of squares of an error, or half, under `NAME`."""
    found = [copy.deepcopy(node) for node in body]
    more = f"{NAME} = {NAME} + {'0.5 * ' * half}np.sum(np.square({error}))"
    return [*ast.parse(f"{NAME} = 0.0").body, *_added(found, error, more)]


def _added(body: Sequence[ast.stmt], error: str, more: str) -> list[ast.stmt]:
    found: list[ast.stmt] = []
    for node in body:
        for field in ("body", "orelse"):
            if isinstance(inner := getattr(node, field, None), list) and inner:
                setattr(node, field, _added(inner, error, more))
        found.append(node)
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == error:
            found += ast.parse(more).body
    return found


def is_of_squares(node: ast.AST) -> bool:
    """Whether a statement is one that was put in."""
    return isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == NAME


class _Without(ast.NodeTransformer):
    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if is_of_squares(node) else node


def without_squares(node: ast.stmt) -> ast.stmt:
    """A statement as it stands in the user's file."""
    found = _Without().visit(copy.deepcopy(node))
    assert isinstance(found, ast.stmt)
    return found
