"""Exact backpropagation through time under a memory budget.

A first forward pass keeps only the states at the borders of segments. Then each segment, from the
last to the first, is run forward again from its first state, this time with its tape, and backward.
A segment is a whole number of the engine's chunks. With a budget and without, the same chunks are
added up in the same order, so that both gradients have the same bits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from throughtime import _engine
from throughtime.arrays import Array, refuse, step_counts
from throughtime.network.data import checked_inputs, checked_state
from throughtime.network.layers import Dense, Dropout, Embedding
from throughtime.network.losses import Loss
from throughtime.network.recurrent import RecurrentLayer
from throughtime.network.stack import LayerStack
from throughtime.parameters import Parameters

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

LOSS_BYTES = 28  # a step and sequence: target, error, weight, and their product


def byte_count(limit: int | str) -> int:
    """A number of bytes, from a number or from text such as "64MB" or "1.5 GiB".

    Example:
        >>> byte_count("64MB"), byte_count("1.5 GiB")
        (64000000, 1610612736)
    """
    if isinstance(limit, int) and not isinstance(limit, bool):
        return limit
    text = limit if isinstance(limit, str) else ""
    found = re.fullmatch(r"\s*([0-9.]+)\s*([a-zA-Z]*)\s*", text)
    if not found or found[2].upper() not in UNITS or found[1].count(".") > 1 or found[1] == ".":
        refuse("memory_limit", 'bytes, or text such as "64MB"', repr(limit))
    return int(float(found[1]) * UNITS[found[2].upper()])


@dataclass(frozen=True)
class MemoryBudget:
    """What a run of T steps of B sequences needs, in bytes.

    Attributes:
        steps: T.
        unit: the steps of a chunk; a segment is a whole number of chunks.
        step: the bytes of one step's tape and of its gradients by outputs and inputs.
        border: the bytes of the state at one border.
        fixed: the bytes that do not depend on the segments.
    """

    steps: int
    unit: int
    step: int
    border: int
    fixed: int

    def needed(self, segment: int) -> int:
        """The bytes needed with segments of this many steps."""
        borders = -(-self.steps // segment)
        return self.fixed + borders * self.border + min(segment, self.steps) * self.step

    def longest_segment(self, limit: int) -> int:
        """The longest segment that fits, T if the whole run does; refuses if none fits."""
        if self.needed(self.steps) <= limit:
            return self.steps
        segments = range(self.unit, self.steps + self.unit, self.unit)
        fitting = [segment for segment in segments if self.needed(segment) <= limit]
        if not fitting:
            least = min(self.needed(segment) for segment in segments)
            refuse("memory_limit", f"at least {least} bytes for this run", limit)
        return max(fitting)


def budget_of(network: LayerStack, steps: int, batch: int) -> MemoryBudget:
    """What a run of the network needs, given its number of steps and sequences."""
    size, numbers = network.inputs, 0
    for number, layer in enumerate(network.layers):
        outputs = layer.output_size(size)
        numbers += 2 * outputs + (size if number else 0)  # outputs, and the gradients by both
        if isinstance(layer, RecurrentLayer):
            numbers += sum(layer.state_sizes().values()) + layer.kept_size()
        elif not isinstance(layer, Dense | Embedding):
            numbers += outputs
        size = outputs
    bytes_each = network.dtype.itemsize
    state = network.zero_state(batch).flat.size
    return MemoryBudget(
        steps,
        _engine.chunk_steps(batch),
        numbers * batch * bytes_each,
        state * bytes_each,
        LOSS_BYTES * steps * batch,
    )


def loss_and_gradient_within(
    network: LayerStack,
    loss: Loss | None,
    limit: int | str,
    inputs: Array,
    targets: Array,
    state: Mapping[str, Array] | None,
    lengths: Array | None,
    dropout_seed: int | None,
) -> tuple[float, Parameters]:
    """`Network.loss_and_gradient` with `memory_limit`."""
    allowed = byte_count(limit)
    _refuse_unsupported(network, dropout_seed)
    x = checked_inputs(network.layers[0], network.inputs, network.dtype, inputs)
    steps, batch = x.shape[:2]
    lengths = step_counts(lengths, steps, batch)
    network.check_parameters()
    segment = budget_of(network, steps, batch).longest_segment(allowed)
    cuts = [(start, min(start + segment, steps)) for start in range(0, steps, segment)]

    zero = network.zero_state(batch)
    borders = [zero if state is None else checked_state(state, zero)]
    for start, stop in cuts[:-1]:
        _, after, _ = network.forward_unchecked(
            x[start:stop], borders[-1], _within(lengths, start, stop)
        )
        borders.append(after)

    if loss is None:
        refuse("loss", "a loss", "none", "build the network with loss=…")
    shape = (steps, batch, network.outputs)
    y = loss.check_targets(targets, np.broadcast_to(np.zeros((), network.dtype), shape))
    weights = loss.weights(steps, batch, lengths)
    terms = np.empty((steps, batch), network.dtype)
    gradient = network.parameters.zeros_like()
    dstate: Parameters | None = None
    for start, stop in reversed(cuts):
        own = slice(start, stop)
        before = borders.pop()
        outputs, _, tape = network.forward_unchecked(x[own], before, _within(lengths, start, stop))
        value = loss.evaluate(outputs, y[own], weights[own])
        terms[own] = value.terms
        dstate = network.backward(
            tape,
            value.doutputs,
            dstate,
            need_inputs=False,
            need_deltas=False,
            gradient=gradient,
        ).state
    return float((weights * terms).sum()), gradient


def _refuse_unsupported(network: LayerStack, dropout_seed: int | None) -> None:
    way_out = "leave memory_limit out"
    if network.bidirectional:
        refuse("memory_limit", "layers that run in one direction", "a bidirectional one", way_out)
    if dropout_seed is not None and any(isinstance(spec, Dropout) for spec in network.specs):
        refuse("memory_limit", "a run without dropout", f"dropout_seed={dropout_seed}", way_out)


def _within(lengths: Array | None, start: int, stop: int) -> Array | None:
    """The lengths of the sequences within the steps start … stop − 1."""
    return None if lengths is None else np.clip(lengths - start, 0, stop - start)
