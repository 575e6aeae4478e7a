"""What each tensor is for, found out by moving it and looking at the loss.

Moves change order and signs, which leaves an L2 term as it is. They start from a point drawn at
random, where nothing is 0 by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.laboratory import Laboratory

SAME = 1e2  # units in the loss's last place: a larger change is a reaction
SIZE = 0.5  # of what is drawn


@dataclass(frozen=True)
class Roles:
    """The parts of a recurrent network with a linear output layer.

    Attributes:
        head: name of the output layer's matrix; None where none was recognised, and then nothing
            else is known either.
        head_bias: name of its bias; None where it has none.
        matrices, vectors: names of all others.
        spare: names of biases that only add to another one.
        recurrent: by name of a matrix, which of its entries meet the state before; empty where
            a loss at T = 1 could not tell, as it cannot where the initial state is not 0.
        seen: size of what the output layer sees of a step: H, 2H for two directions, P for a
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
        """Those of the output layer."""
        return tuple(name for name in (self.head, self.head_bias) if name is not None)


def roles_of(lab: Laboratory) -> Roles:
    """The roles of a target's tensors; an empty answer where it is no network with a head."""
    return _RoleSearch(lab).roles()


class Sides(NamedTuple):
    """The two directions of the last layer: the loss sees each through half of the output layer.

    Attributes:
        one, other: names of their tensors.
        axis: of the output layer's matrix, along which it has two halves.
    """

    one: tuple[str, ...]
    other: tuple[str, ...]
    axis: int


def sides_of(lab: Laboratory, roles: Roles) -> Sides | None:
    """The last layer's two directions; None where it has one."""
    if roles.head is None or roles.seen % 2:
        return None
    search, head = _RoleSearch(lab), roles.head
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
    """The output layer without its first half, and without its second."""
    parts = np.split(head, 2, axis=axis)
    for k in (0, 1):
        kept = [part * (number != k) for number, part in enumerate(parts)]
        yield np.concatenate(kept, axis=axis)


class _RoleSearch:
    def __init__(self, lab: Laboratory) -> None:
        self.lab = lab
        self.rng = np.random.default_rng(lab.seed)
        shapes = {name: np.asarray(array).shape for name, array in lab.values.items()}
        self.matrices = [n for n, s in shapes.items() if sum(size > 1 for size in s) >= 2]
        self.vectors = [n for n in shapes if n not in self.matrices]
        self.base, self.again = (
            {name: SIZE * self.rng.standard_normal(s) for name, s in shapes.items()}
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
        """Its matrix and its bias. A projection below cuts off all others too: its shape tells."""
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
        """Whether, with this matrix at 0, the loss no longer reacts to any other."""
        others = [other for other in self.matrices if other != name]
        return bool(others) and not self.reacts(others, {name: self._zero(name)})

    def _spare(self, vectors: tuple[str, ...]) -> tuple[str, ...]:
        """The second of every two biases whose sum alone matters, at least in their first rows."""
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
        if self.lab.shorter(1) is None:
            return
        for name in matrices:
            mask = np.zeros(self.base[name].shape, bool)
            for place in _slices(self.base[name].shape):
                # Once may be chance.
                if not any(self._matters(name, place, base) for base in (self.base, self.again)):
                    mask[place] = True
            yield name, mask

    def _matters(
        self, name: str, place: tuple[slice | int, ...], base: Mapping[str, Array]
    ) -> bool:
        """Whether the loss of a single step reacts to some entries, at a point."""
        moved = base[name].copy()
        moved[place] = self._shuffled(moved[place])
        return not self._same(self._loss(base, 1), self._loss({**base, name: moved}, 1))

    def reacts(self, names: list[str], fixed: Mapping[str, Array]) -> bool:
        """Whether moving these changes the loss, with others held as given."""
        moved = {name: self._shuffled(self.base[name]) for name in names}
        return not self._same(self._loss(fixed), self._loss({**fixed, **moved}))

    def _loss(self, values: Mapping[str, Array], steps: int | None = None) -> float:
        return self.lab.loss({**self.base, **values}, steps)

    def _same(self, one: float, other: float) -> bool:
        eps = max(float(np.finfo(np.asarray(a).dtype).eps) for a in self.lab.values.values())
        return bool(abs(one - other) <= SAME * eps * max(abs(one), abs(other)))

    def _shuffled(self, array: Array) -> Array:
        """Another order, and every other sign: of classes that are equally frequent, the order
        alone may make no difference."""
        moved = np.roll(array.reshape(-1), 1)
        moved[::2] *= -1
        return np.asarray(moved.reshape(array.shape))

    def _zero(self, name: str) -> Array:
        return np.zeros(self.base[name].shape)


def alike_in_gates(masks: Mapping[str, Array], units: int) -> dict[str, Array]:
    """What is recurrent in one gate is so in all.

    A forget gate's input weights do not matter at T = 1 either, nor a reset gate's.
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
    """Rows, then columns."""
    for axis in (0, 1):
        for k in range(shape[axis]):
            yield (slice(None),) * axis + (k,)
