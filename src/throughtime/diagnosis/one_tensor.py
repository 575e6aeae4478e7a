"""Where one tensor, or one kind of weights, is wrong and all else is right.

A wrong δ makes whatever it is multiplied with wrong, and it is handed on. So where one tensor alone
is wrong, δ is right, and the fault is in what δ is multiplied with for this tensor, or in how the
products are added up. Which of the two it is, and how, is said where numbers that it predicts are
seen:

- Of a sum over the steps in which `=` stands for `+=`, one step's products are left: one for each
  sequence, as at T = 1.
- Where steps are taken in the opposite order, Σ δz_t x_tᵀ and the gradient are together
  (δz_1 + δz_2)(x_1 + x_2)ᵀ at T = 2, which is one product for each sequence; and with two
  sequences exchanged it is one product at T = 1.
- Of an embedding, each row gets the products of the steps with its word. Where nothing goes from
  step to step, the numerical derivatives at the lengths 1, 2, … give each step's own product, and
  the gradient of a row whose word came several times is that of one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.factors import ratio_of
from throughtime.diagnosis.localise import family_candidate, fault_candidate, parts_of
from throughtime.diagnosis.observed import CandidateCause, Observed
from throughtime.diagnosis.roles import LossReactions
from throughtime.diagnosis.simple_points import columns
from throughtime.diagnosis.single_step import states_shifted, wrong_state
from throughtime.diagnosis.tolerances import (
    CLEAN_SPECTRUM,
    CLOSED_GATE,
    COUNTS_FIT,
    DIFFERS_BEYOND,
    ENTRIES_OF_A_ROW,
    RANK_SIDE,
    SAME_SPACE,
    SMALLEST_ERROR_BAR,
    STEEP_ENTRY,
    STEPS_OF_AN_EMBEDDING,
)

PLACE = "operand_of_one_tensor"
EMBEDDING = "embedding_rows_counted_once"
OPERAND = "wrong_operand_in_step"  # as h_{t−1} for r ⊙ h_{t−1}, by which a GRU's U is multiplied
ANOTHER_INPUT = "another_layers_input"
KEPT = "only_last_step_kept"


def of_one_tensor(observed: Observed, study: Study, one: Observed | None) -> CandidateCause | None:
    """The candidate where δ is right and a tensor is not; None where δ may be wrong.

    Args:
        observed: at the target's own length.
        study: further experiments.
        one: at T = 1; None where the target cannot be run there.
    """
    wrong = observed.wrong()
    known = _of_the_same_delta(_witnesses(observed, study), wrong, study)
    known = known if _handed_back(study, wrong) else ()
    if not known or study.roles.projection in wrong or _others_elsewhere(observed, study):
        return _of_biases(observed, study)
    where, parts = ", ".join(wrong), parts_of(observed, study)
    agree = "agrees" if known[0] in observed.gradient and len(known) == 1 else "agree"
    at = "At T = 1 " if observed.steps == 1 and study.steps != 1 else ""
    part = _wrong_part(study, wrong, parts)
    lead = f"{at}δ is right, since {', '.join(known)} {agree}: only {part}."
    early = None if one is None else bool(one.wrong())
    said = "" if early is None else f"At T = 1 it {'already disagrees' if early else 'agrees'}."
    seen = tuple(words for words in (lead, said) if words)
    if early and one is not None:
        if shifted := states_shifted(observed, one, study):
            return fault_candidate("states_off_by_one", where, 0.9, *seen, shifted)
        if parts == {"recurrent"} and parts_of(one, study) == {"recurrent"}:
            state = wrong_state(observed, one, study, lead)
            if state is not None:
                return state
    rows = _rows(observed, wrong[0]) if len(wrong) == 1 else None
    if rows is not None and early is not None and rows.size:
        told = _embedding(observed, study, wrong[0], rows)
        if told is not None:
            return fault_candidate(EMBEDDING, where, 0.93, *seen, told)
    if early is False and one is not None and observed.steps and observed.steps > 1:
        told = _one_step_left(observed, one, wrong)
        if told is not None:
            return fault_candidate(KEPT, where, 0.9, *seen, told)
    if parts == {"input"} and early is not None:
        told = _other_order(study, wrong[0], 1 if early else 2)
        if told is not None:
            fault = "sequences_swapped" if early else "time_reversed"
            return fault_candidate(fault, where, 0.9, *seen, told)
    if parts == {"input"} and early is False and not set(known) & set(study.roles.vectors):
        # U does not see δ of the first step, whose state before is mostly 0; another length tells.
        steps = observed.steps or 1
        there = study.at(steps - 1 if steps > 2 else steps + 1)
        if there is None or set(there.wrong()) != set(wrong):
            return None
    return family_candidate(PLACE, seen, _members(study, wrong, parts, early, rows), where)


def _of_biases(observed: Observed, study: Study) -> CandidateCause | None:
    """The candidate where biases alone are wrong, and derivatives are too small here to tell more.

    At drawn parameters, where nothing is small, the weights tell whether δ is right.
    """
    if parts_of(observed, study) != {"bias"}:
        return None
    there = study.elsewhere(steps=observed.steps)
    if there is None or parts_of(there, study) != {"bias"}:
        return None
    wrong = there.wrong()
    known = _of_the_same_delta(_witnesses(there, study), wrong, study)
    if not known or not set(observed.wrong()) <= set(wrong):
        return None
    where = ", ".join(wrong)
    lead = (
        f"δ is right, since with other parameters {', '.join(known)} agree: only "
        f"{_wrong_part(study, wrong, {'bias'})}."
    )
    return family_candidate(PLACE, (lead,), _members(study, wrong, {"bias"}, None, None), where)


def _witnesses(observed: Observed, study: Study) -> tuple[str, ...]:
    """The tensors, or kinds of weights, that get the same δ and agree; none where δ may be wrong.

    Of the tensors of several gates each has its own δ. All weights of another kind together, or
    all biases, see the δ of every gate; those of other gates do not.
    """
    wrong, roles = set(observed.wrong()), study.roles
    level = roles.output if wrong & set(roles.output) else roles.hidden
    right = tuple(n for n in level if n not in wrong and _would_show(observed, n))
    parts = parts_of(observed, study)
    if len(wrong) == 1 and (right or wrong & set(roles.output)):
        return right or tuple(n for n in roles.hidden if _would_show(observed, n))
    if parts not in ({"recurrent"}, {"input"}, {"bias"}):
        return ()
    for kind in {"recurrent", "input", "bias"} - parts:
        known = tuple(name for name in level if _kind(name, study) == kind)
        if known and set(known) <= set(right) and (kind != "bias" or of_all_units(study, wrong)):
            return known
    if parts == {"bias"}:
        return ()
    other = "input" if parts == {"recurrent"} else "recurrent"
    masks = [(roles.recurrent or {})[name] for name in wrong]
    both = all(mask.any() and not mask.all() for mask in masks)
    return (f"the {other} weights in {', '.join(observed.wrong())}",) if both else ()


def of_all_units(study: Study, names: Iterable[str]) -> bool:
    """Whether there are so many biases that each unit of these tensors has one.

    Where there are fewer, a vector may be the output layer of one output, which sees no gate's δ.
    """
    units = sum(min(np.squeeze(study.values[n]).shape, default=1) for n in names)
    return bool(sum(study.values[n].size for n in study.roles.vectors) >= units)


def _kind(name: str, study: Study) -> str:
    """What a tensor consists of: "bias", "input" or "recurrent" weights; "": of several."""
    if name in study.roles.vectors:
        return "bias"
    mask = (study.roles.recurrent or {}).get(name)
    if mask is None or (mask.any() and not mask.all()):
        return ""
    return "recurrent" if mask.all() else "input"


def _of_the_same_delta(known: Sequence[str], wrong: Sequence[str], study: Study) -> tuple[str, ...]:
    """The witnesses without those of an upper layer, which do not see the δ of what is wrong.

    With an upper layer's matrix at 0, nothing matters that lies below it. Of one layer's U and W, U
    may matter only where W is not 0, and W matters where U is 0; what an upper layer has matters
    there too, though not if something else reaches the output without it.
    """
    trials = LossReactions(study)
    zero = {name: np.zeros(array.shape) for name, array in study.values.items()}
    masks = study.roles.recurrent or {}

    def beside(name: str) -> bool:
        without = {name: zero[name]}
        cut = [n for n in wrong if not trials.reacts([n], without)]
        if not cut:
            return True
        others = [n for n in zero if n not in (name, study.roles.head_bias, *wrong)]
        if any(trials.reacts([n], without) for n in others):
            return False
        known = all(n in masks and masks[n].all() for n in cut)
        return known and all(trials.reacts([name], {n: zero[n]}) for n in cut)

    return tuple(name for name in known if name not in zero or beside(name))


def _handed_back(study: Study, wrong: Sequence[str]) -> bool:
    """Whether a wrong δ of any of these units would show in other tensors than these.

    Over several steps it is handed back, and spoils the tensors of all gates. Where there may be a
    single step, each gate's δ is seen by its own tensors alone: its bias, if every unit has one,
    and of a bias its weights.
    """
    vectors = set(study.roles.vectors)
    if (study.steps or 1) > 1 or set(wrong) & {*vectors, *study.roles.output}:
        return True
    units = [n for n in study.roles.matrices if n not in study.roles.lower]
    return of_all_units(study, units)


def _others_elsewhere(observed: Observed, study: Study) -> bool:
    """Whether other tensors are wrong at drawn parameters, where what is small here is not.

    If δ is right, it is right everywhere.
    """
    there = study.elsewhere(steps=observed.steps)
    return there is not None and not set(there.wrong()) <= set(observed.wrong())


def _would_show(observed: Observed, name: str) -> bool:
    """Whether a tensor would differ too if δ were as wrong as the tensors that do.

    It does not where its derivatives are known too coarsely, or are those of an L2 term.
    """
    own, w = observed.sampled[name], observed.parameters[name].reshape(-1)
    if not observed.gradient[name].any():
        return False
    largest = int(np.argmax(np.abs(own.numerical)))
    size, bar = abs(float(own.numerical[largest])), float(observed.bars(name)[largest])
    effect = min(_relative(observed, one) for one in observed.wrong())
    decay = ratio_of(own.numerical, w[own.places], observed.bars(name))
    return DIFFERS_BEYOND * bar < effect * size and not decay.fits


def _relative(observed: Observed, name: str) -> float:
    """How far a tensor is off at most, of its largest derivative."""
    n = observed.sampled[name].numerical
    largest = float(np.abs(n).max(initial=0.0))
    return float(np.abs(observed.beside(name) - n).max(initial=0.0)) / (
        largest or SMALLEST_ERROR_BAR
    )


def _wrong_part(study: Study, wrong: Sequence[str], parts: set[str]) -> str:
    """What is wrong, in words: whole tensors, or the weights of one kind in them."""
    masks = [(study.roles.recurrent or {}).get(name) for name in wrong]
    whole = any(mask is None or mask.all() or not mask.any() for mask in masks)
    where = ", ".join(wrong)
    if whole or len(parts) > 1:
        return f"{where} {'are' if len(wrong) > 1 else 'is'} wrong"
    return f"the {next(iter(parts))} weights in {where} are wrong"


def _members(
    study: Study, wrong: Sequence[str], parts: set[str], early: bool | None, rows: Array | None
) -> tuple[str, ...]:
    """The faults with a name that this may be, the likelier ones first."""
    found: list[str] = []
    if rows is not None and rows.size:
        found.append(EMBEDDING)
    if set(wrong) & set(study.roles.vectors) | set(wrong) & {study.roles.head_bias}:
        return (*found, KEPT, "bias_averaged", "bias_counted_twice", "bias_of_gate_copied")
    if set(wrong) & set(study.roles.output):
        return (*found, "states_off_by_one", KEPT, "dropout_mask_redrawn")
    if parts == {"recurrent"} and early:
        found += ["current_h_for_previous", "wrapped_initial_state", "initial_state_overwritten"]
        return (*found, OPERAND)
    if parts != {"input"}:
        found += ["current_h_for_previous", "wrapped_initial_state", "states_off_by_one"]
        found += ["initial_state_overwritten", OPERAND]
    if not early:
        found.append(KEPT)
    if parts != {"recurrent"}:
        found += ["sequences_swapped"] if early else ["time_reversed", "sequences_swapped"]
        found += [ANOTHER_INPUT] if early is not False else []  # which shows in a single step
    return tuple(found)


# --- one step left of the sum ---


def _one_step_left(observed: Observed, one: Observed, wrong: Sequence[str]) -> str | None:
    """A sentence where as many products are left of a gradient as there are in a single step."""
    said = []
    for name in wrong:
        g, first = np.squeeze(observed.gradient[name]), np.squeeze(one.gradient[name])
        if g.ndim != 2:
            return None
        few = _rank(first)
        right = _numerical(observed, name)
        if not 0 < few < min(g.shape) or _rank(np.concatenate([first, g])) > few:
            turned = _rank(np.concatenate([first, g], axis=1)) <= few if few else True
            if not few or turned or few >= min(g.shape):
                return None
        if _rank(g) != few or right is None or _rank(right, np.max(observed.bars(name))) <= few:
            return None
        if any(_parallel(g, b) for b in observed.gradient.values()):
            return None  # one operand at every step: Σ δz_t times it
        said.append(f"{name} has {few} of {min(g.shape)} directions, as at T = 1")
    return f"The gradient of {', '.join(said)}: only one step's share of the sum is left."


def _parallel(g: Array, bias: Array) -> bool:
    """Whether a matrix of rank 1 is the outer product of a bias's gradient and something."""
    if np.squeeze(bias).ndim != 1 or bias.size not in g.shape or not bias.any():
        return False
    unit = bias.reshape(-1) / np.linalg.norm(bias)
    sides = [array for array in (g, g.T) if len(array) == bias.size]
    size = np.linalg.norm(g)
    return any(np.linalg.norm(a - np.outer(unit, unit @ a)) < SAME_SPACE * size for a in sides)


