"""What a run keeps of every step, for the user to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch

from throughtime.cells import kept_names
from throughtime.torch.step_order import Layout
from throughtime.torch.weights import Maybe

if TYPE_CHECKING:
    from throughtime.torch.direction import Side


@dataclass(frozen=True)
class LayerStates:
    """Every inner value of one direction of one layer, time first, detached.

    They are the memory that the backward pass reads: to change one in place makes torch refuse
    the backward pass. The steps of a PackedSequence are padded, in the order of its sequences
    before packing; beyond a sequence's length h and c stand still and the gates are 0.

    Attributes:
        h: (T, B, H), or (T, B, P) with a projection; after every step.
        c: (T, B, H) of an LSTM, else None.
        gates: by name, each (T, B, H): LSTM i, f, a (the candidate), o, tanh_c; GRU r, z, n and
            u_n = U_n h + c, or reset_h = r ⊙ h where the reset gate acts before the product;
            RNN s, which is h.
        reverse: the same of the second direction, None where there is none.
    """

    h: torch.Tensor
    c: Maybe
    gates: dict[str, torch.Tensor] = field(repr=False)
    reverse: LayerStates | None = None


class Kept(NamedTuple):
    """What one direction's forward pass keeps, in that direction's order of time.

    Attributes:
        h, c: (T + 1, B, ·), from the initial state on; c None but for LSTM.
        inner: (T, B, n·H), the gates side by side.
    """

    h: torch.Tensor
    c: Maybe
    inner: torch.Tensor

    def shown(self, units: int, names: Sequence[str], turn: Maybe, order: Maybe) -> LayerStates:
        """As the user sees it.

        Args:
            units, names: H, and what the gates are called.
            turn: (T, B) where each step stands in the sequence's own order of time, for the
                second direction.
            order: (B,) the sequences' places before packing.
        """

        def own(array: torch.Tensor) -> torch.Tensor:
            if turn is not None:
                array = array.gather(0, turn[:, :, None].expand_as(array))
            return array if order is None else array.index_select(1, order)

        parts = own(self.inner).split(units, dim=2)
        gates = dict(zip(names, parts, strict=True))
        return LayerStates(own(self.h[1:]), None if self.c is None else own(self.c[1:]), gates)


def joined(sides: list[Side], directions: int) -> list[LayerStates]:
    """What the sides kept, a layer at a time."""
    own = []
    for side in sides:
        assert side.kept is not None
        names, turn = kept_names(side.cell), turn_of(side.layout)
        own.append(side.kept.shown(side.cell.units, names, turn, side.order))
    return paired(own, directions)


def paired(own: list[LayerStates], directions: int) -> list[LayerStates]:
    """The second direction's beside the first's."""
    if directions == 1:
        return own
    both = zip(own[::2], own[1::2], strict=True)
    return [LayerStates(a.h, a.c, a.gates, reverse=b) for a, b in both]


def turn_of(layout: Layout) -> Maybe:
    """(T, B): where each step of a sequence stands in the second direction's order of time."""
    if not layout.reverse:
        return None
    lengths = None if layout.lengths is None else torch.from_numpy(layout.lengths)
    return turned(layout.steps, layout.batch, lengths)


def turned(steps: int, batch: int, lengths: Maybe) -> torch.Tensor:
    """The same from the sequences' lengths (B,), None where all have T steps."""
    t = torch.arange(steps)[:, None]
    if lengths is None:
        return (steps - 1 - t).expand(steps, batch)
    return torch.where(t < lengths, lengths - 1 - t, t)
