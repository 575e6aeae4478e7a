"""What torch calls the weights of its recurrent modules, and what they are here.

torch                          here
`weight_ih_l0` (G·H, I)        `0.W`
`weight_hh_l0` (G·H, H)        `0.U`, (G·H, P) with `proj_size`
`weight_hr_l0` (P, H)          `0.R`, with `proj_size` only
`bias_ih_l0` + `bias_hh_l0`    `0.b`; the GRU's candidate has `bias_ih_l0` alone
`bias_hh_l0`, last H rows      `0.c`, GRU only: it stands within the reset gate's product
`…_l0_reverse`                 `0.1.…`, the second direction

Both hold their rows gate by gate, in the same order. torch has two biases where one will do:
reading adds them; writing puts the sum into `bias_ih` and 0 into `bias_hh`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array, Shape
from throughtime.cells import GRU, Cell


@dataclass(frozen=True)
class Side:
    """One direction of one layer.

    Attributes:
        cell: the layer's cell.
        layer: its number in torch, which counts recurrent layers alone.
        number: its number in the network, which counts dropout too.
        reverse: whether it is the second direction.
    """

    cell: Cell
    layer: int
    number: int
    reverse: bool

    def torch(self, name: str) -> str:
        """Torch's name of `weight_ih`, `bias_hh` and so on."""
        return f"{name}_l{self.layer}" + "_reverse" * self.reverse

    def ours(self, name: str) -> str:
        """The network's name of `W`, `b` and so on."""
        return f"{self.number}." + "1." * self.reverse + name

    def shapes(self, bias: bool) -> dict[str, Shape]:
        """What torch holds for this side: name to shape."""
        ours = self.cell.shapes()
        shapes = {"weight_ih": ours["W"], "weight_hh": ours["U"]}
        if bias:
            shapes |= {"bias_ih": ours["b"], "bias_hh": ours["b"]}
        if "R" in ours:
            shapes["weight_hr"] = ours["R"]
        return {self.torch(name): shape for name, shape in shapes.items()}

    def read(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The network's arrays from torch's; without biases in torch, 0."""
        W, U = arrays[self.torch("weight_ih")], arrays[self.torch("weight_hh")]
        zero = np.zeros(len(W), W.dtype)
        b_ih = arrays.get(self.torch("bias_ih"), zero)
        b_hh = arrays.get(self.torch("bias_hh"), zero)
        found = {"W": W, "U": U, "b": b_ih + b_hh}
        if isinstance(self.cell, GRU):
            candidate = slice(2 * self.cell.units, None)
            found["b"][candidate] = b_ih[candidate]
            found["c"] = b_hh[candidate]
        if self.torch("weight_hr") in arrays:
            found["R"] = arrays[self.torch("weight_hr")]
        return {self.ours(name): array for name, array in found.items()}

    def write(self, parameters: Mapping[str, Array]) -> dict[str, Array]:
        """Torch's arrays, in memory of their own, from the network's."""
        p = {name: parameters[self.ours(name)].copy() for name in self.cell.shapes()}
        found = {"weight_ih": p["W"], "weight_hh": p["U"]}
        found |= {"bias_ih": p["b"], "bias_hh": np.zeros_like(p["b"])}
        if "c" in p:
            found["bias_hh"][2 * self.cell.units :] = p["c"]
        if "R" in p:
            found["weight_hr"] = p["R"]
        return {self.torch(name): array for name, array in found.items()}


def sides(cells: Sequence[tuple[int, Cell]]) -> Iterator[Side]:
    """Every direction of every layer, in torch's order; cells come with their layer's number."""
    for layer, (number, cell) in enumerate(cells):
        for reverse in (False, True)[: 1 + cell.bidirectional]:
            yield Side(cell, layer, number, reverse)
