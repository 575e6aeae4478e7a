"""A cell of its forward equations alone, run back through time with edits of its derived step.

The values of the forward pass are computed for all steps at once; what is linear in δ goes from
step to step. Many sets of edits run at once: they lie along an axis of their own, M, and where one
of them has an edit, its row alone is computed anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import DerivedCell
from throughtime.diagnosis.mutants.cells import Deltas, MutantTape
from throughtime.diagnosis.mutants.interventions import Interventions
from throughtime.equations import (
    TEXT,
    BackwardPass,
    Function,
    Node,
    Values,
    Writer,
    depending_on_delta,
    ends_of,
    reachable,
)

Edits = Mapping[int, Node]
"""By the number of a value of the backward pass, what it is computed as instead."""


@dataclass(frozen=True)
class ParameterKind:
    """What a parameter is in a step.

    Attributes:
        letter: "W" for a matrix of the input, "U" for another one, "b" for what is only added, "p"
            for another vector or number.
        parts: where its first axis is cut: [0, H, 2H, …]; one part where nothing cuts it.
        names: of the parts.
    """

    letter: str
    parts: tuple[int, ...]
    names: tuple[str, ...]


class EquationCell:
    """A cell of its equations, with what a search among mutants has to know of it.

    Args:
        cell: the cell with its sizes.

    Attributes:
        backward: its derived backward pass, in a graph of its own, to which edits are added.
        deltas: numbers of the values that are made from a δ.
        shifted: by number, values of other steps: of which node, and how many steps later.
        kinds: what each parameter is, by name.
        gates, activations, peepholes: none, since nothing is known but the equations.
    """

    gates: tuple[str, ...] = ()
    activations: tuple[str, ...] = ()
    peepholes = False

    def __init__(self, cell: DerivedCell) -> None:
        self.cell = cell
        self.backward = cell.definition.derived(cell.given)
        self.deltas = depending_on_delta(self.backward)
        self.kinds = kinds_of(self.backward)
        self.functions: dict[int, Function] = {}
        self.shifted: dict[int, tuple[Node, int]] = {}
        self._moving: dict[int, bool] = {}
        whole = [n for n in reachable(ends_of(self.backward)) if n.number in self.deltas]
        back = {n.number for n in reachable(self.backward.deltas.values())}
        summed = {n.operands[0].number for n in whole if n.operation == "total"}
        batched = [n for n in whole if n.batched and n.operation != "arriving"]
        self.stepwise = [n for n in batched if n.number in back]
        self.later = [
            n
            for n in batched
            if n.number not in back and not (n.operation == "outer" and n.number in summed)
        ]
        self.totals = [n for n in whole if n.operation == "total"]
        self.later_targets = {n.number for n in (*self.later, *self.totals)}

    def __repr__(self) -> str:
        return repr(self.cell)

    # --- what it consists of ---

    @property
    def output_size(self) -> int:
        """The size of h."""
        return self.cell.output_size

    @property
    def others(self) -> dict[str, Node]:
        """The states beside the output, before the step."""
        return dict(list(self.backward.trace.states.items())[1:])

    @property
    def other_sizes(self) -> dict[str, int]:
        """How many numbers each of them is."""
        return {name: math.prod(node.shape) for name, node in self.others.items()}

    def at_step(self, node: Node, later: int) -> Node:
        """A value as it is some steps later; at an end of the sequence that of the step itself."""
        name = f"{node.number} of step {later:+d}"
        found = self.backward.trace.graph.leaf("state", name, node.shape)
        self.shifted[found.number] = node, later
        return found

    # --- forwards ---

    def forward(
        self, p: Mapping[str, Array], x: Array, h: Array, c: Array
    ) -> tuple[MutantTape, Values]:
        """All steps, from inputs (T, B, I), the output's initial state (B, P), the others' (B, n).

        Returns:
            inputs and states, and the values of all nodes, (T, B, …).
        """
        names = list(self.cell.state_sizes)
        state = {names[0]: h}
        for name, (start, stop) in zip(names[1:], self._stretches(), strict=True):
            state[name] = c[:, start:stop]
        _, _, run = self.cell.forward(p, x, state)
        trace = self.backward.trace
        known: dict[int, Array] = {trace.inputs.number: x}
        known |= {node.number: p[name] for name, node in trace.parameters.items()}
        states = [np.asarray(run.states[name], np.float64) for name in names]
        for node, array in zip(trace.states.values(), states, strict=True):
            known[node.number] = array[:-1].reshape(*array[:-1].shape[:2], *node.shape)
        empty = np.zeros((*x.shape[:2], 0))
        others = np.concatenate(states[1:], axis=2) if len(states) > 1 else None
        c_all = np.zeros((len(x) + 1, x.shape[1], 0)) if others is None else others
        values = _WithOtherSteps(known, self.functions, self.shifted)
        return MutantTape(x, states[0], c_all, empty, empty, empty), values

    def _stretches(self) -> list[tuple[int, int]]:
        """Where each other state lies among all of them side by side."""
        found, start = [], 0
        for size in self.other_sizes.values():
            found.append((start, start + size))
            start += size
        return found

    def sent(self, name: str) -> str:
        """What a step sends back to a state, in words."""
        return Writer(self.backward, TEXT).expression(self.backward.deltas[name], named=False)

    def stretch(self, name: str) -> slice:
        """Where one other state lies."""
        return slice(*dict(zip(self.others, self._stretches(), strict=True))[name])

    # --- backwards ---

    def walk(
        self,
        values: Values,
        dh_out: Array,
        intervene: Interventions,
        dstate: tuple[Array, Array],
        edits: Sequence[Edits],
    ) -> Deltas:
        """The recursion with M sets of edits, from what the output sends, (T, M, B, P).

        Returns:
            in place of δz the values that parameters and inputs need, side by side, (T, M, B, N).
        """
        T, M, B = dh_out.shape[:3]
        steps = intervene("cache", np.arange(T))
        touched = _by_target(edits)
        known = self._coefficients(values, self.stepwise, touched)
        frontier = self.frontier(edits)
        dh_next, dc_next = (np.broadcast_to(d, (M, *d.shape)) for d in dstate)
        kept = np.empty((T, M, B, sum(math.prod(n.shape) for n in frontier)))
        dhs = np.empty_like(dh_out)
        sent: list[tuple[Array, Array]] = []
        arriving = list(self.backward.arriving.values())
        for t in intervene("order", range(T)[::-1]):
            dh_next, dc_next = intervene("carried", (dh_next, dc_next), t=t, T=T)
            dh = dhs[t] = intervene("dh", dh_out[t] + dh_next, out=dh_out[t], t=t, T=T)
            arrived = dh_next, dc_next
            here = {arriving[0].number: dh}
            for node, (start, stop) in zip(arriving[1:], self._stretches(), strict=True):
                here[node.number] = dc_next[..., start:stop].reshape(M, B, *node.shape)
            s = steps[t]
            here |= {n: (a[s] if batched else a) for n, (a, batched) in known.items()}
            self._run(self.stepwise, here, touched, values, s)
            start = 0
            for node in frontier:
                size = math.prod(node.shape)
                kept[t, :, :, start : start + size] = here[node.number].reshape(M, B, size)
                start += size
            ends = [
                np.broadcast_to(here[n.number], (M, B, *n.shape)).reshape(M, B, -1)
                if n.number in here
                else np.zeros((M, B, math.prod(n.shape)))
                for n in self.backward.deltas.values()
            ]
            own = ends[0], np.concatenate([*ends[1:], np.zeros((M, B, 0))], axis=2)
            dh_next, dc_next = intervene("handed_back", own, arrived=arrived, earlier=sent)
            sent.append(own)
        return Deltas(kept, kept, dhs, dh_out, dh_next, dc_next)

    def frontier(self, edits: Sequence[Edits] = ()) -> list[Node]:
        """What of the recursion the sums over steps are made from."""
        stepwise = {n.number for n in (*self.stepwise, *self.backward.arriving.values())}
        late = [n for own in edits for t, n in own.items() if t in self.later_targets]
        used: dict[int, Node] = {}
        waiting, seen = [*self.totals, *self.later, *late], set[int]()
        while waiting:
            node = waiting.pop()
            if node.number in seen or not self.moves(node):
                continue
            seen.add(node.number)
            if node.number in stepwise:
                used[node.number] = node
            else:
                waiting += node.operands
        return [used[number] for number in sorted(used)]

    def _coefficients(
        self, values: Values, nodes: Iterable[Node], touched: Mapping[int, list[tuple[int, Node]]]
    ) -> dict[int, tuple[Array, bool]]:
        """The values that δ meets in these nodes, and whether they differ between steps."""
        own = {n.number for n in nodes}
        used = {o.number: o for n in nodes for o in n.operands if o.number not in self.deltas}
        for number, edits in touched.items():
            if number in own:
                for _, instead in edits:
                    used |= {n.number: n for n in self._outer_part(instead)}
        return {number: (values(node), node.batched) for number, node in used.items()}

    def _outer_part(self, instead: Node) -> list[Node]:
        """The values of the forward pass that an edit's expression is made from."""
        found, waiting = [], [instead]
        while waiting:
            node = waiting.pop()
            for operand in node.operands:
                if self.moves(operand):
                    waiting.append(operand)
                else:
                    found.append(operand)
            if not node.operands and not self.moves(node):
                found.append(node)
        return found

    def moves(self, node: Node) -> bool:
        """Whether a node is made from a δ."""
        if node.number not in self._moving:
            own = node.number in self.deltas or any(map(self.moves, node.operands))
            self._moving[node.number] = own
        return self._moving[node.number]

    def _run(
        self,
        nodes: Iterable[Node],
        here: dict[int, Array],
        touched: Mapping[int, list[tuple[int, Node]]],
        values: Values,
        s: int | slice,
    ) -> None:
        """Computes nodes, operands first; rows with an edit are computed anew."""
        for node in nodes:
            operands = [here[o.number] for o in node.operands]
            own = values.function(node)(*operands)
            here[node.number] = own
            if node.number in touched:
                rows = np.array(own)
                for row, instead in touched[node.number]:
                    rows[_row_of(row, node)] = self.row(instead, row, here, values)
                here[node.number] = rows

    def row(self, node: Node, row: int, here: Mapping[int, Array], values: Values) -> Array:
        """An edit's expression in its row, (B, …) or (T, B, …)."""
        if node.number in here:
            value = here[node.number]
            if self.moves(node):
                own: Array = value[_row_of(row, node)]
                return own
            # Over all steps, (T, 1, B, …), or over those of one, (B, …).
            return value[:, 0] if value.ndim == len(node.shape) + 3 else value
        if node.operation == "constant":
            return np.asarray(node.value)
        operands = (self.row(operand, row, here, values) for operand in node.operands)
        return values.function(node)(*operands)

    def sums(
        self,
        values: Values,
        deltas: Deltas,
        intervene: Interventions,
        edits: Sequence[Edits],
        tape: MutantTape,
    ) -> tuple[dict[str, Array], Array | None]:
        """δ of every parameter, (M, …), by name, and δ of the inputs, (T, M, B, I)."""
        T, M, B = deltas.z.shape[:3]
        touched = _by_target(edits)
        finishing = (*self.later, *self.totals)
        here: dict[int, Array] = {}
        start = 0
        for node in self.frontier(edits):
            size = math.prod(node.shape)
            flat = deltas.z[..., start : start + size]
            here[node.number] = flat.reshape(T, M, B, *node.shape)
            start += size
        operands = _Operands(self, values, intervene, tape)
        wanted = [*finishing, *(t.operands[0] for t in self.totals)]
        for number, (_, batched) in self._coefficients(values, wanted, touched).items():
            array = operands(self.backward.trace.graph.nodes[number])
            here[number] = array[:, None] if batched else array
        self._run(self.later, here, touched, values, slice(None))
        run = _Sums(self, values, here, touched, M)
        found = {}
        for name, end in self.backward.parameters.items():
            letter = self.kinds[name].letter
            kept = intervene(f"kept_{letter}", np.ones((T, B)))
            found[name] = run(end, intervene(f"kept {name}", kept))
        of_input = self.backward.inputs
        if of_input is None:
            return found, None
        return found, np.broadcast_to(here[of_input.number], (T, M, B, *of_input.shape))


