"""A cell's equations, run step by step in torch's own operations, for torch to differentiate.

Rows are sequences: what differs between them has an axis (B,) in front of the shape that the
equations give it, and parameters have not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch

from throughtime.cells import Cell
from throughtime.equations import ELEMENTWISE, Node, reachable

Tensors = dict[str, torch.Tensor]
Values = dict[int, torch.Tensor]


class TorchStep:
    """One step of a cell.

    Args:
        cell: whose equations are run.
    """

    def __init__(self, cell: Cell) -> None:
        self.trace = cell.equations.backward.trace
        self.names = dict(zip(self.trace.states, cell.state_sizes, strict=True))
        inner = [n for n in reachable(self.trace.after.values()) if not n.leaf]
        self.shared = [node for node in inner if not node.batched]
        self.own = [node for node in inner if node.batched]

    def prepared(self, p: Mapping[str, torch.Tensor]) -> Values:
        """The parameters, and what depends on them alone, by number."""
        known = {node.number: p[name] for name, node in self.trace.parameters.items()}
        like = next(iter(p.values()))
        for node in self.shared:
            known[node.number] = _value(node, known, like)
        return known

    def __call__(self, prepared: Values, x: torch.Tensor, state: Tensors) -> Tensors:
        """The state after a step, (B, n) for each part, from x (B, ·) and the state before it."""
        known = dict(prepared)
        known[self.trace.inputs.number] = x
        for name, node in self.trace.states.items():
            known[node.number] = state[self.names[name]].reshape(-1, *node.shape)
        for node in self.own:
            known[node.number] = _value(node, known, x)
        return {
            self.names[name]: known[node.number].reshape(len(x), -1)
            for name, node in self.trace.after.items()
        }


@lru_cache(maxsize=64)
def torch_step(cell: Cell) -> TorchStep:
    """The step of a cell, once for each cell."""
    return TorchStep(cell)


def _value(node: Node, known: Values, like: torch.Tensor) -> torch.Tensor:
    given = []
    for operand in node.operands:
        value = known.get(operand.number)
        if value is None:
            value = like.new_tensor(operand.value)
        fewer = len(operand.shape) < len(node.shape) and operand.batched
        if fewer and node.operation in ELEMENTWISE | {"broadcast"}:
            ranks = [1] * (len(node.shape) - len(operand.shape))
            value = value.reshape(len(value), *ranks, *operand.shape)
        given.append(value)
    if node.operation == "numbers":
        return like.new_tensor(node.numbers).reshape(node.shape)
    how = FUNCTIONS.get(node.operation)
    result: torch.Tensor = SHAPED[node.operation](node, *given) if how is None else how(*given)
    return result


class _Surrogate(torch.autograd.Function):
    """The value of one function with the slope of another, which is differentiated again."""

    @staticmethod
    def forward(context: Any, value: torch.Tensor, x: torch.Tensor, slope: Any) -> torch.Tensor:
        context.save_for_backward(slope)
        return value.clone()

    @staticmethod
    def backward(context: Any, *d: torch.Tensor) -> tuple[Any, ...]:
        return None, d[0] * context.saved_tensors[0], None


def _compared(how: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A condition as 1 and 0, with which the equations go on."""
    return lambda a, b: how(a, b).to(a.dtype)


# Where two values are equal, the slope is that of the table of operations, not of torch.
FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "add": torch.add,
    "subtract": torch.subtract,
    "multiply": torch.multiply,
    "divide": torch.divide,
    "negative": torch.negative,
    "power": torch.pow,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "exp": torch.exp,
    "log": torch.log,
    "log1p": torch.log1p,
    "expm1": torch.expm1,
    "sqrt": torch.sqrt,
    "sin": torch.sin,
    "cos": torch.cos,
    "arctan": torch.arctan,
    "absolute": torch.abs,
    "sign": torch.sign,
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "relu": torch.relu,
    "stop_gradient": lambda x: x.detach(),
    "maximum": lambda a, b: torch.where(a > b, a, b),
    "minimum": lambda a, b: torch.where(b > a, a, b),
    "where": lambda condition, yes, no: torch.where(condition != 0, yes, no),
    "greater": _compared(torch.gt),
    "greater_equal": _compared(torch.ge),
    "less": _compared(torch.lt),
    "less_equal": _compared(torch.le),
    "equal": _compared(torch.eq),
    "not_equal": _compared(torch.ne),
    "surrogate": lambda value, x, slope: _Surrogate.apply(value, x, slope),
    "transpose": lambda x: x.transpose(-1, -2),
    "outer": lambda a, b: a[..., :, None] * b[..., None, :],
    "softmax": lambda x: torch.softmax(x, -1),
    "let": lambda x: x,
}


def _matmul(node: Node, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    left, right = node.operands
    ranks = len(left.shape), len(right.shape)
    if ranks == (2, 1):
        flat = left.batched
        return (a @ b[..., None])[..., 0] if flat else b @ a.transpose(0, 1)
    if ranks == (1, 2):
        return (a[..., None, :] @ b)[..., 0, :] if right.batched else a @ b
    return (a * b).sum(-1) if ranks == (1, 1) else a @ b


def _reduced(how: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def reduced(node: Node, x: torch.Tensor) -> torch.Tensor:
        rank = len(node.operands[0].shape)
        axes = range(rank) if node.axis is None else [node.axis % rank]
        return how(x, dim=[axis - rank for axis in axes], keepdim=node.keepdims)

    return reduced


def _lead(node: Node, x: torch.Tensor) -> tuple[int, ...]:
    return tuple(x.shape[: x.dim() - len(node.shape)])


def _reshaped(node: Node, x: torch.Tensor) -> torch.Tensor:
    return x.reshape(*_lead(node.operands[0], x), *node.shape)


def _joined(node: Node, *parts: torch.Tensor) -> torch.Tensor:
    pairs = list(zip(node.operands, parts, strict=True))
    lead = max((_lead(operand, part) for operand, part in pairs), key=len)
    whole = [part.expand(*lead, *operand.shape) for operand, part in pairs]
    return torch.cat(whole, dim=-len(node.shape))


def _spread(node: Node, x: torch.Tensor) -> torch.Tensor:
    lead = x.shape[:1] if node.operands[0].batched else ()
    return x.expand(*lead, *node.shape)


SHAPED: dict[str, Callable[..., torch.Tensor]] = {
    "matmul": _matmul,
    "sum": _reduced(torch.sum),
    "mean": _reduced(torch.mean),
    "max": _reduced(torch.amax),
    "part": lambda node, x: x.narrow(-len(node.shape), node.start, node.stop - node.start),
    "concatenate": _joined,
    "reshape": _reshaped,
    "expand": _reshaped,
    "broadcast": _spread,
}
