"""Weights of `torch.nn.RNN`, `LSTM` and `GRU`, read and written by torch's names.

torch itself is never imported here: a module brings it along, and a plain mapping of arrays,
from a safetensors file for instance, does without.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from throughtime.arrays import Array, Shape, finite, fits, refuse, same_names
from throughtime.cells import RNN
from throughtime.network import Dropout, Network, Spec
from throughtime.torch.models.cells import Nonlinearity, cells, numbers, one_module
from throughtime.torch.models.names import sides

Module: TypeAlias = Any  # a torch.nn.Module: its type is torch's

FIRST = "weight_ih_l0"


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
        >>> from throughtime.bridges import from_torch
        >>> weights = {"rnn.weight_ih_l0": np.ones((8, 3)), "rnn.weight_hh_l0": np.ones((8, 2))}
        >>> net = from_torch(weights, prefix="rnn.")
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
    first, *others = cells(arrays, nonlinearity)
    between: list[Spec] = [Dropout(dropout)] if dropout else []
    specs: list[Spec] = [first]
    for cell in others:
        specs += [*between, cell]
    network = Network(specs, dtype=arrays[FIRST].dtype)
    found = list(sides(one_module(network, None)))
    shapes: dict[str, Shape] = {}
    for side in found:
        shapes |= side.shapes(bias="bias_ih_l0" in arrays)
    same_names("weights", arrays, shapes)
    for name, array in arrays.items():
        fits(name, array, shapes[name])
    for side in found:
        for name, array in side.read(arrays).items():
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
        >>> from throughtime.bridges import torch_state_dict
        >>> weights = torch_state_dict(tt.Network([tt.GRU(3, 2)]))
        >>> {name: array.shape for name, array in weights.items()}
        {'weight_ih_l0': (6, 3), 'weight_hh_l0': (6, 2), 'bias_ih_l0': (6,), 'bias_hh_l0': (6,)}
    """
    arrays: dict[str, Array] = {}
    for side in sides(one_module(network, layers)):
        arrays |= side.write(network.parameters)
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
    chosen = numbers(network, layers)
    (_, cell), *others = one_module(network, chosen)
    mode = f"RNN_{cell.nonlinearity.upper()}" if isinstance(cell, RNN) else type(cell).__name__
    if module.mode != mode:
        refuse("module: mode", mode, module.mode)
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
