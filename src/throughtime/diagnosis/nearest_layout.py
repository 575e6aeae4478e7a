"""The layout whose loss comes nearest to a target's, and what the two differ by.

At all points at which losses are compared, one of them may be the same multiple of the other, or
differ from it by the same number, or by the same multiple of the sum of all squared weights. The
first and the last make a layout; the rest is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.layout_search import EvaluatedLayout, LossAtPoints
from throughtime.diagnosis.mutants.layout import Layout
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.tolerances import (
    MOST_MULTIPLES_OF_A_LOSS,
    NEAR_RATIO,
    ROUNDED_RATIO,
    SAME_DECAY,
    SAME_DIFFERENCE,
    SAME_RATIO,
)

UNNAMED = 1_000_000  # the rank of a factor that is none of the known ones


class Nearest(NamedTuple):
    """What is known of the layout that comes nearest.

    Attributes:
        words: what the losses differ by, with {} for the layout; "" if nothing is near.
        layout, model: the layout, if with a factor or an L2 term it has the loss; otherwise None.
        rounded: whether the two losses are one to single precision alone.
    """

    words: str = ""
    layout: Layout | None = None
    model: Model | None = None
    rounded: bool = False


def nearest(candidates: Iterable[EvaluatedLayout], points: LossAtPoints) -> Nearest:
    """The nearest of these."""
    found = list(candidates)
    theirs = np.array(points.losses)
    if not found or len(theirs) < 3:
        return Nearest()
    values = np.array([one.values for one in found])
    squares = np.array([one.squares for one in found])
    with np.errstate(all="ignore"):
        ratios = theirs / values
        spread = _spread(ratios)
        multiples = [(found[k], float(ratios[k, 0])) for k in _below(spread, SAME_RATIO)]
        scaled = _scaled(multiples, points)
        if scaled is not None:
            return scaled
        apart = np.abs(ratios - 1).max(axis=1)
        for k in _below(np.where(np.isfinite(apart), apart, np.inf), ROUNDED_RATIO):
            return _rounded(found[k], float(apart[k]), points)
        decays = 2 * (theirs - values) / squares
        for k in _below(_spread(decays), SAME_DECAY):
            decayed = _decayed(found[k], float(decays[k, 0]), points)
            if decayed is not None:
                return decayed
        differences = theirs - values
    for k in _below(_spread(differences), SAME_DIFFERENCE):
        words = f"At every point your loss is that of {{}} plus {differences[k, 0]:.6g}."
        return Nearest(words, found[k].layout)
    best = _closest(spread, ratios, range(len(found)))
    if spread[best] <= NEAR_RATIO:
        low, high = sorted(ratios[best])[:: len(theirs) - 1]
        words = f"At {len(theirs)} points your loss is {low:.6g} … {high:.6g} times that of {{}}."
        return Nearest(words, found[best].layout)
    likeliest = [k for k, one in enumerate(found) if one.structure is found[0].structure]
    best = _closest(spread, ratios, likeliest)
    words = f"The likeliest reading, {{}}, has the loss {values[best, 0]:.6g}; yours is"
    return Nearest(f"{words} {theirs[0]:.6g}.", found[best].layout)


def _closest(spread: Array, ratios: Array, places: Iterable[int]) -> int:
    """The smallest spread; of reductions of one loss, the one that is nearest by itself."""
    known = list(places)
    least = min(float(spread[k]) for k in known)
    equal = [k for k in known if spread[k] <= least * (1 + SAME_DECAY) + SAME_DIFFERENCE]
    with np.errstate(all="ignore"):
        return min(equal or known, key=lambda k: abs(float(np.log(np.abs(ratios[k, 0])))))


def _spread(numbers: Array) -> Array:
    """How far the numbers at the points lie apart, relative to the first; NaN is far."""
    apart = np.abs(numbers / numbers[:, :1] - 1).max(axis=1)
    return np.where(np.isfinite(apart), apart, np.inf)


def _below(spread: Array, limit: float) -> Iterator[int]:
    """The places of what is below a limit, the smallest first."""
    for place in np.argsort(spread, kind="stable"):
        if spread[place] > limit:
            return
        yield int(place)


def _scaled(multiples: list[tuple[EvaluatedLayout, float]], points: LossAtPoints) -> Nearest | None:
    """A layout with its loss times a factor, if that is the target's; the simplest factor."""
    best: tuple[int, Nearest] | None = None
    for one, ratio in multiples[:MOST_MULTIPLES_OF_A_LOSS]:
        loss = one.layout.loss
        if loss.root or one.layout.decay or ratio <= 0:
            continue
        layout = replace(one.layout, loss=replace(loss, scale=loss.scale * ratio))
        model = points.model(layout)
        if model is None:
            continue
        sizes = dict(zip("TBO", model.forward().y.shape, strict=True))
        place, named = next(
            (
                (place, name)
                for place, (name, value) in enumerate(other_sizes(**sizes))
                if abs(value / ratio - 1) < SAME_RATIO
            ),
            (UNNAMED, ""),
        )
        if best is None or place < best[0]:
            best = place, _multiplied(layout, model, ratio, named, sizes)
    return best and best[1]


