"""What became of each attempt, and a process of its own for those that may end their process."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

REFUSALS = (ValueError, TypeError, OSError, ImportError)  # which the command prints in one line
PATIENCE = 120.0  # seconds after which a batch counts as hanging
ROOM = 2**30  # bytes that reading a small file may take


@dataclass
class Tally:
    """Attempts, those that were survived, and each kind of failure.

    Attributes:
        tried: how many attempts.
        silent: something wrong was taken for right: numbers nobody saved, a verdict without ground.
        error: an exception that is no refusal, a traceback, or a verdict's status without verdict.
        crash: the process died.
        hang: it did not end.
        left: a file or a process was left behind.
        examples: of failures, in words.
    """

    tried: int = 0
    silent: int = 0
    error: int = 0
    crash: int = 0
    hang: int = 0
    left: int = 0
    examples: list[str] = field(default_factory=list)

    def fail(self, kind: str, words: str) -> None:
        """Counts a failure."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.examples.append(f"{kind}: {words}")

    @property
    def failures(self) -> int:
        """Of all kinds."""
        return sum(getattr(self, kind) for kind in KINDS)

    def add(self, other: Tally) -> None:
        """Adds another one's counts."""
        self.tried += other.tried
        for kind in KINDS:
            setattr(self, kind, getattr(self, kind) + getattr(other, kind))
        self.examples += other.examples


KINDS = tuple(f.name for f in fields(Tally) if f.name not in ("tried", "examples"))


def fork() -> int:
    """As `os.fork`, without the warning of JAX, where this process holds it; no child calls it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        return os.fork()


def apart(work: Callable[[], Any], patience: float = PATIENCE) -> tuple[Any, int | None]:
    """What a fork of this process finds, as JSON has it, and its status; None for a hang."""
    reader, writer = os.pipe()
    child = fork()
    if not child:
        try:
            os.close(reader)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with os.fdopen(writer, "w") as out:
                json.dump(work(), out)
        except BaseException as problem:
            os.write(2, f"{type(problem).__name__}: {problem}\n".encode(errors="replace"))
            os._exit(99)
        os._exit(0)
    os.close(writer)
    said = b""
    with os.fdopen(reader, "rb", buffering=0) as source:
        while select.select([source], [], [], patience)[0]:
            chunk = source.read(2**16)
            if not chunk:
                break
            said += chunk
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None, None
    _, status = os.waitpid(child, 0)
    return (json.loads(said) if said else None), os.waitstatus_to_exitcode(status)


def judged(attempts: Iterable[tuple[str, Callable[[], str]]]) -> Tally:
    """Makes all attempts in one fork, with limited memory.

    An attempt returns "" for what is right and words for what is wrong but was not noticed; a
    refusal is an exception of `REFUSALS`.
    """

    def work() -> dict[str, Any]:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, resource.RLIM_INFINITY))
        tally = Tally()
        for name, attempt in attempts:
            tally.tried += 1
            try:
                wrong = attempt()
            except REFUSALS:
                continue
            except Exception as problem:
                tally.fail("error", f"{name}: {type(problem).__name__}: {problem}"[:200])
                continue
            if wrong:
                tally.fail("silent", f"{name}: {wrong}"[:200])
        return vars(tally)

    found, status = apart(work)
    if found is None:
        tally = Tally(1)
        tally.fail("hang" if status is None else "crash", f"a batch, status {status}")
        return tally
    return Tally(**found)


def processes_with(mark: str) -> list[int]:
    """The processes whose environment has this text, this one left out."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            environment = Path(f"/proc/{name}/environ").read_bytes()
            dead = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if mark.encode() in environment and not dead and int(name) != os.getpid():
            found.append(int(name))
    return found


@contextmanager
def folder() -> Iterator[Path]:
    """A folder of its own, which is removed."""
    with tempfile.TemporaryDirectory(prefix="torture-") as place:
        yield Path(place)
