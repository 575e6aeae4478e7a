"""Runs a derived step over many sequences, by NumPy code that is written and compiled here.

What depends on the input alone is computed for all steps at once, and so is what the backward pass
needs for parameters and inputs alone. What is left has to go from step to step: the forward values
that depend on the state, and the δ that lead to the state before.

Arrays have the axes of time and batch in front of those that a node's shape tells of.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from throughtime.arrays import Array, Shape
from throughtime.equations.backward import BackwardPass, delta_after
from throughtime.equations.functions import relu, sigmoid, softmax, softplus, stop_gradient
from throughtime.equations.graph import OPERATIONS, Node, reachable
from throughtime.equations.operations import ELEMENTWISE, number_in_numpy
from throughtime.functions import is_indices, outer_sum, product, weight_gradient

NO_MOVES: Mapping[int, Array] = {}


@dataclass(frozen=True)
class Phase:
    """A part of the computation, compiled.

    Attributes:
        code: the source of its function.
        takes: the nodes that it is given, in order.
        gives: the nodes that it computes, in order.
        run: from a list of the former, and moves, to a list of the latter.
    """

    code: str
    takes: tuple[Node, ...]
    gives: tuple[Node, ...]
    run: Callable[[Sequence[Any], Mapping[int, Array]], list[Array]]

    def __call__(
        self, known: Mapping[int, Array], moves: Mapping[int, Array] = NO_MOVES
    ) -> dict[int, Array]:
        """The computed values by number, from known ones by number; `moves` are added to some."""
        found = self.run([known[node.number] for node in self.takes], moves)
        return {node.number: value for node, value in zip(self.gives, found, strict=True)}


@dataclass(frozen=True)
class StepProgram:
    """All phases of a step.

    Attributes:
        shared: what depends on parameters alone.
        of_inputs: what depends on the input, for all steps at once.
        step: the states after a step, and what the backward pass needs of it.
        step_backward: δ of the states before a step, and what the last two phases need of it.
        of_parameters: δ of the parameters, summed over all steps at once.
        to_inputs: δ of the inputs, for all steps at once.
        kept: forward values that the backward pass needs.
        frontier: values of `step_backward` that the last two need.
        after: δ of the states after a step, what reaches them within the step included.
    """

    shared: Phase
    of_inputs: Phase
    step: Phase
    step_backward: Phase
    of_parameters: Phase
    to_inputs: Phase
    kept: tuple[Node, ...]
    frontier: tuple[Node, ...]
    after: Mapping[str, Node]


def program(backward: BackwardPass) -> StepProgram:
    """The phases of a derived step, compiled."""
    trace, after = backward.trace, delta_after(backward)
    ends = tuple(trace.after.values())
    forward = reachable(ends)
    of_forward = {node.number for node in forward}
    on_state = _depending(forward, trace.states.values())
    shared = [n for n in forward if not n.batched and not n.leaf]
    early = [n for n in forward if n.batched and n.number not in on_state and not n.leaf]
    late = [n for n in forward if n.number in on_state and not n.leaf]

    back_ends = (*backward.deltas.values(), *after.values())
    stepwise = [n for n in reachable(back_ends) if n.number not in of_forward]
    # Of the backward pass only what is linear in δ crosses to the last two phases, so that sums of
    # it over several losses are right; numbers of the forward pass are computed there again.
    linear = _depending(stepwise, backward.arriving.values())
    arriving = {n.number for n in backward.arriving.values()}
    known = of_forward | (linear - arriving)
    parameters = tuple(backward.parameters.values())
    inputs = (backward.inputs,) if backward.inputs is not None else ()
    finishing = [n for n in reachable((*parameters, *inputs)) if n.number not in known]
    used = {o.number: o for n in finishing for o in n.operands} | {n.number: n for n in inputs}
    frontier = tuple(n for number, n in sorted(used.items()) if number in linear)

    wanted = {o.number: o for n in (*stepwise, *finishing) for o in n.operands}
    in_step = {o.number for n in (*stepwise, *late) for o in n.operands}
    kept = tuple(
        n
        for number, n in sorted(wanted.items())
        if number in of_forward
        and n.batched
        and n.operation != "state"
        and (n.operation != "input" or any(n in other.operands for other in stepwise))
    )
    of_step = {n.number for n in (*kept, *ends)} | in_step
    given = (*early, trace.inputs) if trace.inputs.number in of_step else early
    return StepProgram(
        shared=phase(shared, shared),
        of_inputs=phase(early, [n for n in given if n.number in of_step]),
        step=phase(late, (*ends, *kept)),
        step_backward=phase(stepwise, (*back_ends, *frontier)),
        of_parameters=phase(finishing, parameters),
        to_inputs=phase(_only(finishing, inputs), inputs),
        kept=kept,
        frontier=frontier,
        after=after,
    )


def _only(nodes: Sequence[Node], ends: Sequence[Node]) -> list[Node]:
    """Those of the nodes that the ends are computed from."""
    wanted = {node.number for node in reachable(ends)}
    return [node for node in nodes if node.number in wanted]


def _depending(nodes: Iterable[Node], on: Iterable[Node]) -> set[int]:
    found = {node.number for node in on}
    for node in nodes:
        if any(operand.number in found for operand in node.operands):
            found.add(node.number)
    return found


def phase(nodes: Sequence[Node], gives: Sequence[Node], moved: Collection[int] = ()) -> Phase:
    """A part of the computation, compiled.

    Args:
        nodes: what may be computed; the rest is given.
        gives: what is wanted.
        moved: numbers of values to which moves are added as soon as they are computed.
    """
    nodes = _only(nodes, gives)
    inside = {node.number for node in nodes if not node.leaf}
    outside = {o.number: o for n in nodes for o in n.operands if o.number not in inside}
    outside |= {n.number: n for n in gives if n.number not in inside}
    takes = tuple(n for _, n in sorted(outside.items()) if n.operation != "constant")
    code = _Emitter(nodes, takes, tuple(gives), moved).code()
    space: dict[str, Any] = dict(NAMESPACE)
    exec(compile(code, "<derived step>", "exec"), space)
    return Phase(code, takes, tuple(gives), space["run"])


def phase_from(known: Iterable[Node], gives: Sequence[Node]) -> Phase:
    """From values that are known, and leaves, to others."""
    given = {node.number for node in known}
    found, waiting = dict[int, Node](), list(gives)
    while waiting:
        node = waiting.pop()
        if node.number not in found and node.number not in given and not node.leaf:
            found[node.number] = node
            waiting += node.operands
    return phase([found[number] for number in sorted(found)], gives)


class _Emitter:
    """The source of a phase's function: an assignment for each node."""

    def __init__(
        self,
        nodes: Sequence[Node],
        takes: tuple[Node, ...],
        gives: tuple[Node, ...],
        moved: Collection[int],
    ) -> None:
        self.takes, self.gives, self.moved = takes, gives, moved
        # An outer product that is summed at once over steps and sequences is never built.
        self.summed = {
            n.operands[0].number
            for n in nodes
            if n.operation == "total" and n.operands[0].operation == "outer"
        }
        used = [n for n in nodes if not n.leaf]
        others = {o.number for n in used if n.operation != "total" for o in n.operands}
        others |= {n.number for n in gives}
        # Products that only stand side by side are written there at once.
        uses = [o.number for n in used for o in n.operands] + [n.number for n in gives]
        self.joined = {
            o.number
            for n in used
            if n.operation == "concatenate" and len(n.shape) == 1 and n.batched
            for o in n.operands
            if o.operation == "multiply" and uses.count(o.number) == 1 and o in used
            if o.number not in moved and all(x.shape == o.shape for x in o.operands)
        }
        self.nodes = [
            n
            for n in used
            if (n.number not in self.summed or n.number in others) and n.number not in self.joined
        ]

    def code(self) -> str:
        lines = ["def run(given, moves):"]
        if self.takes:
            lines.append(f"    [{', '.join(self._name(node) for node in self.takes)}] = given")
        for node in self.nodes:
            if any(operand.number in self.joined for operand in node.operands):
                lines += [f"    {line}" for line in self._side_by_side(node)]
                continue
            move = f" + moves.get({node.number}, 0.0)" if node.number in self.moved else ""
            lines.append(f"    {self._name(node)} = {self._expression(node)}{move}")
        lines.append(f"    return [{', '.join(self._word(node) for node in self.gives)}]")
        return "\n".join(lines) + "\n"

    def _name(self, node: Node) -> str:
        return f"v{node.number}"

    def _word(self, node: Node) -> str:
        if node.operation == "constant":
            return number_in_numpy(float(node.value or 0.0))
        return self._name(node)

    def _expression(self, node: Node) -> str:
        if node.operation == "total" and node.operands[0].number in self.summed:
            return self._outer_total(*node.operands[0].operands)
        if node.operation == "matmul" and node.operands[1].operation == "input":
            W, x = node.operands
            if len(W.shape) == 2 and not W.batched:
                return f"product({self._word(W)}, {self._word(x)})"
        if node.operation == "matmul" and node.batched:
            W, x = node.operands
            if (len(W.shape), len(x.shape)) == (2, 1) and not W.batched:
                return f"affine({self._word(W)}, {self._operand(x)})"
        if node.operation == "concatenate" and node.batched:
            return f"join([{', '.join(map(self._operand, node.operands))}], {len(node.shape)})"
        words = []
        for operand in node.operands:
            word = self._operand(operand)
            fewer = len(operand.shape) < len(node.shape) and operand.batched
            if node.operation in ELEMENTWISE and fewer:
                word = f"lift({word}, {len(operand.shape)}, {len(node.shape)})"
            words.append(word)
        form = OPERATIONS[node.operation].numpy
        if callable(form):
            return form(node, words, node.batched or node.operation == "total")
        return form.format(*words)

    def _side_by_side(self, node: Node) -> list[str]:
        """The lines that write products where they stand side by side."""
        parts = [o.operands if o.number in self.joined else (o,) for o in node.operands]
        words = [[self._operand(factor) for factor in part] for part in parts]
        name, start = self._name(node), 0
        every = dict.fromkeys(word for own in words for word in own)
        lines = [f"{name} = vacant({node.shape[0]}, {', '.join(every)})"]
        for operand, own in zip(node.operands, words, strict=True):
            place = f"{name}[..., {start}:{start + operand.shape[0]}]"
            start += operand.shape[0]
            two = f"np.multiply({own[0]}, {own[-1]}, out={place})"
            lines.append(two if len(own) == 2 else f"{place} = {own[0]}")
        return lines

    def _operand(self, node: Node) -> str:
        if node.operation == "input":
            return f"dense({self._name(node)}, {node.shape})"
        return self._word(node)

    def _outer_total(self, a: Node, b: Node) -> str:
        if b.operation == "input":
            return f"weight_gradient({self._word(a)}, {self._word(b)}, {b.shape[0]})"
        if a.operation == "input":
            return f"weight_gradient({self._word(b)}, {self._word(a)}, {a.shape[0]}).T"
        return f"outer_total({self._word(a)}, {self._word(b)})"