def _multiplied(
    layout: Layout, model: Model, ratio: float, named: str, sizes: Mapping[str, int]
) -> Nearest:
    with_sizes = ", ".join(f"{name} = {size}" for name, size in sizes.items() if name in named)
    why = f": {named}{f' with {with_sizes}' if with_sizes else ''}?" if named else "."
    return Nearest(f"Your loss is {ratio:.6g} times that of {{}}{why}", layout, model)


def _rounded(one: EvaluatedLayout, apart: float, points: LossAtPoints) -> Nearest:
    """A layout whose loss is the target's, but for rounding."""
    model = one.layout.model(points.target.parameters)
    words = f"Your loss is that of {{}} to within {apart:.0e} of it: is something kept in float32?"
    return Nearest(words, one.layout, model, rounded=True)


def _decayed(one: EvaluatedLayout, decay: float, points: LossAtPoints) -> Nearest | None:
    """The layout with an L2 term, if that makes its loss the target's."""
    if one.layout.decay:
        return None
    for rounded in (float(f"{decay:.2g}"), float(f"{decay:.4g}"), decay):
        layout = replace(one.layout, decay=rounded)
        model = points.model(layout) if rounded else None
        if model is not None:
            words = f"Beside the errors it has an L2 term, {rounded / 2:.6g} Σ w²: {{}}."
            return Nearest(words, layout, model)
    return None


def other_sizes(T: int, B: int, O: int) -> Iterator[tuple[str, float]]:  # noqa: E741
    """Numbers that a loss may be multiplied with, the simpler first, in words."""
    powers = sorted(product((0, 1, -1, 2, -2), repeat=4), key=lambda own: sum(map(abs, own)))
    for own in powers[1:]:
        parts = list(zip("TBO2", (T, B, O, 2), own, strict=True))
        if any(power and size == 1 for _, size, power in parts):
            continue
        above, below = (
            " · ".join(
                f"{name}{'²' * (power * sign == 2)}" for name, _, power in parts if power * sign > 0
            )
            for sign in (1, -1)
        )
        value = float(np.prod([float(size) ** power for _, size, power in parts]))
        divisor = f" / ({below})" if " " in below else f" / {below}" * bool(below)
        yield (above or "1") + divisor, value
    yield "1 / ln 2, for logarithms to base 2", 1 / np.log(2)
    yield "1 / ln 10, for logarithms to base 10", 1 / np.log(10)
    if T > 2:
        yield "1 / (T − 1)", 1 / (T - 1)
        yield "T / (T − 1)", T / (T - 1)
        yield "(T − 1) / T", (T - 1) / T
