"""`throughtime train`: a language model on one's own text."""

from __future__ import annotations

import argparse
import contextlib
import math
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from throughtime import storage, training
from throughtime.arrays import refuse
from throughtime.cli import INTERRUPTED, say, train_flow
from throughtime.cli.outputs import spare_inputs, writable
from throughtime.gradcheck import CheckError
from throughtime.questions import check
from throughtime.training import CELLS, Processes

EPILOG = """examples:
  throughtime train --stdlib --minutes 5
  throughtime train notes/ book.txt --hidden 256 --out book.safetensors
  throughtime train --resume book.safetensors --minutes 20
  throughtime train book.txt --flow"""

MINUTES = 5.0
DIVERGED = 1  # the exit status where the model has become worse than guessing
# Ctrl-C; what torchrun and batch systems send; a terminal closed, or a connection lost.
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
CHECKED_STEPS, CHECKED_ENTRIES = 16, 4  # before the first update

# Option, the setting it stands for, its type, and what it says in the help.
OPTIONS: tuple[tuple[str, str, Any, str], ...] = (
    ("--hidden", "hidden", int, "hidden units a layer"),
    ("--layers", "layers", int, "recurrent layers"),
    ("--cell", "cell", str, ", ".join(CELLS)),
    ("--embedding", "embedding", int, "features of an embedding; 0 for one-hot inputs"),
    ("--dropout", "dropout", float, "share that is dropped after every recurrent layer"),
    ("--classes", "classes", int, "most classes; rarer characters share one"),
    ("--held-out", "held_out", float, "share of the text held out"),
    ("--batch", "batch", int, "parallel streams of the text, B"),
    ("--k1", "k1", int, "steps between updates"),
    ("--k2", "k2", int, "steps that the gradient goes back (default k1)"),
    ("--optimiser", "optimiser", str, "sgd, adam or adamw"),
    ("--learning-rate", "learning_rate", float, "at its highest"),
    ("--weight-decay", "weight_decay", float, "of adamw"),
    ("--schedule", "schedule", str, "constant or cosine"),
    ("--clip", "clip", float, "largest norm of the gradient; 0: not clipped"),
    ("--seed", "seed", int, "random seed of initialisation and dropout"),
    ("--dtype", "dtype", str, "float32 or float64"),
    ("--products", "products", str, "of matrices: float32, or bfloat16 where there are such"),
)


def add(parser: argparse.ArgumentParser) -> None:
    """Fills the subcommand's parser."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "sources",
        nargs="*",
        metavar="FILE_OR_FOLDER",
        help="text in UTF-8; all text files in a folder",
    )
    parser.add_argument(
        "--stdlib", action="store_true", help="the source of Python's own standard library"
    )
    parser.add_argument(
        "--out", metavar="CHECKPOINT", help="where to write (default throughtime.safetensors)"
    )
    parser.add_argument(
        "--resume",
        metavar="CHECKPOINT",
        help="continue from here, on the same text, and write here",
    )
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--updates", type=int, help="updates in all, from the very first one")
    end.add_argument(
        "--minutes", type=float, help=f"minutes in all, likewise (default {MINUTES:g})"
    )
    model = parser.add_argument_group("model and training; fixed once training has begun")
    defaults = training.Settings()
    for option, name, kind, words in OPTIONS:
        default = getattr(defaults, name)
        told = "" if default is None else f" (default {default})"
        metavar = "N" if kind is int else "X" if kind is float else "NAME"
        model.add_argument(option, dest=name, type=kind, metavar=metavar, help=words + told)
    train_flow.add(parser)
    parser.add_argument("--validate-every", type=int, default=500, metavar="N", help="updates")
    parser.add_argument("--checkpoint-every", type=int, default=500, metavar="N", help="updates")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Trains, alone or in as many processes as the launcher started."""
    with training.join_processes() as processes:
        return _train(options, processes)


def _train(options: argparse.Namespace, processes: Processes) -> int:
    """Trains; the first process prints how the model compares with n-grams."""
    out = Path(options.out or options.resume or "throughtime.safetensors")
    path = None
    if processes.first:
        writable("--out", out, f"--out {out / 'model.safetensors'}")
        spare_inputs("--out", out, options)
        path = train_flow.record_path(options, out)
    again = training.restarted(out, processes)
    start = out if again else options.resume
    trainer = _resumed(options, start, processes) if start else _new(options, processes)
    plan = _plan(options, trainer)
    if not again:
        _more_than_done(plan, trainer)
    if not processes.first:
        return INTERRUPTED if _fit(options, trainer, plan, out, again) else 0
    yardsticks = training.ngram_bits(trainer.codes, trainer.held_out, len(trainer.vocabulary))
    say(training.describe_run(trainer, yardsticks, plan, out))
    print(f"gradient  {_gradient(trainer)}", flush=True)
    if path is not None:
        print(train_flow.beginning(path), flush=True)
    with (
        training.Progress(trainer, plan.updates, plan.seconds) as progress,
        train_flow.recorder(path, trainer) as recorder,
    ):
        watch = train_flow.watching(trainer, progress.update, recorder)
        stopped = _fit(options, trainer, plan, out, again, watch)
    print(training.summarise_run(trainer, yardsticks, progress.speed, out, stopped))
    if path is not None:
        print(train_flow.ending(path, recorder, out))
    if stopped:
        return INTERRUPTED
    alone = processes.size == 1  # a launcher would take the status of one of many for a crash
    return DIVERGED if alone and training.worse_than_guessing(trainer) else 0


