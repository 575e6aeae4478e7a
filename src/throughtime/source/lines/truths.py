"""The derivative of the loss by every value of the forward pass, each where it is computed.

A value is moved at its probe and the run goes on: the loss's change is ∂L/∂(that value). Moved
where it is assigned, this is the whole derivative; moved where it is used, it is one term of the
sum. A parameter is moved from one use on: its gradient as the sum from a step on, and the
differences of these are the terms of single steps.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np

from throughtime.arrays import Array
from throughtime.gradcheck import CheckError
from throughtime.source.events import Event, Instrumented, Place
from throughtime.source.probes import ProbeSite
from throughtime.source.tolerances import (
    ENTRY_BY_ENTRY,
    GATES,
    LARGEST_IN_PARTS,
    MOST_FORWARD_EVENTS,
    MOST_USES,
    MOST_USES_TOGETHER,
    MOVE,
    PLAIN_FRACTIONS,
    RANDOM_DIRECTIONS,
    ROUNDING_ULPS,
    STEP_FACTOR,
    TRUNCATION_TAIL,
)

Mover = Callable[[Array], float]
GroupKind = Literal["variable", "use", "term", "suffix", "whole"]


@dataclass(eq=False)
class Truth:
    """∂L/∂(one value), measured.

    Attributes:
        shape: of the value.
        along: (K,): the derivative along each of `directions(size)`.
        error: (K,): its error bars.
        movers: the loss where an array is added to the value; the whole derivative is the sum of
            theirs, each times its sign.
        site: where the value is computed or used; None for a parameter's sum.
        value: the value itself; None for a parameter.
        data: whether the value is the same whatever the parameters are.
        step: the number of the value among those of its place, from 0; None where it is the only
            one.
    """

    shape: tuple[int, ...]
    along: Array
    error: Array
    movers: tuple[tuple[float, Mover], ...]
    step_length: float
    site: ProbeSite | None
    step: int | None = None
    name: str = ""
    value: Array | None = None
    data: bool = False
    _full: Array | None = field(default=None, repr=False)

    @cached_property
    def size(self) -> int:
        """How many entries."""
        return int(np.prod(self.shape, dtype=int))

    @property
    def is_zero(self) -> bool:
        """Whether nothing of it exceeds its error bars."""
        return bool((np.abs(self.along) <= self.error).all())

    def full(self, loss: float, rounding: float) -> Array:
        """The whole derivative, of the value's shape; measured entry by entry at first."""
        if self._full is None:
            if self.size <= ENTRY_BY_ENTRY:
                flat = self.along
            else:
                flat = np.zeros(self.size)
                for sign, mover in self.movers:
                    one = slopes(mover, np.eye(self.size), self.step_length, loss, rounding)
                    flat = flat + sign * one[0]
            self._full = flat.reshape(self.shape)
        return self._full


@dataclass(eq=False)
class Group:
    """Derivatives that belong together: those of one variable at all its steps, in order.

    Attributes:
        kind: "variable": where it is assigned; "use": where it is used, a term of its sum; "term":
            a parameter's gradient by one step; "suffix": by one step and all later ones; "whole":
            the gradients of parameters.
        name: the variable, without index.
        truths: in the order in which the forward pass runs.
        site: where the values are.
        depth: how many calls of the user's functions lead there.
        also: further places of use, where these are sums of several terms.
    """

    kind: GroupKind
    name: str
    truths: list[Truth]
    site: ProbeSite | None = None
    depth: int = 0
    also: tuple[ProbeSite, ...] = ()

    @property
    def data(self) -> bool:
        """Whether they are derivatives by data."""
        return all(truth.data for truth in self.truths)

    @property
    def complete(self) -> bool:
        """Whether each is all of a derivative, and not one term of it."""
        return self.kind in ("variable", "whole")


@cache
def directions(size: int) -> Array:
    """(K, size): along these a value of so many entries is moved."""
    if size <= ENTRY_BY_ENTRY:
        return np.eye(size)
    return np.random.default_rng((size, 7)).standard_normal((RANDOM_DIRECTIONS, size))


