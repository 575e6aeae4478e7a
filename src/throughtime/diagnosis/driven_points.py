"""Points of a target's parameters at which a single step is known without its data.

With all weights below the output layer at 0 the biases alone tell what a first step gives, where
states begin at 0. Two other ways lead there. Where a bias closes the gate that keeps the state
before, initial states do not matter. And where the candidate's input weights are huge multiples of
one row w, the candidate is at its bounds, ±1 in a pattern that is known, times the sign of w·x_b;
the sum of the losses with w and with −w is the same whatever that sign is. Rows of w that close a
gate as well make the same of networks that have no biases, where all of the sequences have one
sign.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.drawn_losses import BlockSetting
from throughtime.diagnosis.mutants.cells import GRU, LSTM, RNN, MutantCell
from throughtime.diagnosis.mutants.model import Block, BlockPlace
from throughtime.diagnosis.tolerances import CLOSED_GATE, FAR_INPUT

CANDIDATES = {"RNN": "s", "LSTM": "a", "GRU": "n"}
FROM_CELL_BEFORE = "if"  # gates whose peepholes see c of the step before


@dataclass(frozen=True)
class Drive:
    """What the lowest layer, or all gates that keep a state, are driven to.

    Attributes:
        inputs: whether the candidate is driven to its bounds by its input weights; otherwise all
            weights of inputs and of the state before are 0.
        closed: whether gates that keep the state before are closed: by their biases, or by their
            input weights where inputs drive the candidate.
        direction: which w; −1 for one that may have either sign with each sequence.
        sign: of w·x_b in all sequences, where gates are closed.
    """

    inputs: bool = False
    closed: bool = False
    direction: int = -1
    sign: float = 1.0

    @property
    def signs(self) -> tuple[float, ...]:
        """The signs of w whose losses are added up."""
        return (1.0, -1.0) if self.inputs and not self.closed else (self.sign,)


CLOSED = Drive(closed=True)
EITHER_SIGN = Drive(inputs=True)


def one_sign(directions: int) -> Iterator[Drive]:
    """Drives that close gates without biases, with so many w, the likelier first.

    One-hot inputs have the sign of a w that has one itself; a single sequence has it with any.
    """
    for direction in range(directions):
        for sign in (1.0, -1.0):
            yield Drive(inputs=True, closed=True, direction=direction, sign=sign)


def keeping(cell: MutantCell) -> dict[str, float]:
    """The gates that keep the state before, and what sign of a pre-activation closes each."""
    if isinstance(cell, LSTM):
        return {"i": 1.0} if cell.coupled else {"f": -1.0}
    if isinstance(cell, GRU):
        return {"z": -1.0 if cell.keep == "z" else 1.0}
    return {}


def zeroed(drive: Drive, cell: MutantCell, block: Block) -> bool:
    """Whether a block is put to 0."""
    if block.kind == "U":
        return True
    if drive.closed and block.kind == "p":
        return cell.gates[block.gate] in FROM_CELL_BEFORE
    if block.kind != "W":
        return False
    return block.layer == 0 if drive.inputs else True


def settings(
    drive: Drive, cell: MutantCell, places: Mapping[Block, BlockPlace], widths: Mapping[Block, int]
) -> tuple[BlockSetting, ...]:
    """What the blocks that drive are put to.

    Args:
        drive: how.
        cell: the cell that is supposed.
        places: of all blocks.
        widths: of the lowest layer's input weights, I.

    Raises:
        ValueError: if the network has nothing that can be driven in this way.
    """
    closing = keeping(cell) if drive.closed else {}
    if drive.closed and not closing:
        raise ValueError("no gate keeps the state before")
    if not drive.inputs:
        return tuple(_by_biases(places, closing, cell))
    if cell in (RNN("relu"), RNN("identity")) or (
        drive.closed and any(b.layer > 0 for b in places)
    ):
        raise ValueError("no bound that inputs drive this network to")
    found = []
    for block, place in places.items():
        if (block.layer, block.kind) != (0, "W"):
            continue
        gate, along = cell.gates[block.gate], _row(drive, widths[block])
        if gate == CANDIDATES[type(cell).__name__]:
            found.append(BlockSetting(place, FAR_INPUT, along, patterned=True))
        elif gate in closing:
            found.append(BlockSetting(place, closing[gate] * drive.sign * FAR_INPUT, along))
    return tuple(found)


def _by_biases(
    places: Mapping[Block, BlockPlace], closing: Mapping[str, float], cell: MutantCell
) -> Iterator[BlockSetting]:
    closed = set()
    for block, place in places.items():
        gated = block.layer >= 0 and block.kind in "bc"
        if gated and cell.gates[block.gate] in closing and block[::2] not in closed:
            closed.add(block[::2])
            yield BlockSetting(place, -closing[cell.gates[block.gate]] * CLOSED_GATE)
    if not closed:
        raise ValueError("no bias that closes a gate")


def _row(drive: Drive, width: int) -> Array:
    """w: with positive entries first, none of them small."""
    rng = np.random.default_rng([23, max(drive.direction, 0), width])
    drawn = rng.standard_normal(width)
    sizes = 0.5 + np.abs(drawn)
    return sizes if drive.direction == 0 else sizes * np.sign(drawn)


def driving_input(row: Array, embedding: Array | None) -> Array:
    """An input x, or a mixture of classes, with w·x = 1."""
    seen = row if embedding is None else embedding @ row
    return np.asarray(seen / (seen @ seen))
