"""Functions of single rows for what is summed over steps: δ of parameters, and δ of inputs.

The caller multiplies by matrices between them, and sums what is an outer product over all rows.
"""

from __future__ import annotations

from throughtime.codegen.places import (
    OWN,
    CNames,
    Function,
    StridedRows,
    calls,
    of_input,
    stride_of,
)
from throughtime.codegen.plan import plain, plan, size
from throughtime.codegen.rows import RowWriter
from throughtime.equations import BackwardPass, Dialect, Node, StepProgram


class Sums:
    """The functions of single rows for δ of parameters and inputs.

    Attributes:
        outer: sums over steps of a bᵀ, by number: a and b.
        added: sums over steps of other values, by number: the array that a row adds to.
    """

    def __init__(
        self,
        name: str,
        words: CNames,
        backward: BackwardPass,
        program: StepProgram,
        dialect: Dialect,
        *,
        with_inputs: bool,
    ) -> None:
        trace = backward.trace
        known = [trace.inputs, *trace.states.values(), *program.kept, *program.frontier]
        numbers = {plain(node).number for node in known}
        totals = _totals(backward)
        self.outer: dict[int, tuple[Node, Node]] = {}
        self.added: dict[int, str] = {}
        gives: dict[str, Node] = {}
        sums: set[str] = set()
        for node in totals:
            inner = plain(node.operands[0])
            if inner.operation == "outer":
                a, b = map(plain, inner.operands)
                if a.batched and b.batched:
                    self.outer[node.number] = a, b
                    for side in (a, b):
                        stored = [n for w, n in gives.items() if w not in sums]
                        there = side.number in numbers or any(n is side for n in stored)
                        if not there and not of_input(side, trace.inputs):
                            words.wish(gives, side, f"d{len(gives)}")
                    continue
            wanted = words.words.get(node.number, f"sum_{len(sums) + 1}")
            while wanted in gives or wanted in OWN:
                wanted += "_"
            self.added[node.number] = wanted
            gives[wanted] = inner
            sums.add(wanted)
        dinputs = None if backward.inputs is None else plain(backward.inputs)
        if with_inputs and dinputs is not None and dinputs.number not in numbers:
            words.wish(gives, dinputs, "dinputs")
        self.plan = own = plan(gives, known, words.without(gives), set(gives) | OWN, sums)
        rows = RowWriter(own, dialect, name, frozenset(sums))
        self.code: list[str] = []
        self.functions: list[Function] = []
        for k, row in enumerate(rows.functions()):
            called = f"{name}_{k + 1}_rows"
            if not row.name:
                self.functions.append(Function(""))
                continue
            order = [*row.reads, *row.writes]
            order = [own_name for own_name in order if own_name not in rows.large]
            places = {}
            wide = {own.names[n.number]: size(n) for n in own.given}
            wide |= {
                own.names[p.result.number]: size(p.result) for s in own.stages for p in s.products
            }
            wide |= {own.names[n.number]: size(n) for s in own.stages for n in s.values}
            wide |= {wanted: size(n) for wanted, n in gives.items() if wanted not in sums}
            shared = {own.names[n.number] for n in own.shared}
            lines = []
            given = {own.names[n.number]: n for n in own.given}
            for at, own_name in enumerate(order):
                each = "" if own_name in shared or own_name in sums else "step"
                stride = wide.get(own_name, 0)
                if own_name in given:
                    stride = stride_of(given[own_name], program.frontier)
                places[own_name] = StridedRows(own_name, stride, each)
                lines.append(f"    real *const {own_name} = arrays[{at}];")
            fixed = 0
            for own_name, n in rows.large.items():
                places[own_name] = StridedRows(own_name, n, "")
                lines.append(f"    real *const {own_name} = work + {fixed};")
                fixed += n
            inner_lines = calls(row, places)
            self.functions.append(Function(called, order, (0, fixed)))
            self.code.append(row.code)
            self.code.append(
                "\n".join(
                    [
                        f"void {called}(long rows, real *const *arrays, real *work) {{",
                        "    const long at = 0;",
                        *lines,
                        *(f"    {line}" for line in inner_lines),
                        "}",
                    ]
                )
            )


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
