"""One process that trains alone, in the words in which many train together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from throughtime.arrays import Array, positive, refuse
from throughtime.parameters import Parameters


@dataclass(frozen=True)
class Launch:
    """Who wrote a checkpoint: how many processes, and the launcher's name of their run."""

    processes: int = 1
    run: str = ""

    def __post_init__(self) -> None:
        positive("processes", self.processes)
        if not isinstance(self.run, str):
            refuse("run", "a string", repr(self.run)[:60])


class Processes:
    """One process; `distributed.Group` is the same for many.

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
        """What a checkpoint of this run says of it."""
        return Launch(self.size, os.environ.get("TORCHELASTIC_RUN_ID", ""))

    def share(self, count: int, rank: int | None = None) -> slice:
        """This process's part of `count` things, or another one's: the first ones get the rest.

        Example:
            >>> from throughtime.training.processes import Processes
            >>> Processes().share(5)
            slice(0, 5, None)
        """
        rank = self.rank if rank is None else rank
        least, rest = divmod(count, self.size)
        start = rank * least + min(rank, rest)
        return slice(start, start + least + (rank < rest))

    def reduced(self, gradient: Parameters, loss: float, share: float) -> float:
        """The loss of all; the gradient becomes that of all, in place.

        Args:
            gradient, loss: means over this process's streams.
            share: of all streams that these are.
        """
        return loss

    def stopping(self, wish: bool) -> bool:
        """Whether to stop, as soon as all know of the wish of one."""
        return wish

    def seconds(self, own: float) -> float:
        """The time spent, as the first process's clock has it."""
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


class StreamsOfOne(np.random.Generator):
    """Draws for all B sequences and gives those of some: masks do not depend on who runs them.

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
