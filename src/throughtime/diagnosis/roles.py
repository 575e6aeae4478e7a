"""The roles of a network's tensors: found by moving them and looking at the loss.

Moves change the order and signs of entries, which leaves an L2 term as it is, and start from a
point drawn at random, where nothing is 0 by chance.

The output layer is what cuts everything off: with its matrix at 0, no other tensor matters but its
own bias. That alone is no proof. In a network without biases the input weights cut everything off
too, since then every state is 0, and where there is no output layer at all, they are the only ones
that do. So one more thing has to hold:

- the loss is a parabola, or the root of one, along every line through the matrix; or it stays the
  same when one row is added to all rows, as with a softmax;
- or, between two tensors that both cut everything off: where the one is huge and the other tiny,
  the loss is that of a network cut off if the huge one is the lower, since states are bounded;
- or there is a bias that acts with nothing but it and this matrix other than 0, and it too is cut
  off;
- or, in a single step, the loss depends on one sum of its entries alone, Σ v_j h_j, however far
  they are moved: the output of one sequence. Input weights of several units reach it through an
  activation each.

Where none of these holds, no output layer is known. An output layer of two layers has a lower
matrix which cuts everything off but the upper layer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.moves import (
    ALONG,
    Loss,
    Moves,
    Place,
    Values,
    halves,
    lines_of,
    parabola,
    slices,
    turned,
    turned_back,
)
from throughtime.diagnosis.recurrent_entries import alike_in_gates, of_siblings, state_size
from throughtime.diagnosis.tolerances import (
    DRAWN_PARAMETERS,
    RESCALED,
    SAME_AS_CUT,
    STRAIGHT,
)

BIAS = re.compile(r"^b|bias|[._]b")  # how the name of a bias begins, or what it contains


@dataclass(frozen=True)
class Roles:
    """The parts of a recurrent network, with a linear output layer or without one.

    Attributes:
        head: name of the output layer's matrix, which may have one row; None where none was
            recognised.
        head_bias: name of its bias; None where it has none.
        lower: names of the other tensors above the recurrent layers: of an output layer of several
            layers, all but the last.
        headless: whether no tensor is an output layer's, since none cuts all others off.
        matrices, vectors: names of all other tensors: weights, biases.
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
    lower: tuple[str, ...] = ()
    headless: bool = False
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
        known = tuple(name for name in (self.head, self.head_bias) if name is not None)
        return (*known, *self.lower)

    @property
    def settled(self) -> bool:
        """Whether it is known which tensors are the output layer's, or that none is."""
        return self.head is not None or self.headless


class Sides(NamedTuple):
    """The two directions of the last layer: the loss sees each through half of the output layer.

    Attributes:
        one, other: names of their tensors.
        axis: of the output layer's matrix, along which it has two halves.
    """

    one: tuple[str, ...]
    other: tuple[str, ...]
    axis: int


