"""Layouts of our own networks and of torch's modules, built when a diagnosis asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from throughtime import cells
from throughtime.arrays import Array, refuse
from throughtime.diagnosis.mutants.cells import GRU, LSTM, RNN
from throughtime.diagnosis.mutants.given import GivenLoss
from throughtime.diagnosis.mutants.layout import Layout
from throughtime.diagnosis.mutants.losses import Loss
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.mutants.walk import Cell
from throughtime.layers import Dense, Dropout, Embedding, Recurrent
from throughtime.network import Network

KINDS = {
    "SoftmaxCrossEntropy": "softmax",
    "MeanSquaredError": "squared_error",
    "BinaryCrossEntropy": "binary",
}
MODULES = dict.fromkeys(("RNN", "LSTM", "GRU"), "recurrent")
MODULES |= {"Embedding": "embedding", "Linear": "head"}


@dataclass(frozen=True)
class NetworkLayout:
    """A Network with its data.

    Attributes:
        network: an Embedding or none, recurrent layers of one kind and size of state, in one
            direction, and a Dense head or none; nothing is dropped.
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
        embedding, recurrent, head = _stack(self.network)
        specs = [layer.cell for layer in recurrent.values()]
        if len({_cell(spec) for spec in specs}) > 1 or len({spec.units for spec in specs}) > 1:
            refuse("layout of a Network", "layers of one kind and size", "several")
        loss = self.network.loss
        assert loss is not None
        after = isinstance(_cell(specs[0]), GRU) and _after(specs)
        top = next((n for n, own in enumerate(self.network.layers) if own is head), None)
        W, U, b, c, p = (tuple(f"{place}.{kind}" for place in recurrent) for kind in "WUbcp")
        return Layout(
            _cell(specs[0]),
            specs[0].gates,
            self.inputs,
            self.targets,
            W,
            U,
            b,
            p=p if _cell(specs[0]) == LSTM(peepholes=True) else "",
            candidate_bias=c if after else "",
            V=f"{top}.W" if head else "",
            d=f"{top}.b" if head and head.bias else "",
            E="0.E" if embedding else "",
            layers=len(recurrent),
            loss=Loss(KINDS[type(loss).__name__], loss.time, loss.batch),
            lengths=self.lengths,
            h0=self._start("h", recurrent),
            c0=self._start("c", recurrent),
        )

    def _start(self, part: str, places: Iterable[int]) -> Array | None:
        names = [f"{place}.{part}" for place in places]
        if self.state is None or names[0] not in self.state:
            return None
        return np.stack([self.state[name] for name in names])


@dataclass(frozen=True)
class TorchLayout:
    """A torch RNN, LSTM or GRU, with an Embedding and a Linear head or without.

    Attributes:
        module: it.
        inputs: the tensor that it is called with.
        run: has `given_loss`, a function of what the module returns, or None; and once the loss
            has been evaluated `weights`, those of every output, or what was `returned`.
    """

    module: Any
    inputs: Any
    run: Any

    def model(self, parameters: Mapping[str, Array]) -> Model:
        """The module with our readable backward pass.

        Raises:
            ValueError: where it is of another kind.
        """
        embedding, prefix, inner, head = _parts(self.module)
        first = bool(inner.batch_first)
        x = _time_major(_numbers(self.inputs), first, axes=2 if embedding else 3)
        weights = [_numbers(w) for w in self.run.weights]
        loss = Loss("weighted")
        if self.run.given_loss is not None:
            loss = GivenLoss(loss=self.run.given_loss, seen=self.run.returned, batch_first=first)
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
            _time_major(weights[0], first) if weights else None,
            prefix + "weight_ih_l{layer}",
            prefix + "weight_hh_l{layer}",
            prefix + "bias_ih_l{layer}" if inner.bias else "",
            prefix + "bias_hh_l{layer}" if inner.bias else "",
            V=f"{head}.weight" if head else "",
            d=f"{head}.bias" if head and f"{head}.bias" in parameters else "",
            E=f"{embedding}.weight" if embedding else "",
            layers=inner.num_layers,
            loss=loss,
            final=final,
        )
        return layout.model(parameters)


def _stack(network: Network) -> tuple[bool, dict[int, Recurrent], Dense | None]:
    """(whether there is an Embedding below, recurrent layers by their places, the head)."""
    layers = [layer for layer in network.layers if not isinstance(layer, Dropout)]
    embedding = isinstance(layers[0], Embedding)
    head = layers[-1] if isinstance(layers[-1], Dense) else None
    recurrent = {n: own for n, own in enumerate(network.layers) if isinstance(own, Recurrent)}
    if not recurrent or embedding + len(recurrent) + (head is not None) != len(layers):
        kinds = ", ".join(type(layer).__name__ for layer in layers)
        refuse("layout of a Network", "Embedding or none, recurrent layers, Dense or none", kinds)
    return embedding, recurrent, head


def _cell(spec: cells.Cell) -> Cell:
    if spec.bidirectional:
        refuse("layout of a Network", "one direction", "two")
    if isinstance(spec, cells.LSTM):
        if spec.projection:
            refuse("layout of a Network", "an LSTM without projection", repr(spec))
        return LSTM(peepholes=spec.peepholes)
    if isinstance(spec, cells.GRU):
        return GRU(spec.reset_after)
    assert isinstance(spec, cells.RNN)
    return RNN(spec.nonlinearity)


def _after(specs: list[cells.Cell]) -> bool:
    return all(isinstance(spec, cells.GRU) and spec.reset_after for spec in specs)


def _parts(module: Any) -> tuple[str, str, Any, str]:
    """(name of the embedding or "", prefix of the recurrent module, itself, name of the head)."""
    children = {"": module} if _role(module) == "recurrent" else dict(module.named_children())
    names = {_role(child): name for name, child in children.items()}
    if len(names) < len(children) or "recurrent" not in names or "other" in names:
        kinds = ", ".join(type(child).__name__ for child in children.values()) or "none"
        expected = "an RNN, LSTM or GRU, with an Embedding and a Linear head or without"
        refuse("layout of a module", expected, kinds)
    inner = children[names["recurrent"]]
    if inner.bidirectional or inner.proj_size or (inner.dropout and inner.training):
        refuse("layout of a module", "one direction, no projection, no dropout", repr(inner))
    embedding, head = names.get("embedding", ""), names.get("head", "")
    if embedding and (children[embedding].padding_idx, children[embedding].max_norm) != (None,) * 2:
        expected = "an Embedding without padding_idx and max_norm"
        refuse("layout of a module", expected, repr(children[embedding]))
    prefix = names["recurrent"] and names["recurrent"] + "."
    return embedding, prefix, inner, head


def _role(module: Any) -> str:
    return MODULES.get(type(module).__name__, "other")


def _numbers(tensor: Any) -> Array:
    detached = tensor.detach().cpu()
    array: Array = (detached.double() if detached.is_floating_point() else detached).numpy()
    return array


def _time_major(array: Array, batch_first: bool, axes: int = 3) -> Array:
    """With a batch, where it has none; `axes` is how many there are then."""
    if array.ndim < axes:
        return array[:, None]
    return np.swapaxes(array, 0, 1) if batch_first else array
