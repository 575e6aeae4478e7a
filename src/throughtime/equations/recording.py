"""Records a step: runs it once with traced values, and notes what its local variables are given.

Names come from the function's own locals, and lines from its source, so that what is derived can
be read beside it.
"""

from __future__ import annotations

import inspect
import pickle
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import numpy as np

from throughtime.arrays import Shape
from throughtime.equations.graph import Graph, Node, reachable
from throughtime.equations.tracing import KNOWN, EquationError, ShapeError, Traced, place_of


@dataclass(frozen=True)
class Named:
    """A local variable of the step.

    Attributes:
        name: what the step calls it.
        node: its value.
        line: number of the line, in its file, that assigned it.
    """

    name: str
    node: Node
    line: int


@dataclass(frozen=True)
class Trace:
    """A step as it was recorded.

    Attributes:
        name: of the function.
        graph: its nodes.
        inputs: the node of x.
        states: the nodes of the states before the step, by name.
        parameters: the nodes of the parameters, by name.
        after: the nodes of the states after the step, by name.
        named: the local variables, in the order of their assignment.
        source: of the function, by line number.
        file: the name of the source's file.
    """

    name: str
    graph: Graph
    inputs: Node
    states: Mapping[str, Node]
    parameters: Mapping[str, Node]
    after: Mapping[str, Node]
    named: tuple[Named, ...]
    source: Mapping[int, str]
    file: str = ""


class _Watcher:
    """Notes which traced values the step's local variables are given, and by which lines."""

    def __init__(self, code: CodeType) -> None:
        self.code, self.line = code, code.co_firstlineno
        self.seen: dict[str, int] = {}
        self.named: list[Named] = []
        self.graph: Graph | None = None
        self.begun: list[tuple[int, int]] = []  # how many nodes there were as a line began

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code is not self.code:
            return None
        if event == "call":
            self.seen = {n: id(v) for n, v in frame.f_locals.items()}
        elif event in ("line", "return"):
            for name, value in frame.f_locals.items():
                if isinstance(value, Traced) and self.seen.get(name) != id(value):
                    self.named.append(Named(name, value.node, self.line))
                self.seen[name] = id(value)
            self.line = frame.f_lineno
            if self.graph is not None:
                self.begun.append((len(self.graph.nodes), self.line))
        return self

    def line_of(self, node: Node) -> int:
        """The number of the line that made a node."""
        return next((n for count, n in reversed(self.begun) if count <= node.number), self.line)


@contextmanager
def _watching(function: Callable[..., Any]) -> Iterator[_Watcher]:
    code = getattr(inspect.unwrap(function), "__func__", function).__code__
    watcher, before = _Watcher(code), sys.gettrace()
    sys.settrace(watcher)
    try:
        yield watcher
    finally:
        sys.settrace(before)


def trace(
    function: Callable[..., Any],
    inputs: Shape,
    shapes: Mapping[str, Shape],
    default: Shape,
) -> Trace:
    """Runs a step once, with traced values in place of arrays.

    Args:
        function: of the input, the states and the parameters; returns the states after the step,
            as many as it takes, in the same order.
        inputs: shape of the input.
        shapes: shapes of the parameters, and of those states that are not of the default shape.
        default: shape of a state.

    Raises:
        EquationError: where the step does something that cannot be derived.
    """
    names = _arguments(function, shapes)
    others = {name: shapes.get(name, default) for name in names[1:]}
    # How many of the arguments are states is seen from what comes back.
    graph = Graph()
    leaves = {name: graph.leaf("state", name, shape) for name, shape in others.items()}
    try:
        count = len(_called(function, graph.leaf("input", names[0], inputs), leaves)[0])
    except ShapeError as problem:
        raise ShapeError(f"{problem}{_of_default_shape(names[1:], shapes)}") from problem
    states, parameters = names[1 : 1 + count], names[1 + count :]
    _refuse_count(function, count, names, [n for n in parameters if n not in shapes])
    drawn = _drawn(function)
    before, graph = [str(n.attributes) for n in _constants(graph)], Graph()
    x = graph.leaf("input", names[0], inputs)
    leaves = {n: graph.leaf("state" if n in states else "parameter", n, others[n]) for n in others}
    after, watcher = _called(function, x, leaves)
    other = [n for n in _constants(graph) if str(n.attributes) not in before]
    if other or len(_constants(graph)) != len(before) or _drawn(function) != drawn:
        raise EquationError(
            f"{_place_of(function, watcher, other)}: numbers in the step differ from call to call, "
            "as random ones do; hand them in as part of the input"
        )
    for name, node in zip(states, after, strict=True):
        if not node.batched:
            raise EquationError(
                f"{function.__name__}: the state {name} is after the step a value of parameters "
                "alone; use that value itself, and leave the state out"
            )
        if node.shape != others[name]:
            plural = "s" * (count != 1)
            raise EquationError(
                f"{function.__name__}: it returns {count} state{plural}, {' and '.join(states)}; "
                f"the state {name} has the shape {others[name]} before the step and {node.shape} "
                f"after it; if {name} is a parameter, return fewer states; if the step is right, "
                f'give the state its shape, such as @tt.cell({name}="H H")'
            )
    return Trace(
        function.__name__,
        graph,
        x,
        {name: leaves[name] for name in states},
        {name: leaves[name] for name in parameters},
        dict(zip(states, after, strict=True)),
        tuple(watcher.named),
        _source(function),
        _file(function),
    )


def _of_default_shape(names: list[str], shapes: Mapping[str, Shape]) -> str:
    """Which arguments have no shape of their own, in words: one of them may need it."""
    free = [name for name in names if name not in shapes]
    if not free:
        return ""
    have = "has" if len(free) == 1 else "have"
    return (
        f"; {' and '.join(free)} {have} the shape H, as every state that @tt.cell gives no other, "
        f'such as @tt.cell({free[-1]}="H H")'
    )


