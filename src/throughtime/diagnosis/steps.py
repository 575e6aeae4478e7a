"""What is wrong where no factor and no rearrangement explains it: first when, then where.

When: at T = 1 already, from T = 2 on, or only beyond some k. Where: the output layer, the biases,
the input weights or the recurrent ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from throughtime.arrays import Array
from throughtime.checking.budget import Spent
from throughtime.diagnosis.between import between_steps
from throughtime.diagnosis.candidate import Candidate
from throughtime.diagnosis.directions import one_alone, swapped
from throughtime.diagnosis.inside import other_units, wrong_slopes
from throughtime.diagnosis.observed import LIMIT, Observed
from throughtime.diagnosis.output import wrong_output
from throughtime.diagnosis.places import Places
from throughtime.diagnosis.projection import through_projection, wrong_projection
from throughtime.diagnosis.study import Study
from throughtime.diagnosis.update_gate import without_first_state

SIDE = 8  # rows and columns of which a rank is taken
CLEAN = 100.0  # times the noise: so large are the largest of singular values that are all seen

WHY = {True: "more than one step's worth", False: "one step's worth"}
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
INSIDE = (
    "derivative_missing",
    "derivative_of_activated_value",
    "gates_swapped_in_dc",
    "current_h_for_previous",
    "current_c_for_previous",
    "wrapped_initial_state",
    "states_off_by_one",
    "update_gate_term_missing",
    "dropout_mask_redrawn",
)


def by_steps(observed: Observed, study: Study) -> Candidate | None:
    """What experiments on length and parameters say; None where the target allows none."""
    one = study.at(1)
    if one is None or study.roles.head is None:
        return None
    if one.wrong():
        lead = f"At T = 1 it disagrees already, in {', '.join(one.wrong())}."
        return _told(lambda: _at_one(observed, one, Places(study), lead), lead, one, study)
    longest = _longest_right(study)
    if longest is not None and longest > 1:
        return _truncated(observed, study, longest)
    lead = f"At T = 1 it agrees; at T = {observed.steps} it does not."
    return _told(lambda: _from_two(observed, Places(study), lead), lead, observed, study)


def _told(find: Callable[[], Candidate], lead: str, observed: Observed, study: Study) -> Candidate:
    """What experiments find; the place, where the budget ends before they do."""
    try:
        return find()
    except Spent:
        said = "The budget of evaluations ended before experiments told more."
    if set(observed.wrong()) & set(study.roles.output):
        return _family("output_layer", (lead, said), ())
    inside = observed.steps == 1
    place, members = ("inside_a_step", INSIDE) if inside else ("between_steps", BETWEEN)
    return _family(place, (lead, said), members)


# --- beyond one step ---


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
        return _family("between_steps", (said,), ("truncated", "padding_counted"))
    facts = {"k": str(k), "T": str(observed.steps)}
    return Candidate(("truncated",), evidence=(said, _output_right(study)), facts=facts)


def _from_two(observed: Observed, places: Places, lead: str) -> Candidate:
    study = places.study
    wrong = set(observed.wrong())
    if wrong & set(study.roles.output):
        found = wrong_output(observed, study)
        if found is not None:
            return found_candidate(found, lead, observed)
        return _family("output_layer", (lead,), ("padding_counted", "targets_shifted"))
    if projected := wrong_projection(observed, study):
        return _of_projection(projected, lead)
    parts = _parts(observed, study)
    if parts == {"input"}:
        where = ", ".join(sorted(wrong))
        said = f"Only the input weights, {where}, are wrong; biases and recurrent weights agree."
        return Candidate(
            ("time_reversed",),
            where,
            evidence=(lead, said),
            facts={"where": where},
            confidence=0.85,
        )
    if upper := _exact_layer(observed, study):
        return _exact_below_the_output(upper, observed, study, lead)
    carried = between_steps(places)
    if carried is not None:
        fault, beside, told = carried
        evidence = (lead, _output_right(study), *told)
        facts = {"where": ", ".join(sorted(wrong))}
        confidence = 0.9 / (1 + 0.5 * len(beside))
        return Candidate((fault,), "", None, evidence, facts, tuple(beside), confidence)
    return _family("between_steps", (lead, _output_right(study)), BETWEEN)


def _exact_below_the_output(
    exact: tuple[str, ...], observed: Observed, study: Study, lead: str
) -> Candidate:
    """A direction beside the one that is wrong, or a layer above it."""
    if alone := one_alone(observed, study):
        fault, facts = ("direction_not_reversed",), {"where": "δh"}
        return Candidate(fault, evidence=(lead, alone), facts=facts, confidence=0.8)
    said = f"A layer is exact, {', '.join(exact)}; the one below is not."
    beside = () if study.sides is None else ("direction_not_reversed",)  # its δx, on the way down
    confidence = 0.5 if beside else 0.8
    return Candidate(
        ("lower_layer_overwritten",),
        evidence=(lead, said),
        alternatives=beside,
        confidence=confidence,
    )


def _of_projection(found: tuple[str, str], lead: str) -> Candidate:
    fault, said = found
    facts = {"where": "another factor"}
    return Candidate((fault,), evidence=(lead, said), facts=facts, confidence=0.9)


# --- within a step ---


def _at_one(observed: Observed, one: Observed, places: Places, lead: str) -> Candidate:
    study = places.study
    wrong = set(one.wrong())
    shifted = _states_shifted(one, study)
    if shifted is not None:
        return Candidate(("states_off_by_one",), evidence=(lead, shifted), confidence=0.9)
    if wrong & set(study.roles.output):
        found = wrong_output(observed, study)
        if found is not None:
            return found_candidate(found, lead, observed)
        return _family("output_layer", (lead,), ("softmax_derivative_twice", "different_loss"))
    if projected := wrong_projection(observed, study) or through_projection(study):
        return _of_projection(projected, lead)
    where = ", ".join(sorted(wrong))
    parts = _parts(one, study)
    if parts == {"recurrent"} and _parts(observed, study) == {"recurrent"}:
        return _wrong_state(observed, one, study, lead)
    if parts == {"input"} and _parts(observed, study) == {"input"}:
        said = f"Only the input weights, {where}, are wrong, at any T."
        return Candidate(
            ("sequences_swapped",),
            where,
            evidence=(lead, said),
            facts={"where": where},
            confidence=0.85,
        )
    if places.gates == 4 and wrong & set(study.roles.matrices) and _from_nothing(one):
        said = (
            f"At T = 1 the loss does not react to the entries of {where} that are wrong: there "
            "the cell state before is 0."
        )
        return Candidate(
            ("current_c_for_previous",),
            where,
            evidence=(lead, said),
            facts={"where": where},
            confidence=0.9,
        )
    if crossed := swapped(one, study):
        seen, facts = (lead, _output_right(study), crossed), {"where": "δh"}
        return Candidate(("directions_swapped",), evidence=seen, facts=facts, confidence=0.9)
    if stateless := without_first_state(places):
        seen, name = (lead, _output_right(study), stateless), "update_gate_term_missing"
        return Candidate((name,), where, evidence=seen, confidence=0.9)
    if dropped := other_units(places):
        seen = (lead, _output_right(study), dropped)
        return Candidate(("dropout_mask_redrawn",), where, evidence=seen, confidence=0.8)
    slopes = wrong_slopes(places)
    if len(slopes) == 1:
        fault, said_of = next(iter(slopes.items()))
        evidence = (lead, _output_right(study), *said_of)
        return Candidate((fault,), where, evidence=evidence, facts={"where": where}, confidence=0.9)
    return _family("inside_a_step", (lead, _output_right(study)), INSIDE, where)


def _wrong_state(observed: Observed, one: Observed, study: Study, lead: str) -> Candidate:
    """h_t for h_{t−1}: at every step, or at the first alone, which leaves few directions."""
    where = ", ".join(observed.wrong())
    said = "Only the recurrent weights are wrong; at T = 1 the loss does not react to them."
    facts, both = {"where": where}, ("wrapped_initial_state",)
    unsure = Candidate(("current_h_for_previous",), where, None, (lead, said), facts, both, 0.5)
    name = next((n for n in observed.wrong() if n in one.wrong()), None)
    if name is None or observed.steps is None:
        return unsure
    here, first = (_directions(study, name, steps) for steps in (observed.steps, 1))
    if here is None or first is None or first.all() or here.sum() < first.sum():
        return unsure
    grown = bool(here.sum() > first.sum())
    words = (
        f"gradient − numerical derivative of {name} has {here.sum()} directions of {here.size} at "
        f"T = {observed.steps}, {first.sum()} at T = 1"
    )
    fault = "current_h_for_previous" if grown else "wrapped_initial_state"
    why = f"In {here.size} of its rows and columns, {words}: {WHY[grown]}."
    return Candidate((fault,), where, None, (lead, said, why), facts, (), 0.85)


def _directions(study: Study, name: str, steps: int) -> Array | None:
    """Of g − n in some rows and columns of the recurrent weights, which singular values are more
    than noise; None where noise may hide some."""
    mask = (study.roles.recurrent or {})[name]
    sides = [_spread(np.flatnonzero(mask.any(axis=1 - axis))) for axis in (0, 1)]
    places = np.ravel_multi_index(np.ix_(*sides), mask.shape).reshape(-1)
    order = np.argsort(places)
    seen = study.look(steps, places={name: places[order]})
    if seen is None or not mask.reshape(-1)[places].all():
        return None
    off, bars = np.empty(places.size), seen.bars(name)
    off[order] = seen.beside(name) - seen.sampled[name].numerical
    values = np.linalg.svd(off.reshape([len(side) for side in sides]), compute_uv=False)
    noise = LIMIT * np.linalg.norm(bars)
    return values > noise if values[0] > CLEAN * noise else None


def _spread(places: Array) -> Array:
    """At most so many of them, from first to last."""
    return np.asarray(places[np.unique(np.linspace(0, len(places) - 1, SIDE).astype(int))])


def _states_shifted(one: Observed, study: Study) -> str | None:
    """The output layer's matrix has no gradient at T = 1, since it met h_0 = 0."""
    head = study.roles.head
    if head is None or head not in one.wrong() or one.gradient[head].any():
        return None
    return f"At T = 1 the gradient of {head} is exactly 0, as if it met the state before the step."


