"""How much work a check took, in seconds that do not depend on what else the machine does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

NEXT_TO_NOTHING = 0.1  # of the wait: whoever shares a processor with nine others still does more

_elsewhere = 0.0  # what other processes worked while this one waited for their answers


def worked() -> float:
    """Seconds of processor time of this process, and of those whose answers it waited for.

    Example:
        >>> began = worked()
        >>> sum(range(1_000_000))
        499999500000
        >>> 0 < worked() - began < 60
        True
    """
    return time.process_time() + _elsewhere


@contextmanager
def answering(pid: int) -> Iterator[None]:
    """Counts what process `pid` works meanwhile; this one does nothing but wait for it.

    Where that cannot be seen, or where it does next to nothing itself, since children of its own
    do it, the wait is what counts.
    """
    global _elsewhere
    began, work = time.perf_counter(), _processor_time(pid)
    try:
        yield
    finally:
        own, wait = _processor_time(pid) - work, time.perf_counter() - began
        _elsewhere += own if own > NEXT_TO_NOTHING * wait else wait


def _processor_time(pid: int) -> float:
    """Seconds of processor time that a process has used, where the system says so; else 0."""
    try:
        # The number of a process's clock, as clock_getcpuclockid gives it on Linux.
        return time.clock_gettime((~pid << 3) | 2)
    except (AttributeError, OSError, OverflowError):
        return 0.0
