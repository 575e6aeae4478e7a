"""What is wrong where no factor and no rearrangement explains it: first when, then where.

When: at T = 1 already, from T = 2 on, or only beyond some k. Where: the output layer, the biases,
the input weights or the recurrent ones.
"""

from __future__ import annotations

from collections.abc import Callable

from throughtime.diagnosis.between_steps import between_steps
from throughtime.diagnosis.candidate import Candidate
from throughtime.diagnosis.directions import one_alone
from throughtime.diagnosis.localise import (
    BETWEEN,
    INSIDE,
    OUTPUT,
    exact_layer,
    family,
    found_candidate,
    named,
    of_projection,
    output_right,
    parts_of,
)
from throughtime.diagnosis.observed import Observed
from throughtime.diagnosis.output import wrong_output
from throughtime.diagnosis.projection import wrong_projection
from throughtime.diagnosis.simple_points import SimplePoints
from throughtime.diagnosis.single_step import within_a_step
from throughtime.diagnosis.study import Study
from throughtime.gradcheck import Spent


def by_steps(observed: Observed, study: Study) -> Candidate | None:
    """What experiments on length and parameters say; None where the target allows none."""
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
    """What experiments find; the place, where the budget ends before they do."""
    try:
        return find()
    except Spent:
        said = "The budget of evaluations ended before experiments told more."
    if set(observed.wrong()) & set(study.roles.output):
        return family("output_layer", (lead, said), OUTPUT)
    inside = observed.steps == 1
    place, members = ("inside_a_step", INSIDE) if inside else ("between_steps", BETWEEN)
    return family(place, (lead, said), members)


def _longest_right(study: Study) -> int | None:
    """The largest T up to which the gradient agrees; None where T = 2 cannot be looked at."""
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
        return family("output_layer", (said,), OUTPUT)
    facts = {"k": str(k), "T": str(observed.steps)}
    return Candidate(("truncated",), evidence=(said, output_right(study)), facts=facts)


def _from_two(observed: Observed, places: SimplePoints, lead: str) -> Candidate:
    study = places.study
    wrong = set(observed.wrong())
    if wrong & set(study.roles.output):
        found = wrong_output(observed, study)
        if found is not None:
            return found_candidate(found, lead, observed)
        return family("output_layer", (lead,), OUTPUT)
    if projected := wrong_projection(observed, study):
        return of_projection(projected, lead)
    parts = parts_of(observed, study)
    if parts == {"input"}:
        where = ", ".join(sorted(wrong))
        said = f"Only the input weights, {where}, are wrong; biases and recurrent weights agree."
        return named("time_reversed", where, 0.85, lead, said)
    if upper := exact_layer(observed, study):
        return _exact_below_the_output(upper, observed, study, lead)
    carried = between_steps(places)
    if carried is not None:
        fault, beside, told = carried
        evidence = (lead, output_right(study), *told)
        facts = {"where": ", ".join(sorted(wrong))}
        confidence = 0.9 / (1 + 0.5 * len(beside))
        return Candidate((fault,), "", None, evidence, facts, tuple(beside), confidence)
    return family("between_steps", (lead, output_right(study)), BETWEEN)


def _exact_below_the_output(
    exact: tuple[str, ...], observed: Observed, study: Study, lead: str
) -> Candidate:
    """A direction beside the one that is wrong, or a layer above it."""
    if alone := one_alone(observed, study):
        return named("direction_not_reversed", "δh", 0.8, lead, alone)
    said = f"A layer is exact, {', '.join(exact)}; the one below is not."
    beside = () if study.sides is None else ("direction_not_reversed",)  # its δx, on the way down
    confidence = 0.5 if beside else 0.8
    return Candidate(
        ("lower_layer_overwritten",),
        evidence=(lead, said),
        alternatives=beside,
        confidence=confidence,
    )
