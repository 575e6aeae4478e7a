"""The flow of gradients in torch's recurrent modules, inside any model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from throughtime.arrays import Array, positive, real, refuse
from throughtime.gradient_flow import ExternalLoss, Flow, evenly, external_targets, network_flow
from throughtime.network import Network
from throughtime.torch.models.clipping import torch_clipping
from throughtime.torch.models.loss_terms import Terms, terms
from throughtime.torch.models.observed_run import Seen, arguments_of, array, see
from throughtime.torch.models.weights import from_torch

STEPS = 8  # at the start, over which torch's run and ours cannot have drifted apart
NEAR = {"float32": 1e-3, "float64": 1e-9}


def module_flow(
    module: Any,
    *inputs: Any,
    loss: Callable[[Any], Any] | None = None,
    of: str | None = None,
    sequences: int | None = None,
    clip: float | None = None,
    windows: Iterable[Any] | None = None,
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
            sequence; or one number for all. The latter two stand at the end. Where losses look at
            several steps past the recurrence (attention, pooling, a recurrent module above), or
            the module is bidirectional, each of them is a backward pass through what lies above.
        of: the name of the recurrent module, as in `module.named_modules()`; the one called last
            without it.
        sequences: look at so many of them only, evenly chosen.
        windows: losses as the model is trained with, one number for each window or batch, for
            advice on clipping: `(criterion(model(x), y) for x, y in batches)`. Up to 64 are
            differentiated by all parameters of the model, in the mode in which it is.
        clip: a clipping threshold that is asked about; needs `windows`.
        options: of `network_flow`: max_lag, sample, tolerance, k1, k2, memory, carousel,
            spectrum, keep, seed.

    Returns:
        a Flow of that module; shares, bias and gradient norm are those of its own parameters.

    Raises:
        ValueError, TypeError: where the model has no such module, or one that is called more than
            once; for a loss of another shape, or whose sequences depend on one another; for
            windows (`k1`, `k2`) of what cannot be cut into any.
    """
    for name in ("state", "lengths"):
        if name in options:
            why = {
                "state": "the initial state is what the model gives to the module",
                "lengths": "lengths are those of the PackedSequence that the module receives",
            }
            refuse(name, "no such option for torch", repr(options[name])[:40], why[name], TypeError)
    if clip is not None and not real("clip", clip) > 0:
        refuse("clip", "a norm above 0", clip)
    if clip is not None and windows is None:
        way_out = "windows=(criterion(model(x), y) for x, y in batches)"
        expected = "the losses that it would clip, as the model is trained with them"
        refuse("clip", expected, "none", way_out, TypeError)

    def then(order: list[Seen]) -> Flow:
        seen = order[-1]
        return _flow(seen, terms(seen, loss), sequences, options)

    found: Flow = see(module, arguments_of(inputs), of, then)
    if windows is None:
        return found
    clipping = torch_clipping(module, windows, clip)
    return replace(found, advice=replace(found.advice, clipping=clipping))


def network_of(seen: Seen) -> Network:
    """The module's layers as a network, without dropout and without a loss."""
    module = seen.module
    weights = {name: getattr(module, name) for name in module._flat_weights_names}
    return from_torch(weights, nonlinearity=getattr(module, "nonlinearity", None), dropout=0.0)


def initial_state(seen: Seen, network: Network) -> dict[str, Array] | None:
    """By the network's names."""
    if seen.state is None:
        return None
    parts = zip("hc", seen.state, strict=False)
    return {n: one for p, all_ in parts for n, one in zip(seen.state_names(p), all_, strict=True)}


def _flow(seen: Seen, found: Terms, sequences: int | None, options: dict[str, Any]) -> Flow:
    """While the model's run can still be differentiated."""
    network, B = network_of(seen), seen.inputs.shape[1]
    state = initial_state(seen, network)
    notes = (*_about(seen, found), *_compared(seen, network, state))
    chosen = np.arange(B) if sequences is None else evenly(B, positive("sequences", sequences))
    inputs = np.ascontiguousarray(seen.inputs[:, chosen])
    options |= {
        "state": state and {name: part[chosen] for name, part in state.items()},
        "lengths": None if seen.lengths is None else seen.lengths[chosen],
    }
    if found.losses is None:
        given = Network(network.specs, ExternalLoss(at_end=found.at_end), dtype=network.dtype)
        given.parameters.flat[...] = network.parameters.flat
        _, targets = external_targets(found.arriving[:, chosen], found.values[:, chosen], {})
        flow = network_flow(given, inputs, targets, **options)
    else:
        flow = network_flow(network, inputs, None, losses=found.losses.of(chosen), **options)
    return replace(flow, notes=(*flow.notes, *notes))


def _about(seen: Seen, found: Terms) -> tuple[str, ...]:
    notes = []
    if seen.name:
        notes.append(
            f"Layers are those of {seen.title}, counted from 0; shares, bias and gradient norm are "
            "those of its own parameters."
        )
    if found.looked_at:
        notes.append(
            f"The loss is one number, which looks at {found.looked_at} steps directly; it is taken "
            "to stand at the end. If it is a sum or a mean over steps, give the loss of each "
            "(reduction='none'): which step it came from can then be told."
        )
    return tuple(notes)


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
