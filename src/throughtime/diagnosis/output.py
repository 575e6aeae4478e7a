"""The output layer's own gradient is wrong: which δ of the outputs would give it."""

from __future__ import annotations

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.factors import over, ratio_of
from throughtime.diagnosis.observed import Observed
from throughtime.diagnosis.reduction import reduction_of
from throughtime.diagnosis.simple_points import columns
from throughtime.diagnosis.stepwise import Counts, fitting
from throughtime.diagnosis.study import Study

CLOSE = 1e-2  # float32 tells no more; the numbers it is held against lie further apart
LAST = "output_gradient_at_last_step_only"
OF_ONE_STEP: dict[str, Counts] = {
    LAST: lambda T, _: [0.0] * (T - 1) + [1.0],
    "only_last_step_kept": lambda T, _: [1.0] + [0.0] * (T - 1),
}
FLAT = "With the output layer at 0, so that every class has the same probability, "

Said = tuple[str, list[str], float]
"""A fault, sentences, confidence."""


def wrong_output(observed: Observed, study: Study) -> Said | None:
    """The fault that fits the output layer's bias; None where none does."""
    roles = study.roles
    if roles.head is None or roles.head_bias is None:
        return None
    kind = study.reduction.kind
    at_one = study.at(1)
    if at_one is not None and at_one.wrong():
        return _at_one(at_one, study, kind)
    if kind in ("square", "root"):
        return _every_step(observed, roles.head_bias)
    if kind == "classes":
        return _which_steps(observed, study)
    return None


def _at_one(one: Observed, study: Study, kind: str) -> Said | None:
    """A single step's δ."""
    head, bias = study.roles.head, study.roles.head_bias
    assert head is not None
    assert bias is not None
    if bias not in one.wrong():
        if head not in one.wrong():
            return None
        said = f"{bias} agrees and {head} does not: what {head} meets differs between the passes."
        if _other_units(one, head):
            words = (
                f"Entries of {head} have a gradient where the loss does not react, or none where "
                "it does."
            )
            return "dropout_mask_redrawn", [said, words], 0.85
        return None
    if kind != "classes":
        return None
    rng = np.random.default_rng(study.seed + 3)
    logits = rng.standard_normal(np.asarray(study.values[bias]).shape)
    values = {head: np.zeros_like(study.values[head]), bias: logits}
    there = study.look(1, values, {bias: np.arange(logits.size)})
    if there is None:
        return None
    g, n, bars = columns(there)
    p = _softmax(logits.reshape(-1))
    again = p * (n - p @ n)
    if ratio_of(g, again, bars).fits and abs(ratio_of(g, again, bars).value - 1) < CLOSE:
        said = (
            f"With {head} at 0 and T = 1, the gradient of {bias} is its numerical derivative "
            "multiplied by the softmax's derivative, diag(p) − p pᵀ."
        )
        return "softmax_derivative_twice", [said], 0.97
    said = (
        f"With {head} at 0 and T = 1, the gradient of {bias} is {_listed(g)}; the loss's own is "
        f"{_listed(n)}."
    )
    return "different_loss", [said], 0.7


def _other_units(one: Observed, head: str) -> bool:
    own = one.sampled[head]
    g, bars = one.beside(head), one.bars(head)
    silent = np.abs(own.numerical) <= bars
    return bool((silent & (np.abs(g) > 10 * bars)).any() or (~silent & (g == 0)).any())


def _every_step(observed: Observed, bias: str) -> Said | None:
    """A loss of the last answer alone."""
    ratio = over(observed, [bias])
    if observed.steps and ratio.fits and ratio.is_near(observed.steps):
        said = f"The output's bias, {bias}, is {ratio} times its numerical derivative: T."
        return "output_gradient_at_every_step", [said], 0.93
    return None


def _which_steps(observed: Observed, study: Study) -> Said | None:
    """A loss with a term at every step: which of them the gradient has."""
    head, bias = study.roles.head, study.roles.head_bias
    assert head is not None
    assert bias is not None
    values = {
        head: np.zeros_like(study.values[head]),
        bias: np.zeros_like(study.values[bias]),
    }
    places = {bias: np.arange(np.asarray(study.values[bias]).size)}
    seen: list[Observed] = []
    weights: list[float] = []
    total = reduction_of(study, study.roles, 1).total
    for steps in (1, 2, 3):
        there = study.look(steps, values, places)
        if there is None:
            return None
        seen.append(there)
        weights.append(reduction_of(study, study.roles, steps).total / steps / total)
        if steps == 1:
            continue
        if not there.wrong() and bias not in observed.wrong():
            said = (
                f"The output's bias, {bias}, agrees at any T and its matrix, {head}, does not: the "
                "targets are the same in sum, but not step by step."
            )
            return "targets_shifted", [said], 0.8
        found = [] if np.isnan(weights).any() else fitting(seen, weights, 0.0, OF_ONE_STEP)
        if len(found) == 1:
            which = "last" if found[0] == LAST else "first"
            said = f"{FLAT}the gradient of {bias} at T = {steps} is that of the {which} step alone."
            return found[0], [said], 0.9
        if not found:
            return None
    return None


def _softmax(logits: Array) -> Array:
    p = np.exp(logits - logits.max())
    return np.asarray(p / p.sum())


def _listed(values: Array) -> str:
    words = [f"{value:.3g}" for value in values[:5]]
    return "(" + ", ".join(words) + (", …)" if len(values) > 5 else ")")
