"""The search for several mistakes at once, a few at a time.

Mistakes hide each other: what is wrong on the way from step to step makes every block wrong, so
that no set of mutations but the whole one explains any. The same network therefore is looked at in
stages, of which the first hand nothing from step to step. There a mistake within a step spoils the
blocks of its own gate alone, and is found by itself. What explains a stage is where the search of
the next one starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from throughtime.diagnosis.faults import FAULTS
from throughtime.diagnosis.mutants.interventions import Key, Mutation
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.mutants.search import MutantSearch
from throughtime.diagnosis.mutants.tested import TestedGradient
from throughtime.diagnosis.mutants.trial import Attempt
from throughtime.diagnosis.tolerances import (
    CHANCE_ENTRIES,
    MOST_AT_A_STAGE,
    PASSES_OF_A_STAGE,
    SAME_GRADIENT,
    SEEDS_OF_A_STAGE,
    SHARE_OF_NAMED_PAIRS,
)
from throughtime.gradcheck import Budget

Seed: TypeAlias = frozenset[Key]
"""A set of mutations, as all models of a network know it."""


@dataclass(frozen=True)
class MutantStage:
    """The network at one length and with some parameters, and its gradient under test there.

    Attributes:
        words: what is special about it, as it stands in a sentence; "": nothing.
        model: the network.
        seen: the gradient under test.
        proves: whether what explains it is proved. At T = 2 it is not: what arrives two steps late
            does not arrive at all, and is called so.
    """

    words: str
    model: Model
    seen: TestedGradient
    proves: bool = True


@dataclass(frozen=True)
class StageResult:
    """What explains a stage.

    Attributes:
        stage: which one.
        attempts: the sets of fewest mutations that explain all of its gradient, the likelier first;
            or, where none does, those that come nearest.
        search: the search that found them.
    """

    stage: MutantStage
    attempts: tuple[Attempt, ...]
    search: StagedSearch

    @property
    def complete(self) -> bool:
        """Whether all of the gradient is explained."""
        return self.attempts[0].complete

    @cached_property
    def proved(self) -> tuple[Mutation, ...]:
        """The mutations without which the gradient is not explained, if the stage proves any.

        Those whose faults all sets hold which explain it; where none does, those of which blocks
        say so, unless an edit of a step is among them, which may stand for several mistakes, or the
        gradient has the digits of single precision alone.
        """
        if not self.stage.proves:
            return ()
        sets = self.with_equals if self.complete else self.search.proven(list(self.attempts))
        names = [{mutation.fault for mutation in one.mutations} for one in sets]
        common = set.intersection(*names)
        edited = any(FAULTS[name].systematic for name in names[0])
        coarse = self.stage.seen.tolerance > SAME_GRADIENT["float64"]
        if not self.complete and (edited or coarse):
            return ()
        proved = tuple(one for one in sets[0].mutations if one.fault in common)
        if self.complete or self.search.starts_from(sets[0]):
            return proved
        return tuple(one for one in proved if one.in_head)

    @cached_property
    def with_equals(self) -> list[Attempt]:
        """The sets that explain all, and those that do so with another mutation for one of them."""
        return self.search.with_equals(list(self.attempts))


def in_stages(
    stages: Iterable[MutantStage], last: Iterable[MutantStage], budget: Budget
) -> tuple[list[StageResult], list[StageResult]]:
    """The results of the stages, each of which starts from those before it, and those of the last.

    Where a second stage is left unexplained, what comes after it, where more mistakes show at once,
    is not looked at any more, except the last.

    Args:
        stages: the simplest first.
        last: the gradient to be explained, in all the ways that it may be read.
        budget: whose time is shared; each stage counts its own passes.
    """
    results: list[StageResult] = []
    seeds: list[Seed] = [frozenset()]

    def looked_at(stage: MutantStage) -> StageResult:
        own = budget.part(PASSES_OF_A_STAGE, share=0.3)
        search = StagedSearch(stage.model, stage.seen, None, own)
        return StageResult(stage, tuple(search.run_from(seeds)), search)

    for stage in stages:
        found = looked_at(stage)
        results.append(found)
        if found.complete:
            sets = map(seed_of, found.attempts[:SEEDS_OF_A_STAGE])
            seeds = list(dict.fromkeys([*sets, *seeds]))[: 2 * SEEDS_OF_A_STAGE]
        if sum(not one.complete for one in results) > 1:
            break
    return results, [looked_at(stage) for stage in last]


def seed_of(attempt: Attempt) -> Seed:
    """The mutations of an attempt."""
    return frozenset(one.key for one in attempt.mutations)


class StagedSearch(MutantSearch):
    """A search that starts from sets of mutations, and goes on as long as it gets nearer."""

    def run_from(self, seeds: Sequence[Seed]) -> list[Attempt]:
        """See `StageResult.attempts`; the likelier seeds come first."""
        own = {one.key: one for one in (*self.head, *self.rest, *self.edits)}
        sets = [tuple(own[key] for key in seed if key in own) for seed in seeds]
        tried = self._tried(dict.fromkeys(self._with_heads(sets)))
        # Where what is handed back spoils every block, no number says that these are nearer.
        first = [a for a in tried if a.mutations in sets[:SEEDS_OF_A_STAGE]]
        useful: list[Mutation] = []
        for depth in range(MOST_AT_A_STAGE):
            if best := self._fewest(tried):
                return best
            beam = _nearest(tried) if depth else _unique([*first, *_nearest(tried)])
            found = self._grown(beam, useful) if depth else []
            for among in (self.rest, self.edits):  # named faults first: they are fewer
                if not _nearer(found, beam):
                    found += self._grown(beam[:2] if depth else beam, among)
                    useful += self._telling(found, beam)
            if not _nearer(found, beam):
                likely = sorted(beam, key=lambda a: a.wrong)  # of equals, seeds come first
                starts = [a.mutations for a in likely[:2]]
                found += self._pairs(starts, self._ends(found, starts), SHARE_OF_NAMED_PAIRS)
            if not _nearer(found, beam):
                break
            tried = [*beam, *found]
        return self._fewest(tried) or _nearest(tried)

    def with_equals(self, found: list[Attempt]) -> list[Attempt]:
        """See `StageResult.with_equals`."""
        self._allow(sum(len(a.mutations) for a in found[:2]) * len((*self.head, *self.rest)))
        return self._with_equals(found)

    def proven(self, found: list[Attempt]) -> list[Attempt]:
        """The best partial attempt without what its blocks do not prove, and its equals."""
        self._allow(len(self.rest))
        first = self._proven(found)
        best, named = first[0], (*self.head, *self.rest)
        self._allow(len(best.mutations) * len(named))
        own = self.trial.explained(self.trial.strictly(best))
        kept = [tuple(c for c in best.mutations if c is not one) for one in best.mutations]
        others = self._tried((*some, c) for some in kept for c in self._useful(some, named))
        strict = map(self.trial.strictly, others)
        return first + [a for a in strict if own <= self.trial.explained(a)]

    def _allow(self, passes: int) -> None:
        """Allows so many passes more."""
        self.budget.limit = self.budget.used + passes
        self.end = self.budget.limit

    def _with_heads(self, sets: Sequence[tuple[Mutation, ...]]) -> list[tuple[Mutation, ...]]:
        """The sets as they are and, where they leave the output layer unexplained, with what does.

        The empty set is also taken with everything else that explains the output layer.
        """
        found = []
        for one in sets:
            found.append(one)
            if one and all(fit is not None for fit in self.trial.head_fits(one).values()):
                continue
            rest = tuple(c for c in one if not (c.in_head and self.model.has_head))
            found += [(*start, *rest) for start in self._starts()]
        return found

    def starts_from(self, attempt: Attempt) -> bool:
        """Whether the output layer shows that δ of the outputs is the one that an attempt has.

        Where its matrix is unexplained and its bias has a factor, the backward pass starts from
        another δ, and what explains blocks below does so by chance: one δ at every step has the
        gradient of that of the last step, handed back unchanged.
        """
        head = {block: attempt.fits[block] for block in self.trial.head}
        told = [own is not None for block, own in head.items() if not block.bias]
        right = any(own is not None and own.scale == 1 for own in head.values())
        return not told or any(told) or right

    def contradicts(self, found: Sequence[Attempt], one: Key) -> bool:
        """Whether the best attempt explains blocks that it does not explain with this mutation.

        It has to explain some that are not explained without any mutation, and more of them than
        this one may spoil by chance.
        """
        best = found[0]
        own = next((m for m in (*self.head, *self.rest, *self.edits) if m.key == one), None)
        if own is None or own in best.mutations or not any(self._useful(best.mutations, (own,))):
            return False
        self._allow(2)
        plain, beside = self.trial(), self.trial(*best.mutations, own)
        gained = self.trial.explained(best) - self.trial.explained(plain)
        lost = gained - self.trial.explained(beside)
        return len(lost) > 1 and sum(self.trial.seen.blocks[b].size for b in lost) > CHANCE_ENTRIES

    def _grown(self, beam: Sequence[Attempt], among: Iterable[Mutation]) -> list[Attempt]:
        """Sets with one mutation more, of each in turn, until one explains everything."""
        among, found = tuple(among), list[Attempt]()
        for own in beam:
            found += self._tried((*own.mutations, c) for c in self._useful(own.mutations, among))
            if any(a.complete for a in found):
                break
        return found

    def _telling(self, found: Sequence[Attempt], beam: Sequence[Attempt]) -> list[Mutation]:
        """The mutations that explain blocks which are not explained without them."""
        before = {frozenset(map(id, a.mutations)): _right(a) for a in beam}
        telling = {}
        for own in found:
            start = before.get(frozenset(map(id, own.mutations[:-1])))
            if start is not None and _right(own) - start:
                telling[id(own.mutations[-1])] = own.mutations[-1]
        return list(telling.values())

    def _ends(
        self, found: Sequence[Attempt], starts: Sequence[tuple[Mutation, ...]]
    ) -> list[Attempt]:
        """Those of the attempts that add a named fault to one of these sets."""
        return [
            a
            for a in found
            if a.mutations[:-1] in starts and not FAULTS[a.mutations[-1].fault].systematic
        ]

    def _fewest(self, tried: Sequence[Attempt]) -> list[Attempt]:
        """The complete attempts without what is superfluous, those with the fewest faults."""
        complete = [a for a in tried if a.complete]
        least = min((a.cost for a in complete), default=0)
        chosen = [self._without_excess(a) for a in complete if a.cost <= least + 1]
        least = min((a.cost for a in chosen), default=0)
        best = {frozenset(map(id, a.mutations)): a for a in chosen if a.cost == least}
        return sorted(best.values(), key=self._unlikely)

    def _without_excess(self, attempt: Attempt) -> Attempt:
        """A complete attempt without the mutations that it does not need."""
        for one in attempt.mutations:
            fewer = self.trial(*(c for c in attempt.mutations if c is not one))
            if fewer.complete and fewer.cost <= attempt.cost:
                return self._without_excess(fewer)
        return attempt


def _nearest(tried: Sequence[Attempt]) -> list[Attempt]:
    return _unique(sorted(tried, key=_distance))


def _unique(attempts: Iterable[Attempt]) -> list[Attempt]:
    """The first of them, without those that are there twice."""
    found: dict[frozenset[int], Attempt] = {}
    for one in attempts:
        found.setdefault(frozenset(map(id, one.mutations)), one)
    return list(found.values())[:SEEDS_OF_A_STAGE]


def _distance(attempt: Attempt) -> tuple[float, ...]:
    """As `Attempt.order`, with a factor beside another loss, which takes a fault too until then."""
    return attempt.wrong, len(attempt.mutations) + len(attempt.found), attempt.far


def _nearer(found: Sequence[Attempt], beam: Sequence[Attempt]) -> bool:
    """Whether more blocks are explained than before."""
    least = min(a.wrong for a in beam)
    return any(a.wrong < least for a in found)


def _right(attempt: Attempt) -> set[object]:
    return {block for block, fit in attempt.fits.items() if fit is not None}
