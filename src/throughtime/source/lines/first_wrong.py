"""Which assignment of a backward pass is wrong: where a true derivative, put in, mends the rest.

Values of the backward pass are replaced by true derivatives while it runs. Where that makes wrong
gradients of parameters right and no right one wrong, the fault is at or before this place; of all
such places the first to go wrong is it. With it mended, the next one is sought.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.gradcheck import CheckError
from throughtime.source.events import Event, Place
from throughtime.source.lines.hypotheses import Hypotheses, Hypothesis, same_numbers
from throughtime.source.lines.matching import Meanings, affinity
from throughtime.source.lines.overwritten import Overwritten, overwritten_values
from throughtime.source.lines.runs import RIGHT, Outcome
from throughtime.source.lines.truths import PLACE
from throughtime.source.tolerances import (
    CLOSE_ENOUGH,
    DEEPEST_SERIES,
    MOST_EVALUATIONS,
    MOST_FAULTS,
    MOST_TRIALS,
    NEARER,
    NEARLY_RIGHT,
)

Gain = tuple[int, int, int]  # of the gradients' scores; by name; values put in


@dataclass(frozen=True, eq=False)
class WrongValues:
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


class WrongValueSearch(Hypotheses):
    """Looks for the faults of one program at one point, as `Runs` takes it."""

    def faults(self) -> list[WrongValues]:
        """The faults, in the order in which they run; those found before are mended for the next.

        Gross ones come first: beside them a small penalty, which is a fault too, hides nothing.
        Each fault found is worth as many trials again as there were for the first: half of several
        faults says of none how it is mended.
        """
        found: list[WrongValues] = []
        first = self.most_trials
        self.replaced |= self.kept
        for close in CLOSE_ENOUGH:
            self.meanings = Meanings(self.truths, close)
            outcome = self.run(self.kept)
            while not outcome.right and len(found) < MOST_FAULTS:
                fault = self._next(outcome, {f.hypothesis.place for f in found})
                if fault is None:
                    break
                found.append(fault)
                self.most_trials = max(self.most_trials, min(self.trials + first, MOST_TRIALS))
                self.replaced |= self.values_of(fault.hypothesis, outcome)
                outcome = fault.after
            self.end = outcome
            if found:
                break
        needed = self._needed(found)
        return sorted(needed, key=lambda fault: fault.hypothesis.first)

    def restore_kept(self, steps_only: bool = False) -> list[Overwritten]:
        """What the forward pass has kept and written over; from here on it is as it was.

        Nothing where the gradients are no nearer to right with what it was.

        Args:
            steps_only: only what each step overwrites: of others a line says what would be right.
        """
        parameters = [self.code.program.live(name) for name in self.code.program.parameters]
        arrays = [value for value in parameters if isinstance(value, np.ndarray)]
        found = overwritten_values(self.code, arrays, self.truths.last)
        steps = [one for one in found if one.by is None and not one.but]
        further = [] if steps_only else [found, *([one] for one in found)]
        for some in (steps, *further):
            gained = self._tried(_together(some), self.start) if some else None
            if not gained:
                continue
            for one in reversed(list(some)):
                others = [other for other in some if other is not one]
                if others and (self._tried(_together(others), self.start) or 0) >= gained:
                    some = others
            self.kept = _together(some)
            return some
        return []

    def _needed(self, found: list[WrongValues]) -> list[WrongValues]:
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

    def _next(self, outcome: Outcome, known: set[Place]) -> WrongValues | None:
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
            earlier = self._first_gain(further, outcome, best, careful=True)
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
        return WrongValues(
            hypothesis, outcome, after, mended, self._not_understood(hypothesis, outcome)
        )

    def _makers(self, hypothesis: Hypothesis, outcome: Outcome) -> set[Place]:
        """The places that assign the variables of a hypothesis' statement."""
        return self._makers_of(hypothesis.place, outcome)

    def _makers_of(self, of: Place, outcome: Outcome) -> set[Place]:
        site = self.code.probes.sites[of[0]]
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
            and place != of
            and place[1] == of[1]
            and events[0].site.function == site.function
            and events[0].site.target.split("[")[0] in names
        }

    def made_of(self, fault: WrongValues) -> Iterator[Hypothesis]:
        """For the variables that a wrong line is made of, and these of, and that are no
        derivatives, what they should be as they are called; in the order in which they run."""
        outcome = fault.before
        places: set[Place] = set()
        last = {fault.hypothesis.place}
        for _ in range(DEEPEST_SERIES):
            last = set().union(*(self._makers_of(place, outcome) for place in last)) - places
            places |= last
        for place in sorted(places, key=lambda place: outcome.events[place][0].sequence):
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
        careful: bool = False,
    ) -> tuple[Gain, Hypothesis] | None:
        """The best hypothesis of the first place, in order of execution, that has one with a gain.

        Args:
            best: one that is known to have a gain: only places before it, and its own, are tried.
            careful: whether other lines that are right have to stay so.
        """
        for hypothesis in sorted(trials, key=lambda hypothesis: hypothesis.first):
            if best is not None:
                if hypothesis.first > best[1].first:
                    break
                if hypothesis.first == best[1].first and hypothesis.place != best[1].place:
                    continue
            many = self.trials >= self.most_trials
            if many or self.code.evaluations >= MOST_EVALUATIONS:
                break
            self.trials += 1
            gain = self._gain(hypothesis, outcome)
            if careful and gain is not None and self._misleads(hypothesis, outcome):
                continue
            earlier = best is None or hypothesis.place != best[1].place
            if gain is not None and (earlier or (best is not None and gain > best[0])):
                best = (gain, hypothesis)
        return best

    def _misleads(self, hypothesis: Hypothesis, outcome: Outcome) -> bool:
        """Whether what is computed from a value is right as it is, and no derivative any more
        with another one in its place: then the value is right, and one of its other uses wrong.

        Each place is looked at where it first runs: from there on errors are carried.
        """
        after = self.run(self.replaced | self.values_of(hypothesis, outcome))
        for place, events in after.events.items():
            if place == hypothesis.place or place not in outcome.events:
                continue
            for event, before in zip(events, outcome.events[place], strict=False):
                if not before.value.any():
                    continue
                if np.array_equal(event.value, before.value):
                    break
                if self._is_derivative(before) and not self._is_derivative(event):
                    return True
                break
        return False

    def _is_derivative(self, event: Event) -> bool:
        found = self.meanings.matches(event.value)
        return any(match.factor == 1.0 and not match.group.data for match in found)

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
            if (
                later
                and same_numbers(other) == same_numbers(first)
                and self._gain(other, outcome) is not None
            ):
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
        """The operands of the first wrong value that carry a gradient and are no derivative.

        An operand that is 0 says nothing, unless it makes a value 0 that should not be.
        """
        if hypothesis.unchanged:
            return ()
        own = outcome.events[hypothesis.place]
        wrong = next(event for event in own if event.sequence == hypothesis.first)
        before = max((e.sequence for e in own if e.sequence < wrong.sequence), default=0)
        zero = not wrong.value.any()
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
                and event.value.ndim
                and (zero or event.value.any())
                and not (event.value.any() and self.meanings.matches(event.value))
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
            full = hypothesis.factor * self.truths.full(truth)
            values[event.sequence] = np.transpose(full.reshape(laid), back)
        return values

    def values_of_all(self, faults: Sequence[WrongValues]) -> dict[int, Array]:
        """The true values for several faults."""
        found: dict[int, Array] = dict(self.kept)
        for fault in faults:
            found |= self.values_of(fault.hypothesis, fault.before)
        return found


def _together(some: Sequence[Overwritten]) -> dict[int, Array]:
    return {number: value for one in some for number, value in one.values.items()}
