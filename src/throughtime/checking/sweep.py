"""The discrepancy over the step: noise on the left, truncation on the right, a valley between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.checking.discrepancy import discrepancy
from throughtime.checking.target import CheckError, Evaluator, Target
from throughtime.progress import progress_bar

EPSILONS = tuple(10.0 ** (k / 2) for k in range(-16, 1))  # 1e-8 … 1, two a decade


@dataclass(frozen=True)
class Sweep:
    """Discrepancies over steps.

    Attributes:
        epsilons: the steps of the central differences.
        tensors: name to d at each step.
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
        names = ["overall", *self.tensors]
        columns = [self.overall, *self.tensors.values()]
        lines = ["epsilon   " + "  ".join(f"{name:>8}" for name in names)]
        for row, epsilon in enumerate(self.epsilons):
            numbers = "  ".join(f"{column[row]:8.1e}" for column in columns)
            lines.append(f"{epsilon:8.1e}  {numbers}")
        epsilon, d = self.best
        return "\n".join([*lines, f"smallest overall: d = {d:.2g} at epsilon = {epsilon:.1e}"])


def sweep_target(
    target: Target, epsilons: tuple[float, ...] = EPSILONS, *, progress: bool | None = None
) -> Sweep:
    """Discrepancy of a target's gradient, every entry of it, at each of several fixed steps.

    A step below an entry's precision leaves it unchanged; its difference then counts as 0, which
    is what subtracting two equal losses gives.

    Args:
        target: what to sweep; every parameter costs two losses a step.
        epsilons: the steps.
        progress: whether to show a bar; by default in a terminal, after two seconds.
    """
    if not epsilons or min(epsilons) <= 0:
        refuse("epsilons", "positive numbers", epsilons, error=CheckError)
    evaluator = Evaluator(target)
    gradient = {name: array.astype(np.float64) for name, array in evaluator.gradient().items()}
    numerical = {name: np.zeros((len(epsilons), array.size)) for name, array in gradient.items()}
    total = len(epsilons) * sum(array.size for array in gradient.values())
    with progress_bar(total, "sweep", "entry", progress) as bar:
        for name, array in target.parameters.items():
            for entry in range(array.size):
                for row, epsilon in enumerate(epsilons):
                    above, below, width = _two_losses(evaluator, array, entry, epsilon)
                    numerical[name][row, entry] = (above - below) / (width or np.inf)
                    bar.update()
    flat = {name: array.reshape(-1) for name, array in gradient.items()}
    everything = np.concatenate(list(flat.values()))
    return Sweep(
        np.array(epsilons),
        {name: _over_steps(flat[name], numerical[name]) for name in flat},
        _over_steps(everything, np.concatenate(list(numerical.values()), axis=1)),
    )


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
