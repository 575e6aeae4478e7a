"""A cause: what a diagnosis says is wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong with a gradient, and why this is believed.

    Attributes:
        fault: its identifier, snake_case, one that the docs list.
        statement: what is wrong and where, one sentence.
        change: what to change, one sentence.
        where: tensors, gates or steps that it concerns, in words; "": all of them.
        confidence: 0 … 1. Above 0.9: it explains every entry looked at down to its error bar, and
            nothing else that was tried does; at 0.5: it is one of two things that would.
        evidence: what speaks for it, with numbers, and what experiments showed.
        alternatives: identifiers of faults that cannot be told apart from it here.
        discrepancy_before, discrepancy_after: d as it is, and with this and all causes before it
            undone; None where its effect on the gradient is not known entry by entry.
        page: the name of its page: `throughtime explain fault NAME`.
    """

    fault: str
    statement: str
    change: str
    where: str = ""
    confidence: float = 0.0
    evidence: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    discrepancy_before: float | None = None
    discrepancy_after: float | None = None
    page: str = ""
