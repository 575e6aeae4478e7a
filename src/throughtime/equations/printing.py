"""A derived step to be read: as text, as NumPy, as LaTeX.

The forward pass comes first, since the backward pass reuses its values by name; then δ of every
named value, in the order in which one computes them; then what leaves the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from throughtime.equations.backward import BackwardPass, Line
from throughtime.equations.graph import OPERATIONS, Node, reachable
from throughtime.equations.operations import ATOM, CALLED, MULTIPLIED, SUPERSCRIPTS, number_in_numpy

SPREADING = ("expand", "broadcast", "reshape", "let", "total", "constant")
WORTH_A_NAME = 2  # operations in an expression that recurs


@dataclass(frozen=True)
class Written:
    """A line of a derivation, as it is written.

    Attributes:
        left: what it computes.
        right: the expression.
        remark: where its terms come from; "" where there is one.
        node: the value that is computed.
        of: for a line of the backward pass, the forward value whose δ it is.
    """

    left: str
    right: str
    remark: str
    node: Node
    of: Node | None = None


@dataclass(frozen=True)
class Style:
    """How names and expressions are written.

    Attributes:
        form: the attribute of an operation.
        before, after: the name of a state before and after the step.
        inputs: the name of the input.
        made: a name that was made up from an operation and a value, such as σ of z.
        delta: δ of a name.
        arriving: δ of a state, as it comes from the next step.
        mark: what a name gets that something else has already.
        reserved: names that have a meaning of their own.
    """

    form: str
    before: Callable[[str], str]
    after: Callable[[str], str]
    inputs: Callable[[str], str]
    made: Callable[[str], str]
    delta: Callable[[str], str]
    arriving: Callable[[str], str]
    mark: str
    reserved: frozenset[str] = frozenset()


def _text_name(name: str) -> str:
    return name.replace("sigmoid_", "σ_").replace("sigmoid", "σ")


def _latex_name(name: str, step: str = "") -> str:
    """A name, with its step below where it has one; TeX takes one subscript, so two are nested."""
    if step:
        inner = _latex_name(name)
        return f"{{{inner}}}_{step}" if "_" in inner else f"{inner}_{step}"
    name = name.removesuffix("_t")
    first, _, rest = name.partition("_")
    word = {"sigmoid": r"\sigma", "tanh": r"\tanh", "exp": r"\exp"}.get(first)
    if word is None:
        word = first if len(first) == 1 else rf"\mathrm{{{first}}}"
    if not rest:
        return word
    rest = rest.replace("_", r"\_")
    below = rest if len(rest) < 2 else rf"\mathrm{{{rest}}}"
    return f"{word}_{{{below}}}"


TEXT = Style(
    "text",
    lambda n: f"{n}_{{t−1}}",
    lambda n: f"{n}_t",
    lambda n: f"{n}_t",
    _text_name,
    lambda n: f"δ{n}",
    lambda n: f"δ{n}_next",
    "′",
)
NUMPY = Style(
    "numpy",
    lambda n: f"{n}_before",
    lambda n: n,
    lambda n: n,
    lambda n: n,
    lambda n: f"d{n}",
    lambda n: f"d{n}_next",
    "_",
    frozenset(
        {"np", "kept", "gradient", "sigmoid", "relu", "softplus", "softmax", "stop_gradient"}
    ),
)
LATEX = Style(
    "latex",
    lambda n: _latex_name(n, "{t-1}"),
    lambda n: _latex_name(n, "t"),
    lambda n: _latex_name(n, "t"),
    _latex_name,
    lambda n: rf"\delta {n}",
    lambda n: rf"\delta {n}^{{\mathrm{{next}}}}",
    "'",
)


class Writer:
    """Writes a derived step in one style.

    Args:
        backward: the derived step.
        style: how it is written.
        shared: whether an expression that recurs is given a name.
    """

    def __init__(self, backward: BackwardPass, style: Style, *, shared: bool = True) -> None:
        self.backward, self.trace, self.style = backward, backward.trace, style
        after = {node.number: name for name, node in self.trace.after.items()}
        self.names: dict[int, str] = {}
        self.taken = set(style.reserved)
        self._give(self.trace.inputs, style.inputs(self.trace.inputs.name))
        for name, node in self.trace.states.items():
            self._give(node, style.before(name))
        for name, node in self.trace.parameters.items():
            self._give(node, style.made(name))
        # δ of what the step is given; a local variable may well be called dh
        self.of_given = {k: self._free(style.delta(name)) for k, name in self.names.items()}
        lined = {line.of.number for line in backward.lines}
        for name, node in backward.arriving.items():
            whole = self.trace.after[name].number not in lined
            how = style.delta(style.after(name)) if whole else style.arriving(style.made(name))
            self._give(node, how)
        nodes = {node.number: node for node in self.trace.graph.nodes}
        for number, name in backward.names.items():
            own = after.get(number)
            self._give(nodes[number], style.after(own) if own else style.made(name))
        for line in backward.lines:
            if line.of.number in self.of_given:
                self.names[line.delta.number] = self.of_given[line.of.number]
            else:
                self._give(line.delta, style.delta(self.names[line.of.number]))
        self._shared = self._name_what_recurs() if shared else set()

    def _give(self, node: Node, name: str) -> None:
        self.names[node.number] = self._free(name)

    def _free(self, name: str) -> str:
        """The name, with a mark if something else has it."""
        while name in self.taken:
            name += self.style.mark
        self.taken.add(name)
        return name

    def _name_what_recurs(self) -> set[int]:
        """Gives a name to what would otherwise be written out more than once, the largest first."""
        forward = [n for n in reachable(self.trace.after.values()) if n.number in self.names]
        roots = [*forward, *(line.delta for line in self.backward.lines)]
        roots = [n for n in roots if not n.leaf]
        found: set[int] = set()
        while True:
            visits: dict[int, int] = {}
            for root in roots:
                for operand in root.operands:
                    self._visit(operand, visits)
            recurring = [
                node
                for node in reachable(roots)
                if visits.get(node.number, 0) > 1
                and node.operation not in SPREADING
                and self._visit(node, {}) >= WORTH_A_NAME
            ]
            if not recurring:
                break
            chosen = recurring[-1]
            self.names[chosen.number] = ""  # numbered below, in the order in which they are written
            found.add(chosen.number)
            roots.append(chosen)
        of_forward = {node.number for node in reachable(self.trace.after.values())}
        written = [n for n in reachable(self.trace.after.values()) if n.number in found]
        for line in self._in_order():
            for node in reachable([line.delta]):
                if node.number in found - of_forward and node not in written:
                    written.append(node)
        for k, node in enumerate(written):
            self._give(node, self.style.made(f"s_{k + 1}"))
        return found

    def _in_order(self) -> list[Line]:
        """The lines of the backward pass, those of what the step is given last."""
        lines = self.backward.lines
        kinds = ("state", "input", "parameter")
        last = {k: [n for n in lines if n.of.operation == k] for k in kinds}
        for own in last.values():
            own.sort(key=lambda line: line.of.number)
        inner = [line for line in lines if not line.of.leaf]
        return [*inner, *(line for kind in kinds for line in last[kind])]

    def _visit(self, node: Node, visits: dict[int, int]) -> int:
        """Counts how often each unnamed expression is written out; its number of operations."""
        if node.leaf or node.number in self.names:
            return 0
        visits[node.number] = visits.get(node.number, 0) + 1
        return 1 + sum(self._visit(operand, visits) for operand in node.operands)

    def forward(self) -> list[Written]:
        """The forward pass, a line for each named value."""
        found: list[Written] = []
        done: set[int] = set()
        for node in reachable(self.trace.after.values()):
            if node.leaf or node.number not in self.names or node.number in done:
                continue
            parts = self.parts(node)
            done |= {part.number for part in parts}
            if len(parts) > 1:
                left = ", ".join(self.names[part.number] for part in parts)
                whole = self.expression(node.operands[0])
                found.append(Written(left, self._split(whole, len(parts)), "", node))
            else:
                right = self.expression(node, named=False)
                found.append(Written(self.names[node.number], right, "", node))
        return found

    def lines(self) -> list[Written]:
        """The backward pass: δ of inner values, then of the state before, input, parameters."""
        of_forward = {node.number for node in reachable(self.trace.after.values())}
        waiting = self._shared - of_forward
        found = []
        for line in self._in_order():
            for node in reachable([line.delta]):
                if node.number in waiting:
                    waiting.remove(node.number)
                    right = self.expression(node, named=False)
                    found.append(Written(self.names[node.number], right, "", node))
            found.append(self._written(line))
        return found

    def expression(self, node: Node, named: bool = True) -> str:
        """A value as an expression; by its name where it has one."""
        if named and node.number in self.names:
            return self.names[node.number]
        if node.operation == "let":
            return self.expression(node.operands[0], named)
        if node.operation == "constant":
            return self._number(float(node.value or 0.0))
        if node.operation in ("expand", "broadcast", "reshape") and self.style is not NUMPY:
            return self.expression(node.operands[0])
        operation = OPERATIONS[node.operation]
        words = [self._operand(node, k) for k in range(len(node.operands))]
        form = getattr(operation, self.style.form)
        if not callable(form):
            return str(form.format(*words))
        return str(form(node, words, False) if self.style.form == "numpy" else form(node, words))

    def _operand(self, node: Node, place: int) -> str:
        operand, operation = node.operands[place], OPERATIONS[node.operation]
        word = self.expression(operand)
        if operation.bracketed or (node.operation == "outer" and self.style is NUMPY):
            return word
        own, inner = operation.precedence, self._precedence(operand)
        strict = node.operation in ("subtract", "divide", "power") and place == 1
        strict |= node.operation == "matmul" and place == 1 and self.style is NUMPY
        # δ ⊙ (a b) and (a ⊙ b) c bind alike; brackets say which is meant
        products, elementwise = {"matmul", "outer"}, {"multiply", "divide"}
        mixed = node.operation in products and operand.operation in elementwise
        mixed |= node.operation in elementwise and operand.operation in products
        mixed &= operand.number not in self.names
        if node.operation == "outer" and place == 1:
            mixed |= inner < CALLED  # (a b)ᵀ
        if node.operation == "negative" and inner == MULTIPLIED and self.style is not NUMPY:
            return word  # −a ⊙ b
        if inner < own or (strict and inner == own) or mixed:
            return f"({word})"
        return word

    def _precedence(self, node: Node) -> int:
        if node.number in self.names or node.leaf:
            negative = node.operation == "constant" and (node.value or 0.0) < 0
            return MULTIPLIED if negative else ATOM
        if node.operation in ("let", "expand", "broadcast", "reshape"):
            whole = self.style is NUMPY and node.operation != "let"
            return CALLED if whole else self._precedence(node.operands[0])
        return OPERATIONS[node.operation].precedence

    def _written(self, line: Line) -> Written:
        right = self.expression(line.delta.operands[0])
        return Written(
            self.names[line.delta.number], right, self._remark(line), line.delta, line.of
        )

    def _remark(self, line: Line) -> str:
        ways = list(dict.fromkeys(line.through))
        if len(ways) < 2 or line.of.operation == "parameter":
            return ""
        words = []
        by_name = {name: number for number, name in self.backward.names.items()}
        for way in ways:
            shown = self.names[by_name[way]] if way else ""
            words.append(f"through {shown}" if way else "from step t + 1")
        return ", ".join(words) if not self._joins(line) else ""

    def _joins(self, line: Line) -> bool:
        return line.delta.operands[0].operation == "concatenate"

    def parts(self, node: Node) -> list[Node]:
        """All parts of a value, where they are equally long, named and cover it."""
        if node.operation != "part":
            return [node]
        whole = node.operands[0]
        found = [n for n in self.trace.graph.nodes if n.operation == "part" and whole in n.operands]
        found = [n for n in found if n.number in self.backward.names]
        ends = [(n.start, n.stop) for n in sorted(found, key=lambda n: int(n.start))]
        size = whole.shape[0] // max(len(found), 1)
        wanted = [(k * size, (k + 1) * size) for k in range(len(found))]
        covers = ends == wanted and size * len(found) == whole.shape[0]
        return sorted(found, key=lambda n: int(n.start)) if covers else [node]

    def _split(self, whole: str, parts: int) -> str:
        if self.style is NUMPY:
            return f"np.split({whole}, {parts})"
        words = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}.get(parts, str(parts))
        if self.style is LATEX:
            return rf"{whole} \text{{, in {words} parts}}"
        return f"{whole}, in {words} parts"

    def _number(self, value: float) -> str:
        whole = math.isfinite(value) and value == int(value) and abs(value) < 1e15
        if self.style.form == "numpy":
            return str(int(value)) if whole else number_in_numpy(value)
        if not math.isfinite(value):
            word = "NaN" if math.isnan(value) else f"{value}".replace("inf", "∞")
            return word.replace("∞", r"\infty ") if self.style is LATEX else word.replace("-", "−")
        # as many digits as one reads: √3 is 1.73205, a third 0.333333
        word = str(int(value)) if whole else f"{value:.6g}"
        digits, _, power = word.partition("e")
        if power and self.style is LATEX:
            tens = f"10^{{{int(power)}}}"
            return tens if digits == "1" else rf"{digits} \cdot {tens}"
        if power:
            tens = f"10{str(int(power)).translate(SUPERSCRIPTS)}"
            word = tens if digits == "1" else f"{digits} · {tens}"
        return word.replace("-", "−")


def as_text(backward: BackwardPass, name: str) -> str:
    """The derivation as Unicode text."""
    writer = Writer(backward, TEXT)
    words = [writer.names[node.number] for node in backward.arriving.values()]
    given = " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    blocks = [
        (f"{name}: one step forward", writer.forward()),
        (
            f"One step backward; {given} arrive" + "s" * (len(backward.arriving) == 1),
            writer.lines(),
        ),
    ]
    rows = []
    for title, lines in blocks:
        rows += [title, *(f"    {row}" for row in aligned(lines)), ""]
    return "\n".join(rows).rstrip() + "\n"


def aligned(lines: list[Written]) -> list[str]:
    """Lines of text, with their remarks below one another."""
    words = [f"{line.left} = {line.right}" for line in lines]
    width = max((len(w) for w, line in zip(words, lines, strict=True) if line.remark), default=0)
    return [
        f"{word:{min(width, 76)}}  # {line.remark}" if line.remark else word
        for word, line in zip(words, lines, strict=True)
    ]


def as_latex(backward: BackwardPass) -> str:
    """The derivation as the rows of LaTeX's `align*`."""
    writer = Writer(backward, LATEX)
    rows = [rf"    {w.left} &= {w.right} \\" for w in (*writer.forward(), *writer.lines())]
    return "\\begin{align*}\n" + "\n".join(rows) + "\n\\end{align*}\n"


