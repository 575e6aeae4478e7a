"""Lines of a script or notebook as a candidate: one training step, without its update."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from throughtime.gradcheck import CheckError
from throughtime.source.bench import Bench
from throughtime.source.finding.alike import Alike
from throughtime.source.finding.candidates import arguments, methods, returned, returned_lists
from throughtime.source.finding.constructors import constructors
from throughtime.source.finding.essentials import essentials
from throughtime.source.finding.forms import Sizes, forms, sizes_of, targets
from throughtime.source.finding.losses import value_of
from throughtime.source.finding.models import IMPORT
from throughtime.source.finding.rates import rate_of, reached
from throughtime.source.finding.reading import Reading
from throughtime.source.finding.readings import Judged, likeliest
from throughtime.source.finding.training_steps import (
    LOSS_NAME,
    RUNNING,
    Region,
    is_gradient,
    is_pass,
    kept_gradients,
    losses_in,
    made_of_losses,
)
from throughtime.source.finding.updates import without_optimisers
from throughtime.source.meanings import BACKWARD, FORWARD, HIDDEN, LONGEST, VALUES, role, size_kind
from throughtime.source.pairing import is_object, places
from throughtime.source.slices import COUNTS, Slices, free_names, names_set
from throughtime.source.squares import NAME as SQUARES
from throughtime.source.squares import errors_of, with_squares
from throughtime.source.vintage import is_stand_in

USUAL_FORM = 3  # of data that are drawn to see what else is lacking: (B, T, I)
MOST_TRIES = 150  # runs of a step, after which no other sizes of its data are tried
MOST_OWNERS = 3  # ways to make the object whose method holds a step
FEWEST_STEPS = 3  # of a user's own data, less than which are no sequence
MOST_LOSSES = 4  # of a step that are tried
AFTER_ITS_OWN = 0.5  # a loss that is not the step's own is tried after those that are
OF_STATE = re.compile(r"^d_?(next_?|prev_?)?[hcsa](_?(next|prev|0|init|t))?$", re.I)
LONGEST_DATA = 2000  # steps of a user's own data that are cut to a few; more are not looked at


class RegionSearch:
    """Readings of a region: what it needs is taken from the statements before it, or drawn.

    Args:
        bench: the user's file.
        tree: of it.
        region: what is read.
        module: a module of the user's all of whose names are needed, where the step stands in
            that module and not in the file.
    """

    def __init__(self, bench: Bench, tree: ast.Module, region: Region, module: str = "") -> None:
        self.bench, self.region = bench, region
        self._tree = _definitions(tree)
        self.slices = Slices(self._tree, region.before, in_order=True)
        self.failures: list[str] = []
        self.body = list(region.body)
        # Whatever else the file takes from others with `*`.
        self._made = set().union(*map(names_set, ast.parse(region.made).body))
        self.start = f"{IMPORT}\nT = {LONGEST}" + (f"\nfrom {module} import *" if module else "")

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
        with self.bench.files.entered():  # once for all tries
            return self._best()

    def _best(self) -> Judged | None:
        found = likeliest(self.bench, self._readings())
        if found is None or len(found.moves) < len(found.parameters):
            # Data that are written out fit no other sizes than the file's own; numbers of 8 bits
            # have nothing but zeros in the first of them, which some parameters then multiply.
            self.slices = Slices(self._tree, self.region.before, in_order=True, as_written=True)
            self.body = list(self.region.body)
            other = likeliest(self.bench, self._readings())
            more = found is None or (other is not None and len(other.moves) > len(found.moves))
            found = other if more else found
        if found is None or not found.believed:
            found = self._without_optimisers() or found
        return found

    def _without_optimisers(self) -> Judged | None:
        """The reading of the user's lines in which what moves the parameters is left out.

        None where nothing of the kind is called, or where no tensor can be judged then either.
        """
        calls = [
            part.func
            for node in self.region.body
            for part in ast.walk(node)
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute)
        ]
        owners = {getattr(func.value, "id", "") for func in calls} - {"", "np", "self"}
        used = [self._functions[func.attr] for func in calls if func.attr in self._functions]
        if not self.region.made or len(owners) != 1 or not used:
            return None
        functions = reached(used, self._functions)
        left = without_optimisers(functions, self._functions)
        if not left:
            return None
        (owner,) = owners
        left = re.sub(r"\bnet\b", owner, left)
        self.region = replace(self.region, made=f"{self.region.made}\n{left}")
        self.body = list(self.region.body)
        return likeliest(self.bench, self._readings())

    def _readings(self) -> Iterator[Reading]:
        if not self.region.owner:
            yield from self._with_owner("")
            return
        for call in constructors(self.slices, self.region.owner)[:MOST_OWNERS]:
            self.body = list(self.region.body)
            yield from self._with_owner(f"self = {call}")

    def _with_owner(self, owner: str) -> Iterator[Reading]:
        needed = self._needed()
        away = self._away(needed)
        texts = self._statements(needed - ({"self"} if owner else set()), away)
        texts += [owner] if owner else []
        texts += [ast.unparse(node) for node in ast.parse(self.region.made).body]
        form = forms(Sizes())[USUAL_FORM].text
        kept = self._run_all([f"{name} = {form}" for name in sorted(away)], texts)
        lost = self._without_lost([name for name in self._lost(needed) if name not in away])
        needed |= set(lost)
        hoisted = [] if away else self._hoisted(kept)
        needed |= free_names(self.body)
        needed = {name for name in needed if self._is_own(name)}
        lost = sorted({*lost, *away})
        inputs = [name for name in lost if role(name) == "inputs"]
        aims = [name for name in lost if role(name) == "target"]
        others = [name for name in lost if name not in (*inputs, *aims)]
        fixed = [_substitute(name) for name in others]
        if not inputs and not aims:
            yield from self._with_loss([], [*kept, *fixed, *hoisted], needed)
            return
        first = self.bench.tries
        for sizes in self._sizes(needed):
            if self.bench.tries - first > MOST_TRIES:
                return
            for shape in forms(sizes):
                alike = Alike()
                for aim, axis in targets(shape, sizes) if aims else [("", None)]:
                    if alike.enough(kind=axis is None):
                        continue
                    drawn = [f"{name} = {shape.text}" for name in inputs]
                    drawn += [f"{name} = {aim}" for name in aims]
                    found = self._with_loss(drawn, [*fixed, *texts, *hoisted], needed)
                    yield from alike.watch(found, self.failures, kind=axis is None)

    def _sizes(self, needed: set[str]) -> list[Sizes]:
        """The sizes that data are drawn for: those of the arrays that were made before the step."""
        shapes = [
            place.value.shape
            for name in sorted(needed)
            if not _is_drawn(name)
            for place in places(name, self._value(name), (name,))
        ]
        return sizes_of(shapes)

    def _needed(self) -> set[str]:
        """The names that the region and the functions it calls read from before."""
        loads = free_names([*ast.parse(self.region.made).body, *self.body])
        called = self.slices.globals_of(n for n in loads if n in self.slices.definitions)
        return {name for name in loads | called if self._is_own(name)}

    def _is_own(self, name: str) -> bool:
        """Whether a name is the file's own, or made by the user's line."""
        return name in self._made or self.slices.is_own(name)

    def _away(self, needed: set[str]) -> set[str]:
        """Names of data that are drawn: only what reaches out of the program sets them.

        Or nothing does, as for arguments of a function that is not called in the file, while what
        the step needs is taken from them: `for x, y in zip(xs, ys)`.
        """
        wanted = self.slices.closure(needed)
        there = {n for node in self._statements(wanted, set()) for n in names_set(_node(node))}
        away = {
            n
            for n in wanted - there
            if _is_drawn(n)
            and (self.slices.is_loaded(n) or not (n in needed or self.slices.is_set(n)))
        }
        return away - self.sets

    def _statements(self, needed: set[str], drawn: set[str]) -> list[str]:
        """The statements before that set what is needed."""
        return [ast.unparse(n) for n in ast.parse(self.slices.text(needed, drawn)).body]

    def _run_all(self, drawn: list[str], texts: list[str]) -> list[str]:
        """Runs statements one after another; those that run.

        Where one fails that sets a size, the size is what is asked for.
        """
        kept: list[str] = []
        if not self.bench.runs("\n".join((self.start, *drawn)), self.failures):
            return []
        for text in texts:
            try:
                self.bench.go_on(text)
                kept.append(text)
                for name in names_set(_node(text)) if "len(" in text else ():
                    if self._is_number(name, 0) and COUNTS.search(name):  # of data that are away
                        kept.append(_substitute(name))
                        self.bench.go_on(kept[-1])
            except CheckError as problem:
                self.failures.append(str(problem))
                for name in sorted(names_set(_node(text))):
                    counted = COUNTS.search(name) or _is_counted(_node(text))
                    if name not in self.bench.space and counted:
                        kept.append(_substitute(name))
                        self.bench.go_on(kept[-1])
        return kept

    def _lost(self, needed: set[str]) -> list[str]:
        """Names that no statement has set."""
        space = self.bench.space
        return sorted(n for n in needed if n not in space or is_stand_in(space[n]))

    def _without_lost(self, lost: list[str]) -> list[str]:
        """Leaves out statements that only read what is lost, until the first loop.

        What they would set is lost too, and is drawn.
        """
        bad = {n for n in lost if not _is_drawn(n)}
        bad |= {n for n, v in self.bench.space.items() if is_stand_in(v)}
        kept: list[ast.stmt] = []
        made: set[str] = set()  # by what is kept: what reads it is no data
        found: set[str] = set(lost)
        for n, node in enumerate(self.body):
            if isinstance(node, ast.For | ast.While):
                kept += self.body[n:]
                break
            read = {p.id for p in ast.walk(node) if isinstance(p, ast.Name)} - names_set(node)
            read |= names_set(node) & found
            loads = isinstance(node, ast.Assign) and all(map(_is_drawn, names_set(node)))
            loads = loads and not read & made
            sets = isinstance(node, ast.Assign | ast.AugAssign)
            if sets and (read & bad or loads) and self._fails(node):
                bad |= {n for n in names_set(node) if not _is_drawn(n)}
                found |= names_set(node)
            else:
                kept.append(node)
                made |= names_set(node)
        self.body = kept
        return sorted(found & free_names(kept))

    def _hoisted(self, kept: list[str]) -> list[str]:
        """Takes the statements that make the data out of the step, so that the data can be cut."""
        head: list[ast.stmt] = []
        for node in self.body:
            if not isinstance(node, ast.Assign | ast.AugAssign) or is_pass(node):
                break
            head.append(node)
        if not self.bench.runs("\n".join((self.start, *kept)), self.failures):
            return []
        wanted: set[str] = set()
        for node in head:
            if self._fails(node):
                break
            wanted |= {n for n in names_set(node) if _is_long(self.bench.space.get(n))}
        taken: list[ast.stmt] = []
        for node in reversed(head):
            if names_set(node) & wanted and not any(is_gradient(n) for n in names_set(node)):
                taken.insert(0, node)
                wanted |= {p.id for p in ast.walk(node) if isinstance(p, ast.Name)}
        self.body = [node for node in self.body if node not in taken]
        return [ast.unparse(node) for node in taken]

    def _fails_as_it_stands(self) -> bool:
        """Whether the step fails; where that is so, nothing of it is left done."""
        start = self.bench.state()
        try:
            self.bench.go_on(self.text)
        except CheckError:
            return True
        finally:
            self.bench.run("", start)
        return False

    def _fails(self, node: ast.stmt) -> bool:
        """Whether a statement fails, or gives a stand-in, while nothing is drawn."""
        try:
            self.bench.go_on(ast.unparse(node))
        except CheckError:
            return True
        return any(is_stand_in(self.bench.space.get(name)) for name in names_set(node))

    def _with_loss(
        self, drawn: list[str], statements: list[str], needed: set[str]
    ) -> Iterator[Reading]:
        kept = self._run_all(drawn, statements)
        if not self.region.given and self._fails_as_it_stands():
            self.body = essentials(self.body)
        rate = self._rate(needed)
        base = Reading(
            "\n".join((self.start, *drawn, *kept)),
            "",
            "",
            "",
            self.text,
            tuple(sorted((needed | self.sets) - self._carried())),
            literal=bool(self.region.made) and rate is not None,
            kept=tuple(kept_gradients(self.body)),
            kept_names=tuple(self._kept_names()),
            rate=0.1 if rate is None else rate,
        )
        try:
            self.bench.go_on(self.text)
        except CheckError as problem:
            self.failures.append(str(problem))
            return
        for order, reading in enumerate((*self._cut(base, drawn, kept, needed), base)):
            if not self.bench.runs(f"{reading.begin}\n{self.text}", self.failures):
                continue
            first = reading.steps[0] if reading.steps else None
            where = f"steps from {first[0]}, axis {first[1]}" if first else ""
            gradient = f"gradient: {self.region.name}"
            own = self._losses()
            parts = self._only_parts(own)
            for name in own:
                yield replace(
                    reading,
                    order=float(order),
                    loss=f"{self.text}\nloss = {name}",
                    said=tuple(filter(None, (where, f"loss: {name}", gradient))),
                    needs_agreement=_is_error(name),
                    own_loss=bool(parts) and name not in parts,
                    anchored=not _is_error(name),
                    passes_over=name in parts,
                )
            errors = errors_of(self.body)
            others = self._losses() if errors else []
            shown = next((n for n in others if _is_error(n) and n not in errors), "")
            for name, half in product(errors, (True, False)):
                text = "\n".join(map(ast.unparse, with_squares(self.body, name, half=half)))
                loss = f"loss: {'half ' * half}the sum of squares of {name}"
                if shown:
                    loss += f"; {shown}, which is summed up beside it, has another gradient"
                yield replace(
                    reading,
                    order=order + AFTER_ITS_OWN,
                    gradient=text,
                    loss=f"{text}\nloss = {SQUARES}",
                    said=tuple(filter(None, (where, loss, gradient))),
                    needs_agreement=True,
                )

    def _carried(self) -> set[str]:
        """The names that a forward pass is given and sets, `h, c = cell.forward(x, h, c)`: states.

        What the step makes of them is no update of a parameter.
        """
        found: set[str] = set()
        for part in (part for node in self.body for part in ast.walk(node)):
            if isinstance(part, ast.Assign) and isinstance(part.value, ast.Call):
                func = part.value.func
                if FORWARD.match(getattr(func, "attr", getattr(func, "id", ""))):
                    given = {p.id for p in ast.walk(part.value) if isinstance(p, ast.Name)}
                    found |= names_set(part) & given
        return found

    def _kept_names(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Variables that hold all that a backward pass returns, with the names it has there."""
        for part in (part for node in self.body for part in ast.walk(node)):
            if isinstance(part, ast.Assign) and isinstance(part.value, ast.Call):
                func = part.value.func
                function = self._functions.get(getattr(func, "attr", getattr(func, "id", "")))
                target = part.targets[0]
                if function is not None and isinstance(target, ast.Name):
                    names = ["" if OF_STATE.match(n) else n for n in returned(function)]
                    if BACKWARD.match(function.name) and len(names) > 1:
                        yield target.id, tuple(names)
                elif function is not None and isinstance(target, ast.Tuple):
                    several = returned_lists(function) if BACKWARD.match(function.name) else []
                    for part_of, names in zip(target.elts, several, strict=False):
                        if isinstance(part_of, ast.Name) and len(names) > 1:
                            yield part_of.id, tuple(names)

    def _rate(self, needed: set[str]) -> float | None:
        """The learning rate that the statements use."""
        for name in sorted(needed):
            value = self._value(name)
            if size_kind(name) == "rate" and isinstance(value, float) and value > 0:
                return value
        return self._rate_given() or self._inner_rate()

    def _rate_given(self) -> float | None:
        """The learning rate that the statements give to a function or method, or leave to it."""
        for part in (part for node in self.body for part in ast.walk(node)):
            if not isinstance(part, ast.Call):
                continue
            function = self._called(part)
            if function is None:
                continue
            method = isinstance(part.func, ast.Attribute)
            needed, optional = arguments(function, method=method)
            words = dict(zip([*needed, *optional], part.args, strict=False))
            words |= {k.arg: k.value for k in part.keywords if k.arg}
            for name, given in {**optional, **words}.items():
                value = value_of(self.bench, ast.unparse(given)) if size_kind(name) == "rate" else 0
                if isinstance(value, int | float) and value > 0 and not isinstance(value, bool):
                    return float(value)
        return None

    def _called(self, call: ast.Call) -> ast.FunctionDef | None:
        """The user's function or method that is called: that of the object's own class."""
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if isinstance(call.func, ast.Attribute):
            kind = type(value_of(self.bench, ast.unparse(call.func.value))).__name__
            if kind in self.slices.classes:
                return methods(self.slices.classes[kind], self.slices.classes).get(name)
        return self._functions.get(name)

    def _inner_rate(self) -> float | None:
        """The learning rate of an update in a function or method that the statements call."""
        called: dict[str, ast.FunctionDef] = {}
        for node in self.body:
            for part in ast.walk(node):
                if isinstance(part, ast.Call):
                    name = getattr(part.func, "attr", getattr(part.func, "id", ""))
                    if name in self._functions:
                        called[name] = self._functions[name]
        objects = [n for n, v in self.bench.space.items() if is_object(v)]

        def value(name: str) -> object:
            texts = [re.sub(r"^self\b", own, name) for own in objects]
            found = [value_of(self.bench, text) for text in (texts if "self." in name else [name])]
            return next((v for v in found if isinstance(v, float)), None)

        return rate_of(called.values(), self._functions, value)

    @property
    def _functions(self) -> dict[str, ast.FunctionDef]:
        """The functions and methods of the file by name."""
        every = [*self.slices.definitions.values(), *self.slices.siblings.values()]
        found = [part for node in every for part in getattr(node, "body", [])
                 if isinstance(node, ast.ClassDef)]  # fmt: skip
        return {n.name: n for n in (*found, *every) if isinstance(n, ast.FunctionDef)}

    def _cut(
        self, base: Reading, drawn: list[str], kept: list[str], needed: set[str]
    ) -> Iterator[Reading]:
        """The reading with its data cut to a few steps, before all that depends on them is made."""
        self._run_all(drawn, kept)
        for steps in self._steps(needed):
            names = {name for name, _ in steps}
            setting = [n for n, text in enumerate(kept) if names & names_set(_node(text))]
            last = max(setting, default=-1) + 1
            extent = self._extent(*steps[0])
            if self.region.given and _counts_to(self.body, extent):
                continue
            resets = [
                f"{name} = {_length(*steps[0])}"
                for name in sorted(needed)
                if size_kind(name) in ("steps", "") and self._is_number(name, extent)
            ]
            yield replace(
                base,
                data="\n".join((self.start, *drawn, *kept[:last])),
                setup="\n".join((f"T = {_length(*steps[0])}", *kept[last:], *resets)),
                steps=tuple(steps),
                longest=min(self._extent(*step) for step in steps),
            )

    def _steps(self, needed: set[str]) -> Iterator[list[tuple[str, int]]]:
        """Data with an axis of time: as long as was asked for, or of the user's own length."""
        shapes = {}
        for name in sorted(needed - _filled_first(self.body)):
            value = self._value(name)
            if not isinstance(value, list | np.ndarray) or is_gradient(name):
                continue
            try:
                shapes[name] = np.shape(value)
            except ValueError:
                shapes[name] = (len(value),)
        asked = [(n, s.index(LONGEST)) for n, s in shapes.items() if LONGEST in s]
        if asked:
            yield asked
            return
        inputs = [n for n in shapes if role(n) == "inputs" or n in ("x", "X")]
        for axis in (0, 1):
            for name in inputs:
                long = shapes[name][axis] if len(shapes[name]) > axis else 0
                if FEWEST_STEPS <= long <= LONGEST_DATA:
                    alike = [n for n, s in shapes.items() if len(s) > axis and s[axis] == long]
                    yield [(name, axis), *((n, axis) for n in alike if n != name and _is_data(n))]

    def _extent(self, name: str, axis: int) -> int:
        value: Any = self._value(name)
        return np.shape(value)[axis] if axis else len(value)

    def _is_number(self, name: str, number: int) -> bool:
        value = self._value(name)
        return isinstance(value, int) and value == number

    def _value(self, name: str) -> object:
        return self.bench.space.get(name)

    def _losses(self) -> list[str]:
        """Names of losses that the region sets, the likeliest first."""
        found = []
        for name in losses_in(self.body):
            value = self._value(name)
            if isinstance(value, bool | type(None)):
                continue
            try:
                number = np.asarray(value, dtype=np.float64)
            except (TypeError, ValueError, RuntimeError):  # of torch, where it keeps a graph
                continue
            most = 1 if _is_error(name) else LONGEST * HIDDEN
            if 0 < number.size <= most and np.isfinite(number).all():
                late = _is_error(name) or bool(RUNNING.search(name))
                found.append((late, name != "loss", number.size > 1, name))
        ranked = [name for *_, name in sorted(found)]
        shown = self._shown()
        whole = [name for name in shown if name == self.region.shown or name in ranked]
        alone = [name for name in ranked[:MOST_LOSSES] if name not in self._only_parts(whole)]
        return [*dict.fromkeys([*whole, *alone, *ranked[:MOST_LOSSES]])]

    def _shown(self) -> dict[str, set[str]]:
        """What the step makes of its losses, and of which: what it gives back comes first."""
        text = self.region.shown
        value: Any = value_of(self.bench, text) if text else None
        given_back: dict[str, set[str]] = {}
        if np.size(value) == 1 and np.isfinite(np.asarray(value, np.float64)).all():
            names = (part for part in ast.walk(ast.parse(text)) if isinstance(part, ast.Name))
            given_back[text] = {part.id for part in names}
        return given_back | made_of_losses(self.body)

    def _only_parts(self, losses: Sequence[str]) -> set[str]:
        """The losses that others of these are made of."""
        shown = self._shown()
        return {part for name in losses for part in shown.get(name, ())}


