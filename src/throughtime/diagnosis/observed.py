"""What is known of a gradient: all of it, and numerical derivatives with error bars beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from throughtime.arrays import Array
from throughtime.derivatives import START_EXPONENTS
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

LIMIT = 3.5  # error bars: beyond them two numbers differ
FINE = 1e-6  # of a tensor's largest gradient: an error bar that is small enough
MOST = 600  # entries that are looked at, over all tensors
FEWEST = 4  # of each, at least
TINY = 1e-140  # its square is a number too
FEW, CLEAR = 8, 10.0  # entries that differ, error bars: up to so many noise may account for
LAST_PLACES = 8.0  # of the gradient's precision: what is closer is the same number


@dataclass(frozen=True)
class Sampled:
    """Numerical derivatives of one tensor's entries.

    Attributes:
        places: the entries, counted in C order.
        numerical: the derivative by each of them.
        errors: its error bar.
        rounding: the part of the gradient under test, which grows as the gradient is scaled.
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
        steps: T, where it is known.
        loss: there; NaN where it is not known.
        sizes: what is known beside: "B", "O", … to numbers.
        eps: relative distance of neighbouring numbers in the gradient's precision.
    """

    gradient: Mapping[str, Array]
    sampled: Mapping[str, Sampled]
    parameters: Mapping[str, Array]
    steps: int | None = None
    loss: float = np.nan
    sizes: Mapping[str, int] = field(default_factory=dict)
    eps: float = 2.0**-52

    def beside(self, name: str, gradient: Mapping[str, Array] | None = None) -> Array:
        """A gradient's entries where one tensor was sampled; that under test without another."""
        found = self.gradient if gradient is None else gradient
        taken: Array = found[name].reshape(-1)[self.sampled[name].places]
        return taken

    def z(self, name: str, gradient: Mapping[str, Array] | None = None) -> Array:
        """How far the two are apart in one tensor, in error bars."""
        own, g = self.sampled[name], self.beside(name, gradient)
        return np.asarray(np.abs(g - own.numerical) / self.bars(name, gradient))

    def bars(self, name: str, gradient: Mapping[str, Array] | None = None) -> Array:
        """The error bars of both together."""
        own = self.sampled[name]
        grown = 1.0
        if gradient is not None:
            before, after = (np.linalg.norm(g[name]) for g in (self.gradient, gradient))
            grown = max(1.0, float(after / before)) if before else 1.0
        largest = float(np.abs(own.numerical).max(initial=0.0))
        same = LAST_PLACES * self.eps * largest + TINY
        return np.asarray(own.errors + grown * own.rounding + same)

    def wrong(self, gradient: Mapping[str, Array] | None = None) -> tuple[str, ...]:
        """Names of the tensors in which an entry differs by more than its error bar."""
        return tuple(n for n in self.sampled if (self.z(n, gradient) > LIMIT).any())

    def with_gradient(self, gradient: Mapping[str, Array]) -> Observed:
        """The same point with another gradient under test; its rounding grows as it does."""
        sampled = {}
        for name, own in self.sampled.items():
            before, after = (float(np.linalg.norm(g[name])) for g in (self.gradient, gradient))
            grown = after / before if before else 1.0
            sampled[name] = replace(own, rounding=own.rounding * max(grown, 0.1))
        return replace(self, gradient=gradient, sampled=sampled)

    def doubtful(self) -> dict[str, Array]:
        """The entries that differ, where they are few and differ by little: perhaps by noise."""
        found = {name: self.z(name) for name in self.sampled}
        apart = {name: self.sampled[name].places[z > LIMIT] for name, z in found.items()}
        few = 0 < sum(places.size for places in apart.values()) <= FEW
        clear = any((z > CLEAR).any() for z in found.values())
        return {name: p for name, p in apart.items() if p.size} if few and not clear else {}

    def with_second(self, again: Observed) -> Observed:
        """With entries that were measured a second time; where the two differ, by so much they err.

        What the second does not find to differ does not: that takes two witnesses.

        Args:
            again: of these entries alone.
        """
        sampled = dict(self.sampled)
        for name, second in again.sampled.items():
            first = sampled[name]
            numerical, errors = first.numerical.copy(), first.errors.copy()
            here = np.searchsorted(first.places, second.places)
            g = self.gradient[name].reshape(-1)[second.places]
            bars = second.errors + first.rounding[here]
            agrees = np.abs(g - second.numerical) <= LIMIT * bars
            better = agrees | (second.errors < errors[here])
            apart = np.abs(numerical[here] - second.numerical)
            numerical[here] = np.where(better, second.numerical, numerical[here])
            errors[here] = np.maximum(np.where(better, second.errors, errors[here]), apart)
            sampled[name] = replace(first, numerical=numerical, errors=errors)
        return replace(self, sampled=sampled)

    def discrepancy(self, gradient: Mapping[str, Array] | None = None) -> float:
        """‖g − n‖ / (‖g‖ + ‖n‖) over what was sampled, where that told anything."""
        told = np.concatenate([np.isfinite(own.errors) for own in self.sampled.values()])
        g = np.concatenate([self.beside(name, gradient) for name in self.sampled])[told]
        n = np.concatenate([own.numerical for own in self.sampled.values()])[told]
        below = float(np.linalg.norm(g) + np.linalg.norm(n))
        return float(np.linalg.norm(g - n)) / below if below else 0.0

    @property
    def complete(self) -> bool:
        """Whether every entry was sampled."""
        return all(s.places.size == self.gradient[n].size for n, s in self.sampled.items())


@contextmanager
def standing(parameters: Mapping[str, Array], values: Mapping[str, Array] | None) -> Iterator[None]:
    """The parameters have these values meanwhile; afterwards they are put back, bit for bit."""
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
    most: int = MOST,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    again: bool = False,
) -> Observed:
    """The gradient of a target beside numerical derivatives.

    Args:
        target: what is looked at.
        values: of the parameters, where others are wanted than they have.
        budget: what the evaluations are taken from.
        places: which entries of which tensors; by default as many as `most` allows.
        most: entries, over all tensors.
        sizes: what is known of the target.
        seed: of what is drawn.
        again: whether these entries were looked at before: other steps are taken then.

    Raises:
        Spent: where the budget does not reach.
        CheckError: where a loss or gradient is not finite there.
    """
    with standing(target.parameters, values):
        evaluator = Evaluator(target)
        budget.take()
        loss = evaluator.loss()  # some gradients live on what the loss leaves behind
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
    """All entries of every tensor, or as many of each as a number over all of them allows."""
    rng = np.random.default_rng(seed)
    few = _shares({name: array.size for name, array in parameters.items()}, most)
    return {
        name: np.sort(rng.choice(array.size, few[name], replace=False)).astype(np.int64)
        for name, array in parameters.items()
    }


def _shares(sizes: Mapping[str, int], most: int) -> dict[str, int]:
    """How many of each; what small ones leave is shared by the larger."""
    found, left = {}, most
    for place, name in enumerate(sorted(sizes, key=lambda name: sizes[name])):
        share = max(left // (len(sizes) - place), FEWEST)
        found[name] = min(sizes[name], share)
        left -= found[name]
    return found


def _sample(point: EvaluationPoint, name: str, places: Array, again: bool) -> Sampled:
    shape = point.parameters[name].shape
    goal = 0.0 if again else FINE * float(np.abs(point.gradient[name]).max(initial=0.0))
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
