"""All mutations that a model's backward pass can have, fault by fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from throughtime.diagnosis.mutants.faults_between import BETWEEN
from throughtime.diagnosis.mutants.faults_directions import ACROSS
from throughtime.diagnosis.mutants.faults_inside import INSIDE
from throughtime.diagnosis.mutants.faults_operands import OPERANDS
from throughtime.diagnosis.mutants.faults_output import OUTPUT
from throughtime.diagnosis.mutants.faults_projection import PROJECTION
from throughtime.diagnosis.mutants.interventions import Mutation
from throughtime.diagnosis.mutants.model import Model

TABLE: tuple[Callable[[Model], Iterator[Mutation]], ...] = (
    *OUTPUT,
    *ACROSS,
    *PROJECTION,
    *BETWEEN,
    *INSIDE,
    *OPERANDS,
)


def mutations(model: Model, among: Iterable[str] | None = None) -> list[Mutation]:
    """Every mutation that this model can have, the likelier ways of each fault first."""
    names = None if among is None else frozenset(among)
    made = (mutation for each in TABLE for mutation in each(model))
    return [mutation for mutation in made if names is None or mutation.fault in names]
