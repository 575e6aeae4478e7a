"""A derived step as C: one step forward, and one step backward, of one sequence.

Arrays are rows of doubles in C order. What is computed element by element stands in one loop;
products with matrices and sums over units have loops of their own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from throughtime.arrays import Shape
from throughtime.equations.backward import BackwardPass
from throughtime.equations.graph import OPERATIONS, Node
from throughtime.equations.operations import ATOM, ELEMENTWISE, MULTIPLIED
from throughtime.equations.printing import NUMPY, Writer, kept_names

Index = tuple[str, ...]
BRACKETS, SPACED = re.compile(r"\[[^\]]*\]"), re.compile("[ -]")  # indices; what has operators
SHAPES = ("broadcast", "expand", "reshape", "transpose", "part", "let", "total")
LETTERS = (*"ijklmnpqr", *(f"at{k}" for k in range(1, 4)))
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
COMPARISONS = {"greater", "greater_equal", "less", "less_equal", "equal", "not_equal"}
WHOLE = {"add", "subtract", "multiply", "negative", "where", *SHAPES}
BY_ELEMENT = ELEMENTWISE | {
    *(
        "negative",
        "tanh",
        "sigmoid",
        "exp",
        "log",
        "log1p",
        "expm1",
        "sqrt",
        "sin",
        "cos",
        "arctan",
    ),
    *("absolute", "sign", "softplus", "relu", "stop_gradient", "surrogate"),
}


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
        body = _Body(self.writer, outside={*given, *results})
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
        body = _Body(self.writer, outside={*given, *ends, *gradients})
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


class _Body:
    """The statements of a function.

    Args:
        writer: knows the values' names.
        outside: names of arrays that the caller has.
    """

    def __init__(self, writer: Writer, outside: set[str]) -> None:
        self.writer, self.outside = writer, outside
        taken = {*writer.names.values(), *outside}
        # Letters that no value is called by.
        self.indices = tuple(letter for letter in LETTERS if letter not in taken)
        self.lines: list[str] = []
        self.stored: dict[int, str] = {}
        self.temporaries = 0

    def assign(
        self, name: str, node: Node, *, add: bool = False, named: bool = False, remark: str = ""
    ) -> None:
        """`name = node`, or `name += node`."""
        if name not in self.outside:
            self.lines.append(f"    double {name}[{_count(node.shape)}];")
            self.outside.add(name)
        self._statement(name, node, "+=" if add else "=", remark, named)

    def _statement(
        self, name: str, node: Node, sign: str, remark: str = "", named: bool = False
    ) -> None:
        if node.operation == "total" and not named:
            node, named = node.operands[0], node.operands[0].number in self.writer.names
        special: Callable[[str, Node, str], None] | None = getattr(self, f"_{node.operation}", None)
        if special is not None and not named and node.number not in self.stored:
            if remark:
                self.lines.append(f"    /* {remark} */")
            special(name, node, sign)
            return
        indices = self.indices[: len(node.shape)]
        value = self._value(node, indices, top=not named)
        self._loop(node.shape, f"{_at(name, node.shape, indices)} {sign} {value};", remark)

    def _loop(self, shape: Shape, statement: str, remark: str = "", depth: int = 1) -> None:
        comment = f"  /* {remark} */" if remark else ""
        heads = [_loop(i, n) for i, n in zip(self.indices, shape, strict=False)]
        lines = [*heads, statement]
        whole = "    " * depth + " ".join(lines)
        if len(whole) <= 96:
            self.lines.append(whole + comment)
            return
        for k, line in enumerate(lines):
            self.lines.append("    " * (depth + k) + line + (comment if not k else ""))

    def _value(self, node: Node, index: Index, top: bool = False) -> str:
        """An entry of a value as a C expression."""
        if node.value is not None:
            value = float(node.value)
            return str(int(value)) if value.is_integer() and abs(value) < 1e9 else _number(value)
        if node.number in self.stored:
            return _at(self.stored[node.number], node.shape, index)
        if (not top or node.leaf) and node.number in self.writer.names:
            return _at(self.writer.names[node.number], node.shape, index)
        operation, operands = node.operation, node.operands
        if operation in BY_ELEMENT:
            words = [self._within(node, place, index) for place in range(len(operands))]
            if operation == "divide" and self._whole(operands[0]) and self._whole(operands[1]):
                words[0] = f"(double){words[0]}"  # 1 / 2 is 0 in C
            form = OPERATIONS[operation].c
            return form(node, words) if callable(form) else form.format(*words)
        if operation in ("let", "total"):
            return self._value(operands[0], index)
        if operation == "transpose":
            return self._value(operands[0], index[::-1])
        if operation == "part":
            return self._value(operands[0], (_plus(index[0], node.start), *index[1:]))
        if operation == "broadcast":
            return self._value(operands[0], _aligned(operands[0].shape, node.shape, index))
        if operation == "expand":
            return self._value(operands[0], (*index[: node.axis], *index[node.axis + 1 :]))
        if operation == "outer":
            return f"{self._value(operands[0], index[:1])} * {self._value(operands[1], index[1:])}"
        if operation == "reshape":
            return self._reshaped(node, index)
        return _at(self._store(node), node.shape, index)

    def _whole(self, node: Node) -> bool:
        """Whether a value stands in C as an integer: a number such as 2, a comparison."""
        if node.number in self.writer.names or node.number in self.stored or node.leaf:
            return node.value is not None and float(node.value).is_integer()
        if node.operation in WHOLE:
            return all(
                map(self._whole, node.operands[1:] if node.operation == "where" else node.operands)
            )
        return node.operation in COMPARISONS

    def _within(self, node: Node, place: int, index: Index) -> str:
        """An operand's entry within an expression, in brackets where it binds less tightly."""
        operand, operation = node.operands[place], OPERATIONS[node.operation]
        word = self._value(operand, _aligned(operand.shape, node.shape, index))
        if operation.bracketed or not SPACED.search(BRACKETS.sub("", word)):
            return word
        inner = (
            OPERATIONS[operand.operation].precedence if operand.operation in OPERATIONS else ATOM
        )
        inner = MULTIPLIED if operand.operation in ("outer", "power") else inner
        strict = place == 1 and node.operation in ("subtract", "divide")
        own = operation.precedence
        return f"({word})" if inner < own or (strict and inner == own) else word

    def _reshaped(self, node: Node, index: Index) -> str:
        (operand,) = node.operands
        if operand.number in self.writer.names or operand.number in self.stored or operand.leaf:
            name = self.stored.get(operand.number) or self.writer.names[operand.number]
        else:
            name = self._store(operand)
        return f"{name}[{_flat(node.shape, index)}]"

    def _store(self, node: Node) -> str:
        """Computes a value into an array of its own, before the statement that needs it."""
        self.temporaries += 1
        name, before = f"t{self.temporaries}", len(self.lines)
        self._statement(name, node, "=")
        self.lines.insert(before, f"    double {name}[{_count(node.shape)}];")
        self.stored[node.number] = name
        return name

    # --- what has loops of its own ---

    def _accumulate(
        self, name: str, node: Node, sign: str, shape: Shape, term: str, of: Shape
    ) -> None:
        """Sums `term` over the axes of `of` beyond those of the result."""
        axes = self.indices[: len(shape)]
        place = _at(name, shape, axes)
        loops = [_loop(i, n) for i, n in zip(self.indices, of, strict=False)]
        inner = loops[len(shape) :]
        if sign == "=":
            self._loop(shape, f"{place} = 0;")
        outer = [_loop(i, n) for i, n in zip(self.indices, shape, strict=False)]
        lines = [*outer, *inner, f"{place} += {term};"]
        whole = "    " + " ".join(lines)
        if len(whole) <= 96:
            self.lines.append(whole)
            return
        for k, line in enumerate(lines):
            self.lines.append("    " * (1 + k) + line)

    def _matmul(self, name: str, node: Node, sign: str) -> None:
        a, b = node.operands
        size, axes = a.shape[-1], self.indices[: len(node.shape)]
        along = self.indices[len(node.shape)]
        left = self._factor(a, (*axes[: len(a.shape) - 1], along))
        right = self._factor(b, (along, *axes[len(a.shape) - 1 :]))
        self._accumulate(name, node, sign, node.shape, f"{left} * {right}", (*node.shape, size))

    def _factor(self, node: Node, index: Index) -> str:
        word = self._value(node, index)
        sums = node.operation in {"add", "subtract", "negative", *COMPARISONS, *SHAPES}
        return f"({word})" if sums and SPACED.search(BRACKETS.sub("", word)) else word

    def _sum(self, name: str, node: Node, sign: str) -> None:
        self._reduced(name, node, sign, "")

    def _mean(self, name: str, node: Node, sign: str) -> None:
        (x,) = node.operands
        number = _count(x.shape) if node.axis is None else x.shape[node.axis]
        self._reduced(name, node, sign, f" / {number}")

    def _reduced(self, name: str, node: Node, sign: str, divided: str) -> None:
        (x,) = node.operands
        axis = node.axis
        rest = [n for k, n in enumerate(x.shape) if axis is not None and k != axis % len(x.shape)]
        axes = list(self.indices[: len(rest)])
        along = list(self.indices[len(rest) : len(x.shape)])
        index = (
            along
            if axis is None
            else [*axes[: axis % len(x.shape)], *along, *axes[axis % len(x.shape) :]]
        )
        summed = x.shape if axis is None else (x.shape[axis % len(x.shape)],)
        cast = "(double)" if divided and self._whole(x) else ""
        term = cast + self._factor(x, tuple(index)) + divided
        self._accumulate(name, node, sign, tuple(rest), term, (*rest, *summed))

    def _max(self, name: str, node: Node, sign: str) -> None:
        (x,) = node.operands
        stored = self._array(x)
        index = self.indices[: len(x.shape)]
        kept = tuple(
            i if node.axis is not None and k != node.axis % len(x.shape) else "0"
            for k, i in enumerate(index)
        )
        left = tuple(i for k, i in enumerate(kept) if node.axis is not None and i != "0")
        place = kept if node.keepdims else left
        top = _at(name, node.shape, place)
        loops = [_loop(i, n) for i, n in zip(index, x.shape, strict=True)]
        outer = [loop for loop, i in zip(loops, kept, strict=True) if i != "0"]
        first = _at(stored, x.shape, kept)
        self.lines.append("    " + " ".join([*outer, f"{top} = {first};"]))
        entry = f"{top} = fmax({top}, {_at(stored, x.shape, index)});"
        self.lines.append("    " + " ".join([*loops, entry]))

    def _softmax(self, name: str, node: Node, sign: str) -> None:
        (x,) = node.operands
        stored, top, total = self._array(x), f"top_{name}", f"sum_{name}"
        index = self.indices[: len(x.shape)]
        entry, own = _at(stored, x.shape, index), _at(name, x.shape, index)
        first = _at(stored, x.shape, (*index[:-1], "0"))
        rows = [_loop(i, n) for i, n in zip(index[:-1], x.shape[:-1], strict=True)]
        space = "    " + "    " * bool(rows)
        loop = f"{space}{_loop(index[-1], x.shape[-1])}"
        self.lines += [
            *(["    " + " ".join([*rows, "{"])] if rows else []),
            f"{space}double {top} = {first}, {total} = 0;",
            f"{loop} {top} = fmax({top}, {entry});",
            f"{loop} {total} += {own} = exp({entry} - {top});",
            f"{loop} {own} /= {total};",
            *(["    }"] if rows else []),
        ]

    def _numbers(self, name: str, node: Node, sign: str) -> None:
        words = ", ".join(map(_number, node.numbers))
        self.lines.append(f"    static const double given_{name}[] = {{{words}}};")
        self.lines.append(
            f"    for (int i = 0; i < {_count(node.shape)}; i++) {name}[i] {sign} given_{name}[i];"
        )

    def _array(self, node: Node) -> str:
        """The name of an array that holds a value."""
        known = self.stored.get(node.number) or self.writer.names.get(node.number)
        return known or self._store(node)

    def _concatenate(self, name: str, node: Node, sign: str) -> None:
        start = 0
        for part in node.operands:
            axes = self.indices[: len(part.shape)]
            place = _at(name, node.shape, (_plus(axes[0], start), *axes[1:]))
            self._loop(part.shape, f"{place} {sign} {self._value(part, axes)};")
            start += part.shape[0]

    def _place(self, name: str, node: Node, sign: str) -> None:
        (part,) = node.operands
        axes = self.indices[: len(part.shape)]
        if sign == "=":
            self._loop(node.shape, f"{_at(name, node.shape, self.indices[: len(node.shape)])} = 0;")
        place = _at(name, node.shape, (_plus(axes[0], node.start), *axes[1:]))
        self._loop(part.shape, f"{place} {sign} {self._value(part, axes)};")


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NAN" if math.isnan(value) else "INFINITY" if value > 0 else "(-INFINITY)"


def _loop(index: str, size: int) -> str:
    return f"for (int {index} = 0; {index} < {size}; {index}++)"


def _count(shape: Shape) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _plus(index: str, start: int) -> str:
    return f"{index} + {start}" if start else index


def _aligned(own: Shape, whole: Shape, index: Index) -> Index:
    """The indices of an operand that is spread out over a larger shape."""
    last = index[len(whole) - len(own) :] if own else ()
    return tuple("0" if size == 1 else i for size, i in zip(own, last, strict=True))


def _flat(shape: Shape, index: Index) -> str:
    word = ""
    for size, i in zip(shape, index, strict=True):
        if size == 1 and i == "0":
            i = ""
        if word and i:
            before = f"({word})" if " " in word else word
            word = f"{before} * {size} + {i}"
        elif word:
            before = f"({word})" if " " in word else word
            word = f"{before} * {size}" if size > 1 else word
        else:
            word = i
    return word or "0"


def _at(name: str, shape: Shape, index: Index) -> str:
    return f"{name}[{_flat(shape, index)}]"
