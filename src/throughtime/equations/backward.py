"""Derives the backward pass of a step: δ of every named value, and of what the step is given.

δ of a value is the sum of what comes from each of its uses. The sums are built from the last value
to the first, so that each δ is known when it is needed. What several uses have in common, such as
the δ through which they reach the loss, is written once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from throughtime.equations.graph import OPERATIONS, Graph, Node, reachable
from throughtime.equations.recording import Trace
from throughtime.equations.tracing import EquationError


@dataclass(frozen=True)
class Line:
    """A line of the backward pass.

    Attributes:
        of: the forward value whose δ it computes.
        delta: that δ.
        through: for each term, what the value reaches the loss through: the name of a later value,
            or "" for what comes from the next step and the outputs.
    """

    of: Node
    delta: Node
    through: tuple[str, ...]


@dataclass(frozen=True)
class BackwardPass:
    """The backward pass of a step.

    Attributes:
        trace: the step.
        names: of the forward values that have one; the state c is `c` before the step and `c_t`
            after it.
        arriving: δ of each state after the step, as it comes from later steps and the outputs.
        lines: in the order in which they are computed.
        deltas: δ of each state before the step.
        parameters: δ of each parameter, summed over steps.
        inputs: δ of the input; None where the step does not use it.
    """

    trace: Trace
    names: Mapping[int, str]
    arriving: Mapping[str, Node]
    lines: tuple[Line, ...]
    deltas: Mapping[str, Node]
    parameters: Mapping[str, Node]
    inputs: Node | None


def delta_after(backward: BackwardPass) -> dict[str, Node]:
    """δ of each state after the step: with a line of its own where more than one term meets."""
    lines = {line.of.number: line.delta for line in backward.lines}
    return {
        name: lines.get(node.number, backward.arriving[name])
        for name, node in backward.trace.after.items()
    }


ACTIVATIONS = {"tanh", "sigmoid", "relu"}
SHAPES = {"part", "reshape", "transpose", "expand", "broadcast"}
# Their value is worth a name, since their slope is written with it.
REUSED = {"tanh", "sigmoid", "exp", "sqrt", "softmax", "relu", "expm1"}


def derive_backward(trace: Trace) -> BackwardPass:
    """The backward pass of a step.

    Raises:
        EquationError: where a parameter or a state takes no part in the step.
    """
    return _Derivation(trace).run()


class _Derivation:
    def __init__(self, trace: Trace) -> None:
        self.trace, self.graph = trace, trace.graph
        self.forward = reachable(trace.after.values())
        self.uses: dict[int, int] = {}
        for node in self.forward:
            for operand in node.operands:
                self.uses[operand.number] = self.uses.get(operand.number, 0) + 1
        self.moving: set[int] = set()  # what numbers alone, or a stop, do not fix
        for node in self.forward:
            own = node.leaf and node.value is None
            passes = node.operation != "stop_gradient"
            if own or (passes and any(x.number in self.moving for x in node.operands)):
                self.moving.add(node.number)
        self.names, self.own_line = names_of(trace, self.forward, self.uses)
        self.terms: dict[int, list[tuple[str, Node]]] = {}
        self.lines: list[Line] = []

    def run(self) -> BackwardPass:
        trace = self.trace
        _refuse_unused(trace, self.forward)
        arriving = {}
        for name, node in trace.after.items():
            arriving[name] = self.graph.leaf("arriving", name, node.shape)
            self.terms.setdefault(node.number, []).append(("", arriving[name]))
        found: dict[int, Node] = {}
        for node in reversed(self.forward):
            terms = self.terms.get(node.number, [])
            if not terms or node.operation == "constant":
                continue
            delta = self._sum(node, terms)
            if node.number in self.own_line or node.leaf:
                delta = self._line(node, delta, [through for through, _ in terms])
            found[node.number] = delta
            if not node.leaf:
                self._spread(node, delta)
        none = self.graph.constant(0.0)

        def of(node: Node) -> Node:
            zero = self.graph.apply("broadcast", none, shape=node.shape)
            return found.get(node.number, zero)

        return BackwardPass(
            trace,
            self.names,
            arriving,
            tuple(self.lines),
            {name: of(node) for name, node in trace.states.items()},
            {name: of(node) for name, node in trace.parameters.items()},
            found.get(trace.inputs.number),
        )

    def _line(self, node: Node, delta: Node, through: list[str]) -> Node:
        """Gives a δ its own line, and a name for the lines below."""
        if delta.operation in ("arriving", "let") and not node.leaf:
            return delta  # it has a name already
        delta = self.graph.apply("let", delta, of=node.number)
        self.lines.append(Line(node, delta, tuple(through)))
        return delta

    def _spread(self, node: Node, delta: Node) -> None:
        """Adds to δ of each operand what comes through this node."""
        attributes = dict(node.attributes)
        operation = OPERATIONS[node.operation]
        shares = operation.derivative(delta, node, *node.operands, **attributes)
        through = self._way(node)
        for operand, share in zip(node.operands, shares, strict=False):
            if share is None or operand.number not in self.moving or share.value == 0:
                continue
            share = summed_to(share, operand)
            if node.batched and not operand.batched:
                share = self.graph.apply("total", share)
            self.terms.setdefault(operand.number, []).append((through, share))

    def _way(self, node: Node) -> str:
        """The value with a line of its own that another one leads to."""
        while node.number not in self.own_line:
            node = next(later for later in self.forward if node in later.operands)
        return self.names[node.number]

    def _sum(self, node: Node, terms: list[tuple[str, Node]]) -> Node:
        joined = _joined(node, [term for _, term in terms])
        if joined is not None:
            return joined
        groups: dict[str, list[Node]] = {}
        for through, term in terms:
            groups.setdefault(through, []).append(term)
        total: Node | None = None
        for group in groups.values():
            part = _factored(group)
            total = part if total is None else total + part
        assert total is not None
        return total


def _refuse_unused(trace: Trace, forward: Iterable[Node]) -> None:
    used = {node.number for node in forward}
    for name, node in trace.parameters.items():
        if node.number not in used:
            raise EquationError(
                f"{trace.name}: the parameter {name} takes no part in the step; "
                "use it, or leave it out"
            )


def names_of(
    trace: Trace, forward: list[Node], uses: Mapping[int, int]
) -> tuple[dict[int, str], set[int]]:
    """The name of each value that has one, and the values whose δ has a line of its own.

    Names are those of local variables; where a name was given to several values, the earlier ones
    get a number. Names are made up for values that the backward pass reuses, such as σ(z), and for
    values that are used more than once, whose δ would otherwise be written out more than once.
    """
    known = {node.number for node in forward}
    names = {node.number: f"{name}_t" for name, node in trace.after.items() if not node.leaf}
    taken = {*names.values(), *trace.states, *trace.parameters, trace.inputs.name}
    last = {own.name: own.node.number for own in trace.named}
    for own in trace.named:
        number, name = own.node.number, own.name
        if number in names or number not in known or own.node.leaf:
            continue
        names[number] = name if last[name] == number and name not in taken else _free(name, taken)
        taken.add(names[number])
    own_line = set(names)

    def give(node: Node, made: str) -> None:
        names[node.number] = made if made not in taken else _free(made, taken)
        taken.add(names[node.number])

    for node in forward:
        split = node.batched and any(o.operation == "part" for o in _users(forward, node))
        if split and node.number not in names and not node.leaf:
            give(node, "z")
            own_line.add(node.number)
    for node in forward:
        inner = node.operands[0] if node.operation in ACTIVATIONS else node
        if inner is not node and inner.number not in names and not inner.leaf:  # a pre-activation
            outer = names.get(node.number, "").removesuffix("_t")
            several = sum(n.operation in ACTIVATIONS for n in forward) > 1
            give(inner, f"z_{outer}" if outer and several else "z")
            own_line.add(inner.number)
    for node in forward:
        number = node.number
        if number in names or node.leaf:
            continue
        several = uses.get(number, 0) > 1 and node.operation not in SHAPES
        if node.operation in REUSED:
            of = node.operands[0]
            word = (names.get(of.number) or _leaf_name(of)).removesuffix("_t")
            made = f"{node.operation}_{word}" if word else _free(node.operation, taken)
        elif several:
            made = "a"
        else:
            continue
        if several:
            own_line.add(number)
        give(node, made)
    return names, own_line


def _leaf_name(node: Node) -> str:
    return str(node.name) if node.operation in ("input", "state", "parameter") else ""


def _users(forward: list[Node], node: Node) -> list[Node]:
    return [other for other in forward if node in other.operands]


def _free(name: str, taken: set[str]) -> str:
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def summed_to(delta: Node, operand: Node) -> Node:
    """δ of an operand that was spread out over a larger shape: the sum over where it went."""
    if delta.shape == operand.shape:
        return delta
    if len(delta.shape) < len(operand.shape) or (
        np.broadcast_shapes(delta.shape, operand.shape) == operand.shape
    ):
        return delta.graph.apply("broadcast", delta, shape=operand.shape)
    if len(delta.shape) > 1 and all(size == 1 for size in operand.shape):
        whole = delta.graph.apply("sum", delta, axis=None, keepdims=False)
        return whole.graph.apply("reshape", whole, shape=operand.shape) if operand.shape else whole
    while len(delta.shape) > len(operand.shape):
        delta = delta.graph.apply("sum", delta, axis=0, keepdims=False)
    for axis, size in enumerate(operand.shape):
        if size == 1 and delta.shape[axis] != 1:
            delta = delta.graph.apply("sum", delta, axis=axis, keepdims=True)
    return delta


def _joined(node: Node, terms: list[Node]) -> Node | None:
    """Where every term is δ of a part: the parts one after the other, and zeros between them."""
    if len(terms) < 1 or any(term.operation != "place" for term in terms):
        return None
    terms = sorted(terms, key=lambda term: term.start)
    pieces, at = [], 0
    for term in terms:
        inner = term.operands[0]
        if term.start < at:
            return None  # parts that overlap
        if term.start > at:
            pieces.append(_zeros(node.graph, (term.start - at, *node.shape[1:])))
        pieces.append(inner)
        at = term.start + inner.shape[0]
    if at < node.shape[0]:
        pieces.append(_zeros(node.graph, (node.shape[0] - at, *node.shape[1:])))
    return pieces[0] if len(pieces) == 1 else node.graph.apply("concatenate", *pieces)


def _zeros(graph: Graph, shape: tuple[int, ...]) -> Node:
    return graph.apply("broadcast", graph.constant(0.0), shape=shape)


def _factored(terms: list[Node]) -> Node:
    """A sum of products; what all of them have in common is written once, in front."""
    if len(terms) == 1:
        return terms[0]
    products = [_factors(term) for term in terms]
    shape = terms[0].shape
    common = [
        factor
        for factor in products[0][1]
        if factor.shape == shape and all(factor in factors for _, factors in products[1:])
    ]
    if not common:
        return _added([(sign, _product(factors)) for sign, factors in products], terms)
    rests = []
    for sign, factors in products:
        left = list(factors)
        for factor in common:
            left.remove(factor)
        rests.append((sign, _product(left) if left else terms[0].graph.constant(1.0)))
    inner = _added(rests, [])
    result = common[0]
    for factor in common[1:]:
        result = result * factor
    return result * inner


def _factors(term: Node) -> tuple[int, list[Node]]:
    """The sign of a product and its factors."""
    sign = 1
    while term.operation == "negative":
        sign, term = -sign, term.operands[0]
    if term.operation != "multiply":
        return sign, [term]
    (one, a), (two, b) = (_factors(operand) for operand in term.operands)
    return sign * one * two, a + b


def _product(factors: list[Node]) -> Node:
    result = factors[0]
    for factor in factors[1:]:
        result = result * factor
    return result


def _added(signed: list[tuple[int, Node]], whole: list[Node]) -> Node:
    """A sum, one that begins with a positive term if there is any."""
    signed = sorted(signed, key=lambda pair: -pair[0])
    total = signed[0][1] if signed[0][0] > 0 else -signed[0][1]
    for sign, node in signed[1:]:
        total = total + node if sign > 0 else total - node
    return total
