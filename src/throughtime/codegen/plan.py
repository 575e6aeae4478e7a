"""What of a step is computed where: row by row in stages, with products of matrices between them.

A product of a matrix, the same for all sequences, with a vector of each sequence is one product of
matrices over all sequences. Everything else is computed one row, which is one sequence at one step,
after the other. A stage of rows begins where it needs the products before it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from throughtime.equations import Node, reachable

# A value of these has loops of its own, and an array.
WHOLE = {"matmul", "sum", "mean", "max", "softmax", "concatenate", "place"}
# Too dear to be computed for each of its uses again.
DEAR = {"tanh", "sigmoid", "exp", "log", "log1p", "expm1", "sqrt", "sin", "cos", "arctan"}
DEAR |= {"softplus", "divide", "power"}


@dataclass(frozen=True)
class Product:
    """matrix @ vector for every row; vector @ matrix where it is turned."""

    result: Node
    matrix: Node
    vector: Node
    turned: bool


@dataclass
class Stage:
    """Products, and then what is computed row by row, in order."""

    products: list[Product] = field(default_factory=list)
    values: list[Node] = field(default_factory=list)


@dataclass
class LoopPlan:
    """A part of the computation.

    Attributes:
        gives: what is wanted, by name; several names may stand for one value.
        given: values that differ from row to row and are known before.
        shared: values of parameters alone that rows look at.
        matrices: values of parameters alone that only products look at.
        stages: in their order.
        crossing: numbers of values that a later stage or a product looks at.
        names: of all that has an array, by number.
        stage_of: the stage in which a value can be computed, by number; 0 if it is not there.
    """

    gives: Mapping[str, Node]
    given: tuple[Node, ...]
    shared: tuple[Node, ...]
    matrices: tuple[Node, ...]
    stages: tuple[Stage, ...]
    crossing: frozenset[int]
    names: dict[int, str]
    stage_of: Mapping[int, int]


def plain(node: Node) -> Node:
    """A value without the sign that it has a line of its own."""
    while node.operation == "let":
        (node,) = node.operands
    return node


def size(node: Node) -> int:
    """How many numbers a value has."""
    return math.prod(node.shape)


def product_of(node: Node) -> Product | None:
    """The product over all rows that a value is, if it is one."""
    if node.operation != "matmul":
        return None
    a, b = map(plain, node.operands)
    if len(a.shape) == 2 and not a.batched and len(b.shape) == 1 and b.batched:
        return Product(node, a, b, turned=False)
    if len(b.shape) == 2 and not b.batched and len(a.shape) == 1 and a.batched:
        return Product(node, b, a, turned=True)
    return None


def multiplies_by_parameters_alone(values: Iterable[Node]) -> bool:
    """Whether every product of matrices, in what these are computed from, is one over all rows."""
    products = (node for node in reachable(values) if node.operation == "matmul")
    vectors = (n for n in products if any(len(x.shape) == 2 for x in n.operands) or not n.batched)
    return all(product_of(node) for node in vectors)


def plan(
    gives: Mapping[str, Node],
    known: Iterable[Node],
    words: Mapping[int, str],
    taken: Iterable[str],
    sums: Collection[str] = (),
) -> LoopPlan:
    """A plan.

    Args:
        gives: what is wanted, by name.
        known: values that differ from row to row and are known.
        words: what values are called, by number; others get a name that is made of their operands'.
        taken: names that nothing else may have.
        sums: names, among what is wanted, of sums over rows, which need no array for their terms.
    """
    return _Planner(gives, known, words, taken, sums).plan()


class _Planner:
    def __init__(
        self,
        gives: Mapping[str, Node],
        known: Iterable[Node],
        words: Mapping[int, str],
        taken: Iterable[str],
        sums: Collection[str],
    ) -> None:
        self.gives = {name: plain(node) for name, node in gives.items()}
        self.known = {plain(node).number for node in known}
        self.words = dict(words)
        self.taken, self.sums = set(taken), sums
        self.given: dict[int, Node] = {}
        self.shared: dict[int, Node] = {}
        self.matrices: dict[int, Node] = {}
        self.inner: dict[int, Node] = {}
        self.uses: dict[int, int] = {}
        self.names: dict[int, str] = {}

    def plan(self) -> LoopPlan:
        for node in self.gives.values():
            self._visit(node)
        inner = [self.inner[number] for number in sorted(self.inner)]
        products = {node.number: own for node in inner if (own := product_of(node))}
        ends = {node.number for name, node in self.gives.items() if name not in self.sums}
        vectors = {own.vector.number for own in products.values()}
        stored = [n for n in inner if n.number in ends | vectors | products.keys() or self._own(n)]
        for node in (*self.given.values(), *self.shared.values(), *stored):
            self.names[node.number] = self._name(node)
        at: dict[int, int] = {}
        for node in inner:
            own = products.get(node.number)
            below = (plain(operand) for operand in node.operands)
            latest = max((at.get(operand.number, -1) for operand in below), default=-1)
            at[node.number] = latest + 1 if own else max(latest, 0)
        stages = [Stage() for _ in range(max(at.values(), default=0) + 1)]
        crossing = vectors & self.inner.keys()
        for node in stored:
            number = node.number
            if number in products:
                stages[at[number]].products.append(products[number])
                crossing.add(number)
                continue
            stages[at[number]].values.append(node)
            for other in self._arrays_of(node):
                if other in at and at[other] < at[number]:
                    crossing.add(other)
        return LoopPlan(
            self.gives,
            tuple(self.given[number] for number in sorted(self.given)),
            tuple(self.shared[number] for number in sorted(self.shared)),
            tuple(self.matrices[number] for number in sorted(self.matrices)),
            tuple(stages),
            frozenset(crossing),
            self.names,
            at,
        )

    def _visit(self, node: Node) -> None:
        waiting = [node]
        while waiting:
            node = plain(waiting.pop())
            self.uses[node.number] = self.uses.get(node.number, 0) + 1
            if self.uses[node.number] > 1:
                continue
            if node.number in self.known:
                self.given[node.number] = node
            elif not node.batched:
                if not _of_numbers(node):
                    self.shared[node.number] = node
            elif node.leaf:
                raise ValueError(f"{node!r} is neither known nor computed")
            else:
                self.inner[node.number] = node
                own = product_of(node)
                if own is None:
                    waiting += node.operands
                else:
                    self.matrices[own.matrix.number] = own.matrix
                    waiting.append(own.vector)

    def _own(self, node: Node) -> bool:
        """Whether a value has an array of its own."""
        several = self.uses[node.number] > 1 and node.operation in DEAR
        return node.number in self.words or node.operation in WHOLE or several

    def _name(self, node: Node) -> str:
        word = self.words.get(node.number)
        if word is None:
            below = [self.words.get(plain(x).number) for x in node.operands]
            if node.operation == "matmul":
                word = "_".join(w for w in below if w) or "product"
            else:
                word = "_".join([node.operation, *(w for w in below[:1] if w)])
            word = re.sub(r"\W", "_", word)
        name, number = word, 1
        while name in self.taken:
            number += 1
            name = f"{word}_{number}"
        self.taken.add(name)
        self.words[node.number] = name
        return name

    def _arrays_of(self, node: Node) -> set[int]:
        """Numbers of the values with names that a value is computed from."""
        found: set[int] = set()
        seen: set[int] = set()
        waiting: list[Node] = list(node.operands)
        while waiting:
            operand = plain(waiting.pop())
            if operand.number in self.names:
                found.add(operand.number)
            elif operand.number not in seen:
                seen.add(operand.number)
                waiting += operand.operands
        return found


def _of_numbers(node: Node) -> bool:
    """Whether numbers alone make up a value, which is then written out."""
    return node.operation in ("constant", "numbers") or (
        bool(node.operands) and all(map(_of_numbers, node.operands))
    )
