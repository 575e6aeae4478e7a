"""What was added up over a layer, as means, spreads and a verdict."""

from __future__ import annotations

import numpy as np

from throughtime.arrays import Array
from throughtime.gradient_flow.analyse import Found
from throughtime.gradient_flow.carousel import PATHS, time_constants
from throughtime.gradient_flow.chunking import Problem
from throughtime.gradient_flow.gate_history import gate_history
from throughtime.gradient_flow.measure import Norms
from throughtime.gradient_flow.result import LayerFlow
from throughtime.gradient_flow.verdict import chained, dead_units, decay, judge


def layer_flow(problem: Problem, found: Found, number: int, wanted: int) -> LayerFlow:
    """Of recurrent layer `number` of a problem; `wanted`: the lag that is needed."""
    cell = problem.network.recurrent[number].cell
    number += problem.first
    walked = found.norms[number]
    pairs, sampled = found.pairs, problem.sampled
    parts = walked if pairs is None else pairs.norms[number]
    profiles = {part: _profile(norms) for part, norms in parts.items()}
    recurrent, ahead = {}, {}
    if pairs is not None and number in pairs.mixed:
        recurrent = {part: _profile(norms) for part, norms in walked.items()}
        ahead = {part: _mean(own.total, own.count) for part, own in pairs.ahead[number].items()}
        ahead = ahead if any(np.nan_to_num(own).any() for own in ahead.values()) else {}
    main = walked["c" if "c" in walked else "h"]
    fall = decay(chained(main.total, main.count))
    dead = dead_units(cell, found.gates[number])
    verdict, reason = judge(fall, dead, min(wanted, problem.max_lag))
    paths = {}
    if number in found.paths:
        paths = dict(zip(PATHS, found.paths[number].shares, strict=True))
    carry = found.carry.get(number)
    return LayerFlow(
        kind=type(cell).__name__,
        units=cell.units,
        norms={part: _mean(norms.total, norms.count) for part, norms in parts.items()},
        spread={part: _spread(norms) for part, norms in parts.items()},
        profile=profiles,
        profile_spread={part: _over_sequences(norms) for part, norms in parts.items()},
        profile_error={part: _error(norms, sampled) for part, norms in parts.items()},
        paths=paths,
        time_constants=None if carry is None else time_constants(carry),
        gates={gate: sums.gate() for gate, sums in found.gates[number].items()},
        dead=dead,
        singular_values=found.singular.get(number, np.zeros((0, 0))),
        lyapunov=found.spectrum.get(number),
        decay=fall,
        verdict=verdict,
        reason=reason,
        gate_history=gate_history(cell, found.history[number], problem.steps),
        backwards=problem.backwards,
        ahead=ahead,
        recurrent_profile=recurrent,
    )


def _mean(total: Array, count: Array) -> Array:
    mean: Array = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _spread(norms: Norms) -> Array:
    mean = _mean(norms.total, norms.count)
    return np.asarray(np.sqrt(np.maximum(_mean(norms.squares, norms.count) - mean**2, 0)))


def _profile(norms: Norms) -> Array:
    """Mean over sequences of the mean over end points."""
    each = _mean(norms.by_sequence, norms.steps)
    used = norms.steps > 0
    return _mean(np.where(used, each, 0).sum(axis=1), used.sum(axis=1))


def _over_sequences(norms: Norms) -> Array:
    each = _mean(norms.by_sequence, norms.steps)
    used = norms.steps > 0
    mean = _profile(norms)[:, None]
    squares = np.where(used, (each - mean) ** 2, 0).sum(axis=1)
    return np.asarray(np.sqrt(_mean(squares, used.sum(axis=1))))


def _error(norms: Norms, sampled: bool) -> Array:
    if not sampled:
        return np.zeros(norms.total.shape[1])
    each = _mean(norms.total, norms.count)
    used = norms.count > 0
    number = used.sum(axis=0)
    mean = _mean(np.where(used, each, 0).sum(axis=0), number)
    squares = np.where(used, (each - mean) ** 2, 0).sum(axis=0)
    return np.asarray(np.sqrt(_mean(squares, number * np.maximum(number - 1, 1))))
