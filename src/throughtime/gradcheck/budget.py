"""How much a check may cost, what it has cost so far, and how closely it looks."""

from __future__ import annotations

from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Literal, NoReturn

from throughtime.arrays import refuse
from throughtime.derivatives import CheckError
from throughtime.progress import begin

if TYPE_CHECKING:
    from tqdm import tqdm


class Spent(Exception):
    """The budget is used up."""


class Budget:
    """Counts loss evaluations over all points and workers, or other units of work.

    The clock matters only where seconds are given: without them the same target and seed give the
    same answer on a slow or busy machine.

    Args:
        evaluations: how many are allowed; None for no limit.
        seconds: how long they may take in wall-clock time; None for no limit.
        bar: a progress bar, updated with every evaluation.
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
            Spent: when none is left.
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
        """How many evaluations are left."""
        return float("inf") if self.limit is None else self.limit - self.used

    @property
    def over(self) -> bool:
        """Whether no more are allowed."""
        return self.left <= 0 or (self.deadline is not None and time() > self.deadline)

    def part(self, limit: int, share: float) -> Budget:
        """A budget for work of another kind, with a share of the time that is left."""
        deadline = None
        if self.deadline is not None:
            now = time()
            deadline = now + share * (self.deadline - now)
        return Budget(limit, bar=self.bar, deadline=deadline)

    def announce(self, what: str, unit: str) -> None:
        """Shows on the bar what is counted from here on (a plural), and how many there may be."""
        if self.bar is not None:
            most = None if self.limit is None else int(self.left)
            words = what if most is None else f"{what}: at most {most:,} {unit}"
            begin(self.bar, words, unit, most)


EffortName = Literal["quick", "normal", "exhaustive"]


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        name: "quick", "normal" or "exhaustive".
        whole: how many random directions over each tensor.
        overall: how many random directions over all tensors at once.
        groups: into how many stretches of rows a tensor is divided, each with its direction.
        rows: how many single rows of each tensor, drawn at random.
        entries: how many single entries of each tensor.
        all_up_to: every entry of a target with at most so many parameters is measured.
        lengths: whether T = 1, 2 and a longer T are checked too, besides a characteristic point.
        at_further_points: how many random directions over each tensor at every further point; 0:
            one over all, and one over each where that resolves too little.
        located: how many entries are searched for in a tensor that is wrong.
        entry_error: an error bar of one entry, relative to its tensor, that is narrow enough.
        recheck_settled: whether tensors that a direction has settled are measured again, in their
            parts and entries.
    """

    name: str
    whole: int
    overall: int
    groups: int
    rows: int
    entries: int
    all_up_to: float
    lengths: bool
    at_further_points: int
    located: int
    entry_error: float
    recheck_settled: bool


EFFORTS = {
    effort.name: effort
    for effort in (
        Effort("quick", 1, 0, 1, 0, 0, 0, False, 0, 1, 1e-9, False),
        Effort("normal", 2, 2, 4, 1, 4, 400, True, 0, 8, 1e-9, False),
        Effort("exhaustive", 4, 4, 8, 4, 0, float("inf"), True, 2, 64, 1e-10, True),
    )
}


def effort_of(name: str) -> Effort:
    """The effort of this name."""
    if name not in EFFORTS:
        refuse("effort", "one of " + ", ".join(EFFORTS), repr(name), error=CheckError)
    return EFFORTS[name]
