"""Experiments on a target: at other lengths and with other parameters, and what they have shown.

A `Study` keeps what it has found: the roles of tensors, the kind of loss, and the faults that are
undone already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.moves import Values, parabola
from throughtime.diagnosis.observed import Observed, Undo, observe, standing
from throughtime.diagnosis.roles import Roles, RoleSearch, Sides
from throughtime.diagnosis.tolerances import (
    DRAWN_PARAMETERS,
    ENTRIES_OF_A_LOOK,
    FAR_LOGIT,
    FIRST_PRICE_OF_AN_ENTRY,
    LEAST_ENTRIES_OF_A_LOOK,
    LOOKS_OF_A_BUDGET,
    STRAIGHT,
    WHOLE_NUMBER,
)
from throughtime.gradcheck import Budget, Evaluator, Spent, Target, at_length


@dataclass
class Study:
    """Experiments on a target, around the point at which its gradient is wrong.

    Args:
        target: the target as given.
        values: the values of its parameters at that point.
        budget: for all evaluations together.
        sizes: sizes of the target that are known: "B", "O", …
        seed: for what is drawn at random.
        seen: what was observed at other lengths, by T.
        price: how many evaluations an entry took in the last look.
        undone: what undoes the faults found so far in an observation, in their order.
        slack: of each tensor's largest derivative: differences as small as that are left alone.
    """

    target: Target
    values: Values
    budget: Budget
    sizes: dict[str, int] = field(default_factory=dict)
    seed: int = 0
    seen: dict[int, Observed | None] = field(default_factory=dict)
    price: float = FIRST_PRICE_OF_AN_ENTRY
    undone: list[Undo] = field(default_factory=list)
    slack: float = 0.0

    evaluates: ClassVar[bool] = True
    """Whether there is anything to evaluate."""

    @property
    def most(self) -> int:
        """Entries that a look may take, so that the budget lasts for several looks."""
        if not np.isfinite(self.budget.left):
            return ENTRIES_OF_A_LOOK
        affordable = self.budget.left / (LOOKS_OF_A_BUDGET * self.price)
        return int(np.clip(affordable, LEAST_ENTRIES_OF_A_LOOK, ENTRIES_OF_A_LOOK))

    @property
    def steps(self) -> int | None:
        """T of the target as given."""
        return self.target.steps

    def shorter(self, steps: int) -> Target | None:
        """The target at another length; None where it cannot be run at that length."""
        return self.target if steps == self.steps else at_length(self.target, steps)

    def at(self, steps: int) -> Observed | None:
        """An observation at another length; None where the target cannot be run at that length."""
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
        """An observation at another length, with other parameters, of some entries.

        The faults found so far are undone in it. With `again`, derivatives are measured with other
        steps than before.

        Returns:
            None where the target cannot be evaluated there.
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
        for undo in self.undone:
            found = found.with_gradient(undo(found))
        return found.with_slack(self.slack)

    def loss(self, values: Values, steps: int | None = None) -> float:
        """The loss with other parameters; NaN where it cannot be evaluated."""
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
        """The gradient with other parameters, in float64; None where it cannot be evaluated."""
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

    def elsewhere(
        self, places: Mapping[str, Array] | None = None, steps: int | None = None
    ) -> Observed | None:
        """An observation at drawn parameters, where what is small at the own ones is small no more.

        By default at the target's own length.

        Returns:
            None where the target cannot be evaluated there.
        """
        rng = np.random.default_rng(self.seed + 11)
        drawn = {
            name: DRAWN_PARAMETERS * rng.standard_normal(np.shape(array))
            for name, array in self.values.items()
        }
        return self.look(steps, drawn, places)

    def witnessed(self, observed: Observed) -> Observed:
        """The observation, with a second measurement of the few entries that differ by little.

        While an undone fault was still there, they were wrong like all others, and were believed.
        """
        doubtful = observed.doubtful()
        again = self.look(places=doubtful, again=True) if doubtful else None
        return observed if again is None else observed.with_second(again)

    def leave_nothing_alone(self) -> None:
        """Lets every difference count again, however small."""
        self.slack = 0.0
        self.seen = {
            T: None if one is None else one.with_slack(0.0) for T, one in self.seen.items()
        }

    def undo(self, how: Undo) -> None:
        """Undoes a fault in every observation from now on, and in those made before."""
        self.undone.append(how)
        self.seen = {
            steps: None if found is None else found.with_gradient(how(found))
            for steps, found in self.seen.items()
        }

    @cached_property
    def roles(self) -> Roles:
        """The roles of the tensors."""
        return self._role_search.roles()

    @cached_property
    def sides(self) -> Sides | None:
        """The last layer's two directions; None where it has one."""
        return self._role_search.sides(self.roles)

    @cached_property
    def idle_biases(self) -> dict[str, Array]:
        """By name of a bias, which of its entries do not matter at T = 1: a forget gate's."""
        return self._role_search.idle(self.roles.vectors)

    @cached_property
    def _role_search(self) -> RoleSearch:
        return RoleSearch(self.values, self.loss, self.seed, self.shorter(1) is not None)

    @cached_property
    def reduction(self) -> Reduction:
        """The kind of loss, and how its terms are summed."""
        return reduction_of(self, self.roles)


