"""One factor in all tensors, or in a group of them that holds the output layer.

It is looked at again at other lengths and with other parameters, and with a single sequence if the
target can be run so. How many sequences there are is known from the target's data, from the terms
that its loss returns, or from the weights of a loss that sums over them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.factor_meanings import KnownSizes, name_factor
from throughtime.diagnosis.factors import (
    Ratio,
    held_elsewhere,
    of_tensors,
    over,
    shared,
    steepest,
    together,
)
from throughtime.diagnosis.observed import CandidateCause, Gradient, Observed, observe, standing
from throughtime.diagnosis.tolerances import NORM_POINTS, SAME_NORM
from throughtime.gradcheck import CheckError, Evaluator


def known_sizes(study: Study, observed: Observed, names: Sequence[str]) -> KnownSizes:
    """What a factor in some tensors may be compared with."""
    reduction = study.reduction
    said = tuple(text for text in [reduction.said(study.steps)] if text)
    others, losses = _at_other_lengths(study, observed, names)
    return KnownSizes(
        study.steps,
        sequences_of(study),
        study.sizes.get("O", reduction.outputs or None),
        reduction.kind,
        observed.loss,
        reduction.total,
        others,
        losses,
        _with_one_sequence(study, observed, names),
        study.target.at_length is not None,
        said,
    )


def sequences_of(study: Study) -> int | None:
    """B, if the target's data, the terms of its loss, or their weights tell it."""
    for known in (
        study.sizes.get("B"),
        _sequences_of_data(study.target.layout, study.steps),
        _sequences_of_terms(study),
        study.reduction.sequences(study.steps),
    ):
        if known:
            return known
    return None


def _sequences_of_data(layout: Any, steps: int | None) -> int | None:
    """B of the inputs that a layout holds, as it says: (T, B, I), (T, I), or classes (T, B)."""
    inputs, module = getattr(layout, "inputs", None), getattr(layout, "module", None)
    shape: list[int] = list(getattr(inputs, "shape", ()))
    parts = list(module.modules()) if module is not None else []
    if any(getattr(part, "batch_first", False) for part in parts):
        shape[:2] = shape[1::-1]
    if len(shape) < 2 or steps is None or shape[0] != steps:
        return None
    numbers = "float" in str(getattr(inputs, "dtype", ""))
    return 1 if numbers and len(shape) == 2 else shape[1]


def _sequences_of_terms(study: Study) -> int | None:
    """B, if the loss returns its terms as (T, B)."""
    if study.steps is None:
        return None
    try:
        study.budget.take()
        with standing(study.target.parameters, study.values):
            shape: list[int] = list(Evaluator(study.target).terms().shape)
    except CheckError:
        return None
    return shape[1] if len(shape) == 2 and study.steps == shape[0] != shape[1] else None


def _at_other_lengths(
    study: Study, observed: Observed, names: Sequence[str]
) -> tuple[dict[int, Ratio], dict[int, float]]:
    """The factor, and the loss, at up to two of the lengths 1, 2 and 3.

    Only where all entries have one factor there.
    """
    found: dict[int, Ratio] = {}
    losses: dict[int, float] = {}
    for steps in (1, 2, 3):
        if study.steps is None or steps >= study.steps or len(found) == 2:
            continue
        places = {name: steepest(observed, name) for name in names}
        there = study.seen.get(steps) or study.look(steps, places=places)
        ratio = None if there is None else over(there, names)
        if there is not None and ratio is not None and ratio.fits:
            found[steps], losses[steps] = ratio, there.loss
    return found, losses


def _with_one_sequence(study: Study, observed: Observed, names: Sequence[str]) -> Ratio | None:
    """The factor with a single sequence, where the target can be run so."""
    make = study.target.variants.get("at_batch")
    if make is None:
        return None
    places = {name: steepest(observed, name) for name in names}
    try:
        there = observe(make(1), budget=study.budget, places=places)
    except (CheckError, ValueError):
        return None
    for undo in study.undone:
        there = there.with_gradient(undo(there))
    there = there.with_slack(study.slack)
    ratio = over(there, names) if set(names) <= set(there.sampled) else None
    return ratio if ratio is not None and ratio.fits else None


def everywhere(observed: Observed, study: Study) -> Iterator[CandidateCause]:
    """One factor in all tensors, or in all but those that are wrong in another way too."""
    ratios = of_tensors(observed)
    whole = over(observed, list(ratios))
    names = tuple(name for name, ratio in ratios.items() if np.isfinite(ratio.value))
    if not whole.fits:
        group = next(shared(ratios), None)
        if group is None or any(ratio.fits and ratio.is_near(1.0) for ratio in ratios.values()):
            return
        names, whole = group
        most = not study.roles.output and 2 * len(names) > len(ratios)
        if not most and not (study.roles.output and set(study.roles.output) <= set(names)):
            return
    if whole.is_near(1.0) or not whole.value or whole.rounds_to_one:
        return
    held = _norm_held(observed, study) if whole.value > 0 else None
    if held is not None:
        yield _clipped(observed, whole, held)
        return
    if study.reduction.kind == "root" or held_elsewhere(observed, study, whole, names):
        yield _factor(observed, whole, known_sizes(study, observed, names), names)
    elif _grows_with_the_loss(observed, study, whole, names):
        known = replace(known_sizes(study, observed, names), kind="root")
        found = _factor(observed, whole, known, names)
        if "root_taken" in found.faults:
            yield found


