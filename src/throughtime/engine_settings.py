"""Settings of the engine: readable or compiled, how many threads, what memory it keeps.

`THROUGHTIME_ENGINE=readable` selects the NumPy cells; `THROUGHTIME_THREADS` and
`THROUGHTIME_ISA` choose threads and instruction set. Results do not depend on the threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from throughtime import _engine
from throughtime.arrays import positive, refuse

Name = Literal["compiled", "readable"]
NAMES = ("compiled", "readable")


def _known(what: str, name: str) -> str:
    if name not in NAMES:
        refuse(what, "'compiled' or 'readable'", repr(name))
    return name


AT_START = _known("THROUGHTIME_ENGINE", os.environ.get("THROUGHTIME_ENGINE") or "compiled")
_chosen: ContextVar[str] = ContextVar("engine")


def use_compiled() -> bool:
    """Whether the compiled twins are used."""
    return _chosen.get(AT_START) == "compiled"


@contextmanager
def engine(name: Name) -> Iterator[None]:
    """Uses the "compiled" or the "readable" cells within a `with` block.

    Example:
        >>> import throughtime as tt
        >>> with tt.engine("readable"):
        ...     tt.engine_info()["engine"]
        'readable'
    """
    token = _chosen.set(_known("engine", name))
    try:
        yield
    finally:
        _chosen.reset(token)


_in_bfloat16: ContextVar[bool] = ContextVar("products in bfloat16", default=False)


def in_bfloat16() -> bool:
    """Whether the compiled engine multiplies matrices in bfloat16."""
    return _in_bfloat16.get()


@contextmanager
def products_in_bfloat16() -> Iterator[None]:
    """Multiplies matrices in bfloat16, within a `with` block, where the compiled engine does."""
    token = _in_bfloat16.set(True)
    try:
        yield
    finally:
        _in_bfloat16.reset(token)


def set_threads(count: int) -> None:
    """Sets how many threads the compiled engine may use; results are the same to the bit.

    The default is the number of processors, or `THROUGHTIME_THREADS`.

    Raises:
        ValueError, TypeError: for anything but an integer from 1 to 1024.
    """
    if positive("threads", count) > 1024:
        refuse("threads", "an integer from 1 to 1024", count)
    _engine.set_threads(int(count))


def release_workspace() -> int:
    """Frees the memory that the engine keeps between calls; returns the number of bytes."""
    return _engine.release_workspace()


def engine_info() -> dict[str, object]:
    """The engine in use, its instruction set, those that this processor has, and its threads.

    `"bfloat16"` names the instructions for products in bfloat16; None where there are none.

    Example:
        >>> import throughtime as tt
        >>> sorted(tt.engine_info())
        ['bfloat16', 'engine', 'isa', 'isas', 'threads']
    """
    return {
        "engine": _chosen.get(AT_START),
        "isa": _engine.isa(),
        "isas": _engine.available_isas(),
        "bfloat16": _engine.bfloat16() or None,
        "threads": _engine.threads(),
    }
