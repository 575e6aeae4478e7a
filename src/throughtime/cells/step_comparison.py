"""A backward pass of one step that someone wrote by hand, beside the derived one.

Both run on the same numbers, and each gradient is compared. Where some differ, the derived step is
edited: a term left out, doubled or negated, a factor left out, another value of the same shape, a
matrix not transposed. An edit is named if with it all gradients are those of the function under
test, or if it brings more of them into agreement and is part of what explains all. So the fault is
told as a line of the derivation and what that line would have to be.
"""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse

SAME = 1e-9  # relative: nothing but rounding lies between two ways to compute a gradient
SIZE = 0.8  # standard deviation of what is drawn: far from saturation, and not all alike
POINTS = 2  # sets of numbers on which an edit has to give the gradients
MOST_EDITS = 3  # that are looked for together
MOST_TRIES = 20_000  # edits and sets of them that are tried


@dataclass(frozen=True)
class LineCorrection:
    """A line of the derived step, and what it would have to be.

    Attributes:
        line: as it is derived.
        instead: with which the gradients are those under test.
    """

    line: str
    instead: str

    def __str__(self) -> str:
        return f"derived:  {self.line}\nyours is: {self.instead}"


@dataclass(frozen=True)
class StepComparison:
    """A hand-written step beside the derived one; print it.

    Attributes:
        differences: by gradient, ‖yours − derived‖ / ‖derived‖.
        edits: of the derived step, with which it gives what the hand-written one does; empty where
            all agree, or where no edits were found.
    """

    differences: dict[str, float]
    edits: tuple[LineCorrection, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether all gradients do."""
        return max(self.differences.values()) <= SAME

    def __str__(self) -> str:
        width = max(map(len, self.differences))
        lines = ["AGREE" if self.agrees else "DISAGREE"]
        lines += [
            f"    {name:{width}}  {'agrees' if d <= SAME else 'differs'}  {d:.0e}"
            for name, d in self.differences.items()
        ]
        if self.edits:
            lines += ["", "As if the derived step were written otherwise:"]
            for edit in self.edits:
                lines += ["", *(f"    {line}" for line in str(edit).split("\n"))]
        elif not self.agrees:
            lines += ["", "No small edits of the derived step give these gradients."]
        return "\n".join(lines)


def compare_step(
    code: str,
    names: Sequence[str],
    states: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
    backward: Callable[..., Any],
    forward: Callable[..., Any] | None,
    seed: int = 0,
) -> StepComparison:
    """Compares a step's gradients with those of the derived one.

    Args:
        code: the derived step as NumPy functions, forward and backward.
        names: the arguments of the forward step: input, states, parameters.
        states: which of them are states.
        shapes: of them.
        backward: takes what it names: arguments of the step, `dh`, `dc` and so on for the
            derivatives with respect to the states after the step, and at most one more, what
            `forward` kept. It returns the derivatives with respect to the arguments: a mapping
            from `dx`, `dh`, `dW` …, or a sequence in the order of the arguments.
        forward: takes the step's arguments; what it returns last is what `backward` is given.
        seed: for what is drawn.

    Raises:
        TypeError, ValueError: where `backward` cannot be called so, or returns something else.
    """
    step = DerivedStep(code, names, states)
    points = [step.point(shapes, np.random.default_rng((seed, k))) for k in range(POINTS)]
    seen = [_called(backward, forward, names, states, point) for point in points]
    right = [step.gradients(step.tree, point) for point in points]
    differences = {
        name: max(_apart(own[name], r[name]) for own, r in zip(seen, right, strict=True))
        for name in seen[0]
    }
    edits: tuple[LineCorrection, ...] = ()
    if max(differences.values()) > SAME:
        edits = _explained(step, points, seen)
    return StepComparison(differences, edits)


class DerivedStep:
    """The derived backward pass as statements that can be edited and run."""

    def __init__(self, code: str, names: Sequence[str], states: Sequence[str]) -> None:
        tree = ast.parse(code)
        *self.helpers, self.forward, backward = tree.body
        assert isinstance(backward, ast.FunctionDef)
        self.names, self.states = names, states
        kept, gradient, *body, end = backward.body
        # What is kept stands by its names already, and the gradients begin at 0.
        self.tree = [node for node in (kept, gradient, *body) if not _unpacks(node)]
        assert isinstance(end, ast.Return)
        assert end.value is not None
        self.returned = compile(ast.Expression(end.value), "<derived>", "eval")

    def point(self, shapes: Mapping[str, tuple[int, ...]], rng: np.random.Generator) -> Any:
        """Numbers for a step: its arguments, all values of its forward pass, and what arrives."""
        space: dict[str, Any] = {"np": np}
        for node in self.helpers:
            exec(compile(ast.Module([node], []), "<derived>", "exec"), space)
        for name in self.names:
            own = f"{name}_before" if name in self.states else name
            space[own] = SIZE * rng.standard_normal(shapes[name])
        assert isinstance(self.forward, ast.FunctionDef)
        body = ast.Module(self.forward.body[:-1], [])
        exec(compile(body, "<derived>", "exec"), space)
        for name in self.states:
            arrives = rng.standard_normal(shapes[name])
            space[f"d{name}"] = space[f"d{name}_next"] = arrives
        return space

    def gradients(self, tree: Sequence[ast.stmt], point: Mapping[str, Any]) -> dict[str, Array]:
        """The derivatives with respect to the step's arguments, by `d` and their names."""
        space = dict(point)
        for name in self.names:
            if name not in self.states:
                space[f"d{name}"] = np.zeros(np.shape(point[name]))
        with np.errstate(all="ignore"):
            exec(compile(ast.Module(list(tree), []), "<derived>", "exec"), space)
            *of_states, of_input = eval(self.returned, space)
        found = {f"d{name}": np.asarray(space.get(f"d{name}")) for name in self.names[1:]}
        found |= {f"d{n}": np.asarray(g) for n, g in zip(self.states, of_states, strict=True)}
        return {f"d{self.names[0]}": np.asarray(of_input), **found}


def _unpacks(node: ast.stmt) -> bool:
    """Whether a statement takes apart what the function was given."""
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple | ast.List)


