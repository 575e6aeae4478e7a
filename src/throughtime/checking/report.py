"""What a check found: numbers, verdicts, a table, JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Literal

from throughtime.arrays import Array
from throughtime.storage import replace

Verdict = Literal["agree", "disagree", "unresolved"]

JSON_VERSION = 1


@dataclass(frozen=True)
class Worst:
    """The entry that is furthest off, in units of its error bar.

    Attributes:
        index: where in the tensor.
        gradient: the gradient under test there.
        numerical: the numerical derivative there.
        error: its error bar.
    """

    index: tuple[int, ...]
    gradient: float
    numerical: float
    error: float


@dataclass(frozen=True)
class TensorReport:
    """One tensor.

    Attributes:
        verdict: "agree", "disagree" or "unresolved".
        discrepancy: d over the entries looked at.
        floor: the d that rounding and truncation alone would give.
        shape: of the tensor.
        step: of the central differences.
        entries: which ones were looked at, counted in C order.
        gradient, numerical, errors: at these entries.
        worst: the entry that is furthest off.
    """

    verdict: Verdict
    discrepancy: float
    floor: float
    shape: tuple[int, ...]
    step: float
    entries: Array = field(repr=False)
    gradient: Array = field(repr=False)
    numerical: Array = field(repr=False)
    errors: Array = field(repr=False)
    worst: Worst


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        verdict: "agree": no difference beyond the error bars, and in every tensor two per cent
            would have been seen; "disagree": some tensor differs by more than its error bars;
            "unresolved": nothing differs, but the error bars are too wide to say more.
        discrepancy: d over all entries looked at.
        floor: the d that rounding and truncation alone would give.
        tensors: by name.
        causes: what explains a disagreement, best first; empty: unknown.
        evaluations: how many losses were evaluated.
        noise: standard deviation of the loss's rounding error.
        loss: where the check was made.
        dtype: of the parameters.
        steps: T, where the target says so.
    """

    verdict: Verdict
    discrepancy: float
    floor: float
    tensors: dict[str, TensorReport]
    evaluations: int
    noise: float
    loss: float
    dtype: str
    steps: int | None = None
    causes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self.headline(), self.circumstances(), "", *table(self.tensors)])

    def headline(self) -> str:
        """The verdict and its two numbers, in one line."""
        return (
            f"{self.verdict.upper()}: the gradient and the numerical one are d = "
            f"{self.discrepancy:.3g} apart; rounding alone would give {self.floor:.2g}"
        )

    def circumstances(self) -> str:
        """What was done, in one line."""
        looked = sum(tensor.entries.size for tensor in self.tensors.values())
        steps = f", T = {self.steps}" if self.steps else ""
        return (
            f"{self.dtype}{steps}; {looked:,} of {_total(self.tensors):,} entries perturbed, "
            f"{self.evaluations:,} loss evaluations"
        )

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes the whole report, every entry looked at included."""
        replace(path, (json.dumps(self.as_dict(), indent=1) + "\n").encode())

    def as_dict(self) -> dict[str, object]:
        """The report as plain data, with `"version"`."""
        tensors: dict[str, object] = {}
        for name, tensor in self.tensors.items():
            arrays = {
                key: getattr(tensor, key).tolist()
                for key in ("entries", "gradient", "numerical", "errors")
            }
            tensors[name] = {
                "verdict": tensor.verdict,
                "discrepancy": tensor.discrepancy,
                "floor": tensor.floor,
                "shape": list(tensor.shape),
                "step": tensor.step,
                "worst": asdict(tensor.worst),
                **arrays,
            }
        own = ("verdict", "discrepancy", "floor", "causes", "evaluations", "noise", "loss")
        rest = {key: getattr(self, key) for key in (*own, "dtype", "steps")}
        return {"version": JSON_VERSION, **rest, "tensors": tensors}


def _total(tensors: dict[str, TensorReport]) -> int:
    total = 0
    for tensor in tensors.values():
        size = 1
        for n in tensor.shape:
            size *= n
        total += size
    return total


HEADINGS = ("tensor", "verdict", "d", "floor", "worst entry", "gradient", "numerical")


def cells(name: str, tensor: TensorReport) -> tuple[str, ...]:
    """One tensor's row, under HEADINGS."""
    worst = tensor.worst
    place = "[" + ", ".join(map(str, worst.index)) + "]"
    return (
        name,
        tensor.verdict,
        f"{tensor.discrepancy:.2e}",
        f"{tensor.floor:.0e}",
        place,
        f"{worst.gradient:+.4e}",
        f"{worst.numerical:+.4e} ± {worst.error:.0e}",
    )


def table(tensors: dict[str, TensorReport]) -> list[str]:
    """The tensors as lines of text."""
    rows = [HEADINGS, *(cells(name, tensor) for name, tensor in tensors.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
