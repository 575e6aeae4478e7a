"""`network_flow`: where the gradient of a network's run goes, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from throughtime.arrays import Array, positive, real, refuse
from throughtime.cells import Cell
from throughtime.gradient_flow.advice import (
    Advice,
    WindowCost,
    advise_clipping,
    advise_truncation,
    data_memory,
    initialisations,
    truncation_bias,
)
from throughtime.gradient_flow.analyse import (
    FlowSums,
    Requested,
    analyse,
    module_problems,
    problem_of,
    shares,
)
from throughtime.gradient_flow.carousel import PATHS, time_constants
from throughtime.gradient_flow.chunking import Problem
from throughtime.gradient_flow.gates import dead_units, gate_history
from throughtime.gradient_flow.lag_by_lag import LagNorms, stretches
from throughtime.gradient_flow.pairs import Pairs
from throughtime.gradient_flow.result import Flow, LayerFlow
from throughtime.gradient_flow.stack import DIRECTIONS_NOTE, inner_layers
from throughtime.gradient_flow.upstream import ExternalLoss, Losses
from throughtime.gradient_flow.verdict import WORST_FIRST, chained, decay, judge
from throughtime.network import Network, truncated_loss_and_gradient
from throughtime.progress import doing, progress_bar


def network_flow(
    network: Network,
    inputs: Array,
    targets: Array | None,
    *,
    state: Mapping[str, Array] | None = None,
    lengths: Array | None = None,
    sequences: int | None = None,
    max_lag: int | None = None,
    sample: int | None = None,
    tolerance: float = 0.1,
    k1: int | None = None,
    k2: int | None = None,
    clip: float | None = None,
    memory: int | None = None,
    carousel: bool = True,
    spectrum: bool = True,
    keep: bool = False,
    seed: int = 0,
    losses: Losses | None = None,
    progress: bool | None = None,
) -> Flow:
    """Where the gradient of a run goes, through time, and what follows from it.

    Args:
        network: with a loss and a recurrent layer. A network that runs both ways must have nothing
            but Dropout between its recurrent layers, which are looked at alone, each direction by
            itself.
        inputs, targets, state, lengths: as in `Network.loss_and_gradient`. Dropout is not applied.
        sequences: look at only so many of the B sequences, evenly chosen.
        max_lag: how many steps back every loss is followed: by default the whole run if T ≤ 1024,
            otherwise 100.
        sample: follow at most so many end points t, drawn evenly over the run: by default all if
            T ≤ 1024, otherwise 1024. Profiles are then estimates without bias, and `profile_error`
            says how good they are.
        tolerance: the relative bias of a truncated gradient that would be accepted.
        k1, k2: windows of TBPTT whose cost is to be measured.
        clip: a clipping threshold to be judged.
        memory: how many steps apart cause and effect are in these data, if that is known.
        carousel: whether to split gradients by path.
        spectrum: whether to look at Jacobians.
        keep: whether to keep the gradients themselves, O(T²·B·H) numbers.
        seed: random seed for whatever is drawn.
        losses: in place of targets, if the network consists of recurrent layers and stands inside
            a model whose losses look at several steps.
        progress: whether to show a bar; None: in a terminal, after two seconds.

    Raises:
        ValueError, TypeError: for a network without a recurrent layer or a loss, data that do not
            fit, windows (`k1`, `k2`, `clip`) of a network that runs both ways, numbers out of
            range, or a loss that is not finite.
    """
    if network.batch_first:
        network, inputs, targets = network.in_time(inputs, targets)
    if sequences is not None:
        count = positive("sequences", sequences)
        inputs, targets, state, lengths = _some(count, inputs, targets, state, lengths)
    asked = real("tolerance", tolerance)
    if not 0 < asked < 1:
        refuse("tolerance", "a relative bias between 0 and 1", tolerance)
    if clip is not None and not real("clip", clip) > 0:
        refuse("clip", "a norm above 0", clip)
    if k1 is not None and k2 is None:
        k2 = positive("k1", k1)
    extra = [] if k2 is None else [positive("k2", k2)]
    # That numbers overflow is no warning: the notes say where it happens.
    with (
        np.errstate(over="ignore", invalid="ignore", under="ignore"),
        progress_bar(0, "flow: running the model", "losses", progress) as bar,
    ):
        pairs: Pairs | None = None
        notes: tuple[str, ...] = ()
        if losses is None and network.bidirectional:
            own, notes = inner_layers(network, inputs, targets, state, lengths), (DIRECTIONS_NOTE,)
            network, inputs, losses = own.network, own.inputs, own.losses
            state, lengths = own.state, own.lengths
        if losses is None:
            given = (inputs, targets, state, lengths, max_lag, sample, seed)
            problems = [problem_of(network, *given)]
        else:
            whole = (inputs, losses, state, lengths, max_lag, sample, seed, keep)
            doing(bar, "flow: losses that look at several steps")
            problems, pairs = module_problems(network, *whole)
        size, coarse = network.parameters.flat.size, problems[0].in_time
        starts = tuple(stretches(problems[0].max_lag + 1, size, extra, coarse=coarse))
        for name, wanted in (("k1, k2", k2), ("clip", clip)):
            if wanted is not None:
                _can_be_cut(name, problems)
        requested = Requested(carousel, spectrum, keep and pairs is None, starts, seed)
        found = analyse(problems, requested, bar)
        found.pairs = pairs
        if not np.isfinite(found.loss):
            way_out = "tt.first_nonfinite names the first value that is not finite"
            refuse("flow", "a run whose loss is finite", found.loss, way_out)
        doing(bar, "flow: judging it, and what follows for windows and clipping")
        flow = _flow(problems, found, starts, asked, k1, k2, clip, memory, seed)
        return replace(flow, notes=(*flow.notes, *notes))


def evenly(batch: int, count: int) -> Array:
    """The numbers of at most `count` out of `batch` sequences, evenly chosen."""
    return np.unique(np.linspace(0, batch - 1, min(batch, count)).astype(int))


def _some(
    count: int,
    inputs: Array,
    targets: Array | None,
    state: Mapping[str, Array] | None,
    lengths: Array | None,
) -> tuple[Array, Array | None, Mapping[str, Array] | None, Array | None]:
    """The same data for at most `count` sequences."""
    x, y = np.asarray(inputs), np.asarray(targets)
    if min(x.ndim, y.ndim) < 2:
        return inputs, targets, state, lengths  # `problem_of` refuses them and says why
    chosen = evenly(x.shape[1], count)
    if state is not None:
        state = {name: np.asarray(part)[chosen] for name, part in state.items()}
    if lengths is not None:
        lengths = np.asarray(lengths)[chosen]
    return x[:, chosen], y[:, chosen], state, lengths


def _flow(
    problems: Sequence[Problem],
    found: FlowSums,
    starts: tuple[int, ...],
    asked: float,
    k1: int | None,
    k2: int | None,
    clip: float | None,
    memory: int | None,
    seed: int,
) -> Flow:
    """The result, from what was found."""
    problem = problems[0]
    cells = {n + one.first: x.cell for one in problems for n, x in one.network.recurrent.items()}
    needed, source = _memory(problem, memory, seed)
    wanted = max(1, (problem.max_lag + 1) // 4) if needed is None else needed
    layers = {
        one.first + number: layer_flow(one, found, number, wanted)
        for one in problems
        for number in one.network.recurrent
    }
    worst = min(layers.items(), key=lambda item: WORST_FIRST.index(item[1].verdict))
    falls = max((one.decay for one in layers.values()), key=lambda fall: fall.upper)
    lags = problem.max_lag + 1
    lost = truncation_bias(starts, found.by_lag, found.groups, lags, problem.steps, falls)
    truncation = advise_truncation(lost, asked, falls)
    cost = None if k2 is None else _window(problem, k2 if k1 is None else k1, k2)
    window = min(problem.steps, k2 or truncation.steps or problem.steps)
    clipping = None
    if problem.tells:
        clipping = advise_clipping(problem.network, problem.inputs, problem.targets, window, clip)
    constants = {
        number: one.time_constants
        for number, one in layers.items()
        if cells[number].gates_of("forget") and one.time_constants is not None
    }
    advice = Advice(truncation, cost, clipping, needed, source, initialisations(constants, needed))
    whole = sum(found.by_lag[1:], found.by_lag[0])
    assert not isinstance(whole, int)
    scale = problem.steps / len(problem.ends) if problem.sampled else 1.0
    pairs = found.pairs
    return Flow(
        verdict=worst[1].verdict,
        reason=f"{worst[1].title(worst[0])}: {worst[1].reason}",
        advice=advice,
        layers=layers,
        share_lags=np.array([*starts, problem.max_lag + 1]),
        shares=shares(found.by_lag, _gate_letters(cells)),
        bias=lost,
        ends=problem.ends if pairs is None else pairs.ends,
        steps=problem.steps,
        batch=problem.batch,
        max_lag=problem.max_lag,
        loss=found.loss,
        gradient_norm=whole.norm() * scale,
        dtype=str(problem.network.dtype),
        notes=_notes(problems, found),
        gradients=found.kept if pairs is None else pairs.kept,
        gradients_ahead={} if pairs is None else pairs.kept_ahead,
    )


def _memory(problem: Problem, given: int | None, seed: int) -> tuple[int | None, str]:
    if given is not None:
        return positive("memory", given), "given"
    if not problem.tells:
        return None, ""
    rng = np.random.default_rng(seed)
    found = data_memory(problem.inputs, problem.targets, problem.max_lag, rng)
    return (None, "") if not found else (found, "data")


def _can_be_cut(name: str, problems: Sequence[Problem]) -> None:
    """Refuses an option that needs windows of TBPTT if the run cannot be cut into them."""
    loss = problems[0].network.loss
    what = "a second direction, which begins at the end" if len(problems) > 1 else ""
    if isinstance(loss, ExternalLoss) and loss.also:
        what = "a loss that looks at the last state, which each window would have"
    if what:
        refuse(name, "a run that can be cut into windows", what, "leave it out")


def _window(problem: Problem, k1: int, k2: int) -> WindowCost:
    net, given = problem.network, (problem.inputs, problem.targets)
    context = {"state": problem.state, "lengths": problem.lengths}
    _, full = net.loss_and_gradient(*given, **context)  # type: ignore[arg-type]
    _, short = truncated_loss_and_gradient(net, *given, k1=k1, k2=k2, **context)  # type: ignore[arg-type]
    size = full.norm()
    relative = (short - full).norm() / size if size > 0 else float("nan")
    product = size * short.norm()
    return WindowCost(k1, k2, relative, full.dot(short) / product if product > 0 else float("nan"))


def _gate_letters(cells: Mapping[int, Cell]) -> dict[str, str]:
    """The letters of each parameter's blocks of rows."""
    found = {}
    for number, cell in cells.items():
        for name in ("W", "U", "b"):
            found[f"{number}.{name}"] = cell.gates
        found[f"{number}.p"] = "".join(g for g in cell.gates if g not in cell.gates_of("candidate"))
    return found


