"""The forward pass as a loop over steps in C, from the states before the first step."""

from __future__ import annotations

from throughtime.codegen.loop import Loop, LoopWriter
from throughtime.codegen.places import OWN, StridedRows, WrittenStep, of_input
from throughtime.codegen.plan import Product, plan, product_of, size
from throughtime.equations import Node, reachable


class ForwardWriter(LoopWriter):
    """Writes the forward pass of a step."""

    def __init__(self, step: WrittenStep) -> None:
        words = step.words
        self.trace = trace = step.backward.trace
        self.products = self._of_inputs()
        gives: dict[str, Node] = {}
        self.after = [words.wish(gives, n, f"{state}_after") for state, n in trace.after.items()]
        self.kept = [words.wish(gives, node, f"kept_{len(gives)}") for node in step.program.kept]
        known = [trace.inputs, *trace.states.values(), *(own.result for own in self.products)]
        own = plan(gives, known, words.without(gives), set(gives) | OWN)
        super().__init__(f"{step.name}_forward", words, own, step.dialect)

    def loop(self) -> tuple[Loop, list[str]]:
        """The loop, and its source."""
        states = {self._name(node): node for node in self.trace.states.values()}
        for node in self.plan.given:
            if self.plan.names[node.number] not in states:
                self._array(self.plan.names[node.number], node)
        for (before, node), after in zip(states.items(), self.after, strict=True):
            self._state(before, after, node)
        for name in self.kept:
            self._array(name, self.plan.gives[name])
        names, given = self.plan.names, {node.number for node in self.plan.given}
        early = {names[p.result.number]: p for p in self.products if p.result.number in given}
        code = self.code()
        packed = self.packed
        return Loop(self.function, self.plan, self.kept, [], early, [*states], packed), code

    def _state(self, before: str, after: str, node: Node) -> None:
        """A state of all steps in one array: the one after a step is the one before the next."""
        n = size(node)
        self._array(before, node)
        self.places[after] = StridedRows(after, n, "step")
        self._pointers.append(f"real *const {after} = {before} + batch * {n};")
        row = f"(at + row) * {n}"
        self._ended.append(f"memcpy({after} + {row}, {before} + {row}, {n} * sizeof(real));")

    def _of_inputs(self) -> list[Product]:
        """Products of a matrix with the inputs, or with a part of them."""
        found = []
        for node in reachable(self.trace.after.values()):
            own = product_of(node)
            if own and of_input(own.vector, self.trace.inputs):
                found.append(own)
        return found