def trace_step(
    name: str,
    step: Callable[..., tuple[Mapping[str, Any], Mapping[str, Any]]],
    inputs: tuple[str, Shape],
    states: Mapping[str, Shape],
    parameters: Mapping[str, Shape],
) -> tuple[Trace, dict[str, Node]]:
    """Records a step that is written for rows, and takes and returns values by name.

    Args:
        name: of the cell.
        step: of the parameters, the input and the state before it; returns the state after it,
            and what it keeps for the backward pass.
        inputs: the input's name and shape.
        states, parameters: their shapes; parameters that the step does not use are left out.

    Returns:
        the step, and the nodes of what it keeps.
    """
    graph = Graph()
    x = graph.leaf("input", *inputs)
    before = {n: graph.leaf("state", n, shape) for n, shape in states.items()}
    given = {n: graph.leaf("parameter", n, shape) for n, shape in parameters.items()}
    with _watching(step) as watcher:
        after, kept = step(
            {n: Traced(node) for n, node in given.items()},
            Traced(x),
            {n: Traced(node) for n, node in before.items()},
        )
    ends = {n: after[n].node for n in before}
    used = {node.number for node in reachable(ends.values())}
    own = {n: node for n, node in given.items() if node.number in used}
    named = tuple(watcher.named)
    found = Trace(name, graph, x, before, own, ends, named, _source(step))
    return found, {n: value.node for n, value in kept.items()}


def _constants(graph: Graph) -> list[Node]:
    """What is fixed in a step; it is compared as text, since NaN is not equal to itself."""
    return [n for n in graph.nodes if n.operation in ("constant", "numbers")]


def _drawn(function: Callable[..., Any]) -> bytes:
    """The states of the generators of random numbers that a step can draw from.

    A mask of few zeros and ones may be the same in two calls.
    """
    known = inspect.getclosurevars(inspect.unwrap(function))
    seen = [*known.globals.values(), *known.nonlocals.values()]
    own = [one.bit_generator.state for one in seen if isinstance(one, np.random.Generator)]
    shared = np.random.get_state()  # noqa: NPY002  # the one that np.random.randn draws from
    return pickle.dumps((random.getstate(), shared, own))


def _place_of(function: Callable[..., Any], watcher: _Watcher, nodes: list[Node]) -> str:
    """The line of the step that made the first of these nodes; the step's name without any."""
    if not nodes:
        return function.__name__
    number = watcher.line_of(nodes[0])
    text = _source(function).get(number, "").strip()
    return f"{_file(function)}, line {number}" + (f", `{text}`" if text else "")


def _file(function: Callable[..., Any]) -> str:
    path: str = inspect.unwrap(function).__code__.co_filename
    return path.replace("\\", "/").rpartition("/")[2]


def _refuse_count(
    function: Callable[..., Any], count: int, names: list[str], unknown: list[str]
) -> None:
    """Refuses a step that returns too many states, or too few."""
    step = f"{function.__name__}({', '.join(names)})"
    if not 1 <= count < len(names):
        taken = ", ".join(names[1:])
        raise EquationError(
            f"{step}: expected as many states after the step as it takes before it, got {count}; "
            f"return the new values of those among {taken} that are states, each once"
        )
    if unknown:
        plural = "s" * (count != 1)
        shapes = ", ".join(f'{name}="4H H"' for name in unknown)
        raise EquationError(
            f"{step}: it returns {count} state{plural}, so that {', '.join(unknown)} would be "
            f"parameters, and have no shape; return every state, or give shapes: @tt.cell({shapes})"
        )


def _arguments(function: Callable[..., Any], shapes: Mapping[str, Shape]) -> list[str]:
    found = inspect.signature(function).parameters
    # An argument with a default and no shape is a number or an option of the step's own.
    kinds = {n: own.kind for n, own in found.items() if own.default is own.empty or n in shapes}
    if set(kinds.values()) - {inspect.Parameter.POSITIONAL_OR_KEYWORD} or len(kinds) < 2:
        raise EquationError(
            f"{function.__name__}: expected arguments for the input, the states and the "
            f"parameters, such as (x, h, W, U, b), got ({', '.join(found)})"
        )
    return list(kinds)


def _called(
    function: Callable[..., Any], x: Node, leaves: Mapping[str, Node]
) -> tuple[list[Node], _Watcher]:
    with _watching(function) as watcher:
        watcher.graph = x.graph
        try:
            found = function(Traced(x), *(Traced(node) for node in leaves.values()))
        except EquationError:
            raise
        except Exception as problem:
            what = f"{type(problem).__name__}: {problem}".replace("'Traced'", "Traced")
            what = what.replace("Traced", "a value of the step")
            way_out = KNOWN if isinstance(problem, TypeError) else "mend the line"
            way_out = "write a loop" if isinstance(problem, RecursionError) else way_out
            raise EquationError(f"{place_of(problem)}: {what}; {way_out}") from problem
    values = list(found) if isinstance(found, tuple | list) else [found]
    for value in values:
        if not isinstance(value, Traced):
            given = "None" if value is None else f"a {type(value).__name__}"
            raise EquationError(
                f"{function.__name__}: expected the states after the step, each computed from "
                f"the arguments, got {given}; end the step with `return h`, or with all its states "
                "in the order of the arguments: `return h, c`"
            )
    return [value.node for value in values], watcher


def _source(function: Callable[..., Any]) -> dict[int, str]:
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):  # typed in at a prompt that keeps no source
        return {}
    return {first + k: line.rstrip() for k, line in enumerate(lines)}