def _notes(problems: Sequence[Problem], found: FlowSums) -> tuple[str, ...]:
    problem, notes = problems[0], []
    if found.pairs is not None and found.pairs.mixed:
        notes.append(
            "Losses depend on steps other than their own, past a layer's recurrence: ‖∂E_t/∂s_k‖ "
            "is everything that arrives at k, by whatever path. Verdict, paths, shares and bias "
            "are those of the recurrence alone. Its lags count the steps that a gradient goes "
            "back within it, from the step at which the rest of the model hands it over."
        )
    if len(problems) > 1:
        notes.append(
            "Each direction of each layer is a recurrence by itself. In a direction that runs from "
            "the end, lags go forwards in time."
        )
    if problem.sampled:
        notes.append(
            f"Losses of {len(problem.ends):,} of {problem.steps:,} steps were followed back, drawn "
            "evenly. Profiles are therefore unbiased estimates; shares and truncation bias are "
            "those of these losses only."
        )
    if problem.max_lag < problem.steps - 1:
        notes.append(f"Lags beyond {problem.max_lag} were not looked at.")
    if not np.isfinite(sum(one.norm() for one in found.by_lag)):
        notes.append(
            f"The gradient overflows {problem.network.dtype}: nothing can be said about shares and "
            "truncation."
        )
    elif len(found.groups) < 2:
        notes.append("There is one sequence, in one piece, so the bias has no confidence bound.")
    return tuple(notes)


