"""A candidate: a fault that may explain what is seen, and what is left once it is undone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from throughtime.arrays import Array
from throughtime.diagnosis.observed import Observed

Gradient = Mapping[str, Array]
Undo = Callable[[Observed], Gradient]
"""The gradient of an observation, perhaps at another length, with a fault undone."""


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
        confidence: how far it is to be believed where it explains everything, 0 … 1.
        undo: the same at other lengths and other points, where that is known.
    """

    faults: tuple[str, ...]
    where: str = ""
    undone: Gradient | None = None
    evidence: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    alternatives: tuple[str, ...] = ()
    confidence: float = 0.95
    undo: Undo | None = None

    @property
    def fault(self) -> str:
        """The first of its faults."""
        return self.faults[0]
