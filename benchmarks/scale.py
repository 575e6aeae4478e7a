"""The cost and benefit of training in several processes, measured and predicted.

One process takes o + c·B·T seconds per update. Each step of a sequence takes c, and o is the part
that does not shrink with the number of streams, mainly the optimiser. N processes take

    o + c·B·T / N + 2 (N − 1) α + 2 (N − 1) / N · bytes / β,

where the last two terms are those of a ring all-reduce of the gradient over a network of latency α
and bandwidth β (Patarasuk and Yuan 2009).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import torch_layer
from benchmarks.engine import Row
from benchmarks.tables import CASE, THREE_DIGITS, Column, table
from benchmarks.training import Model
from throughtime import _engine, storage
from throughtime.arrays import refuse
from throughtime.engine_settings import set_threads
from throughtime.parameters import Parameters
from throughtime.training import Text, Trainer
from throughtime.training.distributed import Processes

MODELS = (Model(128), Model(256), Model(512), Model(256, B=8, T=16))
SIZES = (1, 10**5, 10**6, 4 * 10**6)  # how many float32 numbers are reduced
GIGABITS = (1.0, 10.0, 100.0)
LATENCY = 50e-6  # seconds between machines in one room, if only the bandwidth is given
SEVERAL = (2, 8, 32)
PAYS = 0.8  # the share of N times the speed of one process at which it pays
BYTES = 4  # of float32
CHARACTERS = 150_000


@dataclass(frozen=True)
class Computing:
    """Seconds per update of one process: `fixed` + `step`·B·T, for `numbers` parameters."""

    fixed: float
    step: float
    numbers: int


@dataclass(frozen=True)
class Interconnect:
    """The latency in seconds, and the bandwidth in bytes per second."""

    latency: float
    bandwidth: float

    def reducing(self, numbers: int, processes: int) -> float:
        """Seconds of one ring all-reduce of that many float32 numbers."""
        rounds = 2 * (processes - 1)
        return rounds * (self.latency + numbers * BYTES / processes / self.bandwidth)


def update_seconds(
    computing: Computing, network: Interconnect, work: float, processes: int = 1
) -> float:
    """The predicted seconds per update.

    Args:
        computing, network: the constants.
        work: B·T of all processes together.
        processes: N.

    Example:
        >>> from benchmarks.scale import Computing, Interconnect, update_seconds
        >>> computing, network = Computing(0.001, 1e-5, 10**6), Interconnect(50e-6, 1.25e9)
        >>> [round(update_seconds(computing, network, 4096, n), 4) for n in (1, 2, 8)]
        [0.042, 0.0248, 0.0124]
    """
    own = computing.fixed + computing.step * work / processes
    return own + (network.reducing(computing.numbers, processes) if processes > 1 else 0.0)


def work_that_pays(
    computing: Computing, network: Interconnect, processes: int, efficiency: float
) -> float:
    """The smallest B·T at which N processes reach this share of N times the speed of one.

    With `efficiency` = 1/N, this is where they are as fast as one process alone.
    """
    apart = computing.fixed + network.reducing(computing.numbers, processes)
    lost = efficiency * processes * apart - computing.fixed
    return max(0.0, lost / ((1 - efficiency) * computing.step))


# --- measuring ---


def measure(models: Sequence[Model], seconds: float) -> tuple[Interconnect, list[Row]]:
    """The constants of this machine, and one row per model.

    Args:
        models: what is trained, by one process and by two, each in one thread.
        seconds: how long each model may be timed.

    Returns:
        the interconnect between two processes of this machine, and rows of "case"; "numbers",
        how many parameters; "step_us", c in microseconds; "fixed_ms", o; "efficiency" and
        "predicted". Milliseconds per update are given as "alone_ms"; as "apart_ms", with half the
        streams in each of two independent processes; as "two_ms", when they train together; and
        as "two_predicted_ms", the sum of "apart_ms" and the all-reduce.
    """
    threads = _engine.threads()
    set_threads(1)
    try:
        found = [alone(model, seconds) for model in models]
    finally:
        set_threads(threads)
    updates = [max(5, int(seconds / whole)) for _, whole in found]
    answer = together(models, updates)
    network = fitted(answer["reducing"])
    rows = []
    measured = zip(models, found, answer["apart"], answer["together"], strict=True)
    for model, (computing, whole), apart, two in measured:
        predicted = apart + network.reducing(computing.numbers, 2)
        rows.append(
            {
                "case": str(model),
                "numbers": computing.numbers,
                "step_us": 1e6 * computing.step,
                "fixed_ms": 1e3 * computing.fixed,
                "alone_ms": 1e3 * whole,
                "apart_ms": 1e3 * apart,
                "two_predicted_ms": 1e3 * predicted,
                "two_ms": 1e3 * two,
                "predicted": whole / predicted / 2,
                "efficiency": whole / two / 2,
            }
        )
    return network, rows


def alone(model: Model, seconds: float) -> tuple[Computing, float]:
    """The constants of one process, measured with all B streams and with half of them."""
    trainers = [Trainer(text(), m.settings()) for m in (model, half(model))]
    whole, part = (timed(trainer, seconds=seconds / 2) for trainer in trainers)
    step = (whole - part) / ((model.B - half(model).B) * model.T)
    numbers = trainers[0].network.parameters.flat.size
    return Computing(max(0.0, whole - step * model.B * model.T), step, numbers), whole


def half(model: Model) -> Model:
    """The same model with half the streams."""
    return replace(model, B=model.B // 2)


def timed(trainer: Trainer, seconds: float = 0.0, updates: int = 5) -> float:
    """Seconds of one update, the smallest of at least that many."""
    spent: list[float] = []
    for _ in range(2):
        trainer.step()
    while sum(spent) < seconds or len(spent) < updates:
        began = perf_counter()
        done = trainer.step()
        if done.characters == trainer.settings.batch * trainer.settings.k1:  # a whole window
            spent.append(perf_counter() - began)
    return min(spent)


def text() -> Text:
    """Characters drawn at random; they do not matter for the speed."""
    drawn = np.random.default_rng(0).integers(32, 127, CHARACTERS)
    return Text("".join(map(chr, drawn)))


def together(models: Sequence[Model], updates: Sequence[int]) -> dict[str, Any]:
    """The measurements of two processes of this machine, in one thread each."""
    plan = json.dumps({"models": [asdict(m) for m in models], "updates": list(updates)})
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "benchmarks.scale_worker", plan],
        env=os.environ | {"OMP_NUM_THREADS": "1", "THROUGHTIME_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        why = re.findall(r"^[\w.]*(?:Error|Exception): .*", done.stderr, re.MULTILINE)
        actual = f"exit status {done.returncode}: {(why or ['no reason given'])[0]}"
        refuse("two processes", "times that they have measured", actual, error=OSError)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def reducing(processes: Processes, numbers: int, rounds: int) -> float:
    """The smallest time in seconds of an all-reduce of that many numbers."""
    gradient = Parameters({"g": (numbers,)})
    spent = []
    for _ in range(rounds):
        processes.total(0.0)  # so that all begin together
        began = perf_counter()
        processes.reduced(gradient, 0.0, 0.5)
        spent.append(perf_counter() - began)
    return min(spent)


def fitted(reduced: Sequence[tuple[int, float]]) -> Interconnect:
    """Latency α and bandwidth β of two processes, from 2 α + bytes / β at the range's ends."""
    (few, little), (many, much) = reduced[0], reduced[-1]
    return Interconnect(little / 2, (many - few) * BYTES / (much - little))


