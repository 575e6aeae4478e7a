"""The weights of torch's recurrent modules: their names, their layout, and what they are here.

torch                          here
`weight_ih_l0` (G·H, I)        `0.W`
`weight_hh_l0` (G·H, H)        `0.U`, (G·H, P) with `proj_size`
`weight_hr_l0` (P, H)          `0.R`, with `proj_size` only
`bias_ih_l0` + `bias_hh_l0`    `0.b`; the GRU's candidate has `bias_ih_l0` alone
`bias_hh_l0`, last H rows      `0.c`, GRU only: it stands within the reset gate's product
`weight_peephole_l0` (3H,)     `0.p`, which only the modules of `throughtime.torch` have
`…_l0_reverse`                 `0.1.…`, the second direction

Both hold their rows gate by gate, in the same order. torch has two biases where one would do:
reading adds them; writing puts the sum into `bias_ih` and 0 into `bias_hh`.

torch is not imported here: a module brings it along, and a plain mapping of arrays, from a
safetensors file for instance, does without it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from throughtime.arrays import Array, Shape, finite, fits, refuse, same_names
from throughtime.cells import CELLS, GRU, LSTM, RNN, Cell
from throughtime.network import Dropout, Network, Spec

if TYPE_CHECKING:
    import torch

Module: TypeAlias = Any  # a torch.nn.Module: its type is torch's
MaybeTensor: TypeAlias = "torch.Tensor | None"
Nonlinearity: TypeAlias = Literal["tanh", "relu"]

FIRST = "weight_ih_l0"


class TorchWeights(NamedTuple):
    """What torch holds for one direction of one layer; None for what the cell does not have.

    The fields are tensors, arrays or shapes. Their order is torch's, and the compiled engine's.
    """

    weight_ih: Any
    weight_hh: Any
    bias_ih: Any = None
    bias_hh: Any = None
    weight_hr: Any = None
    weight_peephole: Any = None

    def present(self) -> list[Any]:
        """Those that the cell has, in order."""
        return [w for w in self if w is not None]


def torch_name(name: str, layer: int, reverse: bool) -> str:
    """The module's attribute: `weight_ih`, layer 0, the second direction: weight_ih_l0_reverse."""
    return f"{name}_l{layer}" + "_reverse" * reverse


def peephole_name(weight_ih: str) -> str:
    """The name of the peepholes beside a `weight_ih_l0`."""
    return weight_ih.replace("weight_ih", "weight_peephole")


def module_weight_names(module: Module) -> list[str]:
    """All of a module's weights by name, one direction after the other, in the engine's order."""
    found: list[str] = []
    for names in module._all_weights:
        found += names
        if module.peepholes:
            found.append(peephole_name(names[0]))
    return found


def module_weights(module: Module) -> list[torch.Tensor]:
    """Those of `module_weight_names`, as the module's attributes are now."""
    held = module._parameters  # quicker than attributes; a tensor may stand in a parameter's place
    names = module_weight_names(module)
    return [held[name] if name in held else getattr(module, name) for name in names]


def kind_of(mode: str) -> type[Cell]:
    """The class of the cell for torch's `mode`: LSTM, GRU, RNN_TANH or RNN_RELU."""
    return CELLS[mode.split("_")[0]]


@lru_cache(maxsize=256)
def cell_of(
    mode: str, inputs: int, units: int, projection: int, peepholes: bool, reset_after: bool
) -> Cell:
    """The cell for torch's `mode` and sizes."""
    if mode == "LSTM":
        return LSTM(inputs, units, projection=projection or None, peepholes=peepholes)
    if mode == "GRU":
        return GRU(inputs, units, reset_after=reset_after)
    return RNN(inputs, units, "relu" if mode == "RNN_RELU" else "tanh")


def mode_of(cell: Cell) -> str:
    """Torch's `mode` for a cell."""
    return f"RNN_{cell.nonlinearity.upper()}" if isinstance(cell, RNN) else type(cell).__name__


