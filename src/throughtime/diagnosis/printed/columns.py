"""Columns of numbers without headings: which two are compared, and what the others are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.printed.numbers import Number, half_units

Column = Sequence[Number]
SAME = 0.05  # relative: an error printed to two digits, of numbers that were rounded too
MOST = 0.8  # of the rows in which a column has to be what it is taken for
FEWEST_FLAT = 4  # numbers that stand without any order of their own


def pairs_among(columns: Sequence[Column]) -> list[tuple[int, int]]:
    """The pairs of columns that can be the two gradients, since all other columns are derived.

    Indices, percentages, differences, relative errors and ratios of the two are derived.
    """
    left = [k for k in range(len(columns)) if not _is_index(columns, k)]
    left = [k for k in left if not any(one.percent for one in columns[k])]
    if len(left) < 2:
        left = list(range(len(columns)))
    found = []
    for pair in combinations(left, 2):
        a, b = (_values(columns[k]) for k in pair)
        others = [k for k in left if k not in pair]
        if all(_is_derived(columns[k], a, b) for k in others):
            found.append(pair)
    # Of a, b and a − b any two give the third: those that come first are the two.
    return [pair for pair in found if pair == tuple(left[:2])] or found


def _is_index(columns: Sequence[Column], k: int) -> bool:
    """Whether a column counts: whole numbers, before the others, that never are negative."""
    column = columns[k]
    if not all(one.whole for one in column) or any(one.value < 0 for one in column):
        return False
    later = columns[k + 1 :]
    if not later or (k and not _is_index(columns, k - 1)):
        return False
    return not all(one.whole for other in later for one in other if one.value != 0)


def _values(column: Column) -> Array:
    return np.array([one.value for one in column])


def _is_derived(column: Column, a: Array, b: Array) -> bool:
    shown, bars = _values(column), half_units(column)
    for formula in _formulas(a, b):
        told = np.isfinite(shown) & np.isfinite(formula)
        near = np.abs(shown - formula)[told] <= SAME * np.abs(formula)[told] + 2 * bars[told]
        if near.size and near.mean() >= MOST and (shown[told].any() or not formula[told].any()):
            return True
    return False


def _formulas(a: Array, b: Array) -> Iterator[Array]:
    with np.errstate(all="ignore"):
        apart, size = np.abs(a - b), np.abs(a) + np.abs(b)
        largest = np.maximum(np.abs(a), np.abs(b))
        yield from (apart, a - b, b - a, a / b, b / a, np.abs(a / b), np.abs(b / a))
        yield from (apart / largest, apart / size, 2 * apart / size, apart / np.maximum(1, largest))
        yield from (apart / np.abs(a), apart / np.abs(b), apart**2, apart / np.sqrt(size))
        yield from ((a - b) / a, (a - b) / b, (b - a) / a, (b - a) / b)


def side_by_side(numbers: Column) -> tuple[Column, Column] | None:
    """Two columns out of numbers that follow each other without an order of their own.

    They stand in pairs, or first one column and then the other; the reading in which one is more
    nearly a multiple of the other, zeros beside zeros, is taken if it is clearly better.

    Returns:
        None where neither is.
    """
    if len(numbers) % 2 or len(numbers) < FEWEST_FLAT:
        return None
    half = len(numbers) // 2
    readings = [(numbers[0::2], numbers[1::2]), (numbers[:half], numbers[half:])]
    apart = [spread(one, other) for one, other in readings]
    best = int(np.argmin(apart))
    if half > 1 and apart[best] <= 1.0 and apart[best] < 0.5 * apart[1 - best]:
        return readings[best]
    return None


def spread(one: Column, other: Column) -> float:
    """How far the ratios of two columns lie from one ratio, in powers of e; ∞ where none is one."""
    a, b = _values(one), _values(other)
    told = np.isfinite(a) & np.isfinite(b)
    a, b = a[told], b[told]
    both = (a != 0) & (b != 0)
    if both.sum() < 2:
        return np.inf
    ratios = a[both] / b[both]
    turned = min((ratios < 0).mean(), (ratios > 0).mean())
    alone = ((a != 0) != (b != 0)).mean()
    logs = np.log(np.abs(ratios))
    return float(np.mean(np.abs(logs - np.median(logs))) + 4 * (turned + alone))
