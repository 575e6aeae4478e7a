"""The parameters stand elsewhere meanwhile: moved along a direction, and put back bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from throughtime.arrays import Array
from throughtime.derivatives import rounded
from throughtime.gradcheck.search_direction import Block
from throughtime.gradcheck.target import Target

Moves = Sequence[tuple[Block, Array]]


def moves_of(blocks: tuple[Block, ...], parameters: Mapping[str, Array]) -> Moves:
    """How far each entry of the blocks moves at step 1, drawn once for many steps."""
    return [(block, block.moves(parameters[block.name].size)) for block in blocks]


class Moved:
    """A context in which a target's parameters are moved by a step along a direction.

    One entry's step is the one that its precision could hold. Of many entries each is rounded in
    its own way, and where they arrive lies off the line.

    Args:
        target: its parameters are moved in place.
        gradient: tells what the last digits do to the loss.
        moves: the direction: blocks, and how far each entry of them moves at step 1.
        step: how far.

    Attributes:
        realised: the step that was taken.
        astray: what lies off the line moves the loss by so much, as the gradient says.
        finite: whether all parameters are.
    """

    def __init__(
        self, target: Target, gradient: Mapping[str, Array], moves: Moves, step: float
    ) -> None:
        self.target, self.gradient, self.moves, self.step = target, gradient, moves, step
        self.before: list[tuple[Array, slice, Array]] = []
        self.realised, self.astray, self.finite = step, 0.0, True

    def __enter__(self) -> Self:
        try:
            for block, moves in self.moves:
                self._move(block, moves)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for flat, stretch, values in self.before:
            flat[stretch] = values

    def _move(self, block: Block, moves: Array) -> None:
        array = self.target.parameters[block.name]
        # A flat iterator serves arrays whose memory is not in C order.
        flat = array.reshape(-1) if array.flags.c_contiguous else array.flat
        stretch = slice(block.start, block.stop)
        before = np.array(flat[stretch])
        with np.errstate(over="ignore"):
            after = before + self.step * moves
            if self.target.bits is not None:
                after = rounded(after, self.target.bits)
            after = after.astype(array.dtype)
        self.before.append((flat, stretch, before))  # type: ignore[arg-type]
        flat[stretch] = after
        self.finite = self.finite and bool(np.isfinite(after).all())
        if len(before) == 1 and len(self.moves) == 1:
            self.realised = (float(after[0]) - float(before[0])) / float(moves[0])
        elif array.dtype != np.float64 and self.finite:
            gradient = self.gradient[block.name].reshape(-1)[stretch].astype(np.float64)
            off = after.astype(np.float64) - before - self.step * moves
            self.astray += float(gradient @ off)
