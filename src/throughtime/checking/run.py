"""Measures lines, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from throughtime.checking.budget import Spent
from throughtime.checking.direction import Line
from throughtime.checking.site import Measured, Site


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
