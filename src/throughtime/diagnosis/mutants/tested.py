"""A gradient under test, block by block: what counts as equal to it, and what proves nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.model import Block, Blocks, Model
from throughtime.diagnosis.tolerances import (
    CLIPPED_WITHIN,
    HELD_WITHIN,
    HOPELESS_REST,
    ROUNDED_BELOW,
    ROUNDED_BESIDE,
    SAME_GRADIENT,
    TELLING,
)


@dataclass(frozen=True)
class TestedGradient:
    """A gradient under test, block by block.

    Attributes:
        blocks: its blocks.
        tolerance: what counts as equal, relative to a block's largest entry.
        largest: the magnitude of its largest entry.
        limit: the magnitude at which entries are clipped; None where none is.
        floor: what rounding of larger terms may do to an entry, relative to `beside`.
        beside: for each block, the magnitude of the largest entry of its layer, which is that of
            the terms whose rounding an entry may show; by default `largest`. What weights of 0.01
            make small keeps all its digits.
        alike: the other blocks whose gradient is the same, bit for bit, for each that has any.
    """

    blocks: Blocks
    tolerance: float
    largest: float
    limit: float | None = None
    floor: float = 0.0
    beside: Mapping[Block, float] = field(default_factory=dict)
    alike: Mapping[Block, tuple[Block, ...]] = field(default_factory=dict)

    def times(self, factor: float) -> TestedGradient:
        """The same gradient, all of it multiplied by a factor."""
        return replace(
            self,
            blocks={block: factor * g for block, g in self.blocks.items()},
            largest=abs(factor) * self.largest,
            limit=None if self.limit is None else abs(factor) * self.limit,
            beside={block: abs(factor) * own for block, own in self.beside.items()},
        )

    def rounding(self, block: Block) -> float:
        """What rounding of larger terms may do to an entry of a block."""
        return self.floor * self.beside.get(block, self.largest)

    def tells(self, block: Block, array: Array) -> bool:
        """Whether an array in the place of a block is far larger than rounding.

        Otherwise what fits it may do so by chance, and its factor is unknown.
        """
        return self.rounding(block) <= TELLING * float(np.abs(array).max())

    def equal(self, block: Block, g: Array, p: Array) -> bool:
        """Whether p, clipped, is g down to rounding."""
        if self.limit is not None:
            p = np.clip(p, -self.limit, self.limit)
        own = self.tolerance * max(np.abs(p).max(), np.abs(g).max())
        return bool(np.abs(g - p).max() <= max(own, self.rounding(block)))

    def hopeless(self, block: Block, g: Array, p: Array, scale: float) -> bool:
        """Whether scale · p, the least-squares fit, is too far from g to be worth comparing.

        ‖g − αp‖² = ‖g‖² − α p·g for the α that minimises it.
        """
        if self.limit is not None:
            return False
        square = float((g * g).sum())
        rounding = HOPELESS_REST * square + g.size * self.far(block) ** 2
        return square - scale * float((g * p).sum()) > rounding

    def far(self, block: Block) -> float:
        """How far an entry of a block may be off without the block being hopeless."""
        return max(self.tolerance, self.floor) * self.beside.get(block, self.largest)

    def idle(self, block: Block, array: Array) -> bool:
        """Whether an array in the place of a block holds nothing but rounding."""
        return bool(np.abs(array).max() <= self.rounding(block))

    def free(self, g: Array) -> Array | slice:
        """The entries that are not clipped."""
        return slice(None) if self.limit is None else np.abs(g) < self.limit * (1 - CLIPPED_WITHIN)


def seen_of(model: Model, gradient: Mapping[str, Array], tolerance: float) -> TestedGradient:
    """The gradient, block by block."""
    blocks = model.placement.blocks(gradient)
    largest = max(float(np.abs(g).max()) for g in blocks.values()) or 1.0
    exact = tolerance <= SAME_GRADIENT["float64"]
    floor = ROUNDED_BESIDE if exact else tolerance * ROUNDED_BELOW
    beside = _beside(model, blocks)
    return TestedGradient(
        blocks, tolerance, largest, floor=floor, beside=beside, alike=_alike(blocks)
    )


def _beside(model: Model, blocks: Blocks) -> dict[Block, float]:
    """For each block the largest entry of its layer, in this gradient or in the right one."""
    largest: dict[int, float] = {}
    for gradient in (blocks, model.placement.blocks(model.gradient())):
        for block, g in gradient.items():
            largest[block.layer] = max(largest.get(block.layer, 0.0), float(np.abs(g).max()))
    return {block: largest[block.layer] or 1.0 for block in blocks}


def _alike(blocks: Blocks) -> dict[Block, tuple[Block, ...]]:
    """For each block the others that are the same, bit for bit, and not all one number."""
    by_bits: dict[tuple[object, ...], list[Block]] = {}
    for block, g in blocks.items():
        if g.size > 1 and np.ptp(g):
            by_bits.setdefault((g.shape, g.tobytes()), []).append(block)
    return {
        block: tuple(other for other in same if other != block and _copies(other, block))
        for same in by_bits.values()
        if len(same) > 1
        for block in same
    }


def _copies(one: Block, other: Block) -> bool:
    """Whether equal gradients of two blocks mean anything: b and c have the same anyway."""
    return one.kind == other.kind or not {one.kind[0], other.kind[0]} & {*"bcdp"}


def limited(seen: TestedGradient) -> TestedGradient | None:
    """The gradient as one that is clipped, if several entries have the largest magnitude."""
    held = [
        int((np.abs(g) >= seen.largest * (1 - HELD_WITHIN)).sum()) for g in seen.blocks.values()
    ]
    if sum(held) > 2 or sum(n > 0 for n in held) > 1:
        return replace(seen, limit=seen.largest)
    return None
