"""How much a check may cost, and what it has cost so far."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm


class Spent(Exception):
    """The budget is used up."""


class Budget:
    """Counts loss evaluations over all points and workers.

    Args:
        evaluations: how many there may be; None for no limit.
        seconds: how long they may take; None for no limit.
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
        if self.left <= 0 or (self.deadline is not None and time() > self.deadline):
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
