"""A loss of log-probabilities whose gradient is the one with respect to the logits.

With n the derivative by z, the derivative by logits u, where z = log softmax(u), is n − p Σ n along
the classes, p = softmax(u). Where z are log-probabilities already, p = exp(z). A loss whose own
backward pass returns that has counted the softmax once too often, as some CTC losses do. Such a
loss takes exp(z) for p even where z are raw outputs, whose exponentials do not add up to 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.observed import CandidateCause, Observed
from throughtime.diagnosis.tolerances import (
    CONFIDENCE_OF_NUMBERS,
    DIFFERS_BEYOND,
    LEAST_TELLING_PAIRS,
    LINES_OF_CLASSES,
    STEEP_ENTRY,
)

LOG_OF_LARGEST = 300.0  # e^300 is far beyond any sum of probabilities, and no infinity


def through_a_softmax(observed: Observed, study: Study) -> CandidateCause | None:
    """The candidate where a further log-softmax explains all that is wrong, in every tensor."""
    found = []
    for name in observed.wrong():
        tried = ((axis, _fit(lines, name, study)) for axis, lines in _lines(observed, name))
        axis, sums = next(((axis, sums) for axis, sums in tried if sums is not None), (0, None))
        if sums is None:
            return None
        found.append((name, axis, sums))
    if not found:
        return None
    words = " and ".join(f"along axis {axis} of {name}" for name, axis, _ in found)
    sums = np.concatenate([sums for *_, sums in found])
    confidence = CONFIDENCE_OF_NUMBERS
    return CandidateCause(
        ("softmax_derivative_twice",),
        ", ".join(name for name, *_ in found),
        None,
        (_of_softmax(words) if (sums == 1).all() else _of_raw_outputs(words, sums),),
        confidence=confidence,
    )


def _of_softmax(words: str) -> str:
    return (
        f"With n the numerical derivative and p the softmax, {words} your gradient is n − p Σ n: "
        "the derivative has gone through a log-softmax that your loss does not take. Either give "
        "the loss the logits and let it take the log-softmax, or leave that out of the derivative."
    )


def _of_raw_outputs(words: str, sums: Array) -> str:
    return (
        f"With n the numerical derivative by z, {words} your gradient is n − exp(z) Σ n. The loss "
        "takes z for log-probabilities and its derivative goes through their log-softmax, but "
        f"exp(z) adds up to {sums.min():.3g} to {sums.max():.3g} there, not to 1. Give the loss "
        "the log-softmax of z."
    )


def _lines(observed: Observed, name: str) -> Iterator[tuple[int, Array]]:
    """Each axis, the last first, with the places of a few lines along it, (L, K)."""
    shape = observed.gradient[name].shape
    places = np.arange(int(np.prod(shape))).reshape(shape)
    off = observed.sampled[name].places[np.argsort(-observed.z(name))]
    for axis in reversed(range(len(shape))):
        lines = np.moveaxis(places, axis, -1).reshape(-1, shape[axis])
        own = [int(np.flatnonzero((lines == place).any(axis=1))[0]) for place in off]
        chosen = list(dict.fromkeys(own))[:LINES_OF_CLASSES]
        if shape[axis] > 1:
            yield axis, lines[chosen]


def _fit(lines: Array, name: str, study: Study) -> Array | None:
    """What p adds up to along each line, where g = n − p Σ n: 1, or Σ exp(z) for raw outputs z."""
    there = study.look(places={name: np.sort(lines.reshape(-1))})
    if there is None:
        return None
    order = np.searchsorted(there.sampled[name].places, lines)
    n, bars = there.sampled[name].numerical[order], there.bars(name)[order]
    g, z = (array[name].reshape(-1)[lines] for array in (there.gradient, there.parameters))
    sums = np.exp(np.minimum(z, LOG_OF_LARGEST)).sum(axis=1)
    softmax = np.exp(z - z.max(axis=1, keepdims=True))
    softmax /= softmax.sum(axis=1, keepdims=True)
    for total in (np.ones(len(z)), sums):
        p = softmax * total[:, None]
        unsure = bars + p * bars.sum(axis=1, keepdims=True)
        off = np.abs(g - (n - p * n.sum(axis=1, keepdims=True)))
        telling = (np.abs(g - n) > STEEP_ENTRY * unsure).sum()
        if (off <= DIFFERS_BEYOND * unsure).all() and telling >= LEAST_TELLING_PAIRS:
            return total
    return None
