"""Which part of a network is wrong: the output layer, a projection, a direction, or a layer below.

Where experiments tell no more than the place, the candidate names that place, with the faults that
it may have.

- The output layer's own gradient tells which δ of the outputs would give it.
- A projection h = R m is tested with values of R at which faults do no harm: where all its entries
  are the same, Rᵀ is R read in the other shape; where R is as near to the identity as its shape
  allows, Rᵀδh is δh, filled up with zeros.
- Two directions are each seen through their own half of the output layer. Where both halves are
  alike, it makes no difference which direction gets which half of δh.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.experiments import Study, reduction_of
from throughtime.diagnosis.factors import over, ratio_of
from throughtime.diagnosis.observed import CandidateCause, Observed
from throughtime.diagnosis.output_errors import epsilon_in_log, of_one_output, of_softmax
from throughtime.diagnosis.roles import Sides
from throughtime.diagnosis.simple_points import Counts, columns, fitting, right
from throughtime.diagnosis.tolerances import (
    DIFFERS_BEYOND,
    EVEN_PROJECTION,
    LITTLE_OF_EPSILON,
    SAME_FACTOR,
    STEEP_ENTRY,
)

BETWEEN = (
    "dh_next_missing",
    "dc_next_missing",
    "dh_overwritten",
    "recurrent_untransposed",
    "direct_path_only",
    "direct_path_missing",
    "term_counted_twice",
    "wrong_matrix",
    "only_last_step_kept",
    "last_cache_at_every_step",
    "update_gate_term_missing",
)
OUTPUT = (
    "padding_counted",
    "targets_shifted",
    "output_gradient_at_last_step_only",
    "only_last_step_kept",
)
INSIDE = (
    "derivative_missing",
    "derivative_of_activated_value",
    "gates_swapped_in_dc",
    "current_h_for_previous",
    "current_c_for_previous",
    "wrapped_initial_state",
    "initial_state_overwritten",
    "states_off_by_one",
    "update_gate_term_missing",
)


def parts_of(observed: Observed, study: Study) -> set[str]:
    """The kinds of parameters that are wrong: "bias", "input", "recurrent", or "other"."""
    masks = study.roles.recurrent or {}
    known = any(mask.any() for mask in masks.values())
    found = set()
    for name in observed.wrong():
        off = observed.sampled[name].places[observed.z(name) > DIFFERS_BEYOND]
        mask: Array | None = masks.get(name)
        if name in study.roles.vectors:
            found.add("bias")
        elif mask is None or not known:
            found.add("other")
        else:
            inside = mask.reshape(-1)[off]
            found |= ({"recurrent"} if inside.any() else set()) | (
                set() if inside.all() else {"input"}
            )
    return found


def exact_layer(observed: Observed, study: Study) -> tuple[str, ...]:
    """The tensors of a layer or direction that is right, while δ is wrong in another one.

    Recurrent weights and biases are among them; other biases are wrong.
    """
    masks, vectors = study.roles.recurrent or {}, set(study.roles.vectors)
    wrong = set(observed.wrong())
    right = [name for name in study.roles.hidden if name not in wrong]
    whole = any(masks[name].any() for name in right if name in masks)
    return tuple(right) if whole and vectors & set(right) and vectors & wrong else ()


def output_right(study: Study) -> str:
    """A sentence on the output layer, which agrees where there is one."""
    if study.roles.output:
        return f"The output layer, {', '.join(study.roles.output)}, agrees."
    if study.roles.headless:
        return (
            "Without any one of these tensors the others still matter, so none belongs to an "
            "output layer."
        )
    return "It is not known which tensors belong to the output layer."


def candidate_of(
    found: tuple[str, Sequence[str], float], lead: str, observed: Observed
) -> CandidateCause:
    """A candidate from a fault, sentences and a confidence."""
    fault, said, confidence = found
    facts = {"T": str(observed.steps), "where": ", ".join(observed.wrong())}
    return CandidateCause((fault,), evidence=(lead, *said), facts=facts, confidence=confidence)


def fault_candidate(fault: str, where: str, confidence: float, *evidence: str) -> CandidateCause:
    """A candidate for one fault at a place."""
    facts = {"where": where}
    return CandidateCause((fault,), where, evidence=evidence, facts=facts, confidence=confidence)


def family_candidate(
    name: str, evidence: Sequence[str], members: Sequence[str], where: str = ""
) -> CandidateCause:
    """A candidate that names a place, and the faults that it may have."""
    facts = {"where": where} if where else {}
    return CandidateCause((name,), where, None, tuple(evidence), facts, tuple(members), 0.5)


def projection_candidate(found: tuple[str, str], lead: str) -> CandidateCause:
    """A candidate from a fault of a projection, and a sentence."""
    fault, said = found
    facts = {"where": "another factor"}
    return CandidateCause((fault,), evidence=(lead, said), facts=facts, confidence=0.9)


LAST = "output_gradient_at_last_step_only"
OF_ONE_STEP: dict[str, Counts] = {
    LAST: lambda T, _: [0.0] * (T - 1) + [1.0],
    "only_last_step_kept": lambda T, _: [1.0] + [0.0] * (T - 1),
}
FLAT = "With the output layer at 0, so that every class has the same probability, "

Said = tuple[str, list[str], float]
"""A fault, sentences, confidence."""


def wrong_output(observed: Observed, study: Study) -> Said | None:
    """The fault that explains the output layer's gradient; None where none does."""
    roles = study.roles
    if roles.head is None:
        return None
    if other := of_one_output(study):
        return other[0], [other[1]], 0.95
    if roles.head_bias is None:
        return None
    kind = study.reduction.kind
    if (
        not kind
        and observed.discrepancy() < LITTLE_OF_EPSILON
        and (little := epsilon_in_log(study))
    ):
        return little[0], [little[1]], 0.95
    at_one = study.at(1)
    if at_one is not None and at_one.wrong():
        return _at_one(at_one, study, kind)
    if kind in ("square", "root"):
        return _every_step(observed, roles.head_bias)
    if kind == "classes":
        return _which_steps(observed, study)
    return None