def slopes(
    mover: Mover, along: Array, step: float, loss: float, rounding: float
) -> tuple[Array, Array]:
    """The derivatives of a loss along directions, and their error bars.

    Args:
        mover: takes what is added, flat; gives the loss.
        along: (K, size).
        step: in units of the directions.
        loss: where nothing is added.
        rounding: of the loss.
    """
    values = np.zeros(len(along))
    moved = False
    for n, direction in enumerate(along):
        one, other = mover(step * direction), mover(-step * direction)
        moved = moved or not one == other == loss
        values[n] = (one - other) / (2 * step)
    if not moved:
        return values, np.zeros(len(along))
    first = int(np.argmax(np.abs(values)))
    wide = 2 * step * along[first]
    twice = (mover(wide) - mover(-wide)) / (4 * step)
    # Of a central difference at twice the step three quarters of the change are truncation.
    truncation = abs(twice - values[first]) / 3 * TRUNCATION_TAIL
    errors = np.full(len(along), truncation + ROUNDING_ULPS * rounding / step)
    return values, errors


class Truths:
    """All derivatives by values of the forward pass, of one program at one point.

    Attributes:
        loss: its value.
        groups: what is known.
        places: those of the forward pass: their values move the loss.
        scalars: whether no parameter is an array: the program computes with single numbers.
        values: the values of the forward pass, by size.
        data: those of them that are the same whatever the parameters are.
        last: the sequence number of the last value that moves the loss.

    Raises:
        CheckError: where the loss is too long to look at every value.
    """

    def __init__(self, code: Instrumented) -> None:
        self.code = code
        events = code.record_loss()
        live = {name: code.program.live(name) for name in code.program.parameters}
        arrays = {name: value for name, value in live.items() if isinstance(value, np.ndarray)}
        self.scalars = not arrays
        uses = {id(event): _parameter_of(event, arrays) for event in events}
        self._data = self._unmoved(events)
        self.loss = code.loss_moved(0, np.zeros(0))
        precise = any(_precision(event.owner) < np.finfo(np.float64).precision for event in events)
        eps = float(np.finfo(np.float32 if precise else np.float64).eps)
        self.step = STEP_FACTOR * eps ** (1 / 3)
        self.rounding = eps * max(abs(self.loss), 1e-30)
        if len(events) > MOST_FORWARD_EVENTS:
            raise CheckError(
                f"the loss: expected at most {MOST_FORWARD_EVENTS} values on the way, got "
                f"{len(events)}; give fewer steps or units"
            )
        self.groups: list[Group] = []
        self.places: set[Place] = set()
        self.last = 0
        self.values: dict[int, list[Array]] = defaultdict(list)
        self.data: dict[int, list[Array]] = defaultdict(list)
        self._measure_values(
            [event for event in events if self._is_value(event, uses, arrays)],
            {event.place for event in events if uses[id(event)] is not None},
        )
        self.groups.append(Group("whole", "", []))
        for name, parameter in code.program.parameters.items():
            own = [event for event in events if uses[id(event)] == name]
            self.places |= {event.place for event in own}
            self._measure_parameter(name, parameter, own)

    def _unmoved(self, events: list[Event]) -> frozenset[int]:
        """The sequence numbers of values that are the same whatever the parameters: data."""
        given = self.code.program.parameters
        before = {name: value.copy() for name, value in given.items()}
        try:
            for value in given.values():
                value[...] = value + MOVE * _generic(value.size).reshape(value.shape)
            other = self.code.record_loss()
        finally:
            for name, value in given.items():
                value[...] = before[name]
        if [event.place for event in other] != [event.place for event in events]:
            return frozenset()
        return frozenset(
            one.sequence
            for one, two in zip(events, other, strict=True)
            if np.array_equal(one.value, two.value)
        )

    def full(self, truth: Truth) -> Array:
        """The whole of a derivative."""
        return truth.full(self.loss, self.rounding)

    def whole(self) -> Group:
        """The gradients of the parameters."""
        return next(group for group in self.groups if group.kind == "whole")

    def parts(self, names: Sequence[str]) -> Iterator[tuple[str, tuple[slice, ...], Truth]]:
        """Of gradients the parts that gates may have side by side: name, where, derivative.

        A fault in one gate leaves the others' parts right, where one tensor holds them all.
        """
        for name in names:
            value = self.code.program.parameters[name]
            for axis, size in enumerate(value.shape):
                for number in GATES:
                    if size % number or size < 2 * number or value.size > LARGEST_IN_PARTS:
                        continue
                    for n in range(number):
                        one = slice(n * size // number, (n + 1) * size // number)
                        where = tuple(one if a == axis else slice(None) for a in range(value.ndim))
                        truth = self._of_part(name, value, where)
                        if not truth.is_zero:
                            yield name, where, truth

    def _of_part(self, name: str, value: Array, where: tuple[slice, ...]) -> Truth:
        shape = value[where].shape

        def mover(change: Array) -> float:
            move = np.zeros_like(value)
            move[where] = change.reshape(shape)
            return self.code.loss_at(name, move)

        safe, length = self._safely(mover), self.step * _size_of(value)
        size = int(np.prod(shape, dtype=int))
        along, error = slopes(safe, directions(size), length, self.loss, self.rounding)
        return Truth(shape, along, error, ((1.0, safe),), length, None, name=name)

    @staticmethod
    def _is_value(event: Event, uses: dict[int, str | None], arrays: dict[str, Array]) -> bool:
        """Whether it is no parameter as a whole: a part of one is moved like any other value."""
        name = uses[id(event)]
        return name is None or event.value.size != arrays[name].size

    def _safely(self, mover: Mover) -> Mover:
        def moved(change: Array) -> float:
            try:
                return mover(change)
            except (CheckError, ArithmeticError, ValueError):
                return float("nan")

        return moved

    def _measure_values(self, events: list[Event], parts: set[Place]) -> None:
        by_place: dict[Place, list[Truth]] = defaultdict(list)
        by_variable: dict[Any, list[Truth]] = defaultdict(list)
        sites: dict[Place, ProbeSite] = {}
        counts: dict[Place, int] = defaultdict(int)
        for event in events:
            step = counts[event.place]
            counts[event.place] += 1
            truth = self._truth_of(event, step)
            if truth is None:
                continue
            self.places.add(event.place)
            self.last = max(self.last, event.sequence)
            self.values[event.value.size].append(event.value)
            if event.sequence in self._data:
                self.data[event.value.size].append(event.value)
            if event.site.kind == "whole":
                continue
            if truth.size == 1 and event.value.ndim == 0 and _is_plain(float(truth.along[0])):
                continue
            by_place[event.place].append(truth)
            sites[event.place] = event.site
            if event.site.assigns:
                key = (event.site.function, event.place[1], base_name(event.site.target))
                by_variable[key].append(truth)
        uses: dict[Any, list[Group]] = defaultdict(list)
        for place, found in by_place.items():
            site = sites[place]
            if len(found) == 1:
                found[0].step = None
            kind: GroupKind = "variable" if site.assigns and site.target else "use"
            name = base_name(site.target or site.text)
            self.groups.append(Group(kind, name, found, site, len(place[1])))
            if kind == "use" and PLACE.fullmatch(site.text) and not self.groups[-1].data:
                uses[site.function, place[1], site.text, len(found)].append(self.groups[-1])
        for place, found in by_place.items():
            if len(found) > 1 and place in parts:
                sums = [_sum(found[n:]) for n in range(len(found))]
                self.groups.append(Group("suffix", base_name(sites[place].text), sums))
        for together in uses.values():
            self._add_up(together)
        for (_, calls, name), found in by_variable.items():
            if name and len({truth.site for truth in found}) > 1:
                self.groups.append(Group("variable", name, found, found[-1].site, len(calls)))

    def _add_up(self, uses: list[Group]) -> None:
        """What several uses of a variable add up to, as all that a step makes of the state.

        The state's own derivative holds what its outputs add too, and is more than is carried.
        """
        if not 3 <= len(uses) <= MOST_USES_TOGETHER:
            return
        some: list[tuple[Group, ...]] = [*combinations(uses, 2)]
        if len(uses) > 3:
            some += combinations(uses, len(uses) - 1)
        for groups in some:
            steps = zip(*(group.truths for group in groups), strict=True)
            truths = [_sum_of(terms, n) for n, terms in enumerate(steps)]
            first, *others = groups
            also = tuple(group.site for group in others if group.site is not None)
            self.groups.append(Group("use", first.name, truths, first.site, first.depth, also))

    def _truth_of(self, event: Event, step: int) -> Truth | None:
        """The derivative by one value; None where the loss does not depend on it."""
        size = event.value.size

        def mover(change: Array) -> float:
            return self.code.loss_moved(event.sequence, change.reshape(event.value.shape))

        length = self.step * _size_of(event.value)
        safe = self._safely(mover)
        if safe(length * _generic(size)) == self.loss:
            return None
        along, error = slopes(safe, directions(size), length, self.loss, self.rounding)
        if not np.isfinite(along).all():
            return None
        movers = ((1.0, safe),)
        return Truth(
            event.value.shape,
            along,
            error,
            movers,
            length,
            event.site,
            step,
            _name(event),
            event.value,
            event.sequence in self._data,
        )

    def _measure_parameter(self, name: str, value: Array, uses: list[Event]) -> None:
        length = self.step * _size_of(value)
        starts = [event.sequence for event in uses]
        if len(starts) > MOST_USES:
            starts = starts[:1]
        suffixes = {}
        for start in [0, *starts]:
            safe = self._safely(self._mover_from(start, name, value.shape))
            along, error = slopes(safe, directions(value.size), length, self.loss, self.rounding)
            suffixes[start] = Truth(
                value.shape, along, error, ((1.0, safe),), length, None, name=name
            )
        self.whole().truths.append(suffixes.pop(0))
        by_place: dict[Place, list[Event]] = defaultdict(list)
        for event in uses:
            if event.sequence in suffixes:
                by_place[event.place].append(event)
        for found in by_place.values():
            own = [suffixes[event.sequence] for event in found]
            terms = [
                _difference(one, after, found[n].site, n)
                for n, (one, after) in enumerate(zip(own, [*own[1:], None], strict=True))
            ]
            self.groups.append(Group("term", name, terms, found[0].site))
            self.groups.append(Group("suffix", name, own, found[0].site))

    def _mover_from(self, start: int, name: str, shape: tuple[int, ...]) -> Mover:
        if start == 0:
            return lambda change: self.code.loss_at(name, change.reshape(shape))
        return lambda change: self.code.loss_from(start, name, change.reshape(shape))


def _difference(one: Truth, after: Truth | None, site: ProbeSite, step: int) -> Truth:
    """What a parameter's use at one step adds to its gradient."""
    along, error = one.along, one.error
    movers = one.movers
    if after is not None:
        along, error = along - after.along, error + after.error
        movers = (*movers, *((-sign, mover) for sign, mover in after.movers))
    return Truth(one.shape, along, error, movers, one.step_length, site, step, one.name)


def _sum(terms: list[Truth]) -> Truth:
    """The derivative by a part of a parameter, from one use on."""
    along, error = terms[0].along, terms[0].error
    movers = terms[0].movers
    for term in terms[1:]:
        along, error = along + term.along, error + term.error
        movers = (*movers, *term.movers)
    first = terms[0]
    return Truth(first.shape, along, error, movers, first.step_length, first.site, name=first.name)


def _sum_of(terms: Sequence[Truth], step: int) -> Truth:
    """The derivative by several uses of one value."""
    found = _sum(list(terms))
    first = terms[0]
    return replace(found, site=first.site, step=step, value=first.value)


PLACE = re.compile(r"([A-Za-z_][\w.]*)(\[[^\[\]]*\])*(\.T)?")  # a variable, an attribute, an item


def base_name(text: str) -> str:
    """A variable without its index and object: `self.last_hs[t + 1]` gives `last_hs`."""
    found = PLACE.fullmatch(text)
    return found[1].removesuffix(".T").rsplit(".", 1)[-1] if found else text


def _name(event: Event) -> str:
    return base_name(event.site.target or event.site.text)


def _parameter_of(event: Event, arrays: dict[str, Array]) -> str | None:
    """The parameter that an event's value is, or is a part of."""
    if not isinstance(event.owner, np.ndarray):
        return None
    for name, array in arrays.items():
        if event.owner is array or np.may_share_memory(event.owner, array):
            return name
    return None


def _precision(value: Any) -> int:
    dtype = getattr(value, "dtype", None)
    return int(np.finfo(dtype).precision) if dtype is not None and dtype.kind == "f" else 15


def _size_of(value: Array) -> float:
    return float(np.sqrt(np.mean(value**2))) or 1.0


def _generic(size: int) -> Array:
    """A move that no function but a constant one is blind to."""
    return 1.0 + np.random.default_rng((size, 3)).random(size)


def _is_plain(value: float) -> bool:
    """Whether a scalar derivative is a whole number or a fraction, as those by terms of a loss."""
    for number in (abs(value), 1 / abs(value) if value else 0.0):
        if abs(number - round(number)) < 1e-6 and round(number) <= PLAIN_FRACTIONS:
            return True
    return False
