"""Statements of C that compute values of a step: one loop, or some, for each.

What is computed element by element stands in one loop; products with matrices and sums over units
have loops of their own. Arrays are rows in C order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from throughtime.arrays import Shape
from throughtime.equations.graph import OPERATIONS, Node
from throughtime.equations.operations import ATOM, ELEMENTWISE, MULTIPLIED

Index = tuple[str, ...]
BRACKETS, SPACED = re.compile(r"\[[^\]]*\]"), re.compile("[ -]")  # indices; what has operators
SHAPES = ("broadcast", "expand", "reshape", "transpose", "part", "let", "total")
LETTERS = (*"ijklmnpqr", *(f"at{k}" for k in range(1, 4)))
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


@dataclass(frozen=True)
class Dialect:
    """How statements are written.

    Attributes:
        real: the type of a number.
        suffix: of a number that is not whole.
        functions: what stands for a function of `math.h`, by the operation's name.
        lanes: whether sums are written so that a compiler may add several terms at once.
    """

    real: str = "double"
    suffix: str = ""
    functions: Mapping[str, str] = field(default_factory=dict)
    lanes: bool = False

    def called(self, operation: str, usual: str) -> str:
        """The name of a function."""
        return self.functions.get(operation, usual)

    def number(self, value: float) -> str:
        """A number that is not whole."""
        if math.isfinite(value):
            return repr(value) + self.suffix
        return "NAN" if math.isnan(value) else "INFINITY" if value > 0 else "(-INFINITY)"


PLAIN = Dialect()


class Statements:
    """The statements of a function.

    Args:
        names: of the values that have one.
        outside: names of arrays that the caller has.
        dialect: how they are written.
    """

    def __init__(
        self, names: Mapping[int, str], outside: set[str], dialect: Dialect = PLAIN
    ) -> None:
        self.names, self.outside, self.dialect = names, outside, dialect
        self.taken = taken = {*names.values(), *outside}
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
            self.lines.append(f"    {self.dialect.real} {name}[{count(node.shape)}];")
            self.outside.add(name)
        self._statement(name, node, "+=" if add else "=", remark, named)

    def _statement(
        self, name: str, node: Node, sign: str, remark: str = "", named: bool = False
    ) -> None:
        if node.operation == "total" and not named:
            node, named = node.operands[0], node.operands[0].number in self.names
        special: Callable[[str, Node, str], None] | None = getattr(self, f"_{node.operation}", None)
        if special is not None and not named and node.number not in self.stored:
            if remark:
                self.lines.append(f"    /* {remark} */")
            special(name, node, sign)
            return
        indices = self.indices[: len(node.shape)]
        value = self._value(node, indices, top=not named)
        self._loop(node.shape, f"{at(name, node.shape, indices)} {sign} {value};", remark)

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
            whole = value.is_integer() and abs(value) < 1e9
            return str(int(value)) if whole else self.dialect.number(value)
        if node.number in self.stored:
            return at(self.stored[node.number], node.shape, index)
        if (not top or node.leaf) and node.number in self.names:
            return at(self.names[node.number], node.shape, index)
        operation, operands = node.operation, node.operands
        if operation in BY_ELEMENT:
            words = [self._within(node, place, index) for place in range(len(operands))]
            if operation == "divide" and self._whole(operands[0]) and self._whole(operands[1]):
                words[0] = f"({self.dialect.real}){words[0]}"  # 1 / 2 is 0 in C
            if operation in self.dialect.functions:
                return f"{self.dialect.functions[operation]}({', '.join(words)})"
            form = OPERATIONS[operation].c
            word = form(node, words) if callable(form) else form.format(*words)
            if word.startswith("pow("):
                return self.dialect.called("pow", "pow") + word.removeprefix("pow")
            return word
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
        return at(self._store(node), node.shape, index)

    def _whole(self, node: Node) -> bool:
        """Whether a value stands in C as an integer: a number such as 2, a comparison."""
        if node.number in self.names or node.number in self.stored or node.leaf:
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
        if operand.number in self.names or operand.number in self.stored or operand.leaf:
            name = self.stored.get(operand.number) or self.names[operand.number]
        else:
            name = self._store(operand)
        return f"{name}[{_flat(node.shape, index)}]"

    def _store(self, node: Node) -> str:
        """Computes a value into an array of its own, before the statement that needs it."""
        name, before = self._temporary("t"), len(self.lines)
        self._statement(name, node, "=")
        self.lines.insert(before, f"    {self.dialect.real} {name}[{count(node.shape)}];")
        self.stored[node.number] = name
        return name

    # --- what has loops of its own ---

    def _accumulate(
        self,
        name: str,
        node: Node,
        sign: str,
        shape: Shape,
        term: str,
        of: Shape,
        across: bool = False,
    ) -> None:
        """Sums `term` over the axes of `of` beyond those of the result.

        `across` says that entries of the result lie next to one another in what is summed.
        """
        axes = self.indices[: len(shape)]
        place = at(name, shape, axes)
        loops = [_loop(i, n) for i, n in zip(self.indices, of, strict=False)]
        inner = loops[len(shape) :]
        if self.dialect.lanes and inner:
            self._in_lanes(place, sign, loops[: len(shape)], inner, term, across)
            return
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

    def _in_lanes(
        self, place: str, sign: str, outer: list[str], inner: list[str], term: str, across: bool
    ) -> None:
        """A sum whose terms may be added in any order, or entry by entry side by side."""
        real, total = self.dialect.real, self._temporary("sum")
        if across and outer:
            if sign == "=":
                self.lines.append("    " + " ".join([*outer, f"{place} = 0;"]))
            self.lines.append("    " + " ".join([*inner, *outer, f"{place} += {term};"]))
            return
        space = "    " + "    " * bool(outer)
        self.lines += [
            *(["    " + " ".join([*outer, "{"])] if outer else []),
            f"{space}{real} {total} = 0;",
            *([space + " ".join(inner[:-1]) + " {"] if inner[:-1] else []),
            "#pragma omp simd reduction(+ : " + total + ")",
            f"{space}{inner[-1]} {total} += {term};",
            *([space + "}"] if inner[:-1] else []),
            f"{space}{place} {sign} {total};",
            *(["    }"] if outer else []),
        ]

    def _temporary(self, word: str) -> str:
        """A name that nothing has."""
        self.temporaries += 1
        name = f"{word}{self.temporaries}"
        return name if name not in self.taken else self._temporary(word)

    def _matmul(self, name: str, node: Node, sign: str) -> None:
        a, b = node.operands
        size, axes = a.shape[-1], self.indices[: len(node.shape)]
        along = self.indices[len(node.shape)]
        left = self._factor(a, (*axes[: len(a.shape) - 1], along))
        right = self._factor(b, (along, *axes[len(a.shape) - 1 :]))
        across = len(b.shape) == 2 or a.operation == "transpose"
        term = f"{left} * {right}"
        self._accumulate(name, node, sign, node.shape, term, (*node.shape, size), across)

    def _factor(self, node: Node, index: Index) -> str:
        word = self._value(node, index)
        sums = node.operation in {"add", "subtract", "negative", *COMPARISONS, *SHAPES}
        return f"({word})" if sums and SPACED.search(BRACKETS.sub("", word)) else word

    def _sum(self, name: str, node: Node, sign: str) -> None:
        self._reduced(name, node, sign, "")

    def _mean(self, name: str, node: Node, sign: str) -> None:
        (x,) = node.operands
        number = count(x.shape) if node.axis is None else x.shape[node.axis]
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
        cast = f"({self.dialect.real})" if divided and self._whole(x) else ""
        term = cast + self._factor(x, tuple(index)) + divided
        across = axis is not None and axis % len(x.shape) != len(x.shape) - 1
        self._accumulate(name, node, sign, tuple(rest), term, (*rest, *summed), across)

    def _max(self, name: str, node: Node, sign: str) -> None:
        (x,) = node.operands
        stored, highest = self._array(x), self.dialect.called("maximum", "fmax")
        index = self.indices[: len(x.shape)]
        kept = tuple(
            i if node.axis is not None and k != node.axis % len(x.shape) else "0"
            for k, i in enumerate(index)
        )
        left = tuple(i for k, i in enumerate(kept) if node.axis is not None and i != "0")
        place = kept if node.keepdims else left
        top = at(name, node.shape, place)
        loops = [_loop(i, n) for i, n in zip(index, x.shape, strict=True)]
        outer = [loop for loop, i in zip(loops, kept, strict=True) if i != "0"]
        first = at(stored, x.shape, kept)
        self.lines.append("    " + " ".join([*outer, f"{top} = {first};"]))
        entry = f"{top} = {highest}({top}, {at(stored, x.shape, index)});"
        self.lines.append("    " + " ".join([*loops, entry]))

    def _softmax(self, name: str, node: Node, sign: str) -> None:
        (x,) = node.operands
        stored, top, total = self._array(x), f"top_{name}", f"sum_{name}"
        highest, e = self.dialect.called("maximum", "fmax"), self.dialect.called("exp", "exp")
        index = self.indices[: len(x.shape)]
        entry, own = at(stored, x.shape, index), at(name, x.shape, index)
        first = at(stored, x.shape, (*index[:-1], "0"))
        rows = [_loop(i, n) for i, n in zip(index[:-1], x.shape[:-1], strict=True)]
        space = "    " + "    " * bool(rows)
        loop = f"{space}{_loop(index[-1], x.shape[-1])}"
        self.lines += [
            *(["    " + " ".join([*rows, "{"])] if rows else []),
            f"{space}{self.dialect.real} {top} = {first}, {total} = 0;",
            f"{loop} {top} = {highest}({top}, {entry});",
            f"{loop} {total} += {own} = {e}({entry} - {top});",
            f"{loop} {own} /= {total};",
            *(["    }"] if rows else []),
        ]

    def _numbers(self, name: str, node: Node, sign: str) -> None:
        words = ", ".join(map(self.dialect.number, node.numbers))
        self.lines.append(f"    static const {self.dialect.real} given_{name}[] = {{{words}}};")
        self.lines.append(
            f"    for (int i = 0; i < {count(node.shape)}; i++) {name}[i] {sign} given_{name}[i];"
        )

    def _array(self, node: Node) -> str:
        """The name of an array that holds a value."""
        known = self.stored.get(node.number) or self.names.get(node.number)
        return known or self._store(node)

    def _concatenate(self, name: str, node: Node, sign: str) -> None:
        self.join(name, node, [False] * len(node.operands), sign)

    def join(self, name: str, node: Node, there: Sequence[bool], sign: str = "=") -> None:
        """Parts one after the other, without those that stand there already."""
        start = 0
        for part, stands in zip(node.operands, there, strict=True):
            axes = self.indices[: len(part.shape)]
            place = at(name, node.shape, (_plus(axes[0], start), *axes[1:]))
            if not stands:
                self._loop(part.shape, f"{place} {sign} {self._value(part, axes)};")
            start += part.shape[0]

    def _place(self, name: str, node: Node, sign: str) -> None:
        (part,) = node.operands
        axes = self.indices[: len(part.shape)]
        if sign == "=":
            self._loop(node.shape, f"{at(name, node.shape, self.indices[: len(node.shape)])} = 0;")
        place = at(name, node.shape, (_plus(axes[0], node.start), *axes[1:]))
        self._loop(part.shape, f"{place} {sign} {self._value(part, axes)};")


def _loop(index: str, size: int) -> str:
    return f"for (int {index} = 0; {index} < {size}; {index}++)"


def count(shape: Shape) -> int:
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


def at(name: str, shape: Shape, index: Index) -> str:
    return f"{name}[{_flat(shape, index)}]"
