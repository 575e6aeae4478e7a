"""What is wrong within a step: at T = 1 already."""

from __future__ import annotations

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.candidate import Candidate
from throughtime.diagnosis.directions import swapped
from throughtime.diagnosis.inside import other_units, wrong_slopes
from throughtime.diagnosis.localise import (
    INSIDE,
    family,
    found_candidate,
    named,
    of_projection,
    output_right,
    parts_of,
)
from throughtime.diagnosis.observed import LIMIT, Observed
from throughtime.diagnosis.output import wrong_output
from throughtime.diagnosis.projection import through_projection, wrong_projection
from throughtime.diagnosis.simple_points import SimplePoints
from throughtime.diagnosis.study import Study
from throughtime.diagnosis.update_gate import without_first_state

SIDE = 8  # rows and columns of which a rank is taken
CLEAN = 100.0  # times the noise: so large are the largest of singular values that are all seen

WHY = {True: "more than one step's worth", False: "one step's worth"}


def within_a_step(observed: Observed, one: Observed, places: SimplePoints, lead: str) -> Candidate:
    """From what is seen as given and at T = 1; `lead` says what disagrees there."""
    study = places.study
    wrong = set(one.wrong())
    shifted = _states_shifted(one, study)
    if shifted is not None:
        return Candidate(("states_off_by_one",), evidence=(lead, shifted), confidence=0.9)
    if wrong & set(study.roles.output):
        found = wrong_output(observed, study)
        if found is not None:
            return found_candidate(found, lead, observed)
        return family("output_layer", (lead,), ("softmax_derivative_twice", "different_loss"))
    if projected := wrong_projection(observed, study) or through_projection(study):
        return of_projection(projected, lead)
    where = ", ".join(sorted(wrong))
    parts = parts_of(one, study)
    if parts == {"recurrent"} and parts_of(observed, study) == {"recurrent"}:
        return _wrong_state(observed, one, study, lead)
    if parts == {"input"} and parts_of(observed, study) == {"input"}:
        said = f"Only the input weights, {where}, are wrong, at any T."
        return named("sequences_swapped", where, 0.85, lead, said)
    if places.gates == 4 and wrong & set(study.roles.matrices) and _from_nothing(one):
        said = (
            f"At T = 1 the loss does not react to the entries of {where} that are wrong: there "
            "the cell state before is 0."
        )
        return named("current_c_for_previous", where, 0.9, lead, said)
    seen = (lead, output_right(study))
    if crossed := swapped(one, study):
        return named("directions_swapped", "δh", 0.9, *seen, crossed)
    if stateless := without_first_state(places):
        return named("update_gate_term_missing", where, 0.9, *seen, stateless)
    if dropped := other_units(places):
        return named("dropout_mask_redrawn", where, 0.8, *seen, dropped)
    slopes = wrong_slopes(places)
    if len(slopes) == 1:
        fault, said_of = next(iter(slopes.items()))
        return named(fault, where, 0.9, *seen, *said_of)
    return family("inside_a_step", seen, INSIDE, where)


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