def layer_flow(problem: Problem, found: FlowSums, number: int, wanted: int) -> LayerFlow:
    """The result for recurrent layer `number` of a problem; `wanted` is the lag that is needed."""
    cell = problem.network.recurrent[number].cell
    number += problem.first
    by_recurrence = found.norms[number]
    pairs, sampled = found.pairs, problem.sampled
    parts = by_recurrence if pairs is None else pairs.norms[number]
    profiles = {part: profile_of(norms) for part, norms in parts.items()}
    recurrent, ahead = {}, {}
    if pairs is not None and number in pairs.mixed:
        recurrent = {part: profile_of(norms) for part, norms in by_recurrence.items()}
        ahead = {
            part: mean_norms(own.total, own.count) for part, own in pairs.ahead[number].items()
        }
        ahead = ahead if any(np.nan_to_num(own).any() for own in ahead.values()) else {}
    main = by_recurrence["c" if "c" in by_recurrence else "h"]
    compared = chained(main.total, main.count)
    fall = decay(compared)
    dead = dead_units(cell, found.gates[number])
    verdict, reason = judge(fall, dead, min(wanted, problem.max_lag))
    paths = {}
    if number in found.paths:
        paths = dict(zip(PATHS, found.paths[number].shares, strict=True))
    carry = found.carry.get(number)
    return LayerFlow(
        kind=cell.title,
        units=cell.units,
        norms={part: mean_norms(norms.total, norms.count) for part, norms in parts.items()},
        spread={part: spread_of(norms) for part, norms in parts.items()},
        profile=profiles,
        profile_spread={part: spread_over_sequences(norms) for part, norms in parts.items()},
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
        compared=compared,
    )


