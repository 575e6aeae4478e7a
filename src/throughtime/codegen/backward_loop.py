"""The backward pass as a loop over steps in C, from δ of the outputs and of the last state."""

from __future__ import annotations

from throughtime.codegen.loop import Loop, LoopWriter
from throughtime.codegen.places import OWN, StridedRows, WrittenStep
from throughtime.codegen.plan import plan, size
from throughtime.equations import Node


class BackwardWriter(LoopWriter):
    """Writes the backward pass of a step."""

    order = "long step = steps - 1; step >= 0; step--"

    def __init__(self, step: WrittenStep) -> None:
        words, backward = step.words, step.backward
        self.program, self.arriving = step.program, backward.arriving
        program = self.program
        gives: dict[str, Node] = {}
        self.frontier = [words.wish(gives, n, f"d{k}") for k, n in enumerate(program.frontier, 1)]
        self.after = [words.wish(gives, n, f"d{s}_here") for s, n in program.after.items()]
        self.before = [words.wish(gives, n, f"d{s}_to_earlier") for s, n in backward.deltas.items()]
        known = [*backward.trace.states.values(), *program.kept, *self.arriving.values()]
        own = plan(gives, known, words.without(gives), set(gives) | OWN)
        super().__init__(f"{step.name}_backward", words, own, step.dialect)

    def loop(self) -> tuple[Loop, list[str]]:
        """The loop, and its source."""
        arriving = {node.number for node in self.arriving.values()}
        for node in self.plan.given:
            if node.number not in arriving:
                self._array(self.plan.names[node.number], node)
        self._keep_frontier()
        for name, node in zip(self.after, self.program.after.values(), strict=True):
            self._array(name, node)
            self._ended.append(_zeros(name, size(node)))
        later = [self._later(state, node) for state, node in self.arriving.items()]
        self._arrays.append("doutputs")
        self._arrive(later)
        for wanted, node, name in zip(self.before, self.arriving.values(), later, strict=True):
            n = size(node)
            self._buffer(wanted, node)
            copied = f"memcpy({name} + row * {n}, {wanted} + row * {n}, {n} * sizeof(real));"
            self._going_on.append(copied)
        code, arrays = self.code(), [f"{name}_all" for name in later]
        return Loop(self.function, self.plan, self.after, arrays, packed=self.packed), code

    def _keep_frontier(self) -> None:
        """The δ from which all sums follow lie side by side in one array."""
        width, start = sum(map(size, self.program.frontier)), 0
        for name, node in zip(self.frontier, self.program.frontier, strict=True):
            self.places[name] = StridedRows("frontier", width, "step", start)
            start += size(node)
        if self.frontier:
            self._arrays.append("frontier")
            self._ended.append(_zeros("frontier", width))

    def _later(self, state: str, node: Node) -> str:
        """δ of a state from later steps, for the sequences of this call."""
        name = f"later_{state}"
        while self._is_taken(name):
            name += "_"
        self._arrays.append(f"{name}_all")
        self._pointers.append(f"real *const {name} = {name}_all + first * {size(node)};")
        return name

    def _arrive(self, later: list[str]) -> None:
        """δ that arrive at a step: from later steps; at the output, which comes first, δy too."""
        (output, first), *others = zip(later, self.arriving.values(), strict=True)
        word, n = self._word(output, first), size(first)
        self._buffer(word, first)
        self._begin += [
            "for (long row = 0; row < rows; row++)",
            f"    for (int i = 0; i < {n}; i++)",
            f"        {word}[row * {n} + i] = doutputs ? "
            f"{output}[row * {n} + i] + doutputs[(at + row) * {n} + i]",
            f"{' ' * (22 + len(str(n)))}: {output}[row * {n} + i];",
        ]
        for name, node in others:
            self.places[self._word(name, node)] = StridedRows(name, size(node), "row")

    def _word(self, name: str, node: Node) -> str:
        """What rows call a δ that arrives."""
        return self.plan.names.get(node.number) or self.words.words.get(node.number, name)


def _zeros(name: str, n: int) -> str:
    return f"memset({name} + (at + row) * {n}, 0, {n} * sizeof(real));"
