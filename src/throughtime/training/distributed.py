"""Data-parallel training: each process has some of the streams; all make the same updates.

Started by `torchrun`, or by whatever sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. An
update costs one all-reduce of the flat gradient, with the loss, the clock and the wish to stop
at its end. The backend is gloo, since the engine computes on the CPU.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np

from throughtime import _engine
from throughtime.arrays import Array, positive, refuse
from throughtime.engine_settings import set_threads
from throughtime.parameters import Parameters

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
EXTRA = (
    "RANK and WORLD_SIZE are set, as torchrun sets them, but training in several processes needs "
    "torch: pip install torch, or unset both to train in a single process"
)
TOGETHER = timedelta(minutes=10)  # within which all processes must have arrived
RIDERS = 4  # numbers appended to the gradient: loss, wish to stop, seconds in two parts


@dataclass(frozen=True)
class Launch:
    """Who wrote a checkpoint: how many processes, and the launcher's name for their run."""

    processes: int = 1
    run: str = ""

    def __post_init__(self) -> None:
        positive("processes", self.processes)
        if not isinstance(self.run, str):
            refuse("run", "a string", repr(self.run)[:60])


class Processes:
    """One process; `distributed.ProcessGroup` is the same for many.

    Every process holds the whole model and some of the B streams. Whatever decides how a run
    goes on (loss, gradient, time, the wish to stop) is made the same in all of them here, so
    that the trainer is written as if there were one.

    Attributes:
        rank: this process's number, from 0; the first one prints and writes files.
        size: how many there are.
    """

    rank, size = 0, 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    @property
    def first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    @property
    def launch(self) -> Launch:
        """What a checkpoint of this run records of it."""
        return Launch(self.size, os.environ.get("TORCHELASTIC_RUN_ID", ""))

    def share(self, count: int, rank: int | None = None) -> slice:
        """The part of `count` things of this process, or of another one; the first get the rest.

        Example:
            >>> from throughtime.training.distributed import Processes
            >>> Processes().share(5)
            slice(0, 5, None)
        """
        rank = self.rank if rank is None else rank
        least, rest = divmod(count, self.size)
        start = rank * least + min(rank, rest)
        return slice(start, start + least + (rank < rest))

    def reduced(self, gradient: Parameters, loss: float, share: float) -> float:
        """The loss over all processes; the gradient becomes that of all, in place.

        Args:
            gradient, loss: means over this process's streams.
            share: the share of all streams that these are.
        """
        return loss

    def stopping(self, wish: bool) -> bool:
        """Whether to stop, once all processes know that one of them wishes to."""
        return wish

    def seconds(self, own: float) -> float:
        """The time spent, by the clock of the first process."""
        return own

    def total(self, number: float) -> float:
        """Σ of a number over all processes."""
        return number

    def whole(self, own: Mapping[str, Array], batch: int) -> Mapping[str, Array]:
        """Arrays (B, …) of all streams, from those of this process's streams."""
        return own

    def agree(self, what: str, content: bytes | Array) -> None:
        """Makes sure that all processes hold the same bits.

        Raises:
            ValueError: in all of them, where one does not.
        """

    @contextmanager
    def file(self, path: str | PathLike[str]) -> Iterator[Path]:
        """The file at `path` as the first process sees it, at a place where this one can read."""
        yield Path(path)


class ShardedGenerator(np.random.Generator):
    """Draws for all B sequences and returns those of some, so that masks depend on no sharding.

    Args:
        seed: as for one process.
        own: which of the B sequences, the second axis.
        batch: B.
    """

    def __init__(self, seed: int, own: slice, batch: int) -> None:
        super().__init__(np.random.PCG64(seed))
        self.own, self.batch = own, batch

    def random(  # type: ignore[override]
        self, size: Any, dtype: Any = np.float64, out: None = None
    ) -> Any:
        """As `Generator.random`, for a shape (T, B of this process, …)."""
        steps, _, *rest = size
        return super().random((steps, self.batch, *rest), dtype=dtype)[:, self.own]


