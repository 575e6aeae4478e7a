"""How many losses a verdict takes as parameters grow, and how many it takes to find a fault."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from time import perf_counter

import numpy as np

from benchmarks.engine import Row
from throughtime.arrays import Array
from throughtime.cells import LSTM
from throughtime.gradcheck import EffortName, Report, Target
from throughtime.network import Dense, Network, SoftmaxCrossEntropy
from throughtime.progress import progress_bar
from throughtime.questions import check
from throughtime.targets import network_target

T, B, CLASSES = 5, 2, 4
OFF_BY = 0.01  # times the root mean square of its tensor
EFFORTS: tuple[EffortName, ...] = ("quick", "normal")
MEASURED = ("evaluations", "seconds")

Place = tuple[str, tuple[int, ...]]


def growth(counts: Sequence[int], seeds: Sequence[int]) -> Iterator[Row]:
    """An LSTM with a head in float64, with a right gradient and with one that is off in one entry.

    Args:
        counts: the approximate numbers of parameters.
        seeds: the seeds of parameters, data and the wrong entry.

    Returns:
        two rows per network, of "part": "growth"; "parameters"; "seed"; "effort", "quick" or
        "normal"; "loss_ms", the time of one evaluation;
        "right_verdict", "right_evaluations", "right_seconds"; "wrong_verdict",
        "wrong_evaluations", "wrong_seconds"; "named", whether the first entry that the report
        calls wrong is the wrong one, and "named_beside", how many others it calls wrong.
    """
    work = list(product(counts, seeds, EFFORTS))
    with progress_bar(len(work), "growth", "networks", sys.stderr.isatty()) as bar:
        for count, seed, effort in work:
            yield row(count, seed, effort)
            bar.update()


def row(count: int, seed: int, effort: EffortName) -> Row:
    """See `growth`."""
    target = network(count, seed)
    began = perf_counter()
    for _ in range(5):
        target.loss()
    loss_ms = 1e3 * (perf_counter() - began) / 5
    right, right_seconds = timed(target, effort)
    place, wrong_target = one_wrong_entry(target, seed)
    wrong, wrong_seconds = timed(wrong_target, effort)
    first, beside = located(wrong)
    return {
        "part": "growth",
        "parameters": sum(array.size for array in target.parameters.values()),
        "seed": seed,
        "effort": effort,
        "loss_ms": loss_ms,
        "right_verdict": right.verdict,
        "right_evaluations": right.evaluations,
        "right_seconds": right_seconds,
        "wrong_verdict": wrong.verdict,
        "wrong_evaluations": wrong.evaluations,
        "wrong_seconds": wrong_seconds,
        "named": first == place,
        "named_beside": beside - (first == place),
    }


def network(count: int, seed: int) -> Target:
    """An LSTM H → H with a head and about `count` parameters, 8 H² of them recurrent."""
    H = max(2, round((count / 8) ** 0.5))
    loss = SoftmaxCrossEntropy(time="mean")
    net = Network([LSTM(H, H), Dense(H, CLASSES)], loss, dtype="float64", seed=seed)
    rng = np.random.default_rng(seed)
    inputs, labels = rng.standard_normal((T, B, H)), rng.integers(0, CLASSES, (T, B))
    return network_target(net, inputs, labels)


def one_wrong_entry(target: Target, seed: int) -> tuple[Place, Target]:
    """The same target with one entry of its gradient off, and the place of that entry."""
    rng = np.random.default_rng([seed, 1])
    sizes = {name: array.size for name, array in target.parameters.items()}
    name = str(rng.choice(list(sizes), p=np.array(list(sizes.values())) / sum(sizes.values())))
    entry = int(rng.integers(sizes[name]))
    shape = target.parameters[name].shape
    index = tuple(int(i) for i in np.unravel_index(entry, shape))

    def gradient() -> dict[str, Array]:
        found = {n: np.array(array) for n, array in target.gradient().items()}
        found[name][index] += OFF_BY * np.sqrt(np.mean(found[name] ** 2))
        return found

    return (name, index), replace(target, gradient=gradient, at_length=None)


def timed(target: Target, effort: EffortName) -> tuple[Report, float]:
    """The report, and the seconds that its verdict took."""
    began = perf_counter()
    report: Report = check(target, effort=effort, diagnose=False, progress=False)
    return report, perf_counter() - began


def located(report: Report) -> tuple[Place | None, int]:
    """The first entry that is called wrong, and how many are called wrong."""
    named = [(n, w.index) for n, tensor in report.tensors.items() for w in tensor.wrong]
    return (named[0] if named else None), len(named)


def summary(rows: Sequence[Row]) -> list[Row]:
    """One row per size and effort: medians over the seeds, and the wrong entries found."""
    found = []
    for count, effort in dict.fromkeys((row["parameters"], row["effort"]) for row in rows):
        group = [r for r in rows if (r["parameters"], r["effort"]) == (count, effort)]
        keys = ["loss_ms"] + [f"{g}_{k}" for g in ("right", "wrong") for k in MEASURED]
        middle = {key: float(np.median([row[key] for row in group])) for key in keys}
        agree = sum(row["right_verdict"] == "agree" for row in group)
        named = sum(row["named"] for row in group)
        of = len(group)
        shares = {"right": f"{agree} of {of}", "named": f"{named} of {of}"}
        found.append({"parameters": count, "effort": effort} | middle | shares)
    return found
