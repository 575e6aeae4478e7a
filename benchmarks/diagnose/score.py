"""Is a diagnosis right? Judged by the implementations' own gradients, not by a table of names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.diagnose.cases import SAME, Case, apart, gradient_of
from benchmarks.diagnose.layouts import HELD
from throughtime.arrays import Array
from throughtime.diagnosis import FAULTS, Cause


def outcome(case: Case, causes: Sequence[Cause]) -> str:
    """Judges the causes that were named for a single mistake.

    Returns:
        "unknown": none is named; "wrong": one of them is false, whatever the others are;
        "right": the first one is the mistake; "listed": the mistake is among the others or among
        the alternatives, or the first one gives the same gradient, number for number; "place":
        only the place is named, and the mistake is there.
    """
    (truth,) = case.faults
    if not causes:
        return "unknown"
    if any(not true(case, cause) for cause in causes):
        return "wrong"
    if causes[0].fault == truth:
        return "right"
    if all(FAULTS[cause.fault].family for cause in causes):
        listed = any(truth in cause.alternatives for cause in causes)
        return "listed" if listed else "place"
    return "listed"


def true(case: Case, cause: Cause) -> bool:
    """Whether a cause is one of the mistakes, or cannot be distinguished from them."""
    if {cause.fault, *cause.alternatives} & set(case.faults):
        return True
    if FAULTS[cause.fault].family:
        return holds(cause.fault, case)
    return len(case.faults) == 1 and same_gradient(case, cause.fault)


def same_gradient(case: Case, fault: str) -> bool:
    """Whether another mistake in the same network gives the same gradient."""
    try:
        other = case.made([fault], dtype="float64")
    except ValueError:  # this style cannot have this mistake, or not in this network
        return False
    own = case.made(dtype="float64")
    for name, array in own.parameters.items():
        other.parameters[name][...] = array
    return apart(gradient_of(own), gradient_of(other)) < SAME


def holds(place: str, case: Case) -> bool:
    """Whether the mistakes are at this place.

    The place is the output layer if that layer's own gradient is wrong. Otherwise it is inside a
    step if the gradient at T = 1 is wrong, and between steps if it is not. It is one tensor's
    operand if that tensor alone is wrong, or weights are and no bias is.
    """
    if place == "operand_of_one_tensor":
        wrong = wrong_tensors(case)
        bias = any(np.squeeze(case.made().parameters[name]).ndim < 2 for name in wrong)
        return len(wrong) == 1 or not bias
    head = {HELD[case.style][name] for name in ("head", "head_bias")}
    if place == "output_layer":
        return bool(head & wrong_tensors(case))
    if head & wrong_tensors(case):
        return False
    return bool(wrong_tensors(case, T=1)) == (place == "inside_a_step")


def wrong_tensors(case: Case, T: int = 0) -> set[str]:
    """The names of the tensors that differ from those of the same code without its mistakes."""
    wrong: dict[str, Array] = gradient_of(case.made(T=T, dtype="float64"))
    truth = gradient_of(case.made((), T=T, dtype="float64"))
    return {n for n in truth if apart({n: truth[n]}, {n: wrong[n]}) > SAME}
