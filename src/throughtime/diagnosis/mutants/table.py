"""All mutations that a model's backward pass can have, fault by fault."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from throughtime.diagnosis.faults import FAULTS
from throughtime.diagnosis.mutants.interventions import Mutation
from throughtime.diagnosis.mutants.model import Model


def mutations(model: Model, among: Iterable[str] | None = None) -> list[Mutation]:
    """Every mutation that this model can have, in the faults' `rank`.

    The likelier ways of a fault come first within it: the search prefers what comes first.
    """
    names = frozenset(FAULTS if among is None else among)
    chosen = [fault for fault in FAULTS.values() if fault.name in names and fault.mutations]
    return [
        replace(mutation, fault=fault.name)
        for fault in sorted(chosen, key=lambda fault: (fault.rank, fault.name))
        for mutation in (fault.mutations(model) if fault.mutations else ())
    ]
