"""`network_flow`: where the gradient of a network's run goes, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from throughtime.arrays import Array, array_of, positive, real, refuse, step_counts
from throughtime.cells import LSTM, Cell
from throughtime.gradient_flow.advice import Advice, WindowCost, initialisations
from throughtime.gradient_flow.clipping import advise_clipping
from throughtime.gradient_flow.find import Found, Wishes, find, shares
from throughtime.gradient_flow.measure import stretches
from throughtime.gradient_flow.memory import data_memory
from throughtime.gradient_flow.pieces import Problem
from throughtime.gradient_flow.profiles import layer_flow
from throughtime.gradient_flow.result import Flow
from throughtime.gradient_flow.truncating import advise_truncation, bias
from throughtime.gradient_flow.verdict import WORST_FIRST
from throughtime.network import Network
from throughtime.network.incoming import checked_inputs, checked_state
from throughtime.truncation import one_direction, truncated_loss_and_gradient

LONG = 1024  # steps; of longer runs only some lags and end points are looked at by default
LAGS = 100
ENDS = 1024


def network_flow(
    network: Network,
    inputs: Array,
    targets: Array,
    *,
    state: Mapping[str, Array] | None = None,
    lengths: Array | None = None,
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
) -> Flow:
    """Where the gradient of a run goes, through time, and what follows from it.

    Args:
        network: with a loss and a recurrent layer, in one direction only.
        inputs, targets, state, lengths: as in `Network.loss_and_gradient`. Nothing is dropped out.
        max_lag: how many steps back every loss is followed; the whole run where T ≤ 1024,
            else 100.
        sample: at most so many end points t, drawn evenly over the run, without which all are
            followed where T ≤ 1024, else 1024. Profiles are then estimates without bias, and
            `profile_error` says how good.
        tolerance: the relative bias of a truncated gradient that would be accepted.
        k1, k2: windows of TBPTT whose cost is to be measured.
        clip: a clipping threshold that is asked about.
        memory: how many steps apart cause and effect lie in these data, where that is known.
        carousel: whether to split gradients by path.
        spectrum: whether to look at Jacobians.
        keep: whether to keep the gradients themselves, O(T²·B·H) numbers.
        seed: of what is drawn.

    Raises:
        ValueError, TypeError: for a bidirectional network, one without a recurrent layer or a
            loss, data that do not fit, numbers out of range, or a loss that is not finite.
    """
    problem = _problem(network, inputs, targets, state, lengths, max_lag, sample, seed)
    asked = real("tolerance", tolerance)
    if not 0 < asked < 1:
        refuse("tolerance", "a relative bias between 0 and 1", tolerance)
    if clip is not None and not real("clip", clip) > 0:
        refuse("clip", "a norm above 0", clip)
    if k1 is not None and k2 is None:
        k2 = positive("k1", k1)
    extra = [] if k2 is None else [positive("k2", k2)]
    size, coarse = network.parameters.flat.size, problem.in_time
    starts = tuple(stretches(problem.max_lag + 1, size, extra, coarse=coarse))
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # said, where it happens
        found = find(problem, Wishes(carousel, spectrum, keep, starts, seed))
        if not np.isfinite(found.loss):
            way_out = "tt.first_nonfinite says which value is the first that is none"
            refuse("flow", "a run whose loss is finite", found.loss, way_out)
        return _flow(problem, found, starts, asked, k1, k2, clip, memory, seed)


def _flow(
    problem: Problem,
    found: Found,
    starts: tuple[int, ...],
    asked: float,
    k1: int | None,
    k2: int | None,
    clip: float | None,
    memory: int | None,
    seed: int,
) -> Flow:
    """What was found, put together."""
    network = problem.network
    needed, source = _memory(problem, memory, seed)
    wanted = max(1, (problem.max_lag + 1) // 4) if needed is None else needed
    layers = {number: layer_flow(problem, found, number, wanted) for number in found.norms}
    worst = min(layers.items(), key=lambda item: WORST_FIRST.index(item[1].verdict))
    falls = max((one.decay for one in layers.values()), key=lambda fall: fall.upper)
    lost = bias(starts, found.by_lag, found.groups, problem.max_lag + 1, problem.steps, falls)
    truncation = advise_truncation(lost, asked, falls)
    cost = None if k2 is None else _window(problem, k2 if k1 is None else k1, k2)
    window = min(problem.steps, k2 or truncation.steps or problem.steps)
    clipping = None
    if problem.tells:
        clipping = advise_clipping(network, problem.inputs, problem.targets, window, clip)
    constants = {
        number: one.time_constants
        for number, one in layers.items()
        if isinstance(_cell(network, number), LSTM) and one.time_constants is not None
    }
    advice = Advice(truncation, cost, clipping, needed, source, initialisations(constants, needed))
    whole = sum(found.by_lag[1:], found.by_lag[0])
    assert not isinstance(whole, int)
    return Flow(
        verdict=worst[1].verdict,
        reason=f"layer {worst[0]} ({worst[1].kind}): {worst[1].reason}",
        advice=advice,
        layers=layers,
        share_lags=np.array([*starts, problem.max_lag + 1]),
        shares=shares(found.by_lag, _gate_letters(network)),
        bias=lost,
        ends=problem.ends,
        steps=problem.steps,
        batch=problem.batch,
        max_lag=problem.max_lag,
        loss=found.loss,
        gradient_norm=whole.norm() * problem.steps / len(problem.ends),
        dtype=str(network.dtype),
        notes=_notes(problem, found),
        gradients=found.kept,
    )


def _problem(
    network: Network,
    inputs: object,
    targets: object,
    state: Mapping[str, Array] | None,
    lengths: object,
    max_lag: int | None,
    sample: int | None,
    seed: int,
) -> Problem:
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
    far = (T - 1 if T <= LONG else LAGS) if max_lag is None else positive("max_lag", max_lag, 0)
    count = (T if T <= LONG else ENDS) if sample is None else positive("sample", sample)
    rng = np.random.default_rng(positive("seed", seed, at_least=0))
    return Problem(network, x, y, begin, counts, _ends(T, count, rng), min(far, T - 1))


def _ends(steps: int, count: int, rng: np.random.Generator) -> Array:
    """One end point from each of `count` equal stretches: even over the run, and unbiased."""
    if count >= steps:
        return np.arange(steps)
    edges = np.arange(count + 1) * steps // count
    return np.asarray(rng.integers(edges[:-1], edges[1:]))


def _memory(problem: Problem, given: int | None, seed: int) -> tuple[int | None, str]:
    if given is not None:
        return positive("memory", given), "given"
    if not problem.tells:
        return None, ""
    rng = np.random.default_rng(seed)
    found = data_memory(problem.inputs, problem.targets, problem.max_lag, rng)
    return (None, "") if not found else (found, "data")


def _window(problem: Problem, k1: int, k2: int) -> WindowCost:
    net, given = problem.network, (problem.inputs, problem.targets)
    context = {"state": problem.state, "lengths": problem.lengths}
    _, full = net.loss_and_gradient(*given, **context)  # type: ignore[arg-type]
    _, short = truncated_loss_and_gradient(net, *given, k1=k1, k2=k2, **context)  # type: ignore[arg-type]
    size = full.norm()
    relative = (short - full).norm() / size if size > 0 else float("nan")
    product = size * short.norm()
    return WindowCost(k1, k2, relative, full.dot(short) / product if product > 0 else float("nan"))


def _cell(network: Network, number: int) -> Cell:
    return network.recurrent[number].cell


def _gate_letters(network: Network) -> dict[str, str]:
    """Parameter to the letters of its blocks of rows."""
    found = {}
    for number, layer in network.recurrent.items():
        for name in ("W", "U", "b"):
            found[f"{number}.{name}"] = layer.cell.gates
        found[f"{number}.p"] = "ifo"
    return found


def _notes(problem: Problem, found: Found) -> tuple[str, ...]:
    notes = []
    if len(problem.ends) < problem.steps:
        notes.append(
            f"Losses of {len(problem.ends):,} of {problem.steps:,} steps were followed back, drawn "
            "evenly: profiles are estimates without bias; shares and truncation bias are those of "
            "these losses."
        )
    if problem.max_lag < problem.steps - 1:
        notes.append(f"Lags beyond {problem.max_lag} were not looked at.")
    if not np.isfinite(sum(one.norm() for one in found.by_lag)):
        notes.append(
            f"The gradient overflows {problem.network.dtype}: of shares and truncation nothing can "
            "be told."
        )
    elif len(found.groups) < 2:
        notes.append("One sequence in one piece: the bias has no confidence to go with it.")
    return tuple(notes)
