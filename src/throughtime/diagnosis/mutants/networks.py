"""Layouts of our own networks and of torch's modules, built when a diagnosis asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from throughtime import cells
from throughtime.arrays import Array, refuse
from throughtime.diagnosis.mutants.cells import GRU, LSTM, RNN
from throughtime.diagnosis.mutants.layout import Layout
from throughtime.diagnosis.mutants.losses import Loss
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.mutants.walk import Cell
from throughtime.layers import Dense, Recurrent
from throughtime.network import Network

KINDS = {
    "SoftmaxCrossEntropy": "softmax",
    "MeanSquaredError": "squared_error",
    "BinaryCrossEntropy": "binary",
}


@dataclass(frozen=True)
class NetworkLayout:
    """A Network with its data.

    Attributes:
        network: recurrent layers of one kind and size of state, in one direction, and a Dense
            head or none.
        inputs, targets, state, lengths: as in `Network.loss_and_gradient`.
    """

    network: Network
    inputs: Any
    targets: Any
    state: Mapping[str, Array] | None = None
    lengths: Any = None

    def model(self, parameters: Mapping[str, Array]) -> Model:
        """The network with our readable backward pass.

        Raises:
            ValueError: where a layer is of another kind.
        """
        return self.layout().model(parameters)

    def layout(self) -> Layout:
        """Where its matrices lie."""
        recurrent, head = _stack(self.network)
        specs = [layer.cell for layer in recurrent]
        if len({_cell(spec) for spec in specs}) > 1 or len({spec.units for spec in specs}) > 1:
            refuse("layout of a Network", "layers of one kind and size", "several")
        loss = self.network.loss
        assert loss is not None
        count = len(recurrent)
        return Layout(
            _cell(specs[0]),
            specs[0].gates,
            self.inputs,
            self.targets,
            "{layer}.W",
            "{layer}.U",
            "{layer}.b",
            candidate_bias="{layer}.c"
            if isinstance(_cell(specs[0]), GRU) and _after(specs)
            else "",
            V=f"{count}.W" if head else "",
            d=f"{count}.b" if head and head.bias else "",
            layers=count,
            loss=Loss(KINDS[type(loss).__name__], loss.time, loss.batch),
            lengths=self.lengths,
            h0=self._start("h", count),
            c0=self._start("c", count),
        )

    def _start(self, part: str, count: int) -> Array | None:
        if self.state is None or f"0.{part}" not in self.state:
            return None
        return np.stack([self.state[f"{layer}.{part}"] for layer in range(count)])


@dataclass(frozen=True)
class TorchLayout:
    """A torch RNN, LSTM or GRU, alone or under a Linear head, whose outputs are weighted.

    Attributes:
        module: it.
        inputs: the tensor that it is called with.
        run: has `weights`, those of every output, once the loss has been evaluated.
    """

    module: Any
    inputs: Any
    run: Any

    def model(self, parameters: Mapping[str, Array]) -> Model:
        """The module with our readable backward pass.

        Raises:
            ValueError: where it is of another kind.
        """
        prefix, inner, head = _parts(self.module)
        first = bool(inner.batch_first)
        x = _time_major(_numbers(self.inputs), first)
        weights = [_numbers(w) for w in self.run.weights]
        kind = type(inner).__name__
        gated: dict[str, Cell] = {"LSTM": LSTM(), "GRU": GRU()}
        spec = gated.get(kind) or RNN(inner.nonlinearity)
        final = None
        if not head and len(weights) > 1:
            parts = [w.reshape(inner.num_layers, -1, inner.hidden_size) for w in weights[1:]]
            final = np.stack([parts[0], parts[1] if len(parts) > 1 else 0 * parts[0]])
        order = {"LSTM": "ifgo", "GRU": "rzn"}.get(kind, "h")
        layout = Layout(
            spec,
            order,
            x,
            _time_major(weights[0], first),
            prefix + "weight_ih_l{layer}",
            prefix + "weight_hh_l{layer}",
            prefix + "bias_ih_l{layer}" if inner.bias else "",
            prefix + "bias_hh_l{layer}" if inner.bias else "",
            V=f"{head}.weight" if head else "",
            d=f"{head}.bias" if head and f"{head}.bias" in parameters else "",
            layers=inner.num_layers,
            loss=Loss("weighted"),
            final=final,
        )
        return layout.model(parameters)


def _stack(network: Network) -> tuple[list[Recurrent], Dense | None]:
    *lower, top = network.layers
    head = top if isinstance(top, Dense) else None
    recurrent = [layer for layer in network.layers if isinstance(layer, Recurrent)]
    if not recurrent or len(recurrent) + (head is not None) != len(network.layers):
        kinds = ", ".join(type(layer).__name__ for layer in (*lower, top))
        refuse("layout of a Network", "recurrent layers and a Dense head or none", kinds)
    return recurrent, head


def _cell(spec: cells.Cell) -> Cell:
    if spec.bidirectional:
        refuse("layout of a Network", "one direction", "two")
    if isinstance(spec, cells.LSTM):
        if spec.peepholes or spec.projection:
            refuse("layout of a Network", "an LSTM without peepholes or projection", repr(spec))
        return LSTM()
    if isinstance(spec, cells.GRU):
        return GRU(spec.reset_after)
    assert isinstance(spec, cells.RNN)
    return RNN(spec.nonlinearity)


def _after(specs: list[cells.Cell]) -> bool:
    return all(isinstance(spec, cells.GRU) and spec.reset_after for spec in specs)


def _parts(module: Any) -> tuple[str, Any, str]:
    """(prefix of its names, the recurrent module, name of the head or "")."""
    known = ("RNN", "LSTM", "GRU")
    prefix, inner, head = "", module, ""
    if type(module).__name__ not in known:
        children = dict(module.named_children())
        recurrent = [name for name, child in children.items() if type(child).__name__ in known]
        heads = [name for name, child in children.items() if type(child).__name__ == "Linear"]
        if len(children) != 2 or len(recurrent) != 1 or len(heads) != 1:
            kinds = ", ".join(type(child).__name__ for child in children.values()) or "none"
            refuse("layout of a module", "an RNN, LSTM or GRU, and a Linear head or none", kinds)
        prefix, inner, head = f"{recurrent[0]}.", children[recurrent[0]], heads[0]
    if inner.bidirectional or inner.proj_size or (inner.dropout and inner.training):
        refuse("layout of a module", "one direction, no projection, no dropout", repr(inner))
    return prefix, inner, head


def _numbers(tensor: Any) -> Array:
    array: Array = tensor.detach().cpu().double().numpy()
    return array


def _time_major(array: Array, batch_first: bool) -> Array:
    if array.ndim == 2:
        return array[:, None]
    return np.swapaxes(array, 0, 1) if batch_first else array
