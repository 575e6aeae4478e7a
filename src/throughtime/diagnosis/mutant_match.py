"""Causes from mutants: a backward pass of our own with faults put in gives the same gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.faults import FAULTS
from throughtime.diagnosis.model_from_target import ModelFromTarget, model_from_target
from throughtime.diagnosis.mutants import (
    Match,
    agrees,
    explain,
    explain_in_stages,
    explained_by,
    passes,
)
from throughtime.diagnosis.mutants.interventions import Mutation
from throughtime.diagnosis.mutants.known_factors import known_factors
from throughtime.diagnosis.mutants.layout import Guess, Layout
from throughtime.diagnosis.mutants.losses import GivenLoss
from throughtime.diagnosis.mutants.matches import as_found, of_keys
from throughtime.diagnosis.mutants.model import HEAD, Model
from throughtime.diagnosis.mutants.postprocessing import FoundFault
from throughtime.diagnosis.observed import Gradient, Observed, standing
from throughtime.diagnosis.recovered_layout import with_layout
from throughtime.diagnosis.roles import Roles
from throughtime.diagnosis.stages import stages
from throughtime.diagnosis.tolerances import (
    CONFIDENCE_IN_PART,
    CONFIDENCE_WHOLE,
    DRAWN_PARAMETERS,
    ERRORS_OF_OTHER_ENTRIES,
    LARGEST_RECOVERED_ERROR,
    SAME_GRADIENT,
    SAME_SCALE,
    WRITTEN_FACTOR,
)
from throughtime.gradcheck import Cause


@dataclass(frozen=True)
class MutantsFound:
    """What mutants tell.

    Attributes:
        causes: what explains the gradient, or a part of it.
        notes: on the layout, and on what is left unexplained.
        whole: whether the causes explain everything.
        model: the network behind the target; None without a layout that is believed, or where its
            gradient is too coarse to compare another one with.
        error: of the network's gradient, relative to a block's largest entry, where its data were
            recovered; None: the rounding of the gradient under test.
        observed: the gradient beside the numerical one, where it was needed.
        recovered: whether the layout, if there is one, was told by losses alone.
        of_the_loss: whether the gradient is the network's own, from a derivative of the loss by the
            outputs that the user's function gives.
    """

    causes: list[Cause] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    whole: bool = False
    model: Model | None = None
    error: float | None = None
    observed: Observed | None = None
    recovered: bool = False
    of_the_loss: bool = False


def by_mutants(study: Study) -> MutantsFound:
    """What mutants tell of the gradient; nothing without a layout.

    A target that has no layout, or none that has its loss, is given the one that its losses alone
    tell, if any does.
    """
    known, recovered = _told(study)
    return replace(_compared(study, known, recovered), recovered=recovered)


def _told(study: Study) -> tuple[ModelFromTarget, bool]:
    """The network behind the target, and whether it was told by losses alone."""
    known, given = _known(study), study.target
    own = given.layout
    if known.model is not None or not (own is None or isinstance(own, Layout | Guess)):
        return known, False
    study.target = replace(given, layout=None)
    with_layout(study)
    if study.target.layout is None:
        study.target = given
        return known, own is None
    found = _known(study)
    return replace(found, notes=(*known.notes, *found.notes)), True


def _known(study: Study) -> ModelFromTarget:
    with standing(study.target.parameters, study.values):
        return model_from_target(study.target)


def _compared(study: Study, known: ModelFromTarget, recovered: bool) -> MutantsFound:
    """What mutants of the network tell."""
    notes = list(known.notes)
    found = None if known.model is None else study.gradient(study.values)
    if known.model is None or found is None:
        return MutantsFound(notes=notes, model=known.model)
    kept = {name: g.astype(study.target.parameters[name].dtype) for name, g in found.items()}
    study.budget.announce("diagnosis", "mutants")
    error = SAME_GRADIENT["float32"] if known.rounded else None
    # Data that were recovered from losses in single precision are seldom as exact as a gradient
    # in it: whether they are is seen by single mutations, before pairs of them are tried.
    coarse = recovered and (known.rounded or any(g.dtype == np.float32 for g in kept.values()))
    matches = _explained(known.model, kept, study, error, thorough=False)
    if not coarse and (not _whole(matches) or _edited(matches)):
        several = _of_several(known.model, kept, study, error)
        if not _whole(matches) or _likelier(several, matches):
            matches = several or matches
    observed = None
    if recovered and not _whole(matches):
        observed = study.look()
        own = 0.0 if observed is None else _error_of(known.model, observed)
        if own > LARGEST_RECOVERED_ERROR:
            return MutantsFound(notes=notes, observed=observed)
        off = own > (error or SAME_GRADIENT["float64"])
        if off or coarse:
            error = own if off else error
            matches = _explained(known.model, kept, study, error) or matches
    if not matches:
        given = isinstance(known.model.loss, GivenLoss)
        own = given and agrees(known.model, kept, _tolerance(kept, error))
        notes.append(OF_THE_LOSS if own else NONE)
        return MutantsFound([], notes, False, known.model, error, observed, of_the_loss=own)
    if _whole(matches) and coarse:
        matches = _that_show(study, known.model, matches)
    if _whole(matches):
        matches = _left_of_other_losses(study, known.model, kept, matches, error)
        matches = _left_at_another_length(study, known.model, matches)
        matches = _left_at_another_point(study, matches, error)
    if not matches:
        notes.append(NONE)
        return MutantsFound([], notes, False, known.model, error, observed)
    best = matches[0]
    if best.unexplained:
        differ = "differ" if len(best.unexplained) > 1 else "differs"
        rest = f"it is unknown why {', '.join(best.unexplained)} {differ}"
        notes.append(f"Besides what is named below, {rest}: nothing tried explains it.")
    causes = list(_causes(best, _sizes(known.model), error if recovered else None))
    return MutantsFound(causes, notes, not best.unexplained, known.model, error, observed)


NONE = (
    "The loss of this network is yours, but none of the known faults, put into its backward pass, "
    "gives your gradient."
)
OF_THE_LOSS = (
    "Our own backward pass of this network gives your very gradient. It starts from the derivative "
    "by the network's outputs that the function of your loss gives: that one is not the loss's."
)
# Read off a gradient: any number is one, and where weights are small, a wrong slope is a number.
FACTORS = {"scaled", "tensor_scaled", "gate_scaled"}
ANOTHER_LOSS = "different_loss"
# Where T is 8, 1/T is also ½ · ¼, or what a sequence of that length has by chance.
OF_THE_LENGTH = {"averaged_over_steps", "summed_over_steps", "bias_averaged"}


def _left_at_another_point(study: Study, matches: list[Match], error: float | None) -> list[Match]:
    """The matches, with a factor only if it is the same with other parameters.

    Otherwise those that explain the gradient at drawn parameters; none may be left.
    """
    drawn = _drawn(study) if FACTORS & set(matches[0].faults) else None
    if drawn is None:
        return matches
    there, seen = drawn
    near = _tolerance(seen, error)
    same = explained_by(matches[0], there, seen, near)
    near = max(SAME_SCALE * near, WRITTEN_FACTOR)
    if {one.fault for one in same} >= set(matches[0].faults) and _same_factors(
        matches[0], same, near
    ):
        return matches
    elsewhere = _explained(there, seen, study, error)
    whole = [match for match in elsewhere if not match.unexplained]
    if any(_same_factors(matches[0], match.found, near) for match in whole or elsewhere):
        return matches
    whole = [m for m in whole if any(_same_factors(m, own.found, near) for own in matches)]
    # What explains every number there does so here too, where a factor is as good.
    here = matches[0].before, matches[0].after
    return [replace(match, before=here[0], after=here[1]) for match in whole]


def _drawn(study: Study) -> tuple[Model, dict[str, Array]] | None:
    """The network and the gradient under test at drawn parameters; None where there is none."""
    rng = np.random.default_rng(study.seed + 17)
    drawn = {
        name: DRAWN_PARAMETERS * rng.standard_normal(np.shape(array))
        for name, array in study.values.items()
    }
    found = study.gradient(drawn)
    try:
        with standing(study.target.parameters, {**study.values, **drawn}):
            there = model_from_target(study.target).model
    except ValueError:
        return None
    if found is None or there is None:
        return None
    kinds = {name: array.dtype for name, array in study.target.parameters.items()}
    return there, {name: g.astype(kinds[name]) for name, g in found.items()}


def _left_of_other_losses(
    study: Study, model: Model, gradient: Gradient, matches: list[Match], error: float | None
) -> list[Match]:
    """The matches, of another loss only if that is no factor.

    Where a network answers once with a single number, any loss has the right gradient times a
    factor. If it is the same with other parameters, the factor is all that is known.
    """
    if matches[0].faults != (ANOTHER_LOSS,):
        return matches
    near = SAME_SCALE * _tolerance(gradient, error)
    here = _common_factor(model, gradient, near)
    drawn = None if here is None else _drawn(study)
    if here is None or drawn is None:
        return matches
    there = _common_factor(*drawn, near)
    if there is None or abs(there - here) > near * abs(here):
        return matches
    others = set(FAULTS) - {ANOTHER_LOSS}
    found = explain(model, gradient, error=error, among=others, thorough=False)
    return found if _whole(found) else matches


def _common_factor(model: Model, gradient: Gradient, near: float) -> float | None:
    """The factor between a gradient and the right one; None where there is no such factor."""
    right = model.gradient()
    n, g = (np.concatenate([own[name].ravel() for name in right]) for own in (right, gradient))
    square = float(n @ n)
    factor = float(g @ n) / square if square else 0.0
    off = float(np.linalg.norm(g - factor * n))
    return factor if factor and off <= near * float(np.linalg.norm(g)) else None


def _same_factors(match: Match, found: Sequence[FoundFault], near: float) -> bool:
    """Whether the numbers that were read off the gradient are also those found elsewhere."""
    here, there = (
        {(one.fault, one.where): float(one.facts["factor"]) for one in both if one.fault in FACTORS}
        for both in (match.found, found)
    )
    return here.keys() <= there.keys() and all(
        abs(there[own] - factor) <= near * abs(factor) for own, factor in here.items()
    )


def _edited(matches: list[Match]) -> bool:
    """Whether one of several faults is an edit of a step, which may stand for a named one."""
    names = matches[0].faults
    return len(names) > 1 and any(FAULTS[name].systematic for name in names)


def _likelier(several: list[Match], matches: list[Match]) -> bool:
    """Whether no more faults explain everything, all of which have names of their own."""
    if not _whole(several) or _edited(several):
        return False
    return len(several[0].faults) <= len(matches[0].faults)


def _whole(matches: list[Match]) -> bool:
    """Whether they explain all of a gradient."""
    return bool(matches) and not matches[0].unexplained


def _explained(
    model: Model,
    gradient: Gradient,
    study: Study,
    error: float | None,
    thorough: bool = True,
) -> list[Match]:
    """What explains the gradient, by either derivative that people write for the network's loss.

    Args:
        model: the network.
        gradient: under test.
        study: whose budget is spent, up to half of it each time: experiments need the rest.
        error: what counts as equal; by default the rounding of the gradient's precision.
        thorough: whether pairs of mutations are tried too.
    """
    first, *others = _derived(model)
    own = study.budget.part(passes(first), share=0.5)
    matches = explain(first, gradient, budget=own, error=error, thorough=thorough)
    for other in others:
        if not matches or matches[0].unexplained or "scaled" in matches[0].faults:
            own = study.budget.part(passes(other), share=0.5)
            whole = explain(other, gradient, budget=own, error=error, thorough=thorough)
            if _whole(whole) and (not _whole(matches) or "scaled" not in whole[0].faults):
                matches = whole
    return matches


def _of_several(model: Model, gradient: Gradient, study: Study, error: float | None) -> list[Match]:
    """What explains a gradient with several mistakes: all of it, or what is proved of it.

    Stages come first, since mistakes hide each other; then pairs.
    """
    tolerance = _tolerance(gradient, error)
    found: list[Match] = []
    for one in _derived(model):
        staged = explain_in_stages(
            stages(study, one, tolerance), one, gradient, tolerance, study.budget
        )
        if _whole(staged):
            return staged
        found = found or staged
    # Beside a mistake that is proved, every single one was tried.
    return found or _explained(model, gradient, study, error)


def _tolerance(gradient: Gradient, error: float | None) -> float:
    """What counts as equal: by default the rounding of the gradient's precision."""
    exact = SAME_GRADIENT["float64"]
    return error or max(SAME_GRADIENT.get(g.dtype.name, exact) for g in gradient.values())


