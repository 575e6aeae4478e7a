"""Which faults, put into our own backward pass, give just this gradient?

Sets are searched, not undone one by one: faults interact. The output layer's own gradient tells
which of them δ of the outputs has, before any recursion is run; then come single mutations, those
that make most blocks right are extended, and pairs are tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

import numpy as np

from throughtime.diagnosis.mutants.attempt import Attempt, Trial
from throughtime.diagnosis.mutants.fit import TestedGradient
from throughtime.diagnosis.mutants.interventions import Mutation
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.mutants.table import mutations
from throughtime.gradcheck import Budget

BEAM = 6  # attempts that are extended
PASSES = 6_000  # backward passes at most, of a small network
FEWEST = 200  # of any network, beside one for each single mutation
STEP = 3e4  # multiplications that take as long as all else that NumPy does in a step
WORK = 2.3e9  # multiplications that a search may take where it may run more than the fewest
PAIRS = 0.75  # of the passes that are left; the rest is for what comes after them


def search(
    model: Model,
    seen: TestedGradient,
    among: Iterable[str] | None = None,
    *,
    thorough: bool = True,
    budget: Budget | None = None,
    share: float = 1.0,
) -> list[Attempt]:
    """The attempts that explain the gradient with the fewest faults; else the best partial one.

    Unless it is to be thorough, single mutations are tried and no pairs. It takes such a share of
    the backward passes that the budget has left; by default that budget is `passes(model)`.
    """
    return MutantSearch(model, seen, among, budget, share).run(thorough)


def passes(model: Model) -> int:
    """How many backward passes are worth running, however long they take on this machine.

    Those of small networks take a fraction of a millisecond. Of longer and larger ones fewer are
    run, so that all of them together take about as long; but every single mutation has its turn.
    """
    products = model.data.x[..., 0].size * sum(w.size for w in model.blocks.values())
    work = STEP * model.steps * len(model.lanes) + products
    return max(min(PASSES, int(WORK / work)), len(mutations(model)) + FEWEST)


class MutantSearch:
    """One search."""

    def __init__(
        self,
        model: Model,
        seen: TestedGradient,
        among: Iterable[str] | None,
        budget: Budget | None = None,
        share: float = 1.0,
    ) -> None:
        self.model, self.budget = model, budget or Budget(passes(model))
        self.trial = Trial(model, seen, self.budget)
        self.end = self.budget.used + share * self.budget.left  # what it will have counted then
        table = mutations(model, among)
        self.places = {id(mutation): place for place, mutation in enumerate(table)}
        self.head = [c for c in table if c.in_head]
        self.rest = [c for c in table if not c.in_head]

    def run(self, thorough: bool = True) -> list[Attempt]:
        """Level by level, until one explains all and no more faults could be fewer."""
        starts = self._starts()
        tried = self._tried(starts)
        if best := self._settled(tried, 1):
            return best
        singles: list[Attempt] = []
        for everywhere in (True, False):  # those of one layer or direction alone come second
            more = [(*s, c) for s in starts for c in self._useful(s) if c.everywhere == everywhere]
            singles += self._tried(more)
            if best := self._settled(tried + singles, 3 if thorough else np.inf):
                return best
        tried += singles
        if not thorough:
            return [min(tried, key=lambda a: a.order)]
        tried += self._extended(tried)
        if best := self._settled(tried, 3):
            return best
        tried += self._pairs(starts, singles)
        if best := self._settled(tried, 3):
            return best
        tried += self._extended(tried)
        return self._settled(tried, np.inf) or [min(tried, key=lambda a: a.order)]

    def _starts(self) -> list[tuple[Mutation, ...]]:
        """Sets of mutations with which the output layer's own gradient is explained."""
        if not self.model.has_head:
            return [(), *((c,) for c in self.head)]
        sets = [(), *((c,) for c in self.head)]
        explained = self._explaining(sets)
        if not explained or explained[0][0] > 1:
            explained += self._explaining(combinations(self.head, 2))
        explained.sort(key=lambda pair: pair[0])
        least = explained[0][0] if explained else 0
        return [start for cost, start in explained if cost <= least + 1][: 2 * BEAM] or [()]

    def _explaining(
        self, sets: Iterable[tuple[Mutation, ...]]
    ) -> list[tuple[int, tuple[Mutation, ...]]]:
        found = []
        for one in sets:
            fits = self.trial.head_fits(one)
            if all(fit is not None for fit in fits.values()):
                scales = {fit.scale for fit in fits.values() if fit and fit.scale is not None}
                found.append((len(one) + len(scales - {1.0}), one))
        return found

    def _useful(self, start: tuple[Mutation, ...]) -> Iterator[Mutation]:
        """Changes worth adding to a set: not the same fault again where it is there already."""
        taken = {(c.fault, c.layer, c.direction) for c in start}
        places = {place for c in start for place in c.places} - {"slopes", "U"}
        for one in self.rest:
            own = (one.fault, one.layer, one.direction)
            if own not in taken and not one.places & places:
                yield one

    def _extended(self, tried: list[Attempt]) -> list[Attempt]:
        """The attempts that make most blocks right, each with one mutation more."""
        plain = {a.wrong for a in tried if not a.mutations} or {max(a.wrong for a in tried)}
        gained = [a for a in tried if a.wrong < min(plain)]
        best = sorted(gained, key=lambda a: a.order)[:BEAM]
        return self._tried((*a.mutations, c) for a in best for c in self._useful(a.mutations))

    def _pairs(self, starts: list[tuple[Mutation, ...]], singles: list[Attempt]) -> list[Attempt]:
        """Two mutations in the recurrent layers, those first that alone come nearest."""
        found: list[Attempt] = []
        end = self.budget.used + PAIRS * (self.end - self.budget.used)
        for start in starts[:2]:
            own = [a for a in singles if a.mutations[:-1] == start]
            ranked = [a.mutations[-1] for a in sorted(own, key=lambda a: a.order)]
            for one, other in _by_rank(ranked):
                if self._over(end):
                    return found
                if not _together(one, other):
                    continue
                if not self.trial.promising(*start, one, other):
                    continue
                found.append(self.trial(*start, one, other))
                if found[-1].complete:
                    return found + self._rivals(start, one, other)
        return found

    def _rivals(self, start: tuple[Mutation, ...], one: Mutation, other: Mutation) -> list[Attempt]:
        """The pairs that share a mutation with one that explains all."""
        return self._tried(
            (*start, kept, c) for kept in (one, other) for c in self._useful((*start, kept))
        )

    def _tried(self, sets: Iterable[tuple[Mutation, ...]]) -> list[Attempt]:
        """The attempts with these, until the budget is spent; at least the first of all."""
        found: list[Attempt] = []
        for one in sets:
            if self.trial.known and self._over(self.end):
                break
            found.append(self.trial(*one))
        return found

    def _over(self, end: float) -> bool:
        """Whether nothing more may be tried, now or once so many passes have been counted."""
        return self.budget.used >= end or self.budget.over

    def _settled(self, tried: list[Attempt], enough: float) -> list[Attempt]:
        """The complete attempts with the fewest faults, if these are few enough."""
        complete = [a for a in tried if a.complete]
        if not complete or (least := min(a.cost for a in complete)) > enough:
            return []
        best = {id(a): a for a in complete if a.cost == least}
        return sorted(best.values(), key=self._unlikely)

    def _unlikely(self, attempt: Attempt) -> int:
        """The places of its mutations in the table, which begins with the likelier ones."""
        return sum(self.places[id(mutation)] for mutation in attempt.mutations)


def _together(one: Mutation, other: Mutation) -> bool:
    """Whether both can be there at once and neither hides the other."""
    same = one.fault == other.fault and (one.layer, one.direction) == (other.layer, other.direction)
    return not same and not one.places & other.places - {"slopes", "carried", "U"}


def _by_rank(ranked: list[Mutation]) -> Iterator[tuple[Mutation, Mutation]]:
    """Pairs, by the sum of their ranks."""
    n = len(ranked)
    for total in range(1, 2 * n - 2):
        for i in range(max(0, total - n + 1), (total + 1) // 2):
            yield ranked[i], ranked[total - i]
