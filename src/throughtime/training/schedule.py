"""How far a run goes, and the learning rate on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass

from throughtime.arrays import positive, refuse

SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class Plan:
    """The end of a run, counted from its first update; what comes first ends it.

    Attributes:
        updates: how many in all; None for no such end.
        seconds: how long in all, interruptions not counted; None for no such end.
    """

    updates: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.updates is not None:
            positive("updates", self.updates)
        if self.seconds is not None and not number("seconds", self.seconds) > 0:
            refuse("seconds", "a number above 0", self.seconds)

    def share(self, updates: int, seconds: float) -> float:
        """How much of the run is done, from 0 to 1; 0 where no end is planned.

        Example:
            >>> from throughtime.training import Plan
            >>> Plan(updates=200).share(50, seconds=3.0)
            0.25
        """
        by_updates = updates / self.updates if self.updates else 0.0
        by_seconds = seconds / self.seconds if self.seconds else 0.0
        return min(1.0, max(by_updates, by_seconds))


def factor(schedule: str, warmup: int, update: int, share: float) -> float:
    """What the learning rate is multiplied with at an update, counted from 0.

    It rises linearly over `warmup` updates; "cosine" takes it down to 0 at the end of the plan
    along half a cosine wave (Loshchilov and Hutter 2017).
    """
    rise = min(1.0, (update + 1) / (warmup + 1))
    return rise * (0.5 * (1 + math.cos(math.pi * share)) if schedule == "cosine" else 1.0)


def number(what: str, value: object) -> float:
    """`value`, if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(what, "a number", repr(value), error=TypeError)
    if not math.isfinite(value):
        refuse(what, "a finite number", value)
    return value
