"""The table of operations: for each its shape, its derivative, and how it is written.

A derivative is written in terms of nodes: `g` is δ of the result, `y` the result, the others are
the operands. What it returns is δ of each operand, or None where that is 0. Where an operand was
spread out over a larger shape, its δ is summed afterwards; no derivative here needs to know.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from throughtime.arrays import Shape
from throughtime.equations.graph import OPERATIONS, Derivative, Node, Operation

ADDED, MULTIPLIED, SIGNED, RAISED, CALLED, ATOM = 50, 60, 70, 80, 90, 100
COMPARED = 40

Numpy = str | Callable[[Node, list[str], bool], str]
Written = str | Callable[[Node, list[str]], str]


def _enter(
    name: str,
    shape: Callable[..., Shape],
    derivative: Derivative,
    numpy: Numpy,
    text: Written,
    latex: Written | None = None,
    c: Written | None = None,
    precedence: int = CALLED,
    *,
    bracketed: bool = True,
) -> None:
    same = numpy if isinstance(numpy, str) else text
    OPERATIONS[name] = Operation(
        name, shape, derivative, numpy, text, latex or text, c or same, precedence, bracketed
    )


def _infix(
    name: str,
    signs: tuple[str, str, str, str],
    precedence: int,
    derivative: Derivative,
    shape: Callable[..., Shape] = np.broadcast_shapes,
) -> None:
    numpy, text, latex, c = (f"{{0}} {sign} {{1}}" for sign in signs)
    _enter(name, shape, derivative, numpy, text, latex, c, precedence, bracketed=False)


def _function(
    name: str,
    derivative: Derivative,
    numpy: str = "",
    text: str = "",
    latex: str = "",
    c: str = "",
) -> None:
    """A function of one value, element by element."""
    _enter(
        name,
        lambda shape: shape,
        derivative,
        (numpy or f"np.{name}") + "({0})",
        (text or name) + "({0})",
        (latex or rf"\{name}").replace("{", "{{").replace("}", "}}") + r"\left({0}\right)",
        (c or name) + "({0})",
    )


def number_in_numpy(value: float) -> str:
    """A number as Python reads it, where np is NumPy."""
    return repr(float(value)) if math.isfinite(value) else f"np.{value}".replace("np.-", "-np.")


def where(condition: Node, yes: Node | float, no: Node | float) -> Node:
    """`yes` where the condition holds, `no` elsewhere."""
    return condition.graph.apply("where", condition, yes, no)


def unary(name: str, x: Node) -> Node:
    """A function of one value."""
    return x.graph.apply(name, x)


def _greater(a: Node, b: Node) -> Node:
    return a.graph.apply("greater", a, b)


def _up_to(a: Node, b: Node) -> Node:
    return a.graph.apply("less_equal", a, b)


def _none(*_: Any, **__: Any) -> tuple[None, ...]:
    return (None, None, None)


# --- arithmetic ----------------------------------------------------------------------------------
_infix("add", ("+", "+", "+", "+"), ADDED, lambda g, y, a, b: (g, g))
_infix("subtract", ("-", "−", "-", "-"), ADDED, lambda g, y, a, b: (g, -g))
_enter(
    "multiply",
    np.broadcast_shapes,
    lambda g, y, a, b: (g * b, g * a),
    "{0} * {1}",
    lambda node, x: " ".join(x) if node.operands[0].value is not None else " ⊙ ".join(x),
    lambda node, x: r" \, ".join(x) if node.operands[0].value is not None else r" \odot ".join(x),
    "{0} * {1}",
    MULTIPLIED,
    bracketed=False,
)
_infix("divide", ("/", "/", "/", "/"), MULTIPLIED, lambda g, y, a, b: (g / b, -(g * y) / b))
_enter(
    "negative",
    lambda a: a,
    lambda g, y, a: (-g,),
    "-{0}",
    "−{0}",
    "-{0}",
    "-{0}",
    SIGNED,
    bracketed=False,
)
SUPERSCRIPTS = str.maketrans("0123456789.-−", "⁰¹²³⁴⁵⁶⁷⁸⁹·⁻⁻")
_enter(
    "power",
    np.broadcast_shapes,
    lambda g, y, a, b: (
        g * b * a ** (b - 1),
        None if b.value is not None else g * y * unary("log", a),
    ),
    "{0} ** {1}",
    lambda node, x: x[0] + x[1].translate(SUPERSCRIPTS) if node.operands[1].value else "^".join(x),
    "{0}^{{{1}}}",
    lambda node, x: f"{x[0]} * {x[0]}" if node.operands[1].value == 2 else f"pow({x[0]}, {x[1]})",
    RAISED,
    bracketed=False,
)

# --- functions, element by element ---------------------------------------------------------------
_function("tanh", lambda g, y, x: (g * (1 - y**2),))
_function("sigmoid", lambda g, y, x: (g * y * (1 - y),), "sigmoid", "σ", r"\sigma")
_function("exp", lambda g, y, x: (g * y,))
_function("log", lambda g, y, x: (g / x,))
_function("log1p", lambda g, y, x: (g / (1 + x),), latex=r"\mathrm{log1p}")
_function("expm1", lambda g, y, x: (g * (1 + y),), latex=r"\mathrm{expm1}")
_function("sqrt", lambda g, y, x: (g / (2 * y),), text="√")
_function("sin", lambda g, y, x: (g * unary("cos", x),))
_function("cos", lambda g, y, x: (-(g * unary("sin", x)),))
_function("arctan", lambda g, y, x: (g / (1 + x**2),), c="atan")
_function(
    "absolute", lambda g, y, x: (g * unary("sign", x),), "np.abs", "abs", r"\mathrm{abs}", "fabs"
)
_function("sign", _none, text="sign", latex=r"\mathrm{sign}", c="sign")
_function(
    "softplus", lambda g, y, x: (g * unary("sigmoid", x),), "softplus", latex=r"\mathrm{softplus}"
)
_function(
    "relu", lambda g, y, x: (g * _greater(y, y.graph.constant(0)),), "relu", latex=r"\mathrm{relu}"
)
_function("stop_gradient", _none, "stop_gradient", "stop", r"\mathrm{stop}", "")
_enter(
    "maximum",
    np.broadcast_shapes,
    lambda g, y, a, b: (g * _greater(a, b), g * _up_to(a, b)),
    "np.maximum({0}, {1})",
    "max({0}, {1})",
    r"\max\left({0}, {1}\right)",
    "fmax({0}, {1})",
)
_enter(
    "minimum",
    np.broadcast_shapes,
    lambda g, y, a, b: (g * _greater(b, a), g * _up_to(b, a)),
    "np.minimum({0}, {1})",
    "min({0}, {1})",
    r"\min\left({0}, {1}\right)",
    "fmin({0}, {1})",
)
_enter(
    "where",
    np.broadcast_shapes,
    lambda g, y, c, a, b: (None, where(c, g, 0.0), where(c, 0.0, g)),
    "np.where({0}, {1}, {2})",
    "({1} if {0} else {2})",
    r"\left({1} \text{{ if }} {0} \text{{ else }} {2}\right)",
    "({0} ? {1} : {2})",
)
for _name, _sign, _latex in (
    ("greater", ">", ">"),
    ("greater_equal", ">=", r"\geq"),
    ("less", "<", "<"),
    ("less_equal", "<=", r"\leq"),
    ("equal", "==", "="),
    ("not_equal", "!=", r"\neq"),
):
    _text = {">=": "≥", "<=": "≤", "==": "=", "!=": "≠"}.get(_sign, _sign)
    _infix(_name, (_sign, _text, _latex, _sign), COMPARED, _none)
_enter(
    # The value of one function, with the slope of another: of spikes, of rounding.
    "surrogate",
    lambda value, x, slope: value,
    lambda g, y, value, x, slope: (None, g * slope, None),
    "{0}",
    "{0}",
    "{0}",
    "{0}",
)


# --- products ------------------------------------------------------------------------------------
def _matmul_shape(a: Shape, b: Shape) -> Shape:
    if not (1 <= len(a) <= 2 and 1 <= len(b) <= 2) or a[-1] != b[0]:
        raise ValueError(f"cannot multiply {a} @ {b}: the inner sizes have to be the same")
    return (*a[:-1], *b[1:])


def _matmul_derivative(g: Node, y: Node, a: Node, b: Node) -> tuple[Node, Node]:
    def flipped(node: Node) -> Node:
        return unary("transpose", node)

    if len(a.shape) == 2 and len(b.shape) == 1:  # W x
        return g.graph.apply("outer", g, b), flipped(a) @ g
    if len(a.shape) == 1 and len(b.shape) == 2:  # x W
        return b @ g, g.graph.apply("outer", a, g)
    if len(a.shape) == 1:  # x · y
        return g * b, g * a
    return g @ flipped(b), flipped(a) @ g


def _matmul_numpy(node: Node, x: list[str], batched: bool) -> str:
    a, b = node.operands
    if not batched or not node.batched:
        return f"{x[0]} @ {x[1]}"
    ranks = len(a.shape), len(b.shape)
    if ranks == (2, 1):
        if not a.batched:  # rows are sequences
            turned = x[0][: -len(TURNED)] if x[0].endswith(TURNED) else f"{x[0]}{TURNED}"
            return f"{x[1]} @ {turned}"
        return f"({x[0]} @ {x[1]}[..., None])[..., 0]"
    if ranks == (1, 2):
        if not b.batched:
            return f"{x[0]} @ {x[1]}"
        return f"({x[0]}[..., None, :] @ {x[1]})[..., 0, :]"
    return f"({x[0]} * {x[1]}).sum(-1)" if ranks == (1, 1) else f"{x[0]} @ {x[1]}"


def _matmul_text(node: Node, x: list[str]) -> str:
    a, b = node.operands
    if len(a.shape) == len(b.shape) == 1:
        return f"{x[0]} · {x[1]}"
    return f"{x[0]} {x[1]}" if len(a.shape) == 2 else f"{_turned(x[1], 'ᵀ')} {x[0]}"  # Wᵀ x


def _matmul_latex(node: Node, x: list[str]) -> str:
    a, b = node.operands
    if len(a.shape) == len(b.shape) == 1:
        return rf"{x[0]}^\top {x[1]}"
    if len(a.shape) == 2:  # a name of several letters does not run into the next one
        return rf"{x[0]}\, {x[1]}" if x[0].startswith(WORD) else f"{x[0]} {x[1]}"
    return rf"{_turned(x[1], TOP)} {x[0]}"


def _turned(word: str, sign: str) -> str:
    """The transposed of a matrix, as it is written."""
    if " " not in word.removesuffix(sign) and word.endswith(sign):
        return word.removesuffix(sign)
    return f"({word})" + sign if " " in word and not word.startswith(("(", "[")) else word + sign


TOP, WORD = r"^\top", r"\mathrm{"


def _needs_matrix(shape: Shape) -> Shape:
    if len(shape) != 2:
        raise ValueError(f"only a matrix can be transposed, not an array of shape {shape}")
    return shape[::-1]


TURNED = ".swapaxes(-1, -2)"
_enter(
    "matmul",
    _matmul_shape,
    _matmul_derivative,
    _matmul_numpy,
    _matmul_text,
    _matmul_latex,
    "matmul({0}, {1})",
    MULTIPLIED,
    bracketed=False,
)
_enter(
    "transpose",
    _needs_matrix,
    lambda g, y, a: (unary("transpose", g),),
    lambda node, x, batched: f"{x[0]}{TURNED if batched else '.T'}",
    "{0}ᵀ",
    r"{0}^\top",
    "transpose({0})",
    CALLED,
    bracketed=False,
)
_enter(
    "outer",
    lambda a, b: (*a, *b),
    lambda g, y, a, b: (g @ b, unary("transpose", g) @ a),
    lambda node, x, batched: (
        f"{x[0]}[..., :, None] * {x[1]}[..., None, :]" if batched else f"np.outer({x[0]}, {x[1]})"
    ),
    "{0} {1}ᵀ",
    r"{0} {1}^\top",
    "outer({0}, {1})",
    MULTIPLIED,
    bracketed=False,
)


# --- sums over units -----------------------------------------------------------------------------
def _summed(shape: Shape, axis: int | None, keepdims: bool) -> Shape:
    kept = np.empty(shape, dtype=bool).any(axis=axis, keepdims=keepdims)
    return tuple(np.shape(kept))


def _spread(g: Node, x: Node, axis: int | None, keepdims: bool) -> Node:
    """δ of a reduced value, once for each value that went into it."""
    if axis is not None and not keepdims and g.shape:
        g = g.graph.apply("expand", g, axis=axis % len(x.shape))
    return g if g.shape == x.shape else g.graph.apply("broadcast", g, shape=x.shape)


def _axis(node: Node, batched: bool) -> str:
    """The arguments of a reduction; with time and batch in front, axes count from the end."""
    rank = len(node.operands[0].shape)
    axes = [node.axis % rank] if node.axis is not None else list(range(rank))
    if not batched:
        words = [] if node.axis is None or rank == 1 else [f"axis={axes[0]}"]
    elif len(axes) == 1:
        words = [f"axis={axes[0] - rank}"]
    else:
        words = [f"axis={tuple(axis - rank for axis in axes)}"]
    return ", ".join(words + ["keepdims=True"] * node.keepdims)


def _reduction(name: str, derivative: Derivative, numpy: str, text: str, latex: str) -> None:
    def written(node: Node, x: list[str], batched: bool) -> str:
        options = _axis(node, batched)
        return f"{numpy}({x[0]}{', ' if options else ''}{options})"

    _enter(name, _summed, derivative, written, text, latex, name + "({0})")


_reduction(
    "sum",
    lambda g, y, x, axis, keepdims: (_spread(g, x, axis, keepdims),),
    "np.sum",
    "sum({0})",
    r"\sum\left({0}\right)",
)
_reduction(
    "mean",
    lambda g, y, x, axis, keepdims: (
        _spread(g, x, axis, keepdims) / (np.prod(x.shape) if axis is None else x.shape[axis]),
    ),
    "np.mean",
    "mean({0})",
    r"\mathrm{{mean}}\left({0}\right)",
)
_reduction(
    "max",
    lambda g, y, x, axis, keepdims: (
        _spread(g, x, axis, keepdims) * x.graph.apply("equal", x, _spread(y, x, axis, keepdims)),
    ),
    "np.max",
    "max({0})",
    r"\max\left({0}\right)",
)
_enter(
    "softmax",
    lambda shape: shape,
    lambda g, y, x: (y * (g - (g * y).graph.apply("sum", g * y, axis=-1, keepdims=True)),),
    "softmax({0})",
    "softmax({0})",
    r"\mathrm{{softmax}}\left({0}\right)",
)
_enter(
    # Σ over steps and sequences: a parameter serves all of them.
    "total",
    lambda shape: shape,
    _none,
    lambda node, x, batched: f"total({x[0]}, {len(node.shape)})" if batched else x[0],
    "Σ_t {0}",
    r"\sum_t {0}",
    "{0}",
    MULTIPLIED,
    bracketed=False,
)


# --- shapes --------------------------------------------------------------------------------------
def _part_shape(shape: Shape, start: int, stop: int) -> Shape:
    return (stop - start, *shape[1:])


def _part_numpy(node: Node, x: list[str], batched: bool) -> str:
    rest = ", :" * (len(node.shape) - 1)
    return f"{x[0]}[{'..., ' if batched else ''}{node.start}:{node.stop}{rest if batched else ''}]"


def _joined(*shapes: Shape) -> Shape:
    if len({shape[1:] for shape in shapes}) > 1 or not shapes[0]:
        raise ValueError("cannot join arrays of the shapes " + ", ".join(map(str, shapes)))
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _parts(g: Node, y: Node, *x: Node) -> tuple[Node, ...]:
    found, start = [], 0
    for operand in x:
        stop = start + operand.shape[0]
        found.append(g.graph.apply("part", g, start=start, stop=stop))
        start = stop
    return tuple(found)


def _placed(node: Node, x: list[str], batched: bool) -> str:
    before, after = node.start, node.size - node.start - node.operands[0].shape[0]
    pads = ["(0, 0)"] * (len(node.shape) - 1)
    inner = ", ".join([f"({before}, {after})", *pads])
    if not batched:
        return f"np.pad({x[0]}, [{inner}])"
    return f"pad({x[0]}, [{inner}])"


def _reshaped(node: Node, x: list[str], batched: bool) -> str:
    new = ", ".join(map(str, node.shape))
    if not batched or not node.batched:
        return f"{x[0]}.reshape({new or '()'})"
    rank = len(node.operands[0].shape)
    lead = f"*np.shape({x[0]})[:{-rank or None}]"
    return f"{x[0]}.reshape({lead}{', ' if new else ''}{new})"


_enter(
    "part",  # of the first axis
    _part_shape,
    lambda g, y, x, start, stop: (g.graph.apply("place", g, start=start, size=x.shape[0]),),
    _part_numpy,
    lambda node, x: f"{x[0]}[{node.start}:{node.stop}]",
    lambda node, x: f"{{{x[0]}}}_{{{node.start}:{node.stop}}}",
    lambda node, x: f"{x[0]}[{node.start}:{node.stop}]",
    CALLED,
    bracketed=False,
)
_enter(
    "place",  # among zeros
    lambda shape, start, size: (size, *shape[1:]),
    lambda g, y, x, start, size: (g.graph.apply("part", g, start=start, stop=start + x.shape[0]),),
    _placed,
    lambda node, x: f"{x[0]} at [{node.start}:{node.start + node.operands[0].shape[0]}]",
)
_enter(
    "concatenate",
    _joined,
    _parts,
    lambda node, x, batched: (
        f"np.concatenate([{', '.join(x)}]" + (f", axis={-len(node.shape)})" if batched else ")")
    ),
    lambda node, x: f"[{'; '.join(x)}]",
    lambda node, x: r"\left[" + "; ".join(x) + r"\right]",
    lambda node, x: f"join({', '.join(x)})",
)
_enter(
    "reshape",
    lambda old, shape: shape,
    lambda g, y, x, shape: (g.graph.apply("reshape", g, shape=x.shape),),
    _reshaped,
    "{0}",
    bracketed=False,
)
_enter(
    "expand",
    lambda old, axis: (*old[:axis], 1, *old[axis:]),
    lambda g, y, x, axis: (g.graph.apply("reshape", g, shape=x.shape),),
    lambda node, x, batched: (
        f"np.expand_dims({x[0]}, {node.axis - len(node.shape) if batched else node.axis})"
    ),
    "{0}",
    bracketed=False,
)
_enter(
    "broadcast",
    lambda old, shape: np.broadcast_shapes(old, shape),
    lambda g, y, x, shape: (g,),
    lambda node, x, batched: (
        f"spread({x[0]}, {len(node.operands[0].shape)}, {node.shape})"
        if batched and node.batched
        else f"np.zeros({node.shape})"
        if node.operands[0].value == 0
        else f"np.broadcast_to({x[0]}, {node.shape})"
    ),
    "{0}",
)


def _rows(node: Node, x: list[str]) -> str:
    """A constant array as text: its rows, or their sizes where there are many."""
    if len(node.numbers) > SHOWN_NUMBERS or len(node.shape) > 2:
        return f"constants ({' × '.join(map(str, node.shape))})"
    width = node.shape[-1]
    words = [f"{number:.6g}".replace("-", "−") for number in node.numbers]
    rows = [", ".join(words[k : k + width]) for k in range(0, len(words), width)]
    return f"[{'; '.join(rows)}]"


SHOWN_NUMBERS = 9
_enter(
    "numbers",  # a constant array
    lambda shape, numbers: shape,
    lambda g, y, shape, numbers: (),
    lambda node, x, batched: (
        f"np.array([{', '.join(map(number_in_numpy, node.numbers))}])"
        + (f".reshape({', '.join(map(str, node.shape))})" if len(node.shape) > 1 else "")
    ),
    _rows,
    lambda node, x: rf"\text{{{_rows(node, x)}}}",
)

# Operations that put operands of different shapes side by side, element by element.
ELEMENTWISE = {
    *("add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "where"),
    *("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"),
}
_enter(
    "let",  # a δ with a line and a name of its own
    lambda shape, of: shape,
    lambda g, y, x, of: (g,),
    "{0}",
    "{0}",
)
