"""The layout whose loss comes nearest to a target's, and what the two differ by.

At all points at which losses are compared, one of them may be the same multiple of the other, or
differ from it by the same number, or by the same multiple of the sum of all squared weights. The
first and the last make a layout; the rest is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.layout_search import LossAtPoints
from throughtime.diagnosis.mutants.layout import Layout
from throughtime.diagnosis.mutants.losses import Loss
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.tolerances import NEAR_RATIO, SAME_SHARE


class Candidate(NamedTuple):
    """A layout, and its loss at every point, without the decay that it may be found to have."""

    layout: Layout
    values: Array


class Nearest(NamedTuple):
    """What is known of the layout that comes nearest.

    Attributes:
        layout, model: it, if with a factor or an L2 term it has the loss; otherwise None.
        words: what the losses differ by; "" if nothing is near.
    """

    layout: Layout | None = None
    model: Model | None = None
    words: str = ""


def other_sizes(T: int, B: int, O: int) -> Iterator[tuple[str, float]]:  # noqa: E741
    """Numbers that a loss may be multiplied with, the simpler first, in words."""
    powers = sorted(product((0, 1, -1, 2, -2), repeat=4), key=lambda own: sum(map(abs, own)))
    for t, b, o, two in powers[1:]:
        parts = list(zip("TBO2", (T, B, O, 2), (t, b, o, two), strict=True))
        if any(power and size == 1 for _, size, power in parts):
            continue
        above, below = (
            " · ".join(
                f"{name}²" * (abs(power) == 2) or name
                for name, _, power in parts
                if power * sign > 0
            )
            for sign in (1, -1)
        )
        value = T**t * B**b * O**o * 2.0**two
        yield (above or "1") + (f" / ({below})" if " " in below else f" / {below}" * bool(below)), value
    yield "1 / ln 2, logarithms to base 2", 1 / np.log(2)
    yield "1 / ln 10, logarithms to base 10", 1 / np.log(10)
    if T > 2:
        yield "1 / (T − 1)", 1 / (T - 1)
        yield "T / (T − 1)", T / (T - 1)
        yield "(T − 1) / T", (T - 1) / T
