"""Experiments on a target: at other lengths and with other parameters, and what they have shown.

A `Study` keeps what it has found: the roles of tensors, the kind of loss, and the faults that are
undone already. The role of a tensor is found by moving it and looking at the loss. Moves change
the order and signs of entries, which leaves an L2 term as it is, and start from a point drawn at
random, where nothing is 0 by chance.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.observed import Observed, Undo, observe, standing
from throughtime.diagnosis.tolerances import (
    DRAWN_PARAMETERS,
    ENTRIES_OF_A_LOOK,
    FAR_LOGIT,
    FIRST_PRICE_OF_AN_ENTRY,
    LEAST_ENTRIES_OF_A_LOOK,
    LOOKS_OF_A_BUDGET,
    REACTION_ULPS,
    STRAIGHT,
    WHOLE_NUMBER,
)
from throughtime.gradcheck import Budget, Evaluator, Spent, Target, at_length

Values = Mapping[str, Array]


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
        return roles_of(self)

    @cached_property
    def sides(self) -> Sides | None:
        """The last layer's two directions; None where it has one."""
        return sides_of(self, self.roles)

    @cached_property
    def reduction(self) -> Reduction:
        """The kind of loss, and how its terms are summed."""
        return reduction_of(self, self.roles)


def _same_shapes(one: Target, other: Target) -> bool:
    return {n: a.shape for n, a in one.parameters.items()} == {
        n: a.shape for n, a in other.parameters.items()
    }


@dataclass(frozen=True)
class Roles:
    """The parts of a recurrent network with a linear output layer.

    Attributes:
        head: name of the output layer's matrix; None where none was recognised, and then nothing
            else is known either.
        head_bias: name of its bias; None where it has none.
        matrices, vectors: names of all other tensors.
        spare: names of biases that are only added to another bias.
        recurrent: by name of a matrix, which of its entries multiply the previous state; empty
            where a loss at T = 1 could not tell, as it cannot where the initial state is not 0.
        seen: how many numbers the output layer sees of a step: H, 2H for two directions, P for a
            projection; 0 where it is not known.
        projection: name of the matrix R in h = R m; None where there is none.
        units: H, of two directions together; 0 where it is not known.
    """

    head: str | None = None
    head_bias: str | None = None
    matrices: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    recurrent: Mapping[str, Array] | None = None
    seen: int = 0
    projection: str | None = None
    units: int = 0

    @property
    def hidden(self) -> tuple[str, ...]:
        """All tensors below the output layer."""
        return (*self.matrices, *self.vectors)

    @property
    def output(self) -> tuple[str, ...]:
        """The tensors of the output layer."""
        return tuple(name for name in (self.head, self.head_bias) if name is not None)


def roles_of(study: Study) -> Roles:
    """The roles of a target's tensors; no roles where it is not a network with a head."""
    return _RoleSearch(study).roles()


class Sides(NamedTuple):
    """The two directions of the last layer: the loss sees each through half of the output layer.

    Attributes:
        one, other: names of their tensors.
        axis: of the output layer's matrix, along which it has two halves.
    """

    one: tuple[str, ...]
    other: tuple[str, ...]
    axis: int


def sides_of(study: Study, roles: Roles) -> Sides | None:
    """The last layer's two directions; None where it has one."""
    if roles.head is None or roles.seen % 2:
        return None
    search, head = _RoleSearch(study), roles.head
    for axis, size in enumerate(search.base[head].shape):
        if size != roles.seen:
            continue
        one, other = (
            tuple(name for name in roles.hidden if not search.reacts([name], {head: seen}))
            for seen in _halves(search.base[head], axis)
        )
        if one and other:
            return Sides(one, other, axis)
    return None


def _halves(head: Array, axis: int) -> Iterator[Array]:
    """The output layer without its first half, and without its second half."""
    parts = np.split(head, 2, axis=axis)
    for k in (0, 1):
        kept = [part * (number != k) for number, part in enumerate(parts)]
        yield np.concatenate(kept, axis=axis)


