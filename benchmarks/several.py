"""Many cases in several processes, with one progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from throughtime.gradcheck import in_processes
from throughtime.progress import progress_bar

Case = TypeVar("Case")
Result = TypeVar("Result")


def each(
    function: Callable[[Case], Result], cases: Sequence[Case], workers: int, what: str
) -> Iterator[Result]:
    """`function` of every case, in their order; with one worker in this very process.

    joblib decides where: in processes of this machine, or, inside `joblib.parallel_config`, on
    the machines of a Dask or Ray cluster.

    Args:
        function: one that a new process finds by its name.
        cases: what can be pickled.
        workers: processes; −1: as many as there are cores, or workers in the cluster.
        what: is measured, for the bar.
    """
    with progress_bar(len(cases), what, "case", sys.stderr.isatty()) as bar:
        results: Iterator[Result] = map(function, cases)
        if workers != 1:
            results = in_processes(function, [(case,) for case in cases], workers)
        for found in results:
            bar.update()
            yield found
