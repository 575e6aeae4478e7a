"""Measures lines, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from throughtime.checking.budget import Spent
from throughtime.checking.direction import Line
from throughtime.checking.site import Measured, Site
from throughtime.checking.verdict import accused, cautious, confronted

ASKEW = 0.77  # no step of a second look is one of the first …
NEARER = 8  # … and it begins so many rungs below


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


def confirmed(site: Site, found: Sequence[Measured | None], run: Runner) -> list[Measured | None]:
    """The same results; what differs beyond its error bar has been measured a second time.

    With other steps and no goal to stop at: an accusation takes two witnesses. Of many, the
    clearest few are asked; where these stand by it, the others are believed.
    """
    result = [m if m is None else cautious(m) for m in found]
    suspects = sorted(
        (k for k, m in enumerate(found) if m is not None and accused(m)),
        key=lambda k: -_z(result[k]),
    )
    for group in (suspects[:WITNESSES], suspects[WITNESSES:]):
        doubted = [m for k in group if (m := found[k]) is not None]
        again = run(site, [_second_look(m) for m in doubted])
        for k, first, second in zip(group, doubted, again, strict=True):
            # Where the budget does not reach, nothing is accused on one measurement.
            result[k] = None if second is None else confronted(first, second)
        if all(_z(result[k]) > SURE for k in group):
            break
    return result


WITNESSES = 4  # of the clearest differences
SURE = 10.0  # error bars: where these still differ by so many, the others are believed


def _z(found: Measured | None) -> float:
    return 0.0 if found is None else found.z


def _second_look(found: Measured) -> Line:
    """The same line from nearer steps on: what has saturated far off has not there."""
    line = found.line
    first = (found.rungs or line.rungs)[0] - NEARER
    return replace(line, unit=ASKEW * line.unit, rungs=(first, first + 2, first + 4), goal=0.0)
