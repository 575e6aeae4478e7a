"""The flow of gradients in torch's recurrent modules, inside any model."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from importlib import import_module
from inspect import signature
from itertools import islice
from typing import Any

import numpy as np

from throughtime.arrays import Array, positive, real, refuse
from throughtime.gradient_flow import (
    CLIPPING_WINDOWS,
    Clipping,
    ExternalLoss,
    Flow,
    clipping_of,
    evenly,
    external_targets,
    network_flow,
)
from throughtime.network import Network
from throughtime.torch.models.loss_terms import StepLosses, step_losses
from throughtime.torch.models.observed_cell import ObservedCell
from throughtime.torch.models.observed_run import arguments_of, array, named_arguments
from throughtime.torch.models.observing import Seen, observe
from throughtime.torch.models.stepped_run import SteppedModule
from throughtime.torch.models.targets import kept_buffers
from throughtime.torch.models.tolerances import SAME_OUTPUT, SAME_RUN_STEPS
from throughtime.torch.models.weights import (
    cell_of,
    direction_weights,
    from_torch,
    module_weight_names,
)

NETWORKS = {"network", "inputs", "targets", "losses", "state", "lengths"}  # here they follow
CELL_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
OPTIONS = {*signature(network_flow).parameters} - NETWORKS
EXPECTED_WINDOWS = "losses, each one number that can be differentiated"


def module_flow(
    module: Any,
    *inputs: Any,
    loss: Callable[[Any], Any] | None = None,
    of: str | None = None,
    sequences: int | None = None,
    clip: float | None = None,
    windows: Iterable[Any] | None = None,
    batch_first: bool | None = None,
    **options: Any,
) -> Flow:
    """Where the gradient goes in an `nn.RNN`, `nn.LSTM` or `nn.GRU`, alone or inside any model.

    A `throughtime.torch.Recurrent`, which runs any cell, is followed likewise.

    The model may also step it, or a cell, in a loop of its own; see `stepped_run`. The model runs
    once, in evaluation mode, or twice where only the first run tells that it has a loop. What the
    recurrent module receives is noted, torch differentiates what lies above it, ∂E_t/∂h_t, and this
    package goes back through time. Afterwards the model is as it was: modes, buffers, gradients and
    random generators.

    Args:
        module: called as `module(*inputs)`; one tuple alone is taken apart.
        inputs: on any device; the flow itself is computed on the CPU.
        loss: a function of the model's outputs that returns the loss of each step: (T, B),
            (B, T), flat, in the order of a PackedSequence, or (T,) where it is added up over
            sequences; or (B,), one loss a sequence; or one number for all. The latter two stand
            at the end. Where losses look at several steps (attention, pooling, a recurrent
            module above), or the module is bidirectional, each of them takes a backward pass
            through what lies above.
        of: the name of the recurrent module, as in `module.named_modules()`; without it, the
            one that is called last.
        sequences: how many of them to look at, evenly chosen.
        windows: losses as the model is trained with, one number for each window or batch, for
            advice on clipping: `(criterion(model(x), y) for x, y in batches)`. Up to 64 are
            differentiated by all parameters of the model, in the mode in which it is.
        batch_first: whether the losses are (B, T, …) or (T, B, …); by default whichever fits.
        clip: a clipping threshold to assess; it needs `windows`.
        options: of `network_flow`: max_lag, sample, tolerance, k1, k2, memory, carousel,
            spectrum, keep, seed; any other is a keyword argument of the model.

    Returns:
        a Flow of that module; shares, bias and gradient norm are those of its own parameters.

    Raises:
        ValueError, TypeError: where the model has no such module, or steps one without handing on
            its state; for a loss of another shape, or whose sequences depend on one another; for
            windows (`k1`, `k2`) of what cannot be cut into any.
    """
    named = named_arguments(module, options, OPTIONS)
    options = {name: value for name, value in options.items() if name not in named}
    if clip is not None and not real("clip", clip) > 0:
        refuse("clip", "a norm above 0", clip)
    if clip is not None and windows is None:
        way_out = "windows=(criterion(model(x), y) for x, y in batches)"
        expected = "the losses that it would clip, as the model is trained with them"
        refuse("clip", expected, "none", way_out, TypeError)

    def then(order: list[Seen]) -> Flow:
        seen = order[-1]
        return _flow(seen, step_losses(seen, loss, batch_first), sequences, options)

    found: Flow = observe(module, arguments_of(inputs, named), of, then, named)
    if windows is None:
        return found
    clipping = torch_clipping(module, windows, clip)
    return replace(found, advice=replace(found.advice, clipping=clipping))


def network_of(seen: Seen) -> Network:
    """The module's layers as a network, without dropout and without a loss."""
    if isinstance(seen, ObservedCell):
        return seen.network()
    module = seen.module
    if isinstance(seen, SteppedModule) and seen.is_cell:
        names = [name for name in CELL_WEIGHTS if getattr(module, name) is not None]
        weights = {f"{name}_l0": getattr(module, name) for name in names}
        return from_torch(weights, nonlinearity=getattr(module, "nonlinearity", None))
    if getattr(module, "peepholes", False) or not getattr(module, "reset_after", True):
        return _own_network(module)
    weights = {name: getattr(module, name) for name in module._flat_weights_names}
    return from_torch(weights, nonlinearity=getattr(module, "nonlinearity", None), dropout=0.0)


