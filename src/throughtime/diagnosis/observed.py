"""A gradient beside numerical derivatives with error bars, and faults that may explain it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from throughtime.arrays import Array
from throughtime.derivatives import START_EXPONENTS
from throughtime.diagnosis.tolerances import (
    CLEAR_DIFFERENCE,
    DIFFERS_BEYOND,
    ENTRIES_OF_A_LOOK,
    FEW_DIFFERENCES,
    FINE_ERROR_BAR,
    LEAST_ENTRIES_OF_A_TENSOR,
    SAME_NUMBER_ULPS,
    SMALLEST_ERROR_BAR,
)
from throughtime.gradcheck import (
    SHIFTED_UNIT,
    Budget,
    EvaluationPoint,
    Evaluator,
    Measurement,
    ParameterSnapshot,
    SearchDirection,
    Target,
    entry,
    measure_serially,
    measured_twice,
)


@dataclass(frozen=True)
class Sampled:
    """Numerical derivatives with respect to entries of one tensor.

    Attributes:
        places: the entries' positions in C order.
        numerical: the derivative with respect to each of them.
        errors: its error bar.
        rounding: the error bar of the gradient under test, which grows as the gradient is scaled.
    """

    places: Array
    numerical: Array
    errors: Array
    rounding: Array


@dataclass(frozen=True)
class Observed:
    """A gradient and its numerical counterpart at one point.

    Attributes:
        gradient: the gradient under test by name, in float64.
        sampled: numerical derivatives by name.
        parameters: copies of the parameters there.
        steps: T, if it is known.
        loss: its value there; NaN where it is not known.
        sizes: other sizes that are known, by their letters: "B", "O", …
        eps: the relative distance of neighbouring numbers in the gradient's precision.
        slack: of each tensor's largest derivative: differences as small as that are left alone.
    """

    gradient: Mapping[str, Array]
    sampled: Mapping[str, Sampled]
    parameters: Mapping[str, Array]
    steps: int | None = None
    loss: float = np.nan
    sizes: Mapping[str, int] = field(default_factory=dict)
    eps: float = 2.0**-52
    slack: float = 0.0

    def with_slack(self, slack: float) -> Observed:
        """The same, with differences as small as this share of a tensor's largest left alone."""
        return replace(self, slack=slack)

    def beside(self, name: str, gradient: Mapping[str, Array] | None = None) -> Array:
        """The sampled entries of one tensor in a gradient, by default the one under test."""
        found = self.gradient if gradient is None else gradient
        taken: Array = found[name].reshape(-1)[self.sampled[name].places]
        return taken

    def z(self, name: str, gradient: Mapping[str, Array] | None = None) -> Array:
        """How far gradient and numerical derivative lie apart in one tensor, in error bars."""
        own, g = self.sampled[name], self.beside(name, gradient)
        return np.asarray(np.abs(g - own.numerical) / self.bars(name, gradient))

    def bars(self, name: str, gradient: Mapping[str, Array] | None = None) -> Array:
        """The error bars of the difference of the two."""
        own = self.sampled[name]
        grown = 1.0
        if gradient is not None:
            before, after = (np.linalg.norm(g[name]) for g in (self.gradient, gradient))
            grown = max(1.0, float(after / before)) if before else 1.0
        largest = float(np.abs(own.numerical).max(initial=0.0))
        same = (SAME_NUMBER_ULPS * self.eps + self.slack) * largest + SMALLEST_ERROR_BAR
        return np.asarray(own.errors + grown * own.rounding + same)

    def wrong(self, gradient: Mapping[str, Array] | None = None) -> tuple[str, ...]:
        """Names of the tensors in which an entry differs by more than its error bar allows."""
        return tuple(n for n in self.sampled if (self.z(n, gradient) > DIFFERS_BEYOND).any())

    def with_gradient(self, gradient: Mapping[str, Array]) -> Observed:
        """The same point with another gradient under test, whose rounding grows with its size."""
        sampled = {}
        for name, own in self.sampled.items():
            before, after = (float(np.linalg.norm(g[name])) for g in (self.gradient, gradient))
            grown = after / before if before else 1.0
            sampled[name] = replace(own, rounding=own.rounding * max(grown, 0.1))
        return replace(self, gradient=gradient, sampled=sampled)

    def doubtful(self) -> dict[str, Array]:
        """The entries that differ, if they are few and differ by so little that it may be noise."""
        found = {name: self.z(name) for name in self.sampled}
        apart = {name: self.sampled[name].places[z > DIFFERS_BEYOND] for name, z in found.items()}
        few = 0 < sum(places.size for places in apart.values()) <= FEW_DIFFERENCES
        clear = any((z > CLEAR_DIFFERENCE).any() for z in found.values())
        return {name: p for name, p in apart.items() if p.size} if few and not clear else {}

    def with_second(self, again: Observed) -> Observed:
        """The observation with some entries measured a second time.

        An entry differs only if both measurements say so. Where the two measurements disagree, the
        error bar becomes as large as their distance.

        Args:
            again: the second measurement, of these entries alone.
        """
        sampled = dict(self.sampled)
        for name, second in again.sampled.items():
            first = sampled[name]
            numerical, errors = first.numerical.copy(), first.errors.copy()
            here = np.searchsorted(first.places, second.places)
            g = self.gradient[name].reshape(-1)[second.places]
            bars = second.errors + first.rounding[here]
            agrees = np.abs(g - second.numerical) <= DIFFERS_BEYOND * bars
            better = agrees | (second.errors < errors[here])
            apart = np.abs(numerical[here] - second.numerical)
            numerical[here] = np.where(better, second.numerical, numerical[here])
            errors[here] = np.maximum(np.where(better, second.errors, errors[here]), apart)
            sampled[name] = replace(first, numerical=numerical, errors=errors)
        return replace(self, sampled=sampled)

    def distance(self, gradient: Mapping[str, Array] | None = None) -> float:
        """‖g − n‖ over the sampled entries whose derivative was measured."""
        g, n = self._measured(gradient)
        return float(np.linalg.norm(g - n))

    def discrepancy(self, gradient: Mapping[str, Array] | None = None) -> float:
        """‖g − n‖ / (‖g‖ + ‖n‖) over the sampled entries whose derivative was measured."""
        g, n = self._measured(gradient)
        below = float(np.linalg.norm(g) + np.linalg.norm(n))
        return float(np.linalg.norm(g - n)) / below if below else 0.0

    def _measured(self, gradient: Mapping[str, Array] | None) -> tuple[Array, Array]:
        """The entries whose derivative was measured: of a gradient, and numerical."""
        told = np.concatenate([np.isfinite(own.errors) for own in self.sampled.values()])
        g = np.concatenate([self.beside(name, gradient) for name in self.sampled])[told]
        n = np.concatenate([own.numerical for own in self.sampled.values()])[told]
        return g, n

    @property
    def complete(self) -> bool:
        """Whether every entry was sampled."""
        return all(s.places.size == self.gradient[n].size for n, s in self.sampled.items())


