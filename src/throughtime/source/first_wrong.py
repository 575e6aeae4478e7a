"""Which assignment of a backward pass is wrong: where a true derivative, put in, mends the rest.

Values of the backward pass are replaced by true derivatives while it runs. Where that makes wrong
gradients of parameters right and no right one wrong, the fault is at or before this place; of all
such places the first to go wrong is it. With it mended, the next one is sought.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array
from throughtime.gradcheck import CheckError
from throughtime.source.events import Event, Instrumented, Place
from throughtime.source.matching import RANK, Meanings, Reading, affinity, orders
from throughtime.source.tolerances import (
    CLOSE_ENOUGH,
    FACTOR_SPREAD,
    MOST_EVALUATIONS,
    MOST_FAULTS,
    MOST_TRIALS,
    NEARER,
    NEARLY_RIGHT,
)
from throughtime.source.truths import PLACE, Group, Truth, Truths, directions

Gain = tuple[int, int, int]  # of the gradients' scores; by name; values put in
RIGHT, SCALED, WRONG = 2, 1, 0  # what a parameter's gradient is


@dataclass(frozen=True)
class Outcome:
    """One run of the backward pass.

    Attributes:
        events: of the backward pass, by place, in the order in which they ran.
        scores: for each parameter whether its gradient is right, a multiple of it, or wrong.
        errors: how far each gradient is off, as a part of its size.
    """

    events: Mapping[Place, Sequence[Event]]
    scores: Mapping[str, int]
    errors: Mapping[str, float]

    @property
    def right(self) -> bool:
        """Whether all gradients are."""
        return all(score == RIGHT for score in self.scores.values())

    @property
    def sum(self) -> int:
        """Of the scores."""
        return sum(self.scores.values())


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """What the values at one place should be.

    Attributes:
        place: of the backward pass.
        group: the derivatives that they should be.
        pairs: the number of a value among those of its place, and its derivative.
        axes: the order of a value's axes in which it should be that.
        first: the sequence number of the first value that is not what it should be.
        unchanged: for a statement that changed what was right: what it was, by number.
        partial: whether the values are derivatives, as terms of what they should be.
    """

    place: Place
    group: Group
    pairs: tuple[tuple[int, Truth], ...]
    axes: tuple[int, ...]
    first: int
    unchanged: Mapping[int, Array] = field(default_factory=dict)
    partial: bool = False


@dataclass(frozen=True, eq=False)
class Fault:
    """A place whose values are not what they should be, and what shows it.

    Attributes:
        hypothesis: what they should be.
        unknown: the operands of the first wrong value that are no derivative either: the fault may
            be in a line that makes them.
        before, after: the run without and with true values there.
        mended: the parameters whose gradients become right, or nearer to it.
    """

    hypothesis: Hypothesis
    before: Outcome
    after: Outcome
    mended: tuple[str, ...]
    unknown: tuple[Event, ...] = ()


class Search:
    """Looks for the faults of one program at one point.

    Args:
        code: the program with probes.
        truths: its derivatives.
    """

    def __init__(self, code: Instrumented, truths: Truths) -> None:
        self.code, self.truths = code, truths
        self.meanings = Meanings(truths, CLOSE_ENOUGH[0])
        self.whole = {truth.name: truth for truth in truths.whole().truths}
        self.parts: dict[str, tuple[str, tuple[slice, ...]]] = {}
        self.replaced: dict[int, Array] = {}
        wrong = [name for name, score in self.run({}).scores.items() if score == WRONG]
        for name, where, truth in truths.parts(wrong):
            label = f"part {len(self.parts) + 1} of {name}"
            self.parts[label], self.whole[label] = (name, where), truth
        self.start = self.run({})
        self.carried = self._carried()
        self.trials = 0

    # --- running ---

    def run(self, replaced: Mapping[int, Array]) -> Outcome:
        """The backward pass with some values replaced, recorded."""
        events, gradient = self.code.record_gradient(replaced)
        by_place: dict[Place, list[Event]] = defaultdict(list)
        for event in events:
            if event.place not in self.truths.places:
                by_place[event.place].append(event)
        return Outcome(by_place, *self._judged(gradient))

    def _judged(self, gradient: Mapping[str, Array]) -> tuple[dict[str, int], dict[str, float]]:
        scores: dict[str, int] = {}
        errors: dict[str, float] = {}
        factors: dict[str, float] = {}
        for name, truth in self.whole.items():
            value = self._value(gradient, name)
            scores[name], errors[name] = WRONG, np.inf
            if value.size != truth.size or not np.isfinite(value).all():
                continue
            off = directions(truth.size) @ value.reshape(-1) - truth.along
            size = float(np.linalg.norm(truth.along))
            errors[name] = float(np.linalg.norm(off)) / size if size else np.inf
            if self.meanings.is_truth(value, truth):
                scores[name] = RIGHT
            elif (
                name not in self.parts
                and (factor := self.meanings.factor(value, truth)) is not None
            ):
                factors[name] = factor
        # One factor of all gradients, as of a clip by their norm, hides which of them are right.
        for name, factor in factors.items() if RIGHT not in scores.values() else ():
            same = sum(abs(other / factor - 1) < FACTOR_SPREAD for other in factors.values())
            if factor > 0 and (same > 1 or len(scores) == 1 + len(self.parts)):
                scores[name] = SCALED
        return scores, errors

    def _value(self, gradient: Mapping[str, Array], name: str) -> Array:
        """A gradient, or the part of it that a name stands for."""
        whole, where = self.parts.get(name, (name, ()))
        value = np.asarray(gradient.get(whole, np.zeros(0)))
        return value[where] if value.ndim == len(where) else np.zeros(0) if where else value

    def _carried(self) -> frozenset[Place]:
        """The places whose values carry a gradient: they change where those that are one do."""
        seeds = {
            event.sequence: 2 * event.value
            for events in self.start.events.values()
            for event in events
            if event.value.any() and event.value.ndim and self._is_seed(event)
        }
        unknown = frozenset(
            place
            for place, events in self.start.events.items()
            if not all(self.meanings.is_forward(event.value) for event in events)
        )
        if not seeds:
            return unknown
        try:
            changed = self.run(seeds).events
        except (CheckError, ArithmeticError, ValueError, IndexError):
            return unknown
        found = set()
        for place, events in self.start.events.items():
            others = changed.get(place, ())
            same = len(others) == len(events) and all(
                np.array_equal(one.value, other.value)
                for one, other in zip(events, others, strict=True)
            )
            if not same or any(event.sequence in seeds for event in events):
                found.add(place)
        return frozenset(found)

    def _is_seed(self, event: Event) -> bool:
        """Whether a value is a derivative; a multiple of one may be data, as a one-hot vector."""
        matches = self.meanings.matches(event.value)
        exact = any(match.factor == 1.0 for match in matches)
        return exact or (bool(matches) and not self.meanings.is_data(event.value))

    # --- searching ---

    def faults(self) -> list[Fault]:
        """The faults, in the order in which they run; those found before are mended for the next.

        Gross ones come first: beside them a small penalty, which is a fault too, hides nothing.
        """
        found: list[Fault] = []
        for close in CLOSE_ENOUGH:
            self.meanings = Meanings(self.truths, close)
            outcome = self.run({})
            while not outcome.right and len(found) < MOST_FAULTS:
                fault = self._next(outcome, {f.hypothesis.place for f in found})
                if fault is None:
                    break
                found.append(fault)
                self.replaced |= self.values_of(fault.hypothesis, outcome)
                outcome = fault.after
            self.end = outcome
            if found:
                break
        needed = self._needed(found)
        return sorted(needed, key=lambda fault: fault.hypothesis.first)

    def _needed(self, found: list[Fault]) -> list[Fault]:
        """Without those that one found later, but before them in the run, has made superfluous."""
        kept = list(found)
        for number, fault in enumerate(found):
            if all(
                fault.hypothesis.first < later.hypothesis.first for later in found[number + 1 :]
            ):
                continue
            others = [other for other in kept if other is not fault]
            if self._tried(self.values_of_all(others), self.end) == 0:
                kept = others
        return kept

    def _next(self, outcome: Outcome, known: set[Place]) -> Fault | None:
        """The first place at which true values mend something.

        Places whose name says what they are meant to be are tried first. The one found bounds how
        far the others have to be tried: up to there.
        """
        likely: list[Hypothesis] = []
        others: list[Hypothesis] = []
        for place, events in outcome.events.items():
            if place not in known:
                for hypothesis in self.hypotheses(place, events, outcome):
                    (likely if self._affinity(hypothesis) else others).append(hypothesis)
        best = self._first_gain(likely, outcome, None)
        best = self._first_gain(others, outcome, best)
        trials = [*likely, *others]
        seen: set[Place] = set(known)
        while best is not None:
            # What it is made of may be a derivative, and not the one that is meant.
            made_of = self._makers(best[1], outcome) - seen
            seen |= made_of
            further = [
                hypothesis
                for place in made_of
                for hypothesis in self.hypotheses(place, outcome.events[place], outcome, True)
            ]
            trials += further
            earlier = self._first_gain(further, outcome, best)
            if earlier is best or earlier is None:
                if not made_of:
                    break
                continue
            best = earlier
        if best is None:
            return None
        hypothesis = self._last_copy(best[1], trials, outcome)
        after = self.run(self.replaced | self.values_of(hypothesis, outcome))
        better = [
            name
            for name, score in after.scores.items()
            if score > outcome.scores[name]
            or (name not in self.parts and after.errors[name] < outcome.errors[name] / NEARER)
        ]
        wholes = [name for name in better if name not in self.parts]
        mended = tuple(wholes or dict.fromkeys(self.parts[name][0] for name in better))
        return Fault(hypothesis, outcome, after, mended, self._not_understood(hypothesis, outcome))

    def _makers(self, hypothesis: Hypothesis, outcome: Outcome) -> set[Place]:
        """The places that assign the variables of a statement."""
        site = self.code.probes.sites[hypothesis.place[0]]
        statement, _ = self.code.probes.statements[site.statement]
        names = {
            ast.unparse(node)
            for node in ast.walk(statement)
            if isinstance(node, ast.Name | ast.Attribute)
        }
        return {
            place
            for place, events in outcome.events.items()
            if events[0].site.assigns
            and place != hypothesis.place
            and place[1] == hypothesis.place[1]
            and events[0].site.function == site.function
            and events[0].site.target.split("[")[0] in names
        }

    def made_of(self, fault: Fault) -> Iterator[Hypothesis]:
        """For the variables that a wrong line is made of and that are no derivatives, what they
        should be as they are called."""
        outcome = fault.before
        for place in sorted(self._makers(fault.hypothesis, outcome)):
            events = outcome.events[place]
            earlier = events[0].sequence < fault.hypothesis.first
            if not earlier or place not in self.carried or self.meanings.readings(events):
                continue
            for group in self.truths.groups:
                target = self.code.probes.sites[place[0]].target
                if group.kind == "variable" and affinity(target, group.name) == 2:
                    yield from self._as_group(place, events, group, False)

    def _first_gain(
        self,
        trials: Sequence[Hypothesis],
        outcome: Outcome,
        best: tuple[Gain, Hypothesis] | None,
    ) -> tuple[Gain, Hypothesis] | None:
        """The best hypothesis of the first place, in order of execution, that has one with a gain.

        Args:
            best: one that is known to have a gain: only places before it, and its own, are tried.
        """
        for hypothesis in sorted(trials, key=lambda hypothesis: hypothesis.first):
            if best is not None:
                if hypothesis.first > best[1].first:
                    break
                if hypothesis.first == best[1].first and hypothesis.place != best[1].place:
                    continue
            if self.trials >= MOST_TRIALS or self.code.evaluations >= MOST_EVALUATIONS:
                break
            self.trials += 1
            gain = self._gain(hypothesis, outcome)
            earlier = best is None or hypothesis.place != best[1].place
            if gain is not None and (earlier or (best is not None and gain > best[0])):
                best = (gain, hypothesis)
        return best

    def _last_copy(
        self, first: Hypothesis, trials: Sequence[Hypothesis], outcome: Outcome
    ) -> Hypothesis:
        """Of places with the same values, a derivative but not the one that is meant, the last.

        It is there that the other terms are lost, or that a factor should have come in.
        """
        values = [event.value for event in outcome.events[first.place]]
        if not first.partial:
            return first
        found = first
        for other in trials:
            events = outcome.events[other.place]
            same = len(events) == len(values) and all(
                np.array_equal(value.reshape(-1), event.value.reshape(-1))
                for value, event in zip(values, events, strict=True)
            )
            later = same and other.partial and other.first > found.first
            if later and _key(other) == _key(first) and self._gain(other, outcome) is not None:
                found = other
        return found

    def _affinity(self, hypothesis: Hypothesis) -> int:
        site = self.code.probes.sites[hypothesis.place[0]]
        return affinity(site.target or site.text, hypothesis.group.name)

    def _gain(self, hypothesis: Hypothesis, outcome: Outcome) -> Gain | None:
        """What true values there bring; None where nothing, or where they spoil something."""
        values = self.values_of(hypothesis, outcome)
        gained = self._tried(self.replaced | values, outcome)
        if gained is None or gained <= 0:
            return None
        return (gained, self._affinity(hypothesis), len(values))

    def _tried(self, replaced: Mapping[int, Array], before: Outcome) -> int | None:
        """How much better the gradients are with these values; None where one is spoilt."""
        try:
            scores, errors = self._judged(self.code.gradient_replaced(replaced))
        except (CheckError, ArithmeticError, ValueError, IndexError):
            return None
        gained = near = 0
        for name, score in before.scores.items():
            # Beside a small fault, as a penalty, a gradient is nearer to right, and not yet that.
            part = name in self.parts
            nearer = not part and errors[name] <= min(before.errors[name] / NEARER, NEARLY_RIGHT)
            if scores[name] < score and not nearer:
                return None
            gained += max(scores[name] - score, 0)
            near += nearer and score != RIGHT and scores[name] <= score
        # One may be nearer by chance.
        left = [n for n, score in before.scores.items() if score != RIGHT and n not in self.parts]
        alone = len(left) == 1
        return gained + near if near > 1 or alone else gained

    def _not_understood(self, hypothesis: Hypothesis, outcome: Outcome) -> tuple[Event, ...]:
        """The operands of the first wrong value that carry a gradient and are no derivative."""
        if hypothesis.unchanged:
            return ()
        own = outcome.events[hypothesis.place]
        wrong = next(event for event in own if event.sequence == hypothesis.first)
        before = max((e.sequence for e in own if e.sequence < wrong.sequence), default=0)
        found = []
        for place, events in outcome.events.items():
            site = self.code.probes.sites[place[0]]
            if (
                site.statement != wrong.site.statement
                or place[1] != hypothesis.place[1]
                or place not in self.carried
                or not PLACE.fullmatch(site.text)
                or site.kind not in ("value", "added")
                or place == hypothesis.place
            ):
                continue
            found += [
                event
                for event in events
                if before < event.sequence < wrong.sequence
                and event.value.any()
                and event.value.ndim
                and not self.meanings.matches(event.value)
            ]
        return tuple(found)

    def values_of(self, hypothesis: Hypothesis, outcome: Outcome) -> dict[int, Array]:
        """What is put in, by sequence number."""
        values = {}
        events = outcome.events[hypothesis.place]
        for number, truth in hypothesis.pairs:
            event = events[number]
            if number in hypothesis.unchanged:
                values[event.sequence] = hypothesis.unchanged[number]
                continue
            back = np.argsort(hypothesis.axes)
            laid = [event.value.shape[axis] for axis in hypothesis.axes]
            values[event.sequence] = np.transpose(self.truths.full(truth).reshape(laid), back)
        return values

    def values_of_all(self, faults: Sequence[Fault]) -> dict[int, Array]:
        """The true values for several faults."""
        found: dict[int, Array] = {}
        for fault in faults:
            found |= self.values_of(fault.hypothesis, fault.before)
        return found

    # --- what a place could be meant to be ---

    def hypotheses(
        self, place: Place, events: Sequence[Event], outcome: Outcome, whatever: bool = False
    ) -> Iterator[Hypothesis]:
        """What the values at a place could be meant to be, where they are not that.

        Args:
            whatever: also where they are a derivative: it may be another than is meant.
        """
        site = self.code.probes.sites[place[0]]
        if place not in self.carried or site.kind == "value":
            # A variable that stays 0, as the error from the next step where none is passed on.
            zero = len(events) > 1 and not any(event.value.any() for event in events)
            loaded = site.kind == "value" and PLACE.fullmatch(site.text)
            if not (zero and (loaded or site.kind == "store")):
                return
        if len(events) == 1 and not events[0].value.any():
            return
        if events[0].value.ndim == 0 and not self.truths.scalars:
            return
        readings = self.meanings.readings(events)
        exact = [reading for reading in readings if reading.exact and not reading.group.data]
        if site.kind in ("changed", "whole", "store"):
            yield from self._left_alone(place, events, outcome)
        if site.operator in ("Add", "Sub") and site.kind == "changed":
            return  # a sum is as right as what is added to it
        start = next((event for event in events if event.value.any()), None)
        likely = [] if start is None else self.meanings.matches(start.value)
        begins = {
            id(match.group) for match in likely if match.factor == 1.0 and not match.group.data
        }
        # A multiple of one derivative lacks the factor, and is not meant to be another one.
        scaled = {
            id(reading.group)
            for reading in readings
            if not exact and not reading.group.data and reading.group.kind != "whole"
        }
        tried: set[object] = set()
        for group in sorted(self.truths.groups, key=lambda group: RANK[group.kind]):
            if scaled and not whatever and id(group) not in scaled:
                continue
            likely_name = exact and affinity(site.target, group.name) == 2
            free = whatever or likely_name
            if exact and not free and group.kind not in ("variable", "suffix", "whole"):
                continue
            if begins and not exact and not whatever and id(group) not in begins:
                continue  # right at first: what it is meant to be is known
            for hypothesis in self._as_group(place, events, group, bool(exact or begins)):
                if (
                    exact
                    and not free
                    and not any(_widens(hypothesis, reading) for reading in exact)
                ):
                    continue
                if (key := _key(hypothesis)) not in tried:
                    tried.add(key)
                    yield hypothesis

    def _as_group(
        self, place: Place, events: Sequence[Event], group: Group, partial: bool
    ) -> Iterator[Hypothesis]:
        """The values as those of a group, last step first, at shifts by one step."""
        count, size = len(group.truths), len(events)
        if group.kind == "whole":
            choices = [[(0, truth)] for truth in group.truths if truth.size == events[0].value.size]
            if size > 1:
                choices = []
        elif size == 1:
            choices = [[(0, group.truths[-1])]]
            if count > 1:
                choices.append([(0, group.truths[0])])
        else:
            choices = []
            for shift in (0,) if group.kind == "suffix" else (0, 1, -1):
                numbers = [(n, count - 1 - n - shift) for n in range(size)]
                chosen = [(n, group.truths[m]) for n, m in numbers if 0 <= m < count]
                if len(chosen) >= max(1, size - 1):
                    choices.append(chosen)
        for pairs in choices:
            for axes in self._axes(events, pairs):
                off = [
                    events[n].sequence
                    for n, truth in pairs
                    if not self.meanings.is_truth(events[n].value, truth, axes)
                ]
                if off:
                    yield Hypothesis(place, group, tuple(pairs), axes, min(off), partial=partial)

    def _axes(
        self, events: Sequence[Event], pairs: Sequence[tuple[int, Truth]]
    ) -> list[tuple[int, ...]]:
        """The orders of axes in which values have the shape of their derivatives."""
        shape = events[0].value.shape
        wanted = [size for size in pairs[0][1].shape if size > 1]
        if any(
            events[n].value.size != truth.size or events[n].value.shape != shape
            for n, truth in pairs
        ):
            return []
        found = [
            axes
            for axes in orders(shape)
            if [shape[axis] for axis in axes if shape[axis] > 1] == wanted
        ]
        return found[:1]

    def _left_alone(
        self, place: Place, events: Sequence[Event], outcome: Outcome
    ) -> Iterator[Hypothesis]:
        """For values that were right until a statement changed them: what they were."""
        pairs, unchanged, off, group = [], {}, [], None
        for number, event in enumerate(events):
            before = _before(event, outcome)
            if before is None:
                return
            match = next(
                (m for m in self.meanings.matches(before) if m.group.kind in ("whole", "suffix")),
                None,
            )
            if match is None:
                return
            truth = match.group.truths[match.index]
            pairs.append((number, truth))
            unchanged[number] = before / match.factor
            group = match.group
            if not self.meanings.is_truth(event.value, truth, match.axes):
                off.append(event.sequence)
        if group is not None and off:
            axes = tuple(range(events[0].value.ndim))
            yield Hypothesis(place, group, tuple(pairs), axes, min(off), unchanged)


def _widens_any(hypothesis: Hypothesis, readings: Sequence[Reading]) -> bool:
    return any(_widens(hypothesis, reading) for reading in readings)


def _widens(hypothesis: Hypothesis, reading: Reading) -> bool:
    """Whether it takes values that are right as one term for the whole sum.

    That is so for a variable that has the value of the one whose term it is, and for a parameter.
    """
    if reading.group.name == hypothesis.group.name and reading.group.kind in ("term", "suffix"):
        return hypothesis.group.kind in ("suffix", "whole")
    if hypothesis.group.kind == "whole":
        return reading.group.name == hypothesis.pairs[0][1].name
    seen = 0
    for number, truth in hypothesis.pairs:
        index = reading.indices[number]
        if index is None:
            continue
        one, other = reading.group.truths[index].value, truth.value
        if one is None or other is None:
            return False
        if one.size != other.size or not np.array_equal(one.reshape(-1), other.reshape(-1)):
            return False
        seen += 1
    return seen > 0


def _key(hypothesis: Hypothesis) -> object:
    """The same for hypotheses that put in the same numbers."""
    digits = [
        (n, () if truth.is_zero else tuple(float(f"{value:.4g}") for value in truth.along))
        for n, truth in hypothesis.pairs
    ]
    return (hypothesis.axes, tuple(digits))


def _before(event: Event, outcome: Outcome) -> Array | None:
    """The value that the array of an event had at the last event before."""
    if not isinstance(event.owner, np.ndarray):
        return None
    earlier = [
        other
        for events in outcome.events.values()
        for other in events
        if other.sequence < event.sequence and other.owner is event.owner
    ]
    last = max(earlier, key=lambda other: other.sequence, default=None)
    return None if last is None else last.value
