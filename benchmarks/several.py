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
    """The results of `function` for all cases, in their order.

    With one worker, they are computed in this process.

    With more, joblib uses processes of this machine or, inside `joblib.parallel_config`, the
    machines of a Dask or Ray cluster.

    Args:
        function: a function that a new process can import by its name.
        cases: the arguments, which must be picklable.
        workers: the number of processes; −1: as many as the machine has cores, or the cluster
            workers.
        what: the label of the progress bar.
    """
    with progress_bar(len(cases), what, "cases", sys.stderr.isatty()) as bar:
        results: Iterator[Result] = map(function, cases)
        if workers != 1:
            results = in_processes(function, [(case,) for case in cases], workers)
        for found in results:
            bar.update()
            yield found
