"""The loop around the updates: time, validation, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from time import perf_counter
from typing import TYPE_CHECKING

from throughtime.arrays import positive
from throughtime.training.checkpoint import Record

if TYPE_CHECKING:
    from throughtime.training.trainer import Trainer
    from throughtime.training.update import Update


def run(
    trainer: Trainer,
    validate_every: int,
    out: str | PathLike[str] | None,
    checkpoint_every: int,
    watch: Callable[[Update], None] | None,
    stop: Callable[[], bool],
) -> None:
    """Updates until the trainer's plan is fulfilled; see `Trainer.fit`."""
    positive("validate_every", validate_every)
    positive("checkpoint_every", checkpoint_every)
    processes = trainer.processes
    earlier, began = processes.seconds(trainer.seconds), perf_counter()
    losses: list[float] = []

    def validate() -> None:
        mean = sum(losses) / len(losses) if losses else float("nan")
        held_out = trainer.validate()
        trainer.seconds = processes.seconds(earlier + perf_counter() - began)
        trainer.history.append(Record(trainer.updates, trainer.seconds, mean, held_out))
        losses.clear()

    def save() -> None:
        if out is not None:
            trainer.still_good()  # a finite parameter may already be far too large
            trainer.save(out)

    stopped = False
    while trainer.plan.share(trainer.updates, trainer.seconds) < 1:
        if stopped := processes.stopping(stop()):
            break
        update = trainer.step()
        losses.append(update.bits)
        trainer.seconds = processes.seconds(earlier + perf_counter() - began)
        if watch:
            watch(update)
        if trainer.updates % validate_every == 0:
            validate()
        if trainer.updates % checkpoint_every == 0:
            save()
    if losses and not stopped:  # who stops a run early does not want to wait
        validate()
    save()
