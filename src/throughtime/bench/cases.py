"""The recurrent layers that are timed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import GRU, LSTM, RNN, Cell

CELLS: dict[str, type[Cell]] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}


@dataclass(frozen=True)
class Case:
    """One layer and its data: cell, B, T, I, H."""

    cell: str
    B: int
    T: int
    I: int  # noqa: E741  (the field's name for the number of inputs)
    H: int
    ragged: bool = False

    def __str__(self) -> str:
        lengths = " lengths T/4…T" if self.ragged else ""
        return f"{self.cell} {self.B},{self.T},{self.I},{self.H} float32{lengths}"

    @property
    def work(self) -> float:
        """Floating-point operations of the products, forward and backward with δx."""
        gates = len(CELLS[self.cell].gates)
        steps = self.B * self.T * (0.625 if self.ragged else 1)
        return 3 * 2 * steps * gates * self.H * (self.I + self.H)

    def make(self) -> Cell:
        """The cell."""
        return CELLS[self.cell](self.I, self.H)

    def data(self) -> tuple[Array, Array, Array | None]:
        """Inputs (T, B, I), upstream gradient (T, B, H), lengths (B,)."""
        rng = np.random.default_rng(0)
        inputs = rng.standard_normal((self.T, self.B, self.I), dtype=np.float32)
        doutputs = rng.standard_normal((self.T, self.B, self.H), dtype=np.float32)
        if not self.ragged:
            return inputs, doutputs, None
        return inputs, doutputs, np.linspace(self.T, self.T // 4, self.B).astype(np.intp)


CASES = (
    Case("LSTM", 32, 128, 256, 256),
    Case("LSTM", 64, 128, 256, 256),
    Case("LSTM", 64, 128, 64, 128),
    Case("LSTM", 8, 128, 64, 64),
    Case("LSTM", 1, 256, 64, 64),
    Case("GRU", 32, 128, 256, 256),
    Case("GRU", 16, 128, 64, 128),
    Case("GRU", 8, 128, 64, 64),
    Case("GRU", 1, 256, 64, 64),
    Case("RNN", 16, 128, 64, 128),
    Case("LSTM", 16, 128, 64, 128, ragged=True),
    Case("LSTM", 1, 16, 32, 64),
)
