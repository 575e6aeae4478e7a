"""C functions of one row: the values of a stage, from arrays that the caller has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from throughtime.codegen.plan import LoopPlan, Stage, plain, size
from throughtime.equations import Dialect, Node, Statements

WORD = re.compile(r"[^\W\d]\w*")
LARGE = 4096  # numbers; a larger array is no local variable, for a thread's stack is small


@dataclass(frozen=True)
class RowFunction:
    """A function of one row.

    Attributes:
        name: of the function; "" where there is nothing to compute.
        code: its source.
        reads, writes: the names of the arrays that it is given.
    """

    name: str
    code: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class RowWriter:
    """Writes the functions of a plan's stages.

    Args:
        plan: what is computed.
        dialect: how it is written.
        name: the beginning of each function's name.
        sums: names, among what is wanted, to which a row adds instead.
    """

    def __init__(
        self, plan: LoopPlan, dialect: Dialect, name: str, sums: frozenset[str] = frozenset()
    ) -> None:
        self.plan, self.dialect, self.name, self.sums = plan, dialect, name, sums
        self.names = plan.names
        self.large: dict[str, int] = {}  # arrays in the caller's workspace that no other stage sees
        self.first: dict[int, str] = {}  # of each wanted value: the name of its array
        for wanted, node in plan.gives.items():
            if wanted not in sums:
                self.first.setdefault(node.number, wanted)
        self.computed = {n.number for s in plan.stages for n in s.values}
        self.computed |= {p.result.number for s in plan.stages for p in s.products}
        for number in self.first.keys() & self.computed:
            self.names[number] = self.first[number]
        self.outside = {self.names[n.number] for n in (*plan.given, *plan.shared)}
        self.outside |= {self.names[number] for number in plan.crossing if number in self.names}
        self.outside |= set(plan.gives)
        self.parts = self._parts()

    def _parts(self) -> dict[str, tuple[str, int]]:
        """What is a part of another array: its name, that array's, and the place in it."""
        found: dict[str, tuple[str, int]] = {}
        for stage in self.plan.stages:
            for node in stage.values:
                name = self.names[node.number]
                if node.operation == "concatenate" and name not in self.sums:
                    start = 0
                    for operand in map(plain, node.operands):
                        part = self.names.get(operand.number, "")
                        own = operand in stage.values and part not in self.outside
                        if own and part not in found and operand.operation != "concatenate":
                            found[part] = name, start
                        start += size(operand)
                elif node.operation == "part" and name not in self.outside:
                    whole = self.names.get(plain(node.operands[0]).number)
                    if whole:
                        found[name] = whole, node.start * (size(node) // node.shape[0])
        return found

    def functions(self) -> list[RowFunction]:
        """A function for each stage."""
        found = []
        for number, stage in enumerate(self.plan.stages):
            found.append(self._function(f"{self.name}_{number + 1}", stage, number))
        return found

    def _function(self, name: str, stage: Stage, number: int) -> RowFunction:
        everything = self.outside | set(self.names.values())
        body = Statements(self.names, outside=everything, dialect=self.dialect)
        written: list[str] = []
        for node in stage.values:
            own = self.names[node.number]
            if node.operation == "part" and own in self.parts:
                continue
            if node.operation == "concatenate":
                self._concatenate(body, own, node)
            else:
                self._assign(body, own, node)
            written.append(own)
        for wanted, node in self.plan.gives.items():
            if self.plan.stage_of.get(node.number, 0) != number:
                continue
            named = node.number in self.names
            if wanted in self.sums:
                body.assign(wanted, node, add=True, named=named)
            elif self.first[node.number] != wanted or node.number not in self.computed:
                body.assign(wanted, node, named=named)
            else:
                continue
            written.append(wanted)
        used = {word for line in body.lines for word in WORD.findall(line)}
        used |= set(written)
        heads = self._heads(used)
        used |= {word for line in heads for word in WORD.findall(line)}
        arrays = sorted(used & (self.outside | self.large.keys()))
        wrote = {self._whole(word) for word in written} | (used & self.large.keys())
        writes = tuple(word for word in arrays if word in wrote)
        reads = tuple(word for word in arrays if word not in wrote)
        sizes = {self.names[n.number]: size(n) for n in stage.values}
        local = [w for w in sizes if w in used and w not in arrays and w not in self.parts]
        heads = [*(f"    {self.dialect.real} {w}[{sizes[w]}];" for w in local), *heads]
        if not body.lines:
            return RowFunction("", "", (), ())
        real = self.dialect.real
        arguments = [f"const {real} *restrict {word}" for word in reads]
        arguments += [f"{real} *restrict {word}" for word in writes]
        return RowFunction(name, _signature(name, arguments, [*heads, *body.lines]), reads, writes)

    def _assign(self, body: Statements, name: str, node: Node) -> None:
        if size(node) > LARGE and name not in self.outside and name not in self.parts:
            self.large[name] = size(node)
        body.assign(name, node)

    def _concatenate(self, body: Statements, name: str, node: Node) -> None:
        """The parts that do not stand there already."""
        if size(node) > LARGE and name not in self.outside:
            self.large[name] = size(node)
        there = [self.names.get(plain(x).number, "") for x in node.operands]
        body.join(name, node, [self.parts.get(word, ("",))[0] == name for word in there])

    def _whole(self, name: str) -> str:
        while name in self.parts:
            name = self.parts[name][0]
        return name

    def _heads(self, used: set[str]) -> list[str]:
        """Pointers to the parts of arrays that a function names, the arrays first."""
        lines: list[str] = []
        done: set[str] = set()

        def give(name: str) -> None:
            if name in done or name not in self.parts:
                return
            done.add(name)
            whole, start = self.parts[name]
            give(whole)
            const = "" if self._written_in(name) else "const "
            place = f" + {start}" if start else ""
            lines.append(f"    {const}{self.dialect.real} *const {name} = {whole}{place};")

        for name in sorted(used & self.parts.keys()):
            give(name)
        return lines

    def _written_in(self, name: str) -> bool:
        """Whether a part is computed in its place, and not only read there."""
        numbers: Mapping[str, int] = {word: number for number, word in self.names.items()}
        graph = next(iter(self.plan.gives.values())).graph
        return bool(graph.nodes[numbers[name]].operation != "part")


def _signature(name: str, arguments: list[str], lines: list[str]) -> str:
    rows = [""]
    for k, argument in enumerate(arguments):
        word = argument + (", " if k + 1 < len(arguments) else ") {")
        if len(rows[-1]) + len(word) > 92:
            rows.append("")
        rows[-1] += word
    head = [f"static void {name}(", *(f"        {row.rstrip()}" for row in rows)]
    return "\n".join([*head, *lines, "}"])
