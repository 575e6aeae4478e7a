"""The first value of a torch model's run that is NaN or infinite, within recurrent modules too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradient_flow import NonFinite, NonFiniteSearch, first_entry
from throughtime.network import Network
from throughtime.torch.models.flow import initial_state, network_of
from throughtime.torch.models.observed_run import arguments_of, array, named_arguments
from throughtime.torch.models.observing import Seen, observe
from throughtime.torch.models.stepped_run import SteppedModule
from throughtime.torch.models.targets import named_tensors


def first_in_module(
    module: Any,
    *inputs: Any,
    loss: Callable[[Any], Any] | None = None,
    of: str | None = None,
    **named: Any,
) -> NonFinite | None:
    """The first value of a model's run, forward and backward, that is NaN or infinite.

    The model runs once, in evaluation mode, or twice where only the first run tells that it steps a
    module in a loop of its own, and is left as it was. Its parameters and inputs are examined
    first; then each `nn.RNN`, `nn.LSTM`, `nn.GRU` and cell of these, whichever fails first, with
    every pre-activation, gate, c and h; then the outputs, the loss, and the way back through the
    recurrent module that was called last.

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
    known = named_arguments(module, named, ())
    arguments = arguments_of(inputs, known)
    given = dict(named_tensors("inputs", arguments))
    for name, value in known.items():
        given |= dict(named_tensors(name, value))
    found = _in_tensors("parameters", dict(module.named_parameters()))
    found = found or _in_tensors("inputs", given)
    if found is not None:
        return found

    def look(order: list[Seen]) -> NonFinite | None:
        candidates, searches = [], []
        for seen in order:
            if seen.bidirectional:
                expected = "a module that runs in one direction"
                refuse(seen.title, expected, "a bidirectional one", "name another: of=…")
            network = network_of(seen)
            searches.append(NonFiniteSearch(network))
            candidates += [one for one in [_forward(seen, searches[-1], network)] if one]
        if candidates:
            return min(candidates, key=lambda one: one[1])[0]
        found = _in_tensors("outputs", dict(named_tensors("outputs", order[-1].outputs)))
        if found is not None or loss is None:
            return found
        return _way_back(order[-1], searches[-1], loss)

    with np.errstate(all="ignore"):  # a cell of this package runs in NumPy
        result: NonFinite | None = observe(module, arguments, of, look, known, every=True)
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


def _forward(seen: Seen, search: NonFiniteSearch, network: Network) -> tuple[NonFinite, int] | None:
    """What the module receives, and what it computes from it; and when, among the run's calls."""
    state = initial_state(seen, network)
    if isinstance(seen, SteppedModule):
        return _forward_of_steps(seen, search, state)
    search.arrays(f"given to {seen.title}", {"inputs": seen.inputs})
    search.arrays(f"given to {seen.title}", state or {})
    if search.found is None:
        with np.errstate(all="ignore"):
            search.forward(seen.inputs, state, seen.lengths)
    found = _named(seen, search)
    return None if found is None else (found, seen.clock)


def _forward_of_steps(
    seen: SteppedModule, search: NonFiniteSearch, state: Mapping[str, Array] | None
) -> tuple[NonFinite, int] | None:
    """Step by step: what a step receives may come from the one before it."""
    given = None
    for n, one in enumerate(seen.steps):
        names = ("inputs", *(f"state ({part})" for part in "hc"))
        for name, values in zip(names, (one.inputs, *one.before), strict=False):
            own = values.reshape(-1, *values.shape[-2:])  # (layers, B, ·)
            fresh = np.ones(own.shape[1], bool) if name == "inputs" else one.parent < 0
            wrong = np.argwhere(~np.isfinite(own) & fresh[:, None])
            if given is None and len(wrong):
                at = [int(i) for i in wrong[0]]
                place = f"{name}{at[1:] if len(own) == 1 else at}"
                value, where = float(own[tuple(at)]), f"given to {seen.title}"
                bad = NonFinite(where, "value", value, step=n, name=place, dtype=search.dtype)
                given = n, bad
    with np.errstate(all="ignore"):
        search.forward(np.nan_to_num(seen.inputs, posinf=0, neginf=0), state, seen.lengths)
    found = _named(seen, search)
    if given is not None and (found is None or found.step is None or given[0] <= found.step):
        search.found = given[1]
        return given[1], seen.steps[given[0]].clock
    if found is None or found.step is None:
        return None
    return found, seen.steps[found.step].clock


def _way_back(seen: Seen, search: NonFiniteSearch, loss: Callable[[Any], Any]) -> NonFinite | None:
    torch = import_module("torch")
    value = loss(seen.outputs)
    if not isinstance(value, torch.Tensor):
        refuse("loss", "a tensor", type(value).__name__, error=TypeError)
    if found := _in_tensors("loss", {"term": value}):
        return found
    if not value.requires_grad:
        return None  # there is no backward pass
    parts = torch.autograd.grad(
        value.sum(), seen.given, allow_unused=True, retain_graph=isinstance(seen, SteppedModule)
    )
    if isinstance(seen, SteppedModule):
        return _way_back_of_steps(seen, search, value, parts)
    steps, *states = (
        torch.zeros_like(given) if part is None else part
        for part, given in zip(parts, seen.given, strict=True)
    )
    dstate = seen.ends(states)
    doutputs = np.ascontiguousarray(array(seen.format.time_major(steps)))
    search.arrays(f"∂L/∂ the last state of {seen.title}", dstate)
    if search.found is None:
        with np.errstate(all="ignore"):
            search.backward(doutputs, dstate)
    return _named(seen, search)


def _way_back_of_steps(
    seen: SteppedModule, search: NonFiniteSearch, value: Any, parts: Any
) -> NonFinite | None:
    """What arrives at each step, by whatever way; then the module's own derivatives."""
    arrived = seen.arrived(parts)
    given = {"∂L/∂output": arrived.outputs[0]}
    given |= {f"∂L/∂{name}": part[0] for name, part in arrived.inner.items()}
    place = first_entry(given, backward=True)
    if place is not None:
        found = float(given[place.name][place[1:]])
        step, row = seen.place(place.step, place.sequence)
        return NonFinite(
            seen.title,
            place.name,
            found,
            backward=True,
            step=step,
            sequence=row,
            unit=place.unit,
            dtype=search.dtype,
        )
    if not any(part.any() for part in arrived.inner.values()):
        with np.errstate(all="ignore"):
            search.backward(arrived.outputs[0])
        return _named(seen, search)
    own = {n: p for n, p in seen.module.named_parameters() if p.requires_grad}
    sums = import_module("torch").autograd.grad(value.sum(), list(own.values()), allow_unused=True)
    there = {name: part for name, part in zip(own, sums, strict=True) if part is not None}
    one = _in_tensors(f"gradient of {seen.title}", there)
    return one and replace(one, backward=True)


def _named(seen: Seen, search: NonFiniteSearch) -> NonFinite | None:
    """With the module's name, where the search names only its layer's number."""
    found = search.found
    if found is None or found.where.startswith(("given", "∂L")):
        return found
    where = seen.title if found.layer is None else f"{seen.title}, layer {found.layer}"
    if isinstance(seen, SteppedModule):
        where = where.removesuffix(", layer 0") if seen.is_cell else where
        if found.step is not None and found.sequence is not None:
            step, row = seen.place(found.step, found.sequence)
            found = replace(found, step=step, sequence=row)
    return replace(found, where=where)