MEASURED = (
    CASE,
    Column("parameters", "numbers", ",d"),
    Column("c µs", "step_us", THREE_DIGITS),
    Column("o ms", "fixed_ms", THREE_DIGITS),
    Column("one ms", "alone_ms", THREE_DIGITS),
    Column("apart", "apart_ms", THREE_DIGITS),
    Column("predicted", "two_predicted_ms", THREE_DIGITS),
    Column("two ms", "two_ms", THREE_DIGITS),
    Column("predicted", "predicted", ".0%"),
    Column("efficiency", "efficiency", ".0%"),
)
ONE_AND_TWO = """Milliseconds an update, in one thread a process: of one; of two with half the
streams each, apart (without the all-reduce), as that and the all-reduce predict, and as measured"""
PAYING = f"""B·T from which N machines reach {PAYS:.0%} of N times the speed of one, each as
fast as this one in one thread (in brackets: from which they are as fast as one)"""


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds this kind of benchmark to the command line."""
    kind = kinds.add_parser("scale", help="training in two processes, and what many would bring")
    kind.add_argument(
        "--gigabits",
        nargs="+",
        type=float,
        default=GIGABITS,
        metavar="X",
        help="bandwidths of networks, Gbit/s; default 1 10 100",
    )
    kind.add_argument("--quick", action="store_true", help="two models, briefly")
    kind.add_argument("--json", metavar="FILE", help="write the rows")
    kind.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the tables."""
    if torch_layer.find() is None:
        raise ImportError("processes meet through torch: pip install torch")
    for gigabits in options.gigabits:
        if not gigabits > 0:
            refuse("--gigabits", "numbers above 0", gigabits)
    models = MODELS[:2] if options.quick else MODELS
    network, rows = measure(models, 0.5 if options.quick else 5.0)
    latency, bandwidth = 1e6 * network.latency, network.bandwidth / 1e9
    print("All-reduce between two processes of this machine:", end=" ")
    print(f"latency {latency:.0f} µs, bandwidth {bandwidth:.2g} GB/s")
    print(f"\n{ONE_AND_TWO}\n" + table(rows, MEASURED))
    found = elsewhere(rows, options.gigabits)
    print(f"\n{PAYING}\n" + table(found, columns()))
    if options.json:
        content = {"network": vars(network), "rows": rows, "elsewhere": found}
        storage.replace(options.json, json.dumps(content, indent=1, ensure_ascii=False).encode())
    return 0


def columns() -> list[Column]:
    """A column for the network, and one for every number of machines."""
    several = [Column(f"N = {n}", f"machines_{n}", "s") for n in SEVERAL]
    return [CASE, Column("Gbit/s", "gigabits", "g"), *several]


def elsewhere(rows: Sequence[Row], gigabits: Sequence[float]) -> list[Row]:
    """One row per model and network."""
    found = []
    for row in rows:
        own = Computing(row["fixed_ms"] / 1e3, row["step_us"] / 1e6, row["numbers"])
        for speed in gigabits:
            network = Interconnect(LATENCY, speed * 1e9 / 8)
            line: Row = {"case": row["case"], "gigabits": speed}
            for n in SEVERAL:
                pays, even = (work_that_pays(own, network, n, share) for share in (PAYS, 1 / n))
                line[f"machines_{n}"] = f"{pays:,.0f} ({even:,.0f})"
            found.append(line)
    return found
