"""Two directions whose states meet in the output layer: what goes to the wrong one.

Each is seen through its own half of the output layer. Where both halves are alike, it makes no
difference which direction gets which half of δh.
"""

from __future__ import annotations

import numpy as np

from throughtime.diagnosis.observed import Observed
from throughtime.diagnosis.roles import Sides
from throughtime.diagnosis.study import Study


def swapped(one: Observed, study: Study) -> str | None:
    """A sentence where both directions are wrong at T = 1, and right with both halves alike."""
    sides, head, wrong = study.sides, study.roles.head, set(one.wrong())
    if sides is None or head is None or not (wrong & set(sides.one) and wrong & set(sides.other)):
        return None
    half = np.split(np.asarray(study.values[head]), 2, axis=sides.axis)[0]
    alike = study.look(1, {head: np.concatenate([half, half], axis=sides.axis)})
    if alike is None or alike.wrong():
        return None
    return f"{_seen(sides, head)}; with both halves alike, the gradient agrees at T = 1."


def one_alone(observed: Observed, study: Study) -> str | None:
    """A sentence where one direction is exact and the other one, and nothing else, is wrong."""
    sides, head, wrong = study.sides, study.roles.head, set(observed.wrong())
    if sides is None or head is None:
        return None
    for exact, off in ((sides.one, sides.other), (sides.other, sides.one)):
        if wrong and wrong <= set(off):
            return (
                f"{_seen(sides, head)}; {', '.join(exact)} are exact, the other direction is not."
            )
    return None


def _seen(sides: Sides, head: str) -> str:
    one, other = ", ".join(sides.one), ", ".join(sides.other)
    return f"The two directions, {one} and {other}, are seen through a half of {head} each"