@dataclass(frozen=True)
class _Sums:
    """The sums over steps and sequences that make δ of the parameters, in M rows.

    Attributes:
        cell: whose.
        values: those of the forward pass.
        here: by number, what is known of all steps, (T, M, B, …) or (T, 1, B, …).
        touched: by number, the rows in which a value is edited, and what it is there.
        rows: M.
    """

    cell: EquationCell
    values: Values
    here: dict[int, Array]
    touched: Mapping[int, list[tuple[int, Node]]]
    rows: int

    def __call__(self, end: Node, kept: Array) -> Array:
        """δ of a parameter in all rows, (M, …); `kept` weighs steps and sequences, (T, B)."""
        inner = end
        while inner.operation == "let":
            inner = inner.operands[0]
        if inner.operation == "total":
            return self._total(inner, kept)
        if not self.cell.moves(inner):
            return np.zeros((self.rows, *end.shape))
        totals = [n for n in reachable([inner]) if n.operation == "total"]
        summed = {n.number: self._total(n, kept) for n in totals}
        rows = []
        for row in range(self.rows):
            known = {number: array[row] for number, array in summed.items()}
            own = Values({**self.values.known, **known}, self.values.functions)
            rows.append(np.broadcast_to(own(inner), end.shape))
        return np.array(rows)

    def _total(self, total: Node, kept: Array) -> Array:
        whole = np.empty((self.rows, *total.shape))
        whole[...] = self._summed(total.operands[0], kept, None)
        for row, instead in self.touched.get(total.number, ()):
            whole[row] = self._edited(instead, row, kept)
        return whole

    def _edited(self, node: Node, row: int, kept: Array) -> Array:
        if node.operation == "total":
            return self._summed(node.operands[0], kept, row)
        if node.operation == "constant":
            return np.asarray(node.value)
        if not self.cell.moves(node):
            return self.values(node)
        operands = (self._edited(operand, row, kept) for operand in node.operands)
        return self.values.function(node)(*operands)

    def _summed(self, node: Node, kept: Array, row: int | None) -> Array:
        """Σ over steps and sequences: for all rows (M, …), or for one."""

        def at(one: Node) -> Array:
            if row is None:
                return self._computed(one)
            return self.cell.row(one, row, self.here, self.values)

        weight = kept if row is not None else kept[:, None]
        if node.operation == "outer":
            a, b = map(at, node.operands)
            if self.cell.moves(node.operands[0]):
                a = a * weight[..., None]
            else:
                b = b * weight[..., None]
            return _contracted(a, b, rows=row is None)
        weighted = at(node) * weight.reshape(*weight.shape, *[1] * len(node.shape))
        found: Array = weighted.sum(axis=(0, 1) if row is not None else (0, 2))
        return found

    def _computed(self, node: Node) -> Array:
        """A value of the last sums in all rows, with time in front."""
        if node.number not in self.here:
            self.here[node.number] = self.values.function(node)(*map(self._computed, node.operands))
        return self.here[node.number]


