"""A loop over steps in C: arrays it is given, buffers of its own, and what it does in each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from throughtime.codegen.places import CNames, Function, StridedRows, calls
from throughtime.codegen.plan import LoopPlan, Product, plain, size
from throughtime.codegen.rows import RowWriter
from throughtime.equations import Dialect, Node


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


class LoopWriter:
    """Writes a loop over steps. `ForwardWriter` and `BackwardWriter` say what lies where in it.

    Args:
        name: of the function.
        words: what values are called.
        plan: what a step computes.
        dialect: how it is written.
    """

    order = "long step = 0; step < steps; step++"

    def __init__(self, name: str, words: CNames, plan: LoopPlan, dialect: Dialect) -> None:
        self.words, self.plan = words, plan
        self.function = Function(name)
        self.rows = RowWriter(plan, dialect, name)
        self.places: dict[str, StridedRows] = {}
        self.packed: dict[str, Product] = {}
        self._arrays = self.function.arrays
        self._pointers: list[str] = []
        self._buffers: list[tuple[str, int]] = []  # with a row for each sequence of this call
        # What a step does before its stages, for sequences that have ended, and for the others.
        self._begin: list[str] = []
        self._ended: list[str] = []
        self._going_on: list[str] = []

    # --- what lies where ---

    def _array(self, name: str, node: Node) -> None:
        """An array of the caller's, with a row for each sequence at each step."""
        self.places[name] = StridedRows(name, size(node), "step")
        self._arrays.append(name)

    def _buffer(self, name: str, node: Node) -> None:
        """An array in the workspace, with a row for each sequence of this call."""
        self.places[name] = StridedRows(name, size(node), "row")
        self._buffers.append((name, size(node)))

    def _name(self, node: Node) -> str:
        """What a state before the step is called, also where rows do not look at it."""
        return self.plan.names.get(node.number) or self.words.words[node.number]

    def _is_taken(self, name: str) -> bool:
        return name in self.places or name in self.plan.names.values()

    def _share(self) -> None:
        """Arrays that all rows share: what parameters alone determine, and packed matrices."""
        for value in self.plan.shared:
            name = self.plan.names[value.number]
            self.places[name] = StridedRows(name, 0, "")
            self._arrays.append(name)
        for stage in self.plan.stages:
            for product in stage.products:
                if not self._panels_of(product):
                    self._pack(product)

    def _pack(self, product: Product) -> None:
        """An array for packed panels, which hold what is multiplied from the right: Wᵀ in W x."""
        matrix = product.matrix
        transposed = matrix.operation == "transpose"
        stored = plain(matrix.operands[0]) if transposed else matrix
        name = f"packed_{self.words.words.get(stored.number, 'matrix')}"
        name += "_T" * (transposed == product.turned)
        while name in self.packed or self._is_taken(name):
            name += "_"
        self.packed[name] = product
        self._arrays.append(name)

    def _panels_of(self, product: Product) -> str:
        """The array with the packed matrix of a product; "" where there is none yet."""
        for name, own in self.packed.items():
            if own.matrix is product.matrix and own.turned == product.turned:
                return name
        return ""

    # --- the function ---

    def code(self) -> list[str]:
        """The functions of its rows, and the loop that calls them."""
        functions = self.rows.functions()
        self._share()
        nodes = next(iter(self.plan.gives.values())).graph.nodes
        for number in sorted(self.plan.crossing):
            if self.plan.names[number] not in self.places:
                self._buffer(self.plan.names[number], nodes[number])
        workspace = self._workspace()
        body = list(self._begin)
        for stage, row in zip(self.plan.stages, functions, strict=True):
            for product in stage.products:
                body += self._multiply(product)
            body += calls(row, self.places)
        body += self._after_rows()
        lines = [
            f"void {self.function.name}(long steps, long batch, long first, long last,",
            "        const unsigned char *active, real *const *arrays, real *work) {",
            "    const long rows = last - first;",
            *(f"    real *const {name} = arrays[{k}];" for k, name in enumerate(self._arrays)),
            *(f"    {line}" for line in (*self._pointers, *workspace)),
            f"    for ({self.order}) {{",
            "        const long at = step * batch + first;",
            *(f"        {line}" for line in body),
            "    }",
            "}",
        ]
        return [*(row.code for row in functions if row.name), "\n".join(lines)]

    def _workspace(self) -> list[str]:
        """Pointers into the workspace: buffers, and arrays too large for a thread's stack."""
        lines = []
        each, more = 0, 0
        for name, numbers in self._buffers:
            lines.append(f"real *const {name} = work + rows * {each};")
            each += numbers
        for name, numbers in self.rows.large.items():
            self.places[name] = StridedRows(name, numbers, "")
            lines.append(f"real *const {name} = work + rows * {each} + {more};")
            more += numbers
        self.function.work = each, more
        return lines

    def _multiply(self, product: Product) -> list[str]:
        vector = self.places[self.plan.names[product.vector.number]]
        result = self.places[self.plan.names[product.result.number]]
        k, n = size(product.vector), size(product.result)
        panels = self._panels_of(product)
        return [
            f"tt_multiply(rows, {k}, {n}, {vector.begin()}, {vector.stride}, {panels},",
            f"            {result.begin()}, {result.stride});",
        ]

    def _after_rows(self) -> Sequence[str]:
        """What is done at the end of a step, by sequences that have ended and by the others."""
        lines = ["for (long row = 0; row < rows; row++) {"]
        lines.append("    if (active && !active[at + row]) {")
        lines += [f"        {line}" for line in self._ended]
        if self._going_on:
            lines.append("    } else {")
            lines += [f"        {line}" for line in self._going_on]
        return [*lines, "    }", "}"]
