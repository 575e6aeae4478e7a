"""`network_flow`: where the gradient of a network's run goes, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from throughtime.arrays import Array, positive, real, refuse
from throughtime.cells import Cell
from throughtime.gradient_flow.advice import Advice, WindowCost, initialisations
from throughtime.gradient_flow.analyse import Found, Wishes, analyse, shares
from throughtime.gradient_flow.chunking import Problem
from throughtime.gradient_flow.clipping import advise_clipping
from throughtime.gradient_flow.external_loss import ExternalLoss
from throughtime.gradient_flow.inside import NOTE, inside
from throughtime.gradient_flow.measure import stretches
from throughtime.gradient_flow.memory import data_memory
from throughtime.gradient_flow.pairs import Pairs
from throughtime.gradient_flow.problems import module_problems, problem_of
from throughtime.gradient_flow.profiles import layer_flow
from throughtime.gradient_flow.result import Flow
from throughtime.gradient_flow.truncating import advise_truncation, bias
from throughtime.gradient_flow.upstream import Losses
from throughtime.gradient_flow.verdict import WORST_FIRST
from throughtime.network import Network, truncated_loss_and_gradient


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
) -> Flow:
    """Where the gradient of a run goes, through time, and what follows from it.

    Args:
        network: with a loss and a recurrent layer. One that runs both ways has nothing but Dropout
            between its recurrent layers, which are looked at alone, each direction by itself.
        inputs, targets, state, lengths: as in `Network.loss_and_gradient`. Nothing is dropped out.
        sequences: look at so many of the B sequences only, evenly chosen.
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
        losses: instead of targets, of a network that stands inside a model whose losses look at
            several steps; it consists of recurrent layers.

    Raises:
        ValueError, TypeError: for a network without a recurrent layer or a loss, data that do not
            fit, windows (`k1`, `k2`, `clip`) of what runs both ways, numbers out of range, or a
            loss that is not finite.
    """
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
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # said, where it happens
        pairs: Pairs | None = None
        notes: tuple[str, ...] = ()
        if losses is None and network.bidirectional:
            own, notes = inside(network, inputs, targets, state, lengths), (NOTE,)
            network, inputs, losses = own.network, own.inputs, own.losses
            state, lengths = own.state, own.lengths
        if losses is None:
            given = (inputs, targets, state, lengths, max_lag, sample, seed)
            problems = [problem_of(network, *given)]
        else:
            whole = (inputs, losses, state, lengths, max_lag, sample, seed, keep)
            problems, pairs = module_problems(network, *whole)
        size, coarse = network.parameters.flat.size, problems[0].in_time
        starts = tuple(stretches(problems[0].max_lag + 1, size, extra, coarse=coarse))
        for name, wanted in (("k1, k2", k2), ("clip", clip)):
            if wanted is not None:
                _can_be_cut(name, problems)
        found = analyse(problems, Wishes(carousel, spectrum, keep and pairs is None, starts, seed))
        found.pairs = pairs
        if not np.isfinite(found.loss):
            way_out = "tt.first_nonfinite says which value is the first that is none"
            refuse("flow", "a run whose loss is finite", found.loss, way_out)
        flow = _flow(problems, found, starts, asked, k1, k2, clip, memory, seed)
        return replace(flow, notes=(*flow.notes, *notes))


def evenly(batch: int, count: int) -> Array:
    """The numbers of at most `count` of so many sequences, evenly chosen."""
    return np.unique(np.linspace(0, batch - 1, min(batch, count)).astype(int))


def _some(
    count: int,
    inputs: Array,
    targets: Array | None,
    state: Mapping[str, Array] | None,
    lengths: Array | None,
) -> tuple[Array, Array | None, Mapping[str, Array] | None, Array | None]:
    """The same, of at most `count` sequences."""
    x, y = np.asarray(inputs), np.asarray(targets)
    if min(x.ndim, y.ndim) < 2:
        return inputs, targets, state, lengths  # refused, with the reason, where it is looked at
    chosen = evenly(x.shape[1], count)
    if state is not None:
        state = {name: np.asarray(part)[chosen] for name, part in state.items()}
    if lengths is not None:
        lengths = np.asarray(lengths)[chosen]
    return x[:, chosen], y[:, chosen], state, lengths


def _flow(
    problems: Sequence[Problem],
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
    lost = bias(starts, found.by_lag, found.groups, problem.max_lag + 1, problem.steps, falls)
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
    """Refuses what asks for windows of TBPTT where there are none."""
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
    """Parameter to the letters of its blocks of rows."""
    found = {}
    for number, cell in cells.items():
        for name in ("W", "U", "b"):
            found[f"{number}.{name}"] = cell.gates
        found[f"{number}.p"] = "ifo"
    return found


def _notes(problems: Sequence[Problem], found: Found) -> tuple[str, ...]:
    problem, notes = problems[0], []
    if found.pairs is not None and found.pairs.mixed:
        notes.append(
            "Losses look at other steps than their own, past a layer's recurrence: ‖∂E_t/∂s_k‖ "
            "is all that arrives at k, whatever way it came. Verdict, paths, shares and bias are "
            "those of the recurrence: lags there count the steps that a gradient goes back in it "
            "from where the rest of the model handed it over."
        )
    if len(problems) > 1:
        notes.append(
            "Each direction of each layer is a recurrence by itself; of one that runs from the "
            "end, lags go forwards in time."
        )
    if problem.sampled:
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
