"""Layouts of our own networks and of torch's modules, built only when a diagnosis needs them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from throughtime import cells
from throughtime.arrays import Array, Shape, refuse
from throughtime.diagnosis.mutants.cells import GRU, LSTM, RNN, MutantCell
from throughtime.diagnosis.mutants.layout import Layout
from throughtime.diagnosis.mutants.losses import GivenLoss, ModelLoss
from throughtime.diagnosis.mutants.model import Model
from throughtime.gradcheck import Gates
from throughtime.network import Dense, Dropout, Embedding, Network, RecurrentLayer

KINDS = {
    "SoftmaxCrossEntropy": "softmax",
    "MeanSquaredError": "squared_error",
    "BinaryCrossEntropy": "binary",
}
MODULES = dict.fromkeys(("RNN", "LSTM", "GRU"), "recurrent")
MODULES |= {"Embedding": "embedding", "Linear": "head"}
ORDERS = {"LSTM": "ifgo", "GRU": "rzn"}  # of the gates in torch's modules …
GATED = ("weight_ih_", "weight_hh_", "bias_ih_", "bias_hh_")  # … and the tensors that hold them
PYTORCH = "in PyTorch's order"


@dataclass(frozen=True)
class NetworkLayout:
    """The layout of a Network with its data.

    Attributes:
        network: recurrent layers of one kind and size of state, in one direction or all of them in
            two, with or without an Embedding below and a Dense head above; nothing is dropped.
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
            ValueError: if a layer is of another kind.
        """
        return self.layout().model(parameters)

    def gates_of(self, name: str, shapes: Mapping[str, Shape]) -> Gates | None:
        """The gates that a tensor consists of; None where it has none."""
        number, kind = name.split(".")[0], name.split(".")[-1]
        layer = self.network.layers[int(number)]
        if not isinstance(layer, RecurrentLayer) or kind not in "WUb" or len(layer.cell.gates) < 2:
            return None
        return Gates(len(layer.cell.gates), 0, layer.cell.gates, PYTORCH)

    def layout(self) -> Layout:
        """The layout of its matrices."""
        embedding, recurrent, head = _stack(self.network)
        specs = [layer.cell for layer in recurrent.values()]
        if all(isinstance(one, cells.DerivedCell) for one in specs):
            return self._of_equations(embedding, recurrent, head)
        kinds = {(_cell(one), one.bidirectional, one.units, one.output_size) for one in specs}
        if len(kinds) > 1:
            refuse("layout of a Network", "layers of one kind and size", "several")
        loss = self.network.loss
        kind = KINDS.get(type(loss).__name__)
        if loss is None or kind is None:
            refuse("layout of a Network", "one of the losses " + ", ".join(KINDS), repr(loss))
        cell, shapes = _cell(specs[0]), specs[0].shapes()
        top = self._place_of(head)
        prefixes = _prefixes(recurrent)
        names = {own: tuple(prefix + own for prefix in prefixes) for own in shapes}
        return Layout(
            cell,
            specs[0].gates,
            self.inputs,
            self.targets,
            names["W"],
            names["U"],
            names["b"],
            p=names.get("p", ""),
            R=names.get("R", ""),
            candidate_bias=names.get("c", ""),
            V=f"{top}.W" if head else "",
            d=f"{top}.b" if head and head.bias else "",
            E="0.E" if embedding else "",
            layers=len(recurrent),
            directions=1 + specs[0].bidirectional,
            loss=ModelLoss(kind, loss.time, loss.batch),
            lengths=self.lengths,
            h0=self._start("h", prefixes),
            c0=self._start("c", prefixes),
        )

    def _of_equations(
        self, embedding: bool, recurrent: dict[int, RecurrentLayer], head: Dense | None
    ) -> Layout:
        """The layout of a network whose layers have one cell, which its equations alone give."""
        from throughtime.diagnosis.mutants.equation_layout import OF_EQUATIONS, EquationLayout

        first, *others = (layer.cell for layer in recurrent.values())
        same = {(type(c), getattr(c, "definition", None), c.units, c.bidirectional) for c in others}
        own = (type(first), getattr(first, "definition", None), first.units, first.bidirectional)
        if same - {own}:
            refuse("layout of a Network", "layers of one kind and size", "several")
        assert isinstance(first, cells.DerivedCell)
        loss = self.network.loss
        kind = KINDS.get(type(loss).__name__)
        if loss is None or kind is None:
            refuse("layout of a Network", "one of the losses " + ", ".join(KINDS), repr(loss))
        top, prefixes = self._place_of(head), _prefixes(recurrent)
        states = {
            name: started
            for name, part in zip(first.derivation.trace.states, first.state_sizes, strict=True)
            if (started := self._start(part, prefixes)) is not None
        }
        return EquationLayout(
            OF_EQUATIONS,
            "",
            self.inputs,
            self.targets,
            "",
            "",
            "",
            V=f"{top}.W" if head else "",
            d=f"{top}.b" if head and head.bias else "",
            E="0.E" if embedding else "",
            layers=len(recurrent),
            directions=1 + first.bidirectional,
            loss=ModelLoss(kind, loss.time, loss.batch),
            lengths=self.lengths,
            of=first,
            prefixes=tuple(prefixes),
            states=states,
        )

    def _place_of(self, head: Dense | None) -> int | None:
        return next((n for n, own in enumerate(self.network.layers) if own is head), None)

    def _start(self, part: str, prefixes: Iterable[str]) -> Array | None:
        names = [prefix + part for prefix in prefixes]
        if self.state is None or names[0] not in self.state:
            return None
        return np.stack([self.state[name] for name in names])


@dataclass(frozen=True)
class TorchLayout:
    """The layout of a torch RNN, LSTM or GRU, with or without an Embedding and a Linear head.

    Attributes:
        module: the module.
        inputs: the tensor that it is called with.
        run: an object with `given_loss`, a function of what the module returns, or None; with the
            `seed` of torch's generators; and, once the loss has been evaluated, with the `weights`
            of every output, or with what was `returned`.
    """

    module: Any
    inputs: Any
    run: Any

    def gates_of(self, name: str, shapes: Mapping[str, Shape]) -> Gates | None:
        """The gates that a tensor consists of; None where it has none."""
        owner, _, own = name.rpartition(".")
        modules = dict(self.module.named_modules())
        order = ORDERS.get(type(modules.get(owner)).__name__, "")
        if len(order) < 2 or not own.startswith(GATED):
            return None
        return Gates(len(order), 0, order, PYTORCH)

    def model(self, parameters: Mapping[str, Array]) -> Model:
        """The module with our readable backward pass.

        Raises:
            ValueError: if the module is of another kind.
        """
        embedding, prefix, inner, head = _parts(self.module)
        first = bool(inner.batch_first)
        x = _time_major(_numbers(self.inputs), first, axes=2 if embedding else 3)
        weights = [_numbers(w) for w in self.run.weights]
        loss = ModelLoss("weighted")
        if self.run.given_loss is not None:
            loss = GivenLoss(loss=self.run.given_loss, seen=self.run.returned, batch_first=first)
        kind = type(inner).__name__
        gated: dict[str, MutantCell] = {"LSTM": LSTM(), "GRU": GRU()}
        spec = gated.get(kind) or RNN(inner.nonlinearity)
        final = None
        if not head and len(weights) > 1:
            final = (weights[1], weights[2] if len(weights) > 2 else None)
        order = ORDERS.get(kind, "h")
        ways = ("", "_reverse") if inner.bidirectional else ("",)
        suffixes = [f"l{layer}{way}" for layer in range(inner.num_layers) for way in ways]
        W, U, b, c, R = (
            tuple(f"{prefix}{name}_{suffix}" for suffix in suffixes)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        )
        layout = Layout(
            spec,
            order,
            x,
            _time_major(weights[0], first) if weights else None,
            W,
            U,
            b if inner.bias else "",
            c if inner.bias else "",
            R=R if inner.proj_size else "",
            V=f"{head}.weight" if head else "",
            d=f"{head}.bias" if head and f"{head}.bias" in parameters else "",
            E=f"{embedding}.weight" if embedding else "",
            layers=inner.num_layers,
            directions=len(ways),
            loss=loss,
            between=_masks(inner, x.shape[:2], self.run.seed),
            final=final,
        )
        return layout.model(parameters)


def _prefixes(recurrent: Mapping[int, RecurrentLayer]) -> list[str]:
    """What stands in front of the names in each layer and direction."""
    return [f"{n}.{way}" for n, layer in recurrent.items() for way in layer.prefixes]


def _stack(network: Network) -> tuple[bool, dict[int, RecurrentLayer], Dense | None]:
    """(whether there is an Embedding, the recurrent layers by their positions, the head)."""
    layers = [layer for layer in network.layers if not isinstance(layer, Dropout)]
    embedding = isinstance(layers[0], Embedding)
    head = layers[-1] if isinstance(layers[-1], Dense) else None
    recurrent = {n: own for n, own in enumerate(network.layers) if isinstance(own, RecurrentLayer)}
    if not recurrent or embedding + len(recurrent) + (head is not None) != len(layers):
        kinds = ", ".join(type(layer).__name__ for layer in layers)
        refuse("layout of a Network", "Embedding or none, recurrent layers, Dense or none", kinds)
    return embedding, recurrent, head


def _cell(spec: cells.Cell) -> MutantCell:
    if isinstance(spec, cells.LSTM):
        return LSTM(peepholes=spec.peepholes)
    if isinstance(spec, cells.GRU):
        return GRU(spec.reset_after)
    if isinstance(spec, cells.RNN):
        return RNN(spec.nonlinearity)
    refuse("layout of a Network", "an RNN, LSTM or GRU", type(spec).__name__)


def _parts(module: Any) -> tuple[str, str, Any, str]:
    """(name of the embedding, prefix of the recurrent module, that module, name of the head)."""
    children = {"": module} if _role(module) == "recurrent" else dict(module.named_children())
    names = {_role(child): name for name, child in children.items()}
    if len(names) < len(children) or "recurrent" not in names or "other" in names:
        kinds = ", ".join(type(child).__name__ for child in children.values()) or "none"
        expected = "an RNN, LSTM or GRU, with an Embedding and a Linear head or without"
        refuse("layout of a module", expected, kinds)
    inner = children[names["recurrent"]]
    embedding, head = names.get("embedding", ""), names.get("head", "")
    if embedding and (children[embedding].padding_idx, children[embedding].max_norm) != (None,) * 2:
        expected = "an Embedding without padding_idx and max_norm"
        refuse("layout of a module", expected, repr(children[embedding]))
    prefix = names["recurrent"] and names["recurrent"] + "."
    return embedding, prefix, inner, head


def _masks(inner: Any, steps: tuple[int, ...], seed: int) -> tuple[Array, ...]:
    """The masks that torch draws between layers in training, (T, B, ·) for all but the lowest.

    In a module that has a layout nothing else is drawn before them, so that the same seed gives the
    same masks here. If it did not, the model would not have the module's loss, which is verified.
    """
    if not (inner.dropout and inner.training and inner.num_layers > 1):
        return ()
    torch = import_module("torch")
    weight = inner.weight_ih_l0
    if weight.is_cuda:
        refuse("layout of a module", "dropout in training on the CPU alone", str(weight.device))
    size = (1 + inner.bidirectional) * (inner.proj_size or inner.hidden_size)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        ones = torch.ones((*steps, size), dtype=weight.dtype)
        drawn = [torch.dropout(ones, inner.dropout, True) for _ in range(inner.num_layers - 1)]
    return tuple(_numbers(mask) for mask in drawn)


def _role(module: Any) -> str:
    return MODULES.get(type(module).__name__, "other")


def _numbers(tensor: Any) -> Array:
    detached = tensor.detach().cpu()
    array: Array = (detached.double() if detached.is_floating_point() else detached).numpy()
    return array


def _time_major(array: Array, batch_first: bool, axes: int = 3) -> Array:
    """The array with time first, and with a batch if it has none; `axes` counts the batch."""
    if array.ndim < axes:
        return array[:, None]
    return np.swapaxes(array, 0, 1) if batch_first else array
