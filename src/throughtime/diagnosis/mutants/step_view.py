"""A derived step as a search for its mistakes sees it: its lines, its values, and their names."""

from __future__ import annotations

from collections.abc import Mapping

from throughtime.diagnosis.mutants.equation_cell import EquationCell
from throughtime.diagnosis.mutants.step_changes import (
    Slot,
    SlotChange,
    StepMistake,
    parts_of,
    slopes_of,
)
from throughtime.equations import TEXT, Node, Site, Writer, reachable, sites_of

MOST_GATED = 4  # products of a gate and a state that may be taken for another value


class StepView:
    """What mistakes are made of.

    Args:
        cell: the cell.

    Attributes:
        sites: the lines of its derived step, and parts of lines that are used more than once.
        slopes: the derivatives of activations in them.
        values, vectors, matrices: what may stand in the place of another value of its shape:
            values of the forward pass, vectors and matrices among the parameters.
        ends, after: δ of the states before the step and the states after it, numbers to names.
        output: the first state.
    """

    def __init__(self, cell: EquationCell) -> None:
        self.cell, self.backward = cell, cell.backward
        self.trace, self.graph = cell.backward.trace, cell.backward.trace.graph
        self.writer = Writer(cell.backward, TEXT, shared=False)
        self.sites = sites_of(cell.backward)
        self.ends = {node.number: name for name, node in cell.backward.deltas.items()}
        self.output = next(iter(self.trace.states))
        self.after = {node.number: name for name, node in self.trace.after.items()}
        forward = reachable(self.trace.after.values())
        multiplied = {o.number for n in forward if n.operation == "matmul" for o in n.operands}
        named = [n for n in forward if n.number in {*self.backward.names, *multiplied}]
        named = [n for n in named if not n.leaf]
        given = [self.trace.inputs, *self.trace.states.values()]
        self.values = [n for n in (*given, *named) if n.batched]
        self.values += [1 - n for n in named if n.operation == "sigmoid"]
        self.values += [
            self.graph.apply(n.operation, self.trace.states[self.after[n.operands[0].number]])
            for n in named
            if n.operation in ("tanh", "sigmoid") and n.operands[0].number in self.after
        ]
        taken = {value.number for value in self.values}
        factors = [f for site in self.sites for term in site.terms for f in term.factors]
        shares = [f for f in dict.fromkeys(factors) if f.operation == "add" and f.batched]
        self.values += [f for f in shares if f.number not in taken]
        gates = [n for n in named if n.operation == "sigmoid"]
        states = [node for node in self.trace.states.values() if len(node.shape) == 1]
        pairs = [(a, b) for a in gates for b in states if a.shape == b.shape]
        gated = [self.graph.apply("multiply", a, b) for a, b in pairs[:MOST_GATED]]
        self.values += [node for node in gated if node.number not in taken]
        self.vectors = [
            node for name, node in self.trace.parameters.items() if cell.kinds[name].letter == "p"
        ]
        flat = ("parameter", "part")
        self.matrices = [
            n for n in forward if not n.batched and len(n.shape) == 2 and n.operation in flat
        ]
        lets = {site.target.number: site for site in self.sites if site.target.operation == "let"}
        self.lets = lets
        of = {number: site.of for number, site in lets.items()}
        self.slopes = [slope for site in self.sites for slope in slopes_of(site, of)]

    def said(self, node: Node) -> str:
        """A value in words."""
        return self.writer.expression(node)

    def of(self, site: Site) -> str:
        """What a line computes, in words."""
        if site.summed:
            users = [n for n in self.graph.nodes if site.target in n.operands]
            names = [self.writer.names[n.number] for n in users if n.number in self.writer.names]
            return names[0] if names else self.said(site.target)
        return self.said(site.target)

    def _mistake(
        self, fault: str, where: str, *changes: SlotChange, facts: Mapping[str, str] | None = None
    ) -> StepMistake:
        targets = {change.site.target.number for change in changes}
        end = self.backward.inputs
        down = end is not None and targets == {end.number}
        return StepMistake(fault, where, changes, facts or {}, targets <= set(self.ends), down)

    def _operand(self, site: Site, slots: dict[Slot, Node | float], used: str, expected: str,
                 fault: str = "wrong_operand_in_step") -> StepMistake:  # fmt: skip
        of = self.of(site)
        facts = {"of": of, "used": used, "expected": expected}
        where = f"{used} for {expected} in {of}"
        return self._mistake(fault, where, SlotChange(site, slots), facts=facts)

    def _where(self, site: Site, name: str) -> str:
        """A line, with the state that it is about where a cell has several beside the output."""
        words = f", {name}_t for {name}_{{t−1}}" if len(self.ends) > 2 else ""
        return self.of(site) + words

    def _current(self, name: str) -> str:
        """The fault of a state after the step in the place of the one before it."""
        return "current_h_for_previous" if name == self.output else "current_c_for_previous"

    def _now(self, node: Node) -> Node:
        """A state before the step as it is after it; any other value as it is."""
        name = self._before(node)
        return node if name is None else self.trace.after[name]

    def _before(self, node: Node) -> str | None:
        """The state that a node is before the step."""
        return next((n for n, own in self.trace.states.items() if own is node), None)

    def _outer(self, outer: Node, instead: Mapping[int, Node]) -> Node:
        return self.graph.apply("outer", *(instead.get(o.number, o) for o in outer.operands))

    def _part_name(self, whole: Node, k: int) -> str:
        return self.said(parts_of(whole)[k])

    def _is_state(self, node: Node) -> bool:
        return node in self.trace.states.values()
