"""Where experiments are made: the target at other lengths and with other parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.observed import MOST, Observed, observe, standing
from throughtime.gradcheck import Budget, Evaluator, Spent, Target, at_length

Values = Mapping[str, Array]
LOOKS = 8  # that a budget should last for
FEWEST = 40  # entries of a look


@dataclass
class Laboratory:
    """A target, the point at which its gradient is wrong, and what was looked at already.

    Args:
        target: as given.
        values: of its parameters at the point.
        budget: of all evaluations together.
        sizes: what is known of the target: "B", "O", …
    """

    target: Target
    values: Values
    budget: Budget
    sizes: dict[str, int] = field(default_factory=dict)
    seed: int = 0
    seen: dict[int, Observed | None] = field(default_factory=dict)
    price: float = 12.0  # evaluations that an entry takes; what the last look took

    @property
    def most(self) -> int:
        """Entries that a look may take, so that the budget lasts for LOOKS of them."""
        if not np.isfinite(self.budget.left):
            return MOST
        return int(np.clip(self.budget.left / (LOOKS * self.price), FEWEST, MOST))

    @property
    def steps(self) -> int | None:
        """T of the target as given."""
        return self.target.steps

    def shorter(self, steps: int) -> Target | None:
        """The target on so many steps; None where it has none."""
        return self.target if steps == self.steps else at_length(self.target, steps)

    def at(self, steps: int) -> Observed | None:
        """At another length, with the same parameters; None where the target has none."""
        if steps not in self.seen:
            self.seen[steps] = self.look(steps)
        return self.seen[steps]

    def look(
        self,
        steps: int | None = None,
        values: Values | None = None,
        places: Mapping[str, Array] | None = None,
        again: bool = False,
    ) -> Observed | None:
        """At another length, with other parameters, at some entries; None where it cannot be.

        With other steps where it looks `again`.
        """
        target = self.target if steps is None else self.shorter(steps)
        if target is None or not _same_shapes(target, self.target):
            return None
        moved = {**self.values, **(values or {})}
        before = self.budget.used
        with np.errstate(all="ignore"):
            try:
                found = observe(
                    target,
                    moved,
                    budget=self.budget,
                    places=places,
                    most=self.most,
                    sizes=self.sizes,
                    seed=self.seed,
                    again=again,
                )
            except Spent:
                raise
            except Exception:  # the user's own code, at a point that it was not meant for
                return None
        entries = sum(own.places.size for own in found.sampled.values())
        self.price = max((self.budget.used - before) / max(entries, 1), 1.0)
        return found

    def loss(self, values: Values, steps: int | None = None) -> float:
        """With other parameters; NaN where it has no value."""
        target = self.target if steps is None else self.shorter(steps)
        if target is None:
            return np.nan
        self.budget.take()
        with standing(target.parameters, {**self.values, **values}), np.errstate(all="ignore"):
            try:
                return Evaluator(target).loss()
            except Exception:  # as above
                return np.nan

    def gradient(self, values: Values) -> dict[str, Array] | None:
        """With other parameters, in float64."""
        self.budget.take()
        with (
            standing(self.target.parameters, {**self.values, **values}),
            np.errstate(all="ignore"),
        ):
            try:
                evaluator = Evaluator(self.target)
                evaluator.loss()
                found = evaluator.gradient()
            except Exception:  # as above
                return None
        return {name: array.astype(np.float64) for name, array in found.items()}


def _same_shapes(one: Target, other: Target) -> bool:
    return {n: a.shape for n, a in one.parameters.items()} == {
        n: a.shape for n, a in other.parameters.items()
    }
