"""The first value of a torch model's run that is NaN or infinite, within recurrent modules too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradient_flow import NonFinite, NonFiniteSearch
from throughtime.network import Network
from throughtime.torch.models.flow import initial_state, network_of
from throughtime.torch.models.observed_run import (
    ObservedModule,
    arguments_of,
    array,
    named_arguments,
    observe,
)
from throughtime.torch.models.targets import named_tensors


def first_in_module(
    module: Any,
    *inputs: Any,
    loss: Callable[[Any], Any] | None = None,
    of: str | None = None,
    **named: Any,
) -> NonFinite | None:
    """The first value of a model's run, forward and backward, that is NaN or infinite.

    The model runs once, in evaluation mode, and is left as it was. Its parameters and inputs are
    examined first; then each `nn.RNN`, `nn.LSTM` and `nn.GRU` in the order in which they are
    called, with every pre-activation, gate, c and h; then the outputs, the loss, and the way back
    through the recurrent module that was called last.

    Args:
        module: called as `module(*inputs)`; one tuple alone is taken apart.
        inputs: what it is called with.
        loss: a function of the model's outputs that returns one number or many; without it the
            backward pass is left out.
        of: the name of a recurrent module, which then is the only one that is examined.
        named: keyword arguments of the model.

    Returns:
        None where every number is finite.
    """
    arguments = arguments_of(inputs)
    found = _in_tensors("parameters", dict(module.named_parameters()))
    found = found or _in_tensors("inputs", dict(named_tensors("inputs", arguments)))
    if found is not None:
        return found

    def look(order: list[ObservedModule]) -> NonFinite | None:
        searches = []
        for seen in order:
            if seen.module.bidirectional:
                expected = "a module that runs in one direction"
                refuse(seen.title, expected, "a bidirectional one", "name another: of=…")
            network = network_of(seen)
            searches.append(NonFiniteSearch(network))
            if one := _forward(seen, searches[-1], network):
                return one
        found = _in_tensors("outputs", dict(named_tensors("outputs", order[-1].outputs)))
        if found is not None or loss is None:
            return found
        return _way_back(order[-1], searches[-1], loss)

    result: NonFinite | None = observe(
        module, arguments, of, look, named_arguments(module, named, ())
    )
    return result


def _in_tensors(where: str, tensors: dict[str, Any]) -> NonFinite | None:
    torch = import_module("torch")
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()):
            continue
        place = [int(i) for i in torch.argwhere(~torch.isfinite(tensor))[0]]
        value = float(tensor.detach()[tuple(place)])
        dtype = str(tensor.dtype).removeprefix("torch.")
        return NonFinite(where, "value", value, name=f"{name}{place}", dtype=dtype)
    return None


def _forward(seen: ObservedModule, search: NonFiniteSearch, network: Network) -> NonFinite | None:
    """What the module receives, and what it computes from it."""
    search.arrays(f"given to {seen.title}", {"inputs": seen.inputs})
    state = initial_state(seen, network)
    search.arrays(f"given to {seen.title}", state or {})
    if search.found is None:
        with np.errstate(all="ignore"):
            search.forward(seen.inputs, state, seen.lengths)
    return _named(seen, search)


def _way_back(
    seen: ObservedModule, search: NonFiniteSearch, loss: Callable[[Any], Any]
) -> NonFinite | None:
    torch = import_module("torch")
    value = loss(seen.outputs)
    if not isinstance(value, torch.Tensor):
        refuse("loss", "a tensor", type(value).__name__, error=TypeError)
    if found := _in_tensors("loss", {"term": value}):
        return found
    if not value.requires_grad:
        return None  # there is no backward pass
    parts = torch.autograd.grad(value.sum(), seen.given, allow_unused=True)
    steps, final, *cells = (
        torch.zeros_like(given) if part is None else part
        for part, given in zip(parts, seen.given, strict=True)
    )
    names = ["h", "c"][: 1 + len(cells)]
    dstate: dict[str, Array] = {}
    for name, part in zip(names, (final, *cells), strict=True):
        for layer, one in enumerate(array(seen.format.state(part))):
            dstate[f"{layer}.{name}"] = one
    doutputs = np.ascontiguousarray(array(seen.format.time_major(steps)))
    search.arrays(f"∂L/∂ the last state of {seen.title}", dstate)
    if search.found is None:
        with np.errstate(all="ignore"):
            search.backward(doutputs, dstate)
    return _named(seen, search)


def _named(seen: ObservedModule, search: NonFiniteSearch) -> NonFinite | None:
    """With the module's name, where the search names only its layer's number."""
    found = search.found
    if found is None or found.where.startswith(("given", "∂L")):
        return found
    where = seen.title if found.layer is None else f"{seen.title}, layer {found.layer}"
    return replace(found, where=where)