def _error_of(model: Model, observed: Observed) -> float:
    """How far the network's gradient may be from the right one, of a block's largest entry.

    Data that were recovered from losses in single precision are as coarse as these, and so is the
    network's gradient. It is compared with the numerical one.
    """
    right, placement = model.gradient(), model.placement
    blocks = placement.blocks(right)
    largest = placement.tensors({b: np.full_like(g, np.abs(g).max()) for b, g in blocks.items()})
    off = [0.0]
    for name in set(observed.sampled) & set(largest):
        there = observed.beside(name, largest)
        apart = np.abs(observed.beside(name, right) - observed.sampled[name].numerical)
        off.append(float((apart[there > 0] / there[there > 0]).max(initial=0.0)))
    return ERRORS_OF_OTHER_ENTRIES * max(off)


def _that_show(study: Study, model: Model, matches: list[Match]) -> list[Match]:
    """The matches, the best of which without faults that change nothing which numbers can show.

    Data that were recovered from losses in single precision are not exact, and what is as small as
    their errors is of either sign by chance.
    """
    best = matches[0]
    chosen = of_keys(model, best.mutations)
    # A single fault is all that there is of a gradient that is known to disagree.
    observed = study.look() if chosen and len(best.found) > 1 else None
    if observed is None:
        return matches
    whole = model.gradient(chosen)

    def shows(one: Mutation) -> bool:
        fewer = model.gradient(tuple(other for other in chosen if other is not one))
        moved = {name: np.abs(whole[name] - fewer[name]) for name in observed.sampled}
        return any((observed.beside(n, moved) > observed.bars(n)).any() for n in moved)

    hidden = [one for one in chosen if not shows(one)]
    if not hidden:
        return matches
    names = {(own.fault, own.where) for own in (as_found(model, one) for one in hidden)}
    found = tuple(own for own in best.found if (own.fault, own.where) not in names)
    keys = tuple(one.key for one in chosen if one not in hidden)
    return [replace(best, found=found, rivals=(), mutations=keys)] if found else []


