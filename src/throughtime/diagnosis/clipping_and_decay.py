"""What is added to a gradient, clipped off it, or lost: L2 terms, clips, zeros."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.factors import Ratio, over, ratio_of, together
from throughtime.diagnosis.observed import CandidateCause, Gradient, Observed
from throughtime.diagnosis.roles import LossReactions
from throughtime.diagnosis.tolerances import (
    DIFFERS_BEYOND,
    FAR_OUT,
    LEAST_CLIPPED_ENTRIES,
    MOST_ROWS,
    SAME_FACTOR,
)


def decayed(observed: Observed, study: Study) -> Iterator[CandidateCause]:
    """g − n = λ W, with the same λ in every tensor that is wrong.

    The loss's own L2 term, where it can be seen, tells what λ is a part of.
    """
    ratios: dict[str, Ratio] = {}
    for name in observed.wrong():
        if not observed.gradient[name].any():
            return  # nothing is left of it, its L2 term neither
        own = observed.sampled[name]
        apart = observed.beside(name) - own.numerical
        weights = observed.parameters[name].reshape(-1)[own.places]
        found = ratio_of(apart, weights, observed.bars(name))
        if not found.fits:
            return
        ratios[name] = found
    if not ratios:
        return
    best = min(ratios.values(), key=lambda ratio: ratio.error)
    if not all(together(ratio, best) for ratio in ratios.values()):
        return
    factor = best.value
    if abs(factor) <= DIFFERS_BEYOND * best.error:  # what noise gives
        return
    names = tuple(ratios)
    fault, beside, told = _share(factor, _own_decay(study, names))
    undone = without_decay(observed, factor, names)
    size = Ratio(abs(factor), best.error, True, best.entries)
    evidence = (f"Gradient − numerical derivative = {best} · W in {', '.join(names)}.", *told)
    where = ", ".join(names)
    facts, sure = {"where": where, "factor": str(size)}, 0.95 / (1 + 0.5 * len(beside))
    yield CandidateCause(
        (fault,),
        where,
        undone,
        evidence,
        facts,
        beside,
        sure,
        lambda seen: without_decay(seen, factor, names),
    )


def decayed_at_a_single_step(observed: Observed, study: Study) -> CandidateCause | None:
    """The same at T = 1, where it explains everything, whatever else is wrong at more steps.

    With other parameters it has to do so too.
    """
    one = study.at(1) if observed.steps != 1 else None
    there = study.elsewhere(steps=1) if one is not None and one.wrong() else None
    if one is None or there is None:
        return None
    for here in decayed(one, study):
        for other in decayed(there, study):
            same = here.faults == other.faults and here.undo is not None
            if here.undo is None or not same or there.wrong(here.undo(there)):
                continue
            undone, said = here.undo(observed), "At T = 1: " + here.evidence[0]
            evidence = (said, *here.evidence[1:])
            return replace(here, undone=undone, evidence=evidence, confidence=0.7)
    return None


def decayed_below(observed: Observed, study: Study) -> Iterator[CandidateCause]:
    """The same where other faults hide it: with the output layer at 0 nothing else is left.

    Nothing goes back then into what lies below, whatever is wrong on the way. Whether the output
    layer has the term too is told by which of both leaves less.
    """
    head, below = study.roles.head, study.roles.hidden
    below = tuple(name for name in below if observed.gradient[name].any())  # 0: of all it has
    if head is None or not set(observed.wrong()) & set(below):
        return
    cut = {head: np.zeros_like(study.values[head])}
    alone = study.gradient(cut)
    known = alone is not None and any(alone[name].any() for name in below)
    if not known and not _own_decay(study, tuple(below)):
        return
    above, wrong = study.roles.output, observed.wrong()
    below = tuple(name for name in below if name in wrong)  # what agrees has the term that it needs
    places = {name: observed.sampled[name].places for name in (*below, *above)}
    there = study.look(None, cut, places)
    if there is None:
        return
    ratios: dict[str, Ratio] = {}
    for name in (one for one in there.wrong() if one in below):
        own = there.sampled[name]
        weights = there.parameters[name].reshape(-1)[own.places]
        ratios[name] = ratio_of(there.beside(name) - own.numerical, weights, there.bars(name))
    if not ratios or not all(ratio.fits for ratio in ratios.values()):
        return
    best = min(ratios.values(), key=lambda ratio: ratio.error)
    if not all(together(ratio, best) for ratio in ratios.values()):
        return
    if best.error > SAME_FACTOR * abs(best.value):
        return  # nothing else is left here: a coarse multiple of W is none
    choices = (tuple(ratios), (*ratios, head))
    undone = [without_decay(observed, best.value, names) for names in choices]
    left = [(len(observed.wrong(one)), observed.distance(one)) for one in undone]
    which = 0 if left[0] <= left[1] else 1
    names = choices[which]
    decay = _own_decay(study, tuple(ratios))
    if decay and any(_is_times(there, name, 1 + best.value / decay) for name in above):
        return  # the term is as much too large as all the rest: a factor of the whole gradient
    # Where the output layer is wrong for other reasons, a half may be a half of everything.
    shares = (-1.0,) if set(there.wrong()) & set(above) else (1.0, -1.0, -0.5)
    if decay and all(abs(best.value / decay - share) > SAME_FACTOR for share in shares):
        return
    fault, beside, told = _share(best.value, decay)
    size, where = Ratio(abs(best.value), best.error, True, best.entries), ", ".join(names)
    evidence = (
        f"With {head} at 0, where nothing goes back from the outputs, gradient − numerical "
        f"derivative = {best} · W in {', '.join(ratios)}.",
        *told,
    )
    yield CandidateCause(
        (fault,),
        where,
        undone[which],
        evidence,
        {"where": where, "factor": str(size)},
        beside,
        0.95 / (1 + 0.5 * len(beside)),
        lambda seen: without_decay(seen, best.value, names),
    )


def _is_times(there: Observed, name: str, factor: float) -> bool:
    """Whether a tensor is its numerical derivative times this factor."""
    ratio = over(there, [name])
    return ratio.fits and abs(ratio.value - factor) < SAME_FACTOR * abs(factor)


def from_elsewhere(observed: Observed, study: Study) -> str:
    """A sentence where the gradient has a part that does not come back from the outputs.

    With the output layer at 0 every fault on the way back is multiplied by 0.
    """
    head, below = study.roles.head, study.roles.hidden
    if head is None or not set(observed.wrong()) & set(below):
        return ""
    cut = {head: np.zeros_like(study.values[head])}
    alone = study.gradient(cut)
    if alone is None or not any(alone[name].any() for name in below):
        return ""
    wrong = observed.wrong()
    below = tuple(name for name in below if name in wrong)  # what agrees has no such part
    there = study.look(None, cut, {name: observed.sampled[name].places for name in below})
    names = there.wrong() if there is not None else ()
    if there is None or any(
        (np.abs(there.sampled[n].numerical) > there.bars(n)).any() for n in below
    ):
        return ""
    largest = max((float(np.abs(there.beside(name)).max()) for name in names), default=0.0)
    return (
        f"With {head} at 0, your loss does not react to what lies below, and nothing goes back "
        f"from the outputs. Yet your gradient is up to {largest:.3g} there, in "
        f"{', '.join(names)}. So it has a term that your loss does not have, such as a penalty on "
        "the states: add the term to the loss, or leave it out of the gradient."
        if names
        else ""
    )


def without_decay(observed: Observed, factor: float, names: tuple[str, ...]) -> Gradient:
    """The gradient without such a multiple of some tensors."""
    return {
        name: g - factor * observed.parameters[name] if name in names else g
        for name, g in observed.gradient.items()
    }


def _own_decay(study: Study, names: tuple[str, ...]) -> float | None:
    """λ of the loss's own term λ/2 Σ W² over some tensors; None where that is not seen.

    With the output layer at 0 the loss does not react to what lies below, but for such a term.
    Where no output layer is known, nothing else grows as much with a tensor below it.
    """
    head, below = study.roles.head, [name for name in names if name in study.roles.hidden]
    if head is None:
        return _far_out(study, names)
    if not below:
        return None
    cut = {head: np.zeros_like(study.values[head])}
    here = study.loss(cut)
    gone = study.loss(cut | {name: np.zeros_like(study.values[name]) for name in below})
    squares = sum(float((np.asarray(study.values[name], np.float64) ** 2).sum()) for name in below)
    return 2 * (here - gone) / squares if squares and np.isfinite(here - gone) else None


def _far_out(study: Study, names: tuple[str, ...]) -> float | None:
    """0 where a tensor far out shows that there is no such term; None where none tells."""
    for name in names:
        far = FAR_OUT * np.asarray(study.values[name], np.float64)
        value, squares = study.loss({name: far}), float((far * far).sum())
        if np.isfinite(value) and squares and abs(value) * FAR_OUT < squares:
            return 0.0
    return None


def _share(factor: float, own: float | None) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The fault of a residual λ W, its alternatives, and a sentence on the loss's own λ."""
    doubled, missing = "weight_decay_doubled", "weight_decay_missing"
    alone, halved = "weight_decay_only_in_gradient", "weight_decay_halved"
    if own is None:
        return (doubled, (alone,), ()) if factor > 0 else (missing, (halved,), ())
    if not own:
        return alone, (), ("With one of them far out, the loss shows no L2 term.",)
    said = f"With the output layer at 0, the loss has an L2 term of λ/2 Σ W² with λ = {own:.4g}."
    if abs(own) < SAME_FACTOR * abs(factor):
        return alone, (), (said,)
    if factor > 0:
        return doubled, (), (said,)
    half = abs(own + 2 * factor) < SAME_FACTOR * abs(own)
    return halved if half else missing, (), (said,)


