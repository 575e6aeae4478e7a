"""Readings of an object that is made as the file's own code, or a script beside it, makes it."""

from __future__ import annotations

import ast
from pathlib import Path

from throughtime.source.bench import Bench
from throughtime.source.child import tell
from throughtime.source.finding.candidates import Candidate
from throughtime.source.finding.examples import RECURRENT, as_it_runs, examples
from throughtime.source.finding.models import IMPORT
from throughtime.source.finding.readings import Judged
from throughtime.source.finding.scripts import scripts_beside
from throughtime.source.finding.search import ReadingSearch
from throughtime.source.meanings import STEPS
from throughtime.source.slices import Slices

MOST_MADE = 2  # ways to make an object, and candidates that are made in these ways
MOST_TRIES_IN_ALL = 7_500  # runs of the user's code, after which no other candidate is tried


def as_it_is_made(
    path: Path, tree: ast.Module, slices: Slices, candidate: Candidate, bench: Bench
) -> Judged | None:
    """The reading of an object that is made as the file's own code makes it, or a script's."""
    if candidate.owner is None:
        return None
    name = candidate.owner.name
    trees = (tree, *(script.tree for script in scripts_beside(path, tree)))
    setups = dict.fromkeys(text for part in trees for text in examples(part, slices, name))
    start = f"{IMPORT}\nT = {STEPS}"
    likely = sorted(setups, key=lambda text: not RECURRENT.search(text))
    ready = dict.fromkeys(filter(None, (as_it_runs(bench, start, text) for text in likely)))
    for text in [*ready][:MOST_MADE]:
        if bench.tries > MOST_TRIES_IN_ALL:
            return None
        tell(f"looking for its loss and its gradient: trying {candidate.name} as it is made")
        best = ReadingSearch(bench, slices, candidate, text).best()
        if best is not None and best.believed and best.recurrent:
            return best
    return None