def _grows_with_the_loss(
    observed: Observed, study: Study, whole: Ratio, names: Sequence[str]
) -> bool:
    """Whether the factor is the loss times a number, here and with other parameters.

    So it is where the loss is the root of what was differentiated.
    """
    there = study.elsewhere({name: steepest(observed, name) for name in names})
    if there is None or not (observed.loss > 0 and there.loss > 0):
        return False
    share = there.loss / observed.loss
    expected = Ratio(whole.value * share, whole.error * share, True, whole.entries)
    found = over(there, names)
    return found.fits and together(found, expected) and not together(found, whole)


def at_a_single_step(observed: Observed, study: Study) -> CandidateCause | None:
    """One factor in all tensors at T = 1, whatever else is wrong at more steps.

    It is no factor of T then, and what explains T = 1 wholly need not be looked for in a step.
    """
    one = study.at(1) if observed.steps != 1 else None
    if one is None or not one.wrong():
        return None
    names, said = list(one.sampled), "tensor"
    whole = over(one, names)
    if not whole.fits:  # biases may have a factor of their own besides
        names, said = [name for name in names if name not in study.roles.vectors], "matrix"
        whole = over(one, names) if len(names) > 1 else whole
    if not whole.fits or whole.is_near(1.0) or not whole.value or whole.rounds_to_one:
        return None
    there = study.elsewhere(steps=1)
    if there is None or not together(over(there, names), whole):
        return None
    reduction = study.reduction
    known = KnownSizes(
        sequences=sequences_of(study),
        outputs=study.sizes.get("O", reduction.outputs or None),
        kind=reduction.kind,
        loss=one.loss,
    )
    found = name_factor(whole, replace(known, steps=1))
    value = _exact(whole)

    def undo(there: Observed) -> Gradient:
        return {name: g / value for name, g in there.gradient.items()}

    said = f"At T = 1 every {said} is {whole} times its numerical derivative."
    return CandidateCause(
        found.faults,
        "",
        undo(observed),
        (said, *found.evidence[1:]),
        found.facts,
        found.alternatives,
        0.7,
        undo,
        found.of_one,
    )


def _factor(
    observed: Observed, whole: Ratio, known: KnownSizes, names: tuple[str, ...]
) -> CandidateCause:
    found = name_factor(whole, known)
    steps, power = observed.steps or 1, found.power or 0
    root = "root_taken" in found.faults
    rest = whole.value / (2 * observed.loss) if root else _exact(whole)

    def undo(there: Observed) -> Gradient:
        factor = rest * ((there.steps or steps) / steps) ** power
        factor *= 2 * there.loss if root else 1
        return {name: g / factor for name, g in there.gradient.items()}

    evidence = list(found.evidence)
    if len(names) < len(observed.sampled):
        evidence[0] = f"{', '.join(names)} are {whole} times their numerical derivatives."
    if found.faults == ("scaled",):
        confidence = 0.6
    elif found.power is not None:
        confidence = 0.97
    else:
        confidence = 0.85
    return CandidateCause(
        found.faults,
        "",
        undo(observed),
        tuple(evidence),
        found.facts,
        found.alternatives,
        confidence,
        undo,
        found.of_one,
    )


def _exact(ratio: Ratio) -> float:
    """The whole number, or 1 over a whole number, that a ratio may be; otherwise its value.

    Code divides by sizes. A factor that is undone as it was measured leaves its error behind.
    """
    for near in (round(ratio.value), 1 / (round(1 / ratio.value) or 1)):
        if near and ratio.is_near(near):
            return float(near)
    return ratio.value


def _norm_held(observed: Observed, study: Study) -> float | None:
    """The norm that the gradient has both here and at another point; None where norms differ."""
    here = _norm(observed.gradient)
    for factor in NORM_POINTS:
        there = study.gradient({name: factor * a for name, a in study.values.items()})
        if there is None:
            continue
        if abs(_norm(there) - here) <= max(SAME_NORM, 8 * observed.eps) * here:
            return here
    return None


def _clipped(observed: Observed, whole: Ratio, norm: float) -> CandidateCause:
    undone = {name: g / whole.value for name, g in observed.gradient.items()}
    evidence = (
        f"Every tensor is {whole} times its numerical derivative.",
        f"The gradient's norm is {norm:.6g}, and so it is with other parameters.",
    )
    return CandidateCause(("clipped_by_norm",), "", undone, evidence, {"limit": f"{norm:.6g}"})


def _norm(gradient: Gradient) -> float:
    return float(np.sqrt(sum(float(np.sum(g**2)) for g in gradient.values())))
