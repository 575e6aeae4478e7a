"""A cell's own step as a graph: run with one number moved, and differentiated use by use.

If a value is used more than once, each use has a name of its own: moving "c" moves c_t for all that
read it, moving "c_in_h" only for h_t, "c_carried" only for step t + 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array, Shape, refuse
from throughtime.cells import Cell, whole_step
from throughtime.equations import (
    Function,
    Graph,
    Node,
    Trace,
    Values,
    delta_after,
    derive_backward,
    reachable,
)

# By the name of a use, the value that is used, and what it is used for; what a tape keeps of the
# step stands still in between.
USES = {
    "c_in_i": ("c_before", "z_i"),
    "c_in_f": ("c_before", "z_f"),
    "c_in_o": ("c", "z_o"),
    "c_in_h": ("c", "tanh_c"),
    "c_kept": ("c_before", "c"),
    "c_carried": ("c", "c_before"),
    "h_leaked": ("h_before", "h"),
    **{f"h_in_{gate}": ("h_before", f"z_{gate}") for gate in "ifaorz"},
}


class Move(NamedTuple):
    """What is added to a value, or to one use of it, at one step, or at every step.

    To a value of a step it is (N, …), and N runs are made at once; to a parameter it is its shape.
    """

    name: str
    step: int | None
    by: Array


class Use(NamedTuple):
    """A value on its way to another one, in a graph of its own.

    Attributes:
        value: the value, in the step's graph.
        leaf: the same in the use's own graph.
        end: what it is used for, in the step's graph.
        copy: the same in the use's own graph.
        still: what stands still in between, in both graphs.
        arriving, delta: δ of the end, and what it makes of δ of the value.
    """

    value: Node
    leaf: Node
    end: Node
    copy: Node
    still: Mapping[Node, Node]
    arriving: Node
    delta: Node

    def moved(self, step: Values, move: Move) -> Array:
        """What it is used for, where the value is moved for that use alone."""
        known = self._known(step) | {self.leaf.number: step(self.value) + move.by}
        return Values(known, {})(self.copy)

    def derived(self, step: Values, delta: Array) -> Array:
        """The part of δ of the value that comes through this use."""
        known = self._known(step) | {self.leaf.number: step(self.value)}
        return Values(known | {self.arriving.number: delta}, {})(self.delta)

    def _known(self, step: Values) -> dict[int, Array]:
        return {copy.number: step(node) for node, copy in self.still.items()}


class TracedStep:
    """The step of a cell, and what is derived from it.

    Args:
        cell: the cell.

    Attributes:
        nodes: the values of a step by the names that the cell's own lines give them; states before
            the step are "h_before" and "c_before".
        uses: by name, what is used and what for.
    """

    def __init__(self, cell: Cell) -> None:
        self.backward = whole_step(cell)
        self.trace = trace = self.backward.trace
        self.nodes = {name: trace.graph.nodes[n] for n, name in self.backward.names.items()}
        self.nodes |= {own.name: own.node for own in trace.named} | {"x": trace.inputs}
        self.nodes = {name: node for name, node in self.nodes.items() if node.batched}
        self.nodes |= {**trace.parameters, **trace.after}
        self.nodes |= {f"{name}_before": node for name, node in trace.states.items()}
        if "reset_h" in self.nodes:
            self.nodes["r⊙h"] = self.nodes["reset_h"]
        self.kept = [self.nodes[name] for name in cell.kept_names]
        last = cell.kept_names[-1]  # of a GRU what the candidate's matrix makes, or what it takes
        self.uses = {**USES, "h_in_n": ("h_before", last)}
        self.functions: dict[int, Function] = {}

    def shape(self, name: str) -> Shape:
        """The shape of a value, or of what is used."""
        return self._node(self.uses[name][0] if name in self.uses else name).shape

    def run(
        self,
        p: Mapping[str, Array],
        x: Array,
        state: Mapping[str, Array],
        move: Move | None = None,
    ) -> list[Values]:
        """The values of every step, with an axis of runs in front, and with something moved."""
        runs = 1 if move is None or move.name in p else len(move.by)
        before = {name: np.tile(array, (runs, 1)) for name, array in state.items()}
        found = []
        for t, x_t in enumerate(x):
            known = {node.number: p[name] for name, node in self.trace.parameters.items()}
            known |= {node.number: before[name] for name, node in self.trace.states.items()}
            known[self.trace.inputs.number] = np.tile(x_t, (runs, 1))
            step = Values(known, self.functions)
            here = move if move is not None and move.step in (None, t) else None
            if here is not None:
                self._move(step, here)
            before = {name: step(node) for name, node in self.trace.after.items()}
            if here is not None and here.name == "c_carried":
                before["c"] = before["c"] + here.by
            found.append(step)
        return found

    def _move(self, step: Values, move: Move) -> None:
        if move.name not in self.uses:
            node = self._node(move.name)
            step.known[node.number] = step(node) + move.by
        elif move.name != "c_carried":
            use = self._use(move.name)
            step.known[use.end.number] = use.moved(step, move)

    def derived(self, steps: Sequence[Values], of_outputs: Array, name: str) -> Array:
        """What each step adds to δ of a value, of a use of one, or of a parameter: (T, …).

        Args:
            steps: the values of every step.
            of_outputs: ∂E_t/∂h_t, (T, ·).
            name: of the value, the use, or the parameter.
        """
        if name == "c_carried":
            sent = self.derived(steps, of_outputs, "c_before")
            return np.concatenate([sent[1:], np.zeros_like(sent[:1])])
        use = self._use(name) if name in self.uses else None
        delta = self._deltas[(use.end if use else self._node(name)).number]
        sums = [node for node in reachable([delta]) if node.operation == "total"]
        arriving = {own: np.zeros((1, *n.shape)) for own, n in self.trace.after.items()}
        found: list[Array] = []
        for step, of_output in zip(reversed(steps), of_outputs[::-1], strict=True):
            arriving["h"] = arriving["h"] + of_output
            given = {n.number: arriving[own] for own, n in self.backward.arriving.items()}
            back = Values(step.known | given, self.functions)
            for total in sums:  # over this step alone
                back.known[total.number] = back(total.operands[0])[0]
            own = back(delta)
            found.insert(0, own if use is None else use.derived(step, own))
            arriving = {own: back(node) for own, node in self.backward.deltas.items()}
        return np.stack([one.reshape(self.shape(name)) for one in found])

    @property
    def _deltas(self) -> dict[int, Node]:
        """δ of each value that has one, by the value's number."""
        backward, trace = self.backward, self.trace
        found = {line.of.number: line.delta for line in backward.lines}
        after = delta_after(backward)
        found |= {node.number: after[name] for name, node in trace.after.items()}
        found |= {node.number: backward.deltas[name] for name, node in trace.states.items()}
        return found

    @lru_cache(maxsize=64)  # noqa: B019  # as long as the step itself
    def _use(self, name: str) -> Use:
        value, end = map(self._node, self.uses[name])
        graph, still = Graph(), dict[Node, Node]()
        leaf = graph.leaf("state", "value", value.shape)
        moving = {value.number}
        for node in self.trace.graph.nodes[: end.number + 1]:
            stands_still = node in self.kept and node is not end
            if not stands_still and any(o.number in moving for o in node.operands):
                moving.add(node.number)

        def copied(node: Node) -> Node:
            if node is value:
                return leaf
            if node.operation == "constant":
                return graph.constant(node.value or 0.0)
            if node.number not in moving:
                kind = "input" if node.batched else "parameter"
                return still.setdefault(node, graph.leaf(kind, str(node.number), node.shape))
            operands = map(copied, node.operands)
            return graph.apply(node.operation, *operands, **dict(node.attributes))

        copy = copied(end)
        own = Trace(name, graph, leaf, {"value": leaf}, {}, {"value": copy}, (), {})
        backward = derive_backward(own)
        arriving, delta = backward.arriving["value"], backward.deltas["value"]
        return Use(value, leaf, end, copy, still, arriving, delta)

    def _node(self, name: str) -> Node:
        if name not in self.nodes:
            refuse("value", "one of " + ", ".join([*self.nodes, *self.uses]), repr(name))
        return self.nodes[name]
