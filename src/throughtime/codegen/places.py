"""Where values lie that C functions are given, and what they are called there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from throughtime.codegen.plan import plain, size
from throughtime.codegen.rows import RowFunction
from throughtime.equations import C_STYLE, BackwardPass, Dialect, Node, StepProgram, Writer

OWN = frozenset(
    {"steps", "batch", "first", "last", "rows", "row", "step", "at", "active", "arrays", "work"}
    | {"frontier", "doutputs", "real", "whole", "vector", "loose", "LANES", "PANEL", "BIAS"}
    | {"VECTOR_BYTES", "TILE_ROWS", "TO_WHOLE", "LOG2_E", "LN2_HIGH", "LN2_LOW", "LARGEST"}
    | {"SMALLEST", "MANTISSA_BITS", "LIBM", "SIGMOID_LOWEST", "NULL", "INFINITY", "NAN"}
)
STYLE = replace(
    C_STYLE,
    after=C_STYLE.made,
    inputs=C_STYLE.made,
    reserved=C_STYLE.reserved | OWN,
)


@dataclass(frozen=True)
class StridedRows:
    """Where a value lies: an array, how far its rows are apart, and where in them it begins.

    `each` says what a row is: "step" for a sequence at a step, "row" for a sequence in this
    function's workspace, "" for what all share.
    """

    array: str
    stride: int
    each: str
    start: int = 0

    def at(self) -> str:
        """The address of a row as a C expression."""
        words = [self.array]
        if self.start:
            words.append(str(self.start))
        if self.each == "step":
            words.append(f"(at + row) * {self.stride}")
        elif self.each == "row":
            words.append(f"row * {self.stride}")
        return " + ".join(words)

    def begin(self) -> str:
        """The address of the first row."""
        words = [self.array]
        if self.start:
            words.append(str(self.start))
        if self.each == "step":
            words.append(f"at * {self.stride}")
        return " + ".join(words)


@dataclass
class Function:
    """A function of the source, and what it has to be given.

    Attributes:
        name: in the source.
        arrays: the names of its arrays, in order.
        work: numbers of workspace for each of its rows, and beside these.
    """

    name: str
    arrays: list[str] = field(default_factory=list)
    work: tuple[int, int] = (0, 0)


class CNames:
    """What values are called in C.

    Attributes:
        words: by the number of the value; what is only a name for another value is not in it.
    """

    def __init__(self, backward: BackwardPass) -> None:
        writer, nodes = Writer(backward, STYLE), backward.trace.graph.nodes
        lets = {number for number in writer.names if nodes[number].operation == "let"}
        self.words = {k: word for k, word in sorted(writer.names.items()) if k not in lets}
        for number in sorted(lets):
            self.words.setdefault(plain(nodes[number]).number, writer.names[number])

    def wish(self, gives: dict[str, Node], node: Node, otherwise: str) -> str:
        """Adds a wanted value, under its own name if nothing else has that; gives the name."""
        node = plain(node)
        word = self.words.get(node.number, otherwise)
        given = node.leaf or word in gives or any(plain(n) is node for n in gives.values())
        name = otherwise if given else word
        while name in gives or (name == otherwise and name in self.words.values()):
            name += "_"
        gives[name] = node
        return name

    def without(self, gives: Mapping[str, Node]) -> dict[int, str]:
        """The names of values, without those that what is wanted has taken."""
        ends = {node.number for node in gives.values() if not node.leaf}
        return {k: w for k, w in self.words.items() if k not in ends or w not in gives}


@dataclass(frozen=True)
class WrittenStep:
    """A derived step, and how it is written.

    Attributes:
        name: of the cell; functions begin with it.
        backward: the derivation.
        program: its phases: what the forward pass keeps, and the δ from which all sums follow.
        dialect: of C.
        words: what values are called.
    """

    name: str
    backward: BackwardPass
    program: StepProgram
    dialect: Dialect
    words: CNames


def calls(row: RowFunction, places: Mapping[str, StridedRows]) -> list[str]:
    """A loop that calls a function of one row."""
    if not row.name:
        return []
    arguments = [places[name].at() for name in (*row.reads, *row.writes)]
    lines = ["for (long row = 0; row < rows; row++)"]
    text = f"    {row.name}("
    for k, argument in enumerate(arguments):
        word = argument + (", " if k + 1 < len(arguments) else ");")
        if len(text) + len(word) > 88:
            lines.append(text.rstrip())
            text = "            "
        text += word
    return [*lines, text]


def of_input(node: Node, x: Node) -> bool:
    """Whether a value is the input, or a part of it."""
    node = plain(node)
    return node is x or (node.operation == "part" and plain(node.operands[0]) is x)


def stride_of(node: Node, frontier: Sequence[Node]) -> int:
    """How far rows of a value are apart; what is in the frontier is a column of that."""
    if plain(node).number in [plain(own).number for own in frontier]:
        return sum(map(size, frontier))
    return size(node)