def mean_norms(total: Array, count: Array) -> Array:
    mean: Array = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def spread_of(norms: LagNorms) -> Array:
    mean = mean_norms(norms.total, norms.count)
    return np.asarray(np.sqrt(np.maximum(mean_norms(norms.squares, norms.count) - mean**2, 0)))


def profile_of(norms: LagNorms) -> Array:
    """The mean over sequences of the mean over end points."""
    each = mean_norms(norms.by_sequence, norms.steps)
    used = norms.steps > 0
    return mean_norms(np.where(used, each, 0).sum(axis=1), used.sum(axis=1))


def spread_over_sequences(norms: LagNorms) -> Array:
    each = mean_norms(norms.by_sequence, norms.steps)
    used = norms.steps > 0
    mean = profile_of(norms)[:, None]
    squares = np.where(used, (each - mean) ** 2, 0).sum(axis=1)
    return np.asarray(np.sqrt(mean_norms(squares, used.sum(axis=1))))


def _error(norms: LagNorms, sampled: bool) -> Array:
    if not sampled:
        return np.zeros(norms.total.shape[1])
    each = mean_norms(norms.total, norms.count)
    used = norms.count > 0
    number = used.sum(axis=0)
    mean = mean_norms(np.where(used, each, 0).sum(axis=0), number)
    squares = np.where(used, (each - mean) ** 2, 0).sum(axis=0)
    return np.asarray(np.sqrt(mean_norms(squares, number * np.maximum(number - 1, 1))))
