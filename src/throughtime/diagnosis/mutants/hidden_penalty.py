"""An L2 term that a gradient has and its loss has not, read off one matrix beside other faults.

As long as other faults are there, it cannot be undone first, since nothing tells its λ. A mutant
with these faults does: g = α (p + λ W) holds for every entry of a matrix, to the last digits.
"""

from __future__ import annotations

from collections.abc import Mapping

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.model import Block, Blocks, Model
from throughtime.diagnosis.mutants.postprocessing import Fit, TestedGradient, sources
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
    left = [block for block in left if seen.blocks[block].size >= LEAST_PENALISED_ENTRIES]
    for block in sorted(left, key=lambda b: -seen.blocks[b].size)[:MOST_PENALISED]:
        for source, transposed, p in sources(mutant, block, False, ()):
            w = model.blocks[source]
            for term in (w.T, w) if transposed else (w,):
                found = _penalty(seen, seen.blocks[block], p, term)
                if found:
                    return found
    return 0.0


def _penalty(seen: TestedGradient, g: Array, p: Array, w: Array) -> float:
    """λ of g = α (p + λ w), where α and λ are what least squares make them; 0 where they fit not.

    An α of 1 is taken for one; where it is another, λ is taken to have been multiplied by it too.
    """
    pp, pw, ww = float((p * p).sum()), float((p * w).sum()), float((w * w).sum())
    apart = pp * ww - pw * pw
    if apart <= PARALLEL_BIASES * pp * ww:
        return 0.0
    gp, gw = float((g * p).sum()), float((g * w).sum())
    alpha, beta = (gp * ww - gw * pw) / apart, (gw * pp - gp * pw) / apart
    square = float((g * g).sum())
    rounding = HOPELESS_REST * square + g.size * (seen.tolerance * seen.largest) ** 2
    if square - alpha * gp - beta * gw > rounding or not alpha:
        return 0.0
    if not seen.equal(g, alpha * p + beta * w):
        return 0.0
    penalty = beta / alpha
    digits = float(f"{penalty:.3g}")  # people choose such numbers
    near = abs(digits - penalty) <= KNOWN_SCALE * seen.tolerance * penalty
    return max(0.0, digits if near else penalty)
