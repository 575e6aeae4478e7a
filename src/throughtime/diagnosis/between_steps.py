"""What is wrong where no factor and no rearrangement explains it: first when, then where.

When: at T = 1 already, from T = 2 on, or only beyond some k. Where: in the output layer, in a
projection, in one layer or direction, or on the way from a step to the one before.

On that way the biases tell most. With all weights and biases below the output layer at 0, the
gradient of the biases has a part from every step, and half as much again for every step that the
cell carries it back (an LSTM through f = ½, a GRU through 1 − z = ½; an RNN carries nothing).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from throughtime.diagnosis.experiments import Study, reduction_of
from throughtime.diagnosis.factors import over
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
from throughtime.diagnosis.observed import Candidate, Observed
from throughtime.diagnosis.one_unit import one_unit
from throughtime.diagnosis.simple_points import (
    Counts,
    SimplePoints,
    difference,
    fitting,
    right,
    right_counts,
)
from throughtime.diagnosis.single_step import (
    not_refuted,
    told_by_units,
    within_a_step,
    without_later_state,
)
from throughtime.diagnosis.tolerances import BETA, SAME_FACTOR
from throughtime.gradcheck import Spent

Found = tuple[str, list[str], list[str]]
"""A fault, alternatives, sentences."""

MISSING = "dh_next_missing"
CARRIED = 0.5  # of δ, by f = σ(0) or 1 − z; an RNN carries nothing

# How often each step's own part counts. Of one step alone: the first, with what came back to it or
# without, or the last; names of one fault differ in what follows a space.
COUNTS: dict[str, Counts] = {
    MISSING: lambda T, _: [1.0] * T,
    "term_counted_twice": lambda T, r: right_counts(T, 2 * r),
    "dh_overwritten": lambda T, r: [0.0] * (T - 1) + right_counts(T, r)[-1:],
    "only_last_step_kept (first)": lambda T, r: [r**t for t in range(T)],
    "only_last_step_kept (first, alone)": lambda T, _: [1.0] + [0.0] * (T - 1),
    "only_last_step_kept (last)": lambda T, _: [0.0] * (T - 1) + [1.0],
}
ZERO = "With T = 2 and everything below the output layer at 0, "


def by_steps(observed: Observed, study: Study) -> Candidate | None:
    """What experiments with lengths and parameters say; None where the target allows none."""
    one = study.at(1)
    if one is None or study.roles.head is None:
        return None
    if one.wrong():
        lead = f"At T = 1 it disagrees already, in {', '.join(one.wrong())}."
        return _told(
            lambda: within_a_step(observed, one, SimplePoints(study), lead), lead, one, study
        )
    longest = _longest_right(study)
    if longest is not None and longest > 1:
        return _truncated(observed, study, longest)
    lead = f"At T = 1 it agrees; at T = {observed.steps} it does not."
    return _told(lambda: _from_two(observed, SimplePoints(study), lead), lead, observed, study)


def _told(find: Callable[[], Candidate], lead: str, observed: Observed, study: Study) -> Candidate:
    """What experiments find, or no more than the place where the budget ends before they do."""
    try:
        return find()
    except Spent:
        said = "The budget of evaluations ended before experiments told more."
    if set(observed.wrong()) & set(study.roles.output):
        return family_candidate("output_layer", (lead, said), OUTPUT)
    inside = observed.steps == 1
    place, members = ("inside_a_step", INSIDE) if inside else ("between_steps", BETWEEN)
    return family_candidate(place, (lead, said), members)


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


def _truncated(observed: Observed, study: Study, k: int) -> Candidate | None:
    said = f"It agrees up to T = {k}, and disagrees from T = {k + 1} on."
    if set(study.roles.output) & set(observed.wrong()):
        return family_candidate("output_layer", (said,), OUTPUT)
    facts = {"k": str(k), "T": str(observed.steps)}
    return Candidate(("truncated",), evidence=(said, output_right(study)), facts=facts)


def _from_two(observed: Observed, points: SimplePoints, lead: str) -> Candidate:
    study = points.study
    wrong = set(observed.wrong())
    if wrong & set(study.roles.output):
        found = wrong_output(observed, study)
        if found is not None:
            return candidate_of(found, lead, observed)
        return family_candidate("output_layer", (lead,), OUTPUT)
    if projected := wrong_projection(observed, study):
        return projection_candidate(projected, lead)
    parts = parts_of(observed, study)
    if parts == {"input"}:
        where = ", ".join(sorted(wrong))
        said = f"Only the input weights, {where}, are wrong; biases and recurrent weights agree."
        return fault_candidate("time_reversed", where, 0.85, lead, said)
    unit = one_unit(points)
    if unit is not None and any(unit.off):
        seen = lead, output_right(study)
        if (
            len(unit.wrong) == 1
        ):  # what goes back to the step before is right: a gate's own δ is not
            return told_by_units(unit, seen, observed, "inside_a_step", INSIDE)
        return told_by_units(unit, seen, observed, "between_steps", BETWEEN)
    upper = () if unit is not None and unit.alone else exact_layer(observed, study)
    if upper:
        return _exact_below_the_output(upper, observed, study, lead)
    carried = between_steps(points)
    if carried is not None:
        fault, beside, told = carried
        evidence = (lead, output_right(study), *told)
        facts = {"where": ", ".join(sorted(wrong))}
        confidence = 0.9 / (1 + 0.5 * len(beside))
        shown = Candidate((fault,), "", None, evidence, facts, tuple(beside), confidence)
        return not_refuted(shown, unit, "between_steps", BETWEEN)
    return family_candidate("between_steps", (lead, output_right(study)), BETWEEN)


def _exact_below_the_output(
    exact: tuple[str, ...], observed: Observed, study: Study, lead: str
) -> Candidate:
    """The fault where one direction, or an upper layer, is right, and the rest is wrong."""
    if alone := one_alone(observed, study):
        return fault_candidate("direction_not_reversed", "δh", 0.8, lead, alone)
    said = f"A layer is exact, {', '.join(exact)}; the one below is not."
    beside = () if study.sides is None else ("direction_not_reversed",)  # its δx, on the way down
    confidence = 0.5 if beside else 0.8
    return Candidate(
        ("lower_layer_overwritten",),
        evidence=(lead, said),
        alternatives=beside,
        confidence=confidence,
    )


def between_steps(points: SimplePoints) -> Found | None:
    """The fault that explains what the simple points show; None where none does."""
    if not points.useful:
        return None
    one, two = points.biases(1), points.biases(2)
    if one is None or two is None:
        return None
    if two.wrong():
        return _direct(points, one, two)
    if not points.knows_recurrent:
        return None
    return _recurrent(points, two)


def _direct(points: SimplePoints, one: Observed, two: Observed) -> Found | None:
    """A fault of what is carried past the recurrent weights."""
    weight = _weight(points, 2)
    if weight is None:  # the loss looks at the last step alone
        return _last_answer(points, two)
    seen, weights = [one, two], [1.0, weight]
    carried = 0.0 if points.gates == 1 else CARRIED
    found = fitting(seen, weights, carried, COUNTS)
    third = _weight(points, 3) if len(found) > 1 else None  # two steps with one and the same part
    three = None if third is None else points.biases(3)
    if three is not None and third is not None:
        seen, weights = [*seen, three], [*weights, third]
        found = fitting(seen, weights, carried, {name: COUNTS[name] for name in found})
    if not found:
        return None
    counted, right_ones = COUNTS[found[0]](len(seen), carried), right_counts(len(seen), carried)
    fault, *others = dict.fromkeys(name.split()[0] for name in found)
    said = [
        f"With T = {len(seen)} and everything below the output layer at 0, the gradient of the "
        f"biases is as if the steps' own parts counted {_listed(counted)} times; they should "
        f"count {_listed(right_ones)} times."
    ]
    if fault == MISSING:
        name, beside, told = _missing(points, two, said)
        return name, [*beside, *others], told
    return fault, others, said


def _listed(counts: Sequence[float]) -> str:
    return ", ".join(f"{count:g}" for count in counts)


def _last_answer(points: SimplePoints, two: Observed) -> Found | None:
    """The same where the loss has a term at the last step alone."""
    ratio = over(two, list(two.sampled))
    if not ratio.fits:
        return None
    said = [f"{ZERO}the biases are {ratio} times their numerical derivatives."]
    if ratio.is_near(2 / 3):
        return _missing(points, two, said)
    for value, fault in ((4 / 3, "term_counted_twice"), (1 / 3, "only_last_step_kept")):
        if ratio.is_near(value):
            return fault, [], said
    return None


def _missing(points: SimplePoints, zero: Observed, said: list[str]) -> Found:
    """Which fault it is, where what the cell carries past the recurrent weights does not arrive."""
    if points.gates == 4:
        return "dc_next_missing", [], said
    alike = points.biases(2, 0.0, points.recurrent("alike")) if points.knows_recurrent else None
    ratio = None if alike is None else difference(alike, zero)
    if ratio is None or not ratio.fits:
        return "dh_next_missing", ["direct_path_missing"], said
    words = f"What recurrent weights add to the gradient of the biases is {ratio} of what it is."
    if ratio.is_near(1.0):
        return "direct_path_missing", [], [*said, words]
    if abs(ratio.value) < SAME_FACTOR:
        return "dh_next_missing", [], [*said, words]
    return "dh_next_missing", ["direct_path_missing"], said


def _weight(points: SimplePoints, steps: int) -> float | None:
    """The weight of a term of the loss at this length, relative to T = 1.

    None where the loss does not have a term at every step.
    """
    roles, study = points.study.roles, points.study
    one, more = reduction_of(study, roles, 1), reduction_of(study, roles, steps)
    if one.kind != "classes" or more.kind != "classes":
        return None
    return more.total / steps / one.total


def _recurrent(points: SimplePoints, zero: Observed) -> Found | None:
    """A fault of what is carried through the recurrent weights."""
    alike = points.biases(2, 0.0, points.recurrent("alike"))
    if alike is None:
        return None
    ratio = difference(alike, zero)
    said = [
        f"{ZERO}the biases agree; with recurrent weights that are all alike, what these add to "
        f"the gradient of the biases is {ratio} of what the numerical derivatives say."
    ]
    if ratio.fits and not ratio.is_near(1.0):
        if abs(ratio.value) < SAME_FACTOR:
            return _other_or_none(points, said)
        if abs(ratio.value - 2) < SAME_FACTOR:
            return "term_counted_twice", [], said
        return None
    if not ratio.fits and ratio.entries:
        return "wrong_matrix", [], [f"{ZERO}only recurrent weights other than 0 bring it out."]
    return _which_matrix(points)


def _other_or_none(points: SimplePoints, said: list[str]) -> Found:
    """Recurrent weights do not change what is carried back: do other weights take their place?"""
    cut = points.study.look(2, points.without_recurrent(), points.all_biases())
    if right(cut) is False:
        words = "With recurrent weights at 0 and all others as given, biases are wrong at T = 2."
        return "wrong_matrix", [], [*said, words]
    return ("direct_path_only" if points.gates == 3 else "dh_next_missing"), [], said


def _which_matrix(points: SimplePoints) -> Found | None:
    said = f"With T = 2, no inputs and every bias at {BETA}, the biases "
    seen = points.biases(2, BETA) if points.gates > 1 else None
    cut = right(seen)
    if seen is not None and not cut:
        words = without_later_state(points, seen, [_weight(points, T) for T in (2, 3)])
        if words is not None:
            return "update_gate_term_missing", [], [words]
    alike = right(points.biases(2, BETA, points.recurrent("alike")))
    if cut and alike is False:
        words = said + "agree with recurrent weights at 0, and not where they are all alike."
        return "wrong_matrix", [], [words]
    if alike is False:
        words = said + "are wrong as soon as the two steps' activations differ."
        return "last_cache_at_every_step", [], [words]
    if points.gates > 1:
        by_gate = right(points.biases(2, BETA, points.recurrent("alike in each gate")))
        if by_gate is False:
            words = said + (
                "agree where all recurrent weights are alike, and not where they are alike "
                "within each gate alone."
            )
            return "wrong_matrix", [], [words]
    if right(points.biases(2, BETA, points.recurrent("random"))) is False:
        words = said + (
            "agree where the recurrent weights are alike within each gate, so that transposing "
            "them changes nothing, and not where they are drawn at random."
        )
        return "recurrent_untransposed", [], [words]
    return None
