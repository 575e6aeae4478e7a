"""`throughtime flow`: where a trained model's gradient goes, through time."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np

from throughtime import training
from throughtime.arrays import Array, positive, refuse
from throughtime.cli import columns, each_by_itself, say
from throughtime.cli.colour import verdicts
from throughtime.gradient_flow import FlowRecord
from throughtime.questions import check, flow

EPILOG = """examples:
  throughtime flow throughtime.safetensors
  throughtime flow book.safetensors chapter.txt --steps 500 --tolerance 0.05 --json flow.json
  throughtime flow throughtime.safetensors --html flow.html
  throughtime flow --record throughtime.flow.jsonl"""

STEPS, BATCH = 256, 16
MOST_FILES = 3  # that are named on a page
CHECKED_STEPS, CHECKED_SEQUENCES = 32, 2


def add(parser: argparse.ArgumentParser) -> None:
    """Fills the subcommand's parser."""
    parser.description = (
        "Follows the losses of a trained model on excerpts of a text back through\n"
        "time: verdict, advice on truncation, clipping and initialisation, and a table by lag."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "checkpoint", nargs="?", metavar="CHECKPOINT", help="written by `throughtime train`"
    )
    parser.add_argument(
        "data",
        nargs="*",
        metavar="DATA",
        help="text in UTF-8, files or folders (default: what it was trained on)",
    )
    what = parser.add_argument_group("what is examined")
    what.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"T (default {STEPS})")
    what.add_argument(
        "--batch", type=int, default=BATCH, metavar="N", help=f"excerpts, B (default {BATCH})"
    )
    what.add_argument("--max-lag", type=int, metavar="N", help="steps back (default all, or 100)")
    what.add_argument("--sample", type=int, metavar="N", help="losses that are followed back")
    what.add_argument("--memory", type=int, metavar="N", help="the lag that the data need")
    what.add_argument(
        "--tolerance",
        type=float,
        default=0.1,
        metavar="X",
        help="relative bias of a truncated gradient that would be accepted (default 0.1)",
    )
    what.add_argument("--k2", type=int, metavar="N", help="steps back (default: as trained)")
    what.add_argument("--clip", type=float, metavar="X", help="threshold (default: as trained)")
    what.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    parser.add_argument(
        "--record",
        metavar="FILE",
        help="print the record that `throughtime train --flow` has written, and nothing else",
    )
    parser.add_argument("--json", metavar="FILE", help="write all numbers as JSON")
    parser.add_argument(
        "--html",
        metavar="FILE",
        help="write a page with figures, and with a check of the gradient on a short stretch",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the flow, or a record of it."""
    if options.record is not None:
        say(str(FlowRecord.read(options.record)))
        return 0
    if options.checkpoint is None:
        refuse("flow", "a CHECKPOINT", "none", "name one, or a record: --record FILE")
    saved = training.load_checkpoint(options.checkpoint)
    text = training.read(options.data or saved.source.files)
    codes = saved.vocabulary.encode(text.characters)
    inputs, targets = excerpts(codes, options.steps, options.batch)
    own = saved.settings
    k2 = options.k2 if options.k2 is not None else own.k2 or own.k1
    found = flow(
        saved.network,
        inputs,
        targets,
        max_lag=options.max_lag,
        sample=options.sample,
        tolerance=options.tolerance,
        k1=min(own.k1, k2),
        k2=k2,
        clip=own.clip if options.clip is None else options.clip,
        memory=options.memory,
        seed=options.seed,
    )
    say(found.as_text(columns()), paint=verdicts)
    outputs: dict[str, Callable[[], object]] = {}
    if options.json:
        outputs[f"--json {options.json}"] = partial(found.to_json, options.json)
    if options.html:
        short = np.s_[:CHECKED_STEPS, :CHECKED_SEQUENCES]
        report = check(saved.network, inputs[short], targets[short], seed=options.seed)
        say(
            f"\nOn {len(inputs[short])} steps the gradient is checked.\n{report.headline()}",
            paint=verdicts,
        )
        outputs[f"--html {options.html}"] = partial(
            found.to_html, options.html, check=report, about=_about(options, saved, text)
        )
    each_by_itself(outputs)
    return 0


def _about(
    options: argparse.Namespace, saved: training.Checkpoint, text: training.Text
) -> dict[str, str]:
    """What the page is of."""
    files = [str(file) for file in text.files]
    more = f" and {len(files) - MOST_FILES:,} more files" if len(files) > MOST_FILES else ""
    return {
        "command": options.command_line,
        "checkpoint": f"{options.checkpoint}, after {saved.position.updates:,} updates",
        "data": f"{', '.join(files[:MOST_FILES])}{more}, {len(text.characters):,} characters",
    }


def excerpts(codes: Array, steps: int, batch: int) -> tuple[Array, Array]:
    """B excerpts of T + 1 characters, spread evenly over the text: inputs and targets (T, B)."""
    needed = positive("steps", steps) + positive("batch", batch)
    if len(codes) < needed:
        actual = f"{len(codes)}"
        refuse("text", f"at least T + B = {needed} characters", actual, "lower --steps or --batch")
    starts = np.linspace(0, len(codes) - steps - 1, batch).astype(int)
    places = starts + np.arange(steps + 1)[:, None]
    chosen = codes[places].astype(np.intp)
    return chosen[:-1], chosen[1:]
