"""Causes from mutants: a backward pass of our own with faults put in gives the same gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.faults import FAULTS
from throughtime.diagnosis.model_from_target import model_from_target
from throughtime.diagnosis.mutants import Match, explain, passes
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.observed import standing
from throughtime.diagnosis.tolerances import CONFIDENCE_IN_PART, CONFIDENCE_WHOLE
from throughtime.gradcheck import Cause


def by_mutants(study: Study) -> tuple[list[Cause], list[str], bool]:
    """Causes, notes, and whether the causes explain everything; nothing without a layout."""
    if study.target.layout is None:
        return [], [], False
    with standing(study.target.parameters, study.values):
        known = model_from_target(study.target)
    notes = list(known.notes)
    if known.model is None:
        return [], notes, False
    found = study.gradient(study.values)
    if found is None:
        return [], notes, False
    kept = {name: g.astype(study.target.parameters[name].dtype) for name, g in found.items()}
    # Where no mutant is found, experiments need the other half of the budget.
    budget = study.budget.part(passes(known.model), share=0.5)
    budget.announce("diagnosis", "mutant")
    matches = explain(known.model, kept, budget=budget)
    if not matches:
        return [], notes, False
    best = matches[0]
    if best.unexplained:
        names = ", ".join(best.unexplained)
        notes.append(f"Beside that, why {names} differ is unknown: no known fault explains it.")
    return list(_causes(best, _sizes(known.model))), notes, not best.unexplained


def _sizes(model: Model) -> dict[str, str]:
    """The network's own sizes, for the causes' sentences."""
    T, B, O = model.forward().dy.shape  # noqa: E741  (the field's name for the number of outputs)
    return {"T": str(T), "B": str(B), "O": str(O)}


def _causes(match: Match, sizes: Mapping[str, str]) -> Iterator[Cause]:
    rivals = [name for names in match.rivals for name in names if name not in match.faults]
    for number, one in enumerate(match.found, start=1):
        explained = number == len(match.found) and not match.unexplained
        fault = FAULTS[one.fault]
        statement, change = fault.said({**sizes, **one.facts})
        beside = tuple(dict.fromkeys([*one.alternatives, *rivals]))
        sure = CONFIDENCE_IN_PART if match.unexplained else CONFIDENCE_WHOLE
        yield Cause(
            one.fault,
            statement,
            change,
            one.where,
            min(sure, 1 / (1 + len(beside))),
            (f"{match.evidence}.",),
            beside,
            match.before,
            match.after if explained else None,  # with those before it undone too
            fault.page,
        )
