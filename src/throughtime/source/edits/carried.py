"""What a loop hands on from step to step, where it is never set, or is not there at all.

`dh = V.T @ dy + dh_next` with a `dh_next` that stays 0 lacks `dh_next = U.T @ dz` at the end of the
loop; and `dh = V.T @ dy` alone lacks all of it. What is handed on is a value of the step, its
product with a matrix or with a gate, or a part of it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from throughtime.source.edits.edit import Edit, FileText, Splice, Unit, names_in, root_of
from throughtime.source.edits.executed import Value
from throughtime.source.edits.missing_sums import GRADIENT, leaf

CARRIED_ON = "carried on"  # the kinds of these edits, in words: it is read, and never set …
CARRIED_BACK = "carried back"  # … or not there

Values = Mapping[str, Value]


@dataclass(frozen=True)
class _Handed:
    """What may be handed on.

    Attributes:
        text: as it is written at the end of the loop.
        cost: how unlikely it is.
    """

    text: str
    cost: float


def carried_on(
    unit: Unit, file: FileText, lines: frozenset[int], values: Mapping[int, Values]
) -> Iterator[Edit]:
    """For the loops of a function: something is handed on to the next step.

    Args:
        unit: the function.
        file: its file.
        lines: those that ran.
        values: line to expression to value.
    """
    assigned = names_in(unit.node, ast.Store)
    for loop in ast.walk(unit.node):
        if isinstance(loop, ast.For) and loop.lineno in lines and file.alone(loop.body[-1]):
            own = _Loop(loop, file, _at_end(loop, values))
            yield from own.never_set(assigned)
            yield from own.not_there(unit)


class _Loop:
    """A loop of a function, and what there is at its end."""

    def __init__(self, loop: ast.For, file: FileText, values: Values) -> None:
        self.loop, self.file, self.values = loop, file, values
        self.stored = names_in(loop, ast.Store) | {
            root_of(node.target) for node in ast.walk(loop) if isinstance(node, ast.AugAssign)
        }
        self.last = loop.body[-1]
        text = file.of_node(loop)
        self.style = "np.dot({}, {})" if ".dot(" in text and " @ " not in text else "{} @ {}"

    def never_set(self, assigned: set[str]) -> Iterator[Edit]:
        """What is read in the loop as if it came from the step before, and is never set there.

        Where several are not, each may be set to what is called most like it, all at once.
        """
        line = self.last.lineno
        pairs: list[tuple[float, str, str]] = []
        for name in sorted((assigned - self.stored) & names_in(self.loop, ast.Load)):
            own = self.values.get(name)
            if own is None or own.kind != "numbers" or not own.shape:
                continue
            for handed in self._handed(name, own.shape, self.stored):
                below = self.file.below(self.last, f"{name} = {handed.text}")
                yield Edit(self.file.path, (below,), CARRIED_ON, line, handed.cost, "", (line,))
                if handed.text in self.values:
                    pairs.append((handed.cost, name, handed.text))
        best = {name: other for _, name, other in sorted(pairs, reverse=True)}
        if len(best) > 1:
            below = self.file.below(self.last, *(f"{a} = {b}" for a, b in best.items()))
            yield Edit(self.file.path, (below,), CARRIED_ON, line, 1.0, "", (line,))

    def not_there(self, unit: Unit) -> Iterator[Edit]:
        """A term from the next step, for what is computed anew at each: set, and 0 at first."""
        file = self.file
        known = names_in(unit.node, ast.Store) | names_in(unit.node, ast.Load)
        if not file.alone(self.loop):
            return
        for node in self.loop.body:
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
                continue
            name, whole = node.targets[0].id, file.of_node(node.value)
            own, new = self.values.get(name), f"{name}_next"
            usable = own is not None and own.kind == "numbers" and own.shape
            if not usable or new in known or not GRADIENT.search(name):
                continue
            assert own is not None
            begin = file.above(self.loop, f"{new} = 0")
            at, bare = file.end(node.value), isinstance(node.value, ast.IfExp | ast.Compare)
            opened = (Splice(file.start(node.value), file.start(node.value), "("),) if bare else ()
            term = Splice(at, at, f"{')' if bare else ''} + {new}")
            multiple = node.lineno != node.end_lineno or "\n" in whole
            later = _assigned_in(self.loop.body[self.loop.body.index(node) :])
            for handed in self._handed(new, own.shape, later) if not multiple else ():
                below = file.below(self.last, f"{new} = {handed.text}")
                splices = (begin, *opened, term, below)
                yield Edit(file.path, splices, CARRIED_BACK, node.lineno, handed.cost + 0.1, "",
                           (node.lineno,))  # fmt: skip

    def _handed(self, name: str, shape: tuple[int, ...], made: set[str]) -> Iterator[_Handed]:
        """What has a shape at the end of the loop, or can be made to, of some variables."""
        yield from self._through_all_matrices(name, shape)
        for other, value in self.values.items():
            own = value.shape
            in_loop = other.split("[")[0].split(".")[0] in made
            if value.kind != "numbers" or not in_loop or other == name:
                continue
            cost = 0.6 * (1 - SequenceMatcher(None, _plain(name), _plain(other)).ratio())
            if own == shape and name in self.values:
                yield _Handed(other, 0.9 + cost)
            if not GRADIENT.search(leaf(other)):
                continue
            if own == shape:
                for gate, of_gate in self.values.items():
                    if (
                        of_gate.shape == shape
                        and of_gate.kind == "numbers"
                        and not GRADIENT.search(leaf(gate))
                    ):
                        yield _Handed(f"{other} * {gate}", 1.1 + cost / 2)
                        yield _Handed(f"{other} * (1 - {gate})", 1.15 + cost / 2)
            elif len(own) == len(shape):
                yield from self._parts(name, other, own, shape)
            for matrix, of_matrix in self.values.items():
                fixed = matrix.split("[")[0] not in self.stored
                if fixed and of_matrix.kind == "numbers" and len(of_matrix.shape) == 2:
                    yield from self._products(matrix, of_matrix.shape, other, own, shape)

    def _products(
        self,
        matrix: str,
        sizes: tuple[int, ...],
        other: str,
        own: tuple[int, ...],
        shape: tuple[int, ...],
    ) -> Iterator[_Handed]:
        """A vector or rows of them, times a matrix or its transpose; nothing of a number."""
        if not own:
            return
        if own[0] == sizes[0] and (sizes[1], *own[1:]) == shape:
            yield _Handed(self.style.format(f"{matrix}.T", other), 1.0)
        if own[0] == sizes[1] and (sizes[0], *own[1:]) == shape:
            yield _Handed(self.style.format(matrix, other), 1.1)
        if len(own) == 2 and own[1] == sizes[1] and (own[0], sizes[0]) == shape:
            yield _Handed(self.style.format(other, f"{matrix}.T"), 1.0)
        if len(own) == 2 and own[1] == sizes[0] and (own[0], sizes[1]) == shape:
            yield _Handed(self.style.format(other, matrix), 1.1)

    def _through_all_matrices(self, name: str, shape: tuple[int, ...]) -> Iterator[_Handed]:
        """The sum of what goes back through several matrices, as those of gates, or a part of it.

        Which gradient belongs to which matrix W is seen where `dW += …` is made of it.
        """
        columns: dict[tuple[int, ...], list[str]] = {}
        rows: dict[tuple[int, ...], list[str]] = {}
        for matrix, made_of in self._gradients_of_matrices():
            sizes, own = self.values[matrix].shape, self.values[made_of].shape
            if own[0] == sizes[0]:
                text = self.style.format(f"{matrix}.T", made_of)
                columns.setdefault((sizes[1], *own[1:]), []).append(text)
            if len(own) == 2 and own[1] == sizes[1]:
                text = self.style.format(made_of, f"{matrix}.T")
                rows.setdefault((own[0], sizes[0]), []).append(text)
        for axis, sums in ((0, columns), (1, rows)):
            for own, terms in sums.items():
                text = " + ".join(terms)
                if len(terms) < 2 or len(own) != len(shape) or axis >= len(own):
                    continue
                if own == shape:
                    yield _Handed(text, 0.95)
                elif own[axis] > shape[axis] and own[1 - axis :: 2] == shape[1 - axis :: 2]:
                    before, size = ":, " * axis, f"{shape[axis]}"
                    if name in self.values:
                        size = f"{name}.shape[{axis}]"
                    elif terms:
                        size = f"{self._named(shape[axis], axis) or size}"
                    yield _Handed(f"({text})[{before}:{size}]", 1.0)
                    yield _Handed(f"({text})[{before}-{size}:]", 1.05)

    def _named(self, size: int, axis: int) -> str:
        """The shape of something that the loop reads and has a size along an axis."""
        for text, value in self.values.items():
            fits = value.kind == "numbers" and len(value.shape) > axis and text.isidentifier()
            if fits and value.shape[axis] == size and GRADIENT.search(text):
                return f"{text}.shape[{axis}]"
        return ""

    def _gradients_of_matrices(self) -> Iterator[tuple[str, str]]:
        """Each matrix with the variable of the loop that its gradient is made of."""
        matrices = {leaf(text): text for text, value in self.values.items()
                    if value.kind == "numbers" and len(value.shape) == 2
                    and text.split("[")[0].split(".")[-1] not in self.stored}  # fmt: skip
        for node in ast.walk(self.loop):
            if not isinstance(node, ast.AugAssign | ast.Assign):
                continue
            target = node.target if isinstance(node, ast.AugAssign) else node.targets[0]
            text = leaf(self.file.of_node(target))
            named = [m for m in matrices if text != m and text.endswith(m)]
            matrix = max(named, key=len, default="") if GRADIENT.search(text) else ""
            for part in ast.walk(node.value) if matrix else ():
                if not isinstance(part, ast.Name | ast.Subscript | ast.Attribute):
                    continue
                name = self.file.of_node(part)
                value = self.values.get(name)
                known = value is not None and value.kind == "numbers" and value.shape
                if known and root_of(part) in self.stored and GRADIENT.search(leaf(name)):
                    yield matrices[matrix], name
                    break

    def _parts(
        self, name: str, other: str, own: tuple[int, ...], shape: tuple[int, ...]
    ) -> Iterator[_Handed]:
        """The first or the last rows, or columns, of what is longer."""
        longer = [axis for axis, size in enumerate(shape) if own[axis] != size]
        if len(longer) == 1 and own[longer[0]] > shape[longer[0]] and name in self.values:
            before, size = ":, " * longer[0], f"{name}.shape[{longer[0]}]"
            yield _Handed(f"{other}[{before}:{size}]", 1.05)
            yield _Handed(f"{other}[{before}-{size}:]", 1.1)


def _assigned_in(body: Sequence[ast.stmt]) -> set[str]:
    """The variables that statements of a block assign."""
    targets = [t for node in body if isinstance(node, ast.Assign) for t in node.targets]
    return {root_of(part) for t in targets for part in (*getattr(t, "elts", ()), t)} - {""}


def _plain(name: str) -> str:
    """A name without what stands around it: `gradients["da_prev"]` is `da_prev`."""
    return name.split("[")[-1].strip("]'\"") if "['" in name or '["' in name else name


def _at_end(loop: ast.For, values: Mapping[int, Values]) -> dict[str, Value]:
    """What there is where the last statement of a loop has run: what any line of it saw."""
    found: dict[str, Value] = {}
    for line in range(loop.lineno, (loop.end_lineno or loop.lineno) + 1):
        found.update(values.get(line, {}))
    found.update(values.get(loop.lineno, {}))
    return found
