"""The C source of a cell: forward and backward over all steps, and what is summed over them.

    NAME_forward     from the states before the first step to those after each
    NAME_backward    from δ of the outputs and of the last state to δ within each step
    NAME_sums_K      from these, row by row, what δ of parameters and inputs still need

Arrays come from the caller, in the order of `Function.arrays`. One row is one sequence at one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from throughtime.codegen.places import OWN, CNames, Function, StridedRows, calls, of_input
from throughtime.codegen.plan import LoopPlan, Product, plain, plan, product_of, size
from throughtime.codegen.preamble import FUNCTIONS, preamble
from throughtime.codegen.rows import RowWriter
from throughtime.codegen.sums import Sums
from throughtime.equations import BackwardPass, Dialect, Node, StepProgram, reachable


@dataclass
class Loop:
    """A loop over steps.

    Attributes:
        function: that runs it.
        plan: what it computes.
        columns: names of what it gives for every step, in the cell's order: what the steps kept,
            or δ of the states after them.
        later: for a backward pass, names of the arrays of δ that come from later steps.
        inputs: products with the inputs, which the caller computes for all steps at once, by name.
        before: for a forward pass, the names of the arrays of states, each with the one before the
            first step in front.
        packed: products whose packed matrices are arrays, by these arrays' names.
    """

    function: Function
    plan: LoopPlan
    columns: list[str]
    later: list[str] = field(default_factory=list)
    inputs: dict[str, Product] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    packed: dict[str, Product] = field(default_factory=dict)


@dataclass
class CellSource:
    """The source of a cell.

    Attributes:
        text: the C source.
        forward, backward: the two loops over steps.
        parameters: what is summed over steps for δ of the parameters.
        everything: the same, and δ of the inputs.
    """

    text: str
    forward: Loop
    backward: Loop
    parameters: Sums
    everything: Sums


class SourceWriter:
    """Writes the source of a derived step.

    Args:
        name: of the cell; functions begin with it.
        backward: the derivation.
        program: its phases.
        dtype: float32 or float64.
    """

    def __init__(
        self, name: str, backward: BackwardPass, program: StepProgram, dtype: np.dtype[np.floating]
    ) -> None:
        self.name, self.backward, self.program, self.dtype = name, backward, program, dtype
        self.trace = backward.trace
        single = dtype == np.float32
        real = "float" if single else "double"
        self.dialect = Dialect(real, "f" if single else "", FUNCTIONS, lanes=True)
        self.words = CNames(backward)

    def source(self) -> CellSource:
        """The source, and what its functions take."""
        forward, forward_code = self._forward()
        backward, backward_code = self._backward()
        name, own = self.name, (self.words, self.backward, self.program, self.dialect)
        parameters = Sums(f"{name}_sums", *own, with_inputs=False)
        everything = Sums(f"{name}_all", *own, with_inputs=True)
        about = f"/* {self.name}: compiled from its equations; {self.dialect.real}. */\n"
        parts = [*forward_code, *backward_code, *parameters.code, *everything.code]
        text = "\n\n".join([about + preamble(self.dtype), *parts]) + "\n"
        return CellSource(text, forward, backward, parameters, everything)

    # --- forward ---

    def _forward(self) -> tuple[Loop, list[str]]:
        trace = self.trace
        early = self._of_inputs()
        gives: dict[str, Node] = {}
        for state, node in trace.after.items():
            self.words.wish(gives, node, f"{state}_after")
        states = list(gives)
        for node in self.program.kept:
            self.words.wish(gives, node, f"kept_{len(gives)}")
        kept = list(gives)[len(states) :]
        known = [trace.inputs, *trace.states.values(), *(own.result for own in early)]
        taken = set(gives) | OWN
        own = plan(gives, known, self.words.without(gives), taken)
        used = {node.number for node in own.given}
        inputs = {own.names[p.result.number]: p for p in early if p.result.number in used}
        places: dict[str, StridedRows] = {}
        function = Function(f"{self.name}_forward")
        heads = []
        for node in own.given:
            name = own.names[node.number]
            places[name] = StridedRows(name, size(node), "step")
        befores = {self._name(own, n): s for s, n in trace.states.items()}
        order = [n for n in places if n not in befores]
        for state, wanted in zip(trace.states, states, strict=True):
            node = trace.states[state]
            before = self._name(own, node)
            places[before] = StridedRows(before, size(node), "step")
            places[wanted] = StridedRows(wanted, size(node), "step")
            heads.append(f"    real *const {wanted} = {before} + batch * {size(node)};")
            order.append(before)
        for wanted in kept:
            places[wanted] = StridedRows(wanted, size(gives[wanted]), "step")
            order.append(wanted)
        rows = RowWriter(own, self.dialect, f"{self.name}_forward")
        ended = [
            f"memcpy({wanted} + (at + row) * {n}, {before} + (at + row) * {n}, {n} * sizeof(real));"
            for wanted, before, n in (
                (w, self._name(own, node), size(node))
                for w, node in zip(states, trace.states.values(), strict=True)
            )
        ]
        code = self._loop(function, own, rows, places, order, heads, [], ended, backwards=False)
        arrays = [self._name(own, node) for node in trace.states.values()]
        return Loop(function, own, kept, [], inputs, arrays, self.packed), code

    def _name(self, own: LoopPlan, node: Node) -> str:
        """What a state before the step is called, also where rows do not look at it."""
        return own.names.get(node.number) or self.words.words[node.number]

    def _of_inputs(self) -> list[Product]:
        """Products of a matrix with the inputs, or with a part of them."""
        found = []
        for node in reachable(self.trace.after.values()):
            own = product_of(node)
            if own and of_input(own.vector, self.trace.inputs):
                found.append(own)
        return found

    # --- backward ---

    def _backward(self) -> tuple[Loop, list[str]]:
        backward, trace, program = self.backward, self.trace, self.program
        gives: dict[str, Node] = {}
        frontier = []
        for k, node in enumerate(program.frontier):
            self.words.wish(gives, node, f"d{k + 1}")
            frontier.append(list(gives)[-1])
        after = []
        for state, node in program.after.items():
            self.words.wish(gives, node, f"d{state}_here")
            after.append(list(gives)[-1])
        before = []
        for state, node in backward.deltas.items():
            self.words.wish(gives, node, f"d{state}_to_earlier")
            before.append(list(gives)[-1])
        arriving = list(backward.arriving.values())
        known = [*trace.states.values(), *program.kept, *arriving]
        own = plan(gives, known, self.words.without(gives), set(gives) | OWN)
        places: dict[str, StridedRows] = {}
        function = Function(f"{self.name}_backward")
        heads: list[str] = []
        order: list[str] = []
        numbers = {node.number for node in arriving}
        for node in own.given:
            name = own.names[node.number]
            if node.number not in numbers:
                places[name] = StridedRows(name, size(node), "step")
                order.append(name)
        width, start = sum(size(node) for node in program.frontier), 0
        for wanted, node in zip(frontier, program.frontier, strict=True):
            places[wanted] = StridedRows("frontier", width, "step", start)
            start += size(node)
        order += ["frontier"] * bool(frontier)
        for wanted, node in zip(after, program.after.values(), strict=True):
            places[wanted] = StridedRows(wanted, size(node), "step")
            order.append(wanted)
        later = []  # δ of the states after a step, for the sequences of this call
        for state, node in backward.arriving.items():
            name = f"later_{state}"
            while name in places or name in own.names.values():
                name += "_"
            later.append(name)
            order.append(f"{name}_all")
            heads.append(f"    real *const {name} = {name}_all + first * {size(node)};")
        order.append("doutputs")
        output = arriving[0]
        self.buffers: list[tuple[str, int]] = []
        begin: list[str] = []
        for name, node in zip(later, arriving, strict=True):
            word = own.names.get(node.number) or self.words.words.get(node.number, name)
            if node is output:
                n = size(node)
                self.buffers.append((word, n))
                places[word] = StridedRows(word, n, "row")
                sums = f"{name}[row * {n} + i] + doutputs[(at + row) * {n} + i]"
                begin += [
                    "for (long row = 0; row < rows; row++)",
                    f"    for (int i = 0; i < {n}; i++)",
                    f"        {word}[row * {n} + i] = doutputs ? {sums}",
                    f"{' ' * (22 + len(str(n)))}: {name}[row * {n} + i];",
                ]
            else:
                places[word] = StridedRows(name, size(node), "row")
        for wanted, node in zip(before, arriving, strict=True):
            self.buffers.append((wanted, size(node)))
            places[wanted] = StridedRows(wanted, size(node), "row")
        rows = RowWriter(own, self.dialect, f"{self.name}_backward")
        copies = [
            f"memcpy({name} + row * {n}, {wanted} + row * {n}, {n} * sizeof(real));"
            for name, wanted, n in zip(later, before, map(size, arriving), strict=True)
        ]
        ended = []
        if frontier:
            ended.append(f"memset(frontier + (at + row) * {width}, 0, {width} * sizeof(real));")
        for wanted, node in zip(after, program.after.values(), strict=True):
            n = size(node)
            ended.append(f"memset({wanted} + (at + row) * {n}, 0, {n} * sizeof(real));")
        code = self._loop(
            function, own, rows, places, order, heads, begin, ended, backwards=True, copies=copies
        )
        return Loop(function, own, after, [f"{n}_all" for n in later], packed=self.packed), code

    # --- the loop over steps ---

    def _loop(
        self,
        function: Function,
        own: LoopPlan,
        rows: RowWriter,
        places: dict[str, StridedRows],
        order: list[str],
        heads: list[str],
        begin: list[str],
        ended: list[str],
        *,
        backwards: bool,
        copies: Sequence[str] = (),
    ) -> list[str]:
        functions = rows.functions()
        for value in own.shared:
            name = own.names[value.number]
            places[name] = StridedRows(name, 0, "")
            order.append(name)
        panels: dict[tuple[int, bool], str] = {}
        self.packed: dict[str, Product] = {}
        for stage in own.stages:
            for product in stage.products:
                matrix, key = product.matrix, (product.matrix.number, product.turned)
                if key not in panels:
                    turned = matrix.operation == "transpose"
                    own_matrix = plain(matrix.operands[0]) if turned else matrix
                    word = self.words.words.get(own_matrix.number, "matrix")
                    # panels hold what is multiplied from the right: the transposed of W in W x
                    name = f"packed_{word}" + "_T" * (turned == product.turned)
                    while name in panels.values() or name in places or name in own.names.values():
                        name += "_"
                    panels[key] = name
                    self.packed[name] = product
                    order.append(name)
        buffers = list(self.buffers) if backwards else []
        for number in sorted(own.crossing):
            name = own.names[number]
            if name not in places:
                width = size(self.trace.graph.nodes[number])
                buffers.append((name, width))
                places[name] = StridedRows(name, width, "row")
        for name, numbers in rows.large.items():
            places[name] = StridedRows(name, numbers, "")
        offset = 0
        lines = []
        for k, name in enumerate(order):
            lines.append(f"    real *const {name} = arrays[{k}];")
        lines += heads
        for name, n in buffers:
            lines.append(f"    real *const {name} = work + rows * {offset};")
            offset += n
        fixed = 0
        for name, n in rows.large.items():
            lines.append(f"    real *const {name} = work + rows * {offset} + {fixed};")
            fixed += n
        function.arrays, function.work = order, (offset, fixed)
        count = (
            "long step = steps - 1; step >= 0; step--"
            if backwards
            else "long step = 0; step < steps; step++"
        )
        inner = [*begin]
        for stage, row in zip(own.stages, functions, strict=True):
            for product in stage.products:
                inner += self._multiply(
                    own, places, product, panels[product.matrix.number, product.turned]
                )
            inner += calls(row, places)
        inner += self._after(ended, copies)
        body = "\n".join(
            [
                f"void {function.name}(long steps, long batch, long first, long last,",
                "        const unsigned char *active, real *const *arrays, real *work) {",
                "    const long rows = last - first;",
                *lines,
                f"    for ({count}) {{",
                "        const long at = step * batch + first;",
                *(f"        {line}" for line in inner),
                "    }",
                "}",
            ]
        )
        return [*(row.code for row in functions if row.name), body]

    def _multiply(
        self, own: LoopPlan, places: dict[str, StridedRows], product: Product, panels: str
    ) -> list[str]:
        vector = places[own.names[product.vector.number]]
        result = places[own.names[product.result.number]]
        k, n = size(product.vector), size(product.result)
        return [
            f"tt_multiply(rows, {k}, {n}, {vector.begin()}, {vector.stride}, {panels},",
            f"            {result.begin()}, {result.stride});",
        ]

    def _after(self, ended: Sequence[str], copies: Sequence[str]) -> list[str]:
        """What sequences that have ended do instead."""
        lines = ["for (long row = 0; row < rows; row++) {"]
        lines.append("    if (active && !active[at + row]) {")
        lines += [f"        {line}" for line in ended]
        if copies:
            lines.append("    } else {")
            lines += [f"        {line}" for line in copies]
        return [*lines, "    }", "}"]