def has_candidate_bias(cell: Cell) -> bool:
    """Whether the candidate's two biases stay apart: in the GRU that resets after the product."""
    return isinstance(cell, GRU) and cell.reset_after


def torch_shapes(cell: Cell, biases: bool) -> TorchWeights:
    """The shapes of what torch holds for one direction of a cell."""
    shapes = cell.shapes()
    bias = shapes["b"] if biases else None
    return TorchWeights(shapes["W"], shapes["U"], bias, bias, shapes.get("R"), shapes.get("p"))


def engine_parameters(weights: TorchWeights, candidate_bias: bool, library: Any) -> dict[str, Any]:
    """The cell's parameters by name, from torch's weights as tensors or as arrays.

    Nothing but biases is copied; without biases in torch, they are 0.

    Args:
        weights: those of one direction.
        candidate_bias: see `has_candidate_bias`.
        library: torch, for functions that can be differentiated, or NumPy.
    """
    W, U, b_ih, b_hh, R, p = weights
    found = {"W": W, "U": U}
    if b_ih is None or b_hh is None:
        found["b"] = library.zeros_like(W[:, 0])
        if candidate_bias:
            found["c"] = library.zeros_like(W[: len(W) // 3, 0])
    elif candidate_bias:
        rz = 2 * len(W) // 3
        found["b"] = library.concatenate([b_ih[:rz] + b_hh[:rz], b_ih[rz:]])
        found["c"] = b_hh[rz:]
    else:
        found["b"] = b_ih + b_hh
    if R is not None:
        found["R"] = R
    if p is not None:
        found["p"] = p
    return found


def torch_gradients(gradient: Mapping[str, Any], biases: bool, library: Any) -> TorchWeights:
    """The gradients by torch's weights from those by the cell's parameters.

    Where torch has two biases for one of ours, both have the same gradient, which is one object:
    autograd then knows that it must not add to it in place.

    Args:
        gradient: tensors or arrays by the parameters' names.
        biases: whether torch has biases.
        library: torch or NumPy, as in `engine_parameters`.
    """
    db_ih = db_hh = None
    if biases:
        db_ih = db_hh = gradient["b"]
        if "c" in gradient:
            rz = 2 * len(gradient["c"])
            db_hh = library.concatenate([gradient["b"][:rz], gradient["c"]])
    d = gradient.get
    return TorchWeights(gradient["W"], gradient["U"], db_ih, db_hh, d("R"), d("p"))


@dataclass(frozen=True)
class DirectionWeights:
    """The weights of one direction of one layer, by torch's names and by the network's.

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

    def torch_name(self, name: str) -> str:
        """Torch's name of `weight_ih`, `bias_hh` and so on."""
        return torch_name(name, self.layer, self.reverse)

    def network_name(self, name: str) -> str:
        """The network's name of `W`, `b` and so on."""
        return f"{self.number}." + "1." * self.reverse + name

    def shapes(self, biases: bool) -> dict[str, Shape]:
        """What torch holds for this direction: name to shape."""
        return self._named(torch_shapes(self.cell, biases))

    def read(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The network's arrays from torch's."""
        own = TorchWeights(*(arrays.get(self.torch_name(n)) for n in TorchWeights._fields))
        found = engine_parameters(own, has_candidate_bias(self.cell), np)
        return {self.network_name(name): array for name, array in found.items()}

    def write(self, parameters: Mapping[str, Array]) -> dict[str, Array]:
        """Torch's arrays, in memory of their own, from the network's."""
        p = {name: parameters[self.network_name(name)].copy() for name in self.cell.shapes()}
        b_hh = np.zeros_like(p["b"])
        if "c" in p:
            b_hh[2 * self.cell.units :] = p["c"]
        return self._named(TorchWeights(p["W"], p["U"], p["b"], b_hh, p.get("R"), p.get("p")))

    def _named(self, weights: TorchWeights) -> dict[str, Any]:
        parts = weights._asdict().items()
        return {self.torch_name(name): part for name, part in parts if part is not None}


def direction_weights(cells: Sequence[tuple[int, Cell]]) -> Iterator[DirectionWeights]:
    """Every direction of every layer, in torch's order; cells come with their layer's number."""
    for layer, (number, cell) in enumerate(cells):
        for reverse in (False, True)[: 1 + cell.bidirectional]:
            yield DirectionWeights(cell, layer, number, reverse)


def from_torch(
    weights: Module | Mapping[str, Any],
    *,
    prefix: str = "",
    nonlinearity: Nonlinearity | None = None,
    dropout: float | None = None,
) -> Network:
    """A network whose run gives the outputs of a `torch.nn.RNN`, `LSTM` or `GRU`.

    Layers, directions, projection and dtype follow from the weights. The network's arrays are
    time-major, whatever `batch_first` says.

    Args:
        weights: the module, one that contains it, its `state_dict()`, or a mapping of arrays by
            torch's names.
        prefix: what the names begin with: "rnn." for the attribute `rnn` of a larger module.
        nonlinearity: "tanh" or "relu" of an RNN; a module knows its own, a mapping does not.
        dropout: rate between layers, which becomes `Dropout` layers; a module knows its own.

    Raises:
        ValueError: where names are missing or unknown, or shapes fit no cell.
        TypeError: where the weights are neither all float32 nor all float64.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> weights = {"rnn.weight_ih_l0": np.ones((8, 3)), "rnn.weight_hh_l0": np.ones((8, 2))}
        >>> net = tt.from_torch(weights, prefix="rnn.")
        >>> net.specs[0].units, net.run(np.ones((5, 1, 3))).outputs.shape
        (2, (5, 1, 2))

        A head goes on top in a network of its own, and the numbers are copied by name:

        >>> whole = tt.Network([*net.specs, tt.Dense(2, 6)], dtype="float64")
        >>> for name, array in net.parameters.items():
        ...     whole.parameters[name] = array
    """
    if hasattr(weights, "state_dict"):
        module: Module = weights
        if prefix:
            module = module.get_submodule(prefix.rstrip("."))
        nonlinearity = nonlinearity or getattr(module, "nonlinearity", None)
        dropout = getattr(module, "dropout", None) if dropout is None else dropout
        weights, prefix = module.state_dict(), ""
    arrays = _arrays(weights, prefix)
    first, *others = _cells(arrays, nonlinearity)
    between: list[Spec] = [Dropout(dropout)] if dropout else []
    specs: list[Spec] = [first]
    for cell in others:
        specs += [*between, cell]
    network = Network(specs, dtype=arrays[FIRST].dtype)
    directions = list(direction_weights(_one_module(network, None)))
    shapes: dict[str, Shape] = {}
    for direction in directions:
        shapes |= direction.shapes(biases="bias_ih_l0" in arrays)
    same_names("weights", arrays, shapes)
    for name, array in arrays.items():
        fits(name, array, shapes[name])
    for direction in directions:
        for name, array in direction.read(arrays).items():
            network.parameters[name] = array
    return network


def torch_state_dict(
    network: Network, *, layers: Iterable[int] | None = None, bias: bool = True
) -> dict[str, Array]:
    """The weights of recurrent layers by the names of torch's `state_dict()`.

    Args:
        network: recurrent layers as one torch module has them: of one kind and size, alone or
            with the same `Dropout` between all of them.
        layers: numbers of the layers that the module holds, where the network has others too:
            `layers=[1]` for the LSTM of an Embedding, an LSTM and a Dense head.
        bias: whether the module has biases; without, those of the network must be 0.

    Raises:
        ValueError: for what torch's modules have no place for: peepholes, the original GRU,
            layers of different sizes, other layers.

    Example:
        >>> import throughtime as tt
        >>> weights = tt.torch_state_dict(tt.Network([tt.GRU(3, 2)]))
        >>> {name: array.shape for name, array in weights.items()}
        {'weight_ih_l0': (6, 3), 'weight_hh_l0': (6, 2), 'bias_ih_l0': (6,), 'bias_hh_l0': (6,)}
    """
    arrays: dict[str, Array] = {}
    for direction in direction_weights(_one_module(network, layers)):
        arrays |= direction.write(network.parameters)
    if bias:
        return arrays
    for name, array in arrays.items():
        if name.startswith("bias") and array.any():
            way_out = "make the module with bias=True, or set the network's biases to 0"
            refuse(name, "0, since the module has no biases", "other numbers", way_out)
    return {name: array for name, array in arrays.items() if name.startswith("weight")}


def to_torch(network: Network, module: Module, *, layers: Iterable[int] | None = None) -> None:
    """Writes a network's weights into a `torch.nn.RNN`, `LSTM` or `GRU`, in place.

    All is checked first: after a refusal the module is as it was.

    Args:
        network: as in `torch_state_dict`.
        module: of the same kind, sizes, nonlinearity, dropout and dtype.
        layers: as in `torch_state_dict`.

    Raises:
        ValueError, TypeError: where the module is not what the network's layers are.
    """
    if not hasattr(module, "mode"):
        expected, way_out = "a torch.nn.RNN, LSTM or GRU", "give the attribute that is one"
        refuse("module", expected, type(module).__name__, way_out, error=TypeError)
    chosen = _layer_numbers(network, layers)
    (_, cell), *others = _one_module(network, chosen)
    if module.mode != mode_of(cell):
        refuse("module: mode", mode_of(cell), module.mode)
    rate = next((s.rate for n in chosen if isinstance(s := network.specs[n], Dropout)), 0.0)
    if others and module.dropout != rate:
        refuse("module: dropout", rate, module.dropout, f"set module.dropout = {rate}")
    arrays = torch_state_dict(network, layers=chosen, bias=module.bias)
    tensors = dict(module.named_parameters())
    same_names("module", tensors, arrays)
    for name, tensor in tensors.items():
        dtype = _dtype(tensor)
        if dtype != network.dtype:
            way_out = f"convert the network: network.astype({dtype!r})"
            refuse(f"module: {name}", network.dtype, dtype, way_out, error=TypeError)
        if tuple(tensor.shape) != arrays[name].shape:
            refuse(f"module: {name}", arrays[name].shape, tuple(tensor.shape))
    torch = sys.modules["torch"]  # whoever has a module has it
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(arrays[name]))


def _arrays(weights: Mapping[str, Any], prefix: str) -> dict[str, Array]:
    """The weights below `prefix` as NumPy arrays of one precision."""
    arrays = {
        name.removeprefix(prefix): _array(name, value)
        for name, value in weights.items()
        if name.startswith(prefix)
    }
    if FIRST not in arrays:
        others = [name.removesuffix(FIRST) for name in weights if name.endswith(FIRST)]
        way_out = " or ".join(f"give prefix={other!r}" for other in others)
        given = ", ".join(list(weights)[:8]) + ", …" * (len(weights) > 8)
        refuse("weights", f"a {prefix}{FIRST}", given or "no names", way_out)
    dtypes = sorted({str(array.dtype) for array in arrays.values()})
    if len(dtypes) > 1:
        refuse("weights", "one dtype", " and ".join(dtypes), error=TypeError)
    return arrays


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _array(name: str, value: Any) -> Array:
    if not hasattr(value, "dtype"):
        value = np.asarray(value)
    if _dtype(value) not in ("float32", "float64"):
        way_out = "convert it first: module.float() or array.astype('float32')"
        refuse(name, "float32 or float64", _dtype(value), way_out, error=TypeError)
    array: Array = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
    finite(name, array)
    return array


def _cells(arrays: Mapping[str, Array], nonlinearity: Nonlinearity | None) -> list[Cell]:
    """One cell a layer, from the shapes of torch's weights."""
    found: list[Cell] = []
    while torch_name("weight_ih", len(found), False) in arrays:
        found.append(_cell(arrays, len(found), nonlinearity))
    return found


def _cell(arrays: Mapping[str, Array], layer: int, nonlinearity: Nonlinearity | None) -> Cell:
    names = [torch_name(f"weight_{part}", layer, False) for part in ("ih", "hh", "hr")]
    if names[1] not in arrays:
        refuse("weights", f"a {names[1]} beside {names[0]}", "none")
    for name in names:
        if name in arrays:
            fits(name, arrays[name], ("rows", "columns"))
    rows, inputs = arrays[names[0]].shape
    projection, units = arrays[names[2]].shape if names[2] in arrays else (None, None)
    units = units or arrays[names[1]].shape[1]
    options: dict[str, Any] = {"bidirectional": torch_name("weight_ih", layer, True) in arrays}
    if rows == 4 * units:
        return LSTM(inputs, units, projection=projection, **options)
    if rows == 3 * units and not projection:
        return GRU(inputs, units, **options)
    if rows == units and not projection:
        if nonlinearity is None:
            way_out = "give nonlinearity=…, since the weights do not tell"
            refuse("nonlinearity", "'tanh' or 'relu' of the RNN", None, way_out)
        return RNN(inputs, units, nonlinearity, **options)
    expected = (
        f"{4 * units} (LSTM)"
        if projection
        else f"{units} (RNN), {3 * units} (GRU) or {4 * units} (LSTM)"
    )
    refuse(f"{names[0]}: rows", f"{expected} for {units} units", rows)


def _layer_numbers(network: Network, layers: Iterable[int] | None) -> list[int]:
    """The chosen layers' numbers; all where none are chosen."""
    every = range(len(network.specs))
    chosen = list(every if layers is None else layers)
    for number in chosen:
        if number not in every:
            refuse("layers", f"numbers from 0 to {len(every) - 1}", repr(number))
    return chosen


def _one_module(network: Network, layers: Iterable[int] | None) -> list[tuple[int, Cell]]:
    """The recurrent layers with their numbers, once it is sure that one module can hold them."""
    chosen = [(number, network.specs[number]) for number in _layer_numbers(network, layers)]
    for number, spec in chosen:
        if problem := _unsupported(spec):
            expected = "what torch.nn.RNN, LSTM or GRU can hold"
            way_out = "choose the layers that it can hold with layers=[…]"
            refuse(f"layer {number}", expected, problem, way_out)
    _same_dropout([spec for _, spec in chosen])
    found = [(number, spec) for number, spec in chosen if isinstance(spec, Cell)]
    for (_, before), (number, cell) in pairwise(found):
        wide = before.output_size * (1 + before.bidirectional)
        if _equal_options(cell) != _equal_options(before) or cell.inputs != wide:
            expected = f"the kind, size and options of {before} and {wide} inputs"
            refuse(f"layer {number}", expected, cell, "one torch module has equal layers")
    return found


def _unsupported(spec: Spec) -> str:
    """What torch's modules have no place for; empty where there is nothing."""
    if isinstance(spec, LSTM) and spec.peepholes:
        return "an LSTM with peepholes"
    if isinstance(spec, LSTM) and spec.projection and spec.projection >= spec.units:
        return f"a projection to {spec.projection} of {spec.units} units (torch: to fewer)"
    if isinstance(spec, GRU) and not spec.reset_after:
        return "the original GRU (reset_after=False)"
    if not isinstance(spec, RNN | LSTM | GRU | Dropout):
        return f"a layer {type(spec).__name__}"
    return ""


def _same_dropout(specs: list[Spec]) -> None:
    """Refuses what is neither recurrent layers alone nor the same dropout between all of them."""
    alone = [isinstance(spec, Cell) for spec in specs]
    between = len(specs) % 2 == 1 and alone == [place % 2 == 0 for place in range(len(specs))]
    rates = {spec.rate for spec in specs if isinstance(spec, Dropout)}
    if not (specs and (all(alone) or between) and len(rates) <= 1):
        actual = ", ".join(map(repr, specs)) or "none"
        refuse("layers", "recurrent ones, with the same Dropout between all or none", actual)


def _equal_options(cell: Cell) -> tuple[object, ...]:
    nonlinearity = getattr(cell, "nonlinearity", None)
    return type(cell), cell.units, cell.output_size, cell.bidirectional, nonlinearity
