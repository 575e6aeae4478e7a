"""How near the engine comes to this machine's peak: one thread, processes, and threads.

Processes of one thread each, which run the same case at the same time, do not wait for each other
and share no data. If they are slower together than one of them alone, this is due to what they
share with each other and with the other users of the machine: caches, memory and power.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter
from typing import Any

from benchmarks import engine
from benchmarks.cases import Case, Ours
from benchmarks.engine import Row, shown
from throughtime import _engine

ENOUGH = 3  # the smallest number of runs

_together: Any = None  # in each process: the barrier at which it waits before it begins


def measure(cases: Sequence[Case], seconds: float, rounds: int = 3) -> list[Row]:
    """One row per case.

    Args:
        cases, seconds, rounds: as for `engine.measure`.

    Returns:
        rows of `engine.row`, whose "peak_share" is that of all threads together. In addition,
        "one_thread" is the share of one core's peak that one thread reaches alone on the machine,
        "processes" is that of as many processes as there are threads, and "bound" is the ratio
        that this share would give, or None without torch.
    """
    return [row(case, seconds, rounds) for case in shown(cases)]


def row(case: Case, seconds: float, rounds: int) -> Row:
    """See `measure`."""
    threads = _engine.threads()
    found = engine.row(case, seconds, rounds)
    core = engine.peak(case.dtype) / threads
    one, several = (sum(_rates(case, seconds / 5, count)) for count in (1, threads))
    share = several / core / threads
    return found | {
        "one_thread": one / core,
        "processes": share,
        "bound": found["ratio"] and found["ratio"] * share / found["peak_share"],
    }


def _rates(case: Case, seconds: float, count: int) -> list[float]:
    """The GF/s of processes that run at the same time, from the fastest run of each."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count)
    with ProcessPoolExecutor(count, context, initializer=_start, initargs=(barrier,)) as pool:
        return list(pool.map(_rate, [case] * count, [seconds] * count))


def _start(barrier: Any) -> None:
    global _together
    _together = barrier
    _engine.set_threads(1)


def _rate(case: Case, seconds: float) -> float:
    """The GF/s of the fastest run, after all processes are ready."""
    ours = Ours(case)
    ours.run()
    _together.wait()
    fastest, runs, began = float("inf"), 0, perf_counter()
    while runs < ENOUGH or perf_counter() - began < seconds:
        before = perf_counter()
        ours.run()
        fastest, runs = min(fastest, perf_counter() - before), runs + 1
    return case.work / fastest / 1e9
