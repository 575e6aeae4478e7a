"""The slope at 0 of a function known at pairs of points about 0, and how far it may be off.

Central quotients q(h) = (f(h) − f(−h)) / 2h tend to the slope as h → 0, and q(h) = f′ + c₃h² +
c₅h⁴ + … . The quotients of near pairs are dominated by the noise of f, those of far pairs by its
higher derivatives. So an even polynomial is fitted by least squares to several neighbouring pairs
at once; its value at 0 is the slope. The fit has at least two coefficients fewer than there are
pairs, and its residuals tell how far the next power, c·h²ᵐ, has moved the value at 0: that is the
truncation error. One residual could be small by chance; two or more hardly are.

Every window of neighbouring pairs and every order is tried, and the one with the smallest error
bar is taken. All of this is linear in q, so the weights of a ladder of steps are computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.polynomial import chebyshev

from throughtime.arrays import Array
from throughtime.derivatives.tolerances import (
    AGREEMENT_BARS,
    KINK_BARS,
    MOST_COEFFICIENTS,
    SHARED_NOISES,
    SPARE_PAIRS,
    TRUNCATION_TAIL,
)


@dataclass(frozen=True)
class Slope:
    """A slope at 0 and what may have moved it.

    Attributes:
        value: the derivative.
        noise: its standard deviation, from the rounding of the values.
        truncation: what higher derivatives may have added.
        kink: half the jump of the slope at 0, where there seems to be a kink; else 0.
        first, last: indices of the nearest and the farthest pair of its window.
        order: its truncation error grows as this power of the step.
    """

    value: float
    noise: float
    truncation: float
    kink: float
    first: int
    last: int
    order: int

    @property
    def error(self) -> float:
        """The error bar: two standard deviations of the noise, truncation, and a kink."""
        return 2 * self.noise + self.truncation + self.kink


@dataclass(frozen=True)
class _Fit:
    """The weights of every window's fit, stacked.

    Attributes:
        weights: (fits, pairs): the value at 0 is weights @ q.
        spare: (rows, pairs): the residuals of the fits, each in units of the shift that the next
            power would give the value at 0.
        starts: (fits,): where each fit's rows of `spare` begin.
        windows: (fits, 3): first pair, last pair, coefficients.
    """

    weights: Array
    spare: Array
    starts: Array
    windows: Array

    @cached_property
    def by_reach(self) -> tuple[Array, Array]:
        """(fits,), (fits,): the order by farthest pair; for each, how many reach less far."""
        last = self.windows[:, 1]
        order = np.argsort(last, kind="stable")
        return order, np.searchsorted(last[order], last)


class Stencils:
    """All windows on a ladder of steps, which are given by their exponents: step k is 2^(k/2).

    Pairs are in the order of growing steps.
    """

    def __init__(self, exponents: tuple[int, ...]) -> None:
        self.count = len(exponents)
        self.steps = 2.0 ** (np.array(exponents) / 2)
        self._odd = _fits(exponents, kink=False)
        self._even = _fits(exponents, kink=True)

    def best(self, odd: Array, even: Array, noise: Array, shared: Array) -> Slope:
        """The slope with the smallest error bar.

        Args:
            odd: (pairs,): the central quotients (f(h) − f(−h)) / 2h.
            even: (pairs,): (f(h) + f(−h) − 2 f(0)) / 2h, which tends to half the jump of the
                slope.
            noise: (pairs,): standard deviations of the rounding of f(h) ± f(−h), over 2h.
            shared: (pairs,): that of 2 f(0), over 2h; all pairs share this one error.
        """
        values, noises, truncation = _estimates(self._odd, odd, noise)
        jumps, spread, rest = _estimates(self._even, even, noise)
        spread = np.hypot(spread, self._even.weights @ shared)
        sharpest = int((doubts := 2 * spread + rest).argmin())
        jump, doubt = abs(float(jumps[sharpest])), float(doubts[sharpest])
        place = _smallest_consistent(self._odd, values, 2 * noises + truncation)
        first, last, order = (int(n) for n in self._odd.windows[place])
        return Slope(
            float(values[place]),
            float(noises[place]),
            float(truncation[place]),
            jump - doubt if jump > KINK_BARS * doubt else 0.0,
            first,
            last,
            2 * order,
        )

    def at_kink(self, even: Array, noise: Array, shared: Array) -> bool:
        """Whether there is a kink at 0: nearer pairs see it too, and rounding does not explain it.

        `best` needs less evidence for a kink, since it only widens an error bar.
        """
        jumps, spread, rest = _estimates(self._even, even, noise)
        doubts = 2 * np.hypot(spread, SHARED_NOISES * self._even.weights @ shared) + rest
        place = _smallest_consistent(self._even, jumps, doubts)
        return bool(abs(jumps[place]) > KINK_BARS * doubts[place])

    def hidden_kink(self, slope: Slope, even: Array, noise: Array, shared: Array) -> float:
        """A bound on half the jump of the slope that kinks within a slope's window may cause.

        The even part of a smooth function tends to 0. Where a fit to it tends to something else,
        ± its error bar, kinks at whatever distance may be the reason; a kink on one side of 0
        moves the odd part, and with it the slope, by as much. Only fits over at least the whole
        window count.
        """
        jumps, spread, rest = _estimates(self._even, even, noise)
        bound = np.abs(jumps) + 2 * np.hypot(spread, self._even.weights @ shared) + rest
        first, last = self._even.windows[:, 0], self._even.windows[:, 1]
        around = (first <= slope.first) & (last >= slope.last)
        return float(bound[around].min(initial=np.inf))

    def valley(self, odd: Array, odd_noise: Array) -> tuple[Array, Array, Array]:
        """Every window's farthest step, relative to the ladder's, its noise and its truncation."""
        _, noise, truncation = _estimates(self._odd, odd, odd_noise)
        return self.steps[self._odd.windows[:, 1]], noise, truncation


@lru_cache(maxsize=512)
def _relative(exponents: tuple[int, ...]) -> Stencils:
    return Stencils(exponents)


def stencils(exponents: tuple[int, ...]) -> Stencils:
    """The stencils of a ladder. Only ratios of steps matter, so one set serves many ladders."""
    return _relative(tuple(exponent - exponents[-1] for exponent in exponents))


def _estimates(fit: _Fit, values: Array, noise: Array) -> tuple[Array, Array, Array]:
    """Each window's value at 0, its standard deviation, and its shift as the residuals show it."""
    spare = np.add.reduceat((fit.spare @ values) ** 2, fit.starts)
    return fit.weights @ values, np.sqrt(fit.weights**2 @ noise**2), np.sqrt(spare)


