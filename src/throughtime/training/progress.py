"""How a run is going: a bar in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Any, Self, TextIO

from throughtime.training.schedule import Plan
from throughtime.training.trainer import Trainer
from throughtime.training.update import Update

QUIET = 15.0  # seconds between lines where there is no terminal
SMOOTHING = 0.98  # of the loss that is shown


class Progress:
    """Tells of every update: give its `update` to `Trainer.fit(watch=…)`.

    Args:
        trainer: whose time and validations are shown.
        updates, seconds: the planned end, as `fit` is told.
        file: where to write; standard error without it.
    """

    def __init__(
        self,
        trainer: Trainer,
        updates: int | None,
        seconds: float | None,
        file: TextIO | None = None,
    ) -> None:
        self.trainer, self.plan = trainer, Plan(updates, seconds)
        self.file = file or sys.stderr
        self.bits: float | None = None
        self.characters = 0
        self.began = self.told = perf_counter()
        self.bar = _bar(self.plan, self._done(), self.file) if self.file.isatty() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        if self.bar is not None:
            self.bar.close()

    @property
    def speed(self) -> float:
        """Characters a second since the start, validations and checkpoints included."""
        return self.characters / max(perf_counter() - self.began, 1e-9)

    def update(self, update: Update) -> None:
        """Takes note of an update and shows it where it is time to."""
        share = SMOOTHING if self.bits is not None else 0.0
        self.bits = share * (self.bits or 0.0) + (1 - share) * update.bits
        self.characters += update.characters
        if self.bar is not None:
            self.bar.set_postfix_str(self._words(update), refresh=False)
            self.bar.update(min(self._done(), self.bar.total) - self.bar.n)
        elif perf_counter() - self.told >= QUIET:
            self.told = perf_counter()
            share = self.plan.share(self.trainer.updates, self.trainer.seconds)
            words = self._words(update)
            print(f"update {update.number} ({share:.0%}): {words}", file=self.file, flush=True)

    def _done(self) -> float:
        return self.trainer.updates if self.plan.updates else self.trainer.seconds

    def _words(self, update: Update) -> str:
        words = f"{self.bits:.3f} bits/char, |gradient| {update.norm:.2f}, {self.speed:,.0f} char/s"
        if self.trainer.history:
            words += f", held out {self.trainer.history[-1].held_out:.3f}"
        return words


def _bar(plan: Plan, done: float, file: TextIO) -> Any:
    """A tqdm bar over updates or seconds; tqdm is imported only where one is drawn."""
    from tqdm import tqdm

    end = "{n_fmt}/{total_fmt} updates" if plan.updates else "{n:.0f}/{total:.0f} s"
    return tqdm(
        total=plan.updates or plan.seconds,
        initial=done,
        file=file,
        bar_format="{percentage:3.0f}% |{bar:20}| " + end + "{postfix}",
        dynamic_ncols=True,
    )
