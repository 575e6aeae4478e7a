"""Finds in a user's file what can be checked, and how it is run, without a line of glue."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from throughtime.arrays import refuse
from throughtime.gradcheck import CheckError
from throughtime.source import older
from throughtime.source.bench import Bench
from throughtime.source.child import tell
from throughtime.source.finding.candidates import Candidate, candidates, is_single
from throughtime.source.finding.made import MOST_MADE, MOST_TRIES_IN_ALL, as_it_is_made
from throughtime.source.finding.models import LEFT_OUT
from throughtime.source.finding.reading import AT_REST
from throughtime.source.finding.readings import Judged
from throughtime.source.finding.region import RegionSearch
from throughtime.source.finding.scripts import scripts_beside
from throughtime.source.finding.search import ReadingSearch
from throughtime.source.finding.siblings import siblings
from throughtime.source.finding.suggestions import (
    is_autograd,
)
from throughtime.source.finding.training_steps import (
    Region,
    region_of_lines,
    regions,
    regions_of_text,
)
from throughtime.source.finding.unchecked import unchecked
from throughtime.source.finding.unread import (
    broken_pass,
    last_of,
    place_of,
    refuse_none,
    refuse_unread,
)
from throughtime.source.meanings import CELL, STEPS
from throughtime.source.recipe import Program, Recipe
from throughtime.source.slices import Slices
from throughtime.source.text import SourceText, parsed, read_source

LIKELY = 3.5  # how likely a class or function is that is tried before the training loop
NOT_CHECKED = (
    "Not checked: {}: the loss depends on them, and no gradient with their names and shapes was "
    'found; tt.check(model, x, y, loss="…", gradient="…") takes any methods of a model.'
)
IDLE = (
    "Not checked: {}: with these data the loss does not depend on them, and their gradients are 0; "
    "FILE.py:120-184, the lines of a training step with its data, or --with takes others."
)
ONE_STEP = (
    "A single step is checked, as the passes have no loop: what a training loop makes of it, and "
    "whether it carries the gradient from step to step, is not."
)
MOST_BROKEN = 2  # backward passes that fail, of which a report speaks
MOST_STEPS = 3  # of a file, looked at for the loss of what is found already
MOST_CANDIDATES = 6  # that are tried where no name is given


@dataclass(frozen=True)
class Found:
    """What was found in a file.

    Args:
        name: of the class or function.
        recipe: how it is run.
        said: what was found, in short sentences.
        notes: what a user should know: updates, other lengths.
        others: names of what else may be checked in the file.
    """

    name: str
    recipe: Recipe
    said: tuple[str, ...]
    notes: tuple[str, ...]
    others: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"found: {self.name}", *(f"  {line}" for line in self.said)]
        if self.others:
            lines.append(f"  also in this file: {', '.join(self.others)}")
        return "\n".join(lines)


def find(
    path: Path, name: str = "", *, setup: str = "", texts: Mapping[Path, str] | None = None
) -> Found:
    """What in a file can be checked, and how.

    Args:
        path: of a Python file or a notebook.
        name: of a class or function in it; by default the likeliest.
        setup: an expression or statements that make the object, where they cannot be guessed.
        texts: as in `Program`.

    Raises:
        CheckError: where nothing is found; it says what to give.
    """
    source = read_source(path)
    tree = parsed(source, (texts or {}).get(path))
    slices = Slices(tree, siblings=siblings(tree, path))
    if lines := _lines(name, source):
        region = region_of_lines(tree, *lines)
        if region is None:
            refuse(f"{path.name}: {name}", "lines with statements", "none", error=CheckError)
        return _found_region(TrainingFile(path, tree), texts, [region], [])
    if setup and (given := regions_of_text(tree, setup)):
        return _found_region(TrainingFile(path, tree), texts, given, [])
    every = candidates(tree, slices)
    if is_autograd(tree, every):
        way_out = "a module is checked by a target of its own: NAME = (module, inputs) in a file"
        refuse(path.name, "a backward pass by hand", "torch's own", way_out, error=CheckError)
    loops = regions(tree) if not name or setup else []
    if not name and loops and not any(c.likely >= LIKELY for c in every):
        with contextlib.suppress(CheckError):
            return _found_region(TrainingFile(path, tree), texts, loops, every)
    chosen = [c for c in every if not name or name in c.names]
    bench = Bench(path, texts)
    failures: list[str] = []
    doubtful: list[tuple[Candidate, Judged]] = []
    cells: list[tuple[Candidate, Judged]] = []
    broken: list[str] = []  # backward passes of the user's that end in an error of their own
    for candidate in chosen[:MOST_CANDIDATES]:
        if bench.tries > MOST_TRIES_IN_ALL:
            failures.append(f"{candidate.name}: not tried, since the others took so long")
            continue
        tell(f"looking for its loss and its gradient: trying {candidate.name}")
        search = ReadingSearch(bench, slices, candidate, _made(setup, candidate))
        best = search.best()
        if best is None:
            failures.append(f"{candidate.name}: {last_of(search.failures)}")
            broken += broken_pass(path, candidate, search.failures)
        elif failures and not name and not best.recurrent and CELL.search(_tried_first(chosen)):
            failures.append(f"{candidate.name}: it runs, and is no recurrent network")
        elif best.believed and is_single(candidate) and not name and not setup:
            cells.append((candidate, best))  # a part of what the file trains, if it does so
        elif best.believed:
            names = [c.name for c in every]
            left = unchecked(bench, best)
            found = found_of(path, candidate.name, best, names, texts=texts, left=left)
            tried = [f"Tried before it: {said}." for said in failures]
            tried += [
                f"Tried before it: {c.name}; it runs, but may be misread." for c, _ in doubtful
            ]
            found = replace(found, notes=(*found.notes, *tried))
            if setup or not best.reading.needs_agreement:
                return found
            return _with_own_loss(found, best, path, tree, texts, candidate)
        else:
            doubtful.append((candidate, best))
    if not setup and not cells:
        for candidate in chosen[:MOST_MADE]:
            made = as_it_is_made(path, tree, slices, candidate, bench)
            if made is not None:
                left = unchecked(bench, made)
                names = [c.name for c in every]
                return found_of(path, candidate.name, made, names, texts=texts, left=left)
    unread: CheckError | None = None
    if not setup:
        steps = _steps_of(tree, name)
        try:
            found = _found_region(TrainingFile(path, tree), texts, steps, every)
            return replace(found, notes=(*found.notes, *broken[:MOST_BROKEN]))
        except CheckError as problem:
            unread = problem if steps else None
        for place, steps in _beside(path, tree, name):
            with contextlib.suppress(CheckError):
                return _found_region(place, texts, steps, every)
    for candidate, best in cells[:1]:
        names = [c.name for c in every]
        left = unchecked(bench, best)
        found = found_of(path, candidate.name, best, names, texts=texts, left=left)
        tried = [f"Tried before it: {said}." for said in failures]
        return replace(found, notes=(*found.notes, ONE_STEP, *tried))
    if not chosen:
        if unread is not None:
            raise unread
        refuse_none(path, tree, name)
    refuse_unread(path, tree, chosen, failures, doubtful, bench, slices)
    raise AssertionError


def _tried_first(chosen: list[Candidate]) -> str:
    return chosen[0].owner.name if chosen[0].owner is not None else chosen[0].name


@dataclass(frozen=True)
class TrainingFile:
    """A file in which a training step stands.

    Args:
        path, tree: of the file that is run.
        beside: whether the user asked for another file, which this one runs.
        module: as `RegionSearch` takes it.
    """

    path: Path
    tree: ast.Module
    module: str = ""
    beside: bool = False


def _steps_of(tree: ast.Module, name: str) -> list[Region]:
    """The training steps of a file; of those that name a class or function, where one is asked."""
    every = regions(tree)
    if not name:
        return every
    first = name.partition(".")[0]
    word = re.compile(rf"\b{re.escape(first)}\b")
    own = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == first]
    inside = {id(part) for node in own for part in ast.walk(node)}
    within = [r for r in every if id(r.body[0]) in inside]
    return within or [r for r in every if r.owner == first or word.search(_text_of(r))]


def _text_of(region: Region) -> str:
    return "\n".join(ast.unparse(node) for node in (*region.before, *region.body))


def _beside(path: Path, tree: ast.Module, name: str) -> Iterator[tuple[TrainingFile, list[Region]]]:
    """The training steps of files that import a file, and steps of the file that they call."""
    for script in scripts_beside(path, tree):
        steps = _steps_of(script.tree, name)
        if steps:
            yield TrainingFile(script.path, script.tree, beside=True), steps
        both = ast.Module([*tree.body, *script.tree.body], [])
        inner = [r for r in _steps_of(both, name) if not r.owner and r not in steps]
        inner = [
            r for r in inner if any(r.body[0] is n for node in tree.body for n in ast.walk(node))
        ]
        if inner:
            yield TrainingFile(script.path, both, script.module, beside=True), inner


def _with_own_loss(
    found: Found,
    best: Judged,
    path: Path,
    tree: ast.Module,
    texts: Mapping[Path, str] | None,
    candidate: Candidate,
) -> Found:
    """What is found where a candidate's loss is a guess: a training step of the user's with it.

    A step whose gradient is not that of its own loss, while all tensors are right for the guess,
    may mean another loss: then the candidate is what is checked, unless a factor is all that
    differs.
    """
    name = candidate.owner.name if candidate.owner is not None else candidate.name
    for place, steps in (
        (TrainingFile(path, tree), _steps_of(tree, name)),
        *_beside(path, tree, name),
    ):
        try:
            other, judged = _best_region(place, texts, steps[:MOST_STEPS], [])
        except CheckError:
            continue
        words = [name.split(".") for name in judged.moves]
        if not set(best.moves) <= {".".join(w[n:]) for w in words for n in range(len(w))}:
            continue  # another network's
        if judged.right or judged.factor is not None or len(best.right) < len(best.moves):
            return other
        note = (
            f"{other.name} was left aside: what it gives is no gradient of "
            "its own loss, so that another may be meant."
        )
        return replace(found, notes=(*found.notes, note))
    return found


def _lines(name: str, source: SourceText) -> tuple[int, int] | None:
    """The lines that `120-184` or `cell 7` means; None for a name."""
    if found := re.fullmatch(r"(\d+)\s*-\s*(\d+)", name):
        return int(found[1]), int(found[2])
    if found := re.fullmatch(r"cells?\s+(\d+)(?:\s*-\s*(\d+))?", name):
        first, last = int(found[1]), int(found[2] or found[1])
        inside = [n for n, (cell, _) in enumerate(source.cells, 1) if first <= cell <= last]
        return (inside[0], inside[-1]) if inside else (0, 0)
    return None


def _found_region(
    place: TrainingFile,
    texts: Mapping[Path, str] | None,
    loops: list[Region],
    every: list[Candidate],
) -> Found:
    """The first region that is read."""
    return _best_region(place, texts, loops, every)[0]


def _best_region(
    place: TrainingFile,
    texts: Mapping[Path, str] | None,
    loops: list[Region],
    every: list[Candidate],
) -> tuple[Found, Judged]:
    path = place.path
    bench = Bench(path, texts)
    failures = []
    for region in loops[:MOST_CANDIDATES]:
        tell(f"looking for its loss and its gradient: trying {region.name}")
        search = RegionSearch(bench, place.tree, region, place.module)
        best = search.best()
        if best is not None and best.believed:
            names = [c.name for c in every]
            left = unchecked(bench, best)
            name = region.name if not place.beside else f"{region.name} of {path.name}"
            return found_of(path, name, best, names, texts=texts, left=left), best
        failures.append(f"{region.name}: {last_of(search.failures)}")
    way_out = "give the lines of one training step, from its data to its gradients: FILE.py:120-184"
    thrown_away = [
        ast.unparse(node)
        for region in loops
        for node in region.body
        if region.given and isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    if thrown_away:
        way_out = f"if they are what a call returns, keep them: grads = {thrown_away[-1]}"
    said = "; ".join(dict.fromkeys(failures))
    refuse(path.name, "lines that run", said, way_out, error=CheckError)


def _made(setup: str, candidate: Candidate) -> str:
    """Statements that leave the object in `net`."""
    if not setup or candidate.owner is None:
        return setup
    try:
        ast.parse(setup, mode="eval")
        return f"net = {setup}"
    except SyntaxError:
        return setup


def found_of(
    path: Path,
    name: str,
    best: Judged,
    every: list[str],
    *,
    texts: Mapping[Path, str] | None = None,
    files: Any = None,
    length: int | None = STEPS,
    left: tuple[str, ...] = (),
) -> Found:
    """What is returned of a reading.

    Args:
        path, name: of what was found.
        best: the reading.
        every: the names of what else there is.
        texts, files: as in `Program`.
        length: how many steps are used.
        left: names of parameters for which no gradient was found.
    """
    reading = best.reading
    keep = [parameter for parameter in best.parameters if parameter in best.moves]
    recipe = Recipe(
        path,
        setup="\n".join(filter(None, (reading.setup, best.redrawn))).strip(),
        loss=f"{reading.run}\n{reading.loss}".strip(),
        gradient="\n".join(filter(None, (best.before, reading.run, reading.gradient))),
        parameters={key: best.parameters[key] for key in keep},
        gradients={key: best.gradients[key] for key in keep},
        steps=dict(reading.steps),
        sequences={},
        data=reading.data,
        length=min(length, reading.longest) if reading.steps and length else None,
    )
    notes: list[str] = []
    if left:
        notes.append(NOT_CHECKED.format(", ".join(left)))
    if idle := [*(key for key in best.parameters if key not in best.moves), *best.unmoved]:
        notes.append(IDLE.format(", ".join(idle)))
    if kept := [key for key in keep if best.gradients[key].startswith("np.sum(")]:
        notes.append(f"Kept apart, and summed here: the gradients of {', '.join(kept)}.")
    recipe, more = _usable(recipe, texts, files, reading.longest)
    notes += more
    recipe = _with_sequences(recipe, dict(reading.sequences), texts, files)
    if best.downhill:
        notes.append(
            "Your updates add the gradient to the parameters: it is read with the other sign."
        )
    if AT_REST in reading.setup and best.settled:
        notes.append(
            "The initial state is 0, as the gradient is right there alone: from another state "
            "the term of the first step is missing."
        )
    elif AT_REST in reading.setup:
        notes.append(
            "The initial state is 0, as the backward pass is not given it: from another state "
            "the term of the first step would be missing."
        )
    if best.update:
        notes.append(
            f"The gradient is used up in an update: it is read as (old − new)/{reading.rate}."
        )
    if LEFT_OUT in f"{reading.data}{reading.setup}":
        notes.append(
            "What moves the parameters is left out of the backward pass: the gradient is read "
            "before it."
        )
    if files is None and Bench(path, texts).files.old:
        notes.append(older.NOTE)
    names = ", ".join(keep)
    said: tuple[str, ...] = (f"parameters: {names} ({len(keep)} arrays)",)
    if left:
        said += (f"not checked: {', '.join(left)}: no gradient of theirs was found",)
    if idle:
        said += (f"not checked: {', '.join(idle)}: the loss does not depend on them here",)
    said += tuple(sorted(reading.said, key=place_of))
    others = tuple(other for other in every if other != name)
    return Found(name, recipe, said, tuple(notes), others)


def _usable(
    recipe: Recipe, texts: Mapping[Path, str] | None, files: Any, longest: int
) -> tuple[Recipe, list[str]]:
    """The recipe, at other lengths where it runs there, and a note where it does not."""
    if not recipe.steps:
        way_out = "give time_axis= so that they are" if files is not None else "none was found"
        return recipe, [f"Other numbers of steps were not looked for: no axis of time; {way_out}."]
    try:
        held = Program(recipe, texts=texts, files=files).parameters
        for length in (1, 2) if recipe.length is None else (1, 2, min(2 * STEPS, longest)):
            program = Program(recipe, texts=texts, length=length, files=files)
            program.loss()
            program.gradient()
            for name, array in program.parameters.items():
                if array.shape != held[name].shape:
                    raise CheckError(f"the shape of {name} depends on it")
        return recipe, []
    except CheckError as problem:
        note = f"Other numbers of steps were not looked for: {problem}."
        Program(recipe, texts=texts, files=files).loss()
        if recipe.length is None:
            return replace(recipe, steps={}), [note]
        return replace(recipe, data=_cut_data(recipe), steps={}, length=None), [note]


def _with_sequences(
    recipe: Recipe, axes: dict[str, int], texts: Mapping[Path, str] | None, files: Any
) -> Recipe:
    """The recipe with its axes of sequences, where a single sequence runs."""
    if not axes:
        return recipe
    try:
        program = Program(recipe, texts=texts, files=files)
        (whole,) = {np.shape(program.datum(name))[axis] for name, axis in axes.items()}
        shape = np.shape(program.datum("y")) if "\ny = " in recipe.data else ()
        if "y" not in axes and whole in shape:
            axes |= {"y": shape.index(whole)}
        found = replace(recipe, sequences=axes)
        single = Program(found, texts=texts, files=files, batch=1)
        single.loss()
        gradient = single.gradient()
    except (CheckError, KeyError, ValueError, IndexError):
        return recipe
    alike = all(gradient[name].size == a.size for name, a in single.parameters.items())
    return found if alike else recipe


def _cut_data(recipe: Recipe) -> str:
    lines = [
        f"{name} = {name}[{':, ' * axis}:{recipe.length}]" for name, axis in recipe.steps.items()
    ]
    return "\n".join((recipe.data, *lines))
