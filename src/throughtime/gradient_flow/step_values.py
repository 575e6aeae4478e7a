"""The inner values of a run's steps, computed again from a cell's equations for all steps at once.

They are wanted where a run becomes NaN or infinite: of a cell with gates the terms of every
pre-activation, in float64, so that a number that float32 cannot hold is still a number; of a cell
of which only the equations are known, the value by its name in them and the line that computes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import Cell, StepEquations, Tape, product
from throughtime.equations import TEXT, Node, Trace, Writer, phase_from, reachable

Parts = dict[str, Array]  # "W x", "U h", "b", …, (T, B, G·H) in float64


def pre_activations(cell: Cell, p: Mapping[str, Array], tape: Tape) -> Parts:
    """The terms whose sum is the pre-activation of every step, in float64.

    A number that overflows float32 is then still a number, and shows which term is to blame. A term
    has the names of its parameter and of the state that this is multiplied by: "U h".
    """
    own, q = cell.equations, {name: _double(array) for name, array in p.items()}
    x = tape.inputs if tape.inputs.dtype.kind in "iu" else _double(tape.inputs)
    parts = {"W x": product(q["W"], x)}
    trace = own.backward.trace
    known = {n: _double(value) for n, value in cell.forward_values(q, tape).items()}
    known |= {node.number: _double(tape.states[n][1:]) for n, node in trace.after.items()}
    terms: dict[str, dict[str, Node]] = {}
    for gate in cell.gates:
        for term in _summands(own.kept[gate].operands[0]):
            if name := _name_of(term, own, cell.gates):
                terms.setdefault(name, {})[gate] = term
    wanted = [node for own_terms in terms.values() for node in own_terms.values()]
    nodes = {node.number: node for node in trace.graph.nodes}
    found = phase_from([nodes[number] for number in known], wanted)(known)
    for name, by_gate in terms.items():
        part = np.zeros_like(parts["W x"])
        for place, gate in enumerate(cell.gates):
            if gate in by_gate:
                rows = slice(place * cell.units, (place + 1) * cell.units)
                part[..., rows] = found[by_gate[gate].number]
        parts[name] = part
    parts["b"] = np.broadcast_to(q["b"], parts["W x"].shape)
    order = ["W x", "U h", "b"]
    return {name: parts[name] for name in (*order, *(n for n in parts if n not in order))}


def _double(array: Array) -> Array:
    return array.astype(np.float64)


def _summands(node: Node) -> Iterator[Node]:
    """The terms of a sum, or of a part of one."""
    if node.operation == "add":
        for operand in node.operands:
            yield from _summands(operand)
    elif node.operation == "part":
        for term in _summands(node.operands[0]):
            yield node.graph.apply("part", term, start=node.start, stop=node.stop)
    else:
        yield node


def _name_of(term: Node, own: StepEquations, gates: str) -> str:
    """The first parameter of a term and the state beside it; "" for what the input alone gives."""
    trace = own.backward.trace
    names = {node.number: name for name, node in trace.after.items()}
    stops = {own.kept[gate].number for gate in gates} | names.keys()
    parameters, states, waiting = [], [], [term]
    while waiting:
        node = waiting.pop()
        if node.number in names:
            states.append((node.number, names[node.number]))
        elif node.operation == "parameter":
            parameters.append((node.number, node.name))
        elif node.operation == "state":
            states.append((node.number, node.name))
        elif node.number not in stops or node is term:
            waiting += node.operands
    return f"{min(parameters)[1]} {min(states)[1]}" if parameters and states else ""


class StepValue(NamedTuple):
    """A value of the equations that is NaN or infinite.

    Attributes:
        name: in the equations, or the expression that has none.
        step, sequence, unit: where; `unit` counts a matrix's entries row by row.
        value: in float64 where that holds it.
        line: file, line and source of what computes it; "" where they are not known.
        sources: what it is computed from.
    """

    name: str
    step: int
    sequence: int
    unit: int
    value: float
    line: str
    sources: dict[str, float]


def first_step_value(cell: Cell, p: Mapping[str, Array], tape: Tape) -> StepValue | None:
    """The first inner value of a run that is NaN or infinite.

    Where a state is, the value that made it so is looked for. Otherwise it is the first of all, but
    for those among which `np.where` chooses.
    """
    own = cell.equations
    trace = own.backward.trace
    values = _Values(cell, p, tape)
    ends = list(trace.after.values())
    place = values.first(ends)
    if place is None:
        chosen = {o.number for n in values.nodes if n.operation == "where" for o in n.operands}
        place = values.first([n for n in values.nodes if n.number not in chosen])
        if place is None:
            return None
    node, t, b, entry = place
    while (operand := values.cause(node, t, b)) is not None:
        node = operand
        entry = values.entry(node, t, b)
    writer = Writer(own.backward, TEXT)
    with np.errstate(all="ignore"):
        exact = _Values(cell, {n: _double(a) for n, a in p.items()}, tape)
    value = float(exact.at(node, t, b).reshape(-1)[entry])
    sources = {}
    for operand in node.operands:
        if operand.operation == "constant":
            continue
        array, name = exact.at(operand, t, b), writer.expression(operand)
        if array.shape == exact.at(node, t, b).shape:
            sources[name] = float(array.reshape(-1)[entry])
        else:
            sources[f"largest |{name}|"] = float(np.abs(array).max())
    return StepValue(writer.expression(node), t, b, entry, value, _line(trace, node), sources)


class _Values:
    """Every value of the forward equations, for all steps of a run."""

    def __init__(self, cell: Cell, p: Mapping[str, Array], tape: Tape) -> None:
        trace = cell.equations.backward.trace
        self.nodes = [n for n in reachable(trace.after.values()) if n.operation != "constant"]
        x, names = tape.inputs, dict(zip(trace.states, cell.state_sizes, strict=True))
        dtype = next((array.dtype for array in p.values()), tape.states["h"].dtype)
        known: dict[int, Any] = {n.number: p[name] for name, n in trace.parameters.items()}
        for name, node in trace.states.items():
            array = tape.states[names[name]][:-1].astype(dtype)
            known[node.number] = array.reshape(*array.shape[:2], *node.shape)
        classes = x.dtype.kind in "iu"
        known[trace.inputs.number] = (np.eye(trace.inputs.shape[0])[x] if classes else x).astype(
            dtype
        )
        leaves = [node for node in self.nodes if node.leaf]
        with np.errstate(all="ignore"):
            found = phase_from(leaves, [n for n in self.nodes if not n.leaf])(known)
        self.values = {n: np.asarray(value) for n, value in (known | found).items()}
        self.lead = tape.inputs.shape[:2]
        self.living = np.ones(self.lead, bool) if tape.active is None else tape.active[..., 0]

    def whole(self, node: Node) -> Array:
        """A value for every step and sequence, (T, B, entries)."""
        value = self.values[node.number]
        return np.broadcast_to(value, (*self.lead, *node.shape)).reshape(*self.lead, -1)

    def at(self, node: Node, t: int, b: int) -> Array:
        """A value at one step of one sequence."""
        if node.operation == "constant":
            return np.asarray(node.value)
        value: Array = self.whole(node)[t, b].reshape(node.shape)
        return value

    def first(self, nodes: list[Node]) -> tuple[Node, int, int, int] | None:
        """The first step, and there the first of some nodes, at which one is NaN or infinite."""
        found: tuple[Node, int, int, int] | None = None
        for node in nodes:
            if node.leaf:
                continue
            wrong = np.argwhere(~np.isfinite(self.whole(node)) & self.living[..., None])
            if len(wrong) and (found is None or wrong[0, 0] < found[1]):
                found = (node, int(wrong[0, 0]), int(wrong[0, 1]), int(wrong[0, 2]))
        return found

    def entry(self, node: Node, t: int, b: int) -> int:
        """The first entry that is NaN or infinite."""
        return int(np.argwhere(~np.isfinite(self.whole(node)[t, b]))[0, 0])

    def cause(self, node: Node, t: int, b: int) -> Node | None:
        """An operand that is itself NaN or infinite at this step."""
        for operand in node.operands:
            if operand.leaf or (node.operation == "where" and operand is node.operands[0]):
                continue
            if not np.isfinite(self.whole(operand)[t, b]).all():
                return operand
        return None


def _line(trace: Trace, node: Node) -> str:
    """The line that computes a value: its own, or that of the first name it goes into."""
    for named in trace.named:
        if node in reachable([named.node]):
            text = trace.source.get(named.line, "").strip()
            return f"{trace.file}, line {named.line}" + (f", `{text}`" if text else "")
    last = max(trace.source, default=0)
    returned = [n for n, text in trace.source.items() if text.strip().startswith("return")]
    if returned or last:
        number = returned[-1] if returned else last
        return f"{trace.file}, line {number}, `{trace.source[number].strip()}`"
    return ""


def delta_name(cell: Cell, unit: int) -> tuple[str, int]:
    """The name of an entry of a derived cell's "z", which holds several δ, and its place there."""
    own = cell.equations
    writer = Writer(own.backward, TEXT)
    for node in own.frontier:
        size = int(np.prod(node.shape))
        if unit < size:
            return writer.expression(node), unit
        unit -= size
    raise IndexError(unit)
