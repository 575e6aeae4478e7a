"""np.einsum of traced values, made of products, sums and transpositions.

Only what these can say is taken: one value or two, each of at most two axes, none of them twice.
"""

from __future__ import annotations

import re
from typing import Any

from throughtime.equations.tracing import FUNCTIONS, Traced, apply, refuse_here

READABLE = re.compile(r"[a-zA-Z]*(,[a-zA-Z]*)?(->[a-zA-Z]*)?")
WAY_OUT = "write it with @, *, np.outer, np.sum and .T"


def einsum(subscripts: str, *given: Any) -> Traced:
    """The sum of products that `subscripts` describe, such as "ij,j->i"."""
    said = subscripts.replace(" ", "") if isinstance(subscripts, str) else ""
    axes = said.partition("->")[0].split(",")
    letters = "".join(axes)
    once = "".join(sorted(a for a in set(letters) if letters.count(a) == 1))
    result = said.partition("->")[2] if "->" in said else once
    apart = all(len(set(own)) == len(own) <= 2 for own in (*axes, result))
    if not READABLE.fullmatch(said) or not apart or len(axes) != len(given):
        refuse_here(f"np.einsum of {subscripts!r} is not known here", WAY_OUT)
    if not set(result) <= set(letters):
        refuse_here(f"np.einsum of {subscripts!r}: the result has an axis of its own", WAY_OUT)
    for own, x in zip(axes, given, strict=True):
        if getattr(x, "ndim", 0) != len(own):
            refuse_here(f"{own!r} in np.einsum for the shape {getattr(x, 'shape', ())}", WAY_OUT)
    if len(given) == 1:
        return _ordered(*_summed(given[0], axes[0], result), result)
    (a, of_a), (b, of_b) = (
        _summed(x, own, result + other)
        for x, own, other in zip(given, axes, reversed(axes), strict=True)
    )
    return _ordered(*_product(a, of_a, b, of_b, result), result)


def _summed(x: Any, axes: str, needed: str) -> tuple[Any, str]:
    """A value summed over the axes that nothing needs, and those that are left."""
    for axis in axes:
        if axis not in needed:
            x, axes = x.sum(axis=axes.index(axis)), axes.replace(axis, "")
    return x, axes


def _product(a: Any, of_a: str, b: Any, of_b: str, result: str) -> tuple[Any, str]:
    """The product of two values, summed over what the result lacks, and its axes."""
    shared = [axis for axis in of_a if axis in of_b]
    if not shared and of_a and of_b:
        return _outer(a, of_a, b, of_b, result)
    if len(shared) == 1 and shared[0] not in result:  # a product of matrices or vectors
        own = shared[0]
        left = a.T if len(of_a) == 2 and of_a[0] == own else a
        right = b.T if len(of_b) == 2 and of_b[1] == own else b
        return apply("matmul", left, right), (of_a + of_b).replace(own, "")
    if len(of_b) > len(of_a):
        a, of_a, b, of_b = b, of_b, a, of_a
    if not set(of_b) <= set(of_a):
        refuse_here("np.einsum with three axes at once is not known here", WAY_OUT)
    if len(of_b) == 2 and of_b != of_a:
        b = b.T
    if len(of_a) == 2 and len(of_b) == 1 and of_b == of_a[0]:
        b = b[:, None]
    return _summed(apply("multiply", a, b), of_a, result)


def _outer(a: Any, of_a: str, b: Any, of_b: str, result: str) -> tuple[Any, str]:
    """The product of every entry with every other one, of two vectors."""
    if len(of_a) > 1 or len(of_b) > 1:
        refuse_here("np.einsum with three axes at once is not known here", WAY_OUT)
    if result == of_b + of_a:
        a, of_a, b, of_b = b, of_b, a, of_a
    return apply("outer", a, b), of_a + of_b


def _ordered(x: Any, axes: str, result: str) -> Traced:
    """A value with its axes in the order of the result."""
    found: Traced = x if axes == result else x.T
    return found


FUNCTIONS["einsum"] = einsum
