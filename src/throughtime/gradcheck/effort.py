"""How closely a check looks."""

from __future__ import annotations

from dataclasses import dataclass

from throughtime.arrays import refuse
from throughtime.derivatives import CheckError


@dataclass(frozen=True)
class Effort:
    """What is measured.

    Attributes:
        name: "quick", "normal" or "exhaustive".
        whole: random directions over each tensor.
        overall: random directions over all tensors at once.
        groups: into how many stretches of rows a tensor is divided, each with its direction.
        rows: single rows of each tensor, drawn at random.
        entries: single entries of each tensor.
        all_up_to: a target of so many parameters has every entry looked at.
        lengths: whether T = 1, 2 and a longer T are looked at too, beside a characteristic point.
        elsewhere: random directions over each tensor at every further point; 0: one over all,
            and one over each where that resolves too little.
        located: entries that are searched for in a tensor that is wrong.
        enough: an error bar of one entry, relative to its tensor, that need not be narrower.
        again: whether what a direction has settled is looked at again, in its parts and entries.
    """

    name: str
    whole: int
    overall: int
    groups: int
    rows: int
    entries: int
    all_up_to: float
    lengths: bool
    elsewhere: int
    located: int
    enough: float
    again: bool


EFFORTS = {
    effort.name: effort
    for effort in (
        Effort("quick", 1, 0, 1, 0, 0, 0, False, 0, 1, 1e-9, False),
        Effort("normal", 2, 2, 4, 1, 4, 400, True, 0, 8, 1e-9, False),
        Effort("exhaustive", 4, 4, 8, 4, 0, float("inf"), True, 2, 64, 1e-10, True),
    )
}


def effort_of(name: str) -> Effort:
    """The effort of this name."""
    if name not in EFFORTS:
        refuse("effort", "one of " + ", ".join(EFFORTS), repr(name), error=CheckError)
    return EFFORTS[name]
