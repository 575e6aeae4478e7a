"""Is a diagnosis right? Judged by the implementations' own gradients, not by a table of names."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.diagnose.cases import SAME, Case, apart, gradient_of
from benchmarks.diagnose.layouts import HELD
from throughtime.arrays import Array
from throughtime.diagnosis import FAULTS, Cause

OUTCOMES = ("right", "listed", "place", "wrong", "unknown")


def outcome(case: Case, causes: Sequence[Cause]) -> str:
    """What is to be said of the causes named for a single mistake.

    Returns:
        "unknown": none is named; "wrong": one of them is false, whatever the others are;
        "right": the first is the mistake; "listed": it is among the others or among the
        alternatives, or what is named first gives the same gradient, number for number;
        "place": no more than the place is named, and it is there.
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
    """Whether what a cause names is there, or cannot be told from what is there."""
    if {cause.fault, *cause.alternatives} & set(case.faults):
        return True
    if FAULTS[cause.fault].family:
        return holds(cause.fault, case)
    return len(case.faults) == 1 and same_gradient(case, cause.fault)


def same_gradient(case: Case, fault: str) -> bool:
    """Whether another mistake in the same network gives the same gradient."""
    try:
        other = case.made([fault], dtype="float64")
    except ValueError:  # this style has no such mistake, or not in this network
        return False
    own = case.made(dtype="float64")
    for name, array in own.parameters.items():
        other.parameters[name][...] = array
    return apart(gradient_of(own), gradient_of(other)) < SAME


def holds(place: str, case: Case) -> bool:
    """Whether the mistakes are at that place.

    The output layer is where its own gradient is wrong; otherwise it is inside a step where the
    gradient at T = 1 is wrong, and between steps where it is not.
    """
    head = {HELD[case.style][name] for name in ("head", "head_bias")}
    if place == "output_layer":
        return bool(head & wrong_tensors(case))
    if head & wrong_tensors(case):
        return False
    return bool(wrong_tensors(case, T=1)) == (place == "inside_a_step")


def wrong_tensors(case: Case, T: int = 0) -> set[str]:
    """Names of those that differ from the same code's without its mistakes."""
    wrong: dict[str, Array] = gradient_of(case.made(T=T, dtype="float64"))
    truth = gradient_of(case.made((), T=T, dtype="float64"))
    return {n for n in truth if apart({n: truth[n]}, {n: wrong[n]}) > SAME}