def clipped_by_value(observed: Observed) -> Iterator[CandidateCause]:
    """Entries have one magnitude, which their numerical derivatives exceed.

    There are several of them, or one whose magnitude is a round number.
    """
    largest = max(float(np.abs(g).max(initial=0.0)) for g in observed.gradient.values())
    if not largest:
        return
    undone = dict(observed.gradient)
    count, steepest = 0, 0.0
    for name, g in observed.gradient.items():
        own = observed.sampled[name]
        flat = g.reshape(-1).copy()
        held = np.abs(flat[own.places]) >= largest * (1 - 4 * observed.eps)
        beyond = own.numerical * np.sign(flat[own.places]) >= largest - own.errors * DIFFERS_BEYOND
        flat[own.places[held & beyond]] = own.numerical[held & beyond]
        undone[name] = flat.reshape(g.shape)
        count += int((held & beyond).sum())
        steepest = max(steepest, float(np.abs(own.numerical[held & beyond]).max(initial=0.0)))
    # A gradient that nothing cut off is no round number to the last digit.
    least = 1 if float(f"{largest:.2g}") == largest else LEAST_CLIPPED_ENTRIES
    if count < least or observed.wrong(undone):
        return
    limit = f"±{largest:.6g}"
    evidence = (
        f"{count} of the entries looked at stand{'s' * (count == 1)} at {limit}; numerical "
        f"derivatives there go up to {steepest:.3g}. All others agree.",
    )
    yield CandidateCause(("clipped_by_value",), "", undone, evidence, {"limit": limit})