class _WithOtherSteps(Values):
    """Values of a run, those of other steps among them."""

    def __init__(
        self,
        known: Mapping[int, Array],
        functions: dict[int, Function],
        shifted: Mapping[int, tuple[Node, int]],
    ) -> None:
        super().__init__(known, functions)
        self.shifted = shifted

    def __call__(self, node: Node) -> Array:
        if node.number in self.shifted and node.number not in self.known:
            of, later = self.shifted[node.number]
            own = self(of)
            self.known[node.number] = own[np.clip(np.arange(len(own)) + later, 0, len(own) - 1)]
        return super().__call__(node)


def _by_target(edits: Sequence[Edits]) -> dict[int, list[tuple[int, Node]]]:
    """By the value that is edited, the rows in which it is, and what it is there."""
    found: dict[int, list[tuple[int, Node]]] = {}
    for row, own in enumerate(edits):
        for number, instead in own.items():
            found.setdefault(number, []).append((row, instead))
    return found


def _row_of(row: int, node: Node) -> tuple[Any, ...]:
    """The index of a row of (…, M, B, …)."""
    return (..., row, slice(None), *[slice(None)] * len(node.shape))


def _contracted(a: Array, b: Array, rows: bool) -> Array:
    """Σ a bᵀ over steps and sequences; with rows, (T, M, B, ·), of which one side may have one."""
    lead = np.broadcast_shapes(a.shape[:-1], b.shape[:-1])
    left = np.broadcast_to(a, (*lead, a.shape[-1]))
    if not rows:
        right = np.broadcast_to(b, (*lead, b.shape[-1]))
        one: Array = left.reshape(-1, a.shape[-1]).T @ right.reshape(-1, b.shape[-1])
        return one
    T, M, B = lead
    turned = np.moveaxis(left, 1, 0).reshape(M, T * B, -1).transpose(0, 2, 1)
    if b.ndim == len(lead) + 1 and b.shape[1] == 1:
        shared = np.broadcast_to(b, (T, 1, B, b.shape[-1])).reshape(T * B, -1)
        found: Array = turned @ shared
        return found
    own = np.moveaxis(np.broadcast_to(b, (*lead, b.shape[-1])), 1, 0).reshape(M, T * B, -1)
    each: Array = turned @ own
    return each