class LostWorkerError(ConnectionError):
    """A process of the group has ended, or gives no sign of life."""


def join() -> Processes:
    """The group that the environment describes, or one process alone.

    Raises:
        ImportError: where there is a group to join, but no torch.
        ValueError: for variables that do not fit together.
        LostWorkerError: where not all processes arrive within ten minutes.

    Example:
        >>> from throughtime.training import Settings, Text, Trainer, distributed
        >>> with distributed.join() as processes:
        ...     text = Text("To and fro, and to and fro again. " * 40)
        ...     settings = Settings(hidden=16, batch=4, k1=8)
        ...     trainer = Trainer(text, settings, processes)
        ...     trainer.fit(updates=2)
        >>> processes.size
        1
    """
    if not all(name in os.environ for name in VARIABLES[:2]):
        return Processes()
    size, port = _number("WORLD_SIZE", 1), _number("MASTER_PORT", 1, 2**16 - 1)
    rank, address = _number("RANK", 0, size - 1), os.environ.get("MASTER_ADDR", "")
    if not address:
        refuse("MASTER_ADDR", "the first machine's name", "none", "start the run with torchrun")
    try:
        torch = import_module("torch")
        dist = import_module("torch.distributed")
    except ImportError:
        raise ImportError(EXTRA) from None
    try:
        store, _, _ = next(dist.rendezvous("env://", rank, size, timeout=TOGETHER))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"throughtime/{attempt}", store)
        pulse = Pulse(dist.PrefixStore("pulse", store), rank, size)
        siblings = Siblings(dist.PrefixStore("siblings", store), rank, size)
        options = {"store": store, "rank": rank, "world_size": size, "timeout": TOGETHER}
        dist.init_process_group("gloo", **options)
        siblings.meet()
    except (RuntimeError, OSError) as problem:
        expected = f"{size} processes to meet at {address}:{port}"
        refuse("processes", expected, _first_line(problem), error=LostWorkerError)
    _share_cores()
    return ProcessGroup(torch, dist, rank, size, pulse, siblings)