class Interruption:
    """A context in which the first Ctrl-C is only noted; the second one interrupts.

    SIGTERM and SIGHUP are treated in the same way. Where a worker is lost, the launcher soon
    sends the others SIGTERM: that one is noted even after the context, so that it does not end
    the process before the message is out.

    Attributes:
        wished: whether one of them came; give `lambda: interruption.wished` to `Trainer.fit`.
    """

    def __init__(self) -> None:
        self.wished = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(problem, training.LostWorkerError):
            self._put_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wished = True
        self._put_back()

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _fit(
    options: argparse.Namespace,
    trainer: training.Trainer,
    plan: training.RunLimits,
    out: Path,
    again: bool,
    watch: Callable[[training.Update], None] | None = None,
) -> bool:
    """Trains until the end or a signal; whether it was a signal."""
    alone = storage.exclusively(out) if trainer.processes.first else contextlib.nullcontext()
    with alone, Interruption() as interruption, _checkpoint_named(trainer, out):
        if trainer.processes.launch.run and not again:
            trainer.save(out)  # so that what a restart finds there is never another run's
        trainer.fit(
            plan.updates,
            plan.seconds,
            validate_every=options.validate_every,
            out=out,
            checkpoint_every=options.checkpoint_every,
            watch=watch,
            stop=lambda: interruption.wished,
            unsaved=lambda words: say(f"throughtime train: {words}", sys.stderr),
        )
    return plan.share(trainer.updates, trainer.seconds) < 1


@contextlib.contextmanager
def _checkpoint_named(trainer: training.Trainer, out: Path) -> Iterator[None]:
    """Adds to the message of a run that has diverged which checkpoint remains."""
    try:
        yield
    except training.DivergedError as problem:
        kept = "no checkpoint was written before"
        if trainer.saved is not None:
            kept = f"{out} stays as it was at update {trainer.saved}"
        words = f"{problem}; {kept}"
        raise training.DivergedError(words, problem.update, problem.finding) from problem


def _gradient(trainer: training.Trainer) -> str:
    """The result of a check of the model's gradient, on a short text and in float64."""
    window = trainer.codes[: CHECKED_STEPS + 1, None]
    twin = trainer.network.astype("float64")
    report = check(twin, window[:-1], window[1:], entries=CHECKED_ENTRIES, progress=False)
    if report.verdict == "disagree":
        raise CheckError(f"the model's gradient is wrong, nothing was trained\n{report}")
    return f"{report.verdict}: d = {report.discrepancy:.1e} in float64, T = {len(window) - 1}"


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given on the command line; 0 means none for two of them."""
    given = {name: getattr(options, name) for _, name, _, _ in OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    return {n: None if n in ("embedding", "clip") and v == 0 else v for n, v in given.items()}


def _sources(options: argparse.Namespace) -> list[str | Path]:
    return [*options.sources, *(training.standard_library() if options.stdlib else [])]


def _new(options: argparse.Namespace, processes: Processes) -> training.Trainer:
    sources = _sources(options)
    if not sources:
        way_out = "put --flow behind them" if options.flow else "name some, or add --stdlib"
        refuse("train", "files or folders", "none", way_out)
    settings = training.Settings(**_settings(options))
    return training.Trainer(training.read(sources), settings, processes)


def _resumed(
    options: argparse.Namespace, start: str | Path, processes: Processes
) -> training.Trainer:
    """From a checkpoint, on the files named or, without any, on those that it names."""
    saved = training.load_together(start, processes)
    for name, value in _settings(options).items():
        own = getattr(saved.settings, name)
        if value != own:
            way_out = "leave it out, or begin anew without --resume"
            option = "--" + name.replace("_", "-")
            refuse(option, f"{own or 0}, as in {start}", value or 0, way_out)
    text = training.read(_sources(options) or saved.source.files)
    return training.Trainer.resume(saved, text, processes)


def _plan(options: argparse.Namespace, trainer: training.Trainer) -> training.RunLimits:
    """The end that was asked for, or that of the checkpoint, or five minutes."""
    if options.updates is not None:
        plan = training.RunLimits(updates=options.updates)
    elif options.minutes is not None:
        if not 0 < options.minutes < math.inf:
            refuse("--minutes", "a finite number above 0", options.minutes)
        plan = training.RunLimits(seconds=60 * options.minutes)
    elif trainer.plan != training.RunLimits():
        plan = trainer.plan
    else:
        plan = training.RunLimits(seconds=60 * MINUTES)
    return plan


def _more_than_done(plan: training.RunLimits, trainer: training.Trainer) -> None:
    if plan.share(trainer.updates, trainer.seconds) >= 1:
        done = f"{trainer.updates} updates in {trainer.seconds / 60:.1f} minutes are done"
        refuse("end", "more than is done already", done, "give a larger --updates or --minutes")
