"""What is said where nothing in a file can be read: what was tried, and what to give."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from throughtime.arrays import refuse
from throughtime.gradcheck import CheckError
from throughtime.source.bench import Bench
from throughtime.source.finding.candidates import Candidate
from throughtime.source.finding.forms import Sizes, forms
from throughtime.source.finding.models import IMPORT
from throughtime.source.finding.readings import Judged
from throughtime.source.finding.region import RegionSearch
from throughtime.source.finding.search import ReadingSearch
from throughtime.source.finding.suggestions import (
    NO_DEFINITION,
    definitions_said,
    line_of,
    training_steps,
)
from throughtime.source.finding.training_steps import regions_of_text
from throughtime.source.meanings import STEPS
from throughtime.source.slices import Slices

OWN_FAULT = re.compile(  # of code that runs with no data whatever
    r"NameError|UnboundLocalError|AttributeError: '(?!int|float|str|list|dict|tuple|NoneType|numpy"
    r"|function|ndarray)\w+' object has no attribute"
)
EXAMPLE = (
    "net = Net(5, 4); x = np.random.randn(6, 5); y = np.random.randn(6, 4); out = net.apply(x); "
    "loss = 0.5 * np.sum((out - y) ** 2); net.learn(out - y)"
)  # of a network that is called otherwise
MOST_SUGGESTED = 1_500  # runs of the user's code for a line that works


def place_of(said: str) -> int:
    """Where a sentence stands: the loss, the gradient, the rest."""
    return next((n for n, word in enumerate(("loss", "gradient")) if said.startswith(word)), 2)


def last_of(failures: list[str]) -> str:
    """Why a candidate was not read; what is wrong whatever it is given comes before what is not."""
    own = [said for said in failures if OWN_FAULT.search(said)]
    if own:
        return max(dict.fromkeys(own), key=own.count)
    return failures[-1] if failures else "no arrays with gradients were found"


def broken_pass(path: Path, candidate: Candidate, failures: list[str]) -> list[str]:
    """What is said of a backward pass that ran, after its forward pass, and never to its end."""
    lines = range(candidate.backward.lineno, (candidate.backward.end_lineno or 0) + 1)
    reached = [said for said in failures if (line := _line_in(path, said)) and line in lines]
    if candidate.forward is None or not reached:
        return []
    most = max(dict.fromkeys(reached), key=reached.count)
    data = "with all data that were tried"
    said = f"{candidate.name} was tried before it, and its backward pass fails {data}: {most}"
    return [said.rstrip(".") + "."]


def _line_in(path: Path, said: str) -> int:
    """The line of the user's file in which an error arose; 0 where it arose elsewhere."""
    found = re.match(rf"{re.escape(path.name)}, line (\d+): ", said)
    return int(found[1]) if found else 0


def _suggested(
    bench: Bench,
    tree: ast.Module,
    candidate: Candidate,
    slices: Slices,
    doubted: Judged | None = None,
) -> str:
    """A line for `--with` that was tried and works; else the one that goes furthest, and to where.

    What it makes, and the sizes of its data, are those with which the candidate was tried.
    """
    if doubted is not None and (line := line_of(doubted.reading)) and _works(bench, tree, line):
        return f'if that is what you mean, say so, and else say how a step goes: --with "{line}"'
    search = ReadingSearch(bench, slices, candidate)
    made, sizes = "", Sizes()
    for setup, roots in search.models():
        last = setup.strip().rpartition("\n")[2]
        made = last if re.match(r"(net|params) = ", last) else ""
        sizes = search.sizes_for(setup, roots)[0]
        break
    furthest, problem = -1, ""
    first = bench.tries
    for step in training_steps(slices, candidate, sizes, made):
        count, said = _goes_on(bench, step)
        if not said:
            if _works(bench, tree, step):
                return f'say how a training step goes: --with "{step}", which was tried'
            said = "nothing: it runs, but no gradient of its loss was found"
        if count > furthest:
            furthest, problem = count, f'"{step}" (which stops at {said})'
        if bench.tries - first > MOST_SUGGESTED:
            break
    return (
        "none of the training steps that were tried is understood; say how one goes, with your "
        f"own sizes in a line such as --with {problem}"
    )


def _works(bench: Bench, tree: ast.Module, line: str) -> bool:
    """Whether a line is read, as it will be where the user gives it."""
    for region in regions_of_text(tree, line):
        best = RegionSearch(bench, tree, region).best()
        if best is not None and best.believed:
            return True
    return False


def _goes_on(bench: Bench, line: str) -> tuple[int, str]:
    """How many statements of a line run, and what stops it; "" where all do."""
    bench.run(f"{IMPORT}\nT = {STEPS}")
    for count, node in enumerate(ast.parse(line).body):
        try:
            bench.go_on(ast.unparse(node))
        except CheckError as problem:
            return count, f"`{ast.unparse(node)}`: {problem}"
    return len(line), ""


def refuse_none(path: Path, tree: ast.Module, name: str) -> None:
    way_out = f"the lines of a training step, {path.name}:120-184, or one of your own, "
    way_out += f'--with "{EXAMPLE}"'
    if name:
        what, actual = f"{path.name}:{name}", "neither"
        way_out = f"leave the name out, and the whole file is searched, or give {way_out}"
    else:
        known = definitions_said(tree)
        what, actual = path.name, known if known == NO_DEFINITION else f"only {known}"
        way_out = f"if they have names of another kind, give {way_out}"
    expected = "functions or methods named as a forward and a backward pass, or a training step"
    refuse(what, expected, actual, way_out, error=CheckError)


def refuse_unread(
    path: Path,
    tree: ast.Module,
    chosen: list[Candidate],
    failures: list[str],
    doubtful: list[tuple[Candidate, Judged]],
    bench: Bench,
    slices: Slices,
) -> None:
    likely = doubtful[0][0] if doubtful else chosen[0]
    step = _suggested(bench, tree, likely, slices, doubtful[0][1] if doubtful else None)
    if doubtful:
        names = ", ".join(c.name for c, _ in doubtful)
        best = doubtful[0][1]
        read = "; ".join(sorted(best.reading.said, key=place_of))
        zero = "the gradient is exactly 0" if best.silent else "no tensor of the gradient is right"
        actual = f"one under which {zero}, so that it may be misread: {read}"
        refuse(f"{path.name}: {names}", "a reading of loss and data", actual, step,
               error=CheckError)  # fmt: skip
    tried = f"it was tried with {_passes(likely)} and data in {len(forms(Sizes()))} forms; "
    actual = failures[0] + _never_set(failures[0], slices)
    refuse(path.name, "a candidate that runs", actual, tried + step, error=CheckError)


def _never_set(said: str, slices: Slices) -> str:
    """That nothing in the file sets a name, where an error says that it is not defined."""
    found = re.search(r"NameError: name '(\w+)' is not defined", said)
    if found is None or slices.is_set(found[1]) or not slices.is_own(found[1]):
        return ""
    return ", which nothing in the file sets: the code there fails whatever it is given"


def _passes(candidate: Candidate) -> str:
    """The functions of a candidate in the order of their calls, in words."""
    owner = f"{candidate.owner.name}." if candidate.owner is not None else ""
    passes = [f for f in (candidate.forward, candidate.backward) if f is not None]
    return " and ".join(f"{owner}{f.name}" for f in passes)