def _same_shapes(one: Target, other: Target) -> bool:
    return {n: a.shape for n, a in one.parameters.items()} == {
        n: a.shape for n, a in other.parameters.items()
    }


@dataclass(frozen=True)
class Reduction:
    """A loss as a function of the output layer's bias.

    Attributes:
        kind: "square", a squared error; "root", the root of one; "classes", a softmax with
            cross-entropy; "", none of these, or unknown.
        total: the sum of the weights of a cross-entropy's terms: 1 for a mean over everything,
            T·B for a sum.
        outputs: how many outputs there are; 0 where that is not known.
    """

    kind: Literal["square", "root", "classes", ""] = ""
    total: float = np.nan
    outputs: int = 0

    def sequences(self, steps: int | None) -> int | None:
        """B, if the loss sums over sequences; None where nothing shows it."""
        if not steps or not np.isfinite(self.total):
            return None
        for count, other in ((self.total / steps, 0), (self.total, steps)):  # T, B a mean: total T
            if count > 1.5 and abs(count - round(count)) < WHOLE_NUMBER and round(count) != other:
                return round(count)
        return None

    def said(self, steps: int | None) -> str:
        """The reduction in words."""
        if self.kind in ("square", "root"):
            root = "the root of " if self.kind == "root" else ""
            return f"Along the output's bias the loss is {root}a parabola: a squared error."
        if self.kind != "classes":
            return ""
        of = f", where T = {steps}" if steps else ""
        return (
            f"The weights of your loss's terms add up to {self.total:.4g}{of}: its slope far out "
            "along the output layer's bias says so."
        )


def reduction_of(study: Study, roles: Roles, steps: int | None = None) -> Reduction:
    """The reduction of a target's loss, read off its course along the output layer's bias.

    Args:
        study: where the loss is evaluated.
        roles: the roles of the target's tensors.
        steps: a length other than the target's own.
    """
    name = roles.head_bias
    if roles.head is None or name is None:
        return Reduction()
    bias = np.asarray(study.values[name])
    zero = {roles.head: np.zeros_like(study.values[roles.head])}

    def loss(place: int, value: float) -> float:
        moved = np.zeros(bias.size)
        moved[place] = value
        return study.loss({**zero, name: moved.reshape(bias.shape)}, steps)

    along = np.array([loss(0, value) for value in (-2, -1, 0, 1, 2, 3)])
    for kind, values in (("square", along), ("root", along**2)):
        if parabola(values):
            return Reduction(kind, outputs=bias.size)  # type: ignore[arg-type]
    far = np.array(
        [[loss(k, FAR_LOGIT * part) for part in (0.5, 1.0, 1.5)] for k in range(bias.size)]
    )
    slopes, bends = (far[:, 2] - far[:, 0]) / FAR_LOGIT, np.diff(far, 2)
    if not np.abs(bends).max() <= STRAIGHT * FAR_LOGIT * np.abs(slopes).max():
        return Reduction(outputs=bias.size)
    total = float(slopes.sum()) / max(bias.size - 1, 1)
    return Reduction("classes", total, bias.size) if total > 0 else Reduction(outputs=bias.size)
