"""When to look next, so that looking takes no more than a given share of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from throughtime.arrays import real, refuse
from throughtime.gradient_flow.tolerances import (
    FIRST_LOOK_SECONDS,
    FIRST_LOOK_TURNS,
    LOOK_FORGETTING,
    LOOK_MARGIN,
)


class LookBudget:
    """Measures its own time against that of everything else.

    Args:
        share: of the time that is spent otherwise, between 0 and 1.
        clock: in seconds.

    Attributes:
        spent: seconds that looks have taken.
        looks: how many.
        growth: how many times as long as the last look the next one may take.

    Example:
        >>> from throughtime.gradient_flow.record_budget import LookBudget
        >>> now = iter(range(0, 2000))
        >>> budget = LookBudget(0.05, lambda: next(now))  # a turn a second
        >>> sum(budget.due() for _ in range(400))  # a look that may take 5.05 s waits for 101
        299
    """

    def __init__(self, share: float, clock: Callable[[], float] = perf_counter) -> None:
        if not 0 < real("share", share) < 1:
            refuse("share", "a share between 0 and 1", share)
        self.share, self.clock = share, clock
        self.began: float | None = None
        self.spent, self.longest, self.looks, self.turns = 0.0, 0.0, 0, 0
        self.growth, self._last = 1.0, 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the first turn that were spent otherwise."""
        return 0.0 if self.began is None else self.clock() - self.began - self.spent

    @property
    def taken(self) -> float:
        """The share of that time that looks have taken."""
        elapsed = self.elapsed
        return self.spent / elapsed if elapsed > 0 else 0.0

    def due(self) -> bool:
        """To be asked once a turn: whether the next look fits in, however long it may take."""
        if self.began is None:
            self.began = self.clock()
            return False
        self.turns += 1
        return self.earned_in() <= 0

    def earned_in(self) -> float:
        """Seconds until the next look fits in; infinite before the second turn."""
        if not self.turns:
            return float("inf")
        elapsed = self.elapsed
        first = FIRST_LOOK_TURNS * elapsed / self.turns + FIRST_LOOK_SECONDS
        expected = LOOK_MARGIN * self.growth * self.longest if self.looks else first
        return (self.spent + expected) / self.share - elapsed

    def grow(self, growth: float) -> None:
        """The next look may take so many times as long as the last one."""
        self.growth = growth
        if growth != 1:  # what was before is of smaller ones
            self.longest = self._last

    @contextmanager
    def look(self) -> Iterator[None]:
        """Measures one look."""
        started = self.clock()
        try:
            yield
        finally:
            seconds = self.clock() - started
            self.spent += seconds
            self._last = seconds
            # One slow look, while the machine was busy, is forgotten again in time.
            self.longest = max(seconds, LOOK_FORGETTING * (self.longest + seconds))
            self.looks += 1
