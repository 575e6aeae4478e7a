"""Lines of a script or notebook as a candidate: one training step, without its update."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from throughtime.gradcheck import CheckError
from throughtime.source.bench import Bench
from throughtime.source.forms import Sizes, forms, targets
from throughtime.source.meanings import (
    BACKWARD,
    HIDDEN,
    LONGEST,
    VALUES,
    role,
    size_kind,
)
from throughtime.source.pairing import PREFIX, SUFFIX
from throughtime.source.readings import Judged, Reading, likeliest
from throughtime.source.search import IMPORT
from throughtime.source.slices import Slices, free_names, names_set, reaches_out
from throughtime.source.vintage import is_stand_in

LOSS_NAME = re.compile(r"loss|cost|entropy|err(or)?$|_err|objective|nll|mse", re.I)
RUNNING = re.compile(
    r"smooth|total|epoch|running|avg|mean|history|list|losses|train|best|old", re.I
)
OPTIMISER = re.compile(r"optim|update|step$|adam|sgd|adagrad|rmsprop|apply", re.I)
FEWEST_GRADIENTS = 3  # names of gradients that a loop has to set, to be taken for a training loop
MOST_FORMS = 200


@dataclass(frozen=True)
class Region:
    """One training step.

    Args:
        name: as a message calls it.
        body: its statements.
        before: statements that come before it, in the functions and loops around it.
        given: whether the user gave its lines, so that none is left out.
    """

    name: str
    body: tuple[ast.stmt, ...]
    before: tuple[ast.stmt, ...]
    given: bool


def regions(tree: ast.Module) -> list[Region]:
    """The training loops of a file, the innermost first that hold a whole step."""
    found: list[Region] = []
    for body, before, line in _loops(tree.body, ()):
        cut = _without_update(body)
        named = set().union(*(names_set(node) for node in cut)) if cut else set()
        lossy = any(LOSS_NAME.search(n) and not _is_gradient(n) for n in named)
        if len(cut) > 1 and lossy and _gradients(cut) >= FEWEST_GRADIENTS:
            found.append(Region(f"the loop of line {line}", tuple(cut), tuple(before), False))
    return found


def region_of_lines(tree: ast.Module, first: int, last: int) -> Region | None:
    """The statements between two lines, counted as in the file; None where there are none."""
    body, before = _within(tree.body, (), first, last)
    if len(body) == 1 and isinstance(body[0], ast.For | ast.While) and _gradients(body) > 1:
        loop = body[0]
        inner = [*before, *_header(loop)]
        return Region(
            f"lines {first}-{last}", tuple(_without_update(loop.body)), tuple(inner), False
        )
    return Region(f"lines {first}-{last}", tuple(body), tuple(before), True) if body else None


def _within(
    body: Sequence[ast.stmt], before: tuple[ast.stmt, ...], first: int, last: int
) -> tuple[list[ast.stmt], tuple[ast.stmt, ...]]:
    inside = [n for n in body if n.lineno >= first and (n.end_lineno or n.lineno) <= last]
    if inside:
        earlier = [n for n in body if n.lineno < inside[0].lineno]
        return inside, (*before, *earlier)
    for n, node in enumerate(body):
        if node.lineno <= first and (node.end_lineno or node.lineno) >= last:
            inner = getattr(node, "body", None)
            if inner:
                return _within(inner, (*before, *body[:n], *_header(node)), first, last)
    return [], before


def _loops(
    body: Sequence[ast.stmt], before: tuple[ast.stmt, ...]
) -> Iterator[tuple[Sequence[ast.stmt], tuple[ast.stmt, ...], int]]:
    """Bodies of loops, inner ones first, with what comes before them, and their lines."""
    for n, node in enumerate(body):
        inner = getattr(node, "body", None)
        if not inner or isinstance(node, ast.ClassDef):
            continue
        top = before if isinstance(node, ast.FunctionDef) else (*before, *body[:n])
        around = (*top, *_header(node))
        yield from _loops(inner, around)
        if isinstance(node, ast.For | ast.While | ast.FunctionDef):
            yield inner, around, node.lineno


def _header(node: ast.stmt) -> list[ast.stmt]:
    """What a loop or function sets before its body: the first of a loop, defaults."""
    if isinstance(node, ast.For):
        return [ast.copy_location(ast.For(node.target, node.iter, [ast.Break()], []), node)]
    if isinstance(node, ast.FunctionDef):
        given = node.args.defaults
        named = node.args.args[len(node.args.args) - len(given) :]
        lines = [f"{a.arg} = {ast.unparse(d)}" for a, d in zip(named, given, strict=True)]
        return ast.parse("\n".join(lines)).body
    return []


def _is_gradient(name: str) -> bool:
    return bool(PREFIX.match(name) or SUFFIX.search(name)) and len(name) > 1


def _gradients(body: Iterable[ast.stmt]) -> int:
    """How many gradients statements set; a call of a backward pass counts as enough."""
    names = set()
    for node in body:
        names |= {name for name in names_set(node) if _is_gradient(name)}
        for part in ast.walk(node):
            if isinstance(part, ast.Call):
                name = getattr(part.func, "attr", getattr(part.func, "id", ""))
                if BACKWARD.match(name) and not OPTIMISER.search(name):
                    return FEWEST_GRADIENTS
    return len(names)


def _without_update(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """A step's statements before its clip and update, without those that print or plot."""
    working = [
        n
        for n, node in enumerate(body)
        if _gradients([node]) and not _is_update(node) and not _is_reset(node)
    ]
    kept: list[ast.stmt] = []
    for node in body[: working[-1] + 1 if working else 0]:
        if not _is_idle(node):
            kept.append(node)
    return kept


