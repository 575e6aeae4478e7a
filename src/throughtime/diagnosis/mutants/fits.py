"""How a block of the gradient under test follows from a mutant's.

Each block is fitted by the mutant's blocks: as they are, scaled, transposed, or taken from another
gate, with an L2 term that counts once, twice or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.known_factors import known_factors
from throughtime.diagnosis.mutants.model import Block, Blocks, Model
from throughtime.diagnosis.mutants.tested import TestedGradient
from throughtime.diagnosis.tolerances import CLIPPED_WITHIN, KNOWN_SCALE


@dataclass(frozen=True)
class Fit:
    """How a block of the gradient follows from the mutant's, down to rounding.

    g = scale · source, perhaps transposed, with the L2 term counted `decay` times.

    Attributes:
        source: the mutant's block that it is made from.
        transposed: whether that block is transposed.
        scale: the factor, 1 where all is right; None where nothing tells it.
        decay: 0, 1 or 2; None where there is no L2 term.
        joint: whether the L2 term is scaled too.
        with_term: whether the L2 term is transposed with the block.
    """

    source: Block
    transposed: bool = False
    scale: float | None = 1.0
    decay: float | None = None
    joint: bool = True
    with_term: bool = False

    def times(self, factor: float) -> Fit:
        """The fit of a block that is so many times as large."""
        scale = None if self.scale is None else factor * self.scale
        if self.decay is None or (self.joint and scale is not None):
            return replace(self, scale=scale)
        return replace(self, scale=scale, decay=factor * self.decay, joint=False)

    def apply(self, model: Model, mutant: Blocks, block: Block, limit: float | None) -> Array:
        """The block that this fit predicts."""
        p = mutant[self.source].T if self.transposed else mutant[self.source]
        scale = 1.0 if self.scale is None else self.scale
        if self.decay is None:
            p = scale * p
        else:
            w = self.decay * model.decay * model.blocks[block]
            w = w.T if self.with_term else w
            p = scale * (p + w) if self.joint else scale * p + w
        return p if limit is None else np.clip(p, -limit, limit)


def fit_all(
    model: Model, mutant: Blocks, seen: TestedGradient, which: Iterable[Block] | None = None
) -> dict[Block, Fit | None]:
    """The simplest fit of each block; None where none fits."""
    chosen = seen.blocks if which is None else which
    found = {block: fit(model, mutant, seen, block) for block in chosen}
    return found | fit_single_entries(model, mutant, seen, found)


def exchanged(
    mutant: Blocks, seen: TestedGradient, fits: Mapping[Block, Fit | None]
) -> dict[Block, Fit | None]:
    """The fits of gates that two gates have exchanged, where one of them has no gradient.

    The gate that now has none looks like one whose gradient is 0, and the other like its copy.
    """
    found: dict[Block, Fit | None] = {}
    for block, own in fits.items():
        if own is None or own.source.gate == block.gate or not seen.idle(block, mutant[block]):
            continue
        left = fits.get(own.source)
        if left is not None and left.source == own.source and left.scale == 0:
            found[own.source] = replace(left, source=block, scale=None)
    return found


def fit_single_entries(
    model: Model, mutant: Blocks, seen: TestedGradient, fits: Mapping[Block, Fit | None]
) -> dict[Block, Fit | None]:
    """The fits of blocks of one entry with the factor of most other blocks.

    Such a block has a factor whatever is wrong, which therefore counts only if it is a common one;
    where no other block has one, if it is a factor that is known.
    """
    left = [b for b, fitted in fits.items() if fitted is None and seen.blocks[b].size == 1]
    if not left:
        return {}
    others = [f.scale for f in fits.values() if f is not None and f.scale is not None]
    common = Counter(round(scale, 6) for scale in others).most_common(1)
    if not others:
        known = [factor.value for factor in known_factors(model)]
    elif 2 * common[0][1] > len(others):
        known = [scale for scale in others if round(scale, 6) == common[0][0]]
    else:
        return {}
    found: dict[Block, Fit | None] = {}
    for block in left:
        decay = 1.0 if model.decays(block) else None
        w = model.decay * model.blocks[block] if decay else 0.0
        for scale in known:
            for joint in (True, False) if decay else (True,):
                own = Fit(block, False, scale, decay, joint)
                if seen.equal(block, seen.blocks[block], own.apply(model, mutant, block, None)):
                    told = seen.tells(block, mutant[block] + joint * w)
                    found.setdefault(block, own if told else replace(own, scale=None))
    return found


def fit(
    model: Model, mutant: Blocks, seen: TestedGradient, block: Block, *, moved: bool = True
) -> Fit | None:
    """The simplest fit of a block; None where none fits.

    Tried are the mutant's block as it is, scaled, transposed, and, with `moved`, that of another
    gate or of the other direction.
    """
    g, w = seen.blocks[block], None
    if model.decays(block):
        w = model.decay * model.blocks[block]
    own = mutant[block]
    if seen.limit is not None and np.sum(np.abs(g) < seen.limit * (1 - CLIPPED_WITHIN)) < 2:
        alike = bool((np.sign(g) == np.sign(own if w is None else own + w)).all())
        return Fit(block, False, None, None if w is None else 1.0) if alike else None
    if seen.equal(block, g, own if w is None else own + w):
        told = seen.tells(block, own)
        return Fit(block, False, 1.0 if told else None, None if w is None else 1.0)
    if w is not None and seen.idle(block, own):
        for count in (0.0, 2.0):
            if seen.equal(block, g, count * w):
                return Fit(block, False, None, count)
        if g.shape == w.T.shape and seen.equal(block, g, w.T):
            return Fit(block, True, None, 1.0, with_term=True)
    for source, transposed, p in sources(mutant, block, moved, seen.alike.get(block, ())):
        turned = w is not None and transposed
        for times, offset, slope, with_term in _all_terms(p, w, turned):
            scale = _factor(seen, g - offset, slope)
            if scale is None or (scale == 0 and source != block):
                continue
            if seen.hopeless(block, g - offset, slope, scale):
                continue
            if seen.equal(block, g, scale * slope + offset):
                known = scale if seen.tells(block, slope) else None
                return Fit(source, transposed, known, times, not offset.any(), with_term)
    return None


def _all_terms(
    p: Array, w: Array | None, turned: bool
) -> Iterator[tuple[float | None, Array, Array, bool]]:
    """As `_terms`, and where the block is transposed also with the L2 term transposed with it."""
    if turned and w is not None:
        yield from ((*term, True) for term in _terms(p, w.T))
    yield from ((*term, False) for term in _terms(p, w))


def _terms(p: Array, w: Array | None) -> Iterator[tuple[float | None, Array, Array]]:
    """(how often the L2 term counts, the part that is not scaled, the part that is)."""
    zero = np.zeros_like(p)
    if w is None:
        yield None, zero, p
        return
    for times in (1.0, 0.0, 2.0):
        yield times, zero, p + times * w
        if times:
            yield times, times * w, p


def sources(
    mutant: Blocks, block: Block, moved: bool, alike: tuple[Block, ...]
) -> Iterator[tuple[Block, bool, Array]]:
    """The blocks of a mutant that a block may be made from, and whether they are transposed.

    Args:
        mutant: all its blocks.
        block: which one is looked at.
        moved: whether those of other gates and of the other direction are tried too.
        alike: blocks whose gradient is the same, bit for bit.
    """
    own = mutant[block]
    yield block, False, own
    square = own.ndim == 2 and own.shape[0] == own.shape[1] > 1
    if square:
        yield block, True, own.T
    for other in alike:
        yield other, False, mutant[other]
    if own.size < 2 or not moved:
        return
    for other in _gates(mutant, block) if block.gated else ():
        if other != block:
            yield other, False, mutant[other]
            if square:
                yield other, True, mutant[other].T
    opposite = block._replace(direction=1 - block.direction)
    if opposite in mutant:
        yield opposite, False, mutant[opposite]


def _gates(mutant: Blocks, block: Block) -> Iterator[Block]:
    """The corresponding block of every gate."""
    gate = 0
    while (other := block._replace(gate=gate)) in mutant:
        yield other
        gate += 1


def _factor(seen: TestedGradient, g: Array, p: Array) -> float | None:
    """The least-squares factor of g on p; None where nothing tells it."""
    free = seen.free(g)
    target, one = g[free].ravel(), p[free].ravel()
    square = float(one @ one)
    if square == 0 or target.size < 2:
        return 0.0 if not g.any() else None
    factor = float(target @ one) / square
    if not np.isfinite(factor):
        return None
    for whole in (-1.0, 0.0, 1.0, 2.0):  # in place of the same number with rounding errors
        if abs(factor - whole) <= KNOWN_SCALE * seen.tolerance:
            return whole
    return factor