def _at_one(one: Observed, study: Study, kind: str) -> Said | None:
    """A fault of a single step's δ."""
    head, bias = study.roles.head, study.roles.head_bias
    assert head is not None
    assert bias is not None
    if bias not in one.wrong():
        if head not in one.wrong():
            return None
        said = f"{bias} agrees, {head} does not: what {head} multiplies differs between the passes."
        if _other_units(one, head):
            words = (
                f"Entries of {head} have a gradient where the loss does not react, and none where "
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
    if ratio_of(g, again, bars).fits and abs(ratio_of(g, again, bars).value - 1) < SAME_FACTOR:
        said = (
            f"With {head} at 0 and T = 1, the gradient of {bias} is its numerical derivative "
            "multiplied by the softmax's derivative, diag(p) − p pᵀ."
        )
        return "softmax_derivative_twice", [said], 0.97
    if predicted := of_softmax(study, logits.reshape(-1), g, n, bars):
        fault, told = predicted
        return fault, [told], 0.95
    said = (
        f"With {head} at 0 and T = 1, the gradient of {bias} is {_listed(g)}; the loss's own is "
        f"{_listed(n)}: no known δ of the outputs gives this."
    )
    return "output_layer", [said], 0.5


def _other_units(one: Observed, head: str) -> bool:
    own = one.sampled[head]
    g, bars = one.beside(head), one.bars(head)
    silent = np.abs(own.numerical) <= bars
    return bool((silent & (np.abs(g) > STEEP_ENTRY * bars)).any() and (~silent & (g == 0)).any())


def _every_step(observed: Observed, bias: str) -> Said | None:
    """A fault where the loss has a term at the last step alone."""
    ratio = over(observed, [bias])
    if observed.steps and ratio.fits and ratio.is_near(observed.steps):
        said = f"The output's bias, {bias}, is {ratio} times its numerical derivative: T."
        return "output_gradient_at_every_step", [said], 0.93
    return None


def _which_steps(observed: Observed, study: Study) -> Said | None:
    """Where the loss has a term at every step: which of these terms the gradient has."""
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


Found = tuple[str, str]
"""A fault and a sentence."""


def wrong_projection(observed: Observed, study: Study) -> Found | None:
    """A fault of the projection's own gradient."""
    name = study.roles.projection
    if name is None or observed.wrong() != (name,):
        return None
    return "wrong_projection_operand", f"Only the projection, {name}, is wrong."


def through_projection(study: Study) -> Found | None:
    """A fault of the way back through the projection, seen at T = 1 in what lies below it."""
    name = study.roles.projection
    if name is None:
        return None
    shape = np.asarray(study.values[name]).shape
    even = np.full(shape, EVEN_PROJECTION)
    for fault, values, words in (
        ("projection_untransposed", even, "all entries of {} are the same"),
        ("projection_skipped", np.eye(*shape), "{} is the identity, as far as its shape allows"),
    ):
        if right(study.look(1, {name: values})):
            return fault, f"Where {words.format(name)}, the gradient agrees at T = 1."
    return None


def swapped(one: Observed, study: Study) -> str | None:
    """A sentence where both directions are wrong at T = 1, and right with both halves alike."""
    sides, head, wrong = study.sides, study.roles.head, set(one.wrong())
    if sides is None or head is None or not (wrong & set(sides.one) and wrong & set(sides.other)):
        return None
    half = np.split(np.asarray(study.values[head]), 2, axis=sides.axis)[0]
    alike = study.look(1, {head: np.concatenate([half, half], axis=sides.axis)})
    if alike is None or alike.wrong():
        return None
    return f"{_seen(sides, head)}; with both halves alike, the gradient agrees at T = 1."


def one_alone(observed: Observed, study: Study) -> str | None:
    """A sentence where one direction is exact and the other one, and nothing else, is wrong."""
    sides, head, wrong = study.sides, study.roles.head, set(observed.wrong())
    if sides is None or head is None:
        return None
    for exact, off in ((sides.one, sides.other), (sides.other, sides.one)):
        if wrong and wrong <= set(off):
            return (
                f"{_seen(sides, head)}; {', '.join(exact)} are exact, the other direction is not."
            )
    return None


def _seen(sides: Sides, head: str) -> str:
    one, other = ", ".join(sides.one), ", ".join(sides.other)
    return f"The two directions, {one} and {other}, are seen through a half of {head} each"