def _left_at_another_length(study: Study, model: Model, matches: list[Match]) -> list[Match]:
    """The matches without names that another number of steps refutes.

    Where T is 2, or B, what divides by it looks like many another factor; with one step more it
    does not. Where none of the names holds there, those do which have that factor here as well.
    """
    names = {n for match in matches for n in _names(match)}
    if len(names) == len(matches[0].faults) and not names & OF_THE_LENGTH:
        return matches  # nothing to choose from
    elsewhere = _at_another_length(study, names)
    possible = {name for match in elsewhere for name in _names(match)} or names
    kept = [found for match in matches if (found := _only(match, possible)) is not None]
    if kept or not names & OF_THE_LENGTH:
        return kept or matches
    values = {factor.fault: factor.value for factor in known_factors(model)}
    wanted = _product(matches[0], values)
    same = [
        match
        for match in elsewhere
        if match.mutations == matches[0].mutations
        and not _names(match) & OF_THE_LENGTH
        and abs(_product(match, values) - wanted) <= WRITTEN_FACTOR * abs(wanted)
    ]
    here = {"T": str(model.steps)}
    return [
        replace(matches[0], found=_with_facts(match.found, here), rivals=match.rivals)
        for match in same[:1]
    ] or matches


def _product(match: Match, values: Mapping[str, float]) -> float:
    """The product of the known factors among the faults of a match."""
    return math.prod(values.get(one.fault, 1.0) for one in match.found)


