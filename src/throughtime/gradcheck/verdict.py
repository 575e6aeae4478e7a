"""From error bars to verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from throughtime.arrays import Array
from throughtime.gradcheck.evaluation_point import Measurement
from throughtime.gradcheck.report import Verdict
from throughtime.gradcheck.tolerances import (
    CLEAR_FLOORS,
    LEAST_MOVE,
    MISSED_PROBABILITY,
    NORMAL_DENSITY,
    OVERLOOKED_PROBABILITY,
    REJECTION_BARS,
    RESOLVED_ERROR,
    SETTLED_ENTRY,
    UNDOUBTED_BARS,
)


def discrepancy(gradient: Array, numerical: Array) -> float:
    """d = ‖g − n‖₂ / (‖g‖₂ + ‖n‖₂), from 0 (equal) to 1 (opposite); 0 where both vanish.

    A gradient k times too large or too small, with every sign right, has d = |k − 1| / (k + 1):
    one that was averaged over T = 39 steps has 38 / 40.

    Example:
        >>> import numpy as np
        >>> round(discrepancy(np.array([1.0, 2.0]), np.array([39.0, 78.0])), 12)
        0.95
    """
    return _ratio(gradient - numerical, gradient, numerical)


def floor(error: Array, gradient: Array, numerical: Array) -> float:
    """The discrepancy that errors of this size alone would give."""
    return _ratio(error, gradient, numerical)


def _ratio(above: Array, gradient: Array, numerical: Array) -> float:
    below = float(np.linalg.norm(gradient) + np.linalg.norm(numerical))
    return float(np.linalg.norm(above)) / below if below else 0.0


@dataclass(frozen=True)
class Distance:
    """How far gradient and numerical derivative are apart, relative to both together.

    Attributes:
        d: the discrepancy.
        floor: the d that the error bars alone would give.
        smallest: the smallest relative error that would have been rejected.
    """

    d: float
    floor: float
    smallest: float

    @property
    def clear(self) -> bool:
        """Whether d is more than what the error bars give by themselves."""
        return self.d > CLEAR_FLOORS * self.floor


def rejects(found: Measurement) -> bool:
    """Whether a measurement rejects the gradient: they differ by more than their error bar."""
    return found.z > REJECTION_BARS


def with_kink_bound(found: Measurement, *others: Measurement) -> Measurement:
    """The same; where it rejects, with an error bar that spans kinks hidden among its steps.

    Where noise covers all steps below a kink, the function looks smooth beyond it, with another
    slope, and a difference may be due to that.

    Args:
        found: the measurement.
        others: further measurements along its line that reach as far; they may exclude kinks.
    """
    if not rejects(found):
        return found
    hidden_kink = min(m.hidden_kink for m in (found, *others) if m.step >= found.step)
    return replace(found, error=found.error + hidden_kink, hidden_kink=0.0)


def with_error_covering(found: Measurement) -> Measurement:
    """The same with an error bar that covers the difference, where nothing else confirms it."""
    least = abs(found.residual) / REJECTION_BARS * (1 + 1e-12)
    return replace(found, error=max(found.error, least))


def settled(found: Sequence[Measurement], entries: int, size: float) -> bool:
    """Whether random directions over so many entries leave nothing for finer measurements to find.

    One entry off by `SETTLED_ENTRY` of their root mean square would have been rejected, since none
    moves by less than `LEAST_MOVE`. So would an error spread over all of them that the verdict has
    to exclude, except with a probability of `OVERLOOKED_PROBABILITY`.

    Args:
        found: measurements along directions drawn independently.
        entries: how many of them move.
        size: ‖g ∘ v‖.
    """
    one = to_settle(entries)
    spread = (
        RESOLVED_ERROR
        * OVERLOOKED_PROBABILITY ** (1 / max(len(found), 1))
        / (NORMAL_DENSITY * REJECTION_BARS)
    )
    return bool(found) and all(m.error <= min(one, spread) * size for m in found)


def to_settle(entries: int) -> float:
    """The error bar, relative to ‖g ∘ v‖, at which one entry among so many is not overlooked."""
    return SETTLED_ENTRY * LEAST_MOVE / (REJECTION_BARS * float(np.sqrt(entries)))


def combined(first: Measurement, second: Measurement) -> Measurement:
    """One result from two that were measured with different steps.

    Where the two are further apart than the error bar, their distance is the error.
    """
    better = min(first, second, key=lambda m: m.error)
    apart = abs(first.numerical - second.numerical)
    if rejects(first) and not rejects(second):
        better = second
    return replace(better, error=max(better.error, apart)) if np.isfinite(apart) else better


def reconcile(first: Measurement, second: Measurement) -> Measurement:
    """`combined`, where the first rejects: with error bars that span kinks that there may be.

    Smaller steps that find the gradient right, and the slope itself beyond doubt, refute larger
    ones, among which there may be a kink, or curvature.
    """
    clear = abs(second.numerical) > UNDOUBTED_BARS * second.error
    if clear and second.step < first.step and not rejects(second):
        return second
    return combined(with_kink_bound(first, second), with_kink_bound(second, first))


def averaged(found: Sequence[Measurement]) -> Measurement:
    """One result from several along one line, taken with different steps: noise averages out."""
    first = found[0]
    numerical = float(np.mean([m.numerical for m in found]))
    noise = [m.slope.noise for m in found if m.slope is not None]
    rest = [m.error - 2 * m.slope.noise for m in found if m.slope is not None]
    error = 2 * float(np.linalg.norm(noise)) / len(found) + float(np.mean(rest))
    return replace(first, numerical=numerical, error=error)


def distance_over_entries(entries: Sequence[Measurement]) -> Distance:
    """The distance over entries that were all measured."""
    g, n, errors = columns(entries)
    size = float(np.linalg.norm(g))
    smallest = REJECTION_BARS * float(np.linalg.norm(errors)) / size if size else np.inf
    return Distance(discrepancy(g, n), floor(errors, g, n), smallest)


def distance_over_known(entries: Sequence[Measurement], size: float) -> Distance:
    """The distance if all entries but the measured ones are right: a lower bound if they are not.

    Args:
        entries: some entries of a tensor.
        size: ‖g‖ over all of them.
    """
    g, n, errors = columns(entries)
    below = size + remaining_size(g, n, size)
    if not below:
        return Distance(0.0, 1.0, np.inf)
    d = float(np.linalg.norm(g - n)) / below
    return Distance(d, float(np.linalg.norm(errors)) / below, np.inf)


def remaining_size(g: Array, n: Array, size: float) -> float:
    """‖n‖ over all entries, of which some were measured, if n = g for the others."""
    return float(np.sqrt(max(size**2 - float(g @ g), 0.0) + float(n @ n)))


def distance_over_directions(directions: Sequence[Measurement], size: float) -> Distance:
    """The distance estimated from random directions: E (r·v)² = ‖r‖².

    Args:
        directions: measurements along directions drawn independently.
        size: ‖g‖ in the same units, which a single direction may be nearly perpendicular to.
    """
    g, n, errors = columns(directions)
    below = float(np.linalg.norm(g) + np.linalg.norm(n))
    if not any(map(rejects, directions)):
        below = max(below, size * np.sqrt(len(directions)))
    if not below:
        return Distance(0.0, 0.0 if not errors.any() else 1.0, np.inf)
    luck = visibility_factor(len(directions))
    smallest = REJECTION_BARS * luck * float(np.sqrt(np.mean(errors**2))) / size if size else np.inf
    d = float(np.linalg.norm(g - n) / below)
    return Distance(d, float(np.linalg.norm(errors) / below), smallest)


def visibility_factor(directions: int) -> float:
    """How many error bars an error must have to be seen in one of some random directions.

    Along each the error is a normal number times its size; with a probability of
    `MISSED_PROBABILITY` all of these are smaller than 1 / this factor.

    Example:
        >>> [round(visibility_factor(k), 1) for k in (1, 2, 4)]
        [15.9, 3.5, 1.6]
    """
    overlooked = MISSED_PROBABILITY ** (1 / directions)
    return 1 / NormalDist().inv_cdf((1 + overlooked) / 2)


def better_estimate(first: Distance, second: Distance | None) -> Distance:
    """The first of two estimates where it is clear of its floor, else the one with less error."""
    if second is None:
        return first
    smallest = min(first.smallest, second.smallest)
    chosen = first if first.clear or first.floor < second.floor else second
    return replace(chosen, smallest=smallest)


def judge(wrong: bool, smallest: float, negligible: bool) -> Verdict:
    """The verdict on a tensor."""
    if wrong:
        return "disagree"
    return "agree" if smallest <= RESOLVED_ERROR or negligible else "unresolved"


def columns(found: Sequence[Measurement]) -> tuple[Array, Array, Array]:
    """Gradients, numerical derivatives and error bars, as arrays."""
    rows = [(m.gradient, m.numerical, m.error) for m in found]
    g, n, errors = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return g, n, errors
