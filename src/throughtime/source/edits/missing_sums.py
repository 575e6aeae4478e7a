"""A gradient that nothing is added to: the statement that is missing, for each value at hand.

Where `dW += dz @ x.T` stands and `db` stays 0, `db += dz` may be missing. Which value belongs there
no text says: all that fit by their shape are edits, and the numerical gradient tells.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from throughtime.source.edits.edit import Edit, FileText, Unit
from throughtime.source.edits.executed import Value, is_atom

MISSING_SUM = "a sum that was missing"  # the kind of these edits, in words

COST = 1.1
OF_A_PRODUCT = 0.05  # more: a bias is forgotten more often than a matrix
MOST_MADE = 400  # values that are added to one gradient
GRADIENT = re.compile(r"^_?(d|g|delta|grad|D)[A-Z_]|^d\w{1,6}$|grad|delta", re.ASCII)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Made:
    """A value that a statement of a block assigns.

    Attributes:
        text: as it is written.
        shape: of it.
        after: the statement.
    """

    text: str
    shape: Shape
    after: ast.stmt


def missing_sums(
    unit: Unit, file: FileText, lines: frozenset[int], values: Mapping[int, Mapping[str, Value]]
) -> Iterator[Edit]:
    """For each array that stays 0 and is a gradient by its name: something is added to it.

    Args:
        unit: the function.
        file: its file.
        lines: those that ran.
        values: line to expression to value.
    """
    seen: dict[str, Value] = {}
    for line in range(unit.node.lineno, (unit.node.end_lineno or unit.node.lineno) + 1):
        seen.update(values.get(line, {}))
    arrays = {text: value.shape for text, value in seen.items() if value.kind == "numbers"}
    stored = {file.of_node(target) for node in ast.walk(unit.node) for target in _changed_by(node)}
    empty = [
        text
        for text, shape in arrays.items()
        if shape and GRADIENT.search(leaf(text)) and text not in stored and seen[text].empty
    ]
    for block, variable in _blocks(unit.node.body, "") if empty else ():
        made = list(_made(block, file, lines, arrays))
        for text in empty:
            yield from _of_block(text, arrays, made, variable, file)


def _of_block(
    text: str, arrays: Mapping[str, Shape], made: Sequence[_Made], variable: str, file: FileText
) -> Iterator[Edit]:
    number = 0
    for one in made:
        if text == one.text or text.startswith((f"{one.text}[", f"{one.text}.")):
            continue
        alike = SequenceMatcher(None, leaf(text), leaf(one.text)).ratio()
        cost = COST + 0.2 * (1 - alike)
        operands = {**arrays, **_at_other_steps(arrays, variable)}
        options = [(new, cost) for new in _reduced(one, arrays[text])]
        options += [(new, cost + OF_A_PRODUCT) for new in _products(one, operands, arrays[text])]
        for new, price in options:
            if number >= MOST_MADE:
                return
            number += 1
            line, below = one.after.lineno, file.below(one.after, f"{text} += {new}")
            yield Edit(file.path, (below,), MISSING_SUM, line, price, "", (line,))


def _blocks(body: Sequence[ast.stmt], variable: str) -> Iterator[tuple[Sequence[ast.stmt], str]]:
    """A function's statements and those of its loops, with the variable of the loop."""
    yield body, variable
    for node in body:
        if isinstance(node, ast.For):
            inner = node.target.id if isinstance(node.target, ast.Name) else ""
            yield from _blocks(node.body, inner)
        elif isinstance(node, ast.While | ast.If | ast.With):
            yield from _blocks(node.body, variable)


def _made(
    block: Sequence[ast.stmt], file: FileText, lines: frozenset[int], arrays: Mapping[str, Shape]
) -> Iterator[_Made]:
    """What the statements of a block assign, each after its last assignment in a row.

    What is only added to is a sum itself.
    """
    changed = [[text for t in _changed_by(node) for text in _wholes(t, file)] for node in block]
    assigned = {
        text
        for node, texts in zip(block, changed, strict=True)
        for text in texts
        if isinstance(node, ast.Assign)
    }
    for node, texts, again in zip(block, changed, [*changed[1:], []], strict=True):
        for text in texts:
            if text in again or text not in assigned or not arrays.get(text):
                continue
            if file.alone(node) and node.lineno in lines:
                yield _Made(text, arrays[text], node)


def _wholes(target: ast.expr, file: FileText) -> Iterator[str]:
    """What is assigned, and what it is an entry of."""
    yield file.of_node(target)
    if isinstance(target, ast.Subscript):
        yield file.of_node(target.value)


def _changed_by(node: ast.AST) -> list[ast.expr]:
    """What a statement assigns or changes; nothing where it is put together of several parts."""
    if isinstance(node, ast.AugAssign):
        return [node.target] if is_atom(node.target) else []
    if not isinstance(node, ast.Assign) or any(_makes_zeros(part) for part in ast.walk(node.value)):
        return []
    return [t for t in node.targets if is_atom(t)]


def _makes_zeros(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute | ast.Name) and (
        (node.attr if isinstance(node, ast.Attribute) else node.id) in ("zeros", "zeros_like")
    )


def _reduced(made: _Made, wanted: Shape) -> Iterator[str]:
    """A value in a shape: itself, or a sum over its other axis."""
    text, own = made.text, made.shape
    if own == wanted:
        yield text
    elif own[1:] == wanted:
        yield f"np.sum({text}, axis=0)"
    elif own[:-1] == wanted:
        yield f"np.sum({text}, axis=-1)"
    elif len(own) == len(wanted) == 2 and wanted == (1, own[1]):
        yield f"np.sum({text}, axis=0, keepdims=True)"
    elif len(own) == len(wanted) == 2 and wanted == (own[0], 1):
        yield f"np.sum({text}, axis=1, keepdims=True)"
    elif np.prod(own, dtype=int) == np.prod(wanted, dtype=int):
        yield f"np.reshape({text}, {wanted})"


def _products(made: _Made, arrays: Mapping[str, Shape], wanted: Shape) -> Iterator[str]:
    """Products with another array that have a shape."""
    text, own = made.text, made.shape
    if len(wanted) != 2:
        return
    for other, shape in arrays.items():
        if other == text or len(shape) != len(own):
            continue
        if len(own) == 1 and own + shape == wanted:
            yield f"np.outer({text}, {other})"
        elif len(own) == 1 and shape + own == wanted:
            yield f"np.outer({other}, {text})"
        if len(own) != 2:
            continue
        if own[1] == shape[1] and (own[0], shape[0]) == wanted:
            yield f"{text} @ {other}.T"
        if own[1] == shape[1] and (shape[0], own[0]) == wanted:
            yield f"{other} @ {text}.T"
        if own[0] == shape[0] and (own[1], shape[1]) == wanted:
            yield f"{text}.T @ {other}"
        if own[0] == shape[0] and (shape[1], own[1]) == wanted:
            yield f"{other}.T @ {text}"


def _at_other_steps(arrays: Mapping[str, Shape], variable: str) -> dict[str, Shape]:
    """Entries one step before and after those that the loop reads."""
    end = f"[{variable}]"
    return {
        f"{text[: -len(end)]}[{variable} {by}]": shape
        for text, shape in arrays.items()
        if variable and text.endswith(end)
        for by in ("- 1", "+ 1")
    }


def leaf(text: str) -> str:
    """The last name: of `self.dU` and of `grads["dU"]` it is `dU`."""
    found = re.findall(r"[A-Za-z_]\w*", text)
    return found[-1] if found else ""
