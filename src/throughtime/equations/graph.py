"""A step's equations as a graph: each node is an operation on other nodes.

A node's shape is that of one sequence at one step; time and batch come in when a graph is run. The
same operation on the same operands is the same node, so that a derivative which needs o = σ(z)
finds the value that the forward pass has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from throughtime.arrays import Shape

Attributes = tuple[tuple[str, Any], ...]
Derivative = Callable[..., tuple["Node | None", ...]]


@dataclass(frozen=True)
class Operation:
    """A line of the table of operations.

    Attributes:
        name: by which it is found in the table.
        shape: the result's shape, from the operands' shapes and the attributes.
        derivative: from δ of the result, the result and the operands, δ of each operand; None
            where it is 0. It is written with nodes, and so is an equation that can be printed.
        numpy: a Python expression, with {0}, {1} … for the operands, or what makes one from a
            node, its operands' expressions, and whether axes of time and batch lead.
        text, latex, c: the same in these forms.
        precedence: how tightly the expression binds; a call binds tightest.
        bracketed: whether the operands stand in brackets anyway, as in a call.
    """

    name: str
    shape: Callable[..., Shape]
    derivative: Derivative
    numpy: str | Callable[[Node, list[str], bool], str]
    text: str | Callable[[Node, list[str]], str]
    latex: str | Callable[[Node, list[str]], str]
    c: str | Callable[[Node, list[str]], str]
    precedence: int
    bracketed: bool

    def __repr__(self) -> str:
        return self.name


# By name; `operations` fills it.
OPERATIONS: dict[str, Operation] = {}


class Node:
    """A value in the equations.

    Attributes:
        graph: that it belongs to.
        operation: name of what computes it, or of a leaf: "input", "state", "parameter", "arriving"
            (the gradient that comes from later steps), "constant".
        operands: what it is computed from.
        attributes: what else the operation has to know; for a leaf its name or its value.
        shape: of one sequence at one step.
        number: nodes are numbered as they come into being, so that operands come first.
        batched: whether it differs between steps and sequences; if not, parameters alone
            determine it.
    """

    __slots__ = ("attributes", "batched", "graph", "number", "operands", "operation", "shape")

    def __init__(
        self,
        graph: Graph,
        operation: str,
        operands: tuple[Node, ...],
        attributes: Attributes,
        shape: Shape,
        batched: bool,
    ) -> None:
        self.graph, self.operation, self.operands = graph, operation, operands
        self.attributes, self.shape, self.batched = attributes, shape, batched
        self.number = len(graph.nodes)

    def __getattr__(self, name: str) -> Any:
        for key, value in self.attributes:
            if key == name:
                return value
        raise AttributeError(name)

    def __repr__(self) -> str:
        return f"<{self.operation} {self.shape} no. {self.number}>"

    @property
    def leaf(self) -> bool:
        """Whether it is given, and not computed."""
        return self.operation in LEAVES

    @property
    def value(self) -> float | None:
        """The number that a constant is; None for all other nodes."""
        return dict(self.attributes)["number"] if self.operation == "constant" else None

    def __add__(self, other: Node | float) -> Node:
        return self.graph.apply("add", self, other)

    def __radd__(self, other: Node | float) -> Node:
        return self.graph.apply("add", other, self)

    def __sub__(self, other: Node | float) -> Node:
        return self.graph.apply("subtract", self, other)

    def __rsub__(self, other: Node | float) -> Node:
        return self.graph.apply("subtract", other, self)

    def __mul__(self, other: Node | float) -> Node:
        return self.graph.apply("multiply", self, other)

    def __rmul__(self, other: Node | float) -> Node:
        return self.graph.apply("multiply", other, self)

    def __truediv__(self, other: Node | float) -> Node:
        return self.graph.apply("divide", self, other)

    def __rtruediv__(self, other: Node | float) -> Node:
        return self.graph.apply("divide", other, self)

    def __neg__(self) -> Node:
        return self.graph.apply("negative", self)

    def __pow__(self, exponent: Node | float) -> Node:
        return self.graph.apply("power", self, exponent)

    def __matmul__(self, other: Node) -> Node:
        return self.graph.apply("matmul", self, other)


LEAVES = ("input", "state", "parameter", "arriving", "constant")


class Graph:
    """All nodes of a step, forward and backward, each of them once."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._known: dict[Any, Node] = {}

    def leaf(self, kind: str, name: str, shape: Shape) -> Node:
        """A value that is given."""
        return self._node(kind, (), (("name", name),), shape, kind != "parameter")

    def constant(self, number: float) -> Node:
        """A number."""
        return self._node("constant", (), (("number", float(number)),), (), False)

    def apply(self, operation: str, *operands: Node | float, **attributes: Any) -> Node:
        """An operation on nodes and numbers, simplified where a 0, a 1 or a sign allows it.

        Raises:
            ValueError: if the operands' shapes do not fit.
        """
        given = tuple(x if isinstance(x, Node) else self.constant(x) for x in operands)
        simple = self._simplified(operation, given, attributes)
        if simple is not None:
            return simple
        own = OPERATIONS[operation]
        shape = own.shape(*(x.shape for x in given), **attributes)
        batched = operation != "total" and any(x.batched for x in given)
        return self._node(operation, given, tuple(sorted(attributes.items())), shape, batched)

    def _node(
        self,
        operation: str,
        operands: tuple[Node, ...],
        attributes: Attributes,
        shape: Shape,
        batched: bool,
    ) -> Node:
        key = (operation, tuple(x.number for x in operands), attributes)
        if key not in self._known:
            node = Node(self, operation, operands, attributes, shape, batched)
            self.nodes.append(node)
            self._known[key] = node
        return self._known[key]

    def _simplified(
        self, operation: str, x: tuple[Node, ...], attributes: Mapping[str, Any]
    ) -> Node | None:
        """x · 1, x + 0, −(−x) and the like without the operation; None where it stays."""
        numbers = [node.value for node in x]
        if all(n is not None for n in numbers) and operation in ARITHMETIC:
            return self.constant(ARITHMETIC[operation](*numbers))
        if operation in ("negative", "transpose") and x[0].operation == operation:
            return x[0].operands[0]
        if operation == "transpose" and x[0].operation in ("total", "outer"):
            return self._outer_turned(x[0])
        if operation == "power" and numbers[1] == 1:
            return x[0]
        if operation in LINEAR and any(node.operation == "negative" for node in x):
            return self._sign_outside(operation, x, attributes)
        if operation == "broadcast" and x[0].operation == "multiply":
            number, inner = x[0].operands
            if number.value is not None:  # numbers outside, where they meet others
                return number.value * self.apply(operation, inner, **attributes)
        if operation in ("add", "subtract"):
            return self._sum(operation, *x)
        if operation == "multiply":
            return self._product(*x)
        if operation == "divide":
            return self._quotient(*x)
        return None

    def _outer_turned(self, x: Node) -> Node | None:
        """(a bᵀ)ᵀ is b aᵀ, and so it is of their sum over steps."""
        if x.operation == "total":
            inner = self._outer_turned(x.operands[0])
            return None if inner is None else self.apply("total", inner)
        if x.operation != "outer":
            return None
        a, b = x.operands
        return self.apply("outer", b, a)

    def _sign_outside(
        self, operation: str, x: tuple[Node, ...], attributes: Mapping[str, Any]
    ) -> Node:
        """The minus signs of factors, of a matrix, of what is summed, in front of the whole."""
        negative = sum(node.operation == "negative" for node in x)
        inner = (n.operands[0] if n.operation == "negative" else n for n in x)
        whole = self.apply(operation, *inner, **attributes)
        return -whole if negative % 2 else whole

    def _sum(self, operation: str, a: Node, b: Node) -> Node | None:
        if b.value == 0:
            return a
        if a.value == 0:
            return b if operation == "add" else -b
        if a.value is not None and b.operation in ("add", "subtract"):
            first = b.operands[0].value  # 1 + (1 − x) is 2 − x
            if first is not None:
                whole = a.value + first if operation == "add" else a.value - first
                same = (b.operation == "add") == (operation == "add")
                return whole + b.operands[1] if same else whole - b.operands[1]
        if b.operation == "negative":
            return a - b.operands[0] if operation == "add" else a + b.operands[0]
        if a.operation == "negative" and operation == "add":
            return b - a.operands[0]
        return self._without_broadcast(operation, a, b)

    def _product(self, a: Node, b: Node) -> Node | None:
        if b.value is not None:
            return b * a  # numbers first
        if a.value == 1:
            return b
        if a.value == -1:
            return -b
        if a.value is not None and b.operation == "broadcast" and b.operands[0].value is not None:
            return self.apply("broadcast", a * b.operands[0], shape=b.shape)
        if a.value is not None and b.operation == "multiply" and b.operands[0].value is not None:
            return (a.value * b.operands[0].value) * b.operands[1]
        for one, other in ((a, b), (b, a)):
            if (
                one.operation == "multiply"
                and one.operands[0].value is not None
                and not other.value
            ):
                inner = one.operands[1] * other if one is a else other * one.operands[1]
                return one.operands[0] * inner
        return self._without_broadcast("multiply", a, b)

    def _quotient(self, a: Node, b: Node) -> Node | None:
        if b.value == 1:
            return a
        if b.operation == "multiply" and b.operands[0].value:  # x / (2 y) is 0.5 (x / y)
            return (1 / b.operands[0].value) * (a / b.operands[1])
        if b.value is not None and a.operation == "multiply" and a.operands[0].value is not None:
            number = a.operands[0].value
            if b.value and (number / b.value).is_integer():
                return (number / b.value) * a.operands[1]
            return number * (a.operands[1] / b.value)  # 2 x / 3 is not 0.666667 x
        return self._without_broadcast("divide", a, b)

    def _without_broadcast(self, operation: str, a: Node, b: Node) -> Node | None:
        """Where the other operand brings the shape along, no operand needs to be spread out."""
        for spread, other, first in ((a, b, True), (b, a, False)):
            if spread.operation == "broadcast" and other.shape == spread.shape:
                inner = spread.operands[0]
                return self.apply(operation, *((inner, other) if first else (other, inner)))
        return None


LINEAR = {"multiply", "divide", "matmul", "outer", "total", "sum", "mean", "transpose", "broadcast"}
ARITHMETIC: dict[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b if b else float("nan"),
    "negative": lambda a: -a,
    "power": lambda a, b: a**b,
}


def reachable(ends: Iterable[Node]) -> list[Node]:
    """All nodes that these are computed from, and these, operands first."""
    found: dict[int, Node] = {}
    waiting = list(ends)
    while waiting:
        node = waiting.pop()
        if node.number not in found:
            found[node.number] = node
            waiting += node.operands
    return [found[number] for number in sorted(found)]