def _called(
    backward: Callable[..., Any],
    forward: Callable[..., Any] | None,
    names: Sequence[str],
    states: Sequence[str],
    point: Mapping[str, Any],
) -> dict[str, Array]:
    """What the function under test returns, by name."""
    known = {n: point[f"{n}_before" if n in states else n].copy() for n in names}
    known |= {f"d{name}": point[f"d{name}"].copy() for name in states}
    given = {**known, **{f"d{name}_next": known[f"d{name}"] for name in states}}
    asked = list(inspect.signature(backward).parameters)
    rest = [name for name in asked if name not in given]
    if len(rest) > (forward is not None):
        expected = "arguments of " + ", ".join(known)
        way_out = "give forward=, whose last result is handed on" if forward is None else ""
        refuse("backward", expected, ", ".join(rest), way_out, error=TypeError)
    if forward is not None and rest:
        result = forward(*(known[name] for name in names))
        given[rest[0]] = result[-1] if isinstance(result, tuple) else result
    found = backward(**{name: given[name] for name in asked})
    wanted = [f"d{name}" for name in names]
    if isinstance(found, Mapping):
        unknown = set(found) - set(wanted)
        if unknown or not found:
            refuse(
                "backward", "a mapping from " + ", ".join(wanted), sorted(found), error=TypeError
            )
        by_name = dict(found)
    elif isinstance(found, tuple | list) and len(found) == len(wanted):
        by_name = dict(zip(wanted, found, strict=True))
    else:
        count = len(found) if isinstance(found, tuple | list) else type(found).__name__
        expected = f"a mapping, or {len(wanted)} arrays: {', '.join(wanted)}"
        refuse("backward", expected, count, error=TypeError)
    arrays = {name: np.asarray(array, np.float64) for name, array in by_name.items()}
    for name, array in arrays.items():
        shape = np.shape(point[name[1:]] if name[1:] not in states else point[f"{name[1:]}_before"])
        if array.shape != shape:
            refuse(f"backward: {name}", shape, array.shape)
    return arrays


def _apart(a: Array, b: Array) -> float:
    if a.shape != b.shape:
        return np.inf
    size = float(np.linalg.norm(b)) or 1.0
    apart = float(np.linalg.norm(a - b)) / size
    return apart if np.isfinite(apart) else np.inf


# --- edits of the derived step ---


def _explained(
    step: DerivedStep, points: Sequence[Mapping[str, Any]], seen: Sequence[Mapping[str, Array]]
) -> tuple[LineCorrection, ...]:
    """The fewest edits with which the derived step gives what was seen."""
    first, tries = len(_agreeing(step, step.tree, points, seen)), 0
    level: list[tuple[list[ast.stmt], tuple[LineCorrection, ...], int]] = [(step.tree, (), first)]
    for _ in range(MOST_EDITS):
        found = []
        for tree, made, agree in level:
            for edited, edit in edits_of(tree, points[0]):
                tries += 1
                if tries > MOST_TRIES:
                    return ()
                now = len(_agreeing(step, edited, points, seen))
                if now == len(seen[0]):
                    return (*made, edit)
                if now > agree:
                    found.append((edited, (*made, edit), now))
        level = sorted(found, key=lambda one: -one[2])[:3]
    return ()


def _agreeing(
    step: DerivedStep,
    tree: Sequence[ast.stmt],
    points: Sequence[Mapping[str, Any]],
    seen: Sequence[Mapping[str, Array]],
) -> list[str]:
    """The gradients that an edited step has in common with the one under test, at every point."""
    names = list(seen[0])
    for point, own in zip(points, seen, strict=True):
        try:
            made = step.gradients(tree, point)
        except Exception:  # an edit may join what does not fit
            return []
        names = [name for name in names if _apart(own[name], made[name]) <= SAME]
        if not names:
            return []
    return names


