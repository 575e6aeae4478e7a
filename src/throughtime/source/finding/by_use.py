"""What arguments of functions are, by what is done with them and by what docstrings say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from throughtime.source.finding.candidates import Function
from throughtime.source.finding.constructors import activations
from throughtime.source.meanings import BATCH, HIDDEN, INPUTS, OUTPUTS, STEPS, role, size_kind


def activations_called(
    function: Function, names: Sequence[str], classes: dict[str, ast.ClassDef]
) -> dict[str, str]:
    """Arguments that are activation functions, since they are called: a function, or a class."""
    found: dict[str, str] = {}
    own = [text.partition("(")[0] for text in activations(classes)]
    for part in ast.walk(function):
        name = (
            part.func.id if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) else ""
        )
        if name in names and isinstance(part, ast.Call) and (own or part.args):
            found[name] = "np.tanh" if part.args else own[0]
    return found


def tables_taken(function: Function, names: Sequence[str]) -> Iterator[str]:
    """Arguments that hold a vector for each symbol: another argument, of data, is looked up in it.

    As in `x = vectors[inputs].T`.
    """
    for part in ast.walk(function):
        if isinstance(part, ast.Subscript) and isinstance(part.slice, ast.Name):
            of, at = getattr(part.value, "id", ""), part.slice.id
            counted = size_kind(at) == "steps"  # `X[t]`, where `t` is how many there are
            if of in names and at in names and role(at) in ("inputs", "target") and not counted:
                yield of


def described(functions: Sequence[Function]) -> str:
    """A dictionary of parameters by what docstrings say of their shapes, as courses write them."""
    line = re.compile(r"^\s*(\w+)\s*--.*?(?:shape|of size)\s*\(([^()]+)\)", re.M)
    sizes = {"n_a": HIDDEN, "n_x": INPUTS, "n_y": OUTPUTS, "m": BATCH, "1": 1, "T_x": STEPS}
    found: dict[str, str] = {}
    for function in functions:
        text = ast.get_docstring(function) or ""
        _, mark, rest = text.partition("parameters --")
        if not mark:
            continue
        inner = rest.partition("Returns")[0]
        for name, shape in line.findall(inner):
            words = [part.strip() for part in shape.split(",")]
            try:
                numbers_ = [eval(word, {"__builtins__": {}}, dict(sizes)) for word in words]
            except Exception:
                continue
            found[name] = f"draw.standard_normal(({', '.join(map(str, numbers_))}))"
    if not found:
        return ""
    return "{" + ", ".join(f"{name!r}: {text}" for name, text in found.items()) + "}"
