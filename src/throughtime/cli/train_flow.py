"""`throughtime train --flow`: where the gradient goes, shown and recorded during training."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from throughtime import training
from throughtime.arrays import refuse
from throughtime.cli.outputs import writable
from throughtime.gradient_flow import FlowRecorder, begin_record

SHARE = 0.03


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the option."""
    parser.add_argument(
        "--flow",
        nargs="?",
        const="",
        metavar="FILE",
        help=f"follow the gradient through time now and then, in at most {SHARE:.0%}% of the time; "
        "the record is appended to FILE (default: as the checkpoint, .flow.jsonl)",
    )


def record_path(options: argparse.Namespace, out: Path) -> Path | None:
    """The file of the record, which can be written; None without the option."""
    if options.flow is None:
        return None
    own = out.with_suffix(".flow.jsonl")
    way_out = f"put --flow behind the texts, or write --flow={own.name}"
    if options.flow and Path(options.flow).is_dir():
        refuse("--flow", "a file for the record", f"the folder {options.flow}", way_out)
    path = Path(options.flow) if options.flow else own
    writable("--flow", path)
    begin_record(path, way_out)
    return path


def recorder(
    path: Path | None, trainer: training.Trainer
) -> AbstractContextManager[FlowRecorder | None]:
    """The recorder of a run that begins or continues here; None without the option."""
    if path is None:
        return contextlib.nullcontext()
    clip = trainer.settings.clip
    return FlowRecorder(path, clip=clip, share=SHARE, update=trainer.updates)


def watching(
    trainer: training.Trainer,
    tell: Callable[[training.Update], None],
    one: FlowRecorder | None,
) -> Callable[[training.Update], None]:
    """Reports every update; between two of them the recorder looks at the next window."""
    if one is None:
        return tell

    def watch(update: training.Update) -> None:
        tell(update)
        if one.note(update.norm, update.number):
            inputs, targets, state = trainer.next_window()
            one.due_look(trainer.network, inputs, targets, state=state)

    return watch


def beginning(path: Path | None) -> str:
    """What will be written."""
    if path is None:
        return ""
    more = " (appended to it)" if path.stat().st_size else ""
    return f"flow      looked at in at most {SHARE:.0%} of the time, record {path}{more}"


def ending(path: Path | None, one: FlowRecorder | None, out: Path) -> str:
    """What was seen last, and what it cost."""
    if one is None:
        return ""
    place = shlex.quote(str(path))
    if one.last is None:
        return (
            f"flow      no look fitted into {SHARE:.0%} of the time; train for longer, or "
            f"throughtime flow {shlex.quote(str(out))}"
        )
    looks = f"{one.budget.looks} look" + ("" if one.budget.looks == 1 else "s")
    return (
        f"flow      {one.last.verdict}: {one.last.reason}\n"
        f"record    throughtime flow --record {place} ({looks}, {one.budget.taken:.1%} of the time)"
    )
