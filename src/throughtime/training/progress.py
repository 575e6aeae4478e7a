"""What a training run prints: before its first update, while it trains, and at its end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from math import log2
from pathlib import Path
from time import perf_counter
from typing import Any, Self, TextIO

from throughtime._engine import threads
from throughtime.training.settings import RunLimits
from throughtime.training.trainer import Trainer, Update

QUIET = 15.0  # seconds between lines where there is no terminal
SMOOTHING = 0.98  # weight of the past in the loss that is shown
# Held-out bits over those of a uniform guess, log2 C: a new model has 1, and one that learns less.
DIVERGED = 2.0


class Progress:
    """Shows every update: pass its `update` to `Trainer.fit(watch=…)`.

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
        self.trainer, self.plan = trainer, RunLimits(updates, seconds)
        self.file = file or sys.stderr
        self._unseen = False
        self.bits: float | None = None
        self.characters = 0
        self.began = self.told = perf_counter()
        self.bar = _bar(self.plan, self._done(), self.file) if self.file.isatty() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        if self.bar is not None:
            with suppress(OSError):
                self.bar.close()

    @property
    def speed(self) -> float:
        """Characters a second since the start, validations and checkpoints included."""
        return self.characters / max(perf_counter() - self.began, 1e-9)

    def update(self, update: Update) -> None:
        """Records an update, and shows it when it is time to."""
        share = SMOOTHING if self.bits is not None else 0.0
        self.bits = share * (self.bits or 0.0) + (1 - share) * update.bits
        self.characters += update.characters
        if self._unseen:
            return
        try:
            self._show(update)
        except OSError:  # the terminal has gone, which is no reason to lose the run
            self._unseen = True

    def _show(self, update: Update) -> None:
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


def _bar(plan: RunLimits, done: float, file: TextIO) -> Any:
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


def describe_run(
    trainer: Trainer, yardsticks: Mapping[str, float], plan: RunLimits, out: Path
) -> str:
    """The text, the model, the plan, and the n-grams' bits a character."""
    text, settings, vocabulary = trainer.text, trainer.settings, trainer.vocabulary
    passed = f" ({text.passed_over:,} passed over that are not text)" if text.passed_over else ""
    rare = float((trainer.codes == vocabulary.other).mean())
    rest = f"; {rare:.2%} of the text are rarer characters, which share one class" if rare else ""
    recurrent = f"{settings.layers} × {settings.hidden} {settings.cell}"
    parameters = trainer.network.parameters.flat.size
    first = f"embedding {settings.embedding}" if settings.embedding else "one-hot"
    end = f"{plan.updates:,} updates" if plan.updates else f"{(plan.seconds or 0) / 60:g} minutes"
    done = f", {trainer.updates:,} updates done" if trainer.updates else ""
    return "\n".join(
        [
            *_together(trainer),
            f"text      {_count(len(text.files), 'file')}{passed}, {len(text):,} characters, the "
            f"last {len(trainer.held_out):,} held out",
            f"classes   {len(vocabulary)}{rest}",
            f"model     {first}, {recurrent}, {parameters:,} parameters in {settings.dtype}",
            f"windows   B = {settings.batch} streams, k1 = {settings.k1}, "
            f"k2 = {settings.steps_back}",
            f"run       {end}{done}, {settings.optimiser}, learning rate "
            f"{settings.learning_rate:g} ({settings.schedule})",
            f"writes    {out}"
            + (" (it replaces the file there)" if out.exists() and not trainer.updates else ""),
            f"n-grams   {_listed(yardsticks)} bits a character on the held-out text",
        ]
    )


def _together(trainer: Trainer) -> list[str]:
    """How many processes share the streams, and whether another number began the run."""
    processes, before = trainer.processes, trainer.before
    changed = before is not None and before.processes != processes.size
    if processes.size == 1 and not changed:
        return []
    streams = [processes.share(trainer.settings.batch, r) for r in range(processes.size)]
    most, least = (s.stop - s.start for s in (streams[0], streams[-1]))
    each = f"{most}" if most == least else f"{least} or {most}"
    words = f"{processes.size}, {each} streams and {_count(threads(), 'thread')} each"
    if before is not None and changed:
        words += (
            f"; the checkpoint is of {before.processes}: it goes on, but not bit for bit, since "
            "sums are rounded in another order"
        )
    return [f"processes {words}"]


def summarise_run(
    trainer: Trainer, yardsticks: Mapping[str, float], speed: float, out: Path, stopped: bool
) -> str:
    """The loss beside the n-grams', time and speed, and what can be done next."""
    lines = []
    if trainer.history:
        last = trainer.history[-1]
        bits = {trainer.settings.cell: last.held_out, **yardsticks}
        at = f" (at update {last.updates:,})" if last.updates != trainer.updates else ""
        lines.append(f"held out  {_listed(bits)} bits a character{at}")
        if worse_than_guessing(trainer):
            guess = log2(len(trainer.vocabulary))
            lines.append(
                f"DIVERGED  guessing, with every character as probable, has {guess:.3f} bits; "
                "start again with a lower --learning-rate or a smaller --clip"
            )
    place, more = shlex.quote(str(out)), ""
    command = "throughtime" if trainer.processes.size == 1 else "torchrun … -m throughtime"
    if not stopped:
        plan = trainer.plan
        more = f" --updates {2 * plan.updates}" if plan.updates else ""
        more = more or f" --minutes {2 * (plan.seconds or 0) / 60:g}"
    return "\n".join(
        [
            *lines,
            f"{'stopped' if stopped else 'trained'}   {trainer.updates:,} updates in "
            f"{trainer.seconds:.0f} s, {speed:,.0f} characters a second",
            f"written   {out}",
            f"go on     {command} train --resume {place}{more}",
            f"sample    throughtime sample {place}",
        ]
    )


def worse_than_guessing(trainer: Trainer) -> bool:
    """Whether the last validation found a model that has diverged, though its loss is finite."""
    if not trainer.history:
        return False
    return not trainer.history[-1].held_out <= DIVERGED * log2(len(trainer.vocabulary))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _listed(bits: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in bits.items())
