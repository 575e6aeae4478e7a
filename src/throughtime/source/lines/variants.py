"""One small change of an expression that makes its values what they should be."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from throughtime.source.tolerances import MOST_VARIANTS

Variables = tuple[Mapping[str, Any], Mapping[str, Any]]  # global and local ones
MODULES = ("np", "numpy", "math", "self", "cp", "torch", "scipy")  # what is called on no value
LOADS = (ast.Name, ast.Attribute, ast.Subscript)


def noticed_variant(
    text: str,
    others: Sequence[str],
    frames: Sequence[Variables],
    fits: Sequence[Callable[[Any], bool]],
) -> tuple[str, str] | None:
    """A change after which an expression's values fit at every step: in words, and the new text.

    Args:
        text: the expression.
        others: variables, as written, that may stand for one of its own.
        frames: the variables at each step.
        fits: for each step whether a value is what it should be there.
    """
    tree = ast.parse(text, mode="eval").body
    names = {ast.unparse(node) for node in _loads(tree)}
    others = [other for other in dict.fromkeys(others) if _is_safe(other)]
    for tried, (words, changed) in enumerate(_variants(tree, [*sorted(names), *others])):
        if tried > MOST_VARIANTS:
            break
        new = ast.unparse(changed)
        if new == text:
            continue
        try:
            code = compile(new, "<variant>", "eval")
        except (SyntaxError, ValueError):
            continue
        if all(_fits(code, frame, fit) for frame, fit in zip(frames, fits, strict=True)):
            return words, new
    return None


def _fits(code: Any, frame: Variables, fit: Callable[[Any], bool]) -> bool:
    try:
        with np.errstate(all="ignore"):
            return fit(eval(code, {**frame[0], **frame[1]}))
    except Exception:  # whatever the user's own functions raise for another operand
        return False


def _is_safe(text: str) -> bool:
    """Whether looking at it calls nothing."""
    return not any(isinstance(node, ast.Call) for node in ast.walk(ast.parse(text, mode="eval")))


def _loads(tree: ast.expr) -> Iterator[ast.expr]:
    """The variables of an expression: no part of a longer one, and no function that is called."""
    if isinstance(tree, LOADS):
        yield tree
        return
    for child in ast.iter_child_nodes(tree):
        if isinstance(tree, ast.Call) and child is tree.func:
            if isinstance(child, ast.Attribute) and not (
                isinstance(child.value, ast.Name) and child.value.id in MODULES
            ):
                yield from _loads(child.value)
            continue
        if isinstance(child, ast.expr):
            yield from _loads(child)


def _variants(tree: ast.expr, others: Sequence[str]) -> Iterator[tuple[str, ast.expr]]:
    """Changed expressions, the likeliest first, and what is changed."""
    nodes = list(_loads(tree))
    for node in nodes:
        old = ast.unparse(node)
        new = old.removesuffix(".T") if old.endswith(".T") else f"{old}.T"
        yield f"with {new} for {old}", _replaced(tree, node, new)
        for shifted in _shifted(old):
            yield f"with {shifted} for {old}", _replaced(tree, node, shifted)
    for part in ast.walk(tree):
        if isinstance(part, ast.BinOp):
            yield from _operators(tree, part)
            yield from _other_slope(tree, part)
    for node in nodes:
        old = ast.unparse(node)
        for other in others:
            if other != old:
                yield f"with {other} for {old}", _replaced(tree, node, other)
    for node in nodes:
        old = ast.unparse(node)
        plain, turned = old.removesuffix(".T"), ".T" if old.endswith(".T") else ""
        for other in others if _in_matrix_product(tree, node) else ():
            if other not in (plain, old) and not other.endswith(".T"):
                new = f"({other} * {plain}){turned}"
                yield f"with {new} for {old}", _replaced(tree, node, new)
    for part in ast.walk(tree):
        if not isinstance(part, ast.Call | ast.BinOp):
            continue
        old = ast.unparse(part)
        for other in others:
            for new in (f"{other} * (1 - {other})", f"(1 - {other} ** 2)"):
                yield f"with {new} for {old}", _replaced(tree, part, new)
    for other in others:
        for new in (f"{other} * (1 - {other})", f"(1 - {other} ** 2)", other):
            whole = ast.parse(f"({ast.unparse(tree)}) * {new}", mode="eval").body
            yield f"times {new}", whole


PRODUCTS = ("dot", "matmul", "outer")


def _in_matrix_product(tree: ast.expr, node: ast.expr) -> bool:
    """Whether a variable is a factor of a product of matrices itself."""
    for part in ast.walk(tree):
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.MatMult):
            factors = [part.left, part.right]
        elif isinstance(part, ast.Call) and ast.unparse(part.func).split(".")[-1] in PRODUCTS:
            factors = list(part.args)
        else:
            continue
        if any(factor is node for factor in factors):
            return True
    return False


def _other_slope(tree: ast.expr, node: ast.BinOp) -> Iterator[tuple[str, ast.expr]]:
    """The slope of tanh for that of a sigmoid, wherever both factors of it stand in a product."""
    factors = _factors(node)
    for n, one in enumerate(factors):
        for m, other in enumerate(factors):
            if other == f"1 - {one}" and n != m:
                rest = [f for k, f in enumerate(factors) if k not in (n, m)]
                new = " * ".join([f"({f})" for f in rest] + [f"(1 - {one} ** 2)"])
                yield f"with (1 - {one}**2) for {one} * (1 - {one})", _replaced(tree, node, new)


def _factors(node: ast.expr) -> list[str]:
    """The factors of a product, as they are written."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return [*_factors(node.left), *_factors(node.right)]
    return [ast.unparse(node)]


def _operators(tree: ast.expr, node: ast.BinOp) -> Iterator[tuple[str, ast.expr]]:
    left, right = ast.unparse(node.left), ast.unparse(node.right)
    if isinstance(node.op, ast.Add | ast.Sub):
        sign = "-" if isinstance(node.op, ast.Add) else "+"
        yield f"without {right}", _replaced(tree, node, left)
        if isinstance(node.op, ast.Add):
            yield f"without {left}", _replaced(tree, node, right)
        yield f"with {sign} before {right}", _replaced(tree, node, f"({left} {sign} ({right}))")
    if isinstance(node.op, ast.Mult | ast.Div):
        yield f"without the factor {right}", _replaced(tree, node, left)
        if isinstance(node.op, ast.Mult):
            yield f"without the factor {left}", _replaced(tree, node, right)


def _shifted(text: str) -> list[str]:
    """The same item one step on and one step back."""
    found = re.fullmatch(r"(.*)\[(\w+)( [+-] 1)?\](\.T)?", text)
    if found is None or found[2].isdigit():
        return []
    indices = [found[2], f"{found[2]} - 1", f"{found[2]} + 1"]
    present = found[2] + (found[3] or "")
    tail = found[4] or ""
    return [f"{found[1]}[{index}]{tail}" for index in indices if index != present]


def _replaced(tree: ast.expr, node: ast.expr, text: str) -> ast.expr:
    """The expression with one of its parts replaced."""
    new = ast.parse(text, mode="eval").body
    if tree is node:
        return new
    memo: dict[int, Any] = {id(node): new}
    found = copy.deepcopy(tree, memo)
    assert isinstance(found, ast.expr)
    return found
