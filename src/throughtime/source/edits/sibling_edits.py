"""A statement that the others of its kind have beside them and one variable has not.

Where `dU += decay * U` and `dW += decay * W` stand, `dV += decay * V` may be missing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import takewhile

from throughtime.source.edits.edit import Edit, FileText, Unit

COST = 1.1
WORD = re.compile(r"[A-Za-z_]\w*")


def sibling_edits(unit: Unit, file: FileText, lines: frozenset[int]) -> Iterator[Edit]:
    """For each statement that adds to a variable the same one for each that is named alike.

    Args:
        unit: the function.
        file: its file.
        lines: those that ran.
    """
    text = file.of_node(unit.node)
    known = set(WORD.findall(file.data.decode()))
    present = {_plain(file.of_node(n)) for n in ast.walk(unit.node) if isinstance(n, ast.AugAssign)}
    leaves = dict.fromkeys(
        leaf for node in ast.walk(unit.node) for leaf in _assigned(node, file) if leaf
    )
    for node in ast.walk(unit.node):
        if not isinstance(node, ast.AugAssign) or node.lineno not in lines:
            continue
        if not file.alone(node) or node.end_lineno != node.lineno:
            continue
        own, leaf = file.of_node(node), _leaf(file.of_node(node.target))
        for other in leaves:
            if other == leaf or other not in text:
                continue
            new = _renamed(own, leaf, other, known)
            if new is None or _plain(new) in present:
                continue
            below, line = file.below(node, new), node.lineno
            yield Edit(file.path, (below,), "a statement added", line, COST, "", (line,))


def _assigned(node: ast.AST, file: FileText) -> Iterator[str]:
    """The last names of what a statement assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    for target in targets:
        parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        yield from (_leaf(file.of_node(part)) for part in parts)
    if isinstance(node, ast.AugAssign):
        yield _leaf(file.of_node(node.target))


def _leaf(text: str) -> str:
    """The last name: of `self.dU` and of `grads["dU"]` it is `dU`."""
    found = WORD.findall(text)
    return found[-1] if found else ""


def _renamed(text: str, leaf: str, other: str, known: set[str]) -> str | None:
    """A statement for another variable; None where what it would be made of is not there.

    Example:
        >>> _renamed("dU += decay * U", "dU", "dV", {"dV", "V", "decay"})
        'dV += decay * V'
    """
    begin = _alike(leaf, other)
    end = _alike(leaf[begin:][::-1], other[begin:][::-1])
    old, new = leaf[begin : len(leaf) - end], other[begin : len(other) - end]
    if not old or not new or (begin == end == 0):
        return None
    changed = 0
    for word in dict.fromkeys(WORD.findall(text)):
        if old not in word:
            continue
        then = word.replace(old, new, 1)
        if word == leaf:
            then = other
        if then not in known:
            continue
        text, changed = re.sub(rf"\b{word}\b", then, text), changed + 1
    return text if changed > 1 else None


def _alike(one: str, other: str) -> int:
    """How many characters two names have in common at their beginning."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return len(list(same))


def _plain(text: str) -> str:
    return re.sub(r"\s", "", text)