class _RoleSearch:
    def __init__(self, study: Study) -> None:
        self.study = study
        self.rng = np.random.default_rng(study.seed)
        shapes = {name: np.asarray(array).shape for name, array in study.values.items()}
        self.matrices = [n for n, s in shapes.items() if sum(size > 1 for size in s) >= 2]
        self.vectors = [n for n in shapes if n not in self.matrices]
        self.base, self.again = (
            {name: DRAWN_PARAMETERS * self.rng.standard_normal(s) for name, s in shapes.items()}
            for _ in range(2)
        )

    def roles(self) -> Roles:
        head, bias = self._output_layer()
        if head is None:
            return Roles()
        matrices = tuple(name for name in self.matrices if name != head)
        vectors = tuple(name for name in self.vectors if name != bias)
        seen = self.base[head].size // self.base[bias].size if bias is not None else 0
        projection = self._projection(matrices, vectors) if seen else None
        units = seen if projection is None else self.base[projection].size // seen
        recurrent = alike_in_gates(dict(self._recurrent(matrices)), units)
        spare = self._spare(vectors)
        return Roles(head, bias, matrices, vectors, spare, recurrent, seen, projection, units)

    def _output_layer(self) -> tuple[str | None, str | None]:
        """Its matrix and its bias. A projection cuts off all others too, but has another shape."""
        found: list[tuple[str, str | None]] = []
        for head in reversed(self.matrices):
            if not self._cuts_off(head):
                continue
            moving = [
                name for name in self.vectors if self.reacts([name], {head: self._zero(head)})
            ]
            if len(moving) > 1:
                return None, None
            found.append((head, moving[0] if moving else None))
        fitting = [(h, b) for h, b in found if b and self.base[b].size in self.base[h].shape]
        return (*fitting, *found, (None, None))[0]

    def _projection(self, matrices: tuple[str, ...], vectors: tuple[str, ...]) -> str | None:
        """The matrix below the output layer without which no bias there matters."""
        for name in matrices if vectors else ():
            others = [other for other in (*matrices, *vectors) if other != name]
            if not self.reacts(others, {name: self._zero(name)}):
                return name
        return None

    def _cuts_off(self, name: str) -> bool:
        """Whether the loss no longer reacts to any other matrix when this one is 0."""
        others = [other for other in self.matrices if other != name]
        return bool(others) and not self.reacts(others, {name: self._zero(name)})

    def _spare(self, vectors: tuple[str, ...]) -> tuple[str, ...]:
        """Of every two biases of which only the sum matters, in their first rows, the second."""
        found: list[str] = []
        for one, other in combinations(vectors, 2):
            if self.base[one].size != self.base[other].size or one in found or other in found:
                continue
            stretch = slice(0, -(-self.base[one].size // 4))
            shift = np.zeros(self.base[one].size)
            shift[stretch] = self.rng.standard_normal(shift[stretch].shape)
            moved = {
                one: self.base[one] + shift.reshape(self.base[one].shape),
                other: self.base[other] - shift.reshape(self.base[other].shape),
            }
            if self._same(self._loss({}), self._loss(moved)):
                found.append(other)
        return tuple(found)

    def _recurrent(self, matrices: tuple[str, ...]) -> Iterator[tuple[str, Array]]:
        """Entries that the loss of a single step does not react to."""
        if self.study.shorter(1) is None:
            return
        for name in matrices:
            mask = np.zeros(self.base[name].shape, bool)
            for place in _slices(self.base[name].shape):
                # At one point alone the loss may fail to react by chance.
                if not any(self._matters(name, place, base) for base in (self.base, self.again)):
                    mask[place] = True
            yield name, mask

    def _matters(
        self, name: str, place: tuple[slice | int, ...], base: Mapping[str, Array]
    ) -> bool:
        """Whether the loss of a single step reacts to some entries at a point."""
        moved = base[name].copy()
        moved[place] = self._shuffled(moved[place])
        return not self._same(self._loss(base, 1), self._loss({**base, name: moved}, 1))

    def reacts(self, names: list[str], fixed: Mapping[str, Array]) -> bool:
        """Whether moving these tensors changes the loss, with others fixed at given values."""
        moved = {name: self._shuffled(self.base[name]) for name in names}
        return not self._same(self._loss(fixed), self._loss({**fixed, **moved}))

    def _loss(self, values: Mapping[str, Array], steps: int | None = None) -> float:
        return self.study.loss({**self.base, **values}, steps)

    def _same(self, one: float, other: float) -> bool:
        eps = max(float(np.finfo(np.asarray(a).dtype).eps) for a in self.study.values.values())
        return bool(abs(one - other) <= REACTION_ULPS * eps * max(abs(one), abs(other)))

    def _shuffled(self, array: Array) -> Array:
        """The entries in another order, every other one with another sign.

        Where all classes are equally frequent, the order alone may make no difference.
        """
        moved = np.roll(array.reshape(-1), 1)
        moved[::2] *= -1
        return np.asarray(moved.reshape(array.shape))

    def _zero(self, name: str) -> Array:
        return np.zeros(self.base[name].shape)


class Trials(_RoleSearch):
    """Single questions of a target: what does the loss react to?"""

    def spare(self, vectors: list[str]) -> tuple[str, ...]:
        """Of every two of these biases of which only the sum matters, the second."""
        return self._spare(tuple(vectors))

    def idle(self, name: str, places: Array, kept: Collection[str] | None = None) -> bool:
        """Whether the loss at T = 1 does not react to some entries, at either of two points.

        Args:
            name: the tensor.
            places: the entries, in C order.
            kept: names of tensors that have values there; all others but this one are 0. By default
                all have.
        """
        for base in (self.base, self.again):
            there = {
                n: a if kept is None or n in kept or n == name else np.zeros(a.shape)
                for n, a in base.items()
            }
            moved = there[name].copy()
            moved.reshape(-1)[places] = self._shuffled(moved.reshape(-1)[places])
            if not self._same(self._loss(there, 1), self._loss({**there, name: moved}, 1)):
                return False
        return True


def alike_in_gates(masks: Mapping[str, Array], units: int) -> dict[str, Array]:
    """Masks of recurrent entries in which all gates are alike.

    The input weights of a forget gate or a reset gate do not matter at T = 1 either.
    """
    found = dict(masks)
    stacked = False
    for name, mask in masks.items():
        for axis, gates in ((0, 4), (1, 4), (0, 3), (1, 3)):
            if units and mask.shape[axis] == gates * units:
                every = np.logical_and.reduce(np.split(mask, gates, axis=axis))
                found[name] = np.concatenate([every] * gates, axis=axis)
                stacked = True
                break
    if not stacked:
        for name, mask in masks.items():
            like = [other for other in masks.values() if other.shape == mask.shape]
            found[name] = np.logical_and.reduce(like)
    return found


def _slices(shape: tuple[int, ...]) -> Iterator[tuple[slice | int, ...]]:
    """The rows of a matrix, then its columns."""
    for axis in (0, 1):
        for k in range(shape[axis]):
            yield (slice(None),) * axis + (k,)


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
        bend = np.abs(np.diff(values, 2)).max()
        if bend > 0 and np.abs(np.diff(values, 3)).max() < STRAIGHT * bend:
            return Reduction(kind, outputs=bias.size)  # type: ignore[arg-type]
    far = np.array(
        [[loss(k, FAR_LOGIT * part) for part in (0.5, 1.0, 1.5)] for k in range(bias.size)]
    )
    slopes, bends = (far[:, 2] - far[:, 0]) / FAR_LOGIT, np.diff(far, 2)
    if not np.abs(bends).max() <= STRAIGHT * FAR_LOGIT * np.abs(slopes).max():
        return Reduction(outputs=bias.size)
    total = float(slopes.sum()) / max(bias.size - 1, 1)
    return Reduction("classes", total, bias.size) if total > 0 else Reduction(outputs=bias.size)
