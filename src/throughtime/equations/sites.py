"""A derived line taken apart into its terms, each δ times factors, and put together again.

So a line can be changed as people change it by mistake: a term left out, a factor exchanged. What
is written about a change is read off the same nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from throughtime.equations.backward import BackwardPass
from throughtime.equations.graph import Node, reachable


@dataclass(frozen=True)
class Term:
    """times · δ ⊙ factor ⊙ factor …

    Attributes:
        times: a number.
        delta: a δ that is not taken apart further.
        factors: values of the forward pass, and what is computed from them alone.
    """

    times: float
    delta: Node
    factors: tuple[Node, ...] = ()

    def node(self) -> Node:
        """It as a node, without its sign and number."""
        whole = self.delta
        for factor in self.factors:
            whole = whole * factor
        return whole


@dataclass(frozen=True)
class Site:
    """A value of the backward pass that is computed in a line, or in a part of one.

    Attributes:
        target: the value.
        terms: what it is the sum of.
        of: the forward value whose δ it is; None for a part of a line.
        summed: whether it is summed over steps and sequences.
    """

    target: Node
    terms: tuple[Term, ...]
    of: Node | None = None
    summed: bool = False

    def with_terms(self, changed: Mapping[int, Term]) -> Node:
        """Its value with other terms in some places."""
        total: Node | None = None
        for place, own in enumerate(self.terms):
            term = changed.get(place, own)
            if term.times == 0:
                continue
            part = term.node()
            if term.times not in (1.0, -1.0):
                part = abs(term.times) * part
            if total is None:
                total = part if term.times > 0 else -part
            else:
                total = total + part if term.times > 0 else total - part
        if total is None:
            zero = self.target.graph.constant(0.0)
            total = self.target.graph.apply("multiply", zero, self.terms[0].node())
        return self.target.graph.apply("total", total) if self.summed else total


def depending_on_delta(backward: BackwardPass) -> set[int]:
    """Numbers of all nodes that are made from a δ."""
    found = {node.number for node in backward.arriving.values()}
    for node in backward.trace.graph.nodes:
        if any(operand.number in found for operand in node.operands):
            found.add(node.number)
    return found


def ends_of(backward: BackwardPass) -> list[Node]:
    """What a backward pass is for: δ of the states before, of the parameters, and of the input."""
    given = [backward.inputs] if backward.inputs is not None else []
    return [*backward.deltas.values(), *backward.parameters.values(), *given]


def sites_of(backward: BackwardPass) -> list[Site]:
    """All lines of a backward pass, and parts of lines that are used more than once."""
    deltas = depending_on_delta(backward)
    whole = [node for node in reachable(ends_of(backward)) if node.number in deltas]
    lines = {line.delta.number: line.of for line in backward.lines}
    uses: dict[int, int] = {}
    for node in whole:
        for operand in node.operands:
            uses[operand.number] = uses.get(operand.number, 0) + 1
    found: dict[int, Site] = {}
    for node in whole:
        if node.operation == "let":
            inner = node.operands[0]
            if inner.operation != "total" and inner.batched:
                found[node.number] = Site(node, terms(inner, deltas), lines.get(node.number))
        elif node.operation == "total":
            of = next((lines.get(n.number) for n in whole if node in n.operands), None)
            found[node.number] = Site(node, terms(node.operands[0], deltas), of, summed=True)
        elif node.operation in OPAQUE:
            for operand in node.operands:
                if operand.number in deltas and operand.operation in COMPOUND:
                    found[operand.number] = Site(operand, terms(operand, deltas))
        if uses.get(node.number, 0) > 1 and node.operation in (*COMPOUND, "matmul"):
            found[node.number] = Site(node, terms(node, deltas))
    return [found[number] for number in sorted(found)]


COMPOUND = ("add", "subtract", "negative", "multiply", "divide")
OPAQUE = ("matmul", "outer", "sum", "mean", "broadcast", "concatenate", "place", "reshape")


def terms(node: Node, deltas: Iterable[int], times: float = 1.0) -> tuple[Term, ...]:
    """A δ as a sum of products."""
    known = set(deltas)
    if node.operation in ("add", "subtract"):
        a, b = node.operands
        second = times if node.operation == "add" else -times
        return (*terms(a, known, times), *terms(b, known, second))
    if node.operation == "negative":
        return terms(node.operands[0], known, -times)
    return (_product(node, known, times),)


def _product(node: Node, deltas: set[int], times: float) -> Term:
    if node.operation == "negative":
        return _product(node.operands[0], deltas, -times)
    if node.operation in ("multiply", "divide"):
        a, b = node.operands
        if node.operation == "divide":
            delta, factor = a, node.graph.apply("divide", 1.0, b)
        else:
            delta, factor = (a, b) if a.number in deltas else (b, a)
        if delta.shape != node.shape:  # it is spread out by its factor, and stays as it is
            return Term(times, node)
        inner = _product(delta, deltas, times)
        if factor.value is not None:
            return replace(inner, times=inner.times * factor.value)
        return replace(inner, factors=(*inner.factors, factor))
    return Term(times, node)
