"""An L2 term that a gradient has and its loss has not, read off one matrix beside other faults.

As long as other faults are there, it cannot be undone first, since nothing tells its λ. A mutant
with these faults does: g = α (p + λ W) holds for every entry of a matrix, to the last digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.fits import Fit, sources
from throughtime.diagnosis.mutants.model import Block, Blocks, Model
from throughtime.diagnosis.mutants.tested import TestedGradient
from throughtime.diagnosis.tolerances import (
    HOPELESS_REST,
    KNOWN_SCALE,
    LEAST_PENALISED_ENTRIES,
    MOST_PENALISED,
    PARALLEL_BIASES,
)


def only_in_gradient(
    model: Model, mutant: Blocks, seen: TestedGradient, fits: Mapping[Block, Fit | None]
) -> float:
    """λ of an L2 term that the gradient has and the loss has not; 0 where there is none.

    Of the largest matrices that nothing else fits, g = α (p + λ W) or α p + λ W, down to rounding.
    """
    left = [b for b, own in fits.items() if own is None and b.kind[0] in "WURV"]
    if model.decay or seen.limit is not None or not left:
        return 0.0
    large = [block for block in left if seen.blocks[block].size >= LEAST_PENALISED_ENTRIES]
    if not large:  # each of them alone would fit too easily
        return _of_all(model, mutant, seen, left)
    for block in sorted(large, key=lambda b: -seen.blocks[b].size)[:MOST_PENALISED]:
        for source, transposed, p in sources(mutant, block, False, ()):
            w = model.blocks[source]
            for term in (w.T, w) if transposed else (w,):
                found = _penalty(seen, {block: (seen.blocks[block], p, term)})
                if found:
                    return found
    return 0.0


def _of_all(model: Model, mutant: Blocks, seen: TestedGradient, left: list[Block]) -> float:
    """λ that all of these matrices have in common, as they are; 0 where they have none."""
    if sum(seen.blocks[block].size for block in left) < LEAST_PENALISED_ENTRIES:
        return 0.0
    return _penalty(seen, {b: (seen.blocks[b], mutant[b], model.blocks[b]) for b in left})


def _penalty(seen: TestedGradient, parts: Parts) -> float:
    """λ of g = α (p + λ w), where α and λ are what least squares make them; 0 where they fit not.

    An α of 1 is taken for one; where it is another, λ is taken to have been multiplied by it too.
    """
    found = _two_factors(seen, parts)
    if found is None:
        return 0.0
    penalty = found[1] / found[0]
    digits = float(f"{penalty:.3g}")  # people choose such numbers
    near = abs(digits - penalty) <= KNOWN_SCALE * seen.tolerance * penalty
    return max(0.0, digits if near else penalty)


def scale_of_penalty(
    model: Model, mutant: Blocks, seen: TestedGradient, fits: Mapping[Block, Fit | None]
) -> float:
    """How often the L2 term counts in the largest matrices that nothing else fits; 0: unknown.

    It is multiplied by all that multiplies the whole gradient, while other factors multiply the
    rest of it alone.
    """
    left = [b for b, own in fits.items() if own is None and b.kind[0] in "WURV"]
    large = [b for b in left if model.decays(b) and mutant[b].size >= LEAST_PENALISED_ENTRIES]
    for block in sorted(large, key=lambda b: -mutant[b].size)[:MOST_PENALISED]:
        term = model.decay * model.blocks[block]
        found = _two_factors(seen, {block: (seen.blocks[block], mutant[block], term)})
        if found is not None and found[1]:
            return found[1]
    return 0.0


Parts: TypeAlias = Mapping[Block, tuple[Array, Array, Array]]
"""g, p and w of each block that two factors are common to."""


def _two_factors(seen: TestedGradient, parts: Parts) -> tuple[float, float] | None:
    """α and β of g = α p + β w, as least squares make them; None where they fit not."""
    columns = zip(*parts.values(), strict=True)
    g, p, w = (np.concatenate([array.ravel() for array in own]) for own in columns)
    pp, pw, ww = float((p * p).sum()), float((p * w).sum()), float((w * w).sum())
    apart = pp * ww - pw * pw
    if apart <= PARALLEL_BIASES * pp * ww:
        return None
    gp, gw = float((g * p).sum()), float((g * w).sum())
    alpha, beta = (gp * ww - gw * pw) / apart, (gw * pp - gp * pw) / apart
    square = float((g * g).sum())
    rounding = HOPELESS_REST * square + sum(
        own.size * seen.far(b) ** 2 for b, (own, *_) in parts.items()
    )
    if square - alpha * gp - beta * gw > rounding or not alpha:
        return None
    if not all(seen.equal(b, g, alpha * p + beta * w) for b, (g, p, w) in parts.items()):
        return None
    return alpha, beta
