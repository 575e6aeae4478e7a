"""Which δ of the outputs a gradient has, at T = 1 with the output layer's matrix at 0.

The outputs are then the bias alone, the same in every sequence, so that only the targets' weights
are unknown: the loss's numerical derivative gives them, or its limits far out. From these every
known δ of the outputs predicts the gradient of the bias.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.experiments import Study, reduction_of
from throughtime.diagnosis.factors import ratio_of
from throughtime.diagnosis.faults.different_loss import SOFTMAX_OTHERS
from throughtime.diagnosis.simple_points import columns
from throughtime.diagnosis.tolerances import (
    COUNTS_FIT,
    EPSILONS,
    FAR_LOGIT,
    POINTS_OF_A_LOSS,
    SAME_FACTOR,
    SAME_IN_A_UNIT,
    SETTLED,
    STRAIGHT,
)
from throughtime.equations import softmax

Found = tuple[str, str]
"""A fault and a sentence."""


def of_softmax(study: Study, logits: Array, g: Array, n: Array, bars: Array) -> Found | None:
    """The fault whose δ of the outputs gives g, where n is that of softmax with cross-entropy.

    Args:
        study: of the target.
        logits: the output's bias.
        g, n, bars: its gradient, numerical derivative and error bars.
    """
    total = reduction_of(study, study.roles, 1).total
    if not np.isfinite(total):
        return None
    p = softmax(logits)
    wanted = total * p - n  # the weights of the targets, by class
    diagonal = "−y (1 − p)", -wanted * (1 - p)
    known = [("softmax_jacobian_diagonal", *diagonal)]
    for words, slope in SOFTMAX_OTHERS.items():  # of every sequence, and linear in its target
        sums = slope(logits, wanted) + (total - 1) * slope(logits, np.zeros_like(logits))
        known.append(("different_loss", words, sums))
    for fault, words, expected in known:
        if _same(g, expected, bars):
            bias = study.roles.head_bias
            said = (
                f"With the output layer's matrix at 0 and T = 1, the gradient of {bias} is what "
                f"δ of the outputs {words} gives."
            )
            return fault, said
    return None


def _same(g: Array, expected: Array, bars: Array) -> bool:
    """Whether all entries are what is expected: one alone would have a ratio whatever is wrong."""
    width = COUNTS_FIT * bars + SAME_IN_A_UNIT * np.abs(expected).max(initial=0.0)
    return bool((np.abs(g - expected) <= width).all())


# Of one output's error e = |a − y|, 0 … 1: e from the loss, and the loss's derivative by e.
OF_ONE_ERROR: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "an absolute error": (lambda loss: loss, lambda e: 1.0),
    "half a squared error": (lambda loss: (2 * loss) ** 0.5, lambda e: e),
    "a squared error": (lambda loss: loss**0.5, lambda e: 2 * e),
    "a binary cross-entropy": (lambda loss: 1 - float(np.exp(-loss)), lambda e: 1 / (1 - e)),
}


def of_one_output(study: Study) -> Found | None:
    """Which loss of one output was differentiated, if the target is 0 or 1 and there is one term.

    At T = 1 the loss says what |a − y| is, and with it by what factor the gradient of another loss
    of the same error differs. That is compared where the output layer has other values.
    """
    head, seen = study.roles.head, []
    if head is None or np.count_nonzero(np.array(np.shape(study.values[head])) > 1) > 1:
        return None
    rng = np.random.default_rng(study.seed + 5)
    for _ in range(POINTS_OF_A_LOSS):
        drawn = rng.standard_normal(np.shape(study.values[head]))
        there = study.look(1, {head: drawn}, {head: np.arange(drawn.size)})
        if there is None or not there.loss > 0:
            return None
        ratio = ratio_of(*columns(there))
        if not ratio.fits:
            return None
        seen.append((there.loss, ratio))
    for (own, (error, slope)), (other, (_, wrong)) in product(OF_ONE_ERROR.items(), repeat=2):
        errors = [error(loss) for loss, _ in seen]
        if own == other or not all(0 < e < 1 for e in errors):
            continue
        expected = [wrong(e) / slope(e) for e in errors]
        fits = (
            abs(ratio.value - value) <= COUNTS_FIT * ratio.error + SAME_IN_A_UNIT * abs(value)
            for (_, ratio), value in zip(seen, expected, strict=True)
        )
        if np.ptp(expected) > SAME_FACTOR and all(fits):
            said = (
                f"At T = 1, with {POINTS_OF_A_LOSS} values of {head}, the gradient is "
                f"{', '.join(f'{value:.3g}' for value in expected)} times its numerical "
                f"derivative: your loss is {own} of one output, and your gradient that of {other}."
            )
            return "different_loss", said
    return None


class LogarithmWithEpsilon(NamedTuple):
    """A loss −Σ w log(p + ε) of one step: ε, and the weight of every class as a target."""

    epsilon: float
    weights: Array


def epsilon_in_log(study: Study) -> Found | None:
    """Whether the loss has ε in its logarithm, and the gradient is p − y all the same."""
    head, bias = study.roles.head, study.roles.head_bias
    loss = _with_epsilon(study)
    if loss is None or head is None or bias is None:
        return None
    shape = np.asarray(study.values[bias]).shape
    wanted = int(np.argmax(loss.weights))
    logits = np.zeros(loss.weights.size)
    logits[wanted] = np.log(loss.epsilon * (logits.size - 1))  # so that p is about ε there
    values = {head: np.zeros_like(study.values[head]), bias: logits.reshape(shape)}
    there = study.look(1, values, {bias: np.arange(logits.size)})
    if there is None:
        return None
    g, n, bars = columns(there)
    p, w = softmax(logits), loss.weights
    shares = w * p / (p + loss.epsilon)
    if not _same(n, shares.sum() * p - shares, bars) or not _same(g, w.sum() * p - w, bars):
        return None
    said = (
        f"With {head} at 0 and T = 1, your loss ends at −log ε with ε = {loss.epsilon:.2g} where "
        "the target's probability goes to 0. Where it is about ε, the gradient of "
        f"{bias} is p − y; the loss's own is less by the factor p/(p + ε)."
    )
    return "epsilon_in_log", said


def _with_epsilon(study: Study) -> LogarithmWithEpsilon | None:
    """The loss's ε and weights, if it ends where a class is certain; None where it does not."""
    head, bias = study.roles.head, study.roles.head_bias
    if head is None or bias is None:
        return None
    size = np.asarray(study.values[bias]).size
    zero = {head: np.zeros_like(study.values[head])}

    def loss(place: int, value: float) -> float:
        moved = np.zeros(size)
        moved[place] = value
        return study.loss({**zero, bias: moved.reshape(np.asarray(study.values[bias]).shape)}, 1)

    ends = np.array([[loss(k, far * FAR_LOGIT) for far in (1.0, 1.5)] for k in range(size)])
    even = loss(0, 0.0)
    flat = np.abs(np.diff(ends, axis=1)).max() <= STRAIGHT * np.abs(ends).max()
    if size < 2 or not np.isfinite(ends).all() or not flat or not even > 0:
        return None
    epsilon = end = total = 0.0
    for _ in range(
        SETTLED
    ):  # A_k = (total − w_k) (−log ε) − w_k log(1 + ε); even: all p are 1/size
        total = even / -np.log(1 / size + epsilon)
        end = (float(ends[:, 0].sum()) / total + np.log1p(epsilon)) / (size - 1)
        epsilon = float(np.exp(-end))
        if not EPSILONS[0] <= epsilon <= EPSILONS[1]:
            return None
    weights = (total * end - ends[:, 0]) / (end + np.log1p(epsilon))
    return LogarithmWithEpsilon(epsilon, weights)
