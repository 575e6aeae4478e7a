"""A candidate: a fault that may explain what is seen, and what is left once it is undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from throughtime.arrays import Array

Gradient = Mapping[str, Array]


@dataclass(frozen=True)
class Candidate:
    """A fault, or a set of them, at a place.

    Attributes:
        faults: identifiers of `FAULTS`; several where only together they fit.
        where: tensors, gates or steps that it concerns, in words; "": all of them.
        undone: by name, the gradient with the fault undone; None where its effect on the
            gradient is not known entry by entry.
        evidence: what speaks for it, in sentences with numbers.
        facts: what stands in the places of its fault's statement.
        alternatives: identifiers of faults that would look the same here.
        prior: how likely it is before anything is seen, 0 … 1, beside others that explain as much.
    """

    faults: tuple[str, ...]
    where: str = ""
    undone: Gradient | None = None
    evidence: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    alternatives: tuple[str, ...] = ()
    prior: float = 0.5

    @property
    def fault(self) -> str:
        """The first of its faults."""
        return self.faults[0]