def _is_error(name: str) -> bool:
    """Whether a name is one of an error, which may be shown and be no loss."""
    return role(name) == "upstream" and "loss" not in name.lower()


def _definitions(tree: ast.Module) -> ast.Module:
    """The file's definitions and imports alone."""
    return ast.Module(
        [
            node
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom)
        ],
        [],
    )


def _counts_to(body: Sequence[ast.stmt], steps: int) -> bool:
    """Whether statements write out how many steps there are: `k == 3`, or `range(4)`, of four.

    With fewer of them they would do something else, or nothing.
    """
    for part in (part for root in body for part in ast.walk(root)):
        numbers: list[ast.expr] = []
        if isinstance(part, ast.Compare):
            numbers = [part.left, *part.comparators]
        elif isinstance(part, ast.Call) and getattr(part.func, "id", "") == "range":
            numbers = part.args
        for number in numbers:
            if (
                isinstance(number, ast.Constant)
                and number.value in (steps, steps - 1)
                and steps > 2
            ):
                return True
    return False


def _filled_first(body: Sequence[ast.stmt]) -> set[str]:
    """The names of arrays that are filled entry by entry, and in whose entries nothing was before.

    As outputs are, for which room is made first: `o[t] = V @ h[t]`.
    """
    filled: set[str] = set()
    read: set[str] = set()
    for node in (part for root in body for part in _statements_in(root)):
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        root = target.value if isinstance(target, ast.Subscript) else None
        read |= {
            part.id
            for part in ast.walk(node)
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load) and part is not root
        }
        if isinstance(root, ast.Name) and root.id not in read:
            filled.add(root.id)
    return filled


