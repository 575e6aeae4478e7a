"""What the parts of an expression should be, where it is known what the whole should be."""

from __future__ import annotations

import ast
from collections.abc import Mapping

import numpy as np

from throughtime.arrays import Array
from throughtime.source.tolerances import FITS_NEARLY, TOO_SMALL_A_DIVISOR

PRODUCTS = ("dot", "matmul")
SAME_NUMBERS = ("reshape", "copy", "flatten", "ravel", "squeeze")


def inverse(op: ast.operator, wanted: Array, other: Array, left: bool) -> Array:
    """What one operand should be; not finite where that cannot be said.

    Args:
        op: of both operands.
        wanted: what the whole should be.
        other: the other operand.
        left: whether the operand that is asked for is the left one.
    """
    with np.errstate(all="ignore"):
        try:
            if isinstance(op, ast.Add):
                return np.asarray(wanted - other)
            if isinstance(op, ast.Sub):
                return np.asarray(wanted + other if left else other - wanted)
            if isinstance(op, ast.Mult):
                return np.asarray(wanted / not_small(other))
            if isinstance(op, ast.Div):
                return np.asarray(wanted * other if left else other / not_small(wanted))
        except ValueError:  # shapes that do not go together
            pass
    return np.full(wanted.shape, np.nan)


def not_small(divisor: Array) -> Array:
    """The same, with NaN for what is too small beside the largest to be divided by."""
    largest = float(np.abs(divisor).max(initial=0.0))
    return np.where(np.abs(divisor) > TOO_SMALL_A_DIVISOR * largest, divisor, np.nan)


def factors_of(node: ast.expr) -> tuple[ast.expr, ast.expr] | None:
    """The two matrices of a product: `a @ b`, `np.dot(a, b)`, `a.dot(b)`; None of anything else."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        return node.left, node.right
    if not isinstance(node, ast.Call) or node.keywords or not isinstance(node.func, ast.Attribute):
        return None
    if node.func.attr not in PRODUCTS:
        return None
    if len(node.args) == 2:
        return node.args[0], node.args[1]
    return (node.func.value, node.args[0]) if len(node.args) == 1 else None


def same_numbers_in(node: ast.expr) -> ast.expr | None:
    """What has the numbers of an expression, in another shape: `x` of `x.T` or `x.reshape(…)`."""
    if isinstance(node, ast.Attribute) and node.attr == "T":
        return node.value
    called = node.func if isinstance(node, ast.Call) else None
    if isinstance(called, ast.Attribute) and called.attr in SAME_NUMBERS:
        return called.value
    return None


def factor_needed(wanted: Array, other: Array, left: bool) -> Array | None:
    """What one matrix of a product should be; None where several are possible, or none is.

    Args:
        wanted: the product.
        other: the other matrix.
        left: whether the matrix that is asked for is the left one.
    """
    if wanted.ndim != 2 or other.ndim != 2:
        return None
    if not left:
        found = factor_needed(wanted.T, other.T, True)
        return None if found is None else found.T
    if other.shape[1] != wanted.shape[1] or np.linalg.matrix_rank(other) < other.shape[0]:
        return None
    found = wanted @ np.linalg.pinv(other)
    off = float(np.abs(found @ other - wanted).max(initial=0.0))
    return found if off <= FITS_NEARLY * float(np.abs(wanted).max(initial=0.0)) else None


def terms_of(node: ast.expr) -> list[tuple[ast.expr, float]]:
    """The terms of a sum, each with its sign; one of anything else.

    Example:
        >>> [(ast.unparse(t), s) for t, s in terms_of(ast.parse("a - (b + c)", mode="eval").body)]
        [('a', 1.0), ('b', -1.0), ('c', -1.0)]
    """
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Add | ast.Sub):
        return [(node, 1.0)]
    sign = 1.0 if isinstance(node.op, ast.Add) else -1.0
    return [*terms_of(node.left), *((term, sign * own) for term, own in terms_of(node.right))]


def with_parts(tree: ast.AST, texts: Mapping[int, str]) -> str:
    """An expression with other texts for some of its parts.

    Args:
        tree: the expression.
        texts: by the `id` of a part.
    """

    def changed(node: ast.AST) -> ast.AST:
        if id(node) in texts:
            return ast.parse(texts[id(node)], mode="eval").body
        fields = {
            name: [changed(part) if isinstance(part, ast.AST) else part for part in value]
            if isinstance(value, list)
            else changed(value)
            if isinstance(value, ast.AST)
            else value
            for name, value in ast.iter_fields(node)
        }
        return type(node)(**fields)

    return ast.unparse(changed(tree))
