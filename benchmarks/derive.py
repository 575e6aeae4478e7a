"""`python -m benchmarks derive`: cells from their forward equations, beside autograd and by hand.

A second table is of backward passes by hand with a mistake each: how often it is named.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from importlib import import_module
from itertools import combinations
from random import Random
from time import perf_counter
from typing import Any

from benchmarks import torch_layer
from benchmarks.engine import Row
from benchmarks.tables import Column, table
from throughtime.cells import CellDefinition, DerivedCell, derive
from throughtime.diagnosis import FAULTS
from throughtime.diagnosis.model_from_target import model_from_target
from throughtime.diagnosis.mutants import explain, mutants_of
from throughtime.equations import TEXT, LinearStep, Writer, derive_backward, trace
from throughtime.storage import replace

# They are found beside the corpus, which the benchmarks share with the tests.
EQUATIONS, IN_TORCH, BY_HAND = "derived_cells", "derived_in_torch", "handwritten_cells"
REPEATS = 5

COLUMNS = (
    Column("cell", "cell", "s"),
    Column("forward", "forward_lines", ",d"),
    Column("backward", "lines", ",d"),
    Column("derive ms", "derive_ms", ".1f"),
    Column("linear step ms", "linear_ms", ".1f"),
    Column("worst error", "error", ".1e", optional=True),
)

NAMED = (
    Column("cell", "cell", "s"),
    Column("mutants", "mutants", ",d"),
    Column("mistakes", "mistakes", ",d"),
    Column("named first", "first", ",d"),
    Column("unknown", "unknown", ",d"),
    Column("wrong name", "wrong", ",d"),
    Column("seconds each", "seconds", ".1f"),
    Column("pairs", "pairs", ",d"),
    Column("both named", "both", ",d"),
    Column("one named", "one", ",d"),
    Column("wrong name", "wrong_of_pairs", ",d"),
)
MOST_PAIRS = 3  # of a cell's mistakes, drawn at random


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds this kind of benchmark to the command line."""
    kind = kinds.add_parser("derive", help="cells from their forward equations, beside autograd")
    kind.add_argument("--case", metavar="TEXT", help="only cells whose name contains it")
    kind.add_argument("--only", choices=("derived", "named"), help="one of the two tables")
    kind.add_argument("--json", metavar="FILE", help="write the rows")
    kind.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints a row for each cell of the gallery and each built-in one; one for each by hand."""
    torch = torch_layer.find()
    print(f"beside torch {torch.__version__}" if torch else "torch is not installed")
    case, rows = options.case or "", []
    if options.only != "named":
        every = definitions().items()
        rows = [row_of(name, one, torch is not None) for name, one in every if case in name]
        print(table(rows, COLUMNS))
    by_hand: Any = import_module(BY_HAND)
    chosen = [name for name in by_hand.CELLS if case in name and options.only != "derived"]
    named = [named_of(name) for name in chosen]
    if named:
        print(f"\n{table(named, NAMED)}\n{_shares(named)}")
    if options.json:
        content = json.dumps([*rows, *named], indent=1, ensure_ascii=False)
        replace(options.json, content.encode())
    return 0


def named_of(name: str) -> Row:
    """What is named first, of each mistake in a cell's backward pass by hand, and of some pairs."""
    by_hand: Any = import_module(BY_HAND)
    own = by_hand.CELLS[name]
    row: Row = dict.fromkeys((column.key for column in NAMED[1:]), 0)
    started = perf_counter()
    for number, (_, _, fault) in enumerate(own.mistakes):
        names, row["mutants"] = _names(name, (number,))
        row["first" if names in _meant(fault) else "wrong" if names else "unknown"] += 1
    row["seconds"] = (perf_counter() - started) / len(own.mistakes)
    pairs = list(combinations(range(len(own.mistakes)), 2))
    Random(0).shuffle(pairs)
    for pair in pairs:
        if row["pairs"] == MOST_PAIRS:
            break
        if len({own.mistakes[number][0] for number in pair}) < len(pair):
            continue  # both of one place
        try:
            names, _ = _names(name, pair)
        except AssertionError:  # the first leaves nothing of what the second edits
            continue
        row["pairs"] += 1
        wanted = [_meant(own.mistakes[number][2]) for number in pair]
        right = [found for found in names if any((found,) in meant for meant in wanted)]
        if len(names) > len(right):
            row["wrong_of_pairs"] += 1
        elif len(right) == len(pair):
            row["both"] += 1
        elif right:
            row["one"] += 1
    return {"cell": name, **row, "mistakes": len(own.mistakes)}


def _meant(fault: str) -> list[tuple[str, ...]]:
    """What may be named; several where faults are the same there."""
    return [(name,) for name in fault.split("|")]


def _names(name: str, numbers: tuple[int, ...]) -> tuple[tuple[str, ...], int]:
    """The faults that explain a cell's gradient with such mistakes; how many mutants it has."""
    by_hand: Any = import_module(BY_HAND)
    cell, net = by_hand.network(name, numbers)
    model = model_from_target(by_hand.target_of(cell, net)).model
    assert model is not None
    found = explain(model, net.gradient())
    named = found[0].faults if found and not found[0].unexplained else ()
    return named, mutants_of(model, FAULTS)


def _shares(rows: list[Row]) -> str:
    """What is named, in all of them, in per cent."""
    sums = {key: sum(row[key] for row in rows) for key in ("mistakes", "first", "wrong")}
    first, wrong = (100 * sums[key] / sums["mistakes"] for key in ("first", "wrong"))
    return f"{sums['mistakes']} mistakes: {first:.1f} % named first, {wrong:.1f} % by a wrong name"


def definitions() -> dict[str, CellDefinition]:
    """The cells of examples/cells.py, and the built-in ones as equations alone."""
    cells: Any = import_module(EQUATIONS)
    built_in = {name: derived.definition for name, (derived, _) in cells.BUILT_IN.items()}
    return {**built_in, **cells.CELLS}


def row_of(name: str, definition: CellDefinition, with_torch: bool) -> Row:
    """What is derived, how long it takes, and how far it is from autograd in float64."""
    cells: Any = import_module(EQUATIONS)
    derived = derive(definition)
    writer = Writer(derived.backward, TEXT)
    assert isinstance(derived.cell, DerivedCell)
    own = dict(derived.cell.given)
    shapes = {n: definition.shape(text, own) for n, text in definition.shapes.items()}
    x = shapes.pop(definition.input_name, (own["I"],))

    def from_the_start() -> Any:
        return derive_backward(trace(definition.step, x, shapes, (own["H"],)))

    fresh = [from_the_start() for _ in range(REPEATS)]  # a graph keeps what was derived once
    row: Row = {
        "cell": name,
        "forward_lines": len(writer.forward()),
        "lines": len(writer.lines()),
        "derive_ms": _milliseconds(from_the_start),
        "linear_ms": _milliseconds(lambda: LinearStep(fresh.pop())),
    }
    if with_torch:
        errors: Any = import_module(IN_TORCH)
        row["error"] = max(map(float, errors.errors(cells.made(definition)).values()))
    return row


def _milliseconds(what: Callable[[], Any]) -> float:
    """Of the quickest of some repeats."""
    times = []
    for _ in range(REPEATS):
        started = perf_counter()
        what()
        times.append(perf_counter() - started)
    return 1e3 * min(times)
