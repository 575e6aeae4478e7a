"""A derived step as C: one step forward, and one step backward, of one sequence.

Arrays are rows of doubles in C order. What is computed element by element stands in one loop;
products with matrices and sums over units have loops of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from throughtime.arrays import Shape
from throughtime.equations.backward import BackwardPass
from throughtime.equations.c_statements import Statements
from throughtime.equations.printing import NUMPY, Writer, kept_names

FUNCTIONS = {
    "sigmoid": "static double sigmoid(double x) { return 1 / (1 + exp(-x)); }",
    "relu": "static double relu(double x) { return x > 0 ? x : 0; }",
    "softplus": "static double softplus(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }",
    "stop_gradient": "static double stop_gradient(double x) { return x; }",
    "sign": "static double sign(double x) { return (x > 0) - (x < 0); }",
}
# Words that C, or a function above, has a meaning for.
MEANT = {
    *("auto", "break", "case", "char", "const", "do", "double", "else", "enum", "float", "for"),
    *("goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed"),
    *("sizeof", "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile"),
    *("while", "pow", "fmax", "fmin", "fabs", "log1p", "expm1", "atan"),
    *("exp", "log", "sin", "cos", "tanh", "sqrt", "sigmoid", "relu", "softplus", "sign"),
}


def _safe(name: str) -> str:
    """A name that C does not have a meaning for."""
    return f"{name}_" if name in MEANT else name


C = replace(
    NUMPY, made=_safe, delta=lambda name: _safe(f"d{name}"), reserved=frozenset({"stop_gradient"})
)


def as_c(backward: BackwardPass, name: str) -> str:
    """The derivation as two C functions.

    `gradient` arrays are added to, so that the steps of a sequence sum up in them.
    """
    return _Functions(backward, name).text()


class _Functions:
    def __init__(self, backward: BackwardPass, name: str) -> None:
        self.backward, self.name, self.writer = backward, name, Writer(backward, C)

    def text(self) -> str:
        forward, back = self._forward(), self._backward()
        code = "\n\n".join([forward, back])
        helpers = [text for word, text in FUNCTIONS.items() if f"{word}(" in code]
        return "\n".join(["#include <math.h>", "", *helpers, "" * bool(helpers), code, ""])

    def _forward(self) -> str:
        trace, names = self.backward.trace, self.writer.names
        kept = kept_names(self.backward, self.writer)
        outputs = [
            f"{s}_after" if n.leaf or n.number not in names else names[n.number]
            for s, n in trace.after.items()
        ]
        given = [names[n.number] for n in (trace.inputs, *trace.states.values())]
        given += [names[n.number] for n in trace.parameters.values()]
        results = list(dict.fromkeys([*outputs, *kept.values()]))
        body = Statements(names, outside={*given, *results})
        for written in self.writer.forward():
            for node in self.writer.parts(written.node):
                body.assign(names[node.number], node)
        for state, node in trace.after.items():
            if node.number not in names or node.leaf:
                body.assign(f"{state}_after", node, named=True)
        arguments = [f"const double *{n}" for n in given] + [f"double *{n}" for n in results]
        sizes = {names[n.number]: n.shape for n in (trace.inputs, *trace.states.values())}
        sizes |= {names[node.number]: node.shape for node in trace.parameters.values()}
        shapes = ", ".join(f"{n} {_sizes(s)}" for n, s in sizes.items())
        return _function(f"{self.name}_step", arguments, body.lines, f"One step forward; {shapes}.")

    def _backward(self) -> str:
        backward, names, trace = self.backward, self.writer.names, self.backward.trace
        kept = kept_names(backward, self.writer)
        arriving = [names[n.number] for n in backward.arriving.values()]
        given = [*arriving, *(names[n.number] for n in (trace.inputs, *trace.states.values()))]
        given = list(
            dict.fromkeys(
                [*given, *kept.values(), *(names[n.number] for n in trace.parameters.values())]
            )
        )
        of_given = self.writer.of_given
        ends = {of_given[n.number]: backward.deltas[s] for s, n in trace.states.items()}
        if backward.inputs is not None:
            ends[of_given[trace.inputs.number]] = backward.inputs
        gradients = [of_given[n.number] for n in trace.parameters.values()]
        body = Statements(names, outside={*given, *ends, *gradients})
        for line in self.writer.lines():
            summed = line.of is not None and line.of.operation == "parameter"
            node = line.node.operands[0] if line.of is not None else line.node
            body.assign(line.left, node, add=summed, remark=line.remark)
        written = {line.left for line in self.writer.lines()}
        for end, node in ends.items():
            if end not in written:
                body.assign(end, node, named=True)
        arguments = [f"const double *{n}" for n in given]
        arguments += [f"double *{n}" for n in (*ends, *gradients)]
        about = f"One step backward; {', '.join(gradients)} are added to."
        return _function(f"{self.name}_step_backward", arguments, body.lines, about)


def _function(name: str, arguments: Sequence[str], lines: Sequence[str], about: str) -> str:
    head, rows = f"void {name}(", [""]
    for k, argument in enumerate(arguments):
        word = argument + (", " if k + 1 < len(arguments) else ") {")
        if len(rows[-1]) + len(word) > 92:
            rows.append("")
        rows[-1] += word
    return "\n".join(
        [f"/* {about} */", head, *(f"        {row.rstrip()}" for row in rows), *lines, "}"]
    )


def _sizes(shape: Shape) -> str:
    return " × ".join(map(str, shape)) or "1"