def _smallest_consistent(fit: _Fit, values: Array, errors: Array) -> int:
    """The fit with the smallest error among those that agree with all that reach less far.

    They agree within the error bars of both. Far from 0, where a function has saturated or turned
    round, it may look perfectly smooth, or kinked, and tell nothing of its slope at 0 (Lepski's
    principle: a coarser estimate is believed as long as no finer one contradicts it).
    """
    order, reach = fit.by_reach
    low, high = values - AGREEMENT_BARS * errors, values + AGREEMENT_BARS * errors
    known = reach > 0  # windows that others reach less far than
    before = reach[known] - 1
    inside = np.ones(len(values), dtype=bool)
    inside[known] = high[known] >= np.maximum.accumulate(low[order])[before]
    inside[known] &= low[known] <= np.minimum.accumulate(high[order])[before]
    return int(np.where(inside, errors, np.inf).argmin())


def _fits(exponents: tuple[int, ...], *, kink: bool) -> _Fit:
    """Fits of powers 0, 2, 4, …, or for a kink of 0, 1, 3, 5, …, to all windows."""
    weights, spare, windows = [], [], []
    for first in range(len(exponents)):
        for coefficients in range(1, MOST_COEFFICIENTS + 1):
            for extra in SPARE_PAIRS:
                last = first + coefficients + extra - 1
                if last >= len(exponents):
                    break
                window = tuple(
                    exponent - exponents[last] for exponent in exponents[first : last + 1]
                )
                fit = _fit(window, coefficients, kink)
                if fit is None:
                    continue
                values, rows = fit
                weights.append(_placed(values[None], first, len(exponents)))
                spare.append(_placed(rows, first, len(exponents)))
                windows.append((first, last, coefficients))
    starts = np.cumsum([0, *(len(rows) for rows in spare[:-1])])
    return _Fit(np.concatenate(weights), np.concatenate(spare), starts, np.array(windows))


@lru_cache(maxsize=8192)
def _fit(exponents: tuple[int, ...], coefficients: int, kink: bool) -> tuple[Array, Array] | None:
    """The weights of the value at 0, and rows whose squares sum to its squared shift.

    None where steps lie so far apart that their powers are linearly dependent up to rounding:
    fewer coefficients say the same.

    The noise of a quotient is inversely proportional to its step, so each is weighted by its step.
    """
    steps = 2.0 ** (np.array(exponents) / 2)
    table, at_zero = _powers(steps, coefficients, kink=kink)
    table *= steps[:, None]
    basis, following = table[:, :-1], table[:, -1]
    whole, triangle = np.linalg.qr(basis, mode="complete")
    rank = basis.shape[1]
    own = np.abs(np.diag(triangle))
    if own.min() <= np.finfo(float).eps * own.max():
        return None
    inverse = np.linalg.solve(triangle[:rank], whole[:, :rank].T)
    weights = at_zero[:-1] @ inverse
    for _ in range(2):  # refined, so that what the fit can represent is exact to the last digit
        weights += (at_zero[:-1] - weights @ basis) @ inverse
    left_over = whole[:, rank:].T
    moved = abs(float(weights @ following) - at_zero[-1])
    shift = TRUNCATION_TAIL * moved / float(np.linalg.norm(left_over @ following))
    return weights * steps, shift * left_over * steps


def _powers(steps: Array, coefficients: int, *, kink: bool) -> tuple[Array, Array]:
    """The fitted powers and the next one, at the steps and at 0.

    Even powers are Chebyshev polynomials of h², since plain powers are nearly parallel, which
    would cost digits. A constant with odd powers has no such form, but needs none: two digits
    are enough to tell whether there is a kink.
    """
    if kink:
        powers = np.array([0, *(2 * p + 1 for p in range(coefficients + 1))])
        return steps[:, None] ** powers, 0.0**powers
    table = chebyshev.chebvander(2 * steps**2 - 1, coefficients)
    return table, chebyshev.chebvander(-1.0, coefficients)[0]


def _placed(rows: Array, first: int, count: int) -> Array:
    wide = np.zeros((len(rows), count))
    wide[:, first : first + rows.shape[1]] = rows
    return wide
