"""A derived step as C: one step forward, and one step backward, of one sequence.

Arrays are rows of doubles in C order. What is computed element by element stands in one loop;
products with matrices and sums over units have loops of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from throughtime.arrays import Shape
from throughtime.equations.backward import BackwardPass
from throughtime.equations.c_statements import PLAIN, Dialect, Statements
from throughtime.equations.graph import Node
from throughtime.equations.printing import NUMPY, Writer, kept_names

FUNCTIONS = {
    "sigmoid": "static double sigmoid(double x) { return 1 / (1 + exp(-x)); }",
    "relu": "static double relu(double x) { return x > 0 ? x : 0; }",
    "softplus": "static double softplus(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }",
    "stop_gradient": "static double stop_gradient(double x) { return x; }",
    "sign": "static double sign(double x) { return (x > 0) - (x < 0); }",
}
# In single precision math.h has functions of their own, and whole numbers need no suffix.
SINGLE = Dialect(
    "float",
    "f",
    {
        **{word: f"{word}f" for word in ("tanh", "exp", "log", "log1p", "expm1", "sqrt", "pow")},
        "sin": "sinf",
        "cos": "cosf",
        "arctan": "atanf",
        "absolute": "fabsf",
        "maximum": "fmaxf",
        "minimum": "fminf",
    },
)
OF_MATH = re.compile(r"\b(fmax|log1p|exp|fabs)\(")


def helpers(code: str, dialect: Dialect = PLAIN) -> list[str]:
    """The functions that code needs and math.h does not have."""
    found = [text for word, text in FUNCTIONS.items() if f"{word}(" in code]
    if dialect.suffix:
        found = [OF_MATH.sub(r"\1f(", text).replace("double", dialect.real) for text in found]
    return found


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


C_STYLE = replace(
    NUMPY, made=_safe, delta=lambda name: _safe(f"d{name}"), reserved=frozenset({"stop_gradient"})
)


def as_c(backward: BackwardPass, name: str) -> str:
    """The derivation as two C functions.

    `gradient` arrays are added to, so that the steps of a sequence sum up in them.
    """
    step = StepInC(backward, name)
    code = "\n\n".join([step.forward, step.backward])
    own = helpers(code)
    return "\n".join(["#include <math.h>", "", *own, "" * bool(own), code, ""])


class StepInC:
    """One step forward, and one step backward, as C functions of one sequence.

    Args:
        backward: the derivation.
        name: of the cell; the functions are `NAME_step` and `NAME_step_backward`.
        dialect: in which precision.
        static: whether they are for their own file alone, and say what they do not use.

    Attributes:
        forward, backward: their source.
        inputs: the name of the input.
        before, after: the names of the states, by state.
        parameters: the names of the parameters, by parameter.
        kept: what a step keeps besides states, by name.
        arriving, earlier: the names of δ of the states after and before a step, by state.
        gradients: the names of δ of the parameters, by parameter.
        dinputs: the name of δ of the input; "" where it has none.
        forward_arguments, backward_arguments: names, in order.
    """

    def __init__(
        self, backward: BackwardPass, name: str, dialect: Dialect = PLAIN, *, static: bool = False
    ) -> None:
        self.derivation, self.name, self.dialect = backward, name, dialect
        self.static = static
        self.writer = writer = Writer(backward, C_STYLE)
        trace, names = backward.trace, writer.names
        if static:  # a part of a parameter is read where it stands, and no step keeps it
            for node in trace.graph.nodes:
                if not node.batched and not node.leaf and _arranged(node):
                    names.pop(node.number, None)
        self.inputs = names[trace.inputs.number]
        self.before = {s: names[n.number] for s, n in trace.states.items()}
        self.after = {
            s: f"{s}_after" if n.leaf or n.number not in names else names[n.number]
            for s, n in trace.after.items()
        }
        self.parameters = {p: names[n.number] for p, n in trace.parameters.items()}
        self._all_kept = kept_names(backward, writer)
        nodes = trace.graph.nodes
        states = set(self.after.values())
        self.kept: dict[str, Shape] = {
            word: nodes[k].shape for k, word in self._all_kept.items() if word not in states
        }
        self.arriving = {s: names[n.number] for s, n in backward.arriving.items()}
        self.earlier = {s: writer.of_given[n.number] for s, n in trace.states.items()}
        self.gradients = {p: writer.of_given[n.number] for p, n in trace.parameters.items()}
        self.dinputs = "" if backward.inputs is None else writer.of_given[trace.inputs.number]
        self.forward = self._forward()
        self.backward = self._backward()

    def _forward(self) -> str:
        trace, names = self.derivation.trace, self.writer.names
        given = [self.inputs, *self.before.values(), *self.parameters.values()]
        results = list(dict.fromkeys([*self.after.values(), *self._all_kept.values()]))
        self.forward_arguments = [*given, *results]
        body = Statements(names, {*given, *results}, self.dialect)
        for written in self.writer.forward():
            for node in self.writer.parts(written.node):
                body.assign(names[node.number], node)
        for state, node in trace.after.items():
            if node.number not in names or node.leaf:
                body.assign(f"{state}_after", node, named=True)
        sizes = {names[n.number]: n.shape for n in (trace.inputs, *trace.states.values())}
        sizes |= {names[node.number]: node.shape for node in trace.parameters.values()}
        shapes = ", ".join(f"{n} {_sizes(s)}" for n, s in sizes.items())
        about = f"One step forward; {shapes}."
        return self._function(f"{self.name}_step", given, results, body.lines, about)

    def _backward(self) -> str:
        backward, names, trace = self.derivation, self.writer.names, self.derivation.trace
        given = [*self.arriving.values(), self.inputs, *self.before.values()]
        given = list(dict.fromkeys([*given, *self._all_kept.values(), *self.parameters.values()]))
        ends = {self.earlier[s]: backward.deltas[s] for s in trace.states}
        if backward.inputs is not None:
            ends[self.dinputs] = backward.inputs
        gradients = list(self.gradients.values())
        self.backward_arguments = [*given, *ends, *gradients]
        body = Statements(names, {*given, *ends, *gradients}, self.dialect)
        for line in self.writer.lines():
            summed = line.of is not None and line.of.operation == "parameter"
            node = line.node.operands[0] if line.of is not None else line.node
            named = node is not line.node and node.number in names  # δ of a state may be another δ
            body.assign(line.left, node, add=summed, named=named, remark=line.remark)
        written = {line.left for line in self.writer.lines()}
        for end, node in ends.items():
            if end not in written:
                body.assign(end, node, named=True)
        about = f"One step backward; {', '.join(gradients)} are added to."
        results = [*ends, *gradients]
        return self._function(f"{self.name}_step_backward", given, results, body.lines, about)

    def _function(
        self,
        name: str,
        given: Sequence[str],
        results: Sequence[str],
        lines: Sequence[str],
        about: str,
    ) -> str:
        real = self.dialect.real
        arguments = [f"const {real} *{n}" for n in given] + [f"{real} *{n}" for n in results]
        if not self.static:
            return _function(f"void {name}", arguments, lines, about)
        used = {word for line in lines for word in re.findall(r"[^\W\d]\w*", line)}
        idle = [f"    (void){n};" for n in (*given, *results) if n not in used]
        return _function(f"static void {name}", arguments, [*idle, *lines], about)


def _arranged(node: Node) -> bool:
    """Whether a value is a parameter, or a part of one, in another order."""
    if node.operation in ("part", "transpose", "reshape", "expand"):
        return _arranged(node.operands[0])
    return node.operation == "parameter"


def _function(name: str, arguments: Sequence[str], lines: Sequence[str], about: str) -> str:
    head, rows = f"{name}(", [""]
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