def affine(W: Array, x: Array) -> Array:
    """W x for every step and sequence, as one product of matrices."""
    if x.ndim <= 2:
        return x @ W.T
    found: Array = (x.reshape(-1, x.shape[-1]) @ W.T).reshape(*x.shape[:-1], W.shape[0])
    return found


def lift(values: Array, rank: int, wanted: int) -> Array:
    """Puts axes of size 1 behind those of time and batch."""
    shape = np.shape(values)
    lead = len(shape) - rank
    return np.reshape(values, (*shape[:lead], *[1] * (wanted - rank), *shape[lead:]))


def spread(values: Array, rank: int, shape: Shape) -> Array:
    """An array of a smaller shape, spread out over a larger one."""
    own = np.shape(values)
    lead = own[: len(own) - rank]
    return np.broadcast_to(lift(values, rank, len(shape)), (*lead, *shape), subok=True)


def join(parts: Sequence[Array], rank: int) -> Array:
    """Parts one after the other, along the first axis behind those of time and batch."""
    lead = max((np.shape(part)[: np.ndim(part) - rank] for part in parts), key=len)
    shapes = [(*lead, *np.shape(p)[np.ndim(p) - rank :]) for p in parts]
    whole = [np.broadcast_to(p, shape, subok=True) for p, shape in zip(parts, shapes, strict=True)]
    dtype = next((p.dtype for p in whole if np.shape(p)[: p.ndim - rank] == lead), None)
    return np.concatenate(whole, axis=-rank, dtype=dtype)


