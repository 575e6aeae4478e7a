"""The forms that people keep sequences, targets and states in, as expressions that draw them."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from throughtime.source.meanings import (
    BATCH,
    HIDDEN,
    INPUTS,
    LONGEST,
    OUTPUTS,
    SYMBOLS,
    role,
    size_kind,
)

AXES = {"steps": "T", "batch": "B", "inputs": "I"}
MOST_SIZES = 6  # of a network whose arrays do not have those that are asked for


@dataclass(frozen=True)
class Sizes:
    """The sizes of a network that data are drawn for."""

    inputs: int = INPUTS
    hidden: int = HIDDEN
    outputs: int = OUTPUTS


def sizes_of(shapes: Sequence[tuple[int, ...]]) -> list[Sizes]:
    """The sizes that a network may have whose arrays have these shapes, the likelier first."""
    several = [shape for shape in shapes if len(shape) == 2 and min(shape) > 1]
    found = sorted({n for shape in several for n in shape})
    squares = [shape[0] for shape in several if shape[0] == shape[1]] or found
    if not found or (INPUTS in found and HIDDEN in squares):
        return [Sizes()]
    hidden = squares[0]
    others = [n for n in found if n != hidden]
    joined = [n - hidden - bias for bias in (0, 1) for n in others]  # [x; h], or [x; h; 1]
    inputs = [n for n in [*others, *joined, hidden] if n > 0]
    pairs = [(i, o) for i in inputs for o in (*others, i)]
    others_too = [Sizes(i, hidden, o) for i, o in dict.fromkeys(pairs)]
    return [Sizes(), *(sizes for sizes in others_too if sizes != Sizes())][:MOST_SIZES]


def written_sizes(function: ast.FunctionDef) -> dict[str, int]:
    """The sizes of inputs and outputs that a function writes out, as in `x.reshape(50, 1)`."""
    found: dict[str, int] = {}
    for part in ast.walk(function):
        if not isinstance(part, ast.Call) or getattr(part.func, "attr", "") != "reshape":
            continue
        of, axes = part.func.value, list(part.args)  # type: ignore[attr-defined]
        if ast.unparse(of) in ("np", "numpy"):
            of, axes = axes[0], axes[1:]
        axes = list(axes[0].elts) if len(axes) == 1 and isinstance(axes[0], ast.Tuple) else axes
        numbers = [a.value for a in axes if isinstance(a, ast.Constant) and a.value != 1]
        while isinstance(of, ast.Subscript):  # x[t].reshape(2, 1)
            of = of.value
        kind = {"inputs": "inputs", "target": "outputs"}.get(role(getattr(of, "id", "")), "")
        if kind and len(numbers) == 1 and type(numbers[0]) is int and len(axes) > 1:
            found.setdefault(kind, numbers[0])
    return found


@dataclass(frozen=True)
class Form:
    """A form that people keep sequences in.

    Args:
        text: an expression, of NumPy's generator `draw`.
        time: the axis of time; None for the input of a single step.
        batch: the axis of sequences, if there are several.
        said: what a reader is told.
    """

    text: str
    time: int | None
    batch: int | None
    said: str


def forms(sizes: Sizes) -> tuple[Form, ...]:
    """The forms of inputs, the likelier first."""
    return (
        _floats("T I 1", sizes),
        _floats("T I", sizes),
        _integers("T", sizes, ".tolist()"),
        _floats("B T I", sizes),
        _floats("T B I", sizes),
        _floats("T 1 I", sizes),
        _floats("I B T", sizes),
        _floats("B I T", sizes),
        _floats("I T", sizes),
        _integers("B T", sizes),
        _integers("T B", sizes),
        _floats("B T I 1", sizes),
        _floats("T I B", sizes),
        _floats("T 1 1", sizes),
        _floats("T 1", sizes),
        _floats("T", sizes),
        _integers("T 1", sizes),
        _integers("T", sizes),
        Form(
            f"[{SYMBOLS!r}[i] for i in draw.integers({len(SYMBOLS)}, size={LONGEST})]",
            0,
            None,
            "symbols",
        ),
    )


def named_first(found: Sequence[Form], functions: Sequence[ast.FunctionDef]) -> list[Form]:
    """Forms with those first whose axes are as a function names them: `T, _, B = x.shape`.

    A file that names its sequences is not understood by one sequence alone: what is divided by
    their number once too often is right there.
    """
    named = [axes for function in functions for axes in _axes_named(function)]
    fitting = [form for form in found if any(_fits(form, axes) for axes in named)]
    return [*fitting, *(form for form in found if form not in fitting)]


def _axes_named(function: ast.FunctionDef) -> list[list[str]]:
    """What a function calls the axes of its inputs, a letter each; "" for what it does not say."""
    given = {a.arg for a in function.args.args if role(a.arg) == "inputs"}
    found = []
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Tuple):
            continue
        value = node.value
        if not isinstance(value, ast.Attribute) or value.attr != "shape":
            continue
        names = [getattr(part, "id", "") for part in node.targets[0].elts]
        if getattr(value.value, "id", "") in given:
            found.append([AXES.get(size_kind(name), "") for name in names])
    return [axes for axes in found if {"T", "B"} <= set(axes)]


def _fits(form: Form, axes: list[str]) -> bool:
    own = form.said.strip("()").split(", ")
    return len(own) == len(axes) and all(
        a == b or (not b and a not in ("T", "B", "1")) for a, b in zip(own, axes, strict=True)
    )


def single_forms(sizes: Sizes) -> tuple[Form, ...]:
    """The forms of the input of a single step, the likelier first."""
    return tuple(_floats(axes, sizes) for axes in ("I 1", "I", "1 I", "B I", "I B"))


def _floats(axes: str, sizes: Sizes) -> Form:
    names = axes.split()
    text = f"draw.standard_normal({_shape(names, sizes)})"
    time = names.index("T") if "T" in names else None
    return Form(text, time, _batch(names), f"({', '.join(names)})")


def _integers(axes: str, sizes: Sizes, tail: str = "") -> Form:
    names = axes.split()
    text = f"draw.integers({sizes.inputs}, size={_shape(names, sizes)}){tail}"
    return Form(text, names.index("T"), _batch(names), f"indices ({', '.join(names)})")


def _shape(names: list[str], sizes: Sizes) -> str:
    known = {"T": LONGEST, "B": BATCH, "I": sizes.inputs, "1": 1}
    numbers = [str(known[name]) for name in names]
    return numbers[0] if len(numbers) == 1 else f"({', '.join(numbers)})"


def _batch(names: list[str]) -> int | None:
    return names.index("B") if "B" in names else None


def states(sizes: Sizes) -> tuple[str, ...]:
    """The shapes of states, the likelier first."""
    H, B = sizes.hidden, BATCH
    found = (f"({H}, 1)", f"({B}, {H})", f"({H},)", f"(1, {H})", f"({H}, {B})", f"(2, {B}, {H})")
    return (*found, f"({sizes.inputs}, 1)", f"({sizes.inputs},)")


def targets(form: Form, sizes: Sizes, stepwise: bool | None = None) -> list[tuple[str, int | None]]:
    """Expressions of targets, with their axis of time; None where there is one for all steps.

    Args:
        form: of the inputs.
        sizes: of the network.
        stepwise: whether there is an output for each step; None where that is not known.
    """
    T, B, O, H = LONGEST, BATCH, sizes.outputs, sizes.hidden  # noqa: E741
    hot = f"np.eye({O})[draw.integers({O}, size={{}})]"
    if form.said == "symbols":
        return [(form.text, 0)]
    if form.batch is None:
        found: list[tuple[str, int | None]] = [
            (f"draw.integers({O}, size={T}).tolist()", 0),
            (hot.format(T), 0),
            (hot.format(T) + "[..., None]", 0),
            (hot.format(T) + "[:, None]", 0),
            (f"draw.integers({O})", None),
            (f"draw.integers({O}, size=1).tolist()", None),
            (hot.format("()"), None),
            (hot.format("()") + "[:, None]", None),
            (hot.format("()") + "[None]", None),
            (f"draw.standard_normal(({T}, {O}))", 0),
            (f"draw.standard_normal(({T}, {O}, 1))", 0),
            (f"draw.standard_normal({T})", 0),
            (f"draw.standard_normal(({T}, 1))", 0),
            (f"draw.standard_normal(({T}, {H}))", 0),
            (f"draw.integers({O}, size={T})", 0),
            (f"draw.standard_normal(({O}, 1))", None),
            ("draw.standard_normal()", None),
        ]
        if O == 1:
            found = [
                (f"draw.integers(2, size={T})", 0),
                (f"draw.integers(2, size=({T}, 1))", 0),
                (f"draw.integers(2, size=(1, {T}))", 1),
                ("draw.integers(2)", None),
                ("draw.integers(2, size=(1, 1))", None),
                *(pair for pair in found if "standard_normal" in pair[0]),
            ]
        if form.time == 1 and O > 1:
            found.insert(0, (f"{hot.format(T)}.T", 1))
    else:
        first, last = (T, B) if form.time == 0 else (B, T)
        time = 0 if form.time == 0 else 1
        found = [
            (f"draw.integers({O}, size=({first}, {last}))", time),
            (hot.format(f"({first}, {last})"), time),
            (f"draw.integers({O}, size={B})", None),
            (hot.format(B), None),
            (f"draw.standard_normal(({first}, {last}, {O}))", time),
            (f"draw.standard_normal(({B}, {O}))", None),
            (f"draw.standard_normal(({first}, {last}, 1))", time),
            (f"draw.standard_normal(({B}, 1))", None),
            (f"draw.standard_normal({B})", None),
        ]
        if form.said == "(T, I, B)":
            found[:0] = [
                (f"{hot.format(B)}.T", None),
                (f"{hot.format(f'({T}, {B})')}.transpose(0, 2, 1)", 0),
                (f"draw.integers(2, size=(1, {B}))", None),
            ]
        if form.said == "(B, I, T)":
            found = [
                (f"draw.standard_normal(({B}, {O}, 1))", None),
                (f"draw.standard_normal(({B}, {O}, {T}))", 2),
                (hot.format(B) + "[..., None]", None),
                (f"{hot.format(f'({B}, {T})')}.transpose(0, 2, 1)", 2),
                (f"draw.standard_normal(({B}, {O}))", None),
                (hot.format(B), None),
                (f"draw.integers({O}, size={B})", None),
            ]
        elif form.time == 2:
            found = [
                (f"{hot.format(f'({B}, {T})')}.transpose(2, 0, 1)", 2),
                (f"draw.standard_normal(({O}, {B}, {T}))", 2),
                (f"draw.standard_normal(({H}, {B}, {T}))", 2),
                (f"{hot.format(B)}.T", None),
            ]
    if form.time is None:
        return [pair for pair in found if pair[1] is None]
    if stepwise is None:
        return found
    return sorted(found, key=lambda pair: (pair[1] is not None) != stepwise)
