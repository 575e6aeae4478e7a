"""Every mutation that a model can have, and the gradients of its backward pass with each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from throughtime.arrays import Array
from throughtime.diagnosis.fault import Fault
from throughtime.diagnosis.faults import FAULTS
from throughtime.diagnosis.mutants.equation_model import EquationModel
from throughtime.diagnosis.mutants.interventions import OF_ANY_CELL, Mutation
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.mutants.step_mutations import step_mutations


@dataclass(frozen=True)
class Mutant:
    """The gradient of a backward pass with faults put in.

    Attributes:
        faults: their identifiers.
        where: what each of them concerns, in words.
        gradient: by the target's names and shapes, float64.
    """

    faults: tuple[str, ...]
    where: tuple[str, ...]
    gradient: dict[str, Array]


def mutants(model: Model, among: Iterable[str] | None = None) -> Iterator[Mutant]:
    """The gradients of the model's backward pass with every single mutation in turn.

    Args:
        model: a network whose layout and data are known.
        among: identifiers of faults; by default all of them.
    """
    for mutation in mutations(model, among):
        yield Mutant((mutation.fault,), (mutation.where,), model.gradient((mutation,)))


def mutants_of(model: Model, among: Iterable[str]) -> int:
    """How many single mutations a model can have of these faults."""
    return len(mutations(model, among))


def mutations(model: Model, among: Iterable[str] | None = None) -> list[Mutation]:
    """Every mutation that this model can have, in the faults' `rank`.

    The likelier ways of a fault come first within it: the search prefers what comes first.
    """
    names = frozenset(FAULTS if among is None else among)
    of_step: dict[str, list[Mutation]] = {}
    if isinstance(model, EquationModel):
        for one in step_mutations(model):
            of_step.setdefault(one.fault, []).append(one)
    chosen = [f for f in FAULTS.values() if f.name in names and (f.mutations or f.name in of_step)]
    return [
        replace(mutation, fault=fault.name)
        for fault in sorted(chosen, key=lambda fault: (fault.rank, fault.name))
        for mutation in (*_of_file(fault, model), *of_step.get(fault.name, ()))
    ]


def _of_file(fault: Fault, model: Model) -> Iterator[Mutation]:
    """The mutations in a fault's own file; of a cell's equations those that fit any cell."""
    if fault.mutations is None or (model.of_equations and fault.systematic):
        return
    for one in fault.mutations(model):
        if not model.of_equations or one.places <= OF_ANY_CELL:
            yield one
