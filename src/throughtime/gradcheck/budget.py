"""How much a check may cost, and what it has cost so far."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, NoReturn

from throughtime.progress import begin

if TYPE_CHECKING:
    from tqdm import tqdm


class Spent(Exception):
    """The budget is used up."""


class Budget:
    """Counts loss evaluations over all points and workers, or other units of work.

    The clock ends it only where seconds are given: without them the same target and seed give the
    same answer on a slow or busy machine.

    Args:
        evaluations: how many there may be; None for no limit.
        seconds: how long they may take, by the clock on the wall; None for no limit.
        bar: moves on with every evaluation.
        deadline: when they must end, as `time.time()` counts, where no seconds are given.
    """

    def __init__(
        self,
        evaluations: int | None = None,
        seconds: float | None = None,
        bar: tqdm[NoReturn] | None = None,
        deadline: float | None = None,
    ) -> None:
        self.used = 0
        self.limit = evaluations
        self.deadline = deadline if seconds is None else time() + seconds
        self.bar = bar
        self.exhausted = False

    def take(self) -> None:
        """Counts an evaluation that is about to be made.

        Raises:
            Spent: where there is none left.
        """
        if self.over:
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

    @property
    def over(self) -> bool:
        """Whether no more may be made."""
        return self.left <= 0 or (self.deadline is not None and time() > self.deadline)

    def part(self, limit: int, share: float) -> Budget:
        """A budget for work of another kind, which may take a share of the time that is left."""
        deadline = None
        if self.deadline is not None:
            now = time()
            deadline = now + share * (self.deadline - now)
        return Budget(limit, bar=self.bar, deadline=deadline)

    def announce(self, what: str, unit: str) -> None:
        """Says on the bar what is counted from here on, and how many of them there may be."""
        if self.bar is not None:
            most = None if self.limit is None else int(self.left)
            words = what if most is None else f"{what}: at most {most:,} {unit}s"
            begin(self.bar, words, unit, most)
