"""`throughtime demo`: train, check, break, diagnose, look, sample, in under three minutes."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from textwrap import fill

from throughtime import Flow, Network, Report, SoftmaxCrossEntropy, Target, check, flow
from throughtime.arrays import Array
from throughtime.cli import say
from throughtime.cli.colour import verdicts
from throughtime.cli.demo_lstm import MISTAKES, faulty_lstm
from throughtime.report.figures import plot_training
from throughtime.report.pages import (
    Figure,
    PageSection,
    Table,
    check_sections,
    flow_sections,
    write_page,
)
from throughtime.targets import network_target
from throughtime.training import (
    Progress,
    Settings,
    Text,
    Trainer,
    Update,
    ngram_bits,
    read,
    sample,
    standard_library,
)

SECONDS, QUICK_SECONDS = 80.0, 12.0  # of training
SETTINGS = Settings(hidden=128)
VALIDATE_EVERY = 1000  # updates
CHECKED_STEPS, CHECKED_SEQUENCES = 39, 2
FLOW_STEPS, FLOW_SEQUENCES = 128, 4
SAMPLE = 400


def add(parser: argparse.ArgumentParser) -> None:
    """Fills the subcommand's parser."""
    parser.add_argument("--quick", action="store_true", help=f"train for {QUICK_SECONDS:.0f} s")
    parser.add_argument(
        "--seconds", type=float, help=f"seconds of training (default {SECONDS:.0f})"
    )
    parser.add_argument(
        "--html", metavar="FILE", default="throughtime-report.html", help="the page to write"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The whole demonstration; exit status 1 where a verdict or the name of a fault is wrong."""
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    say("1. Train: an LSTM learns the source of Python's standard library by TBPTT\n")
    trainer, trained = _train(read(standard_library()), seconds)

    say("\n2. Check: is the gradient of the trained network right?")
    data = _stretch(trainer, CHECKED_STEPS, CHECKED_SEQUENCES)
    right = {dtype: _check(trainer.network, dtype, *data) for dtype in ("float64", "float32")}
    for report in right.values():
        say(f"\n{report}", paint=verdicts)

    say(
        f"\n3. Break it: backward divides by T = {CHECKED_STEPS}, the loss does not. Every sign is"
        f"\n   right. d should be (T - 1)/(T + 1) = {_expected_discrepancy():.3g}.\n"
    )
    faulty = _check(trainer.network, "float64", *data, divided=True)
    say(str(faulty), paint=verdicts)

    say(
        "\n4. Diagnose: an LSTM that somebody wrote in NumPy, [h, x] in one matrix, trains badly."
        "\n   Its gradient check says 0.95. Why? Only how its arrays are laid out is known.\n"
    )
    diagnosed = check(faulty_lstm())
    say(str(diagnosed), paint=verdicts)

    prompt = "    def "
    drawn = sample(trainer.network, trainer.vocabulary, SAMPLE, temperature=0.6, prompt=prompt)
    generated = prompt + "".join(drawn)
    say("\n5. See the flow: how far back do the losses of the trained network reach?\n")
    flowing = _flow(trainer)
    say(fill(f"{flowing.verdict.upper()}: {flowing.reason}", 100) + "\n", paint=verdicts)
    for sentence in flowing.advice.sentences:
        say(fill(sentence, 100, initial_indent="- ", subsequent_indent="  "))

    say(f"\n6. Sample: what the network writes after {prompt!r}\n\n{generated}")

    sections = [
        trained,
        *check_sections(right["float64"], "The gradient of the trained network, in float64"),
        *check_sections(right["float32"], "The same in float32"),
        *check_sections(
            faulty,
            f"The classic fault: backward divides by T = {CHECKED_STEPS}, the loss does not",
            "Every sign is right, and training would go on, only more slowly.",
        ),
        *check_sections(
            diagnosed,
            "Two mistakes in an LSTM written in NumPy, and their names",
            "One hides the other: divided by T, everything is wrong alike, and that the error "
            "carousel is cut does not show.",
        ),
        *flow_sections(flowing, "Where the trained network's gradient goes"),
        PageSection("A sample of the model", preformatted=generated),
    ]
    about = {"command": options.command_line, "data": "the source of Python's standard library"}
    write_page(options.html, "throughtime: a demonstration", sections, about)
    say(f"\nThe page with figures: {Path(options.html).resolve()}")
    say("Your own text: throughtime train FILE_OR_FOLDER…")
    say("Your own gradient: throughtime check FILE.py:NAME")
    accused = any(report.verdict == "disagree" for report in right.values())
    named = {cause.fault for cause in diagnosed.causes} == set(MISTAKES)
    return 1 if accused or faulty.verdict != "disagree" or not named else 0


def _train(text: Text, seconds: float) -> tuple[Trainer, PageSection]:
    """Trains, prints the results, and returns them as a section of the page."""
    trainer = Trainer(text, SETTINGS)
    classes = len(trainer.vocabulary)
    yardsticks = ngram_bits(trainer.codes, trainer.held_out, classes)
    words = (
        f"{len(text.files)} files, {len(trainer.codes):,} characters to train on, "
        f"{len(trainer.held_out):,} held out, {classes} classes; "
        f"LSTM with {SETTINGS.hidden} units, {trainer.network.parameters.flat.size:,} parameters"
    )
    say(words)
    losses: list[tuple[int, float]] = []
    with Progress(trainer, None, seconds) as progress:

        def watch(update: Update) -> None:
            progress.update(update)
            losses.append((update.number, progress.bits or update.bits))

        trainer.fit(seconds=seconds, watch=watch, validate_every=VALIDATE_EVERY)
    bits = trainer.history[-1].held_out
    done = (
        f"{trainer.updates:,} updates in {trainer.seconds:.0f} s, "
        f"{progress.speed:,.0f} characters a second"
    )
    rows = [("this LSTM", f"{bits:.3f}"), *((k, f"{v:.3f}") for k, v in yardsticks.items())]
    say(f"{done}\n\nheld-out text, bits a character:")
    for name, number in rows:
        say(f"  {name:10} {number}")
    beaten = [name for name, level in yardsticks.items() if bits < level]
    say("  the LSTM beats " + (" and ".join(beaten) or "none of the three yet"))
    held_out = [(record.updates, record.held_out) for record in trainer.history]
    figure = Figure(
        plot_training(losses, yardsticks, held_out),
        f"Bits a character over updates; at the end {bits:.2f} on held-out text, where the "
        + ", the ".join(f"{name} model has {level:.2f}" for name, level in yardsticks.items()),
    )
    table = Table(("model", "held-out bits a character"), rows)
    title = "An LSTM learns the source of Python's standard library"
    return trainer, PageSection(title, f"{words}. {done}.", tables=[table], figures=[figure])


def _flow(trainer: Trainer) -> Flow:
    """The flow of the trained network on held-out text, with its own windows and threshold."""
    data = _stretch(trainer, FLOW_STEPS, FLOW_SEQUENCES)
    return flow(trainer.network, *data, k2=SETTINGS.k1, clip=SETTINGS.clip)


def _stretch(trainer: Trainer, T: int, B: int) -> tuple[Array, Array]:
    """Inputs and targets (T, B) from the held-out text."""
    codes = trainer.held_out[: (T + 1) * B].reshape(B, T + 1).T
    return codes[:-1], codes[1:]


def _check(
    network: Network, dtype: str, inputs: Array, targets: Array, *, divided: bool = False
) -> Report:
    """Checks the network in another precision, its loss summed over the steps."""
    twin = Network(network.specs, SoftmaxCrossEntropy(time="sum"), dtype=dtype)
    twin.parameters.flat[...] = network.parameters.flat
    honest = network_target(twin, inputs, targets)
    return check(_divided(honest) if divided else honest)


def _divided(honest: Target) -> Target:
    """The same with a gradient divided by T, at every length."""
    shorter, steps = honest.at_length, honest.steps
    assert shorter is not None
    assert steps is not None

    def gradient() -> dict[str, Array]:
        return {name: array / steps for name, array in honest.gradient().items()}

    return replace(honest, gradient=gradient, at_length=lambda T: _divided(shorter(T)))


def _expected_discrepancy() -> float:
    return (CHECKED_STEPS - 1) / (CHECKED_STEPS + 1)
