"""`make torture`: everything, and the table that stands in docs/reliability.md.

`make torture TORTURE=--write` puts the table there; with some parts alone, their lines of it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from torture.cells import compiled_cells
from torture.kills import kills
from torture.libraries import cases, libraries
from torture.memory import from_the_start, memory
from torture.mutations import mutations
from torture.own_files import cases as own_cases
from torture.own_files import own_files
from torture.programs import programs
from torture.tally import KINDS, Tally
from torture.writes import writes

# What, how often by default, and how it is said in the table.
PARTS: dict[str, tuple[Callable[[int, int], Tally], int, str]] = {
    "kills": (kills, 200, "kills of a training run"),
    "mutations": (mutations, 10_000, "damaged files"),
    "programs": (programs, 400, "programs with a wrong answer"),
    "libraries": (libraries, len(cases()), "hostile libraries"),
    "own": (own_files, len(own_cases()), "users' own files that do other things"),
    "cells": (compiled_cells, 100, "compilers, and caches of what they made"),
    "writes": (writes, 400, "kills while a file is written, or no place for it"),
    "memory": (memory, 120, "commands with little memory"),
    "start": (from_the_start, 24, "starts with little memory"),
}


PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
HEAD = (
    "| " + " | ".join(["what is tried", "times", *KINDS]) + " |",
    "|---|" + "---:|" * (1 + len(KINDS)),
)


def with_lines(page: str, lines: Mapping[str, str]) -> str:
    """The page with these lines of its table, by what they begin with, in place of the old ones."""
    before, head, after = page.partition("\n".join(HEAD) + "\n")
    if not head:
        raise ValueError(f"{PAGE}: expected the head of the table, {HEAD[0]}, got none")
    table, end, rest = after.partition("\n\n")
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in table.split("\n")} | dict(lines)
    order = [words for _, _, words in PARTS.values()]
    return before + head + "\n".join(rows[words] for words in order if words in rows) + end + rest


def main() -> int:
    """Prints the table; 1 where anything has failed."""
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)} (default all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual counts")
    parser.add_argument("--write", action="store_true", help="the lines into docs/reliability.md")
    options = parser.parse_args()
    print(*HEAD, sep="\n")
    failures, lines = 0, {}
    for name in options.parts or PARTS:
        part, count, words = PARTS[name]
        began = time.monotonic()
        tally = part(max(1, round(options.share * count)), options.seed)
        numbers = [f"{tally.tried:,}", *(str(getattr(tally, kind)) for kind in KINDS)]
        lines[words] = f"| {words} | " + " | ".join(numbers) + " |"
        print(lines[words], flush=True)
        print(
            f"{name}: {time.monotonic() - began:.0f} s", *tally.examples, sep="\n", file=sys.stderr
        )
        failures += tally.failures
        if options.write:  # after each part: a run of hours may be ended
            PAGE.write_text(with_lines(PAGE.read_text("utf-8"), lines), "utf-8")
    return int(failures > 0)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main())
