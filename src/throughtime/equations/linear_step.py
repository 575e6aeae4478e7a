"""The derivative of a step as a linear map of gradients, with numbers that no gradient changes.

What a step does to a gradient consists of products with numbers of the forward pass, such as
i ⊙ (1 − i) ⊙ a, and of products with parameters. The former do not depend on the gradient: they are
gathered here into one coefficient each, to be computed once for all steps and sequences, so that
many gradients can then pass through a step side by side.

The map of changes, from the state before a step to the state after it, is the transposed one. It is
derived from the first by differentiating that with respect to the gradient.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from throughtime.equations.backward import BackwardPass, delta_after, summed_to
from throughtime.equations.graph import OPERATIONS, Node, reachable
from throughtime.equations.phases import Phase, phase

Edges = Literal["all", "carry", "rest"]

# Operations that let a state pass to its successor unchanged, or times something.
DIRECT = {"add", "subtract", "negative", "multiply", "divide", "let"}


@dataclass(frozen=True)
class LinearTerm:
    """A gradient times numbers of the forward pass: base ⊙ sign · factors / divisors."""

    base: Node
    sign: int = 1
    factors: tuple[Node, ...] = ()
    divisors: tuple[Node, ...] = ()

    def times(self, factor: Node) -> LinearTerm:
        """The term, multiplied by a number of the forward pass."""
        sign, factors, divisors = self.sign, list(self.factors), list(self.divisors)
        waiting = [factor]
        while waiting:
            node = waiting.pop()
            if node.operation == "negative":
                sign = -sign
                waiting.append(node.operands[0])
            elif node.operation == "multiply":
                waiting += node.operands
            elif node.value != 1:
                factors.append(node)
        return LinearTerm(self.base, sign, _in_order(factors), _in_order(divisors))

    def over(self, divisor: Node) -> LinearTerm:
        """The term, divided by a number of the forward pass."""
        return LinearTerm(self.base, self.sign, self.factors, _in_order([*self.divisors, divisor]))

    def negative(self) -> LinearTerm:
        """The term with the other sign."""
        return LinearTerm(self.base, -self.sign, self.factors, self.divisors)

    @property
    def plain(self) -> bool:
        """Whether nothing stands beside the gradient."""
        return self.sign > 0 and not self.factors and not self.divisors

    def coefficient(self) -> Node:
        """What the gradient is multiplied by."""
        own: Node = self.base.graph.constant(1.0)
        for factor in self.factors:
            own = own * factor
        for divisor in self.divisors:
            own = own / divisor
        return own if self.sign > 0 else -own

    def node(self) -> Node:
        """The product."""
        return self.base if self.plain else self.base * self.coefficient()


def _in_order(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(sorted(nodes, key=lambda node: node.number))


class Gathered:
    """What is linear in some leaves of a graph, with one coefficient to each gradient.

    Args:
        leaves: the gradients, or the changes.
        nodes: all that is computed from them, and what they meet.
    """

    def __init__(self, leaves: Iterable[Node], nodes: Iterable[Node]) -> None:
        self.linear = {node.number for node in leaves}
        self._terms: dict[int, tuple[LinearTerm, ...]] = {
            n.number: (LinearTerm(n),) for n in leaves
        }
        for node in nodes:
            given = node.number in self.linear
            if not given and any(operand.number in self.linear for operand in node.operands):
                self.linear.add(node.number)
                self._terms[node.number] = self._gather(node)

    def terms(self, node: Node) -> tuple[LinearTerm, ...]:
        """Those whose sum a value is; none of what no gradient reaches."""
        return self._terms.get(node.number, ())

    def whole(self, node: Node) -> Node:
        """A value as the sum of its terms; what no gradient reaches stays as it is."""
        if node.number not in self.linear:
            return node
        total = _added(_with_joined_rows([term.node() for term in self._merged(node)]))
        self.linear.add(total.number)
        self._terms.setdefault(total.number, self._terms[node.number])
        return total

    def _merged(self, node: Node) -> tuple[LinearTerm, ...]:
        """Terms of one gradient as one term, with the sum of their coefficients."""
        same: dict[int, list[LinearTerm]] = defaultdict(list)
        for term in self._terms[node.number]:
            same[term.base.number].append(term)
        found = []
        for own in same.values():
            if len(own) == 1 or own[0].base.shape != node.shape:
                found += own
            else:
                found.append(LinearTerm(own[0].base).times(_added([t.coefficient() for t in own])))
        return tuple(found)

    def _gather(self, node: Node) -> tuple[LinearTerm, ...]:
        operands, there = node.operands, [o.number in self.linear for o in node.operands]
        if node.operation == "add":
            return tuple(term for own in operands for term in self._summand(node, own))
        if node.operation == "subtract":
            first, second = (self._summand(node, own) for own in operands)
            return (*first, *(term.negative() for term in second))
        if node.operation == "negative":
            return tuple(term.negative() for term in self._terms[operands[0].number])
        if node.operation == "let":
            terms = self._merged(operands[0])
            return terms if len(terms) == 1 else (LinearTerm(self.whole(operands[0])),)
        if node.operation in ("multiply", "divide") and sum(there) == 1:
            at = there.index(True)
            own, other = operands[at], operands[1 - at]
            terms = self._merged(own)
            one = terms[0] if len(terms) == 1 else LinearTerm(self.whole(own))
            return (one.over(other) if node.operation == "divide" else one.times(other),)
        parts = [self.whole(operand) for operand in operands]
        return (LinearTerm(node.graph.apply(node.operation, *parts, **dict(node.attributes))),)

    def _summand(self, node: Node, operand: Node) -> tuple[LinearTerm, ...]:
        if operand.number not in self.linear:  # a sum with what is 0
            return ()
        terms = self._terms[operand.number]
        same = operand.shape == node.shape
        return terms if same else (LinearTerm(self.whole(operand)),)


def _with_joined_rows(nodes: list[Node]) -> list[Node]:
    """Products with consecutive rows of one parameter as one product, where the first stood."""
    rows: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for at, node in enumerate(nodes):
        place = _rows_of(node.operands[0]) if node.operation == "matmul" else None
        if place is not None and len(node.operands[1].shape) == 1:
            rows[place[0]].append((place[1], node.operands[1].shape[0], at))
    found: list[Node | None] = list(nodes)
    for own in rows.values():
        own.sort()
        starts, ends = [row for row, _, _ in own], [row + size for row, size, _ in own]
        if len(own) < 2 or starts[1:] != ends[:-1]:
            continue
        graph, (first, *_) = nodes[0].graph, (nodes[at].operands[0] for _, _, at in own)
        matrix = first.operands[0]
        if matrix.operation == "part":
            matrix = matrix.operands[0]
        if (starts[0], ends[-1]) != (0, matrix.shape[0]):
            matrix = graph.apply("part", matrix, start=starts[0], stop=ends[-1])
        pieces: list[Node] = []
        for _, _, at in own:
            vector = nodes[at].operands[1]
            pieces += vector.operands if vector.operation == "concatenate" else [vector]
            found[at] = None
        whole = graph.apply("concatenate", *pieces)
        found[min(at for _, _, at in own)] = graph.apply("transpose", matrix) @ whole
    return [node for node in found if node is not None]


def _added(nodes: Sequence[Node]) -> Node:
    total = nodes[0]
    for node in nodes[1:]:
        total = total + node
    return total


@dataclass(frozen=True)
class Carry:
    """The direct path from a state to itself, past all functions and products with matrices.

    Attributes:
        state: which one.
        coefficient: what a gradient is multiplied by on this path.
    """

    state: str
    coefficient: Node


@dataclass(frozen=True)
class ProductBlock:
    """A part of what a step sends back: rows of a matrix, times a coefficient, from one state.

    Attributes:
        source: the state after the step, whose full δ is multiplied.
        coefficient: by what, unit by unit.
        parameter: the name of the parameter whose rows follow; None where nothing follows, so that
            the product itself is what is sent.
        row: the first of these rows; there is one for each unit.
    """

    source: str
    coefficient: Node
    parameter: str | None = None
    row: int = 0


@dataclass(frozen=True)
class Folded:
    """A step that one matrix for each sequence takes back.

    Attributes:
        within: by state, what its full δ has besides what arrives at it: the state from which that
            comes within the step, and the coefficient.
        before: by state before the step, all that is sent there.
    """

    within: Mapping[str, tuple[tuple[str, Node], ...]]
    before: Mapping[str, tuple[ProductBlock, ...]]


class LinearStep:
    """The derivative of a step.

    Args:
        backward: the derived step.
        frontier: values of the backward pass that are wanted besides δ of the states.

    Attributes:
        arriving: δ of each state after the step as it comes from elsewhere.
        after: the full δ of each state after the step.
        before: δ of each state before the step, by the paths that count: the direct path of the
            carry, the rest, or all.
        changes: a small change of each state before the step.
        carry: the direct path of a state; None where no state has one.
        coefficients: the numbers of the forward pass that gradients and changes are multiplied by.
    """

    def __init__(self, backward: BackwardPass, frontier: Sequence[Node] = ()) -> None:
        self.backward, self.graph = backward, backward.trace.graph
        self.arriving = dict(backward.arriving)
        after = delta_after(backward)
        ends = (*backward.deltas.values(), *after.values(), *frontier)
        self._vjps: dict[tuple[Edges, bool], Phase] = {}
        own = Gathered(self.arriving.values(), reachable(ends))
        self.after = {name: own.whole(node) for name, node in after.items()}
        self.frontier = tuple(own.whole(node) for node in frontier)
        whole = {name: own.whole(node) for name, node in backward.deltas.items()}
        self.carry, rest = self._split(own, whole)
        zeros = {name: self._zero(node) for name, node in whole.items()}
        self.before: dict[Edges, dict[str, Node]] = {"all": whole, "carry": zeros, "rest": rest}
        if self.carry is not None:
            name = self.carry.state
            self.before["carry"] = zeros | {name: self.after[name] * self.carry.coefficient}
        self.changes, self.moved = self._transposed()
        self.coefficients = self._needed()

    # --- the two maps, compiled ---

    def vjp(self, edges: Edges, inner: bool) -> Phase:
        """From what arrives to δ of the states before and after, and, if wanted, the frontier."""
        known = self._vjps.get((edges, inner))
        if known is None:
            frontier = self.frontier if inner else ()
            gives = (*self.before[edges].values(), *self.after.values(), *frontier)
            known = self._vjps[edges, inner] = self._phase(*gives)
        return known

    @cached_property
    def jvp(self) -> Phase:
        """From changes of the states before the step to those of the states after it."""
        return self._phase(*self.moved.values())

    @cached_property
    def to_frontier(self) -> Phase:
        """From the full δ of the states after the step to the frontier."""
        full = {node.number for node in self.after.values()}
        nodes = [n for n in self._beyond(self.frontier) if n.number not in full]
        return phase(nodes, self.frontier)

    @cached_property
    def folded(self) -> Folded | None:
        """The step as one matrix: products with coefficients, and then with rows of parameters.

        None for a step with products of matrices one behind the other, or a state that is a matrix.
        """
        full = {node.number: name for name, node in self.after.items()}
        if len(full) < len(self.after) or any(len(n.shape) != 1 for n in self.after.values()):
            return None
        own = Gathered(self.after.values(), reachable(self._ends("all")))
        within: dict[str, tuple[tuple[str, Node], ...]] = {}
        arriving = Gathered(self.arriving.values(), reachable(self.after.values()))
        names = {node.number: name for name, node in self.arriving.items()}
        for name, node in self.after.items():
            found = []
            for term in arriving.terms(node):
                source = names.get(term.base.number)
                if source is None or term.base.shape != node.shape:
                    return None
                if source != name:
                    found.append((source, term.coefficient()))
                elif not term.plain:
                    return None
            within[name] = tuple(found)
        if any(within[source] for found in within.values() for source, _ in found):
            return None  # one after another, in an order that a single product does not have
        before = {}
        for name, node in self.before["all"].items():
            blocks = self._blocks(own, full, node)
            if blocks is None:
                return None
            before[name] = tuple(blocks)
        return Folded(within, before)

    def _ends(self, edges: Edges) -> list[Node]:
        return [*self.before[edges].values(), *self.frontier]

    def _blocks(
        self, own: Gathered, full: Mapping[int, str], node: Node
    ) -> list[ProductBlock] | None:
        found = []
        for term in own.terms(node):
            if term.base.number in full:
                if term.base.shape != node.shape:
                    return None
                found.append(ProductBlock(full[term.base.number], term.coefficient()))
                continue
            if term.base.operation != "matmul" or not term.plain:
                return None
            matrix, vector = term.base.operands
            place = _rows_of(matrix)
            if place is None:
                return None
            pieces = vector.operands if vector.operation == "concatenate" else (vector,)
            name, row = place
            for piece in pieces:
                for inner in own.terms(piece):
                    source = full.get(inner.base.number)
                    if source is None or inner.base.shape != piece.shape:
                        return None
                    found.append(ProductBlock(source, inner.coefficient(), name, row))
                row += piece.shape[0]
        return found

    def _phase(self, *gives: Node) -> Phase:
        return phase(self._beyond(gives), gives)

    def _beyond(self, ends: Sequence[Node]) -> list[Node]:
        """What is computed from gradients or changes: everything else is given."""
        own = {n.number for n in (*self.arriving.values(), *self.changes.values())}
        found = []
        for node in reachable(ends):
            if any(operand.number in own for operand in node.operands):
                own.add(node.number)
                found.append(node)
        return found

    def _needed(self) -> tuple[Node, ...]:
        """What the maps are given besides gradients and changes, and parameters."""
        ends = [node for own in self.before.values() for node in own.values()]
        ends += [*self.after.values(), *self.frontier, *self.moved.values()]
        if self.carry is not None:
            ends.append(self.carry.coefficient)
        if self.folded is not None:
            ends += [b.coefficient for own in self.folded.before.values() for b in own]
            ends += [node for own in self.folded.within.values() for _, node in own]
        inside = self._beyond(ends)
        leaves = {n.number for n in (*self.arriving.values(), *self.changes.values())}
        known = {node.number for node in inside} | leaves
        used = {o.number: o for node in inside for o in node.operands}
        used |= {node.number: node for node in ends}
        return tuple(
            node
            for number, node in sorted(used.items())
            if number not in known and node.operation not in ("constant", "parameter")
        )

    # --- how they are derived ---

    def _zero(self, like: Node) -> Node:
        return self.graph.apply("broadcast", self.graph.constant(0.0), shape=like.shape)

    def _split(
        self, own: Gathered, whole: Mapping[str, Node]
    ) -> tuple[Carry | None, dict[str, Node]]:
        """The direct path of the first state that has one, and δ before the step without it."""
        for name, state in self.backward.trace.states.items():
            direct = self._direct(name, state, self.backward.trace.after[name])
            if direct is None:
                continue
            sent = self.backward.deltas[name]
            terms = list(own.terms(sent.operands[0] if sent.operation == "let" else sent))
            one = _as_term(self.after[name], direct)
            if one in terms:
                terms.remove(one)
            else:  # written in another way, so that it has to be taken away
                terms.append(one.negative())
            sums = _with_joined_rows([term.node() for term in terms])
            rest = _added(sums) if sums else self._zero(state)
            return Carry(name, one.coefficient()), {**whole, name: rest}
        return None, dict(whole)

    def _direct(self, name: str, before: Node, after: Node) -> Node | None:
        """∂after/∂before along sums and products alone; None where there is no such path."""
        seed = self.graph.leaf("arriving", f"direct {name}", after.shape)
        paths = {before.number}
        nodes = []
        for node in reachable([after]):
            if node.operation in DIRECT and any(o.number in paths for o in node.operands):
                paths.add(node.number)
                nodes.append(node)
        if after.number not in paths or not nodes:
            return None
        found = transposed(nodes, {after.number: seed}, paths).get(before.number)
        if found is None or found.shape != after.shape:
            return None
        own = Gathered([seed], reachable([found]))
        terms = own.terms(found)
        if any(term.base is not seed for term in terms):
            return None
        return _added([term.coefficient() for term in terms])

    def _transposed(self) -> tuple[dict[str, Node], dict[str, Node]]:
        """Leaves for changes of the states, and the changes of the states after the step."""
        changes = {
            name: self.graph.leaf("arriving", f"d{name}", node.shape)
            for name, node in self.backward.trace.states.items()
        }
        linear = {node.number for node in self.arriving.values()}
        nodes = []
        for node in reachable(self.before["all"].values()):
            if any(operand.number in linear for operand in node.operands):
                linear.add(node.number)
                nodes.append(node)
        seeds: dict[int, Node] = {}
        for name, node in self.before["all"].items():
            if node.number in linear:
                known = seeds.get(node.number)
                seeds[node.number] = changes[name] if known is None else known + changes[name]
        found = transposed(nodes, seeds, linear)
        moved = {n: found.get(leaf.number, self._zero(leaf)) for n, leaf in self.arriving.items()}
        own = Gathered(changes.values(), reachable(moved.values()))
        return changes, {name: own.whole(node) for name, node in moved.items()}


def _rows_of(matrix: Node) -> tuple[str, int] | None:
    """The parameter whose rows a transposed matrix holds, and the first of them."""
    if matrix.operation != "transpose":
        return None
    matrix = matrix.operands[0]
    if matrix.operation == "part":
        inner = matrix.operands[0]
        return (str(inner.name), int(matrix.start)) if inner.operation == "parameter" else None
    return (str(matrix.name), 0) if matrix.operation == "parameter" else None


def _as_term(base: Node, coefficient: Node) -> LinearTerm:
    term = LinearTerm(base)
    if coefficient.operation == "divide":
        return term.times(coefficient.operands[0]).over(coefficient.operands[1])
    return term.times(coefficient)


def transposed(
    nodes: Sequence[Node], seeds: Mapping[int, Node], within: set[int]
) -> dict[int, Node]:
    """Derivatives of a sum of products, seeds ⊙ values, with respect to all that these consist of.

    Args:
        nodes: what is differentiated, operands first.
        seeds: by number of the values.
        within: numbers of what derivatives are wanted of.
    """
    terms: dict[int, list[Node]] = defaultdict(list)
    for number, seed in seeds.items():
        terms[number].append(seed)
    found = {}
    for node in reversed(nodes):
        if node.number not in terms:
            continue
        delta = _added(terms[node.number])
        shares = OPERATIONS[node.operation].derivative(
            delta, node, *node.operands, **dict(node.attributes)
        )
        for operand, share in zip(node.operands, shares, strict=False):
            if share is not None and operand.number in within and share.value != 0:
                terms[operand.number].append(summed_to(share, operand))
    for number in within:
        if number in terms:
            found[number] = _added(terms[number])
    return found
