"""The flow of gradients in torch's recurrent modules, inside any model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from throughtime.arrays import Array, positive, refuse
from throughtime.bridges.torch_run import Seen, arguments_of, array, see
from throughtime.bridges.torch_terms import Terms, terms
from throughtime.bridges.torch_weights import from_torch
from throughtime.gradient_flow import Flow, network_flow
from throughtime.gradient_flow.given import Given
from throughtime.network import Network

STEPS = 8  # at the start, over which torch's run and ours cannot have drifted apart
NEAR = {"float32": 1e-3, "float64": 1e-9}


@dataclass(frozen=True)
class Twin:
    """A recurrent module as a network, with what it was given in one run of its model.

    Attributes:
        network: its layers, numbered as torch numbers them, with the derivatives as its loss.
        inputs, targets, state, lengths: for `Network.loss_and_gradient`.
        notes: what is worth knowing.
    """

    network: Network
    inputs: Array
    targets: Array
    state: Mapping[str, Array] | None
    lengths: Array | None
    notes: tuple[str, ...]


def module_flow(
    module: Any,
    *inputs: Any,
    loss: Callable[[Any], Any] | None = None,
    of: str | None = None,
    sequences: int | None = None,
    **options: Any,
) -> Flow:
    """Where the gradient goes in an `nn.RNN`, `nn.LSTM` or `nn.GRU`, alone or inside any model.

    The model runs once, in evaluation mode. What the recurrent module receives is seen by a
    hook, torch differentiates what lies above it, ∂E_t/∂h_t, and the walk back through time is
    this package's own. Afterwards the model is as it was: hooks, modes, buffers, gradients and
    random generators.

    Args:
        module: called as `module(*inputs)`; one tuple alone is taken apart.
        inputs: on whatever device; the walk itself is made on the CPU.
        loss: of the model's outputs, the loss of each step: (T, B), (B, T), flat, in the order of
            a PackedSequence, or (T,) where it is added up over sequences; or (B,), one loss a
            sequence that looks at its last step. Each may look at its own step alone.
        of: the name of the recurrent module, as in `module.named_modules()`; the one called last
            without it.
        sequences: look at so many of them only, evenly chosen.
        options: of `network_flow`: max_lag, sample, tolerance, k1, k2, memory, carousel,
            spectrum, keep, seed.

    Returns:
        a Flow of that module; shares, bias and gradient norm are those of its own parameters.

    Raises:
        ValueError, TypeError: where the model has no such module, or one that is bidirectional
            or called more than once; for a loss that is not one of each step, or that looks at
            other steps past the recurrence (attention, pooling, a recurrent module above).
    """
    for name in ("clip", "state", "lengths"):
        if name in options:
            why = {
                "clip": "the norm that is clipped is that of all parameters, not of this module's",
                "state": "the initial state is what the model gives to the module",
                "lengths": "lengths are those of the PackedSequence that the module receives",
            }
            refuse(name, "no such option for torch", repr(options[name])[:40], why[name], TypeError)

    def then(order: list[Seen]) -> Twin:
        seen = order[-1]
        network = network_of(seen)
        return twin(network, seen, terms(seen, loss), sequences)

    found: Twin = see(module, arguments_of(inputs), of, then)
    options |= {"state": found.state, "lengths": found.lengths}
    flow = network_flow(found.network, found.inputs, found.targets, **options)
    return replace(flow, notes=(*flow.notes, *found.notes))


def network_of(seen: Seen) -> Network:
    """The module's layers as a network, without dropout and without a loss."""
    module = seen.module
    if module.bidirectional:
        way_out = "its second direction begins at the end: no loss has a past alone"
        refuse(seen.title, "a module that runs in one direction", "a bidirectional one", way_out)
    weights = {name: getattr(module, name) for name in module._flat_weights_names}
    return from_torch(weights, nonlinearity=getattr(module, "nonlinearity", None), dropout=0.0)


def initial_state(seen: Seen, network: Network) -> dict[str, Array] | None:
    """By the network's names."""
    if seen.state is None:
        return None
    parts = dict(zip("hc", seen.state, strict=False))
    return {f"{n}.{p}": value[n] for p, value in parts.items() for n in range(len(network.specs))}


def twin(bare: Network, seen: Seen, found: Terms, sequences: int | None = None) -> Twin:
    """The module as a network whose loss has the derivatives that torch found."""
    network = Network(bare.specs, Given(at_end=found.at_end), dtype=bare.dtype)
    network.parameters.flat[...] = bare.parameters.flat
    state, B = initial_state(seen, network), seen.inputs.shape[1]
    notes = (*_about(seen), *_compared(seen, network, state))
    targets = np.concatenate([found.arriving, found.values[..., None]], axis=2)
    chosen = slice(None) if sequences is None else evenly(B, positive("sequences", sequences))
    return Twin(
        network,
        np.ascontiguousarray(seen.inputs[:, chosen]),
        np.ascontiguousarray(targets[:, chosen], dtype=network.dtype),
        state and {name: part[chosen] for name, part in state.items()},
        None if seen.lengths is None else seen.lengths[chosen],
        notes,
    )


def _about(seen: Seen) -> tuple[str, ...]:
    if not seen.name:
        return ()
    return (
        f"Layers are those of {seen.title}, counted from 0; shares, bias and gradient norm are "
        "those of its own parameters.",
    )


def evenly(batch: int, count: int) -> Array:
    """At most `count` of so many sequences."""
    return np.unique(np.linspace(0, batch - 1, min(batch, count)).astype(int))


def _compared(seen: Seen, network: Network, state: Mapping[str, Array] | None) -> tuple[str, ...]:
    """Refuses a module that is something else than its weights say; says where runs drift apart."""
    torch_outputs = array(seen.form.time_major(seen.given[0]))
    outputs, _, _ = network.forward(seen.inputs, state, seen.lengths)
    largest = max(1e-30, float(np.abs(torch_outputs).max()))
    apart = np.abs(outputs - torch_outputs).max(axis=(1, 2)) / largest
    far = np.flatnonzero(~(apart <= NEAR[str(network.dtype)]))
    if len(far) and far[0] < STEPS:
        refuse(
            f"outputs of {seen.title}",
            "those that its weights give",
            f"others, {apart[far[0]]:.1e} away at step {far[0]}",
            "leave out autocast, quantisation, and a forward method of its own",
        )
    if len(far):
        return (
            f"Rounding leads torch's run and this one apart from step {far[0]} on: the network is "
            f"chaotic on these data in {network.dtype}.",
        )
    return ()
