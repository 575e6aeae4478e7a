"""Numerical derivatives that are whole multiples of something: the step was too small."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.candidate import Candidate
from throughtime.diagnosis.observed import Observed

LEVELS = 300  # multiples at most; finer ones are what any number is
FEWEST = 6  # entries, without which multiples come by chance
CLOSE = 0.02  # of the quantum: how far a multiple may be off


def quantum(numerical: Array) -> float:
    """What all entries are whole multiples of; 0 where they are of nothing coarse.

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
    if levels.size < 3 or numerical.size < FEWEST or not levels[-1]:
        return 0.0
    gaps = np.diff(levels)
    smallest = float(gaps[gaps > 1e-6 * levels[-1]].min(initial=np.inf))
    if not np.isfinite(smallest) or levels[-1] / smallest > LEVELS:
        return 0.0
    counts = np.round(levels / smallest)
    best = float(levels @ counts / (counts @ counts))
    if np.abs(levels / best - np.round(levels / best)).max() > CLOSE:
        return 0.0
    # Whole numbers up to a few times their count come by chance, and so do round decimals.
    return round(best, 12) if levels.size > 3 and _repeated(numerical) else 0.0


def _repeated(numerical: Array) -> bool:
    return bool(np.unique(np.abs(numerical)).size < numerical.size)


def printed(size: float) -> bool:
    """Whether a quantum is a power of ten: then the numbers were rounded when they were printed."""
    digits = np.log10(size)
    return bool(abs(digits - np.round(digits)) < 1e-6)


def too_small_a_step(observed: Observed) -> Iterator[Candidate]:
    """The numerical side is what is wrong, or too coarse to tell."""
    found = {name: quantum(own.numerical) for name, own in observed.sampled.items()}
    coarse = {name: size for name, size in found.items() if size and not printed(size)}
    if not coarse:
        return
    name, size = next(iter(coarse.items()))
    levels = np.unique(np.round(observed.sampled[name].numerical / size)).size
    evidence = (
        f"All {observed.sampled[name].numerical.size} numerical derivatives of {name} are whole "
        f"multiples of {size:.4g}; only {levels} values occur.",
        "That is one step of the loss's last place, divided by twice the step.",
    )
    yield Candidate(("step_too_small",), ", ".join(coarse), None, evidence, confidence=0.9)