def zeros(observed: Observed, study: Study) -> Iterator[CandidateCause]:
    """The gradients of some tensors are exactly 0, though the loss reacts to these tensors.

    Of recurrent weights, a sum that keeps the first step alone is 0 too, where the initial state
    is, and only there is it known which weights are recurrent.
    """
    names = [name for name in observed.wrong() if not observed.gradient[name].any()]

    def undo(there: Observed) -> Gradient:
        filled = dict(there.gradient)
        for name in set(names) & set(there.sampled):
            flat = np.zeros(filled[name].size)
            flat[there.sampled[name].places] = there.sampled[name].numerical
            filled[name] = flat.reshape(filled[name].shape)
        return filled

    undone = undo(observed)
    # Where others are wrong too, zeros may follow from their fault …
    if names and (not observed.wrong(undone) or _own_zeros(names, observed, study)):
        where = ", ".join(names)
        largest = max(float(np.abs(observed.sampled[n].numerical).max()) for n in names)
        evidence = (f"Every entry is 0; the numerical derivatives go up to {largest:.3g}.",)
        masks = study.roles.recurrent or {}
        beside = all(masks[n].all() for n in names if n in masks) and set(names) <= set(masks)
        others = ("only_last_step_kept",) if beside and observed.steps != 1 else ()
        sure = 0.95 / (1 + 0.5 * len(others))
        facts = {"where": where}
        yield CandidateCause(("zero_gradient",), where, undone, evidence, facts, others, sure, undo)


