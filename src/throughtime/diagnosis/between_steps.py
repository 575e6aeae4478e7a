"""What is wrong where no factor and no rearrangement explains it: first when, then where.

When: at T = 1 already, from T = 2 on, or only beyond some k. Where: in the output layer, in a
projection, in one layer or direction, or on the way from a step to the one before.

On that way no symptom is proof: that T = 1 agrees says nothing of what is multiplied by the state
before, which is 0 there, and terms that are added look like terms that are cut off. A fault is
named where it predicted the numbers of the gradient (`predicted.py`), and otherwise only the place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.localise import (
    BETWEEN,
    INSIDE,
    OUTPUT,
    candidate_of,
    exact_layer,
    family_candidate,
    fault_candidate,
    one_alone,
    output_right,
    parts_of,
    projection_candidate,
    wrong_output,
    wrong_projection,
)
from throughtime.diagnosis.observed import CandidateCause, Observed
from throughtime.diagnosis.one_tensor import of_all_units, of_one_tensor
from throughtime.diagnosis.predicted import Prediction, predicted
from throughtime.diagnosis.roles import LossReactions
from throughtime.diagnosis.simple_points import SimplePoints
from throughtime.diagnosis.single_step import within_a_step
from throughtime.diagnosis.tolerances import DRAWN_PARAMETERS, SAME_STATE
from throughtime.gradcheck import Spent

LATER = ("truncated", *BETWEEN)  # where two steps in a row are right
# What a loss of several steps may hand to a network whose output layer does not show it.
OF_THE_LOSS = (
    "output_gradient_at_every_step",
    "output_gradient_at_last_step_only",
    "last_output_gradient_at_every_step",
    "targets_shifted",
)
OF_ONE_STEPS_LOSS = ("different_loss", "softmax_derivative_twice", "epsilon_in_log")


def by_steps(observed: Observed, study: Study) -> CandidateCause | None:
    """What experiments with lengths and parameters say; None where the target allows none.

    Without another length no more than the output layer's own gradient tells a place.
    """
    one = study.at(1)
    alone = of_one_tensor(observed, study, one)
    if alone is not None:
        return alone
    if one is None:
        return _output_layer_alone(observed, study)
    if one.wrong():
        # Where every bias agrees, each δ of T = 1 is right, and what is wrong is its operand.
        outside = {*study.roles.vectors, *study.roles.output}
        if not set(one.wrong()) & outside and of_all_units(study, one.wrong()):
            alone = of_one_tensor(one, study, one)
            if alone is not None:
                return alone
        lead = f"It already disagrees at T = 1, in {', '.join(one.wrong())}."
        return _or_of_the_outputs(
            _told(
                lambda: within_a_step(observed, one, SimplePoints(study), lead), lead, one, study
            ),
            study,
        )
    longest = _longest_right(study) or 1
    lead = f"It agrees at T = 1, but not at T = {observed.steps}."
    if longest > 1:
        lead = f"It agrees up to T = {longest}, and disagrees from T = {longest + 1} on."
    return _told(lambda: _beyond(observed, study, longest, lead), lead, observed, study)


def _or_of_the_outputs(found: CandidateCause, study: Study) -> CandidateCause:
    """The candidate; where no output layer is known, δ of the outputs may be wrong in its place."""
    if found.fault != "inside_a_step" or study.roles.output or found.where:
        return found
    return replace(found, alternatives=(*found.alternatives, *OF_ONE_STEPS_LOSS))


def _output_layer_alone(observed: Observed, study: Study) -> CandidateCause | None:
    """The output layer where all of it is wrong, and what lies below; None where that is not so.

    Where its bias agrees, or nothing else is wrong, it may be what δ is multiplied with.
    """
    output, wrong = set(study.roles.output), set(observed.wrong())
    if not output < wrong or not LossReactions(study).proved_head(study.roles):
        return None
    said = (
        f"The output layer's own gradient is wrong, in {', '.join(sorted(output))}: no recurrent "
        "step comes before it on the way back."
    )
    return family_candidate("output_layer", (said,), ())


def _told(
    find: Callable[[], CandidateCause], lead: str, observed: Observed, study: Study
) -> CandidateCause:
    """What experiments find, or no more than the place where the budget ends before they do."""
    try:
        return find()
    except Spent:
        said = "The budget of evaluations ran out before experiments could tell more."
    if _wrong_output(observed, study):
        return family_candidate("output_layer", (lead, said), OUTPUT)
    inside = observed.steps == 1
    place, members = ("inside_a_step", INSIDE) if inside else ("between_steps", BETWEEN)
    return family_candidate(place, (lead, said), members)


def _wrong_output(observed: Observed, study: Study) -> set[str]:
    """The tensors of the output layers that are wrong; none where the last of these is right.

    A wrong δ of the outputs shows in the last layer first. What lies below it and was taken for
    an output layer is one of the network's others.
    """
    roles, wrong = study.roles, set(observed.wrong())
    last = {roles.head, roles.head_bias} - {None}
    return wrong & set(roles.output) if wrong & last else set()


def _longest_right(study: Study) -> int | None:
    """The largest T up to which the gradient agrees; None where shorter runs are impossible."""
    good, bad = 1, study.steps or 0
    probe = 2
    while good + 1 < bad:
        there = study.at(probe)
        if there is None:
            return None
        if there.wrong():
            bad = probe
        else:
            good = probe
        probe = min(2 * good, (good + bad) // 2) if bad == study.steps else (good + bad) // 2
        probe = max(probe, good + 1)
    return good


def _beyond(observed: Observed, study: Study, longest: int, lead: str) -> CandidateCause:
    """The candidate where the gradient is right up to some length, and wrong beyond."""
    wrong = set(observed.wrong())
    head = _wrong_output(observed, study)
    if not head and longest == 1:
        if projected := wrong_projection(observed, study):
            return projection_candidate(projected, lead)
        # Without biases δ of the first step shows in the input weights alone.
        if study.roles.vectors and parts_of(observed, study) == {"input"}:
            where = ", ".join(sorted(wrong))
            said = (
                f"Only the input weights, {where}, are wrong; biases and recurrent weights agree."
            )
            return fault_candidate("time_reversed", where, 0.85, lead, said)
    told = predicted(study, longest)
    if told is not None and [one.fault for one in told.found] == ["gate_scaled"]:
        where = told.found[0].where  # a factor there, where δ is small, and none in the gradient
        return family_candidate("inside_a_step", (lead, *_head_right(observed, study)), (), where)
    if told is not None and told.found:
        return _named(told, observed, study, lead)
    # A gate with tensors of its own looks like a layer of its own; numbers tell, if there are any.
    unread = told is None or not told.wrong or study.sides is not None
    if not head and longest == 1 and unread:
        upper = exact_layer(observed, study)
        if upper and _seen_through(upper, observed, study):
            return _exact_below_the_output(upper, observed, study, lead)
    if head:
        found = wrong_output(observed, study) if longest == 1 else None
        if found is not None:
            return candidate_of(found, lead, observed)
        return family_candidate("output_layer", (lead,), OUTPUT)
    evidence = (lead, *_head_right(observed, study), *(told.said if told is not None else ()))
    if told is not None and told.wrong:  # all faults were tried
        place = "inside_a_step" if told.gate else "between_steps"
        return family_candidate(place, evidence, (), f"gate {told.gate}" if told.gate else "")
    if study.roles.output:
        return family_candidate("between_steps", evidence, LATER if longest > 1 else BETWEEN)
    said = "No output layer is known, so δ of the outputs may be wrong at some steps as well."
    members = (*(LATER if longest > 1 else BETWEEN), *OF_THE_LOSS)
    return family_candidate("between_steps", (*evidence, said), members)


def _named(told: Prediction, observed: Observed, study: Study, lead: str) -> CandidateCause:
    """The candidate for faults whose predictions hold."""
    facts = {"T": str(observed.steps), "where": ", ".join(sorted(observed.wrong()))}
    for one in told.found:
        facts |= {name: value for name, value in one.facts.items() if name != "T"}
    where = " and ".join(one.where for one in told.found if one.where)
    return CandidateCause(
        tuple(one.fault for one in told.found),
        where,
        None,
        (lead, *_head_right(observed, study), *told.said),
        facts | ({"where": where} if where else {}),
        told.others,
        0.95 / (1 + 0.5 * len(told.others)),
    )


def _head_right(observed: Observed, study: Study) -> tuple[str, ...]:
    """A sentence on the output layer where it agrees."""
    output = set(study.roles.output)
    return (output_right(study),) if output and not output & set(observed.wrong()) else ()


def _seen_through(exact: tuple[str, ...], observed: Observed, study: Study) -> bool:
    """Whether the loss reacts to the tensors that are wrong by way of the exact ones alone.

    With all weights of an upper layer at 0, it hands on nothing from below; the other gates of one
    layer, or another direction, are seen all the same.
    """
    if study.sides is not None:
        return True
    cut = {n: np.zeros_like(study.values[n]) for n in exact if np.squeeze(study.values[n]).ndim > 1}
    moved = {n: np.asarray(study.values[n]) + DRAWN_PARAMETERS for n in observed.wrong()}
    here, there = study.loss(cut), study.loss(cut | moved)
    return bool(cut) and abs(there - here) <= SAME_STATE * max(1.0, abs(here))


def _exact_below_the_output(
    exact: tuple[str, ...], observed: Observed, study: Study, lead: str
) -> CandidateCause:
    """The fault where one direction, or an upper layer, is right, and the rest is wrong."""
    if alone := one_alone(observed, study):
        return fault_candidate("direction_not_reversed", "δh", 0.8, lead, alone)
    said = f"One layer is exact ({', '.join(exact)}); the layer below it is not."
    beside = () if study.sides is None else ("direction_not_reversed",)  # its δx, on the way down
    confidence = 0.5 if beside else 0.8
    return CandidateCause(
        ("lower_layer_overwritten",),
        evidence=(lead, said),
        alternatives=beside,
        confidence=confidence,
    )
