"""Runs of a backward pass with some of its values replaced, and how far its gradients are right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.gradcheck import CheckError
from throughtime.source.events import Event, Instrumented, Place
from throughtime.source.lines.matching import Meanings
from throughtime.source.lines.truths import Truths, directions
from throughtime.source.tolerances import CLOSE_ENOUGH, FACTOR_SPREAD, MOST_TRIALS

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


class Runs:
    """The runs of one program at one point.

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
        self.kept: dict[int, Array] = {}  # values of the forward pass that were written over
        wrong = [name for name, score in self.run({}).scores.items() if score == WRONG]
        for name, where, truth in truths.parts(wrong):
            label = f"part {len(self.parts) + 1} of {name}"
            self.parts[label], self.whole[label] = (name, where), truth
        self.start = self.run({})
        self.carried = self._carried()
        self.trials, self.most_trials = 0, MOST_TRIALS

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