def zero_rows(observed: Observed) -> Iterator[CandidateCause]:
    """Some rows of one tensor are exactly 0, though the loss reacts to them, and all else is right.

    No δ and no operand makes a whole row 0 and leaves the others right: the row is left out.
    """
    if len(observed.wrong()) != 1:
        return
    (name,) = observed.wrong()
    gradient, own = observed.gradient[name], observed.sampled[name]
    if gradient.ndim < 2:
        return
    of_rows = own.places // (gradient.size // len(gradient))
    rows = np.unique(of_rows[observed.z(name) > DIFFERS_BEYOND])
    others = np.abs(gradient).reshape(len(gradient), -1).max(axis=1) > 0
    if others[rows].any() or len(rows) > others.sum():
        return

    def undo(there: Observed) -> Gradient:
        if name not in there.sampled:
            return there.gradient
        found = there.sampled[name]
        flat = np.array(there.gradient[name]).reshape(-1)
        left_out = np.isin(found.places // (flat.size // len(gradient)), rows)
        flat[found.places[left_out]] = found.numerical[left_out]
        return {**there.gradient, name: flat.reshape(gradient.shape)}

    words = f"row{'s' * (len(rows) > 1)} {_few(rows)} of {name}"
    largest = float(np.abs(own.numerical[np.isin(of_rows, rows)]).max())
    evidence = (
        f"Every entry there is 0; the numerical derivatives go up to {largest:.3g}, and all that "
        "was measured elsewhere is right.",
        "This is so of a row that is left out on purpose, such as `padding_idx` of an embedding, "
        "where −1 means the last row: then the loss must not depend on it.",
    )
    yield CandidateCause(
        ("zero_gradient",), name, undo(observed), evidence, {"where": words}, undo=undo
    )


def _few(rows: Array) -> str:
    """The first few of some numbers."""
    few = ", ".join(str(row) for row in rows[:MOST_ROWS])
    return few + (f" and {len(rows) - MOST_ROWS} more" if len(rows) > MOST_ROWS else "")


def _own_zeros(names: Sequence[str], observed: Observed, study: Study) -> bool:
    """Whether it is only the output layer that gets nothing: … but δ goes back through it.

    At T = 1 that is so too where it meets the state before the step, which is 0. Where no output
    layer is known, what lies below a tensor does not matter where that tensor is 0.
    """
    output, hidden = set(study.roles.output), study.roles.hidden
    moved = [n for n in hidden if n in observed.gradient and observed.gradient[n].any()]
    if observed.steps == 1 or not moved:
        return False
    if output:
        return set(names) <= output
    trials = LossReactions(study)
    return all(
        any(
            not trials.reacts([below], {name: np.zeros_like(study.values[name])}) for below in moved
        )
        for name in names
    )