def _is_idle(node: ast.stmt) -> bool:
    """Whether a statement only shows something, or leaves the loop."""
    if isinstance(node, ast.If) and not any(_is_gradient(n) for n in names_set(node)):
        return reaches_out(node) or isinstance(node.body[0], ast.Continue | ast.Break)
    return isinstance(node, ast.Expr) and reaches_out(node)


def _is_reset(node: ast.stmt) -> bool:
    """Whether a statement sets gradients to zero."""
    if isinstance(node, ast.AugAssign):
        return isinstance(node.op, ast.Mult) and isinstance(node.value, ast.Constant)
    text = ast.unparse(node.value) if isinstance(node, ast.Assign) else ""
    return "zeros" in text or text in ("0", "0.0")


def _is_update(node: ast.stmt) -> bool:
    """Whether a statement clips gradients or moves parameters."""
    text = ast.unparse(node)
    if isinstance(node, ast.For) and "reversed" not in text and re.search(r"clip|zip\(", text):
        return True
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Sub | ast.Add):
        target = ast.unparse(node.target)
        rate = any(
            size_kind(part.id) == "rate" for part in ast.walk(node) if isinstance(part, ast.Name)
        )
        return rate and not _is_gradient(target)
    if isinstance(node, ast.Assign | ast.Expr) and isinstance(node.value, ast.Call):
        called = [node.value.func]
        if isinstance(node.value.func, ast.Attribute):
            called.append(node.value.func.value)
        names = [getattr(c, "attr", getattr(c, "id", "")) for c in called]
        backward = re.search("back|bptt|grad", names[0], re.I)
        return not backward and any(
            "clip" in name.lower() or OPTIMISER.search(name) for name in names
        )
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp):
        rates = [p.id for p in ast.walk(node.value) if isinstance(p, ast.Name)]
        target = ast.unparse(node.targets[0])
        return any(size_kind(n) == "rate" for n in rates) and not _is_gradient(target)
    return False