class ProcessGroup(Processes):
    """One process of many; see `Processes`. Made by `join`, left at the end of its `with`."""

    def __init__(
        self, torch: Any, dist: Any, rank: int, size: int, pulse: Pulse, siblings: Siblings
    ) -> None:
        self._siblings = siblings
        self.rank, self.size = rank, size
        self._torch, self._dist, self._pulse = torch, dist, pulse
        self._buffer: Array = np.zeros(0)
        self._wish, self._stopping = False, False
        self._own_seconds: float | None = None
        self._seconds = 0.0
        self._waits = False
        pulse.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pulse.end()
        if self._waits:  # for a reduction that nobody answers; torch would wait for it at exit
            failed = 130 if kind is KeyboardInterrupt else 3  # as the command line's own
            atexit.register(_leave, failed if kind else 0)
            return
        with suppress(RuntimeError):  # of a connection that is closed already
            self._dist.destroy_process_group()

    # --- what the trainer asks ---

    def reduced(self, gradient: Parameters, loss: float, share: float) -> float:
        flat = gradient.flat
        if self._buffer.size != flat.size + RIDERS or self._buffer.dtype != flat.dtype:
            self._buffer = np.empty(flat.size + RIDERS, flat.dtype)
        numbers, riders = self._buffer[:-RIDERS], self._buffer[-RIDERS:]
        np.multiply(flat, flat.dtype.type(share), out=numbers)
        own = (self._own_seconds or 0.0) if self.first else 0.0
        coarse = flat.dtype.type(own)  # with the rest, seconds keep their digits in float32
        riders[:] = share * loss, self._wish, coarse, own - float(coarse)
        self._sum(self._buffer)
        flat[...] = numbers
        self._stopping = bool(riders[1] > 0)
        self._seconds = float(riders[2]) + float(riders[3])
        return float(riders[0])

    def stopping(self, wish: bool) -> bool:
        self._wish = self._wish or wish
        return self._stopping

    def seconds(self, own: float) -> float:
        if self._own_seconds is None:  # all begin with the same time, that of the checkpoint
            self._seconds = own
        self._own_seconds = own
        return self._seconds

    def total(self, number: float) -> float:
        box = np.array([number])
        self._sum(box)
        return float(box[0])

    def whole(self, own: Mapping[str, Array], batch: int) -> Mapping[str, Array]:
        return {name: self._whole(array, batch) for name, array in own.items()}

    def _whole(self, own: Array, batch: int) -> Array:
        """All processes' rows, padded with zeros and summed as integers, which keeps the bits."""
        rows = np.zeros((batch, *own.shape[1:]), own.dtype)
        rows[self.share(batch)] = own
        self._sum(rows.view(f"i{own.itemsize}"))
        return rows

    def agree(self, what: str, content: bytes | Array) -> None:
        digest = hashlib.sha256(content if isinstance(content, bytes) else content.tobytes())
        marks = np.zeros(self.size, np.int64)
        marks[self.rank] = int.from_bytes(digest.digest()[:7], "little")
        self._sum(marks)
        others = np.flatnonzero(marks != marks[0])
        if others.size:
            named = ", ".join(map(str, others))
            refuse(what, f"the same in all {self.size} processes", f"something else in {named}")

    @contextmanager
    def file(self, path: str | PathLike[str]) -> Iterator[Path]:
        there = Path(path).is_file() if self.first else False
        content = Path(path).read_bytes() if there else b""
        size = int(self.total(len(content) + 1 if there else 0)) - 1
        if size < 0:
            expected = "an existing file, on the first machine"
            refuse("file", expected, str(path), error=FileNotFoundError)
        box = np.frombuffer(content, np.uint8).copy() if there else np.zeros(size, np.uint8)
        self._sum(box)
        if self.first:
            yield Path(path)
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, Path(path).name)
            copy.write_bytes(box.tobytes())
            yield copy

    # --- the one way in which processes communicate ---

    def _sum(self, array: Array) -> None:
        """Σ over all processes, in place; the same bits in all of them."""
        self._waits = True
        self._pulse.watch()
        work = self._dist.all_reduce(self._torch.from_numpy(array), async_op=True)
        while not self._done(work):
            silent = self._pulse.silent()
            if silent:
                self._siblings.end(silent)
                named = ", ".join(str(rank) for rank in silent if rank != self.rank)
                self._lost(
                    f"no sign of life from {named} for {self._pulse.missed * self._pulse.beat:g} s"
                )
        self._waits = False

    def _done(self, work: Any) -> bool:
        """Waits a moment, so that Ctrl-C and signs of life are noticed."""
        try:
            try:
                work.wait(timedelta(seconds=self._pulse.beat))
            except RuntimeError:
                if not work.is_completed():
                    return False
                work.wait()  # raises what went wrong, unless it has just ended
        except RuntimeError as problem:
            self._waits = False
            self._lost(_first_line(problem))
        return True

    def _lost(self, actual: str) -> NoReturn:
        refuse(
            f"process {self.rank}",
            f"{self.size} processes at work",
            actual,
            "a worker is lost: start again with --resume, from the latest checkpoint",
            error=LostWorkerError,
        )


