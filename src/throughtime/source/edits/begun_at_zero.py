"""Sums of gradients that an object begins with ones, which belongs to gains and not to sums."""

from __future__ import annotations

import ast

from throughtime.source.edits.edit import Edit, FileText, Splice
from throughtime.source.edits.missing_sums import GRADIENT, leaf

BEGUN_AT_ZERO = "begun at 0"  # the kind of these edits, in words
COST = 0.6
ZEROS = {"ones": "zeros", "ones_like": "zeros_like"}


def begun_at_zero(file: FileText, ran: frozenset[int]) -> list[Edit]:
    """For each class whose methods have run, one edit that begins all its gradients with 0.

    Args:
        file: the file.
        ran: the lines that the gradient ran.
    """
    found = []
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.ClassDef):
            continue
        if not any(node.lineno <= line <= (node.end_lineno or 0) for line in ran):
            continue
        begun = [
            part
            for method in node.body
            if isinstance(method, ast.FunctionDef) and method.name == "__init__"
            for part in ast.walk(method)
            if isinstance(part, ast.Assign) and _is_sum_of_ones(part, file)
        ]
        if begun:
            splices = tuple(_zeros_for_ones(part, file) for part in begun)
            lines = tuple(part.lineno for part in begun)
            found.append(Edit(file.path, splices, BEGUN_AT_ZERO, lines[0], COST, "", lines))
    return found


def _is_sum_of_ones(node: ast.Assign, file: FileText) -> bool:
    called = node.value.func if isinstance(node.value, ast.Call) else None
    if not isinstance(called, ast.Attribute) or called.attr not in ZEROS:
        return False
    return bool(GRADIENT.search(leaf(file.of_node(node.targets[0]))))


def _zeros_for_ones(node: ast.Assign, file: FileText) -> Splice:
    assert isinstance(node.value, ast.Call)
    called = node.value.func
    assert isinstance(called, ast.Attribute)
    end = file.end(called)
    return Splice(end - len(called.attr), end, ZEROS[called.attr])