def _with_facts(found: Sequence[FoundFault], more: Mapping[str, str]) -> tuple[FoundFault, ...]:
    return tuple(replace(one, facts={**one.facts, **more}) for one in found)


def _names(match: Match) -> set[str]:
    """All faults that a match allows for."""
    beside = {other for one in match.found for other in one.alternatives}
    return {*match.faults, *beside, *(name for names in match.rivals for name in names)}


def _only(match: Match, possible: set[str]) -> Match | None:
    """A match with what is possible of each fault's names; None where nothing is left of one."""
    found = []
    for one in match.found:
        names = [name for name in (one.fault, *one.alternatives) if name in possible]
        if not names:
            return None
        found.append(replace(one, fault=names[0], alternatives=tuple(names[1:])))
    rivals = tuple(names for names in match.rivals if possible.issuperset(names))
    return replace(match, found=tuple(found), rivals=rivals)


def _at_another_length(study: Study, names: set[str]) -> list[Match]:
    """What explains the gradient at another length, by some faults and by factors.

    One length is enough: what holds there by chance would have to hold here by chance as well.
    """
    T = study.steps
    for steps in (T + 1, T + 2, T - 1) if T is not None else ():
        other = study.shorter(steps) if steps > 1 else None
        if other is None or other.layout is None:
            continue
        try:
            with standing(other.parameters, study.values):
                known = model_from_target(other)
                gradient = {name: np.array(g) for name, g in other.gradient().items()}
        except Exception:  # the user's own code, at a length that it was not meant for
            continue
        if known.model is None:
            continue
        error = SAME_GRADIENT["float32"] if known.rounded else None
        there = explain(known.model, gradient, among=names, error=error)
        whole = [match for match in there if not match.unexplained]
        if whole:
            return whole
    return []


