"""The flow of a network's gradient: checks what is given, runs every chunk, and adds up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from throughtime.arrays import Array, array_of, positive, step_counts
from throughtime.gradient_flow.advice import tails
from throughtime.gradient_flow.batched_vjp import can_batch, measure_batched
from throughtime.gradient_flow.carousel import PathSums, mean_log_carry, split_by_path
from throughtime.gradient_flow.chunking import Chunk, Problem, chunks
from throughtime.gradient_flow.gates import GateSums, count_gates, gate_sums
from throughtime.gradient_flow.jacobians import Lyapunov, lyapunov, singular_values
from throughtime.gradient_flow.lag_by_lag import LagNorms, LagSums, measure_by_lag, recurrent_loss
from throughtime.gradient_flow.pairs import Pairs, all_pairs
from throughtime.gradient_flow.stack import Stack, recurrences
from throughtime.gradient_flow.tolerances import (
    JACOBIAN_STATE,
    JACOBIANS,
    LONG_RUN,
    LONG_RUN_END_POINTS,
    LONG_RUN_LAGS,
    LYAPUNOV_EXPONENTS,
    LYAPUNOV_NUMBERS,
    LYAPUNOV_STEPS,
    LYAPUNOV_TRANSIENT,
    PATH_END_POINTS,
)
from throughtime.gradient_flow.upstream import Losses
from throughtime.network import Network, RecurrentTape, checked_inputs, checked_state
from throughtime.parameters import Parameters
from throughtime.progress import begin, doing

if TYPE_CHECKING:
    from tqdm import tqdm

RUNNING = "flow: running the network"


@dataclass(frozen=True)
class Requested:
    """What is asked for besides the lags; see `network_flow`."""

    carousel: bool
    spectrum: bool
    keep: bool
    starts: tuple[int, ...]
    seed: int


@dataclass
class FlowSums:
    """What was found in all chunks, added up.

    Attributes:
        norms: layer to part of the state.
        by_lag: the gradient by stretch of lags.
        groups: for every chunk, ‖R_K‖ / ‖∇L‖ by stretch.
        paths, carry, gates, history, singular, spectrum: by layer.
        kept: layer to part to (n, L, B, ·): the gradients themselves, if asked for.
        pairs: if losses look at several steps, the steps that they reach; `norms` are then those of
            what arrives at each step.
        loss: of the run.
    """

    norms: dict[int, dict[str, LagNorms]] = field(default_factory=dict)
    by_lag: list[Parameters] = field(default_factory=list)
    groups: list[Array] = field(default_factory=list)
    paths: dict[int, PathSums] = field(default_factory=dict)
    carry: dict[int, Array] = field(default_factory=dict)
    gates: dict[int, dict[str, GateSums]] = field(default_factory=dict)
    history: dict[int, dict[str, Array]] = field(default_factory=dict)
    singular: dict[int, Array] = field(default_factory=dict)
    spectrum: dict[int, Lyapunov] = field(default_factory=dict)
    kept: dict[int, dict[str, Array]] = field(default_factory=dict)
    pairs: Pairs | None = None
    loss: float = 0.0


def analyse(problems: Sequence[Problem], requested: Requested, bar: tqdm[NoReturn]) -> FlowSums:
    """Runs and analyses every chunk, of all recurrences over the same steps together.

    The bar counts the losses that have been followed back.
    """
    found = FlowSums()
    begin(bar, RUNNING, "losses", sum(len(one.ends) * one.batch for one in problems))
    for number, parts in enumerate(zip(*map(chunks, problems), strict=True)):
        measured = []
        for problem, chunk in zip(problems, parts, strict=True):
            if len(chunk.ends):
                doing(bar, "flow: following losses back through time")
                way = measure_batched if can_batch(chunk.run, chunk.ends) else measure_by_lag
                starts, keep = requested.starts, requested.keep
                one = way(chunk.run, chunk.ends, problem.max_lag, starts, keep=keep)
                _add(found, one, chunk, problem)
                measured.append((problem.first, one.by_lag))
                bar.update(len(chunk.ends) * len(chunk.columns))
            found.loss += chunk.loss
            _look_at_gates(found, chunk, problem)
            if requested.carousel and len(chunk.ends):
                doing(bar, "flow: splitting gradients by path")
                _split(found, chunk, problem)
            if requested.spectrum and number == 0:
                doing(bar, "flow: looking at Jacobians")
                _look_at_jacobians(found, chunk, problem, requested.seed)
        if measured:
            _add_by_lag(found, _renumbered(measured))
        doing(bar, RUNNING)
    return found


def _add(found: FlowSums, one: LagSums, chunk: Chunk, problem: Problem) -> None:
    n, lags, batch = len(problem.ends), problem.max_lag + 1, problem.batch
    for number, parts in one.norms.items():
        layer = problem.first + number
        own = found.norms.setdefault(layer, {})
        for part, norms in parts.items():
            total = own.setdefault(part, LagNorms.zeros(n, lags, batch))
            for name in ("total", "squares", "count"):
                getattr(total, name)[chunk.places] += getattr(norms, name)
            total.by_sequence[:, chunk.columns] += norms.by_sequence
            total.steps[:, chunk.columns] += norms.steps
    for number, arrays in one.kept.items():
        kept = found.kept.setdefault(problem.first + number, {})
        for part, array in arrays.items():
            shape = (n, lags, batch, array.shape[3])
            whole = kept.setdefault(part, np.zeros(shape, array.dtype))
            whole[chunk.places, :, chunk.columns] = array


def _renumbered(measured: list[tuple[int, list[Parameters]]]) -> list[Parameters]:
    """Gradients by lag of several recurrences, as those of one whose layers are numbered on."""
    (first, by_lag), *others = measured
    if not others and not first:
        return by_lag
    found = []
    for stretch in zip(*(own for _, own in measured), strict=True):
        arrays = {}
        for (offset, _), gradient in zip(measured, stretch, strict=True):
            for name, array in gradient.items():
                number, rest = name.split(".", 1)
                arrays[f"{offset + int(number)}.{rest}"] = array
        found.append(Parameters.of({name: arrays[name] for name in sorted(arrays, key=_order)}))
    return found


def _order(name: str) -> int:
    return int(name.split(".")[0])


def _add_by_lag(found: FlowSums, by_lag: list[Parameters]) -> None:
    left, _, size = tails(by_lag)
    if size > 0:
        found.groups.append(left / size)
    if not found.by_lag:
        found.by_lag = by_lag
    else:
        for total_gradient, gradient in zip(found.by_lag, by_lag, strict=True):
            total_gradient += gradient


def _look_at_gates(found: FlowSums, chunk: Chunk, problem: Problem) -> None:
    for number, recurrent in chunk.run.network.recurrent.items():
        layer, tape = problem.first + number, chunk.run.tape.layers[number]
        assert isinstance(tape, RecurrentTape)
        whole = tape.directions[0]
        fresh = whole.steps(chunk.fresh, chunk.run.steps)
        own = gate_sums(recurrent.cell, fresh)
        before = found.gates.get(layer)
        found.gates[layer] = own if before is None else {g: before[g] + own[g] for g in own}
        size = problem.steps, problem.batch
        counts = count_gates(recurrent.cell, whole, chunk.begin, chunk.fresh, *size)
        past = found.history.get(layer)
        found.history[layer] = counts if past is None else {g: past[g] + counts[g] for g in counts}
        one = chunk.run.linear[number]
        if one.carry is not None:
            living = np.arange(chunk.run.steps)[:, None] < chunk.lengths
            living[: chunk.fresh] = False
            logs = mean_log_carry(one, living)
            found.carry[layer] = found.carry.get(layer, 0) + logs


def _split(found: FlowSums, chunk: Chunk, problem: Problem) -> None:
    chosen = np.linspace(0, len(chunk.ends) - 1, min(PATH_END_POINTS, len(chunk.ends)))
    ends = chunk.ends[np.unique(chosen.astype(int))]
    for number, one in split_by_path(chunk.run, ends, problem.max_lag).items():
        layer = problem.first + number
        before = found.paths.get(layer)
        found.paths[layer] = one if before is None else before + one


def _look_at_jacobians(found: FlowSums, chunk: Chunk, problem: Problem, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for number, one in chunk.run.linear.items():
        layer = problem.first + number
        size = sum(one.sizes.values())
        samples = max(1, JACOBIANS * JACOBIAN_STATE // max(JACOBIAN_STATE, size))
        found.singular[layer] = singular_values(one, samples, chunk.lengths)
        count = max(1, min(LYAPUNOV_EXPONENTS, LYAPUNOV_NUMBERS // (size * one.batch)))
        transient = min(one.steps, LYAPUNOV_STEPS) // LYAPUNOV_TRANSIENT
        found.spectrum[layer] = lyapunov(one, chunk.lengths, count, transient, rng)


def shares(by_lag: list[Parameters], gates: Mapping[str, str]) -> dict[str, dict[str, Array]]:
    """⟨part, whole⟩ / ‖whole‖² by stretch, for each gate of each parameter.

    Args:
        gates: parameter to the letters of its blocks of rows, in order; "" if it has none.
    """
    found: dict[str, dict[str, Array]] = {}
    for name in by_lag[0]:
        letters = gates.get(name, "")
        whole = sum((one[name].astype(np.float64) for one in by_lag), np.float64(0))
        blocks = np.split(np.asarray(whole), max(1, len(letters)))
        found[name] = {}
        for place, letter in enumerate(letters or ["all"]):
            block = blocks[place]
            parts = [np.split(one[name], len(blocks))[place] for one in by_lag]
            products = np.array([np.vdot(part.astype(np.float64), block) for part in parts])
            size = np.vdot(block, block)
            found[name][letter] = products / size if size > 0 else np.full(len(parts), np.nan)
    return found


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
    """Checks the data of a network in one direction with a loss."""
    loss = recurrent_loss(network)
    x = checked_inputs(network.layers[0], network.inputs, network.dtype, inputs)
    T, B = x.shape[:2]
    counts = step_counts(lengths, T, B)
    begin = None if state is None else checked_state(state, network.zero_state(B))
    shape = (T, B, network.outputs)
    outputs = np.broadcast_to(network.dtype.type(0), shape)
    y = loss.check_targets(array_of("targets", targets), outputs)
    far, count = (T - 1, T) if T <= LONG_RUN else (LONG_RUN_LAGS, LONG_RUN_END_POINTS)
    far = far if max_lag is None else positive("max_lag", max_lag, 0)
    count = count if sample is None else positive("sample", sample)
    rng = np.random.default_rng(positive("seed", seed, at_least=0))
    losses = np.flatnonzero(loss.weights(T, B, counts).any(axis=1))
    ends = losses if len(losses) <= count < T else _ends(T, count, rng)
    return Problem(network, x, y, begin, counts, ends, min(far, T - 1))


def _ends(steps: int, count: int, rng: np.random.Generator) -> Array:
    """One end point from each of `count` equal stretches: evenly spread, and without bias."""
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
    """One problem for each recurrence of a module, and the sums over all pairs of steps.

    The losses of the module look at several steps, or it runs both ways.
    """
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