HELPERS: Mapping[str, str] = {
    "sigmoid": "def sigmoid(x):\n    return 1 / (1 + np.exp(-x))\n",
    "relu": "def relu(x):\n    return np.maximum(x, 0)\n",
    "softplus": "def softplus(x):\n    return np.logaddexp(0, x)\n",
    "softmax": (
        "def softmax(x):\n    e = np.exp(x - np.max(x, axis=-1, keepdims=True))\n"
        "    return e / e.sum(axis=-1, keepdims=True)\n"
    ),
    "stop_gradient": "def stop_gradient(x):\n    return x\n",
}


def as_numpy(backward: BackwardPass, name: str) -> str:
    """The derivation as two functions in NumPy: one step forward, and one step backward."""
    writer = Writer(backward, NUMPY)
    trace = backward.trace
    before = [writer.names[node.number] for node in trace.states.values()]
    parameters = [writer.names[node.number] for node in trace.parameters.values()]
    x = writer.names[trace.inputs.number]
    kept = list(kept_names(backward, writer).values())
    after = [writer.expression(node) for node in trace.after.values()]
    arriving = [writer.names[node.number] for node in backward.arriving.values()]
    gradients = [writer.of_given[node.number] for node in trace.parameters.values()]
    of_state = [writer.expression(node) for node in backward.deltas.values()]
    out = [*of_state, writer.expression(backward.inputs)] if backward.inputs else of_state
    shapes = [f"np.zeros({node.shape})" for node in trace.parameters.values()]
    forward = [f"    {w.left} = {w.right}" for w in writer.forward()]
    back = []
    for line in writer.lines():
        sign = "+=" if line.of is not None and line.of.operation == "parameter" else "="
        remark = f"  # {line.remark}" if line.remark else ""
        back.append(f"    {line.left} {sign} {line.right}{remark}")
    code = "\n".join([*forward, *back])
    helpers = [text for word, text in HELPERS.items() if f"{word}(" in code]
    several = "" if len(kept) != 1 else ","
    rows = [
        "import numpy as np",
        "",
        "",
        *(f"{text}\n" for text in helpers),
        f"def {name}_step({', '.join([x, *before, *parameters])}):",
        *forward,
        f"    kept = ({', '.join(kept)}{several})",
        f"    return {', '.join(after)}, kept",
        "",
        "",
        f"def {name}_step_backward({', '.join([*arriving, x, *before, 'kept', *parameters])}, "
        "gradient):",
        *([f"    {', '.join(kept)}{several} = kept"] if kept else []),
        f"    {', '.join(gradients)}{',' * (len(gradients) == 1)} = gradient",
        *back,
        f"    return {', '.join(out)}",
    ]
    comment = f"# gradient: [{', '.join(shapes)}], to which each step adds its share"
    at = next(k for k, row in enumerate(rows) if row.startswith(f"def {name}_step_backward"))
    return "\n".join([*rows[:at], comment, *rows[at:]]) + "\n"


def kept_names(backward: BackwardPass, writer: Writer) -> dict[int, str]:
    """The names of the forward values that the backward pass reuses."""
    ends = [line.delta for line in backward.lines]
    of_forward = {node.number for node in reachable(backward.trace.after.values())}
    used: dict[int, str] = {}

    def look(node: Node) -> None:
        if node.number in writer.names:
            if node.number in of_forward and not node.leaf:
                used[node.number] = writer.names[node.number]
            if node.number in of_forward or node.operation == "let":
                return
        for operand in node.operands:
            look(operand)

    for end in ends:
        for operand in end.operands:
            look(operand)
    return {number: used[number] for number in sorted(used)}
