"""How far two gradients may be off that are known as numbers alone.

What tells: the digits that were printed, the grid that numerical derivatives in float32 lie on,
and, where both leave a difference, the scatter of the entries about one factor in each tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.factors import ratio_of
from throughtime.diagnosis.observed import CandidateCause, Observed, Sampled
from throughtime.diagnosis.printed import rounded_by_printing
from throughtime.diagnosis.tolerances import (
    BINARY_STEP,
    BINARY_STEPS,
    COARSE_QUANTUM,
    COMPARISON_ERROR,
    DECIMAL_STEPS,
    DIFFERS_BEYOND,
    EVEN_SCATTER,
    FEWEST_LEVELS,
    FEWEST_STEPS,
    LEAST_QUANTISED_ENTRIES,
    LEAST_SCATTERED,
    MOST_MULTIPLES,
    MOST_PARTS,
    SAME_MULTIPLE,
    STEEP_ENTRY,
    WIDEST_SCATTER,
)

Arrays = Mapping[str, Array]
UNIFORM = 1 / np.sqrt(3.0)  # standard deviation of what is rounded off, in half units


@dataclass(frozen=True)
class Errors:
    """What is assumed of the two.

    Attributes:
        relative: of each tensor's largest entry, for both: how far it may be off.
        gradient, numerical: half a unit of the last digit of each number, by name.
        step: what the numerical derivatives are whole multiples of; 0 where nothing shows.
    """

    relative: float = COMPARISON_ERROR
    gradient: Arrays = field(default_factory=dict)
    numerical: Arrays = field(default_factory=dict)
    step: float = 0.0

    def sampled(self, name: str, g: Array, n: Array) -> Sampled:
        """The numerical derivatives of one tensor with their error bars, and the gradient's."""
        flat = n.reshape(-1).astype(np.float64)
        nothing = np.zeros(flat.size)
        own = self.relative * float(np.abs(g).max(initial=0.0)) / DIFFERS_BEYOND
        apart = self.relative * float(np.abs(flat).max(initial=0.0)) / DIFFERS_BEYOND
        apart = max(apart, quantum(flat), self.step)
        return Sampled(
            np.arange(flat.size),
            flat,
            np.hypot(apart, UNIFORM * self.numerical.get(name, nothing).reshape(-1)),
            np.hypot(own, UNIFORM * self.gradient.get(name, nothing).reshape(-1)),
        )


def errors_of(g: Arrays, n: Arrays, digits: tuple[Arrays, Arrays] | None = None) -> Errors:
    """What the numbers themselves say of their errors.

    Args:
        g, n: the gradient and its numerical counterpart.
        digits: half units of their last digits, as they were printed; by default those that the
            arrays' shortest decimals show.
    """
    own, true = digits if digits is not None else (_printed(g), _printed(n))
    steps = [smallest_step(n[name], true[name]) for name in n if name in true]
    grids = [quantum(array.reshape(-1).astype(np.float64)) for array in n.values()]
    steps += [size for size in grids if size and not printed(size)]
    return Errors(COMPARISON_ERROR, own, true, max(steps, default=0.0))


def _printed(arrays: Arrays) -> dict[str, Array]:
    found = {name: rounded_by_printing(array) for name, array in arrays.items()}
    return {name: half for name, half in found.items() if half is not None}


def smallest_step(numerical: Array, half_units: Array) -> float:
    """The step of a float32 loss in printed numerical derivatives; 0 where none shows.

    A difference of two losses in float32 is a multiple of a power of 2; a step of 10⁻ᵏ, or twice
    that, divides it. The smallest derivatives are few such multiples and show the number.

    Example:
        >>> n = np.array([-0.015223, 0.0, -0.000381, 9.537e-05])  # 9.537e-05 = 2⁻²⁰ · 100
        >>> smallest_step(n, np.array([5e-7, 5e-7, 5e-7, 5e-9]))
        9.537e-05
    """
    size = np.abs(numerical.reshape(-1))
    half = half_units.reshape(-1)
    order = np.argsort(size)
    first = [k for k in order if size[k] > 0][:FEWEST_LEVELS]
    for k in first:
        if half[k] > BINARY_STEP * size[k] or size[k] > STEEP_ENTRY * size[first[0]]:
            continue
        near = max(float(half[k] / size[k]), 1e-5)
        powers = np.log2(size[k] / 10.0 ** np.arange(DECIMAL_STEPS))
        whole = np.round(powers)
        low, high = BINARY_STEPS
        told = (np.abs(powers - whole) * np.log(2) <= near) & (-whole >= low) & (-whole <= high)
        if told.any() and _on_one_grid(size, half, float(size[k])):
            return float(size[k])
    return 0.0