@contextmanager
def standing(parameters: Mapping[str, Array], values: Mapping[str, Array] | None) -> Iterator[None]:
    """Gives the parameters these values for the time being, and restores them bit for bit."""
    origin = ParameterSnapshot(parameters)
    try:
        for name, value in (values or {}).items():
            parameters[name][...] = value
        yield
    finally:
        origin.restore()


def observe(
    target: Target,
    values: Mapping[str, Array] | None = None,
    *,
    budget: Budget,
    places: Mapping[str, Array] | None = None,
    most: int = ENTRIES_OF_A_LOOK,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    again: bool = False,
) -> Observed:
    """The gradient of a target beside numerical derivatives.

    Args:
        target: the target that is observed.
        values: values for the parameters, if not those that they have.
        budget: what the evaluations are taken from.
        places: which entries of which tensors; by default as many as `most` allows.
        most: how many entries, over all tensors.
        sizes: what is known of the target's sizes.
        seed: for what is drawn at random.
        again: whether these entries were measured before, so that other steps are to be taken.

    Raises:
        Spent: if the budget does not suffice.
        CheckError: if a loss or a gradient is not finite there.
    """
    with standing(target.parameters, values):
        evaluator = Evaluator(target)
        budget.take()
        loss = evaluator.loss()  # some gradients use what the loss has left behind
        gradient = evaluator.gradient()
        point = EvaluationPoint(target, gradient, budget, seed)
        point.survey()
        chosen = spread(target.parameters, most, seed) if places is None else places
        sampled = {name: _sample(point, name, own, again) for name, own in chosen.items()}
        copies = {name: array.astype(np.float64) for name, array in target.parameters.items()}
    eps = max(float(np.finfo(array.dtype).eps) for array in target.parameters.values())
    kept = {name: array.astype(np.float64) for name, array in gradient.items()}
    return Observed(kept, sampled, copies, target.steps, loss, dict(sizes or {}), eps)


