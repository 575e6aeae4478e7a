"""What a value is of a derivative, in words: its factor, and its step."""

from __future__ import annotations

from throughtime.source.lines.matching import DerivativeReading


def times_of(factor: float) -> str:
    """A factor before what it multiplies; "" for 1."""
    if factor == 1.0:
        return ""
    return "−" if factor == -1.0 else f"{factor:.6g} · "


def elsewhere(reading: DerivativeReading) -> str:
    """Whether the derivatives are those one step before or after."""
    shift = reading.shift
    if not shift:
        return ""
    return " one step later" if shift == -1 else " one step before" if shift == 1 else ""


def step_of(reading: DerivativeReading, count: int) -> str:
    """The step of a derivative beside that of the loop it is in."""
    if count == 1:
        index = next(index for index in reading.indices if index is not None)
        last = len(reading.group.truths) - 1
        return "_T" if index == last else f"_{index + 1}" if index else "_1"
    shift = reading.shift
    if shift is None:
        return ""
    return {0: "_t", 1: "_{t−1}", -1: "_{t+1}"}.get(shift, f"_{{t−{shift}}}")