def edits_of(
    tree: Sequence[ast.stmt], point: Mapping[str, Any]
) -> Iterator[tuple[list[ast.stmt], LineCorrection]]:
    """Every small edit of one line."""
    shapes = {n: np.shape(v) for n, v in point.items() if isinstance(v, np.ndarray)}
    for number, line in enumerate(tree):
        if not isinstance(line, ast.Assign | ast.AugAssign):
            continue
        known = {
            n: shape for n, shape in shapes.items() if not n.endswith("_next") or n in _read(line)
        }
        written = ast.unparse(line)
        already = {written}
        for edited in _edited(line, known):
            text = ast.unparse(edited)
            if text not in already:
                already.add(text)
                body = [*tree[:number], edited, *tree[number + 1 :]]
                yield (
                    [ast.fix_missing_locations(node) for node in body],
                    LineCorrection(written, text),
                )
        target = line.targets[0] if isinstance(line, ast.Assign) else line.target
        if isinstance(target, ast.Name):  # so that later lines may use it in place of another
            shapes.setdefault(target.id, _shape_after(tree[: number + 1], point, target.id))


def _shape_after(tree: Sequence[ast.stmt], point: Mapping[str, Any], name: str) -> tuple[int, ...]:
    space = dict(point)
    for line in tree:
        if isinstance(line, ast.AugAssign) and isinstance(line.target, ast.Name):
            space.setdefault(line.target.id, 0.0)
    with np.errstate(all="ignore"):
        exec(compile(ast.Module(list(tree), []), "<derived>", "exec"), space)
    return np.shape(space[name])


def _read(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _edited(
    line: ast.Assign | ast.AugAssign, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[ast.stmt]:
    """A line with one of its parts edited, the likelier edits first."""
    count = sum(1 for _ in _parts(line.value))
    for kind in (_without, _otherwise, _renamed):
        for place in range(count):
            part = next(islice(_parts(line.value), place, None))
            for instead in kind(part, shapes):
                edited = copy.deepcopy(line)
                old = next(islice(_parts(edited.value), place, None))
                edited.value = _Replaced(old, instead).visit(edited.value)
                yield edited


def _parts(node: ast.expr) -> Iterator[ast.expr]:
    """An expression and all expressions in it; of `np.outer` neither `np` nor the function."""
    yield node
    for child in ast.iter_child_nodes(node):
        called = isinstance(node, ast.Call) and child is node.func
        if isinstance(child, ast.expr) and not called:
            yield from _parts(child)


class _Replaced(ast.NodeTransformer):
    """Puts one expression in the place of another, which is known by its identity."""

    def __init__(self, old: ast.expr, new: ast.expr) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        """The new one at the place of the old one."""
        return copy.deepcopy(self.new) if node is self.old else super().visit(node)


def _without(part: ast.expr, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[ast.expr]:
    """A term or a factor left out, or two as σ(1 − σ); a matrix in the place of its transpose."""
    if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Add | ast.Sub | ast.Mult):
        yield part.left
        yield part.right
        if isinstance(part.left, ast.BinOp) and isinstance(part.left.op, ast.Mult):
            yield part.left.left
    if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Pow):
        yield part.left
    if isinstance(part, ast.Attribute) and part.attr == "T":
        yield part.value


def _otherwise(part: ast.expr, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[ast.expr]:
    """Negated, doubled, halved, a sign exchanged, operands exchanged, parts in another order."""
    if isinstance(part, ast.BinOp):
        if isinstance(part.op, ast.Add):
            yield ast.BinOp(part.left, ast.Sub(), part.right)
        if isinstance(part.op, ast.Sub):
            yield ast.BinOp(part.left, ast.Add(), part.right)
            yield ast.BinOp(part.right, ast.Sub(), part.left)
    if isinstance(part, ast.BinOp | ast.Call):
        for factor in (2, 0.5):
            yield ast.BinOp(ast.Constant(factor), ast.Mult(), part)
        yield ast.UnaryOp(ast.USub(), part)
    if isinstance(part, ast.Name) and part.id in shapes:
        yield ast.UnaryOp(ast.USub(), part)
    if isinstance(part, ast.List):
        for a in range(len(part.elts)):
            for b in range(a):
                turned = list(part.elts)
                turned[a], turned[b] = turned[b], turned[a]
                yield ast.List(turned, ast.Load())


def _renamed(part: ast.expr, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[ast.expr]:
    """Another value of the same shape; the slope of tanh, of the activated value once more."""
    if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Pow):
        yield ast.parse(f"np.tanh({ast.unparse(part.left)}) ** 2", mode="eval").body
    if isinstance(part, ast.Name) and part.id in shapes:
        for other, shape in shapes.items():
            if other != part.id and shape == shapes[part.id]:
                yield ast.Name(other, ast.Load())