class RegionSearch:
    """Readings of a region: what it needs is taken from the statements before it, or drawn.

    Args:
        bench: the user's file.
        tree: of it.
        region: what is read.
    """

    def __init__(self, bench: Bench, tree: ast.Module, region: Region) -> None:
        self.bench, self.region = bench, region
        inner = [node for node in region.before if node not in tree.body]
        self.slices = Slices(_without(tree, region), inner, in_order=True)
        self.failures: list[str] = []
        self.body = list(region.body)

    @property
    def text(self) -> str:
        """The statements that are run."""
        return "\n".join(ast.unparse(node) for node in self.body)

    @property
    def sets(self) -> set[str]:
        """The names that they set."""
        return set().union(*(names_set(node) for node in self.body))

    def best(self) -> Judged | None:
        """The likeliest reading; None where nothing runs."""
        return likeliest(self.bench, self._readings())

    def _readings(self) -> Iterator[Reading]:
        needed = self._needed()
        constants, lost = self._constants(needed)
        lost = self._without_lost(lost)
        needed |= set(lost)
        constants = "\n".join(filter(None, (constants, self._hoisted(constants))))
        needed |= free_names(self.body)
        needed = {name for name in needed if self.slices.is_own(name)}
        inputs = [name for name in lost if role(name) == "inputs"]
        aims = [name for name in lost if role(name) == "target"]
        others = [name for name in lost if name not in (*inputs, *aims)]
        fixed = "\n".join(filter(None, (_substitute(name) for name in others)))
        base = f"{IMPORT}\nT = {LONGEST}\n{constants}\n{fixed}"
        if not inputs and not aims:
            yield from self._with_loss(base, needed)
            return
        tries = 0
        for form in forms(Sizes()):
            for aim, _ in targets(form, Sizes()) if aims else [("", None)]:
                drawn = [f"{name} = {form.text}" for name in inputs]
                drawn += [f"{name} = {aim}" for name in aims]
                tries += 1
                if tries > MOST_FORMS:
                    return
                yield from self._with_loss("\n".join((base, *drawn)), needed)

    def _needed(self) -> set[str]:
        """The names that the region and the functions it calls read from before."""
        loads = free_names(self.body)
        called = self.slices.globals_of(n for n in loads if n in self.slices.definitions)
        names = {n for n in loads if self.slices.is_own(n)}
        return names | {n for n in called if self.slices.is_own(n)}

    def _without_lost(self, lost: list[str]) -> list[str]:
        """Leaves out statements that only read what is lost, until the first loop.

        What they would set is lost too, and is drawn.
        """
        bad = {n for n in lost if not _is_drawn(n)}
        bad |= {n for n, v in self.bench.space.items() if is_stand_in(v)}
        kept: list[ast.stmt] = []
        found: set[str] = set(lost)
        for n, node in enumerate(self.body):
            if isinstance(node, ast.For | ast.While):
                kept += self.body[n:]
                break
            read = {p.id for p in ast.walk(node) if isinstance(p, ast.Name)} - names_set(node)
            read |= names_set(node) & found
            if isinstance(node, ast.Assign | ast.AugAssign) and read & bad and self._fails(node):
                bad |= {n for n in names_set(node) if not _is_drawn(n)}
                found |= names_set(node)
            else:
                kept.append(node)
        self.body = kept
        return sorted(found & free_names(kept))

    def _hoisted(self, constants: str) -> str:
        """Takes the statements that make the data out of the step, so that the data can be cut."""
        head: list[ast.stmt] = []
        for node in self.body:
            if not isinstance(node, ast.Assign | ast.AugAssign):
                break
            head.append(node)
        if not self._tried(f"{IMPORT}\nT = {LONGEST}\n{constants}"):
            return ""
        wanted: set[str] = set()
        for node in head:
            if self._fails(node):
                break
            wanted |= {n for n in names_set(node) if _is_long(self.bench.space.get(n))}
        taken: list[ast.stmt] = []
        for node in reversed(head):
            if names_set(node) & wanted and not any(_is_gradient(n) for n in names_set(node)):
                taken.insert(0, node)
                wanted |= {p.id for p in ast.walk(node) if isinstance(p, ast.Name)}
        self.body = [node for node in self.body if node not in taken]
        return "\n".join(ast.unparse(node) for node in taken)

    def _fails(self, node: ast.stmt) -> bool:
        """Whether a statement fails, or gives a stand-in, while nothing is drawn."""
        try:
            self.bench.go_on(ast.unparse(node))
        except CheckError:
            return True
        return any(is_stand_in(self.bench.space.get(name)) for name in names_set(node))

    def _constants(self, needed: set[str]) -> tuple[str, list[str]]:
        """The statements before that run, and the names that none of them has set."""
        kept: list[str] = []
        self._tried(f"{IMPORT}\nT = {LONGEST}")
        for node in ast.parse(self.slices.text(needed)).body:
            text = ast.unparse(node)
            try:
                self.bench.go_on(text)
                kept.append(text)
            except CheckError as problem:
                self.failures.append(str(problem))
        space = self.bench.space
        lost = sorted(n for n in needed if n not in space or is_stand_in(space[n]))
        return "\n".join(kept), lost

    def _tried(self, text: str) -> bool:
        try:
            self.bench.run(text)
        except CheckError as problem:
            self.failures.append(str(problem))
            return False
        return True

    def _with_loss(self, data: str, needed: set[str]) -> Iterator[Reading]:
        if not self._tried(data):
            return
        steps = self._steps(needed)
        first = steps[0] if steps else None
        resets = [
            f"{name} = {_length(*first)}"
            for name in sorted(needed)
            if first and size_kind(name) == "steps" and isinstance(self._value(name), int)
        ]
        reading = Reading(
            data,
            "\n".join(resets),
            "",
            "",
            self.text,
            tuple(sorted(needed | self.sets)),
            steps=tuple(steps),
        )
        if not self._tried(f"{reading.begin}\n{self.text}"):
            reading = replace(reading, steps=(), setup="")
            if not self._tried(f"{reading.begin}\n{self.text}"):
                return
        for name in self._losses():
            where = f"steps from {first[0]}, axis {first[1]}" if reading.steps and first else ""
            yield replace(
                reading,
                loss=f"{self.text}\nloss = {name}",
                said=tuple(filter(None, (where, f"loss: {name}", f"gradient: {self.region.name}"))),
            )

    def _steps(self, needed: set[str]) -> list[tuple[str, int]]:
        """Data whose axis of time is as long as was asked for."""
        found = []
        for name in sorted(needed):
            value = self._value(name)
            if not isinstance(value, list | np.ndarray) or _is_gradient(name):
                continue
            try:
                shape = np.shape(value)
            except ValueError:
                shape = (len(value),)
            for axis, size in enumerate(shape):
                if size == LONGEST:
                    found.append((name, axis))
                    break
        return found

    def _value(self, name: str) -> object:
        return self.bench.space.get(name)

    def _losses(self) -> list[str]:
        """Names of losses that the region sets, the likeliest first."""
        found = []
        for name in self.sets:
            value = self._value(name)
            if not LOSS_NAME.search(name) or isinstance(value, bool | type(None)):
                continue
            if _is_gradient(name) or (role(name) == "upstream" and "loss" not in name.lower()):
                continue
            try:
                number = np.asarray(value, dtype=np.float64)
            except (TypeError, ValueError):
                continue
            if 0 < number.size <= LONGEST * HIDDEN and np.isfinite(number).all():
                found.append((bool(RUNNING.search(name)), name != "loss", number.size > 1, name))
        return [name for *_, name in sorted(found)][:4]


def _without(tree: ast.Module, region: Region) -> ast.Module:
    """The file without the loop that the region is in, and what comes after it."""
    first = region.body[0].lineno
    kept = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom)
        or (node.end_lineno or node.lineno) < first
    ]
    return ast.Module(kept, [])


def _is_long(value: object) -> bool:
    """Whether it is a list of as many steps as were asked for, or an array with such an axis."""
    if isinstance(value, list):
        return len(value) == LONGEST
    return isinstance(value, np.ndarray) and LONGEST in value.shape


def _is_drawn(name: str) -> bool:
    """Whether a name is that of data, which can be drawn."""
    return role(name) in ("inputs", "target")


def _length(name: str, axis: int) -> str:
    return f"np.shape({name})[{axis}]" if axis else f"len({name})"


def _substitute(name: str) -> str:
    """A value for a name that nothing sets: by its meaning, or 0 for what is only counted."""
    kind = size_kind(name)
    if LOSS_NAME.search(name) or (kind in ("", "steps") and len(name) <= 2):
        return f"{name} = 0"
    if role(name) == "state":
        return f"{name} = np.zeros(({HIDDEN}, 1))"
    return f"{name} = {VALUES[kind][0]}" if kind in VALUES else f"{name} = 0"
