"""Whether a way to run a network looks at its data."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from throughtime.source.slices import names_set


def uses_data(names: Iterable[str], setup: str, run: str) -> bool:
    """Whether what is run looks at data, beside how many there are; so where none are named.

    Args:
        names: of the data.
        setup: statements that make the model, and other values from the data.
        run: statements of the passes and the loss.

    Example:
        >>> uses_data(["x"], "T = len(x)\\nh = zeros(T)", "loss = net.forward(h)")
        False
        >>> uses_data(["x"], "inputs = list(x)", "loss = net.forward(inputs)")
        True
    """
    looked_at = set(names)
    if not looked_at:
        return True
    try:
        made, passes = ast.parse(setup).body, ast.parse(run)
    except SyntaxError:
        return True
    for node in made:
        if _names_in(node) & looked_at:
            looked_at |= names_set(node)
    return bool(_names_in(passes) & looked_at)


def _names_in(node: ast.AST) -> set[str]:
    """The variables that a statement reads, without those of which it only takes the size."""
    sizes = {
        id(part)
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "len"
        for part in call.args
    }
    sizes |= {
        id(part.value)
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and part.attr in ("shape", "size", "dtype")
    }
    return {p.id for p in ast.walk(node) if isinstance(p, ast.Name) and id(p) not in sizes}