def _from_nothing(one: Observed) -> bool:
    """Whether all that is wrong has a numerical derivative of 0."""
    for name in one.wrong():
        off = one.z(name) > LIMIT
        own = one.sampled[name]
        if (np.abs(own.numerical[off]) > LIMIT * one.bars(name)[off]).any():
            return False
    return True


# --- which part ---


def _parts(observed: Observed, study: Study) -> set[str]:
    """Of what is wrong below the output layer: "bias", "input", "recurrent"."""
    masks = study.roles.recurrent or {}
    known = any(mask.any() for mask in masks.values())
    found = set()
    for name in observed.wrong():
        off = observed.sampled[name].places[observed.z(name) > LIMIT]
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


def _exact_layer(observed: Observed, study: Study) -> tuple[str, ...]:
    """Tensors below the output layer that are right, recurrent weights among them."""
    masks = study.roles.recurrent or {}
    right = [name for name in study.roles.hidden if name not in observed.wrong()]
    whole = [n for n in right if n in masks and masks[n].any()]
    biases = [n for n in right if n in study.roles.vectors]
    return tuple(right) if whole and biases else ()


def _output_right(study: Study) -> str:
    return f"The output layer, {', '.join(study.roles.output)}, agrees."


def found_candidate(
    found: tuple[str, Sequence[str], float], lead: str, observed: Observed
) -> Candidate:
    """A candidate from a fault, sentences, and how sure it is."""
    fault, said, confidence = found
    facts = {"T": str(observed.steps), "where": ", ".join(observed.wrong())}
    return Candidate((fault,), evidence=(lead, *said), facts=facts, confidence=confidence)


def _family(
    name: str, evidence: Sequence[str], members: Sequence[str], where: str = ""
) -> Candidate:
    facts = {"where": where} if where else {}
    return Candidate((name,), where, None, tuple(evidence), facts, tuple(members), 0.5)