def _on_one_grid(size: Array, half: Array, step: float) -> bool:
    """Whether all small numbers are whole multiples of a step, or of a part of it."""
    small = size <= FEWEST_STEPS * step
    for parts in range(1, MOST_PARTS + 1):
        counts = size[small] * parts / step
        apart = np.abs(counts - np.round(counts)) * step / parts
        if (apart <= 2 * half[small] + BINARY_STEP * step).all():
            return True
    return False


def scatter(observed: Observed) -> float | None:
    """How far entries scatter about one factor in each tensor, relative to its largest entry.

    Returns:
        None where too few tell, or where they scatter so far that it is another gradient.
    """
    freedom = 0
    rests: list[Array] = []
    for name, own in observed.sampled.items():
        n, g = own.numerical, observed.beside(name)
        size = float(np.abs(n).max(initial=0.0))
        ratio = ratio_of(g, n, np.ones(n.size) * size / STEEP_ENTRY / 2, np.zeros(n.size))
        if not ratio.value or not np.isfinite(ratio.value) or n.size < 2:
            continue
        left = (g - ratio.value * n) / (ratio.value * size)
        told = n != 0
        rests.append(np.abs(left[told]))
        freedom += int(told.sum()) - 1
    if freedom < LEAST_SCATTERED:
        return None
    rest = np.concatenate(rests)
    found = float(np.sqrt(np.sum(rest**2) / freedom))
    alike = rest.max() <= DIFFERS_BEYOND * found and np.median(rest) >= EVEN_SCATTER * found
    return found if 0 < found <= WIDEST_SCATTER and alike else None


def quantum(numerical: Array) -> float:
    """The number that all entries are whole multiples of; 0 where there is no such number.

    A loss in float32 changes by steps of its last place, ulp; divided by 2 h that is the
    quantum of a central difference.

    Example:
        >>> import numpy as np
        >>> quantum(3.8 * np.array([1.0, -2.0, 0.0, 5.0, 3.0, 1.0, -4.0]))
        3.8
        >>> quantum(np.random.default_rng(0).standard_normal(50))
        0.0
    """
    levels = np.unique(np.abs(numerical))
    if levels.size < 3 or numerical.size < LEAST_QUANTISED_ENTRIES or not levels[-1]:
        return 0.0
    gaps = np.diff(levels)
    smallest = float(gaps[gaps > 1e-6 * levels[-1]].min(initial=np.inf))
    if not np.isfinite(smallest) or levels[-1] / smallest > MOST_MULTIPLES:
        return 0.0
    counts = np.round(levels / smallest)
    best = float(levels @ counts / (counts @ counts))
    if np.abs(levels / best - np.round(levels / best)).max() > SAME_MULTIPLE:
        return 0.0
    # Small whole numbers, and round decimals, are multiples of something by chance.
    return round(best, 12) if levels.size > 3 and _repeated(numerical) else 0.0


def _repeated(numerical: Array) -> bool:
    return bool(np.unique(np.abs(numerical)).size < numerical.size)


def printed(size: float) -> bool:
    """Whether a quantum is a power of ten, because the numbers were rounded for printing."""
    digits = np.log10(size)
    return bool(abs(digits - np.round(digits)) < 1e-6)


def too_small_a_step(observed: Observed) -> Iterator[CandidateCause]:
    """The numerical derivatives are what is wrong, or they are too coarse to tell."""
    found = {name: quantum(own.numerical) for name, own in observed.sampled.items()}
    coarse = {
        name: size
        for name, size in found.items()
        if size > COARSE_QUANTUM * np.abs(observed.sampled[name].numerical).max()
        and not printed(size)
    }
    if not coarse:
        return
    name, size = next(iter(coarse.items()))
    levels = np.unique(np.round(observed.sampled[name].numerical / size)).size
    evidence = (
        f"All {observed.sampled[name].numerical.size} numerical derivatives of {name} are whole "
        f"multiples of {size:.4g}; only {levels} values occur.",
        "That is one step of the loss's last place, divided by twice the step.",
    )
    yield CandidateCause(("step_too_small",), ", ".join(coarse), None, evidence, confidence=0.9)