class _Operands:
    """What δ is multiplied by in the sums over steps, where x or h may be others' values."""

    def __init__(
        self, cell: EquationCell, values: Values, intervene: Interventions, tape: MutantTape
    ) -> None:
        self.values, trace = values, cell.backward.trace
        T = len(tape.x)
        first = next(iter(trace.states.values()))
        self.steps = intervene("cache", np.arange(T))
        self.given = {
            trace.inputs.number: intervene("x", tape.x),
            first.number: intervene("h_before", tape.h[:-1], states=tape.h),
        }
        self.plain = not {"cache", "x", "h_before"} & set(intervene.interventions)

    def __call__(self, node: Node) -> Array:
        if self.plain:
            return self.values(node)
        if node.number in self.given:
            found: Array = self.given[node.number]
            return found
        if node.operation in JOINING and node.batched:
            return self.values.function(node)(*map(self, node.operands))
        return self.values(node)[self.steps] if node.batched else self.values(node)


# What stands between a state and the matrix that multiplies it: it is computed anew from a state
# of another step, where people take the state from a list and the gates from another.
JOINING = ("multiply", "concatenate", "part", "reshape")


def kinds_of(backward: BackwardPass) -> dict[str, ParameterKind]:
    """What each parameter is, from what the step does with it."""
    trace = backward.trace
    forward = reachable(trace.after.values())
    on_state = {node.number for node in trace.states.values()}
    for node in forward:
        if any(operand.number in on_state for operand in node.operands):
            on_state.add(node.number)
    cuts = _cuts(forward)
    names = backward.names
    found = {}
    for name, node in trace.parameters.items():
        users = [n for n in forward if node in n.operands]
        if len(node.shape) > 1:
            products = [n for n in users if n.operation == "matmul"]
            others = [o for n in products for o in n.operands if o is not node]
            seen = [o for o in others if o.number in on_state]
            letter = "W" if products and not seen else "U"
        else:
            letter = "b" if node.shape and _only_added(node, forward) else "p"
        parts = cuts.get(node.number, {})
        ends = sorted({0, *parts, *((node.shape[0],) if node.shape else (1,))})
        letters = tuple(
            names.get(parts[start].number, str(k)) if start in parts else str(k)
            for k, start in enumerate(ends[:-1])
        )
        found[name] = ParameterKind(letter, tuple(ends), letters)
    return found


def _only_added(node: Node, forward: Sequence[Node]) -> bool:
    """Whether a parameter does nothing but stand in sums."""
    users = [n for n in forward if node in n.operands]
    return all(
        n.operation in ("add", "subtract") or (n.operation == "part" and _only_added(n, forward))
        for n in users
    )


def _cuts(forward: Sequence[Node]) -> dict[int, dict[int, Node]]:
    """For each value that is cut into parts along its first axis, where each begins, and which."""
    found: dict[int, dict[int, Node]] = {}
    for node in reversed(forward):
        if node.operation == "part":
            whole = node.operands[0]
            found.setdefault(whole.number, {}).setdefault(node.start, node)
        own = found.get(node.number)
        if not own:
            continue
        alike = ("add", "subtract", "negative", "multiply")
        for place, operand in enumerate(node.operands):
            first = node.operation == "matmul" and place == 0 and len(operand.shape) == 2
            same = node.operation in alike and operand.shape == node.shape
            if first or same:
                for start, part in own.items():
                    found.setdefault(operand.number, {}).setdefault(start, part)
    return found
