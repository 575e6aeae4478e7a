"""The flow of a network's gradient: runs it, walks back, and puts together what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array
from throughtime.gradient_flow.batched_vjp import applies, measure_batched
from throughtime.gradient_flow.carousel import Carried, carried, mean_log_carry
from throughtime.gradient_flow.chunking import Chunk, Problem, chunks
from throughtime.gradient_flow.gate_history import count_gates
from throughtime.gradient_flow.jacobians import Lyapunov, lyapunov, singular_values
from throughtime.gradient_flow.measure import Measured, Norms, measure
from throughtime.gradient_flow.pairs import Pairs
from throughtime.gradient_flow.tolerances import (
    JACOBIAN_STATE,
    JACOBIANS,
    LYAPUNOV_EXPONENTS,
    LYAPUNOV_NUMBERS,
    LYAPUNOV_STEPS,
    LYAPUNOV_TRANSIENT,
    PATH_END_POINTS,
)
from throughtime.gradient_flow.truncating import tails
from throughtime.gradient_flow.verdict import GateSums, gate_sums
from throughtime.network import RecurrentTape
from throughtime.parameters import Parameters


@dataclass(frozen=True)
class Wishes:
    """What is wanted beside the lags."""

    carousel: bool
    spectrum: bool
    keep: bool
    starts: tuple[int, ...]
    seed: int


@dataclass
class Found:
    """All that the chunks gave, added up.

    Attributes:
        norms: layer to part.
        by_lag: gradient by stretch of lags.
        groups: of every chunk, ‖R_K‖ / ‖∇L‖ by stretch.
        paths, carry, gates, history, singular, spectrum: by layer.
        kept: layer to part to (n, L, B, ·).
        pairs: where losses look at several steps, what these reach; norms are then those of what
            arrives at each step.
        loss: of the run.
    """

    norms: dict[int, dict[str, Norms]] = field(default_factory=dict)
    by_lag: list[Parameters] = field(default_factory=list)
    groups: list[Array] = field(default_factory=list)
    paths: dict[int, Carried] = field(default_factory=dict)
    carry: dict[int, Array] = field(default_factory=dict)
    gates: dict[int, dict[str, GateSums]] = field(default_factory=dict)
    history: dict[int, dict[str, Array]] = field(default_factory=dict)
    singular: dict[int, Array] = field(default_factory=dict)
    spectrum: dict[int, Lyapunov] = field(default_factory=dict)
    kept: dict[int, dict[str, Array]] = field(default_factory=dict)
    pairs: Pairs | None = None
    loss: float = 0.0


def analyse(problems: Sequence[Problem], wishes: Wishes) -> Found:
    """Runs and walks every chunk; of several recurrences over the same steps all together."""
    found = Found()
    for number, parts in enumerate(zip(*map(chunks, problems), strict=True)):
        measured = []
        for problem, chunk in zip(problems, parts, strict=True):
            if len(chunk.ends):
                way = measure_batched if applies(chunk.run, chunk.ends) else measure
                one = way(chunk.run, chunk.ends, problem.max_lag, wishes.starts, keep=wishes.keep)
                _add(found, one, chunk, problem)
                measured.append((problem.first, one.by_lag))
            found.loss += chunk.loss
            _look_at_gates(found, chunk, problem)
            if wishes.carousel and len(chunk.ends):
                _split(found, chunk, problem)
            if wishes.spectrum and number == 0:
                _look_at_jacobians(found, chunk, problem, wishes.seed)
        if measured:
            _add_by_lag(found, _renumbered(measured))
    return found


def _add(found: Found, one: Measured, chunk: Chunk, problem: Problem) -> None:
    n, lags, batch = len(problem.ends), problem.max_lag + 1, problem.batch
    for number, parts in one.norms.items():
        layer = problem.first + number
        own = found.norms.setdefault(layer, {})
        for part, norms in parts.items():
            total = own.setdefault(part, Norms.zeros(n, lags, batch))
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
    """Gradients by lag of several recurrences as those of one, layers numbered on."""
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


def _add_by_lag(found: Found, by_lag: list[Parameters]) -> None:
    left, _, size = tails(by_lag)
    if size > 0:
        found.groups.append(left / size)
    if not found.by_lag:
        found.by_lag = by_lag
    else:
        for total_gradient, gradient in zip(found.by_lag, by_lag, strict=True):
            total_gradient += gradient


def _look_at_gates(found: Found, chunk: Chunk, problem: Problem) -> None:
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


def _split(found: Found, chunk: Chunk, problem: Problem) -> None:
    chosen = np.linspace(0, len(chunk.ends) - 1, min(PATH_END_POINTS, len(chunk.ends)))
    ends = chunk.ends[np.unique(chosen.astype(int))]
    for number, one in carried(chunk.run, ends, problem.max_lag).items():
        layer = problem.first + number
        before = found.paths.get(layer)
        found.paths[layer] = one if before is None else before + one


def _look_at_jacobians(found: Found, chunk: Chunk, problem: Problem, seed: int) -> None:
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
    """⟨part, whole⟩ / ‖whole‖² by stretch, for every parameter and each of its gates.

    Args:
        gates: parameter to the letters of its blocks of rows, in order; "" where it has none.
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
