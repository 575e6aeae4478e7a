"""What the losses of a single step tell of a network without biases, where no data are known.

With states at 0, U and the gate that forgets do not matter at T = 1; with others, U matters in
every gate. So most layouts are refuted by which arrays matter there, for a few losses in all.

Without biases, a candidate of 0 gives outputs of 0 whatever else there is. So a layout is refuted
where its blocks of these gates are put at 0 and the loss changes, or is not that of outputs of 0.
And the loss as a function of a multiple of V is a parabola for a squared error, and a straight line
for a weighted sum.
"""

from __future__ import annotations

import numpy as np

from throughtime.diagnosis.drawn_losses import DrawnLosses, Mask
from throughtime.diagnosis.driven_points import CANDIDATES, FROM_CELL_BEFORE
from throughtime.diagnosis.mutants.cells import RNN
from throughtime.diagnosis.mutants.layout import Layout
from throughtime.diagnosis.mutants.losses import ModelLoss
from throughtime.diagnosis.mutants.model import (
    EMBEDDING,
    HEAD,
    START,
    Block,
    BlockPlace,
    Placement,
)
from throughtime.diagnosis.tolerances import (
    CHANGED_LOSS,
    FAR_MULTIPLE,
    LEAST_SIGHT,
    POINTS_WITHOUT,
)

BIASES = "bcdq"
IDLE = {"LSTM": "f", "GRU": "r"}  # gates that multiply the state before alone


class RecurrentWeights:
    """Refutes layouts whose recurrent weights matter in some gates of a first step, not in others.

    Args:
        losses: of the target.
    """

    def __init__(self, losses: DrawnLosses) -> None:
        self.losses = losses
        self._matters: dict[str, bool | None] = {}

    def idle(self) -> frozenset[str]:
        """The arrays that do not matter in a first step; none where hardly anything does."""
        whole = {name: BlockPlace(name, slice(None)) for name in self.losses.shapes}
        found = {name for name, place in whole.items() if self.matters(place) is False}
        return frozenset(found if len(found) + 1 < len(whole) else ())

    def allows(self, layout: Layout) -> bool:
        """Whether all of U matters, or nothing of it."""
        try:
            places = layout.placement(self.losses.shapes).places
        except ValueError:
            return False
        gates, kind = layout.cell.gates, type(layout.cell).__name__
        for layer in range(layout.layers):
            own = {b: p for b, p in places.items() if b.layer == layer and not b.direction}
            # c_0 may be 0 where h_0 is not, and then f does not matter.
            seen = {
                self.matters(place)
                for block, place in own.items()
                if block.kind == "U" and (kind, gates[block.gate]) != ("LSTM", "f")
            }
            if {True, False} <= seen:
                return False
            if (
                False in seen
                and kind == "GRU"
                and any(
                    self.matters(place)
                    for block, place in own.items()
                    if block.kind in "Wb" and gates[block.gate] == "r"
                )
            ):
                return False
        return True

    def matters(self, place: BlockPlace) -> bool | None:
        """Whether the loss of a first step changes without a block; None where it hardly does."""
        key = repr(place)
        if key not in self._matters:
            mask = Mask.of([place], self.losses.shapes)
            self._matters[key] = self._without(mask)
        return self._matters[key]

    def _without(self, mask: Mask) -> bool | None:
        """See `matters`; a unit of ReLU may be dead at one point, and hardly at all of them."""
        same = True
        for number in range(POINTS_WITHOUT):
            whole, left = self.losses.loss(1, number), self.losses.loss(1, number, mask)
            if abs(whole - left) > CHANGED_LOSS * self.losses.tolerance * max(1.0, abs(whole)):
                return True
            same = same and whole == left  # NaN is not
        return False if same else None


