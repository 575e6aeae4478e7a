"""Our side of a case."""

from __future__ import annotations

from typing import Any

from benchmarks.cases import Case
from throughtime.arrays import Array
from throughtime.network import Network


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
        """Outputs, and what the backward pass finds; forward only, the tape."""
        outputs, tape = self.forward()
        return outputs, tape if self.case.forward_only else self.backward(tape)

    def forward(self) -> tuple[Array, Any]:
        """Outputs and tape."""
        if self.case.kind == "window":
            outputs, _, tape = self.network.forward(self.inputs)
            return outputs, tape
        outputs, _, own = self.cell.forward(self.p, self.inputs, lengths=self.lengths)
        return outputs, own

    def backward(self, tape: Any) -> Any:
        """What the backward pass finds."""
        if self.case.kind == "window":
            return self.network.backward(tape, self.doutputs, need_deltas=False)
        return self.cell.backward(self.p, tape, self.doutputs, need_deltas=self._inner)

    def results(self) -> dict[str, Array]:
        """Everything that the case asks for, by name."""
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
