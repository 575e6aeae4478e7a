"""One direction of one layer, in one call of its module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from throughtime.cells import Cell
from throughtime.torch.states import Kept
from throughtime.torch.step_order import Layout


@dataclass(eq=False)
class Side:
    """What a pass needs to know beside tensors.

    Attributes:
        module: whose side it is; it knows who looks on.
        call: the number of the module's call, counted over all modules.
        layer: the layer's number.
        cell, layout: what runs, and in what order.
        segment: steps that are differentiated at once.
        wanted: whether `kept` is to be filled by the forward pass.
        order: (B,) the sequences' places before packing, None where nothing was sorted.
    """

    module: Any
    call: int
    layer: int
    cell: Cell
    layout: Layout
    segment: int
    wanted: bool = False
    order: Any = None
    kept: Kept | None = None
