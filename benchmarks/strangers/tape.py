"""Reverse-mode differentiation over NumPy arrays: a table of operations, one line each.

The same equations run on arrays, which gives a loss, and on `Node`s, which also gives its gradient.
The result of an operation has the precision that NumPy gives it. What is rounded on purpose is
`stored`, whose derivative ignores the rounding ("straight through").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from throughtime.arrays import Array


class Op(NamedTuple):
    """y = forward(a, …), and the derivatives by each of (a, …): backward(δy, y, a, …)."""

    forward: Callable[..., Any]
    backward: Callable[..., tuple[Any, ...]]


class At(NamedTuple):
    """A derivative that belongs to one part of an array and is 0 elsewhere."""

    place: Any
    part: Any


def _rows(a: Array) -> Array:
    return a.reshape(-1, a.shape[-1])


def _spread(d: Array, a: Array, axis: Any) -> Array:
    """The derivative of a sum over an axis."""
    return np.broadcast_to(d if axis is None else np.expand_dims(d, axis), a.shape)


def _log_softmax(a: Array) -> Array:
    shifted = a - a.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def _split(d: Array, parts: Sequence[Array]) -> tuple[Array, ...]:
    return tuple(np.split(d, np.cumsum([part.shape[-1] for part in parts])[:-1], axis=-1))


OPS: dict[str, Op] = {
    "add": Op(lambda a, b: a + b, lambda d, y, a, b: (d, d)),
    "sub": Op(lambda a, b: a - b, lambda d, y, a, b: (d, -d)),
    "mul": Op(lambda a, b: a * b, lambda d, y, a, b: (d * b, d * a)),
    "div": Op(lambda a, b: a / b, lambda d, y, a, b: (d / b, -d * y / b)),
    "matmul": Op(lambda a, b: a @ b, lambda d, y, a, b: (d @ b.T, _rows(a).T @ _rows(d))),
    "index": Op(lambda a, at: a[at], lambda d, y, a, at: (At(at, d),)),
    "tanh": Op(np.tanh, lambda d, y, a: (d * (1 - y * y),)),
    "sigmoid": Op(lambda a: 0.5 * (1 + np.tanh(0.5 * a)), lambda d, y, a: (d * y * (1 - y),)),
    "relu": Op(lambda a: np.maximum(a, 0), lambda d, y, a: (d * (a > 0),)),
    "exp": Op(np.exp, lambda d, y, a: (d * y,)),
    "log": Op(np.log, lambda d, y, a: (d / a,)),
    "sqrt": Op(np.sqrt, lambda d, y, a: (d / (2 * y),)),
    "square": Op(np.square, lambda d, y, a: (2 * d * a,)),
    "clip": Op(np.clip, lambda d, y, a, low, high: (d * ((a >= low) & (a <= high)),)),
    "total": Op(lambda a, axis: a.sum(axis), lambda d, y, a, axis: (_spread(d, a, axis),)),
    "log_softmax": Op(_log_softmax, lambda d, y, a: (d - np.exp(y) * d.sum(-1, keepdims=True),)),
    "stack": Op(lambda *a: np.stack(a), lambda d, y, *a: tuple(d)),
    "join": Op(lambda *a: np.concatenate(a, axis=-1), lambda d, y, *a: _split(d, a)),
    "stored": Op(lambda a, how: how(a), lambda d, y, a, how: (d,)),
}


class Node:
    """A value on the tape, and the operation that made it; a parameter has none."""

    __slots__ = ("d", "inputs", "op", "shared", "tape", "value")
    __array_ufunc__ = None  # so that an array on the left leaves the operation to this class

    def __init__(self, tape: list[Node], value: Any, op: str = "", inputs: Any = ()) -> None:
        self.tape, self.value, self.op, self.inputs = tape, value, op, inputs
        self.d: Any = None
        self.shared = False  # whether other nodes hold the same array as `d`
        tape.append(self)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of its value."""
        return tuple(self.value.shape)

    def __add__(self, other: Any) -> Any:
        return apply("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return apply("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return apply("sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return apply("sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return apply("mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return apply("mul", other, self)

    def __truediv__(self, other: Any) -> Any:
        return apply("div", self, other)

    def __matmul__(self, other: Any) -> Any:
        return apply("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return apply("matmul", other, self)

    def __getitem__(self, place: Any) -> Any:
        return apply("index", self, place)


def apply(op: str, *inputs: Any) -> Any:
    """An operation on arrays, or on the tape if any of its inputs is a node."""
    for one in inputs:
        if isinstance(one, Node):
            values = [i.value if isinstance(i, Node) else i for i in inputs]
            return Node(one.tape, OPS[op].forward(*values), op, inputs)
    return OPS[op].forward(*inputs)


def gradient(
    function: Callable[[dict[str, Any]], Any], parameters: dict[str, Array], *, wide: bool = False
) -> dict[str, Array]:
    """The derivative of a scalar function of named arrays.

    Args:
        function: a function that consists of the operations of the table.
        parameters: the point at which it is differentiated.
        wide: whether the backward pass computes in float64 with the values that the forward pass
            kept. Otherwise every derivative has the precision of its value.
    """
    tape: list[Node] = []
    leaves = {name: Node(tape, array) for name, array in parameters.items()}
    loss = function(dict(leaves))
    loss.d = np.ones_like(loss.value, np.float64 if wide else None)
    while tape:  # node by node, so that the memory of each is freed
        node = tape.pop()
        if node.op and node.d is not None:
            _send_back(node, wide)
    return {
        name: np.zeros_like(leaf.value) if leaf.d is None else np.array(leaf.d)
        for name, leaf in leaves.items()
    }


def _send_back(node: Node, wide: bool) -> None:
    values = [i.value if isinstance(i, Node) else i for i in node.inputs]
    y = node.value
    if wide:
        y, *values = map(_widened, (y, *values))
    parts = OPS[node.op].backward(node.d, y, *values)
    for one, part in zip(node.inputs, parts, strict=False):  # further arguments have none
        if isinstance(one, Node):
            _receive(one, part, np.dtype(np.float64) if wide else one.value.dtype)
    node.d, node.inputs = None, ()


def _receive(node: Node, part: Any, dtype: np.dtype[Any]) -> None:
    if isinstance(part, At):
        if node.d is None:
            node.d = np.zeros(node.shape, dtype)
        elif node.shared:
            node.d, node.shared = node.d.copy(), False
        _add(node.d, *part)
        return
    own = part
    if not isinstance(part, np.ndarray) or part.shape != node.shape or part.dtype != dtype:
        own = _summed(np.asarray(part), node.shape).astype(dtype, copy=False)
    if node.d is None:
        node.d, node.shared = own, True
    else:
        node.d, node.shared = node.d + own, False


def _add(array: Array, place: Any, part: Array) -> None:
    if isinstance(place, np.ndarray):  # which may contain an index several times
        np.add.at(array, place, part)
    else:
        array[place] += part


def _summed(d: Array, shape: tuple[int, ...]) -> Array:
    """The sum over the axes along which an array of this shape was broadcast."""
    if d.ndim > len(shape):
        d = np.asarray(d.sum(tuple(range(d.ndim - len(shape)))))
    ones = tuple(k for k, n in enumerate(shape) if n == 1 and d.shape[k] != 1)
    return np.asarray(d.sum(ones, keepdims=True) if ones else d)


def _widened(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.floating) and value.dtype.kind == "f":
        return np.asarray(value, np.float64)
    return value
