"""Ratios: one factor in every tensor, in one of them, in a gate's rows or columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.observed import LIMIT, Observed

STEEP = 10.0  # error bars: an entry that is so large tells a ratio
FEWEST = 2  # such entries


@dataclass(frozen=True)
class Ratio:
    """g = α n over some entries.

    Attributes:
        value: α.
        error: its error bar.
        fits: whether all entries are in that ratio, to within their error bars.
        entries: how many are large enough to tell.
    """

    value: float
    error: float
    fits: bool
    entries: int

    def is_near(self, number: float) -> bool:
        """Whether α is that number, as far as can be seen."""
        return abs(self.value - number) <= LIMIT * self.error + 1e-9 * abs(number)

    def __str__(self) -> str:
        return number(self.value, self.error)


def ratio_of(g: Array, n: Array, bars: Array) -> Ratio:
    """The ratio of two sets of numbers, with their common error bars."""
    known = np.isfinite(bars)
    g, n, bars = g[known], n[known], bars[known]
    steep = int((np.abs(n) > STEEP * bars).sum())
    if not steep:
        return Ratio(np.nan, np.inf, False, 0)
    weights = 1 / bars**2
    square = float(np.sum(weights * n**2))
    value = float(np.sum(weights * g * n)) / square
    width = np.hypot(1.0, value)
    fits = bool((np.abs(g - value * n) <= LIMIT * bars * width).all())
    return Ratio(value, float(width / np.sqrt(square)), fits and steep >= FEWEST, steep)


def over(observed: Observed, names: Sequence[str]) -> Ratio:
    """The ratio over whole tensors."""
    columns = [
        (observed.beside(name), observed.sampled[name].numerical, observed.bars(name))
        for name in names
    ]
    g, n, bars = (np.concatenate(column) for column in zip(*columns, strict=True))
    return ratio_of(g, n, bars)


def of_tensors(observed: Observed) -> dict[str, Ratio]:
    """The ratio in every tensor."""
    return {name: over(observed, [name]) for name in observed.sampled}


def in_block(observed: Observed, name: str, mask: Array) -> Ratio:
    """The ratio over the entries of a tensor that a mask of its shape marks."""
    own = observed.sampled[name]
    here = mask.reshape(-1)[own.places]
    g, n, bars = observed.beside(name)[here], own.numerical[here], observed.bars(name)[here]
    return ratio_of(g, n, bars)


def shared(ratios: dict[str, Ratio]) -> Iterator[tuple[tuple[str, ...], Ratio]]:
    """Tensors that are off by one and the same factor, the largest group first."""
    left = {n: r for n, r in ratios.items() if r.fits and not r.is_near(1.0)}
    groups = []
    while left:
        name, first = min(left.items(), key=lambda item: item[1].error)
        group = [n for n, r in left.items() if together(r, first)]
        groups.append((tuple(group), first))
        left = {n: r for n, r in left.items() if n not in group and n != name}
    yield from sorted(groups, key=lambda group: -len(group[0]))


def together(one: Ratio, other: Ratio) -> bool:
    """Whether two ratios are the same, as far as can be seen."""
    error = np.hypot(one.error, other.error)
    return bool(abs(one.value - other.value) <= LIMIT * error + 1e-9 * abs(other.value))


def number(value: float, error: float) -> str:
    """A number with its error bar, with as many digits as that allows.

    Example:
        >>> number(39.0002, 0.4), number(0.5, 1e-12)
        ('39.0 ± 0.4', '0.5')
    """
    if not np.isfinite(error) or error <= 1e-6 * abs(value):
        return f"{value:.6g}"
    digits = max(0, int(np.ceil(-np.log10(error))))
    return f"{value:.{digits}f} ± {error:.1g}"