def _statements_in(node: ast.stmt) -> Iterator[ast.stmt]:
    """A statement, or those within it, in the order in which they stand."""
    inner = getattr(node, "body", None)
    if not isinstance(inner, list):
        yield node
        return
    for part in (*inner, *getattr(node, "orelse", ())):
        yield from _statements_in(part)


def _is_counted(node: ast.stmt) -> bool:
    """Whether a statement sets one name to a size of data: `n = len(x)`, `d = x.shape[1] - 1`."""
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return False
    value = node.value
    while isinstance(value, ast.BinOp):
        value = value.left if not isinstance(value.left, ast.Constant) else value.right
    if isinstance(value, ast.Call):
        return getattr(value.func, "id", "") == "len"
    shape = value.value if isinstance(value, ast.Subscript) else value
    return isinstance(shape, ast.Attribute) and shape.attr in ("shape", "size")


def _node(text: str) -> ast.stmt:
    return ast.parse(text).body[0]


def _is_long(value: object) -> bool:
    """Whether it is a list of as many steps as were asked for, or an array with such an axis."""
    if isinstance(value, list):
        return len(value) == LONGEST
    return isinstance(value, np.ndarray) and LONGEST in value.shape


def _is_drawn(name: str) -> bool:
    """Whether a name is that of data, which can be drawn."""
    return role(name) in ("inputs", "target")


def _is_data(name: str) -> bool:
    return _is_drawn(name) or role(name) == ""


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
