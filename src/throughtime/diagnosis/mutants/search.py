"""The search for the mutations that explain a gradient.

Sets of mutations are searched for as a whole and not undone one by one, since faults interact. The
output layer's own gradient tells which of them concern δ of the outputs, before any recursion is
run. Then single mutations are tried, those that make most blocks right are extended, and pairs are
tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

import numpy as np

from throughtime.diagnosis.faults import FAULTS
from throughtime.diagnosis.mutants.interventions import SHARED_PLACES, Mutation
from throughtime.diagnosis.mutants.model import HEAD, Block, Model
from throughtime.diagnosis.mutants.mutations import mutations
from throughtime.diagnosis.mutants.tested import TestedGradient
from throughtime.diagnosis.mutants.trial import Attempt, Trial
from throughtime.diagnosis.tolerances import (
    CHANCE_ENTRIES,
    EQUATIONS_OVERHEAD,
    EXTENDED_ATTEMPTS,
    LEAST_PASSES,
    MOST_PASSES,
    SHARE_OF_NAMED_PAIRS,
    SHARE_OF_PAIRS,
    STEP_OVERHEAD,
    WORK_OF_A_SEARCH,
)
from throughtime.gradcheck import Budget


def search(
    model: Model,
    seen: TestedGradient,
    among: Iterable[str] | None = None,
    *,
    thorough: bool = True,
    budget: Budget | None = None,
    share: float = 1.0,
) -> list[Attempt]:
    """The attempts that explain the gradient with the fewest faults, or the best partial one.

    Args:
        model: the network.
        seen: the gradient under test.
        among: identifiers of the faults that are tried; by default all of them.
        thorough: whether pairs of mutations are tried too, and not single ones alone.
        budget: of backward passes; by default `passes(model)`.
        share: the share of the budget that may be used.
    """
    return MutantSearch(model, seen, among, budget, share).run(thorough)


def passes(model: Model) -> int:
    """How many backward passes are worth running, however long they take on this machine.

    Those of small networks take a fraction of a millisecond. Fewer are run of longer and larger
    networks, so that all of them together take about as long, but every mutation is tried once;
    of the systematic ones, those that all layers have.
    """
    products = model.data.x[..., 0].size * sum(w.size for w in model.blocks.values())
    work = STEP_OVERHEAD * model.steps * len(model.directed_layers) + products
    if model.of_equations:
        work += STEP_OVERHEAD * EQUATIONS_OVERHEAD * model.steps * len(model.directed_layers)
    each = sum(m.everywhere or not FAULTS[m.fault].systematic for m in mutations(model))
    return max(min(MOST_PASSES, int(WORK_OF_A_SEARCH / work)), each + LEAST_PASSES)


# Where several mutations act one after the other: what is carried back has two parts in an LSTM.
IN_TURN = SHARED_PLACES | {"carried"}


class MutantSearch:
    """One search for the mutations that explain a gradient."""

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
        self.end = (
            self.budget.used + share * self.budget.left
        )  # how many passes will have been counted
        table = mutations(model, among)
        self.places = {id(mutation): place for place, mutation in enumerate(table)}
        # Without an output layer, nothing shows those of its place apart from all others.
        self.head = [c for c in table if c.in_head and model.has_head]
        rest = [c for c in table if not (c.in_head and model.has_head)]
        self.rest = [c for c in rest if not FAULTS[c.fault].systematic]
        self.edits = [c for c in rest if FAULTS[c.fault].systematic]

    def run(self, thorough: bool = True) -> list[Attempt]:
        """Searches level by level, until no explanation could take fewer faults."""
        found = self._run(thorough)
        several = found[0].complete and len(found[0].mutations) > 1
        return self._with_equals(found) if several else found

    def _with_equals(self, found: list[Attempt]) -> list[Attempt]:
        """The sets that explain everything, and those that do so with another mutation for one."""
        sets = []
        for attempt in found[:2]:
            for one in attempt.mutations:
                kept = tuple(c for c in attempt.mutations if c is not one)
                sets += [(*kept, c) for c in self._useful(kept, (*self.head, *self.rest))]
        return self._settled(found + self._tried(sets), found[0].cost)

    def _run(self, thorough: bool) -> list[Attempt]:
        starts = self._starts()
        tried = self._tried(starts)
        best = self._settled(tried, 1)
        if best and (not best[0].mutations or () not in starts):
            return best  # otherwise mutations below the output layer may give the same gradient
        singles: list[Attempt] = []
        for chosen in (starts[:1], starts[1:]):
            for among in (self.rest, self.edits):
                for everywhere in (True, False):  # those of one layer or direction alone later
                    own = [c for c in among if c.everywhere == everywhere]
                    singles += self._tried((*s, c) for s in chosen for c in self._useful(s, own))
                    if best := self._settled(tried + singles, self._enough(among, thorough)):
                        return best
        if thorough:  # known faults come together more often than not
            tried += self._extended(tried + singles, self.rest)
            if best := self._settled(tried, 2):
                return best
        tried += singles
        if not thorough:
            return self._proven(tried)
        tried += self._extended(tried)
        if best := self._settled(tried, 3):
            return best
        named = [a for a in singles if not FAULTS[a.mutations[-1].fault].systematic]
        for alone, share in ((named, SHARE_OF_NAMED_PAIRS), (singles, SHARE_OF_PAIRS)):
            tried += self._pairs(starts, alone, share)
            if best := self._settled(tried, 3):
                return best
        tried += self._extended(tried)
        return self._settled(tried, np.inf) or self._proven(tried)

    def _proven(self, tried: list[Attempt]) -> list[Attempt]:
        """The best partial attempt, without what its blocks do not prove, and its equals.

        A mutation is proved by blocks that are right with it and not without it, more of them than
        chance makes right. Sets of as many mutations that explain the same are its equals.
        """
        best = self.trial.strictly(min(tried, key=lambda a: a.order))
        for one in best.mutations:
            without = self.trial.strictly(self.trial(*(c for c in best.mutations if c is not one)))
            gained = self.trial.explained(best) - self.trial.explained(without)
            entries = sum(self.trial.seen.blocks[block].size for block in gained)
            if len(gained) < 2 or entries <= CHANCE_ENTRIES:
                return self._proven([without])
        if not best.mutations:
            return [best]
        own = self.trial.explained(best)
        equals = (
            self.trial.strictly(a)
            for a in tried
            if a.wrong <= best.wrong and len(a.mutations) == len(best.mutations)
        )
        others = [a for a in equals if a.mutations != best.mutations]
        others = [a for a in others if self.trial.explained(a) == own]
        return [*self._in_the_head(best, own), best, *others]

    def _in_the_head(self, best: Attempt, own: frozenset[Block]) -> list[Attempt]:
        """Partial attempts with a mutation of the head in place of another, which explain as much.

        Where the head itself is not explained, a name for what is below it that says that the head
        is right comes after one that does not.
        """
        head = [block for block in best.fits if block.layer == HEAD]
        if own & set(head) or not head:
            return []
        sets = [
            (one, *(c for c in best.mutations if c is not left_out))
            for left_out in best.mutations
            if not left_out.in_head
            for one in self.head
        ]
        found = [self.trial.strictly(a) for a in self._tried(sets)]
        return [a for a in found if own <= self.trial.explained(a)]

    def _enough(self, tried: list[Mutation], thorough: bool) -> float:
        """How many faults an explanation may take for the search to end with it.

        A single edit of a step is simpler than a known fault beside several others.
        """
        if tried is self.rest and self.edits:
            return 2
        return 3 if thorough else np.inf

    def _starts(self) -> list[tuple[Mutation, ...]]:
        """Sets of mutations with which the output layer's own gradient is explained."""
        if not self.model.has_head:
            return [()]
        sets = [(), *((c,) for c in self.head)]
        explained = self._explaining(sets)
        if not explained or explained[0][0] > 1:
            explained += self._explaining(combinations(self.head, 2))
        explained.sort(key=lambda pair: pair[0])
        least = explained[0][0] if explained else 0
        starts = [start for cost, start in explained if cost <= least + 1]
        return starts[: 2 * EXTENDED_ATTEMPTS] or [()]

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

    def _useful(
        self, start: tuple[Mutation, ...], among: Iterable[Mutation] | None = None
    ) -> Iterator[Mutation]:
        """The mutations worth adding to a set, in which no fault may stand twice at one place."""
        taken = {(c.fault, c.layer, c.direction) for c in start}
        places = {place for c in start for place in c.places} - IN_TURN
        for one in (*self.rest, *self.edits) if among is None else among:
            own = (one.fault, one.layer, one.direction)
            if own not in taken and not one.places & places:
                yield one

    def _extended(
        self, tried: list[Attempt], among: Iterable[Mutation] | None = None
    ) -> list[Attempt]:
        """The attempts that explain most blocks, each with one more mutation."""
        plain = {a.wrong for a in tried if not a.mutations} or {max(a.wrong for a in tried)}
        gained = [a for a in tried if a.wrong < min(plain)]
        best = sorted(gained, key=lambda a: a.order)[:EXTENDED_ATTEMPTS]
        return self._tried(
            (*a.mutations, c) for a in best for c in self._useful(a.mutations, among)
        )

    def _pairs(
        self, starts: list[tuple[Mutation, ...]], singles: list[Attempt], share: float
    ) -> list[Attempt]:
        """Pairs of mutations in the recurrent layers, first those that alone come nearest.

        They may take that share of the passes that are left.
        """
        found: list[Attempt] = []
        end = self.budget.used + share * (self.end - self.budget.used)
        for start in starts[:2]:
            own = [a for a in singles if a.mutations[:-1] == start]
            ranked = [a.mutations[-1] for a in sorted(own, key=lambda a: a.order)]
            for one, other in _by_rank(ranked):
                if self._over(end):
                    return found
                if not _together(one, other):
                    continue
                if not self.trial.promising(*start, *self.trial.telling(one, other)):
                    continue
                found.append(self.trial(*start, one, other))
                if found[-1].complete:
                    return found + self._rivals(start, one, other)
        return found

    def _rivals(self, start: tuple[Mutation, ...], one: Mutation, other: Mutation) -> list[Attempt]:
        """The pairs that share a mutation with a pair that explains everything."""
        return self._tried(
            (*start, kept, c) for kept in (one, other) for c in self._useful((*start, kept))
        )

    def _tried(self, sets: Iterable[tuple[Mutation, ...]]) -> list[Attempt]:
        """The attempts with these sets, until the budget is spent; at least the very first."""
        found: list[Attempt] = []
        for one in self.model.ahead(sets):
            if self.trial.known and self._over(self.end):
                break
            found.append(self.trial(*one))
        return found

    def _over(self, end: float) -> bool:
        """Whether so many passes have been counted, or the budget is spent otherwise."""
        return self.budget.used >= end or self.budget.over

    def _settled(self, tried: list[Attempt], enough: float) -> list[Attempt]:
        """The complete attempts with the fewest faults, if they have few enough."""
        complete = [a for a in tried if a.complete]
        if not complete or (least := min(a.cost for a in complete)) > enough:
            return []
        best = {id(a): a for a in complete if a.cost == least}
        return sorted(best.values(), key=self._unlikely)

    def _unlikely(self, attempt: Attempt) -> int:
        """The sum of its mutations' positions in the table, which begins with the likelier ones."""
        return sum(self.places[id(mutation)] for mutation in attempt.mutations)


def _together(one: Mutation, other: Mutation) -> bool:
    """Whether both can be put in at once without one hiding the other."""
    same = one.fault == other.fault and (one.layer, one.direction) == (other.layer, other.direction)
    return not same and not one.places & other.places - IN_TURN


def _by_rank(ranked: list[Mutation]) -> Iterator[tuple[Mutation, Mutation]]:
    """All pairs, ordered by the sum of their ranks."""
    n = len(ranked)
    for total in range(1, 2 * n - 2):
        for i in range(max(0, total - n + 1), (total + 1) // 2):
            yield ranked[i], ranked[total - i]
