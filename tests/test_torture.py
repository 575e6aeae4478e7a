"""A little of what `make torture` does at length; tests/torture says what each part is."""

import os

import pytest

from torture import __main__ as main
from torture import cells, kills, libraries, memory, mutations, own_files, programs, writes

PARTS = {
    "kills": (kills.kills, 12),
    "mutations": (mutations.mutations, 220),
    "programs": (programs.programs, 20),
    "libraries": (libraries.libraries, 12),
    "own": (own_files.own_files, 4),
    "cells": (cells.compiled_cells, 4),
    "writes": (writes.writes, 24),
    "memory": (memory.memory, 18),
    "start": (memory.from_the_start, 3),
}


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
@pytest.mark.filterwarnings("default")  # as for a user, to whom a file without checksums is a word
@pytest.mark.parametrize("part", PARTS)
def test_nothing_fails_silently_or_otherwise(part):
    torture, count = PARTS[part]
    tally = torture(count, seed=11)
    assert tally.tried >= count
    assert tally.failures == 0, tally.examples


def test_the_table_of_the_page_has_a_line_for_each_part_and_takes_others():
    page = main.PAGE.read_text(encoding="utf-8")
    assert main.with_lines(page, {}) == page
    kept = [words for _, _, words in main.PARTS.values()]
    table = page.partition("\n".join(main.HEAD) + "\n")[2].partition("\n\n")[0].split("\n")
    assert [row.split(" | ")[0] for row in table] == [f"| {words}" for words in kept]
    line = f"| {kept[2]} | 7 | 0 | 0 | 0 | 0 | 0 |"
    found = main.with_lines(page, {kept[2]: line})
    assert [n for n, (a, b) in enumerate(zip(found.split("\n"), page.split("\n"), strict=True))
            if a != b] == [page.split("\n").index(table[2])]  # fmt: skip
    assert line in found
    with pytest.raises(ValueError, match="expected the head of the table"):
        main.with_lines("# A page", {})


def test_mutations_of_each_way_are_made():
    import random

    draw, content = random.Random(0), bytes(range(48, 58)) * 20
    found = {mutations.mutated(content, draw) for _ in range(300)}
    assert len(found) > 250
    assert {len(one) < len(content) for one in found} == {True, False}


@pytest.mark.parametrize("work", [os.abort, lambda: 1 / 0, lambda: os._exit(7)])
def test_a_fork_that_fails_is_seen(work, capfd):
    from torture.tally import apart

    found, status = apart(work)
    assert found is None
    assert status in (-6, 99, 7)


def test_a_silent_error_and_a_wrong_exception_are_counted():
    from torture.tally import judged

    def refused():
        raise ValueError

    attempts = {"right": lambda: "", "wrong": lambda: "x", "refused": refused, "bug": lambda: 1 / 0}
    tally = judged(attempts.items())
    assert (tally.tried, tally.silent, tally.error, tally.failures) == (4, 1, 1, 2)
