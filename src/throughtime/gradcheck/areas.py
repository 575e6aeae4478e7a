"""Rectangles of a tensor, in words: rows, columns, and the gates that they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from throughtime.arrays import Array, Shape
from throughtime.gradcheck.target import Target
from throughtime.gradcheck.tolerances import MOST_AREAS, STRAY_PART, WRONG_ROW_PART


def table_of(shape: Shape) -> tuple[int, int]:
    """Rows and columns of a tensor: the first axis, and all others flattened.

    Example:
        >>> table_of((12, 4)), table_of((12,)), table_of(()), table_of((5, 2, 3))
        ((12, 4), (12, 1), (1, 1), (5, 6))
    """
    rows = shape[0] if shape else 1
    return rows, int(np.prod(shape[1:], dtype=np.int64))


@dataclass(frozen=True)
class Area:
    """A rectangle of a tensor's table of entries.

    Attributes:
        rows: the first row, and the one after the last.
        columns: likewise.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]

    def __str__(self) -> str:
        (top, bottom), (left, right) = self.rows, self.columns
        return f"rows {top}–{bottom - 1}, columns {left}–{right - 1}"

    @staticmethod
    def whole(shape: Shape) -> Area:
        """The area of a whole tensor."""
        rows, columns = table_of(shape)
        return Area((0, rows), (0, columns))

    @property
    def height(self) -> int:
        """How many rows it has."""
        return self.rows[1] - self.rows[0]

    @property
    def width(self) -> int:
        """How many columns it has."""
        return self.columns[1] - self.columns[0]

    @property
    def size(self) -> int:
        """How many entries it has."""
        return self.height * self.width

    def span(self, axis: int) -> tuple[int, int]:
        """Its rows for axis 0, its columns for axis 1."""
        return self.columns if axis else self.rows

    def with_span(self, axis: int, first: int, stop: int) -> Area:
        """The same area with other rows, or columns."""
        return replace(self, **{"columns" if axis else "rows": (first, stop)})

    def divided(self, axis: int, parts: int = 2) -> list[Area]:
        """Parts of about the same size along an axis."""
        first, stop = self.span(axis)
        places = [first + (stop - first) * k // parts for k in range(parts + 1)]
        return [self.with_span(axis, a, b) for a, b in pairwise(places)]

    def holds(self, row: int, column: int) -> bool:
        """Whether an entry lies in it."""
        inside = self.rows[0] <= row < self.rows[1]
        return inside and self.columns[0] <= column < self.columns[1]

    def within(self, other: Area) -> bool:
        """Whether all of it lies in another area."""
        return all(
            other.span(axis)[0] <= self.span(axis)[0] and self.span(axis)[1] <= other.span(axis)[1]
            for axis in (0, 1)
        )

    def without(self, other: Area) -> list[Area]:
        """Its part outside another area, as up to four areas.

        Example:
            >>> [str(part) for part in Area((0, 9), (0, 4)).without(Area((5, 7), (0, 3)))]
            ['rows 0–4, columns 0–3', 'rows 5–6, columns 3–3', 'rows 7–8, columns 0–3']
        """
        top, bottom = (min(max(row, self.rows[0]), self.rows[1]) for row in other.rows)
        left, right = (min(max(c, self.columns[0]), self.columns[1]) for c in other.columns)
        rest = [
            Area((self.rows[0], top), self.columns),
            Area((top, bottom), (self.columns[0], left)),
            Area((top, bottom), (right, self.columns[1])),
            Area((bottom, self.rows[1]), self.columns),
        ]
        return [area for area in rest if area.size]

    def stretches(self, shape: Shape) -> list[tuple[int, int]]:
        """Its entries as stretches (first, stop) in C order."""
        columns = table_of(shape)[1]
        (top, bottom), (left, right) = self.rows, self.columns
        if self.width == columns:
            return [(top * columns, bottom * columns)]
        return [(row * columns + left, row * columns + right) for row in range(top, bottom)]

    def words(self, shape: Shape) -> str:
        """The area in words.

        Example:
            >>> Area((2, 4), (0, 4)).words((8, 4)), Area((2, 3), (1, 2)).words((8, 4))
            ('rows 2–3', '[2, 1]')
            >>> Area((0, 8), (1, 3)).words((8, 4)), Area((8, 12), (0, 1)).words((12,))
            ('columns 1–2', 'entries 8–11')
            >>> Area((2, 4), (3, 4)).words((8, 4)), Area((2, 3), (1, 3)).words((8, 4))
            ('column 3 of rows 2–3', '[2, 1] to [2, 2]')
            >>> Area((8, 9), (0, 1)).words((12,)), Area((0, 1), (0, 1)).words(())
            ('entry 8', '[]')
        """
        rows, columns = table_of(shape)
        if self.height == 1 and len(shape) != 1 and (self.width < columns or columns == 1):
            return " to ".join(self._ends(shape))
        of_rows = _counted("row" if columns > 1 else "entry", self.rows)
        if self.width == columns:
            return of_rows
        of_columns = _counted("column", self.columns)
        return of_columns if self.height == rows else f"{of_columns} of {of_rows}"

    def _ends(self, shape: Shape) -> list[str]:
        """Its first and last entry in words; only one where they are the same."""
        columns = table_of(shape)[1]
        last = [(self.rows[1] - 1) * columns + self.columns[1] - 1]
        places = dict.fromkeys([self.rows[0] * columns + self.columns[0], *last])
        return [str([int(i) for i in np.unravel_index(place, shape)]) for place in places]


def _counted(kind: str, span: tuple[int, int]) -> str:
    first, last = span[0], span[1] - 1
    if first == last:
        return f"{kind} {first}"
    return f"{kind.removesuffix('y') + 'ies' if kind.endswith('y') else kind + 's'} {first}–{last}"


def listed(words: Sequence[str]) -> str:
    """Words as one enumeration.

    Example:
        >>> listed(["row 3"]), listed(["row 3", "row 8"]), listed(["a", "b", "c"])
        ('row 3', 'row 3 and row 8', 'a, b and c')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def areas_of(wrong: Array) -> list[Area]:
    """The areas that describe which entries of a table (rows, columns) are wrong.

    They are rows, columns, or a rectangle: whichever the wrong entries fill best. The list is
    empty where the wrong entries are scattered.

    Example:
        >>> table = np.zeros((12, 4), bool)
        >>> table[8:] = True
        >>> areas_of(table)
        [Area(rows=(8, 12), columns=(0, 4))]
        >>> areas_of(np.eye(12, dtype=bool))
        []
    """
    rows, columns = wrong.shape
    count = int(wrong.sum())
    every_row, every_column = np.ones(rows, bool), np.ones(columns, bool)
    choices: tuple[tuple[Any, Any], ...] = (
        (wrong.mean(axis=1) >= WRONG_ROW_PART, every_column),
        (every_row, wrong.mean(axis=0) >= WRONG_ROW_PART),
        (wrong.any(axis=1), wrong.any(axis=0)),
    )
    misfits = [int((np.outer(r, c) != wrong).sum()) for r, c in choices]
    best = int(np.argmin(misfits))
    if count < 2 or misfits[best] > STRAY_PART * count:
        return []
    of_rows, of_columns = (list(_runs(chosen)) for chosen in choices[best])
    found = [Area(r, c) for r in of_rows for c in of_columns]
    return found if len(found) <= MOST_AREAS and all(area.size > 1 for area in found) else []


def _runs(chosen: Array) -> Iterator[tuple[int, int]]:
    """(first, stop) of each stretch in which a Boolean array is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(int), [0]])))
    yield from ((int(first), int(stop)) for first, stop in edges.reshape(-1, 2))


