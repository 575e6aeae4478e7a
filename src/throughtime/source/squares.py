"""A loss that a training step does not write down: half the sum of squares of its errors.

Where a step sets `error = y - out` and takes the gradient of half its square, the loss that it
shows may be another, as the sum of |error|. A statement is put after the one that sets the error,
which adds up its squares over the steps.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterable, Sequence

NAME = "_half_the_squares"
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


def with_squares(body: Sequence[ast.stmt], error: str) -> list[ast.stmt]:
    """Copies of statements that leave half the sum of squares of an error under `NAME`."""
    found = [copy.deepcopy(node) for node in body]
    return [*ast.parse(f"{NAME} = 0.0").body, *_added(found, error)]


def _added(body: Sequence[ast.stmt], error: str) -> list[ast.stmt]:
    found: list[ast.stmt] = []
    for node in body:
        for field in ("body", "orelse"):
            if isinstance(inner := getattr(node, field, None), list) and inner:
                setattr(node, field, _added(inner, error))
        found.append(node)
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == error:
            found += ast.parse(f"{NAME} = {NAME} + 0.5 * np.sum(np.square({error}))").body
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
