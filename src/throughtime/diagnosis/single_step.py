"""What is wrong within a step, so that it shows at T = 1 already.

Where every pre-activation is β, a wrong derivative of an activation changes the gradient of a bias
by a factor that is known beforehand. Where no unit sees another one, every known fault of a cell
predicts the gradient of every bias, see `one_unit`.

A GRU's update gate has δ = δh times the difference of the two values that it mixes. Where h_{t−1}
is missing from it, and recurrent weights are 0, that gate's bias alone shows it. With everything
below the output layer at 0, the candidate n is 0 too, and what is left is h_0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import sigmoid
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.factors import number, ratio_of
from throughtime.diagnosis.faults import FAULTS
from throughtime.diagnosis.localise import (
    INSIDE,
    candidate_of,
    family_candidate,
    fault_candidate,
    output_right,
    projection_candidate,
    swapped,
    through_projection,
    wrong_output,
    wrong_projection,
)
from throughtime.diagnosis.mutants.interventions import Mutation
from throughtime.diagnosis.observed import CandidateCause, Observed
from throughtime.diagnosis.one_unit import OneUnit, one_unit
from throughtime.diagnosis.simple_points import SimplePoints, columns
from throughtime.diagnosis.tolerances import (
    BETA,
    CLEAN_SPECTRUM,
    CONFIDENCE_OF_NUMBERS,
    DIFFERS_BEYOND,
    FACTOR_ERROR_BARS,
    FACTOR_ROUNDING,
    MOST_ALIASES,
    RANK_SIDE,
    SAME_SPACE,
    STEEP_ENTRY,
)

WHY = {True: "more than one step's worth", False: "one step's worth"}


def within_a_step(
    observed: Observed, one: Observed, points: SimplePoints, lead: str
) -> CandidateCause:
    """The candidate for what is seen at the target's own T and at T = 1.

    Args:
        observed: at the target's own length.
        one: at T = 1, where the gradient is wrong too.
        points: where the network is simple.
        lead: a sentence that says what disagrees at T = 1.
    """
    study = points.study
    wrong = set(one.wrong())
    shifted = states_shifted(observed, one, study)
    if shifted is not None:
        return CandidateCause(("states_off_by_one",), evidence=(lead, shifted), confidence=0.9)
    if wrong & set(study.roles.output):
        found = wrong_output(observed, study)
        if found is not None:
            return candidate_of(found, lead, observed)
        return family_candidate(
            "output_layer", (lead,), ("softmax_derivative_twice", "different_loss")
        )
    if projected := wrong_projection(observed, study) or through_projection(study):
        return projection_candidate(projected, lead)
    unit = one_unit(points)
    if unit is not None and any(unit.off):
        return told_by_units(unit, (lead, output_right(study)), observed, "inside_a_step", INSIDE)
    shown = _by_symptoms(observed, one, points, lead)
    return not_refuted(shown, unit, "inside_a_step", INSIDE)


def told_by_units(
    unit: OneUnit,
    evidence: Sequence[str],
    observed: Observed,
    place: str,
    members: Sequence[str],
) -> CandidateCause:
    """The faults that are right about every bias; or the place, without those that are not.

    Args:
        unit: what the biases tell.
        evidence: what was known before, in sentences.
        observed: at the target's own length.
        place: the place that is named where no known fault is right, …
        members: … and the faults that it may have.
    """
    entries = sum(seen.g.size for seen in unit.looks)
    where = ", ".join(unit.wrong)
    if not unit.fitting:
        said = (
            f"{unit.point}. The numerical derivatives of the biases are those of {unit.name}; "
            f"{where} {'are' if len(unit.wrong) > 1 else 'is'} wrong there, in a way that no "
            "known fault alone explains."
        )
        left = [name for name in members if name not in unit.refuted]
        return family_candidate(place, (*evidence, said), left, where)
    first, *others = unit.fitting
    rest = [m for m in others if not FAULTS[m.fault].systematic or m.fault == first.fault]
    said = (
        f"{unit.point}. The numerical derivatives of the biases are those of {unit.name}, and with "
        f"{_in_words(first)} its backward pass gives your gradient of them, all {entries} numbers."
    )
    same = [m.where for m in others if FAULTS[m.fault].systematic]
    if same:
        said += f" So does it with {'; or with '.join(same[:MOST_ALIASES])}."
    facts = {"T": str(observed.steps), "where": first.where or where, **dict(first.facts)}
    beside = tuple(dict.fromkeys(m.fault for m in rest if m.fault != first.fault))
    sure = CONFIDENCE_OF_NUMBERS / (1 + 0.5 * len(beside))
    return CandidateCause((first.fault,), first.where, None, (*evidence, said), facts, beside, sure)


def _in_words(mutation: Mutation) -> str:
    return f"{mutation.fault} ({mutation.where})" if mutation.where else mutation.fault


def not_refuted(
    found: CandidateCause, unit: OneUnit | None, place: str, members: Sequence[str]
) -> CandidateCause:
    """The candidate, if the biases of units that do not see each other do not speak against it."""
    refuted = frozenset[str]() if unit is None else unit.refuted
    if unit is None or not refuted & {*found.faults, *found.alternatives}:
        return found
    if not refuted & set(found.faults):
        left = tuple(name for name in found.alternatives if name not in refuted)
        return replace(found, alternatives=left)
    said = f"{unit.point}; {found.fault} would show there, and does not."
    left_over = [name for name in members if name not in refuted]
    return family_candidate(place, (*found.evidence[:2], said), left_over, found.where)


def _by_symptoms(
    observed: Observed, one: Observed, points: SimplePoints, lead: str
) -> CandidateCause:
    """What is left: faults that show where units see each other or the inputs."""
    study = points.study
    wrong = set(one.wrong())
    where = ", ".join(sorted(wrong))
    if points.gates == 4 and wrong & set(study.roles.matrices) and _from_nothing(one):
        said = (
            f"At T = 1 the loss does not react to the entries of {where} that are wrong: there "
            "the previous cell state is 0."
        )
        return fault_candidate("current_c_for_previous", where, 0.9, lead, said)
    seen = (lead, output_right(study))
    if crossed := swapped(one, study):
        return fault_candidate("directions_swapped", "δh", 0.9, *seen, crossed)
    if stateless := without_first_state(points):
        return fault_candidate("update_gate_term_missing", where, 0.9, *seen, stateless)
    if dropped := other_units(points):
        return fault_candidate("dropout_mask_redrawn", where, 0.8, *seen, dropped)
    slopes = wrong_slopes(points)
    if len(slopes) == 1:
        fault, said_of = next(iter(slopes.items()))
        return fault_candidate(fault, where, 0.9, *seen, *said_of)
    return family_candidate("inside_a_step", seen, INSIDE, where)


def wrong_state(
    observed: Observed, one: Observed, study: Study, lead: str
) -> CandidateCause | None:
    """h_t for h_{t−1}: at every step, or at the first alone, so that g − n has a small rank.

    None where it is neither: at T = 1 the recurrent weights meet another value than h_1.
    """
    where = ", ".join(observed.wrong())
    said = "Only the recurrent weights are wrong; at T = 1 the loss does not react to them."
    facts, both = {"where": where}, ("wrapped_initial_state", "initial_state_overwritten")
    name = next((n for n in observed.wrong() if n in one.wrong()), None)
    met = None if name is None else _meets_the_new_state(one, study, name)
    if met is False:
        return None
    sure = 0.7 if met else 0.5
    unsure = CandidateCause(
        ("current_h_for_previous",), where, None, (lead, said), facts, both, sure
    )
    if name is None or observed.steps is None or observed.steps < 2:
        return unsure if met else None
    here, first = (_directions(study, name, steps) for steps in (observed.steps, 1))
    if here is None or first is None or first.all() or here.sum() < first.sum():
        return unsure if met else None
    grown = bool(here.sum() > first.sum())
    if not grown and observed.steps < 3:
        return unsure if met else None
    words = (
        f"gradient − numerical derivative of {name} has {here.sum()} directions of {here.size} at "
        f"T = {observed.steps}, {first.sum()} at T = 1"
    )
    why = f"In {here.size} of its rows and columns, {words}: {WHY[grown]}."
    if grown:
        fault = "current_h_for_previous"
        return CandidateCause((fault,), where, None, (lead, said, why), facts, (), 0.85)
    same = _one_space(study, name, observed.steps)
    if same is None:
        return CandidateCause(both[:1], where, None, (lead, said, why), facts, both[1:], 0.5)
    which = f"{'the same' if same else 'another'} at T = {observed.steps}"
    meets = f"What {name} meets at the first step is {which} {'as' if same else 'than'} at T = 1."
    seen = (lead, said, why, meets)
    return CandidateCause((both[same],), where, None, seen, facts, (), 0.85)


def _meets_the_new_state(one: Observed, study: Study, name: str) -> bool | None:
    """Whether recurrent weights meet h_1 at T = 1, as the output layer does; None where it is mute.

    The gradient of either is a sum of outer products with the h_1 of each sequence.
    """
    roles, mask = study.roles, (study.roles.recurrent or {})[name]
    if roles.head is None or roles.lower or not roles.seen or mask.ndim != 2:
        return None
    seen = np.atleast_2d(np.squeeze(one.gradient[roles.head]))
    sides = [a for a in (seen, seen.T) if a.shape[1] == roles.seen]
    found = [
        a[:, lines]
        for a, m in ((one.gradient[name], mask), (one.gradient[name].T, mask.T))
        if (lines := np.flatnonzero(m.all(axis=0))).size == roles.seen
    ]
    for upper in sides:
        for own in found:
            few, both = (_rank(a) for a in (upper, np.concatenate([upper, own])))
            if few >= roles.seen or _rank(own) > few:
                return None
            if both == few:
                return True
    return False if sides and found else None


def _rank(matrix: Array) -> int:
    return int(np.linalg.matrix_rank(matrix, tol=SAME_SPACE * float(np.linalg.norm(matrix))))


def _directions(study: Study, name: str, steps: int) -> Array | None:
    """Which singular values of g − n are more than noise; None where noise may hide some.

    They are taken in some rows and columns of the recurrent weights.
    """
    found = _residual(study, name, steps)
    if found is None:
        return None
    values = np.linalg.svd(found[0], compute_uv=False)
    return values > found[1] if values[0] > CLEAN_SPECTRUM * found[1] else None


def _residual(study: Study, name: str, steps: int) -> tuple[Array, float] | None:
    """g − n in some rows and columns of the recurrent weights, and its noise; None: not known."""
    mask = (study.roles.recurrent or {})[name]
    sides = [_spread(np.flatnonzero(mask.any(axis=1 - axis))) for axis in (0, 1)]
    places = np.ravel_multi_index(np.ix_(*sides), mask.shape).reshape(-1)
    order = np.argsort(places)
    seen = study.look(steps, places={name: places[order]})
    if seen is None or not mask.reshape(-1)[places].all():
        return None
    off, bars = np.empty(places.size), np.empty(places.size)
    off[order] = seen.beside(name) - seen.sampled[name].numerical
    bars[order] = seen.bars(name)
    noise = DIFFERS_BEYOND * float(np.linalg.norm(bars))
    return off.reshape([len(side) for side in sides]), noise


def _one_space(study: Study, name: str, steps: int) -> bool | None:
    """Whether g − n has the rows, or the columns, of the same space at T = 1; None: all of it.

    Its one side is spanned by the states that the weights meet, those of each sequence.
    """
    two = [_residual(study, name, length) for length in (steps, 1)]
    known = [one for one in two if one is not None and one[0].any()]
    if len(known) < 2:
        return None
    sizes = [float(np.linalg.norm(off)) for off, _ in known]
    scaled = [off / size for (off, _), size in zip(known, sizes, strict=True)]
    parts = [noise / size for (_, noise), size in zip(known, sizes, strict=True)]
    noise = max(CLEAN_SPECTRUM * sum(parts), SAME_SPACE)
    ranks = []
    for turned in (False, True):
        one, other = (off.T if turned else off for off in scaled)
        few = int(np.linalg.matrix_rank(one, tol=noise))
        if not 0 < few < min(one.shape):
            return None
        ranks.append(int(np.linalg.matrix_rank(np.concatenate([one, other]), tol=noise)) == few)
    return any(ranks)


def _spread(places: Array) -> Array:
    """A few of the places, spread evenly from the first to the last."""
    return np.asarray(places[np.unique(np.linspace(0, len(places) - 1, RANK_SIDE).astype(int))])


def states_shifted(observed: Observed, one: Observed, study: Study) -> str | None:
    """A sentence where the output layer's matrix has no gradient at T = 1, as if it met h_0 = 0.

    From the second step on it would meet states that are not 0.
    """
    head = study.roles.head
    if head is None or head not in one.wrong() or one.gradient[head].any():
        return None
    if observed.steps != 1 and not observed.gradient[head].any():
        return None
    return f"At T = 1 the gradient of {head} is exactly 0, as if it met the state before the step."


def _from_nothing(one: Observed) -> bool:
    """Whether every entry that is wrong has a numerical derivative of 0."""
    for name in one.wrong():
        off = one.z(name) > DIFFERS_BEYOND
        own = one.sampled[name]
        if (np.abs(own.numerical[off]) > DIFFERS_BEYOND * one.bars(name)[off]).any():
            return False
    return True


def _slopes() -> Iterator[tuple[float, str, str]]:
    """The factors that wrong derivatives give to a gate's bias, with their faults, in words."""
    s, t = float(sigmoid(np.array(BETA))), float(np.tanh(BETA))
    ds, dt, again = s * (1 - s), 1 - t**2, float(sigmoid(np.array(s)))
    missing, activated = "derivative_missing", "derivative_of_activated_value"
    yield 1 / ds, missing, "1/σ′(β)"
    yield 1 / dt, missing, "1/tanh′(β)"
    yield again * (1 - again) / ds, activated, "σ′(σ(β))/σ′(β)"
    yield (1 - np.tanh(t) ** 2) / dt, activated, "tanh′(tanh β)/tanh′(β)"
    c = s * t
    tc = float(np.tanh(c))
    yield 1 / (1 - tc**2), missing, "1/tanh′(c)"
    yield (1 - np.tanh(tc) ** 2) / (1 - tc**2), activated, "tanh′(tanh c)/tanh′(c)"
    yield s / t, "gates_swapped_in_dc", "σ(β)/tanh(β)"
    yield t / s, "gates_swapped_in_dc", "tanh(β)/σ(β)"