class RoleSearch(Moves):
    """Finds the roles of a target's tensors.

    Args:
        values, loss, seed, single: as in `Moves`.
    """

    def __init__(self, values: Values, loss: Loss, seed: int = 0, single: bool = True) -> None:
        super().__init__(values, loss, seed, single)
        self.masks: dict[str, Array] = {}
        self.cutting: dict[str, list[str]] = {}

    def roles(self) -> Roles:
        """The roles; nothing is known of an output layer where there is none, or no proof of it."""
        cutting = self.cutting = self._cutting()
        head, bias = self._output_layer(cutting), None
        if head is not None:
            bias = cutting[head][0] if cutting[head] else None
        lower = self._lower_layers(head, bias) if head is not None else ()
        above = {head, bias, *lower}
        below = [name for name in self.base if name not in above]
        thick = [name for name in below if name in self.wide]
        # Before it is known which of the thin tensors are biases.
        masks = self._recurrent(below)
        vectors = self._biases(below, masks)
        matrices = tuple(name for name in below if name not in vectors)
        recurrent = of_siblings({name: mask for name, mask in masks.items() if name in matrices})
        seen = self._seen(head, bias, lower)
        projection = None
        if seen and vectors and not lower:
            cut = self._cut_by_one([name for name in thick if name in matrices], below)
            if cut is not None and head is not None and self._projects(cut, head, recurrent, seen):
                projection = cut
            elif cut is not None:
                lower = (cut,)
                matrices = tuple(name for name in matrices if name != cut)
                recurrent.pop(cut, None)
                seen = 0
        units = seen or state_size(recurrent)
        if projection is not None:
            units = self.base[projection].size // seen
        return Roles(
            head,
            bias,
            lower,
            bool(self.wide) and not cutting,
            matrices,
            vectors,
            self._spare(vectors),
            alike_in_gates(recurrent, units),
            seen,
            projection,
            units,
        )

    def sides(self, roles: Roles) -> Sides | None:
        """The last layer's two directions; None where it has one."""
        if roles.head is None or roles.lower or not roles.seen or roles.seen % 2:
            return None
        head = roles.head
        for axis, size in enumerate(self.base[head].shape):
            if size != roles.seen:
                continue
            one, other = (
                tuple(name for name in roles.hidden if not self.reacts([name], {head: seen}))
                for seen in halves(self.base[head], axis)
            )
            if one and other:
                return Sides(one, other, axis)
        return None

    def idle(self, names: Sequence[str]) -> dict[str, Array]:
        """By name, the entries that a single step does not react to; only where there are some."""
        masks = {name: self._mask(name) for name in names} if self.single else {}
        return {name: mask for name, mask in masks.items() if mask.any()}

    # --- the output layer ---

    def _cutting(self) -> dict[str, list[str]]:
        """By name of a tensor at 0 without which the loss reacts to one thin tensor at most, it."""
        found = {}
        for name in reversed(self.base):
            others = [other for other in self.wide if other != name]
            cut = {name: self._zero(name)}
            if not self.wide or (others and self.reacts(others, cut)):
                continue
            moving = [n for n in self.thin if n != name and self.reacts([n], cut)]
            if len(moving) <= 1 and self.reacts([name], {}):
                found[name] = moving
        return found

    def _output_layer(self, cutting: Mapping[str, Sequence[str]]) -> str | None:
        """Which of the tensors that cut everything off is the output layer's; None without proof.

        A combined matrix of input and recurrent weights is none: a single step tells.
        """
        proved = [name for name in cutting if self._proved(name)]
        found = proved or [name for name in cutting if not self._partly_recurrent(name)]
        if len(found) > 1:
            found = [
                n for n in found if all(self._above(n, other) for other in found if other != n)
            ]
        if len(found) != 1:
            return None
        head = found[0]
        beaten = [other for other in cutting if other != head]
        sure = head in proved or (beaten and all(self._above(head, other) for other in beaten))
        sure = sure or self._cuts_off_a_bias(head, cutting[head])
        return head if sure or self._makes_one_sum(head) else None

    def _proved(self, name: str) -> bool:
        """Whether the loss is a function of this tensor as it is of an output layer."""
        return self._softmax(name) or self._parabola(name)

    def _softmax(self, name: str) -> bool:
        """Whether the same row, or column, added to all leaves the loss as it is."""
        array = self.base[name]
        for axis, size in enumerate(array.shape):
            if size < 2 or array.ndim < 2 or array.size == size:
                continue
            turned = {name: array - 2 * array.mean(axis=axis, keepdims=True)}  # of the same size
            if self._same(self._loss({}), self._loss(turned)):
                return True
        return False

    def _parabola(self, name: str) -> bool:
        """Whether the loss, or its square, is a parabola along a line through this tensor."""
        start, way = (
            self.base[name],
            DRAWN_PARAMETERS * self.rng.standard_normal(self.base[name].shape),
        )
        along = np.array([self._loss({name: start + s * way}) for s in ALONG])
        return any(parabola(values) for values in (along, along**2))

    def _makes_one_sum(self, name: str) -> bool:
        """Whether a single step sees one sum of a row's or a column's entries, and no more.

        Across the slope the loss is then the same, near and far. Some other matrix has as many rows
        or columns as the row has entries: it is seen through that many units.
        """
        size = self.base[name].size
        fed = any(size in self.base[other].shape for other in self.wide if other != name)
        if not self.single or name not in self.thin or size < 2 or not fed:
            return False

        def loss(move: Array) -> float:
            array = self.base[name] + move.reshape(self.base[name].shape)
            return self.loss({**self.base, name: array}, 1)

        h = self.eps ** (1 / 3)
        slope = np.array([loss(h * row) - loss(-h * row) for row in np.eye(size)]) / (2 * h)
        steep = float(np.linalg.norm(slope))
        if not steep:
            return False
        way = self.rng.standard_normal(size)
        across = way - (way @ slope) / steep**2 * slope
        along = np.linalg.norm(across) / steep * slope
        moves = (0.5, 1.0, 2.0, 4.0)
        flat = [abs(loss(s * across) - loss(-s * across)) for s in moves]
        flat += [abs(loss(s * across) - loss(np.zeros(size))) for s in moves]
        return max(flat) <= STRAIGHT * max(abs(loss(s * along) - loss(-s * along)) for s in moves)

    def _above(self, upper: str, lower: str) -> bool:
        """Whether one tensor is the upper of two that cut everything off.

        Where the lower is huge, states are at their bounds, and a tiny upper one makes nothing of
        them. Where the lower is tiny and the upper huge, their product is as it was.
        """
        cut = self._loss({upper: self._zero(upper)})
        saturated, linear = (
            self._loss({upper: up * self.base[upper], lower: self.base[lower] / up})
            for up in (1 / RESCALED, RESCALED)
        )
        here = abs(linear - cut)
        return bool(abs(saturated - cut) <= SAME_AS_CUT * here)

    def _cuts_off_a_bias(self, name: str, moving: Sequence[str]) -> bool:
        """Whether some bias acts with nothing but it and this tensor other than 0."""
        below = [n for n in self.base if n != name and n not in moving]
        biases = self._biases(below, self._recurrent(below))
        return any(self._reacts_from_nothing([n], {name: self.base[name]}) for n in biases)

    def _reacts_from_nothing(self, names: Sequence[str], fixed: Values) -> bool:
        """Whether these tensors matter where all others, but those that are fixed, are 0."""
        there = {**self._all_zero(), **fixed}
        moved = {**there, **{name: self.base[name] for name in names}}
        return not self._same(self.loss(there, None), self.loss(moved, None))

    def _lower_layers(self, head: str, bias: str | None) -> tuple[str, ...]:
        """The other tensors of an output layer of several layers.

        With its matrix at 0, a lower layer still hands on its own bias, and no matrix matters but
        those above it.
        """
        above: list[str] = []
        while True:
            fitting: dict[str, list[str]] = {}  # by bias
            for name in self.base:
                if name in (head, bias, *above) or self._partly_recurrent(name):
                    continue
                moving = self._lets_through(name, [head, *above], bias)
                if moving is not None:
                    fitting.setdefault(moving, []).append(name)
            for own, names in fitting.items():
                top = [n for n in names if all(self._above(n, o) for o in names if o != n)]
                if len(top) == 1:
                    above += [top[0], own]
                    break
            else:
                return tuple(above)

    def _lets_through(self, name: str, above: Sequence[str], bias: str | None) -> str | None:
        """The one bias that a tensor at 0 lets through, while it cuts off all that lies below."""
        cut = {name: self._zero(name)}
        others = [n for n in self.wide if n not in (name, *above)]
        if not others or self.reacts(others, cut) or not self.reacts([above[0]], cut):
            return None
        thin = [n for n in self.thin if n not in (name, bias, *above)]
        moving = [n for n in thin if self.reacts([n], cut)]
        return moving[0] if len(moving) == 1 else None

    def _partly_recurrent(self, name: str) -> bool:
        """Whether a tensor has rows or columns that matter from the second step on alone.

        Recurrent ones do, and those of a gate whose operand is the initial state.
        """
        if not self.single:
            return False
        mask = self._mask(name)
        lines = [place for axis in range(mask.ndim) for place in lines_of(mask.shape, axis)]
        return any(self._acts_somewhere(name, place, 2) for place in lines if mask[place].all())

    def _seen(self, head: str | None, bias: str | None, lower: Sequence[str]) -> int:
        """How many numbers the lowest layer of the output layer sees."""
        if head is None:
            return 0
        if lower:  # the lowest one and its bias stand last
            return self.base[lower[-2]].size // self.base[lower[-1]].size
        if bias is not None and self.base[head].size % self.base[bias].size == 0:
            return self.base[head].size // self.base[bias].size
        return self.base[head].size if head in self.thin else 0

    def _cut_by_one(self, matrices: Sequence[str], below: Sequence[str]) -> str | None:
        """The matrix below the output layer without which no bias there matters."""
        for name in matrices:
            others = [other for other in below if other != name]
            if not self.reacts(others, {name: self._zero(name)}):
                return name
        return None

    def _projects(self, name: str, head: str, recurrent: Mapping[str, Array], seen: int) -> bool:
        """Whether a matrix makes the state that is fed back, and not only what the head sees.

        Numbers of the state in another order and with other signs, and all that multiplies them
        likewise, are the same network.
        """
        fed_back = {n: mask for n, mask in recurrent.items() if n != name and mask.any()}
        if not fed_back:
            return True
        for one, other in product(self._axes(name, seen), self._axes(head, seen)):
            moved = {n: turned(self.base[n], a) for n, a in ((name, one), (head, other))}
            for n, mask in fed_back.items():
                moved[n] = turned_back(self.base[n], mask, seen)
            if self._same(self._loss({}), self._loss(moved)):
                return True
        return False

    def _axes(self, name: str, size: int) -> list[int]:
        return [axis for axis, own in enumerate(self.base[name].shape) if own == size]

    # --- what lies below ---

    def _biases(self, below: Sequence[str], masks: Mapping[str, Array]) -> tuple[str, ...]:
        """Which of the thin tensors are biases: vectors, and what is called like one.

        With one input, input weights are thin too, or the rows of an embedding. Where some wide
        matrix has input weights, names that say nothing are believed to be biases'.
        """
        thin = [name for name in below if name in self.thin]
        wide = [masks[n] for n in below if n in self.wide and n in masks]
        inputs = any(mask.any() for mask in wide) and any(not mask.all() for mask in wide)
        called = [n for n in thin if self.base[n].ndim == 1 or BIAS.search(_last_word(n))]
        found = called or thin if inputs else called
        return tuple(name for name in found if self.reacts([name], {}))  # one may be unused

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

    def _recurrent(self, names: Sequence[str]) -> dict[str, Array]:
        """Entries that a single step does not react to and two steps do.

        Where inputs are one-hot, a single step does not react to what belongs to other classes
        either. Such a row or column acts at T = 2 though h_1 is 0, which a recurrent one does not.
        """
        if not self.single:
            return {}
        idle = {name: self._mask(name) for name in names}
        found = dict(idle)
        for name, mask in idle.items():
            if mask.all() or not mask.any():
                continue
            found[name] = np.zeros_like(mask)
            for place in self._recurrent_lines(name, idle):
                found[name][place] = True
        return found

    def _recurrent_lines(self, name: str, idle: Mapping[str, Array]) -> list[Place]:
        """The rows or the columns of a combined matrix that are recurrent."""
        mask, found = idle[name], []
        for axis in range(mask.ndim):
            lines = [place for place in lines_of(mask.shape, axis) if mask[place].all()]
            later = [place for place in lines if self._acts_somewhere(name, place, 2)]
            found.append(self._not_from_nothing(name, later, idle) if later else [])
        if all(found):  # a forget or reset gate, or a unit that is not seen, leaves rows idle too
            found = [own for own in found if self._of_units(name, own)]
        return [] if len(found) > 1 and all(found) else [place for own in found for place in own]

    def _of_units(self, name: str, lines: Sequence[Place]) -> bool:
        """Whether there is one of some rows or columns for each unit, of one gate or of several."""
        array = self.base[name]
        across = array.size // array.shape[len(lines[0]) - 1]
        return bool(across % len(lines) == 0)

    def _not_from_nothing(
        self, name: str, lines: Sequence[Place], idle: Mapping[str, Array]
    ) -> list[Place]:
        """Those of some lines that do nothing at T = 2 where h_1 is 0.

        It is where biases are, and all weights of this shape but these lines, or all of them; the
        tensor that meets h_1 does not matter then. With sigmoid units every tensor does, and a
        combined matrix has one recurrent line for each unit.
        """
        sure = False
        kept = np.zeros(self.base[name].shape, bool)
        for place in lines:
            kept[place] = True
        for alike in (True, False):
            thin = [n for n in self.thin if n not in self.cutting]
            zero = {n: self._zero(n) for n in (*thin, *(() if alike else idle))}
            zero |= {n: self.base[n] * kept for n in idle if self.base[n].shape == kept.shape}
            there = {**self.base, **zero}
            others = [n for n in self.cutting if n not in (name, *zero)]
            others = others or [n for n in self.wide if n not in zero]
            if not others or not all(self._acts(n, (), there, 1) for n in others):
                lines = [place for place in lines if not self._acts(name, place, there, 2)]
                sure = True
        return list(lines) if sure or (len(lines) > 1 and self._of_units(name, lines)) else []

    def _mask(self, name: str) -> Array:
        """Rows and columns that the loss of a single step does not react to."""
        if name not in self.masks:
            mask = np.zeros(self.base[name].shape, bool)
            for place in slices(mask.shape):
                if not self._acts_somewhere(name, place, 1):
                    mask[place] = True
            self.masks[name] = mask
        return self.masks[name]


def _last_word(name: str) -> str:
    """The last part of a name with dots, in small letters."""
    return name.rpartition(".")[2].lower()


class LossReactions(RoleSearch):
    """Single questions of a target: what does the loss react to?"""

    def __init__(self, study: Any) -> None:
        super().__init__(study.values, study.loss, study.seed, study.shorter(1) is not None)

    def proved_head(self, roles: Roles) -> bool:
        """Whether the loss is a function of the head's matrix as it is of an output layer alone.

        Without a single step, the upper of two layers may be taken for it.
        """
        return roles.head in self.base and self._proved(roles.head)

    def spare(self, vectors: list[str]) -> tuple[str, ...]:
        """Of every two of these biases of which only the sum matters, the second."""
        return self._spare(tuple(vectors))

    def unmoved(self, name: str, places: Array, kept: Collection[str] | None = None) -> bool:
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
            before = {**self.base, **there}
            if not self._same(self.loss(before, 1), self.loss({**before, name: moved}, 1)):
                return False
        return True
