"""The blocks of rows or columns that are a cell's gates, where it is known, or looks like it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from throughtime.arrays import Shape
from throughtime.gradcheck.areas import Area, listed, table_of
from throughtime.gradcheck.target import Target

USUAL = {3: "a GRU's", 4: "an LSTM's"}
COUNTS = {2: "two", 3: "three", 4: "four"}
PLACES = ("first", "second", "third", "fourth")


@dataclass(frozen=True)
class Gates:
    """How a tensor is made up of gates.

    Attributes:
        count: how many there are.
        axis: 0 where they are blocks of rows, 1 where they are blocks of columns.
        letters: the gates' own, in the order of the blocks; "" where that is not known.
        order: whose order that is, in words.
        certain: whether somebody said so; else shapes alone suggest it.
    """

    count: int
    axis: int = 0
    letters: str = ""
    order: str = ""
    certain: bool = True

    def words(self, area: Area, shape: Shape) -> str:
        """What a tensor's area is in terms of its gates; "" where it is no gate, or all of them.

        Example:
            >>> rows = Area((8, 12), (0, 4))
            >>> Gates(3, letters="rzn", order="in PyTorch's order").words(rows, (12, 4))
            "the third of three gates (n in PyTorch's order)"
            >>> Gates(3, certain=False).words(rows, (12, 4))
            "the third of three gates if these are a GRU's"
            >>> Gates(4).words(Area((2, 4), (0, 4)), (16, 4))
            'within the first of four gates'
        """
        size = table_of(shape)[self.axis] // self.count
        first, stop = area.span(self.axis)
        blocks = range(first // size, (stop - 1) // size + 1)
        if len(blocks) == self.count or area.span(1 - self.axis) != self._across(shape):
            return ""
        exact = first % size == 0 and stop % size == 0
        if not exact and (len(blocks) > 1 or not self.certain):
            return ""
        places = listed([PLACES[k] if self.count in COUNTS else str(k + 1) for k in blocks])
        words = f"the {places} of {COUNTS.get(self.count, self.count)} gates"
        if self.count not in COUNTS:
            words = f"gate{'s' * (len(blocks) > 1)} {places} of {self.count}"
        if self.letters:
            words += f" ({listed([self.letters[k] for k in blocks])} {self.order})"
        elif not self.certain:
            words += f" if these are {USUAL[self.count]}"
        return words if exact else f"within {words}"

    def _across(self, shape: Shape) -> tuple[int, int]:
        """The rows or columns that a gate runs across."""
        return 0, table_of(shape)[1 - self.axis]


class KnowsGates(Protocol):
    """A layout that knows how the tensors are made up of gates."""

    def gates_of(self, name: str, shapes: Mapping[str, Shape]) -> Gates | None:
        """Those of one tensor; None where it has none."""


def gates_of(target: Target, name: str) -> list[Gates]:
    """What gates a tensor may consist of; several where its shape leaves that open.

    From the target's layout; from its `gates`; from shapes, of a recurrent matrix (3H, H) or
    (4H, H), its transpose, and what has as many rows or columns as it.
    """
    shapes = {own: array.shape for own, array in target.parameters.items()}
    layout = target.layout
    if hasattr(layout, "gates_of"):
        try:
            known = layout.gates_of(name, shapes)
        except (ValueError, LookupError):  # it does not fit this target
            known = None
        return [] if known is None else [known]
    return list(dict.fromkeys(_by_shape(target.gates, name, shapes)))


def _by_shape(count: int | None, name: str, shapes: Mapping[str, Shape]) -> Iterator[Gates]:
    counts = (count,) if count else tuple(USUAL)
    recurrent = [*_recurrent(counts, shapes, [name]), *_recurrent(counts, shapes, list(shapes))]
    rows, columns = table_of(shapes[name])
    if count and not recurrent:
        if rows % count == 0 and _known(rows // count, name, shapes):
            yield Gates(count)
        return
    for many, units, axis in recurrent:
        if columns == 1 or rows == 1:
            if rows * columns == many * units:
                yield Gates(many, int(columns > 1), certain=bool(count))
        elif (rows, columns)[axis] == many * units:
            yield Gates(many, axis, certain=bool(count))


def _known(units: int, name: str, shapes: Mapping[str, Shape]) -> bool:
    """Whether other tensors speak for so many units: one has as many rows or columns."""
    others = [table_of(shape) for own, shape in shapes.items() if own != name]
    return units > 1 and (not others or any(units in table for table in others))


def _recurrent(
    counts: tuple[int, ...], shapes: Mapping[str, Shape], among: Sequence[str]
) -> Iterator[tuple[int, int, int]]:
    """(gates, units, axis of the gates) of every matrix among some that may be recurrent."""
    tables = [table_of(shape) for shape in shapes.values() if len(shape) > 1]
    for table in [table_of(shapes[name]) for name in among if len(shapes[name]) > 1]:
        for many in counts:
            for axis in (0, 1):
                units = table[1 - axis]
                fed_on = any(other[1 - axis] == many * units for other in tables)
                # A layer whose outputs another one takes in has no gates among them.
                if units > 1 and table[axis] == many * units and not fed_on:
                    yield many, units, axis