def _numerical(observed: Observed, name: str) -> Array | None:
    """The numerical derivatives of a whole matrix; None where only a sample is known."""
    own = observed.sampled[name]
    if own.places.size < observed.gradient[name].size or not np.isfinite(own.errors).all():
        return None
    return np.squeeze(own.numerical.reshape(observed.gradient[name].shape))


def _rank(matrix: Array, noise: float = 0.0) -> int:
    """How many singular values are more than rounding, and than noise in every entry."""
    values = np.linalg.svd(matrix, compute_uv=False)
    least = max(SAME_SPACE * values[0], DIFFERS_BEYOND * noise * np.sqrt(matrix.size))
    return int((values > least).sum())


# --- another order of the inputs ---


def _other_order(study: Study, name: str, steps: int) -> str | None:
    """A sentence where gradient and numerical derivative together have too few directions."""
    shape = np.asarray(study.values[name]).shape
    mask = (study.roles.recurrent or {}).get(name)
    if len(shape) != 2 or min(shape) < 2:
        return None
    inputs = np.ones(shape, bool) if mask is None else ~mask
    sides = [_spread(np.flatnonzero(inputs.any(axis=1 - axis))) for axis in (0, 1)]
    places = np.ravel_multi_index(np.ix_(*sides), shape).reshape(-1)
    order = np.argsort(places)
    seen = study.look(steps, places={name: places[order]})
    if seen is None or not inputs.reshape(-1)[places].all():
        return None
    g, n, bars = np.empty(places.size), np.empty(places.size), np.empty(places.size)
    g[order], n[order], bars[order] = columns(seen)
    size = [len(side) for side in sides]
    both, right = (_directions(a.reshape(size), bars) for a in (g + n, n))
    if both is None or right is None or not both:
        return None
    single = study.at(1)
    if steps == 2:
        few = 0 if single is None else _rank(np.squeeze(single.gradient[name]))
        words = "as they are where two steps have been swapped"
    else:
        few, words = -(-right // 2), "as they are where two sequences have been swapped"
    if not both <= few < right:
        return None
    return (
        f"At T = {steps}, gradient and numerical derivative of {name} have {right} directions "
        f"each, and their sum {both}, {words}."
    )


def _directions(matrix: Array, bars: Array) -> int | None:
    """How many directions a matrix has; None where noise may hide some."""
    values = np.linalg.svd(matrix, compute_uv=False)
    noise = DIFFERS_BEYOND * float(np.linalg.norm(bars))
    return int((values > noise).sum()) if values[0] > CLEAN_SPECTRUM * noise else None


def _spread(places: Array) -> Array:
    return np.asarray(places[np.unique(np.linspace(0, len(places) - 1, RANK_SIDE).astype(int))])


# --- rows of an embedding ---


def _rows(observed: Observed, name: str) -> Array | None:
    """The rows of a matrix that are wrong, where others that the loss reacts to are right."""
    own, shape = observed.sampled[name], observed.gradient[name].shape
    if len(shape) != 2 or min(shape) < 2:
        return None
    row = own.places // shape[1]
    off = observed.z(name) > DIFFERS_BEYOND
    wrong = np.unique(row[off])
    # Of a row that is right by chance in some columns, most are wrong.
    share = [off[row == r].mean() for r in wrong]
    return wrong if len(wrong) < shape[0] and min(share) > 0.5 else np.empty(0, int)


def _embedding(observed: Observed, study: Study, name: str, rows: Array) -> str | None:
    """A sentence where every wrong row has the gradient of one of its several steps."""
    apart = _nothing_carried(study)
    if apart is None or not observed.steps:
        return None
    width = observed.gradient[name].shape[1]
    few = np.linspace(0, width - 1, min(width, ENTRIES_OF_A_ROW)).astype(int)
    places = np.unique(rows[:, None] * width + few)
    which = places // width
    seen: list[tuple[Array, Array, Array]] = []
    for steps in range(1, min(observed.steps, STEPS_OF_AN_EMBEDDING) + 1):
        there = study.look(steps, apart, {name: places})
        if there is None:
            return None
        seen.append(columns(there))
    for weights in (np.ones(len(seen)), 1 / np.arange(1, len(seen) + 1)):
        counted = _counted_once(seen, weights, which)
        if counted:
            times = ", ".join(f"{name}[{row}] of {many}" for row, many in counted.items())
            return (
                "With recurrent weights at 0, so that every step stands by itself, the gradient "
                f"of a row is that of a single step: {times} steps with its word."
            )
    return None


def _nothing_carried(study: Study) -> dict[str, Array] | None:
    """Parameters at which nothing goes from a step to the next, if that is known to be possible.

    Recurrent weights are 0, and so is the forget gate, whose bias a single step does not react to.
    """
    masks = study.roles.recurrent or {}
    if not any(mask.any() for mask in masks.values()):
        return None
    found = {n: np.where(m, 0.0, np.asarray(study.values[n])) for n, m in masks.items()}
    for name, idle in study.idle_biases.items():
        found[name] = np.where(idle, CLOSED_GATE, np.asarray(study.values[name]))
    return found


def _counted_once(
    seen: Sequence[tuple[Array, Array, Array]], weights: Array, which: Array
) -> dict[int, int]:
    """By row, in how many steps its word came, if each row has the gradient of one of them.

    Args:
        seen: gradient, numerical derivative and error bars at T = 1, 2, …
        weights: of a term of the loss at these lengths.
        which: the row of each entry.
    """
    n = np.array([own[1] / w for own, w in zip(seen, weights, strict=True)])
    bars = np.array([own[2] / w for own, w in zip(seen, weights, strict=True)])
    before = np.concatenate([np.zeros((1, n.shape[1])), n[:-1]])
    parts = n - before
    unsure = bars + np.concatenate([np.zeros((1, n.shape[1])), bars[:-1]])
    acts = np.abs(parts) > STEEP_ENTRY * unsure
    if not np.isfinite(unsure).all():
        return {}
    counted = {}
    for row in np.unique(which):
        here = which == row
        steps = np.flatnonzero(acts[:, here].any(axis=1))
        idle = np.setdiff1d(np.arange(len(seen)), steps)
        if len(steps) < 2 or (idle.size == 0 and len(np.unique(which)) < 2):
            return {}
        g, width = seen[-1][0][here] / weights[-1], COUNTS_FIT * unsure[:, here].max(axis=0)
        if not any((np.abs(g - parts[t, here]) <= width).all() for t in (steps[0], steps[-1])):
            return {}
        counted[int(row)] = len(steps)
    return counted
