"""One recurrent layer, timed beside PyTorch's and JAX's.

All compute the same thing from the same numbers, which is checked before anything is timed. Then
they take turns in one process; PyTorch with a malloc that keeps its memory takes its turns in
another one. The smallest time of each counts, and of PyTorch's numbers of threads the better.
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

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}  # norm-wise, of every result


class Opponent(Protocol):
    """Another library's layer."""

    def runs(self) -> dict[str, Callable[[], object]]:
        """Name to one run; the first word of the name is the library's."""

    def results(self) -> dict[str, Array]:
        """By the names that `Ours.results` has."""


def measure(cases: Sequence[Case], seconds: float, rounds: int = 3) -> list[Row]:
    """One row a case, see `row`.

    Args:
        cases: what to time.
        seconds: how long each case may take, preparations not counted.
        rounds: turns that everyone has at least.
    """
    with ExitStack() as stack:
        tuned = stack.enter_context(Tuned()) if torch_layer.find() else None
        return [row(case, seconds, rounds, tuned) for case in shown(cases)]


def shown(cases: Sequence[Case]) -> Iterator[Case]:
    """One case after the other, with a bar where a terminal looks on."""
    with progress_bar(len(cases), "bench", "case", sys.stderr.isatty()) as bar:
        for case in cases:
            yield case
            bar.update()


def row(
    case: Case, seconds: float, rounds: int = 3, tuned: Tuned | None = None, *, alone: bool = False
) -> Row:
    """Compares, then times; what is not installed is None.

    Args:
        case, seconds, rounds: as in `measure`.
        tuned: times PyTorch with a malloc that keeps its memory; without it that is None.
        alone: whether other libraries stay out.

    Returns:
        "case"; "ours_ms"; "torch_ms" of its better number of threads; "torch_threads_ms", all
        of them; "torch_tuned_ms"; "jax_ms"; "ratio", torch_ms / ours_ms; "gflops" of ours;
        "peak_share", that over what all our threads can do at most; "error", the largest
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
    """Seconds by contestant, as a row."""
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
    """The largest relative difference of any result, once it is sure that all are small.

    Raises:
        ValueError: where a result differs by more than rounding does.
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
    """GF/s that as many threads as the engine's can do at most, all at once: fused multiply-adds
    alone, measured."""
    threads = _engine.threads()
    with ThreadPoolExecutor(threads) as pool:
        rates = [sum(pool.map(_engine.peak, [0.1] * threads)) for _ in range(5)]
    return max(rates) / (2 if dtype == "float64" else 1)
