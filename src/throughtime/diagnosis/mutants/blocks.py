"""Where the blocks of a cell's matrices lie in a target's arrays, there and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from throughtime.arrays import Array, Shape, refuse

HEAD = -1  # the head's place among the layers
EMBEDDING = -2  # and the embedding's


class Block(NamedTuple):
    """One gate's part of one parameter.

    Attributes:
        layer: 0 for the lowest recurrent one, `HEAD`, `EMBEDDING`.
        kind: "W" (H, I), "U" (H, P), "b" (H,), "c" (H,), the recurrent bias, "p" (H,), the
            peephole, "R" (P, H), the projection; of the head "V" (O, P) and "d" (O,); of the
            embedding "E" (classes, I). P is the size of h, H where nothing is projected.
        gate: which one, in the model's own order; 0 where there is none.
        direction: 0, or 1 for the one that runs backwards through time.
    """

    layer: int
    kind: str
    gate: int
    direction: int = 0

    @property
    def gated(self) -> bool:
        """Whether it belongs to a gate."""
        return self.layer >= 0 and self.kind != "R"


Blocks: TypeAlias = dict[Block, Array]


@dataclass(frozen=True)
class BlockPlace:
    """Where one block lies: a stretch of rows and of columns of one tensor, or of its transpose."""

    tensor: str
    rows: slice
    columns: slice | None = None  # None: the tensor is a bias, read as one flat vector
    transposed: bool = False

    def view(self, array: Array) -> Array:
        """The block within `array`, which it shares memory with."""
        if self.columns is None:
            return array.reshape(-1)[self.rows]
        return (array.T if self.transposed else array)[self.rows, self.columns]


class Placement:
    """All blocks of a model, each with its place; together they cover every entry just once.

    Args:
        places: by block.
        shapes: of the target's tensors.

    Raises:
        ValueError: where a tensor is missing, too small, left over, or covered twice.
    """

    def __init__(self, places: Mapping[Block, BlockPlace], shapes: Mapping[str, Shape]) -> None:
        self.places, self.shapes = dict(places), dict(shapes)
        self._refuse_gaps()

    def blocks(self, tensors: Mapping[str, Array]) -> Blocks:
        """The blocks of such tensors, in float64."""
        return {
            block: np.array(place.view(tensors[place.tensor]), np.float64)
            for block, place in self.places.items()
        }

    def tensors(self, blocks: Mapping[Block, Array]) -> dict[str, Array]:
        """Such blocks as tensors of the target's names and shapes, in float64."""
        found = {name: np.zeros(shape) for name, shape in self.shapes.items()}
        for block, place in self.places.items():
            place.view(found[place.tensor])[...] = blocks[block]
        return found

    def of(self, tensor: str) -> list[Block]:
        """The blocks that lie in a tensor."""
        return [block for block, place in self.places.items() if place.tensor == tensor]

    def _refuse_gaps(self) -> None:
        covered = {name: np.zeros(shape, int) for name, shape in self.shapes.items()}
        for place in self.places.values():
            if place.tensor not in covered:
                names = ", ".join(covered)
                refuse("layout", f"names among {names}", repr(place.tensor))
            place.view(covered[place.tensor])[...] += 1
        for name, count in covered.items():
            if not count.any():
                way_out = "name it in the layout, or leave it out of the target"
                refuse("layout", "every parameter placed", f"{name!r} left over", way_out)
            if (count != 1).any():
                shape = self.shapes[name]
                refuse("layout", f"every entry of {name!r} {shape} placed once", "gaps or overlaps")
