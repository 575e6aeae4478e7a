"""Parameters that a user's functions take as arguments: arrays, by what their names mean.

`Wx`, `Whh`, `W_f`, `by`: from inputs or states to states or outputs, with the weights on the left
of what they multiply or on its right, one gate a matrix or all of them side by side.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterable, Iterator

from throughtime.source.finding.candidates import Function, arguments
from throughtime.source.meanings import BIAS, HIDDEN, INPUTS, OUTPUTS, WEIGHT, role

OUTPUT = re.compile(r"y|out|v|(?<=h)o$|logit|fc|dense", re.I)
INPUT = re.compile(r"x|in|ih|emb", re.I)
STATE = re.compile(r"hh|aa|ss|rec|wh$|w_h$|^u|^r", re.I)
FEWEST_UNPACKED = 3  # names that an argument is taken apart into, to be parameters by these alone
FEWEST_LOOKED_UP = 2  # keys that look like weights, for what they are looked up in to be parameters
STACKED = (1, 4, 3)  # gates side by side in one matrix


def arrays_wanted(function: Function, *, method: bool) -> list[str]:
    """The arguments of a function that are parameters by their names."""
    needed, _ = arguments(function, method=method)
    weights = [name for name in needed if WEIGHT.match(name) and role(name) != "upstream"]
    biases = [name for name in needed if BIAS.match(name)] if weights else []
    if "b" in biases and "c" in needed:  # the bias of the states, and that of the outputs
        biases.append("c")
    return [name for name in needed if name in weights or name in biases]


def looked_up(function: Function) -> list[str]:
    """The arguments in which a function looks up weights: `P["Wf"]`, `P["W_" + gate]`, f"b{k}"."""
    own = [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]
    found: dict[str, set[str]] = {}
    for part in ast.walk(function):
        if isinstance(part, ast.Subscript) and isinstance(part.value, ast.Name):
            key = _key(part.slice)
            if part.value.id in own and (WEIGHT.match(key) or BIAS.match(key)):
                found.setdefault(part.value.id, set()).add(key)
    return [name for name in own if len(found.get(name, ())) >= FEWEST_LOOKED_UP]


def _key(node: ast.expr) -> str:
    """A key, or how it begins: "Wf", "W_" of `"W_" + gate`, "b" of f"b{k}"; "" for another one."""
    while isinstance(node, ast.BinOp):
        node = node.left
    if isinstance(node, ast.JoinedStr) and node.values:
        node = node.values[0]
    value = getattr(node, "value", None)
    return value if isinstance(value, str) else ""


def keys_wanted(functions: Iterable[Function]) -> list[str]:
    """The keys under which functions look up parameters in an argument, as `parameters["Wf"]`."""
    found: dict[str, None] = {}
    for function in functions:
        names = [a.arg for a in function.args.args if role(a.arg) == "parameters"]
        names += looked_up(function)
        for part in ast.walk(function):
            if (
                isinstance(part, ast.Subscript)
                and isinstance(part.value, ast.Name)
                and part.value.id in (*names, "parameters", "params")
                and isinstance(part.slice, ast.Constant)
                and isinstance(part.slice.value, str)
            ):
                found[part.slice.value] = None
    return [name for name in found if WEIGHT.match(name) or BIAS.match(name)]


def unpacked(function: Function) -> tuple[str, list[str]] | None:
    """The argument that a function takes apart into parameters, `W, U, b = p`, and their names."""
    own = {a.arg for a in function.args.args}
    for part in ast.walk(function):
        if not isinstance(part, ast.Assign) or not isinstance(part.value, ast.Name):
            continue
        target = part.targets[0]
        if part.value.id not in own or not isinstance(target, ast.Tuple | ast.List):
            continue
        names = [getattr(element, "id", "") for element in target.elts]
        if len(names) >= FEWEST_UNPACKED and all(WEIGHT.match(n) or BIAS.match(n) for n in names):
            return part.value.id, names
    return None


def dictionaries(names: list[str]) -> Iterator[str]:
    """Dictionaries of arrays of these names, each by another convention, the likelier first."""
    seen = set()
    for gates, left, bias in itertools.product(STACKED, (True, False), ("column", "flat", "row")):
        shapes = {name: _shape(name, names, gates, left, bias) for name in names}
        inner = ", ".join(
            f"{name!r}: 0.5 * draw.standard_normal({shape})" for name, shape in shapes.items()
        )
        if inner not in seen:
            seen.add(inner)
            yield f"{{{inner}}}"


def _shape(name: str, names: list[str], gates: int, left: bool, bias: str) -> tuple[int, ...]:
    """The shape of one array."""
    if (BIAS.match(name) or name == "c") and not WEIGHT.match(name):
        size = OUTPUTS if OUTPUT.search(name) or name == "c" else gates * HIDDEN
        return {"column": (size, 1), "flat": (size,), "row": (1, size)}[bias]
    start, end = _from_to(name, names)
    end = gates * end if end == HIDDEN else end
    return (end, start) if left else (start, end)


def _from_to(name: str, names: list[str]) -> tuple[int, int]:
    """What a weight leads from and to."""
    if {"U", "V", "W"} <= set(names):
        return {"U": (INPUTS, HIDDEN), "V": (HIDDEN, OUTPUTS), "W": (HIDDEN, HIDDEN)}.get(
            name, (HIDDEN, HIDDEN)
        )
    rest = name[1:] if len(name) > 1 else name
    if OUTPUT.search(rest):
        return HIDDEN, OUTPUTS
    if INPUT.search(rest) or (name == "W" and len(names) > 1 and "U" in names):
        return INPUTS, HIDDEN
    if STATE.search(name) or STATE.search(rest):
        return HIDDEN, HIDDEN
    both = not any(STATE.search(other) for other in names if not BIAS.match(other))
    return (HIDDEN + INPUTS if both else INPUTS), HIDDEN
