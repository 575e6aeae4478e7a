"""Are the error bars right? The distribution of (g − n) / error for right gradients."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from math import erfc, sqrt
from typing import Any

import numpy as np

from benchmarks import torch_layer
from benchmarks.check.cases import Case
from benchmarks.engine import Row
from throughtime.arrays import Array
from throughtime.gradcheck import REJECTION_BARS, CheckError, Report
from throughtime.progress import progress_bar
from throughtime.questions import check

ENTRIES = 64  # single entries of each tensor
DEVIATIONS = 2  # how many standard deviations of the noise an error bar has
BARS = (0.5, 1.0, 2.0, REJECTION_BARS)  # error bars

Scores = dict[str, list[float]]


def calibration(cases: Sequence[Case]) -> tuple[list[Row], dict[str, Array]]:
    """z = (g − n) / error of right implementations, for entries and directions at every point.

    Returns:
        rows of "part": "calibration"; "what", the precision, and entries or directions; "count";
        "within", for each of `BARS` the share of |z| up to it; "nominal", the shares of a normal
        distribution, with two standard deviations to an error bar; "largest" |z|. The second
        result has all z by "what".
    """
    scores: Scores = {}
    with progress_bar(len(cases), "calibration", "checks", sys.stderr.isatty()) as bar:
        for case in cases:
            for what, z in scored(case):
                scores.setdefault(f"{case.dtype}, {what}", []).append(z)
            bar.update()
    arrays = {what: np.array(scores[what]) for what in sorted(scores)}
    return [_row(what, z) for what, z in arrays.items()], arrays


def scored(case: Case) -> Iterator[tuple[str, float]]:
    """Every z of one right implementation; none if the check could not run."""
    try:
        with torch_layer.one_thread():
            report: Report = check(case.target(), entries=ENTRIES, diagnose=False, progress=False)
    except CheckError:
        return
    for point in report.points:
        for tensor in point.tensors.values():
            entries = zip(tensor.gradient, tensor.numerical, tensor.errors, strict=True)
            yield from (("entries", _z(*entry)) for entry in entries)
            along = ((d.gradient, d.numerical, d.error) for d in tensor.directions)
            yield from (("directions", _z(*direction)) for direction in along)


def _z(gradient: float, numerical: float, error: float) -> float:
    """z, or 0 where all three values are 0, as in a tensor to which the loss does not react."""
    if gradient == numerical:
        return 0.0
    return float((gradient - numerical) / error) if error > 0 else float("inf")


def _row(what: str, z: Array) -> Row:
    sizes = np.abs(z)
    return {
        "part": "calibration",
        "what": what,
        "count": z.size,
        "within": {str(bar): float((sizes <= bar).mean()) for bar in BARS},
        "nominal": {str(bar): nominal(bar) for bar in BARS},
        "largest": float(sizes.max()),
    }


def nominal(bars: float) -> float:
    """The share of a normal distribution that is within that many error bars.

    Example:
        >>> from benchmarks.check.calibration import nominal
        >>> round(nominal(1), 3)
        0.954
    """
    return 1 - erfc(DEVIATIONS * bars / sqrt(2))


def flat(row: Row) -> Row:
    """A row for the table: one key for each number of error bars."""
    within = {f"within_{bar}": share for bar, share in row["within"].items()}
    return row | within


def nominal_row() -> Row:
    """The row of the normal distribution, for comparison."""
    within = {f"within_{bar}": nominal(bar) for bar in BARS}
    return {"what": "nominal", "count": None, "largest": None} | within


def draw(scores: Mapping[str, Array], path: str | os.PathLike[str]) -> None:
    """Draws the share of |z| beyond each number of error bars, and the nominal share, to a file.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    figures: Any = import_module("matplotlib.figure")
    figure = figures.Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for what, z in scores.items():
        sizes = np.sort(np.abs(z))
        beyond = 1 - np.arange(sizes.size) / sizes.size
        axes.step(sizes, beyond, where="post", label=f"{what} ({sizes.size:,})")
    bars = np.linspace(0, BARS[-1], 200)
    axes.plot(bars, [1 - nominal(b) for b in bars], "k--", linewidth=1, label="nominal")
    axes.axvline(BARS[-1], color="tab:red", linewidth=1)
    axes.annotate("accused", (BARS[-1], 1), (4, 0), textcoords="offset points", va="top")
    smallest = 0.5 / max((z.size for z in scores.values()), default=1)
    axes.set(yscale="log", xlim=(0, 5), ylim=(smallest, 1.5))
    axes.set(xlabel="|gradient − numerical|, in error bars", ylabel="share beyond")
    axes.legend(fontsize="small")
    figure.savefig(os.fspath(path), dpi=150)
