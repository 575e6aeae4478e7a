"""How each block of a gradient follows from the blocks of a mutant's: scaled, transposed, moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.blocks import Block, Blocks
from throughtime.diagnosis.mutants.model import Model

SMALL = 0.02  # of the largest entry: below it, rounding of larger terms counts


@dataclass(frozen=True)
class Fit:
    """g = scale · source (transposed), the L2 term counted `decay` times, down to rounding.

    Attributes:
        source: the mutant's block that it is made of.
        transposed: whether that stands transposed.
        scale: the factor, 1 where all is right; None: nothing tells.
        decay: 0, 1 or 2; None where there is no L2 term.
        joint: whether the L2 term is scaled too.
    """

    source: Block
    transposed: bool = False
    scale: float | None = 1.0
    decay: float | None = None
    joint: bool = True

    def apply(self, model: Model, mutant: Blocks, block: Block, limit: float | None) -> Array:
        """The block that it gives."""
        p = mutant[self.source].T if self.transposed else mutant[self.source]
        scale = 1.0 if self.scale is None else self.scale
        if self.decay is None:
            p = scale * p
        else:
            w = self.decay * model.decay * model.blocks[block]
            p = scale * (p + w) if self.joint else scale * p + w
        return p if limit is None else np.clip(p, -limit, limit)


@dataclass(frozen=True)
class TestedGradient:
    """A gradient under test, block by block.

    Attributes:
        blocks: its blocks.
        tolerance: what counts as equal, relative to a block's largest entry.
        largest: the largest entry of all.
        limit: magnitude at which entries are clipped, where they are.
    """

    blocks: Blocks
    tolerance: float
    largest: float
    limit: float | None = None

    def equal(self, g: Array, p: Array) -> bool:
        """Whether p, clipped, is g down to rounding."""
        if self.limit is not None:
            p = np.clip(p, -self.limit, self.limit)
        scale = max(np.abs(p).max(), np.abs(g).max(), SMALL * self.largest)
        return bool(np.abs(g - p).max() <= self.tolerance * scale)

    def hopeless(self, g: Array, p: Array, scale: float) -> bool:
        """Whether scale · p, its least squares, is so far from g that nothing more need be asked.

        ‖g − αp‖² = ‖g‖² − α p·g for the α that makes it least.
        """
        if self.limit is not None:
            return False
        square = float((g * g).sum())
        rounding = 1e-6 * square + g.size * (self.tolerance * self.largest) ** 2
        return square - scale * float((g * p).sum()) > rounding

    def idle(self, array: Array) -> bool:
        """Whether there is nothing in it but rounding."""
        return bool(np.abs(array).max() <= self.tolerance * SMALL * self.largest)

    def free(self, g: Array) -> Array | slice:
        """The entries that are not clipped."""
        return slice(None) if self.limit is None else np.abs(g) < self.limit * (1 - 1e-6)


def fit_all(
    model: Model, mutant: Blocks, seen: TestedGradient, which: Iterable[Block] | None = None
) -> dict[Block, Fit | None]:
    """The simplest fit of each block; None where none fits."""
    chosen = seen.blocks if which is None else which
    return {block: fit(model, mutant, seen, block) for block in chosen}


def fit(
    model: Model, mutant: Blocks, seen: TestedGradient, block: Block, *, moved: bool = True
) -> Fit | None:
    """The simplest of: as it is, scaled, transposed, and where `moved`, another gate's.

    Or the other direction's.
    """
    g, w = seen.blocks[block], None
    if model.decays(block):
        w = model.decay * model.blocks[block]
    own = mutant[block]
    if seen.limit is not None and np.sum(np.abs(g) < seen.limit * (1 - 1e-6)) < 2:
        alike = bool((np.sign(g) == np.sign(own if w is None else own + w)).all())
        return Fit(block, False, None, None if w is None else 1.0) if alike else None
    if seen.equal(g, own if w is None else own + w):
        idle = seen.idle(own)
        return Fit(block, False, None if idle else 1.0, None if w is None else 1.0)
    if w is not None and seen.idle(own):
        for count in (0.0, 2.0):
            if seen.equal(g, count * w):
                return Fit(block, False, None, count)
    for source, transposed, p in _sources(mutant, block, moved):
        for times, offset, slope in _terms(p, w):
            scale = _factor(seen, g - offset, slope)
            if scale is None or (scale == 0 and source != block):
                continue
            if seen.hopeless(g - offset, slope, scale):
                continue
            if seen.equal(g, scale * slope + offset):
                return Fit(source, transposed, scale, times, not offset.any())
    return None


def _terms(p: Array, w: Array | None) -> Iterator[tuple[float | None, Array, Array]]:
    """(how often the L2 term counts, what is not scaled, what is)."""
    zero = np.zeros_like(p)
    if w is None:
        yield None, zero, p
        return
    for times in (1.0, 0.0, 2.0):
        yield times, zero, p + times * w
        if times:
            yield times, times * w, p


def _sources(mutant: Blocks, block: Block, moved: bool) -> Iterator[tuple[Block, bool, Array]]:
    own = mutant[block]
    yield block, False, own
    square = own.ndim == 2 and own.shape[0] == own.shape[1] > 1
    if square:
        yield block, True, own.T
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
    """The same of every gate."""
    gate = 0
    while (other := block._replace(gate=gate)) in mutant:
        yield other
        gate += 1


def _factor(seen: TestedGradient, g: Array, p: Array) -> float | None:
    """Least squares of g on p; None where nothing tells."""
    free = seen.free(g)
    target, one = g[free].ravel(), p[free].ravel()
    square = float(one @ one)
    if square == 0 or target.size < 2:
        return 0.0 if not g.any() else None
    factor = float(target @ one) / square
    if not np.isfinite(factor):
        return None
    for whole in (-1.0, 0.0, 1.0, 2.0):  # instead of what rounding makes of them
        if abs(factor - whole) <= 10 * seen.tolerance:
            return whole
    return factor
