"""Which blocks of a gradient a mutant's blocks can fit at all, told for all blocks at once.

A block fits if it is a multiple of the mutant's own block, transposed or not, or of another one of
its shape. Whether any is parallel to it takes one product of matrices for each shape.
"""

from __future__ import annotations

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.model import Block, Blocks
from throughtime.diagnosis.mutants.tested import TestedGradient
from throughtime.diagnosis.tolerances import HOPELESS_REST


class Screen:
    """Finds the blocks that are worth fitting.

    Args:
        seen: the gradient under test.
    """

    def __init__(self, seen: TestedGradient) -> None:
        self.every = set(seen.blocks)
        groups: dict[tuple[int, ...], list[Block]] = {}
        self.always: set[Block] = set()
        for block, g in seen.blocks.items():
            clipped = seen.limit is not None
            if clipped or g.size < 2 or seen.idle(block, g):
                self.always.add(block)  # whatever is parallel to it, or nothing, tells nothing
            groups.setdefault(g.shape, []).append(block)
        self.groups = []
        for shape, blocks in groups.items():
            told = [block for block in blocks if block not in self.always]
            if not told:
                continue
            rows = np.array([seen.blocks[block].ravel() for block in told])
            squares = (rows * rows).sum(axis=1)
            far = np.array([seen.far(block) for block in told])
            rest = HOPELESS_REST + rows.shape[1] * far**2 / squares
            self.groups.append((shape, blocks, told, rows / np.sqrt(squares)[:, None], 1 - rest))

    def __call__(self, mutant: Blocks) -> set[Block]:
        """Those for which the mutant has a block that is parallel to them, down to rounding."""
        found = set(self.always)
        for shape, blocks, told, rows, least in self.groups:
            arrays = [mutant[block] for block in blocks]
            if len(shape) == 2 and shape[0] == shape[1]:
                arrays += [array.T for array in arrays]
            other = np.array([array.ravel() for array in arrays])
            norms = np.sqrt((other * other).sum(axis=1, keepdims=True))
            other = np.divide(other, norms, out=np.zeros_like(other), where=norms > 0)
            cosines: Array = np.abs(rows @ other.T).max(axis=1)
            found.update(
                block for block, near in zip(told, cosines**2 >= least, strict=True) if near
            )
        return found
