"""Many cases in several processes, with one progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from typing import TypeVar

from throughtime.progress import progress_bar

Case = TypeVar("Case")
Result = TypeVar("Result")


def each(
    function: Callable[[Case], Result], cases: Sequence[Case], workers: int, what: str
) -> Iterator[Result]:
    """`function` of every case, in their order; with one worker in this very process.

    Args:
        function: one that a new process finds by its name.
        cases: what can be pickled.
        workers: processes.
        what: is measured, for the bar.
    """
    with ExitStack() as stack:
        bar = stack.enter_context(progress_bar(len(cases), what, "case", sys.stderr.isatty()))
        results: Iterator[Result] = map(function, cases)
        if workers > 1:
            spawned = get_context("spawn")  # torch's and jax's threads do not survive a fork
            pool = stack.enter_context(ProcessPoolExecutor(workers, mp_context=spawned))
            results = pool.map(function, cases)
        for found in results:
            bar.update()
            yield found
