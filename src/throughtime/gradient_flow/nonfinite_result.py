"""What was found: a place, a value, and the values that it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class NonFinite:
    """The first value of a run that is NaN or infinite, in the order in which it is computed.

    Attributes:
        where: "parameters", "inputs", "layer 1 (LSTM)", "outputs", "loss", "gradient", …
        quantity: what it is there: "pre-activation", "gate", "c", "h", "output", "δc", …
        value: nan or ±inf; of a float32 pre-activation the number that no float32 can hold.
        backward: whether all was finite on the way to the loss, and this lies on the way back.
        layer: its number, or None.
        gate: its letter, or "".
        step, sequence, unit: from 0; None where there is none of the kind.
        name: of a parameter, or "".
        sources: what the value was made of, by name.
        dtype: of the run.
    """

    where: str
    quantity: str
    value: float
    backward: bool = False
    layer: int | None = None
    gate: str = ""
    step: int | None = None
    sequence: int | None = None
    unit: int | None = None
    name: str = ""
    sources: Mapping[str, float] = field(default_factory=dict)
    dtype: str = "float32"

    def __str__(self) -> str:
        """One line, such as "layer 1 (LSTM), step 17, sequence 3, gate f, unit 5: pre-activation
        8.1e+38, beyond float32, from W x = 8.1e+38, U h = 0.25, b = 1"."""
        way_back = "on the way back: " * self.backward
        line = f"{way_back}{self.place}: {self.quantity} {_three_digits(self.value)}"
        if math.isfinite(self.value):
            line += f", beyond {self.dtype}"
        if self.sources:
            sources = (f"{n} = {_three_digits(v)}" for n, v in self.sources.items())
            line += ", from " + ", ".join(sources)
        return line

    @property
    def place(self) -> str:
        """Where, in words."""
        parts = [self.where]
        for what in ("step", "sequence"):
            if getattr(self, what) is not None:
                parts.append(f"{what} {getattr(self, what)}")
        if self.gate:
            parts.append(f"gate {self.gate}")
        if self.unit is not None:
            parts.append(f"unit {self.unit}")
        if self.name:
            parts.append(self.name)
        return ", ".join(parts)


class DivergedError(ValueError):
    """While training: the loss, the gradient or a parameter is no finite number any more.

    Attributes:
        update: at which.
        finding: the first value that is none, and what it was made of; None where it was not
            found again, in the streams of another process for instance.
    """

    def __init__(self, message: str, update: int = 0, finding: NonFinite | None = None) -> None:
        super().__init__(message)
        self.update, self.finding = update, finding


def _three_digits(value: float) -> str:
    """Three digits.

    Example:
        >>> _three_digits(8.1e38), _three_digits(float("nan")), _three_digits(2.0)
        ('8.1e+38', 'nan', '2')
    """
    return f"{value:.3g}"
