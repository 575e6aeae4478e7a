"""Directions measured one after the other, or by several processes, through joblib.

Each process has its own copy of the target.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from throughtime.arrays import refuse
from throughtime.derivatives import CheckError
from throughtime.gradcheck.budget import Spent
from throughtime.gradcheck.evaluation_point import EvaluationPoint, Measurement
from throughtime.gradcheck.search_direction import SearchDirection
from throughtime.gradcheck.target import Target
from throughtime.gradcheck.tolerances import (
    CHUNKS_PER_WORKER,
    EVALUATIONS_PER_LINE,
    FEWEST_LINES,
    PROOF_MOVE,
)


class Runner(Protocol):
    """Measures directions at a point; what the budget did not reach is None."""

    def __call__(
        self, point: EvaluationPoint, directions: Sequence[SearchDirection]
    ) -> list[Measurement | None]: ...


def measure_serially(
    point: EvaluationPoint, directions: Sequence[SearchDirection]
) -> list[Measurement | None]:
    """Measures one direction after the other, in this process."""
    found: list[Measurement | None] = []
    for direction in directions:
        try:
            found.append(point.measure(direction))
        except Spent:
            found.append(None)
    return found


EXTRA = "workers need joblib and cloudpickle: pip install joblib cloudpickle"


@dataclass
class Workers:
    """Measures directions in several processes.

    joblib decides where: in processes of this machine, or, inside `joblib.parallel_config`, on
    the machines of a Dask or Ray cluster.

    Args:
        count: how many processes; −1: as many as there are cores, or workers in the cluster.
    """

    count: int

    def __post_init__(self) -> None:
        joblib = check_installed()
        self.jobs = joblib.effective_n_jobs(self.count)
        self.parallel = joblib.Parallel(n_jobs=self.count)
        self.delayed = joblib.delayed

    def for_target(self, target: Target) -> Workers:
        """Returns itself, if the target can be copied.

        This is checked at once, although a check that few directions settle may not need copies.

        Raises:
            CheckError: if it cannot.
        """
        if self.jobs > 1:
            _pickled(target)
        return self

    def __call__(
        self, point: EvaluationPoint, directions: Sequence[SearchDirection]
    ) -> list[Measurement | None]:
        """See `Runner`."""
        if (
            self.jobs < 2
            or len(directions) < FEWEST_LINES
            or point.budget.left < EVALUATIONS_PER_LINE * len(directions)
        ):
            return measure_serially(point, directions)
        proof = self._proof(point)
        parts = [
            p
            for p in np.array_split(np.arange(len(directions)), CHUNKS_PER_WORKER * self.jobs)
            if p.size
        ]
        chunks = [[directions[k] for k in part] for part in parts]
        copy = _pickled(point.portable())
        found = self.parallel(self.delayed(_measure)(copy, chunk, *proof) for chunk in chunks)
        point.budget.count(sum(used for _, used in found))
        return [measured for part, _ in found for measured in part]

    def _proof(self, point: EvaluationPoint) -> tuple[SearchDirection, float, float]:
        """A direction, the loss after a move along it, and by how much a copy may differ."""
        direction = point.direction_over_all("all")
        value = point.loss_along(direction.blocks)(PROOF_MOVE).value
        return direction, value, 100 * point.noise.at(value) + 1e-12 * abs(value)


def _measure(
    packed: bytes,
    directions: list[SearchDirection],
    proof: SearchDirection,
    expected: float,
    tolerance: float,
) -> tuple[list[Measurement | None], int]:
    """In a worker: measures the directions, and returns how many evaluations they took.

    In a copy whose loss uses other arrays than its parameters, as with module-level arrays, every
    slope would be 0.
    """
    point: EvaluationPoint = _unpacked(packed)
    refuse_other_loss(point.loss_along(proof.blocks)(PROOF_MOVE).value, expected, tolerance)
    return measure_serially(point, directions), point.budget.used


def refuse_other_loss(found: float, expected: float, tolerance: float) -> None:
    """Refuses a copy of the target whose loss at a moved point differs from the original's."""
    if abs(found - expected) > tolerance and not (np.isnan(found) and np.isnan(expected)):
        way_out = "keep the arrays in the target's own functions, not in their module"
        expected_words = f"the loss {expected:.9g}, as here, at a moved point"
        refuse("workers: a copy of the target", expected_words, f"{found:.9g}", way_out, CheckError)


def in_copies(
    original: Any, function: Callable[..., Any], work: Sequence[tuple[Any, ...]], count: int
) -> Iterator[Any]:
    """`function(copy, *arguments)` of all arguments, in their order, wherever joblib decides.

    Args:
        original: holds a target; each call has its own copy.
        function: a function that a new process can import by its name.
        work: the arguments of each call.
        count: how many processes, as in `Workers`.
    """
    check_installed()
    packed = _pickled(original)
    return in_processes(_call, [(packed, function, *arguments) for arguments in work], count)


def in_processes(
    function: Callable[..., Any], work: Iterable[tuple[Any, ...]], count: int
) -> Iterator[Any]:
    """`function(*arguments)` of all arguments, in their order, wherever joblib decides.

    Results come as they are done where joblib's backend supports it; Ray's returns all at the end.
    """
    joblib = check_installed()
    backend, _ = joblib.parallel.get_active_backend()
    streams = getattr(backend, "supports_return_generator", False)
    parallel = joblib.Parallel(n_jobs=count, return_as="generator" if streams else "list")
    return iter(parallel(joblib.delayed(function)(*arguments) for arguments in work))


def check_installed() -> Any:
    """joblib, if it and cloudpickle are installed."""
    try:
        import cloudpickle  # noqa: F401
        import joblib
    except ImportError:
        raise ImportError(EXTRA) from None
    return joblib


def _call(packed: bytes, function: Callable[..., Any], *arguments: Any) -> Any:
    return function(_unpacked(packed), *arguments)


def _unpacked(packed: bytes) -> Any:
    try:
        return pickle.loads(packed)
    except ImportError as problem:
        way_out = "put the target's modules where the workers find them: PYTHONPATH"
        refuse("workers", "modules that they can import", problem, way_out, error=CheckError)


def _pickled(original: Any) -> bytes:
    """Pickled bytes, since some backends share memory, and each worker moves its own parameters."""
    import cloudpickle

    try:
        packed: bytes = cloudpickle.dumps(original)
    except Exception as problem:  # whatever a class may raise that cannot be pickled
        seen = f"{type(problem).__name__}: {problem}"
        way_out = "build it from functions and arrays alone, or leave workers= out"
        refuse("workers", "a target that pickles", seen, way_out, error=CheckError)
    return packed


def check_workers(workers: Any) -> int:
    """The number of processes: a positive integer, or −1."""
    if isinstance(workers, bool) or not isinstance(workers, int) or (workers < 1 and workers != -1):
        refuse(
            "workers", "a positive integer, or -1 for all cores", repr(workers), error=CheckError
        )
    return workers