def vacant(size: int, *factors: Array) -> Array:
    """Room for vectors side by side, for all steps and sequences of what will stand there."""
    leads = {factor.shape[:-1] for factor in factors}
    lead = leads.pop() if len(leads) == 1 else np.broadcast_shapes(*leads)
    dtypes = {factor.dtype for factor in factors}
    dtype = dtypes.pop() if len(dtypes) == 1 else np.result_type(*factors)
    return np.empty((*lead, size), dtype)


def pad(values: Array, inner: list[tuple[int, int]]) -> Array:
    """Zeros around an array, not along the axes of time and batch."""
    lead = np.ndim(values) - len(inner)
    return np.pad(values, [(0, 0)] * lead + inner)


def total(values: Array, rank: int) -> Array:
    """The sum over steps and sequences."""
    shape = np.shape(values)
    summed: Array = np.reshape(values, (-1, *shape[len(shape) - rank :])).sum(axis=0)
    return summed


def outer_total(left: Array, right: Array) -> Array:
    """Σ left rightᵀ over steps and sequences; one of the two may be the same in all of them."""
    lead = np.broadcast_shapes(np.shape(left)[:-1], np.shape(right)[:-1])

    def whole(side: Array) -> Array:
        return np.broadcast_to(side, (*lead, np.shape(side)[-1]), subok=True)

    return outer_sum(whole(left), whole(right))


def dense(inputs: Array, shape: Shape) -> Array:
    """Inputs as numbers: class indices become one-hot vectors."""
    if not is_indices(inputs):
        return inputs
    return np.eye(shape[0])[inputs]


FUNCTIONS = (sigmoid, relu, softplus, softmax, stop_gradient)
HELPERS = (
    affine,
    lift,
    spread,
    join,
    vacant,
    pad,
    total,
    outer_total,
    dense,
    product,
    weight_gradient,
)
NAMESPACE: dict[str, Any] = {
    "np": np,
    **{function.__name__: function for function in (*FUNCTIONS, *HELPERS)},
}