def _own_network(module: Any) -> Network:
    """Of a module of `throughtime.torch` with options that torch's do not have."""
    wide = (module.proj_size or module.hidden_size) * (1 + module.bidirectional)
    options = (module.hidden_size, module.proj_size, module.peepholes, module.reset_after)
    cells = []
    for layer in range(module.num_layers):
        cell = cell_of(module.mode, wide if layer else module.input_size, *options)
        cells.append(replace(cell, bidirectional=module.bidirectional))
    arrays = {name: array(getattr(module, name)) for name in module_weight_names(module)}
    network = Network(cells, dtype=arrays["weight_ih_l0"].dtype)
    for direction in direction_weights(list(enumerate(cells))):
        for name, one in direction.read(arrays).items():
            network.parameters[name] = one
    return network


def initial_state(seen: Seen, network: Network) -> dict[str, Array] | None:
    """The module's initial state by the network's names; None for zeros."""
    if isinstance(seen, ObservedCell):
        return seen.begun
    if seen.state is None:
        return None
    parts = zip("hc", seen.state, strict=False)
    return {n: one for p, all_ in parts for n, one in zip(seen.state_names(p), all_, strict=True)}


def _flow(seen: Seen, found: StepLosses, sequences: int | None, options: dict[str, Any]) -> Flow:
    """The flow, computed while the model's run can still be differentiated."""
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
        _, targets = external_targets(found.upstream[:, chosen], found.values[:, chosen], {})
        flow = network_flow(given, inputs, targets, **options)
    else:
        flow = network_flow(network, inputs, None, losses=found.losses.of(chosen), **options)
    if isinstance(seen, ObservedCell):  # its cell takes forget_bias=
        return replace(flow, notes=(*flow.notes, *notes))
    advised = tuple(
        replace(one, where=forget_biases(seen, one.layer, one.forget_bias))
        for one in flow.advice.initialisation
    )
    advice = replace(flow.advice, initialisation=advised)
    return replace(flow, advice=advice, notes=(*flow.notes, *notes))


def forget_biases(seen: Seen, layer: int, bias: float) -> tuple[tuple[str, float], ...]:
    """What to set, and to what, for a bias of a layer's forget gates; nothing with bias=False.

    torch.nn.LSTM and LSTMCell add two biases, (4H,) each, with gates in the order i, f, g, o.
    """
    H = seen.module.hidden_size
    owner = f"{seen.name}." if seen.name else ""
    of_layer = re.compile(rf"bias_([ih])h(_l{layer}(_reverse)?)?")
    names = (name for name, _ in seen.module.named_parameters(recurse=False))
    found = filter(None, map(of_layer.fullmatch, names))
    return tuple(
        (f"{owner}{name[0]}[{H}:{2 * H}]", bias if name[1] == "i" else 0.0) for name in found
    )


def _about(seen: Seen, found: StepLosses) -> tuple[str, ...]:
    notes = []
    if seen.name:
        notes.append(
            f"Layers are those of {seen.title}, counted from 0; shares, bias and gradient norm are "
            "those of its own parameters."
        )
    notes += seen.notes
    if found.looked_at:
        notes.append(
            f"The loss is one number, which looks at {found.looked_at} steps directly; it is taken "
            "to stand at the end. If it is a sum or a mean over steps, give the loss of each "
            "(reduction='none'): which step it came from can then be told."
        )
    return tuple(notes)


def _compared(seen: Seen, network: Network, state: Mapping[str, Array] | None) -> tuple[str, ...]:
    """Refuses a module that computes something else than its weights say.

    Returns:
        a note where rounding leads torch's run and the network's apart.
    """
    torch_outputs = seen.outputs_given
    outputs, _, _ = network.forward(seen.inputs, state, seen.lengths)
    largest = max(1e-30, float(np.abs(torch_outputs).max()))
    apart = np.abs(outputs - torch_outputs).max(axis=(1, 2)) / largest
    far = np.flatnonzero(~(apart <= SAME_OUTPUT[str(network.dtype)]))
    if len(far) and far[0] < SAME_RUN_STEPS:
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


def torch_clipping(module: Any, windows: Iterable[Any], given: float | None) -> Clipping | None:
    """Norms of the gradients that the model would be trained with, for advice on clipping.

    Up to 64 losses are differentiated by all parameters of the model; nothing is updated.

    Args:
        windows: the losses of windows or batches, as the model is trained with them; an iterator
            may compute them one by one. Buffers and random generators are put back afterwards,
            and no `.grad` is touched.
        given: the clipping threshold to assess.
    """
    torch = import_module("torch")
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        refuse("windows", "a model with parameters that require a gradient", "none")
    devices = sorted({p.device.index for p in parameters if p.is_cuda})
    norms = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(kept_buffers(module))
        for number, loss in enumerate(islice(windows, CLIPPING_WINDOWS)):
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
                shape = getattr(loss, "shape", type(loss).__name__)
                actual = f"{shape} at place {number}"
                way_out = "windows=(criterion(model(x), y) for x, y in batches)"
                refuse("windows", EXPECTED_WINDOWS, actual, way_out, error=TypeError)
            parts = torch.autograd.grad(loss, parameters, allow_unused=True)
            own = [torch.linalg.vector_norm(part).double() for part in parts if part is not None]
            if not own:
                refuse("windows", "losses of this model's parameters", f"another at place {number}")
            norms.append(float(torch.linalg.vector_norm(torch.stack([one.cpu() for one in own]))))
    if not norms:
        refuse("windows", EXPECTED_WINDOWS, "none")
    return clipping_of(norms, None, given)
