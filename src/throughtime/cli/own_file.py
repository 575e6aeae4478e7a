"""`throughtime check lstm.py`: a user's own file, without a line of glue."""

from __future__ import annotations

import argparse
import ast
import os
import shlex
from dataclasses import dataclass, replace
from typing import Any

from throughtime import diagnosis
from throughtime.cli.places import LINES, SUFFIXES, imports_this_package, split_place
from throughtime.gradcheck import CheckError, SourceLines, Target
from throughtime.progress import waiting
from throughtime.questions import Report, check, diagnosed
from throughtime.source import (
    Program,
    Recipe,
    Slices,
    apart,
    as_python,
    candidates,
    causes_beside,
    checked_without_safety,
    find,
    read_source,
    regions,
    tell,
    which_line,
)

TASK = "throughtime.cli.own_file:judge"
LINES_TASK = "throughtime.cli.own_file:look_at_lines"
LINES_SECONDS = 300.0  # a guard, as of the check: what bounds the work is a number of evaluations
NOT_LOOKED = (
    "Not looked for: steps of sequences of several lengths, and batches of other sizes; give a "
    "tt.Target with `variants` so that they are."
)


@dataclass(frozen=True)
class ChildAnswer:
    """What a child sends back: what was found in which text, and the report, if asked for."""

    found: str
    target: str
    report: Report | None
    recipe: Recipe
    text: str


def is_own_file(place: str) -> bool:
    """Whether a place on the command line is a user's own file, and no target in a file."""
    path, name = split_place(place)
    if path.suffix not in SUFFIXES or not path.is_file():
        return False
    if path.suffix == ".ipynb" or LINES.match(name):
        return True
    try:
        tree = ast.parse(read_source(path).text)
    except (CheckError, SyntaxError):
        return False
    slices = Slices(tree)
    if imports_this_package(tree):
        return False
    if not name:
        return bool(slices.definitions or slices.statements)
    names = {word for candidate in candidates(tree, slices) for word in candidate.names}
    first = slices.definitions.get(name.split(".")[0])
    if isinstance(first, ast.ClassDef):
        return True
    return (name in names or name in slices.definitions) and not _may_make_a_target(first, tree)


def _may_make_a_target(node: ast.AST | None, tree: ast.Module) -> bool:
    """Whether it is a function that is called without arguments, and returns what it made.

    One that returns nothing, or in which a training step stands, is part of the user's network.
    """
    if not isinstance(node, ast.FunctionDef):
        return False
    if len(node.args.args) != len(node.args.defaults) or node.args.vararg:
        return False
    inside = {id(part) for part in ast.walk(node)}
    ends = _returns(node) or isinstance(node.body[-1], ast.Raise)  # what it raises is to be said
    return ends and not any(id(step.body[0]) in inside for step in regions(tree))


def _returns(node: ast.AST) -> bool:
    """Whether a function returns a value; those inside it do not count."""
    if isinstance(node, ast.Return):
        return node.value is not None
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    return any(_returns(part) for part in ast.iter_child_nodes(node) if not isinstance(part, inner))


def judge(
    place: str, made: str, seed: int, options: dict[str, Any], run: bool, folder: str = ""
) -> ChildAnswer:
    """In the child: finds, and checks what was found.

    Args:
        place: the absolute path, and the name in it.
        made, seed, options: of the command line.
        run: whether to check it, or only to say what was found.
        folder: from which the command was given; a target that is printed says where the file is
            from there.
    """
    path, name = split_place(place)
    tell("looking for its loss and its gradient")
    found = find(path, name, setup=made)
    read = read_source(found.recipe.path).text
    text = str(found)
    target = as_python(found.recipe, found.name, folder)
    if not run:
        return ChildAnswer(text, target, None, found.recipe, read)
    tell(f"measuring the gradient of {found.name}")
    target_of_file = Program(found.recipe, seed=seed).target()
    report = check(target_of_file, seed=seed, diagnose=False, **options)
    if report.verdict == "disagree":
        tell("looking for the cause")
        report = _with_causes(target_of_file, report, found.recipe, seed, options)
    return ChildAnswer(
        text, target, _with_notes(report, (*found.notes, NOT_LOOKED)), found.recipe, read
    )


def _with_causes(
    target: Target, report: Report, recipe: Recipe, seed: int, options: dict[str, Any]
) -> Report:
    """The report with what explains it: causes, or a small number in the loss.

    Where the gradient agrees without such numbers, that is the report: no line is wrong.
    Causes are sought without such numbers, since they are no part of any network's equations:
    with them none of our own backward passes can be the user's, up to the last digit.
    """
    plain = checked_without_safety(recipe, seed)
    if plain is not None and plain.explains(report.discrepancy):
        without = check(plain.target, seed=seed, diagnose=False, **options)
        if without.verdict == "agree":
            return _with_notes(without, (plain.residue(report.discrepancy),))
    limits = (options.get("evaluations"), options.get("seconds"), seed, False)
    if plain is None or plain.report.verdict != "disagree":
        return Report(**vars(diagnosed(target, report, *limits)))
    found = diagnosed(plain.target, plain.report, *limits)
    notes = [note for note in found.notes if note not in plain.report.notes]
    report = Report(**{**vars(report), "causes": found.causes})
    return _with_notes(report, (*notes, plain.note))


def look_at_lines(recipe: Recipe, report: Report, seed: int) -> SourceLines:
    """In another child: which line is wrong."""
    return which_line(recipe, report, seed)


def _with_notes(report: Report, notes: tuple[str, ...]) -> Report:
    return Report(**{**vars(report), "notes": (*report.notes, *notes)})


def judged(options: argparse.Namespace, chosen: dict[str, Any]) -> ChildAnswer:
    """What the child says of the file that the command line names."""
    path, name = split_place(options.target)
    place = str(path.resolve()) + (f":{name}" if name else "")
    made = options.made or ""
    run = not options.print_target
    given = (place, made, options.seed, {**chosen, "progress": False}, run, os.getcwd())
    what = f"checking {path.name}" if run else f"looking for what can be checked in {path.name}"
    with waiting(what, False if options.quiet else None) as now:
        found = apart(TASK, *given, seconds=options.timeout, told=now)
    assert isinstance(found, ChildAnswer)
    return found


def with_lines(found: ChildAnswer, options: argparse.Namespace) -> Report:
    """The report of a wrong gradient with the line that is wrong, as far as that is known.

    It is looked for in another process than the check's: what befalls it there leaves the verdict.
    """
    report = found.report
    assert report is not None
    if report.verdict != "disagree" or options.no_lines or diagnosis.INTERRUPTED in report.notes:
        return report
    show = False if options.quiet else None
    seconds = min(LINES_SECONDS, options.timeout or LINES_SECONDS)
    try:
        with waiting(f"which line of {found.recipe.path.name} is wrong", show):
            lines = apart(LINES_TASK, found.recipe, report, options.seed, seconds=seconds)
    except CheckError as problem:
        lines = SourceLines(f"It is not known, since the lines could not be looked at: {problem}.")
    except KeyboardInterrupt:
        lines = SourceLines("It is not known, since the search was interrupted.")
    assert isinstance(lines, SourceLines)
    if read_source(found.recipe.path).text != found.text:
        lines = SourceLines("It is not known, since the file has changed meanwhile.")
    command = ["throughtime", "mend", options.target]
    if options.made:
        command += ["--with", options.made]
    lines = replace(lines, next=f"`{shlex.join(command)}` looks for the edit that mends it.")
    causes = causes_beside(lines, report)
    return Report(**{**vars(report), "lines": lines, "causes": causes})
