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
from throughtime.diagnosis.tolerances import (
    CLIPPED_WITHIN,
    HOPELESS_REST,
    KNOWN_SCALE,
    LEAST_LEFT,
    ROUNDED_PRODUCTS,
)


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
    products = _Products(seen, block, w) if seen.limit is None and g.dtype == float else None
    for source, transposed, p in sources(mutant, block, moved, seen.alike.get(block, ())):
        if products is not None:
            products.meet(p)
        for with_term in (True, False) if transposed and w is not None else (False,):
            term = w if w is None or not with_term else w.T
            for times, joint in TERMS if term is not None else NO_TERM:
                if products is not None and products.far_off(times, joint, with_term):
                    continue
                part = 0.0 if term is None or not times else times * term
                slope, offset = (p + part, 0.0) if joint else (p, part)
                scale = _factor(seen, g - offset, slope)
                if scale is None or (scale == 0 and source != block):
                    continue
                if seen.hopeless(block, g - offset, slope, scale):
                    continue
                if seen.equal(block, g, scale * slope + offset):
                    known = scale if seen.tells(block, slope) else None
                    decay = None if term is None else times
                    return Fit(source, transposed, known, decay, joint, with_term)
    return None


# How often the L2 term counts, and whether it is scaled with the rest.
TERMS = ((1.0, True), (1.0, False), (0.0, True), (2.0, True), (2.0, False))
NO_TERM = ((0.0, True),)


class _Products:
    """The scalar products that say which ways of making a block are far off, without trying them.

    For g = α s + o the rest of the least-squares fit is ‖g − o‖² − ((g − o)·s)² / s·s, and s and o
    are sums of the mutant's block p and the L2 term w.
    """

    def __init__(self, seen: TestedGradient, block: Block, w: Array | None) -> None:
        self.g = seen.blocks[block]
        self.enough = 2 * self.g.size * seen.far(block) ** 2
        self.gg = float(np.vdot(self.g, self.g))
        self.terms = {} if w is None else {False: w} | ({True: w.T} if w.T.shape == w.shape else {})
        self.of_terms = {
            k: (float(np.vdot(self.g, v)), float(np.vdot(v, v))) for k, v in self.terms.items()
        }
        self.pp = self.pg = 0.0
        self.pw: dict[bool, float] = {}

    def meet(self, p: Array) -> None:
        """Takes a block of the mutant."""
        self.pp, self.pg = float(np.vdot(p, p)), float(np.vdot(p, self.g))
        self.pw = {k: float(np.vdot(p, v)) for k, v in self.terms.items()}

    def far_off(self, times: float, joint: bool, with_term: bool) -> bool:
        """Whether no factor brings the block as near as `TestedGradient.hopeless` asks for."""
        square, ss, gs, of_w = self.gg, self.pp, self.pg, 0.0
        if times:
            gw, ww = self.of_terms[with_term]
            of_w, pw = times * times * ww, times * self.pw[with_term]
            if joint:
                ss += 2 * pw + of_w
                gs += times * gw
            else:
                square += of_w - 2 * times * gw
                gs -= pw
        if not ss > LEAST_LEFT * (self.pp + of_w):  # rounding may be all that is left of s
            return False
        rest = square - gs * gs / ss - ROUNDED_PRODUCTS * (self.gg + of_w)
        return rest > 2 * HOPELESS_REST * square + self.enough


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
