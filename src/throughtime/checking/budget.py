"""How much a check may cost, and what it has cost so far."""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, NoReturn

from throughtime.checking.work import worked

if TYPE_CHECKING:
    from tqdm import tqdm


class Spent(Exception):
    """The budget is used up."""


class Budget:
    """Counts loss evaluations over all points and workers.

    Args:
        evaluations: how many there may be; None for no limit.
        seconds: how long they may take, by the clock on the wall; None for no limit.
        bar: moves on with every evaluation.
        deadline: when they must end, as `time.time()` counts, where no seconds are given.
        work: seconds that may be worked, as `worked` counts, whatever else the machine does
            meanwhile; None for no limit.
    """

    def __init__(
        self,
        evaluations: int | None = None,
        seconds: float | None = None,
        bar: tqdm[NoReturn] | None = None,
        deadline: float | None = None,
        work: float | None = None,
    ) -> None:
        self.used = 0
        self.limit = evaluations
        self.deadline = deadline if seconds is None else time() + seconds
        self.work = None if work is None else worked() + work
        self.bar = bar
        self.exhausted = False

    def take(self) -> None:
        """Counts an evaluation that is about to be made.

        Raises:
            Spent: where there is none left.
        """
        if self.left <= 0 or self.over(1.0)():
            self.exhausted = True
            raise Spent
        self.count(1)

    def count(self, evaluations: int) -> None:
        """Counts evaluations that were made elsewhere."""
        self.used += evaluations
        if self.bar is not None:
            self.bar.update(evaluations)

    @property
    def left(self) -> float:
        """How many evaluations there may still be."""
        return float("inf") if self.limit is None else self.limit - self.used

    def over(self, share: float) -> Callable[[], bool]:
        """Whether such a share of the time and work that is left now is over, whenever asked."""
        ends = [
            (clock, share * limit + (1 - share) * clock())
            for clock, limit in ((time, self.deadline), (worked, self.work))
            if limit is not None
        ]
        return lambda: any(clock() > end for clock, end in ends)