def spread(parameters: Mapping[str, Array], most: int, seed: int) -> dict[str, Array]:
    """The entries to look at: all of them, or a sample of so many over all tensors."""
    rng = np.random.default_rng(seed)
    few = _shares({name: array.size for name, array in parameters.items()}, most)
    return {
        name: np.sort(rng.choice(array.size, few[name], replace=False)).astype(np.int64)
        for name, array in parameters.items()
    }


def _shares(sizes: Mapping[str, int], most: int) -> dict[str, int]:
    """How many entries of each tensor; what small tensors leave is shared by larger ones."""
    found, left = {}, most
    for place, name in enumerate(sorted(sizes, key=lambda name: sizes[name])):
        share = max(left // (len(sizes) - place), LEAST_ENTRIES_OF_A_TENSOR)
        found[name] = min(sizes[name], share)
        left -= found[name]
    return found


def _sample(point: EvaluationPoint, name: str, places: Array, again: bool) -> Sampled:
    shape = point.parameters[name].shape
    goal = 0.0 if again else FINE_ERROR_BAR * float(np.abs(point.gradient[name]).max(initial=0.0))
    unit = point.scales[name] * (SHIFTED_UNIT if again else 1.0)
    lines = []
    for place in places:
        index = ", ".join(str(int(k)) for k in np.unravel_index(place, shape))
        label = f"{name}[{index}]"
        lines.append(SearchDirection(label, entry(name, int(place)), unit, START_EXPONENTS, goal))
    found: Sequence[Measurement | None] = measure_serially(point, lines)
    if not again:
        found = measured_twice(point, found)
    rows = [
        (m.numerical, m.error - m.rounding, m.rounding)
        if m is not None and np.isfinite(m.numerical) and np.isfinite(m.error)
        else (0.0, np.inf, 0.0)
        for m in found
    ]
    n, errors, rounding = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return Sampled(places, n, errors, rounding)


Gradient = Mapping[str, Array]
Undo = Callable[[Observed], Gradient]
"""From an observation, perhaps at another length, to its gradient with a fault undone."""


@dataclass(frozen=True)
class CandidateCause:
    """A fault, or a set of faults, that may explain what is observed, and where.

    Attributes:
        faults: identifiers of `FAULTS`; several where they fit only together.
        where: tensors, gates or steps that it concerns, in words; "" for all of them.
        undone: the gradient with the fault undone, by name; None where its effect on the gradient
            is not known entry by entry.
        evidence: what speaks for it, in sentences with numbers.
        facts: what fills the placeholders of its fault's statement.
        alternatives: identifiers of faults that would look the same here.
        confidence: how far it can be believed if it explains everything, 0 … 1.
        undo: what undoes the fault at other lengths and other points, if that is known.
        of_one: alternatives to one of several faults alone, by its identifier.
    """

    faults: tuple[str, ...]
    where: str = ""
    undone: Gradient | None = None
    evidence: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    alternatives: tuple[str, ...] = ()
    confidence: float = 0.95
    undo: Undo | None = None
    of_one: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def fault(self) -> str:
        """The first of its faults."""
        return self.faults[0]