def wrong_slopes(points: SimplePoints) -> dict[str, list[str]]:
    """By fault, sentences on the factors of the biases at T = 1, where every z is β."""
    if not points.useful:
        return {}
    seen = points.biases(1, BETA)
    found: dict[str, list[str]] = {}
    for value, error, where in _factors(seen) if seen is not None else ():
        for expected, fault, words in _slopes():
            if abs(value - expected) <= FACTOR_ERROR_BARS * error + FACTOR_ROUNDING * expected:
                said = (
                    f"At T = 1, with every pre-activation at β = {BETA}, {where} is "
                    f"{number(value, error)} times its numerical derivative: {words}."
                )
                found.setdefault(fault, []).append(said)
                break
        else:
            return {}  # a factor that is none of these: none of them is believed
    if len(found.get("gates_swapped_in_dc", ["", ""])) != 2:
        return {}
    return found


def other_units(points: SimplePoints) -> str | None:
    """A sentence where some units have a gradient but no derivative, and others the reverse.

    Where all pre-activations are alike, units differ by the output layer's weights and by what is
    dropped alone.
    """
    seen = points.biases(1, BETA) if points.useful else None
    units = points.study.roles.units or 1
    for name, own in seen.sampled.items() if seen is not None else ():
        assert seen is not None
        g, bars = seen.beside(name), seen.bars(name)
        idle = np.abs(own.numerical) <= bars
        active, silent = idle & (np.abs(g) > STEEP_ENTRY * bars), ~idle & (g == 0)
        # A whole gate may have no gradient for another reason; its units differ by a mask alone.
        gates = [slice(k, k + units) for k in range(0, g.size, units)]
        if any(active[gate].any() and silent[gate].any() for gate in gates):
            return (
                f"At T = 1, with every pre-activation at β = {BETA}, {int(active.sum())} entries "
                f"of {name} have a gradient where the loss does not react, and "
                f"{int(silent.sum())} have none where it does."
            )
    return None


