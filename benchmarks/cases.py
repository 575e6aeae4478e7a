"""What is timed: one recurrent layer, its sizes, and the results that are requested."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Literal

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import GRU, LSTM, RNN, Cell
from throughtime.network import Network

K1, K2 = 16, 32  # steps between updates of truncated BPTT, and steps that it goes back

CELLS: dict[str, type[Cell]] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}


@dataclass(frozen=True)
class Case:
    """One layer and its data.

    Attributes:
        cell, B, T, I, H: the kind of the cell, and the sizes.
        dtype: "float32" or "float64".
        kind: "" for a layer alone; "ragged" for sequences of T down to T/4 steps; "inner" if
            δh and δc of every step are requested too (forward only: c of every step); "window"
            for the layer within a `Network`, which includes the cost of its checks; "windows"
            for truncated BPTT in windows of K2 steps every K1, in a loop through torch's modules.
        forward_only: whether there is no backward pass.
    """

    cell: str
    B: int
    T: int
    I: int  # noqa: E741  (the field's name for the number of inputs)
    H: int
    dtype: str = "float32"
    kind: Literal["", "ragged", "inner", "window", "windows"] = ""
    forward_only: bool = False

    def __str__(self) -> str:
        parts = [f"{self.cell} {self.B},{self.T},{self.I},{self.H} {self.dtype}"]
        if self.forward_only:
            parts.append("forward")
        inner = "every c" if self.forward_only else "every δh, δc"
        names = {"": [], "ragged": ["lengths T…T/4"], "inner": [inner], "window": ["window"]}
        names["windows"] = [f"TBPTT {K1}/{K2}"]
        return " ".join(parts + names[self.kind])

    @property
    def work(self) -> float:
        """The floating-point operations of the matrix products, including those for δx."""
        lengths = self.lengths()
        steps = self.B * self.T if lengths is None else int(lengths.sum())
        gates = len(CELLS[self.cell].gates)
        passes = 1 if self.forward_only else 3  # δx and δW each cost as much as W x
        return passes * 2 * steps * gates * self.H * (self.I + self.H)

    def lengths(self) -> Array | None:
        """(B,), longest first, which suits PyTorch's packing best."""
        if self.kind != "ragged":
            return None
        return np.linspace(self.T, self.T // 4, self.B).astype(np.intp)

    def make(self) -> Cell:
        """The cell."""
        return CELLS[self.cell](self.I, self.H)

    def parameters(self) -> dict[str, Array]:
        """All are uniform in ±1/√H, including the biases, so that a wrong one shows."""
        return {name: self._uniform(shape, 1) for name, shape in self.make().shapes().items()}

    def data(self) -> tuple[Array, Array]:
        """Inputs (T, B, I) and upstream gradient (T, B, H)."""
        inputs, doutputs = ((self.T, self.B, size) for size in (self.I, self.H))
        return self._uniform(inputs, 2) * self.H**0.5, self._uniform(doutputs, 3)

    def _uniform(self, shape: tuple[int, ...], seed: int) -> Array:
        numbers: Array = np.random.default_rng(seed).random(shape, np.dtype(self.dtype))
        numbers -= 0.5
        numbers *= 2 / self.H**0.5
        return numbers

    def to_dict(self) -> dict[str, Any]:
        """The arguments of `Case(**…)`."""
        return asdict(self)


TABLE = (
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
    Case("LSTM", 16, 128, 64, 128, kind="ragged"),
    Case("LSTM", 16, 128, 64, 128, kind="inner"),
    Case("LSTM", 1, 16, 32, 64, kind="window"),
)
MODULES = (
    *(case for case in TABLE if case.kind != "inner"),
    Case("GRU", 16, 128, 64, 128, kind="ragged"),
    Case("LSTM", 16, 256, 64, 128, kind="windows"),
    Case("GRU", 16, 256, 64, 128, kind="windows"),
)
LIMITS = tuple(case for case in TABLE if not case.kind and case.B >= 16)
FORWARD = tuple(Case(**(case.to_dict() | {"forward_only": True})) for case in TABLE)
SWEEP = tuple(
    Case(cell, B, T, H, H, dtype)
    for cell, dtype, B, H, T in product(
        ("RNN", "LSTM", "GRU"),
        ("float32", "float64"),
        (1, 4, 16, 64),
        (16, 64, 128, 256, 512),
        (1, 16, 128),
    )
)
LENGTHS = tuple(Case("LSTM", 1, T, 64, 64) for T in (10**2, 10**3, 10**4, 10**5, 10**6))
WIDTHS = tuple(Case("LSTM", 16, 128, H, H) for H in (16, 32, 64, 128, 256, 512, 1024))


class Ours:
    """A layer of this package with a case's parameters and data."""

    def __init__(self, case: Case) -> None:
        self.case, self.cell, self.p = case, case.make(), case.parameters()
        self.inputs, self.doutputs = case.data()
        self.lengths = case.lengths()
        self.network = Network([self.cell], dtype=case.dtype)
        for name, array in self.p.items():
            self.network.parameters[f"0.{name}"] = array

    def run(self) -> tuple[Array, Any]:
        """The outputs, and the results of the backward pass or, forward only, the tape."""
        outputs, tape = self.forward()
        return outputs, tape if self.case.forward_only else self.backward(tape)

    def forward(self) -> tuple[Array, Any]:
        """The outputs and the tape."""
        if self.case.kind == "window":
            outputs, _, tape = self.network.forward(self.inputs)
            return outputs, tape
        outputs, _, own = self.cell.forward(self.p, self.inputs, lengths=self.lengths)
        return outputs, own

    def backward(self, tape: Any) -> Any:
        """The results of the backward pass."""
        if self.case.kind == "window":
            return self.network.backward(tape, self.doutputs, need_deltas=False)
        return self.cell.backward(self.p, tape, self.doutputs, need_deltas=self._inner)

    def results(self) -> dict[str, Array]:
        """Everything that the case requests, by name."""
        outputs, found = self.run()
        results = {"outputs": outputs}
        if self.case.forward_only:
            return results | ({"every c": found.states["c"][1:]} if self._inner else {})
        parameters = {name.removeprefix("0."): a for name, a in found.parameters.items()}
        results |= {"δx": found.inputs} | {f"δ{name}": a for name, a in parameters.items()}
        if self._inner:
            results |= {f"every δ{name}": found.deltas[name] for name in ("h", "c")}
        return results

    @property
    def _inner(self) -> bool:
        return self.case.kind == "inner"