def _share_cores() -> None:
    """The engine's threads, divided among the processes of this machine."""
    if not os.environ.get("THROUGHTIME_THREADS"):
        here = _number("LOCAL_WORLD_SIZE", 1) if "LOCAL_WORLD_SIZE" in os.environ else 1
        set_threads(max(1, _engine.threads() // here))


def _number(name: str, least: int, most: int | None = None) -> int:
    """An integer from the environment."""
    text = os.environ.get(name, "")
    fits = text.isdecimal() and least <= int(text) and (most is None or int(text) <= most)
    if not fits:
        upper = "" if most is None else f" to {most}"
        expected = f"an integer from {least}{upper}"
        refuse(name, expected, repr(text), "start the run with torchrun, or unset RANK")
    return int(text)


def _first_line(problem: Exception) -> str:
    """The first sentence, without the place in torch's source where it was raised."""
    line = (str(problem).strip() or repr(problem)).splitlines()[0]
    place, found, rest = line.partition("] ")
    return (rest if found and place.startswith("[/") else line).split(". ")[0].rstrip(".")


def _leave(status: int) -> None:
    """Ends the process without waiting for a reduction that nobody answers."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


class Pulse(threading.Thread):
    """Signs of life: how one process knows that another is still there, however long it computes.

    Each process increments a counter in a store that all share, and reads the counters of the
    others. A process that waits calls `silent` once a `beat`. It counts its own looks, not
    seconds: where a whole machine was asleep, all have missed the same time and none is lost.

    Args:
        store: with `set` and `multi_get`, as torch.distributed's TCPStore.
        rank, size: of this process, and how many there are.
    """

    beat = 1.0  # seconds between two signs
    missed = 20  # signs that may be missing, as counted by the process that waits

    def __init__(self, store: Any, rank: int, size: int) -> None:
        super().__init__(name="throughtime pulse", daemon=True)
        self.store, self.rank, self.size = store, rank, size
        self.seen: list[bytes] = [b""] * size
        self._last, self._looks = self.seen, [0] * size
        self._ended = threading.Event()
        store.set(str(rank), "0")  # before anyone reads it: reading a missing key would block

    def run(self) -> None:
        """Runs until the end, or until the store is gone: then all processes fall silent."""
        names = [str(rank) for rank in range(self.size)]
        beats = 0
        try:
            while not self._ended.wait(self.beat):
                beats += 1
                self.store.set(str(self.rank), str(beats))
                self.seen = self.store.multi_get(names)
        except RuntimeError:
            return

    def watch(self) -> None:
        """Begins to wait; from now on silence is counted."""
        self._last, self._looks = self.seen, [0] * self.size

    def silent(self) -> list[int]:
        """The processes that have given no sign for `missed` looks in a row."""
        seen = self.seen
        for rank in range(self.size):
            same = seen[rank] == self._last[rank]
            self._looks[rank] = self._looks[rank] + 1 if same else 0
        self._last = seen
        return [rank for rank, looks in enumerate(self._looks) if looks >= self.missed]

    def end(self) -> None:
        """Ends the signs of life."""
        self._ended.set()
        self.join(2 * self.beat)


class Siblings:
    """The other processes that torchrun started on this machine, one of which may hang.

    Where one process ends, torchrun asks the others to end, and kills after 30 seconds those that
    do not. A process that has been silent for 20 will not answer: whoever has found it silent
    kills it.

    Args:
        store: with `set` and `multi_get`, as torch.distributed's TCPStore.
        rank, size: of this process, and how many there are.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self._store, self._names = store, [str(number) for number in range(size)]
        self._own = f"{socket.gethostname()} {os.getppid()}"
        self._there: dict[int, int] = {}
        store.set(str(rank), f"{self._own} {os.getpid()}")

    def meet(self) -> None:
        """Learns who they are once all have arrived, while the store can still be read."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return
        for rank, content in enumerate(self._store.multi_get(self._names)):
            place, _, number = content.decode().rpartition(" ")
            if place == self._own:
                self._there[rank] = int(number)

    def end(self, silent: list[int]) -> None:
        """Kills those of the silent processes that are on this machine."""
        for rank in silent:
            if self._there.get(rank, os.getpid()) != os.getpid():
                end_child(self._there[rank], os.getppid())


def end_child(process: int, parent: int) -> None:
    """Kills a process if it is still its parent's: its number may have gone to another one."""
    with suppress(OSError):
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        if int(status.rpartition(")")[2].split()[1]) == parent:
            os.kill(process, signal.SIGKILL)