def _factors(observed: Observed) -> Iterator[tuple[float, float, str]]:
    """Each factor other than 1 by which entries of the biases are off, its error, and where."""
    groups: list[tuple[float, float, list[str]]] = []
    for name, own in observed.sampled.items():
        g, bars = observed.beside(name), observed.bars(name)
        for k, place in enumerate(own.places):
            ratio = ratio_of(g[k : k + 1], own.numerical[k : k + 1], bars[k : k + 1])
            if not ratio.entries or ratio.is_near(1.0):
                continue
            for value, error, where in groups:
                both = FACTOR_ERROR_BARS * (error + ratio.error) + FACTOR_ROUNDING * abs(value)
                if abs(value - ratio.value) <= both:
                    where.append(f"{name}[{place}]")
                    break
            else:
                groups.append((ratio.value, ratio.error, [f"{name}[{place}]"]))
    for value, error, where in groups:
        yield value, error, where[0] if len(where) == 1 else f"{where[0]} … {where[-1]}"


def without_first_state(points: SimplePoints) -> str | None:
    """A sentence where a gate's bias lacks, at T = 1, the part that comes from h_0."""
    seen = points.biases(1) if points.gates == 3 and points.useful else None
    if seen is None:
        return None
    g, n, bars = columns(seen)
    off = np.abs(g - n) > DIFFERS_BEYOND * bars
    silent = (np.abs(g) <= bars) & (np.abs(n) > STEEP_ENTRY * bars)
    if not off.any() or off.sum() > points.study.roles.units or (off & ~silent).any():
        return None
    return (
        "At T = 1, with everything below the output layer at 0, the candidate is 0, and an update "
        f"gate's δ comes from h_0 alone: {int(off.sum())} entries of the biases have no gradient "
        "where the loss reacts to them; all others agree."
    )