USUAL = {3: "a GRU's", 4: "an LSTM's"}
COUNTS = {2: "two", 3: "three", 4: "four"}
PLACES = ("first", "second", "third", "fourth")


@dataclass(frozen=True)
class Gates:
    """How a tensor consists of gates.

    Attributes:
        count: how many gates there are.
        axis: 0 where they are blocks of rows, 1 where they are blocks of columns.
        letters: the letters of the gates in the order of the blocks; "" where it is not known.
        order: whose order that is, in words.
        certain: whether the target says so; otherwise only shapes suggest it.
    """

    count: int
    axis: int = 0
    letters: str = ""
    order: str = ""
    certain: bool = True

    def words(self, area: Area, shape: Shape) -> str:
        """The gates that an area is, in words; "" where it is no gate, or all of them.

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


def gates_of(target: Target, name: str) -> list[Gates]:
    """The gates that a tensor may consist of; several where its shape leaves that open.

    They come from the target's layout, from its `gates`, or from shapes: of a recurrent matrix
    (3H, H) or (4H, H), of its transpose, and of tensors with as many rows or columns.
    """
    shapes = {own: array.shape for own, array in target.parameters.items()}
    layout = target.layout
    if hasattr(layout, "gates_of"):
        try:
            known = layout.gates_of(name, shapes)
        except (ValueError, LookupError):  # the layout does not fit this target
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
    """Whether another tensor confirms so many units: it has as many rows or columns."""
    others = [table_of(shape) for own, shape in shapes.items() if own != name]
    return units > 1 and (not others or any(units in table for table in others))


def _recurrent(
    counts: tuple[int, ...], shapes: Mapping[str, Shape], among: Sequence[str]
) -> Iterator[tuple[int, int, int]]:
    """(gates, units, axis of the gates) of every matrix that may be recurrent."""
    tables = [table_of(shape) for shape in shapes.values() if len(shape) > 1]
    for table in [table_of(shapes[name]) for name in among if len(shapes[name]) > 1]:
        for many in counts:
            for axis in (0, 1):
                units = table[1 - axis]
                fed_on = any(other[1 - axis] == many * units for other in tables)
                # A layer whose outputs another one takes in has no gates among them.
                if units > 1 and table[axis] == many * units and not fed_on:
                    yield many, units, axis
