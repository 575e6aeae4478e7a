"""`python -m benchmarks derive`: cells from their forward equations, beside autograd."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from importlib import import_module
from time import perf_counter
from typing import Any

from benchmarks import torch_layer
from benchmarks.engine import Row
from benchmarks.tables import Column, table
from throughtime.cells import CellDefinition, derive
from throughtime.equations import TEXT, LinearStep, Writer, derive_backward, trace
from throughtime.storage import replace

# Both are found beside the corpus, which the benchmarks share with the tests.
EQUATIONS, IN_TORCH = "derived_cells", "derived_in_torch"
REPEATS = 5

COLUMNS = (
    Column("cell", "cell", "s"),
    Column("forward", "forward_lines", ",d"),
    Column("backward", "lines", ",d"),
    Column("derive ms", "derive_ms", ".1f"),
    Column("linear step ms", "linear_ms", ".1f"),
    Column("worst error", "error", ".1e", optional=True),
)


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds this kind of benchmark to the command line."""
    kind = kinds.add_parser("derive", help="cells from their forward equations, beside autograd")
    kind.add_argument("--case", metavar="TEXT", help="only cells whose name contains it")
    kind.add_argument("--json", metavar="FILE", help="write the rows")
    kind.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints a row for each cell of the gallery and each built-in one."""
    torch = torch_layer.find()
    print(f"beside torch {torch.__version__}" if torch else "torch is not installed")
    rows = [
        row_of(name, definition, torch is not None)
        for name, definition in definitions().items()
        if (options.case or "") in name
    ]
    print(table(rows, COLUMNS))
    if options.json:
        replace(options.json, json.dumps(rows, indent=1, ensure_ascii=False).encode())
    return 0


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
