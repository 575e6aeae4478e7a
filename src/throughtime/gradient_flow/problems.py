"""What `network_flow` is given, checked: a problem for each recurrence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from throughtime.arrays import Array, array_of, positive, refuse, step_counts
from throughtime.gradient_flow.chunking import Problem
from throughtime.gradient_flow.descent import Stack
from throughtime.gradient_flow.directions import recurrences
from throughtime.gradient_flow.pairs import Pairs, all_pairs
from throughtime.gradient_flow.tolerances import LONG_RUN, LONG_RUN_END_POINTS, LONG_RUN_LAGS
from throughtime.gradient_flow.upstream import Losses
from throughtime.network import Network, checked_inputs, checked_state, one_direction


def problem_of(
    network: Network,
    inputs: object,
    targets: object,
    state: Mapping[str, Array] | None,
    lengths: object,
    max_lag: int | None,
    sample: int | None,
    seed: int,
) -> Problem:
    """Of a network in one direction, with a loss."""
    one_direction(network)
    if not network.recurrent:
        refuse("network", "a recurrent layer", "none", "nothing flows through time")
    if network.loss is None:
        refuse("loss", "a loss", "none", "build the network with loss=…")
    x = checked_inputs(network.layers[0], network.inputs, network.dtype, inputs)
    T, B = x.shape[:2]
    counts = step_counts(lengths, T, B)
    begin = None if state is None else checked_state(state, network.zero_state(B))
    shape = (T, B, network.outputs)
    outputs = np.broadcast_to(network.dtype.type(0), shape)
    y = network.loss.check_targets(array_of("targets", targets), outputs)
    far, count = (T - 1, T) if T <= LONG_RUN else (LONG_RUN_LAGS, LONG_RUN_END_POINTS)
    far = far if max_lag is None else positive("max_lag", max_lag, 0)
    count = count if sample is None else positive("sample", sample)
    rng = np.random.default_rng(positive("seed", seed, at_least=0))
    losses = np.flatnonzero(network.loss.weights(T, B, counts).any(axis=1))
    ends = losses if len(losses) <= count < T else _ends(T, count, rng)
    return Problem(network, x, y, begin, counts, ends, min(far, T - 1))


def _ends(steps: int, count: int, rng: np.random.Generator) -> Array:
    """One end point from each of `count` equal stretches: even over the run, and unbiased."""
    if count >= steps:
        return np.arange(steps)
    edges = np.arange(count + 1) * steps // count
    return np.asarray(rng.integers(edges[:-1], edges[1:]))


def module_problems(
    network: Network,
    inputs: Array,
    losses: Losses,
    state: Mapping[str, Array] | None,
    lengths: Array | None,
    max_lag: int | None,
    sample: int | None,
    seed: int,
    keep: bool,
) -> tuple[list[Problem], Pairs]:
    """Of a module whose losses look at several steps, or that runs both ways; and all pairs."""
    T, B = inputs.shape[:2]
    counts = np.full(B, T) if lengths is None else lengths
    _, _, tape = network.forward(inputs, state, lengths)
    stack = Stack(network, tape, counts)
    problems = []
    for one in recurrences(network, inputs, losses, state, stack):
        given = (one.inputs, one.targets, one.state, lengths, max_lag, sample, seed)
        own = problem_of(one.network, *given)
        problems.append(replace(own, first=one.first, backwards=one.backwards))
    problems.sort(key=lambda one: one.first)
    ends = problems[0].ends
    if losses.source.single and T > LONG_RUN:
        ends = np.unique([*stack.last, *([0] if network.bidirectional else [])])
    elif losses.source.single:
        ends = np.arange(T)
    return problems, all_pairs(stack, losses.source, ends, problems[0].max_lag, keep)
