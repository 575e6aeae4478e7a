"""Functions of single rows for what is summed over steps: δ of parameters, and δ of inputs.

The caller multiplies by matrices between them, and sums what is an outer product over all rows.
"""

from __future__ import annotations

from throughtime.codegen.places import (
    OWN,
    CNames,
    Function,
    StridedRows,
    WrittenStep,
    calls,
    of_input,
    stride_of,
)
from throughtime.codegen.plan import LoopPlan, plain, plan, size
from throughtime.codegen.rows import RowFunction, RowWriter
from throughtime.equations import BackwardPass, Node, StepProgram


class Sums:
    """The functions of single rows for δ of parameters and inputs.

    Attributes:
        outer: sums over steps of a bᵀ, by number: a and b.
        added: sums over steps of other values, by number: the array that a row adds to.
        plan: what the functions compute.
        functions: one for each stage of the plan.
        code: their source.
    """

    def __init__(self, name: str, step: WrittenStep, *, with_inputs: bool) -> None:
        words, backward, program = step.words, step.backward, step.program
        trace = backward.trace
        self._inputs = trace.inputs
        known = [trace.inputs, *trace.states.values(), *program.kept, *program.frontier]
        self._known = {plain(node).number for node in known}
        self.outer: dict[int, tuple[Node, Node]] = {}
        self.added: dict[int, str] = {}
        gives: dict[str, Node] = {}
        for node in _totals(backward):
            self._want(gives, node, words)
        dinputs = None if backward.inputs is None else plain(backward.inputs)
        if with_inputs and dinputs is not None and dinputs.number not in self._known:
            words.wish(gives, dinputs, "dinputs")
        sums = set(self.added.values())
        self.plan: LoopPlan = plan(gives, known, words.without(gives), set(gives) | OWN, sums)
        self.functions: list[Function] = []
        self.code: list[str] = []
        rows = RowWriter(self.plan, step.dialect, name, frozenset(sums))
        strides = self._strides(program)
        for k, row in enumerate(rows.functions()):
            self._write(f"{name}_{k + 1}_rows", row, strides, rows.large)

    def _want(self, gives: dict[str, Node], total: Node, words: CNames) -> None:
        """Wants what a sum over steps is a sum of: the factors of an outer product, or a value."""
        inner = plain(total.operands[0])
        if inner.operation == "outer":
            a, b = map(plain, inner.operands)
            if a.batched and b.batched:
                self.outer[total.number] = a, b
                for factor in (a, b):
                    if not self._is_there(gives, factor):
                        words.wish(gives, factor, f"d{len(gives)}")
                return
        wanted = words.words.get(total.number, f"sum_{len(self.added) + 1}")
        while wanted in gives or wanted in OWN:
            wanted += "_"
        self.added[total.number] = wanted
        gives[wanted] = inner

    def _is_there(self, gives: dict[str, Node], node: Node) -> bool:
        """Whether the caller has a value, or is given it already."""
        if node.number in self._known or of_input(node, self._inputs):
            return True
        sums = self.added.values()
        return any(own is node for wanted, own in gives.items() if wanted not in sums)

    def _strides(self, program: StepProgram) -> dict[str, int]:
        """How far the rows of an array are apart, for those that have a row for each step."""
        own, sums = self.plan, self.added.values()
        computed = [node for stage in own.stages for node in stage.values]
        computed += [product.result for stage in own.stages for product in stage.products]
        strides = {own.names[node.number]: size(node) for node in computed}
        strides |= {wanted: size(n) for wanted, n in own.gives.items() if wanted not in sums}
        return strides | {own.names[n.number]: stride_of(n, program.frontier) for n in own.given}

    def _write(
        self, name: str, row: RowFunction, strides: dict[str, int], large: dict[str, int]
    ) -> None:
        """Writes a function that calls `row` for all rows; `large` arrays are in the workspace."""
        if not row.name:
            self.functions.append(Function(""))
            return
        arrays = [array for array in (*row.reads, *row.writes) if array not in large]
        pointers = [f"real *const {array} = arrays[{k}];" for k, array in enumerate(arrays)]
        alike = {self.plan.names[node.number] for node in self.plan.shared}  # for all rows
        alike |= {*self.added.values(), *large}
        places = {
            array: StridedRows(array, 0, "")
            if array in alike
            else StridedRows(array, strides[array], "step")
            for array in (*arrays, *large)
        }
        work = 0
        for array, numbers in large.items():
            pointers.append(f"real *const {array} = work + {work};")
            work += numbers
        lines = ["const long at = 0;", *pointers, *calls(row, places)]
        head = f"void {name}(long rows, real *const *arrays, real *work) {{"
        self.functions.append(Function(name, arrays, (0, work)))
        self.code += [row.code, "\n".join([head, *(f"    {line}" for line in lines), "}"])]


def _totals(backward: BackwardPass) -> list[Node]:
    """The sums over steps that δ of the parameters are made of."""
    found: dict[int, Node] = {}
    waiting, seen = list(backward.parameters.values()), set[int]()
    while waiting:
        node = plain(waiting.pop())
        if node.number not in seen:
            seen.add(node.number)
            if node.operation == "total":
                found[node.number] = node
            else:
                waiting += node.operands
    return [found[number] for number in sorted(found)]
