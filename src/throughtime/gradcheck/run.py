"""Measures lines, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from throughtime.gradcheck.budget import Spent
from throughtime.gradcheck.evaluation_point import Measured, Site
from throughtime.gradcheck.search_direction import Line
from throughtime.gradcheck.tolerances import (
    CONFIRMATIONS,
    NEARER_EXPONENTS,
    SHIFTED_UNIT,
    SURE_BARS,
)
from throughtime.gradcheck.verdict import accused, cautious, confronted


class Runner(Protocol):
    """Measures lines at a site; what the budget did not reach is None."""

    def __call__(self, site: Site, lines: Sequence[Line]) -> list[Measured | None]: ...


def in_turn(site: Site, lines: Sequence[Line]) -> list[Measured | None]:
    """One line after the other, in this process."""
    found: list[Measured | None] = []
    for line in lines:
        try:
            found.append(site.measure(line))
        except Spent:
            found.append(None)
    return found


def measured_twice(site: Site, found: Sequence[Measured | None]) -> list[Measured | None]:
    """The same results; what differs beyond its error bar has been measured a second time.

    With other steps, nearer by, and no goal to stop at. Of many, the clearest few are asked;
    where these stand by it, the others are believed. This is less than `confirm` asks before a
    gradient is called wrong, and costs a fifth of it: it serves where the gradient is known to
    be wrong already.
    """
    result = [m if m is None else cautious(m) for m in found]
    suspects = sorted(
        (k for k, m in enumerate(found) if m is not None and accused(m)),
        key=lambda k: 0.0 if (m := result[k]) is None else -m.z,
    )
    for group in (suspects[:CONFIRMATIONS], suspects[CONFIRMATIONS:]):
        doubted = [m for k in group if (m := found[k]) is not None]
        again = in_turn(site, [_second_look(m) for m in doubted])
        for k, first, second in zip(group, doubted, again, strict=True):
            # Where the budget does not reach, nothing is accused on one measurement.
            result[k] = None if second is None else confronted(first, second)
        if all((m := result[k]) is not None and m.z > SURE_BARS for k in group):
            break
    return result


def _second_look(found: Measured) -> Line:
    """The same line from nearer steps on: what has saturated far off has not there."""
    line = found.line
    first = (found.rungs or line.rungs)[0] - NEARER_EXPONENTS
    return replace(
        line, unit=SHIFTED_UNIT * line.unit, rungs=(first, first + 2, first + 4), goal=0.0
    )