class SingleStep:
    """Refutes layouts of networks that have no biases and whose states begin at 0.

    Args:
        losses: of the target.
    """

    def __init__(self, losses: DrawnLosses) -> None:
        self.losses = losses
        self.whole = losses.loss(1, 0)

    def allows(self, layout: Layout, loss: ModelLoss) -> bool:
        """Whether a layout and a kind of loss have the losses of a single step."""
        try:
            placement = layout.placement(self.losses.shapes)
        except ValueError:
            return False
        if self._has_biases(placement):
            return True  # of which something would show
        return self._fits(placement, layout) and self._is_of_this_kind(placement, loss)

    def allows_layout(self, layout: Layout) -> bool:
        """Whether a layout without biases has the losses of a single step, with some loss.

        Where states are not 0, only those of a plain RNN may be driven to something known.
        """
        try:
            placement = layout.placement(self.losses.shapes)
        except ValueError:
            return False
        if self._has_biases(placement):
            return False
        return isinstance(layout.cell, RNN) or self._fits(placement, layout)

    def _has_biases(self, placement: Placement) -> bool:
        return any(block.kind in BIASES or block.layer == START for block in placement.places)

    def _fits(self, placement: Placement, layout: Layout) -> bool:
        blocks = list(placement.places)
        sigmoid = layout.cell == RNN("sigmoid")  # whose states are never 0
        return (
            self._same(self._without(placement, self._idle(layout, blocks)), self.whole)
            and (sigmoid or self._nothing_without(placement, layout, blocks))
            and self._may_be_embedding(placement, layout)
        )

    def _idle(self, layout: Layout, blocks: list[Block]) -> list[Block]:
        """Blocks that do not matter in a first step."""
        gates, idle = layout.cell.gates, IDLE.get(type(layout.cell).__name__, "")

        def is_idle(block: Block) -> bool:
            if block.layer < 0:
                return False
            gate = gates[block.gate]
            seen_before = block.kind == "p" and gate in FROM_CELL_BEFORE
            return block.kind == "U" or gate in idle or seen_before

        return [block for block in blocks if is_idle(block)]

    def _nothing_without(self, placement: Placement, layout: Layout, blocks: list[Block]) -> bool:
        """Whether outputs are 0 without the candidate of any layer, or without the head."""
        nothing = self._without(placement, blocks)
        if not np.isfinite(nothing) or self._same(nothing, self.whole):
            return True  # nothing tells
        own = layout.cell.gates.index(CANDIDATES[type(layout.cell).__name__])
        single = [b for b in blocks if b.layer >= 0 and b.kind == "W" and b.gate == own]
        single += [block for block in blocks if block.layer < 0 and block.kind in "VQE"]
        return all(self._same(self._without(placement, [one]), nothing) for one in single)

    def _may_be_embedding(self, placement: Placement, layout: Layout) -> bool:
        """Whether the loss is bounded in multiples of E, since states are."""
        place = placement.places.get(Block(EMBEDDING, "E", 0))
        if place is None or layout.cell in (RNN("relu"), RNN("identity")):
            return True
        one, two = (self._with_multiple(place.tensor, k * FAR_MULTIPLE) for k in (1, 2))
        return not abs(two - one) > max(1.0, abs(one))

    def _is_of_this_kind(self, placement: Placement, loss: ModelLoss) -> bool:
        """Whether the loss is such a function of a multiple of V."""
        place = placement.places.get(Block(HEAD, "V", 0))
        if place is None:
            return True
        multiples = (-FAR_MULTIPLE, 0.0, FAR_MULTIPLE, 2 * FAR_MULTIPLE)
        values = np.array([self._with_multiple(place.tensor, k) for k in multiples])
        size = max(1.0, float(np.abs(values).max()))
        if not np.isfinite(size) or np.ptp(values) < LEAST_SIGHT:
            return True  # nothing tells
        near = 10 * self.losses.tolerance * size
        straight = abs(values[0] - 2 * values[1] + values[2]) <= near
        parabola = abs(np.diff(values, 3)[0]) <= near
        root = abs(np.diff(values**2, 3)[0]) <= near * size
        if straight:
            return loss.kind == "weighted"
        linear = loss.kind == "squared_error" and loss.activation == "identity"
        if parabola:
            return linear and not loss.root
        return root if linear and loss.root else not (linear or loss.kind == "weighted")

    def _with_multiple(self, name: str, times: float) -> float:
        return self.losses.with_multiple(1, 0, name, times)

    def _without(self, placement: Placement, blocks: list[Block]) -> float:
        mask = Mask.of([placement.places[block] for block in blocks], self.losses.shapes)
        return self.losses.loss(1, 0, mask)

    def _same(self, one: float, other: float) -> bool:
        return abs(one - other) <= 10 * self.losses.tolerance * max(1.0, abs(other))
