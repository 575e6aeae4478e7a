"""The discrepancy over the step: noise on the left, truncation on the right, a valley between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array, in_a_line, refuse
from throughtime.derivatives import CheckError
from throughtime.gradcheck.target import Evaluator, Target
from throughtime.gradcheck.tolerances import ENTRIES_PER_PART, PROOF_MOVE
from throughtime.gradcheck.verdict import discrepancy
from throughtime.gradcheck.workers import check_workers, in_copies, refuse_other_loss
from throughtime.progress import progress_bar

EPSILONS = tuple(10.0 ** (k / 2) for k in range(-16, 1))  # 1e-8 … 1, two a decade


@dataclass(frozen=True)
class Sweep:
    """Discrepancies over steps.

    Attributes:
        epsilons: the steps of the central differences.
        tensors: d at each step, by name.
        overall: d over all tensors at each step.
    """

    epsilons: Array
    tensors: dict[str, Array]
    overall: Array

    @property
    def best(self) -> tuple[float, float]:
        """The step at the valley's bottom, and d there."""
        place = int(self.overall.argmin())
        return float(self.epsilons[place]), float(self.overall[place])

    def __str__(self) -> str:
        names = ["overall", *map(in_a_line, self.tensors)]
        columns = [self.overall, *self.tensors.values()]
        lines = ["epsilon   " + "  ".join(f"{name:>8}" for name in names)]
        for row, epsilon in enumerate(self.epsilons):
            numbers = "  ".join(f"{column[row]:8.1e}" for column in columns)
            lines.append(f"{epsilon:8.1e}  {numbers}")
        epsilon, d = self.best
        return "\n".join([*lines, f"smallest overall: d = {d:.2g} at epsilon = {epsilon:.1e}"])


def sweep_target(
    target: Target,
    epsilons: tuple[float, ...] = EPSILONS,
    *,
    workers: int = 1,
    progress: bool | None = None,
) -> Sweep:
    """The discrepancy of a target's gradient, over all its entries, at each of several fixed steps.

    A step below an entry's precision leaves it unchanged; its difference then counts as 0, which
    is what subtracting two equal losses gives.

    Args:
        target: what to sweep; every parameter costs two losses for each step.
        epsilons: the steps.
        workers: evaluate in so many processes, as in `check_target`.
        progress: whether to show a bar; by default in a terminal, after two seconds.
    """
    if not epsilons or min(epsilons) <= 0:
        refuse("epsilons", "positive numbers", epsilons, error=CheckError)
    evaluator = Evaluator(target)
    gradient = {name: array.astype(np.float64) for name, array in evaluator.gradient().items()}
    numerical = {name: np.zeros((len(epsilons), array.size)) for name, array in gradient.items()}
    parts = list(_parts(target))
    with progress_bar(sum(p.size for p in parts), "sweep", "entries", progress) as bar:
        for part, found in zip(parts, _measured(evaluator, parts, epsilons, workers), strict=True):
            numerical[part.name][:, part.start : part.start + part.size] = found
            bar.update(part.size)
    flat = {name: array.reshape(-1) for name, array in gradient.items()}
    everything = np.concatenate(list(flat.values()))
    return Sweep(
        np.array(epsilons),
        {name: _over_steps(flat[name], numerical[name]) for name in flat},
        _over_steps(everything, np.concatenate(list(numerical.values()), axis=1)),
    )


@dataclass(frozen=True)
class _EntryRange:
    """Some neighbouring entries of one tensor."""

    name: str
    start: int
    size: int


def _parts(target: Target) -> Iterator[_EntryRange]:
    for name, array in target.parameters.items():
        for start in range(0, array.size, ENTRIES_PER_PART):
            yield _EntryRange(name, start, min(ENTRIES_PER_PART, array.size - start))


def _measured(
    evaluator: Evaluator, parts: Sequence[_EntryRange], epsilons: tuple[float, ...], workers: int
) -> Iterator[Array]:
    """The numerical derivatives of each part, (steps, entries), as they are computed."""
    if check_workers(workers) == 1:
        return (_derivatives(evaluator, part, epsilons) for part in parts)
    proof = _moved_loss(evaluator)
    work = [(part, epsilons, proof) for part in parts]
    return in_copies(evaluator, _derivatives_of_a_copy, work, workers)


def _derivatives_of_a_copy(
    evaluator: Evaluator, part: _EntryRange, epsilons: tuple[float, ...], proof: float
) -> Array:
    """In a worker, whose copy must give the same loss as the original."""
    refuse_other_loss(_moved_loss(evaluator), proof, 1e-6 * abs(proof))
    return _derivatives(evaluator, part, epsilons)


def _moved_loss(evaluator: Evaluator) -> float:
    """The loss with every parameter a quarter larger."""
    before = {name: array.copy() for name, array in evaluator.target.parameters.items()}
    try:
        for array in evaluator.target.parameters.values():
            array *= 1 + PROOF_MOVE
        return evaluator.loss()
    finally:
        for name, array in evaluator.target.parameters.items():
            array[...] = before[name]


def _derivatives(evaluator: Evaluator, part: _EntryRange, epsilons: tuple[float, ...]) -> Array:
    """Central differences, (steps, entries)."""
    array = evaluator.target.parameters[part.name]
    found = np.zeros((len(epsilons), part.size))
    for k in range(part.size):
        for row, epsilon in enumerate(epsilons):
            above, below, width = _two_losses(evaluator, array, part.start + k, epsilon)
            found[row, k] = (above - below) / (width or np.inf)
    return found


def _over_steps(gradient: Array, numerical: Array) -> Array:
    return np.array([discrepancy(gradient, row) for row in numerical])


def _two_losses(
    evaluator: Evaluator, array: Array, entry: int, step: float
) -> tuple[float, float, float]:
    """L(x + h), L(x − h) and the distance between the two points, for one entry in C order.

    The entry is set, the *whole* run is evaluated, and the entry is put back, bit for bit: one
    perturbation serves all T steps. The distance is the one that the array's own precision
    could hold; 0 where the step is below it.
    """
    origin = array.flat[entry]
    try:
        array.flat[entry] = origin + step
        upper, above = float(array.flat[entry]), evaluator.loss()
        array.flat[entry] = origin - step
        lower, below = float(array.flat[entry]), evaluator.loss()
    finally:
        array.flat[entry] = origin
    return above, below, upper - lower
