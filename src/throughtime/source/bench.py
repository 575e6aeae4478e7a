"""Tries texts in a user's file, each from the same start and within a limit of time."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import types
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from throughtime.gradcheck import CheckError
from throughtime.source.older import compiled
from throughtime.source.user_files import State, UserFiles, as_check_error

GOES_ON = ("else", "elif", "except", "finally")  # with which a line goes on with a statement
LONGEST_IMPORT = 120.0  # seconds; large libraries take many, on a busy machine
ORDINARY_TRY = 0.025  # seconds, above what a small network takes; a slower one counts as several
LONGEST_TRY = 10.0  # seconds; a run of a small network takes thousandths


class TryTimeout(BaseException):
    """A try has taken too long; no `except Exception` of the user's stops it."""


class Bench:
    """The user's file, its definitions run once; each text is tried from there.

    Args:
        path: of the file.
        texts: as in `Program`.
        files: what is run instead of the file, as in `Program`.

    `tries` counts the runs, of which searches have so many; a run of slow code counts as several,
    so that a search of it ends too.
    """

    def __init__(
        self, path: Path, texts: Mapping[Path, str] | None = None, files: Any = None
    ) -> None:
        self.tries = 0
        with limited(LONGEST_IMPORT), as_check_error():
            self.files = files or UserFiles(path, frozenset(), texts or {}, None, {}, 0)
        self.space = vars(self.files.main)
        self._start = self.files.state()

    def run(self, text: str, start: State | None = None, **given: Any) -> None:
        """Runs statements from the start, or from where others ended, with names given to them.

        Raises:
            CheckError: whatever the user's code raises, in one line.
        """
        began, own = time.perf_counter(), time.process_time()
        try:
            with self.files.entered(), limited(), np.errstate(all="ignore"), as_check_error():
                self.files.restore(start or self._start)
                self.space.update(given)
                for code in _parts(text, self.files.old):
                    exec(code, self.space)
        finally:
            seconds = time.process_time() - own  # whatever else the machine is busy with
            if (waited := time.perf_counter() - began) > LONGEST_TRY:
                seconds = waited
            self.tries += max(1, round(seconds / ORDINARY_TRY))

    def runs(self, text: str, failures: list[str]) -> bool:
        """Whether statements run from the start; what they raise is added to the failures."""
        try:
            self.run(text)
        except CheckError as problem:
            failures.append(str(problem))
            return False
        return True

    def go_on(self, text: str) -> None:
        """Runs statements where the last ones ended."""
        with self.files.entered(), limited(), np.errstate(all="ignore"), as_check_error():
            exec(compiled(text, "<tried>", old=self.files.old), self.space)

    def value(self, text: str) -> Any:
        """The value of an expression where the last statements ended."""
        with self.files.entered(), limited(), as_check_error():
            return eval(text, self.space)

    def state(self) -> State:
        """Where the last statements ended."""
        with self.files.entered(), limited():
            return self.files.state()


@lru_cache(maxsize=4000)
def _parts(text: str, old: bool) -> tuple[types.CodeType, ...]:
    """The code of statements, one after another: texts share most of theirs, compiled once.

    A text that lines do not tell apart, as one with a bracket over several, is compiled whole.
    """
    chunks: list[str] = []
    for line in text.splitlines():
        if line[:1].strip() and not line.startswith(GOES_ON) and line[0] not in ")]}":
            chunks.append(line)
        elif chunks:
            chunks[-1] += f"\n{line}"
    try:
        return tuple(compiled(chunk, "<tried>", old=old) for chunk in chunks)
    except SyntaxError:
        return (compiled(text, "<tried>", old=old),)


@contextlib.contextmanager
def limited(seconds: float = LONGEST_TRY) -> Iterator[None]:
    """A limit of time for what runs inside, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(number: int, frame: object) -> None:
        raise TryTimeout

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except TryTimeout:
        raise CheckError(f"it takes longer than {seconds:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