def known_roles(roles: Roles, model: Model) -> Roles:
    """The roles of tensors, with the output layer that the layout says."""
    names = {
        kind: next(
            (p.tensor for b, p in model.placement.places.items() if b[:2] == (HEAD, kind)), None
        )
        for kind in "Vd"
    }
    if (roles.head, roles.head_bias) == (names["V"], names["d"]) and not roles.lower:
        return roles
    own = {name for name in names.values() if name is not None}
    sizes = {
        name: np.squeeze(array).ndim
        for name, array in model.placement.tensors(model.blocks).items()
    }
    below = [name for name in sizes if name not in own]
    return Roles(
        names["V"],
        names["d"],
        headless=names["V"] is None,
        matrices=tuple(name for name in below if sizes[name] > 1),
        vectors=tuple(name for name in below if sizes[name] <= 1),
        recurrent={n: mask for n, mask in (roles.recurrent or {}).items() if n in below},
        projection=roles.projection if roles.projection in below else None,
        units=roles.units,
    )


def _derived(model: Model) -> Iterator[Model]:
    """The network; first with the derivative that people write where a loss has log(p + ε)."""
    if model.loss.epsilon:
        yield model.with_loss(replace(model.loss, exact=False))
    yield model


def _sizes(model: Model) -> dict[str, str]:
    """The network's own sizes, for the causes' sentences."""
    T, B, O = model.forward().dy.shape  # noqa: E741  (the field's name for the number of outputs)
    return {"T": str(T), "B": str(B), "O": str(O)}


def _instead(fault: str, match: Match) -> Iterator[str]:
    """What stands in a fault's place in other sets of faults that explain as much."""
    for names in match.rivals:
        left_out = set(match.faults) - set(names)
        if fault in left_out or not left_out:
            yield from (name for name in names if name not in match.faults)


def _causes(match: Match, sizes: Mapping[str, str], error: float | None) -> Iterator[Cause]:
    evidence = f"{match.evidence}."
    if error is not None and error > SAME_GRADIENT["float32"] and not match.unexplained:
        evidence = evidence.replace("this very gradient", f"this gradient to {error:.1g}")
        evidence += " The data that were recovered tell no more digits."
    for number, one in enumerate(match.found, start=1):
        explained = number == len(match.found) and not match.unexplained
        fault = FAULTS[one.fault]
        statement, change = fault.said({**sizes, **one.facts})
        beside = tuple(dict.fromkeys([*one.alternatives, *_instead(one.fault, match)]))
        sure = CONFIDENCE_IN_PART if match.unexplained else CONFIDENCE_WHOLE
        yield Cause(
            one.fault,
            statement,
            change,
            one.where,
            min(sure, 1 / (1 + len(beside))),
            (evidence,),
            beside,
            match.before,
            match.after if explained else None,  # with those before it undone too
            fault.page,
        )
