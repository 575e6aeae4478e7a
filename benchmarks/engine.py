"""One recurrent layer, timed beside PyTorch's and JAX's.

All of them compute the same results from the same numbers. This is checked before anything is
timed. Then they take turns in one process. PyTorch with a malloc that keeps its memory takes its
turns in another process. The smallest time of each is reported, and for PyTorch the smallest with
any number of threads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from typing import Any, Protocol

import numpy as np

from benchmarks import jax_layer, torch_layer
from benchmarks.cases import Case, Ours
from benchmarks.jax_layer import JaxLayer
from benchmarks.timing import Clock, clock, take_turns
from benchmarks.torch_layer import TorchLayer
from benchmarks.tuned import Tuned
from throughtime import _engine
from throughtime.arrays import Array, refuse
from throughtime.progress import progress_bar

Row = dict[str, Any]

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}  # of the relative error of every result, in norm


class Opponent(Protocol):
    """Another library's layer."""

    def runs(self) -> dict[str, Callable[[], object]]:
        """One run for every name; the first word of a name is that of the library."""

    def results(self) -> dict[str, Array]:
        """Results under the names of `Ours.results`."""


def measure(cases: Sequence[Case], seconds: float, rounds: int = 3) -> list[Row]:
    """One row per case, see `row`.

    Args:
        cases: what to time.
        seconds: how long each case may take, without preparations.
        rounds: the smallest number of turns of each contestant.
    """
    with ExitStack() as stack:
        tuned = stack.enter_context(Tuned()) if torch_layer.find() else None
        return [row(case, seconds, rounds, tuned) for case in shown(cases)]


def shown(cases: Sequence[Case]) -> Iterator[Case]:
    """The cases one after another, with a progress bar if the output is a terminal."""
    with progress_bar(len(cases), "bench", "cases", sys.stderr.isatty()) as bar:
        for case in cases:
            yield case
            bar.update()


def row(
    case: Case, seconds: float, rounds: int = 3, tuned: Tuned | None = None, *, alone: bool = False
) -> Row:
    """Compares the results, then times; entries of libraries that are not installed are None.

    Args:
        case, seconds, rounds: as in `measure`.
        tuned: times PyTorch with a malloc that keeps its memory; without it this time is None.
        alone: whether other libraries are left out.

    Returns:
        "case"; "ours_ms"; "torch_ms" with its better number of threads; "torch_threads_ms" with
        each number; "torch_tuned_ms"; "jax_ms"; "ratio", torch_ms / ours_ms; "gflops" of ours;
        "peak_share", the quotient of this and the peak of all our threads; "error", the largest
        relative difference of any result from another library's.
    """
    ours, others = Ours(case), [] if alone else opponents(case)
    error = max((compare(case, ours, other) for other in others), default=None)
    contestants: dict[str, Clock] = {"ours": clock(ours.run)}
    for other in others:
        contestants |= {name: clock(run) for name, run in other.runs().items()}
    if tuned is not None:
        contestants |= tuned.clocks(case)
    return report(case, take_turns(contestants, seconds, rounds)) | {"error": error}


def report(case: Case, best: dict[str, float]) -> Row:
    """The seconds of all contestants, as a row."""
    ms = {name: 1e3 * seconds for name, seconds in best.items()}
    torch = {name.split()[1]: t for name, t in ms.items() if name.startswith("torch")}
    tuned = [t for name, t in ms.items() if name.startswith("tuned")]
    torch_ms = min(torch.values(), default=None)
    gflops = case.work / best["ours"] / 1e9
    return {
        "case": str(case),
        "ours_ms": ms["ours"],
        "torch_ms": torch_ms,
        "torch_threads_ms": torch,
        "torch_tuned_ms": min(tuned, default=None),
        "jax_ms": ms.get("jax"),
        "ratio": torch_ms and torch_ms / ms["ours"],
        "gflops": gflops,
        "peak_share": gflops / peak(case.dtype),
    }


def opponents(case: Case) -> list[Opponent]:
    """The libraries that are installed, each with the case's layer."""
    found: list[Opponent] = []
    if torch := torch_layer.find():
        found.append(TorchLayer(torch, case))
    if jax := jax_layer.find():
        found.append(JaxLayer(jax, case))
    return found


def compare(case: Case, ours: Ours | Opponent, other: Opponent) -> float:
    """The largest relative difference of any result; all of them must be small.

    Raises:
        ValueError: if a result differs by more than rounding errors.
    """
    mine, others = ours.results(), other.results()
    if mine.keys() != others.keys():
        refuse(f"{case}: results", ", ".join(others), ", ".join(mine))
    worst = 0.0
    for name, expected in others.items():
        size = np.linalg.norm(expected) or 1.0  # δU of a single step is 0: h was
        error = float(np.linalg.norm(mine[name] - expected) / size)
        if not error < TOLERANCE[case.dtype]:
            place = type(other).__name__.removesuffix("Layer")
            refuse(f"{case}: {name}", f"what {place} has", f"a relative difference of {error:.1e}")
        worst = max(worst, error)
    return worst


@cache
def peak(dtype: str) -> float:
    """The measured peak in GF/s of as many threads as the engine uses, all at once.

    They compute nothing but fused multiply-adds.
    """
    threads = _engine.threads()
    with ThreadPoolExecutor(threads) as pool:
        rates = [sum(pool.map(_engine.peak, [0.1] * threads)) for _ in range(5)]
    return max(rates) / (2 if dtype == "float64" else 1)
