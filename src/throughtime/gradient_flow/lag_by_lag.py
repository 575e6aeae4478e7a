"""The gradients of many losses side by side, one step further back at a time, and their sums.

Row j is E_t for one t. At lag l it stands at step t − l: all rows together are one large product
with U, where T backward passes would be T² small ones. A row that has passed the first step leaves.

Rows shrink and grow exponentially. Whenever a row leaves the range in which its squares can be
added up, it is multiplied by a power of two, which rounds nothing, and the exponent is kept beside
it: a gradient of 1e-60 is as exact as one of 1, in float32 too.

`measure_by_lag` adds up what the rows say: norms by lag, and the gradient of the parameters by
stretches of lags. It works for every network; `batched_vjp` is faster where it applies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.cells import State, Tape, input_gradient
from throughtime.equations import Edges
from throughtime.gradient_flow.jacobians import Linear, linear
from throughtime.gradient_flow.tolerances import (
    BLOCK_ROWS,
    BY_LAG_NUMBERS,
    RESCALED_BEYOND,
    SINGLE_LAGS,
    SINGLE_LAGS_OF_A_STREAM,
)
from throughtime.gradient_flow.upstream import ExternalLoss
from throughtime.network import (
    Dense,
    Loss,
    LossValue,
    Network,
    NetworkTape,
    RecurrentLayer,
    RecurrentTape,
    one_direction,
)
from throughtime.parameters import Parameters

Deltas = dict[int, dict[str, Array]]  # layer to "h", "c", "z": (n, B, ·)


@dataclass(frozen=True)
class LinearisedRun:
    """One run, with the derivatives of all its steps.

    Attributes:
        network, tape: of the run.
        linear: recurrent layer to the derivatives of its steps.
        top: the recurrent layer that is nearest to the loss.
        arriving: ∂E_t/∂(outputs of that layer at t), (T, B, ·).
        counted: (T, B), whether step t of sequence b has a loss.
        head: gradients of the layers above `top`, by the parameters' full names.
        also: layer to part of the state to (T, B, ·): what arrives there from E_t other than
            through the outputs.
    """

    network: Network
    tape: NetworkTape
    linear: dict[int, Linear]
    top: int
    arriving: Array
    counted: Array
    head: dict[str, Array]
    also: dict[int, dict[str, Array]] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """T."""
        return len(self.arriving)


@dataclass(frozen=True)
class LagRows:
    """The rows at one lag.

    Attributes:
        lag: l.
        first: the number of rows, those of the earliest steps, that have left.
        at: the step at which each of the other rows stands: a slice, or indices.
        exponents: (n, B); a row's gradient is its entry in `deltas` times 2^exponent.
        deltas: layer to the gradient with respect to its state and pre-activations.
        norms: recurrent layer to "h", "c": ‖∂E_t/∂h‖₂ and ‖∂E_t/∂c‖₂, (n, B) in float64.
        split: as `deltas`, along the carry alone and along the rest alone, if asked for.
    """

    lag: int
    first: int
    at: slice | Array
    exponents: Array
    deltas: Deltas
    norms: dict[int, dict[str, Array]]
    split: dict[Edges, Deltas]


def recurrent_loss(network: Network) -> Loss:
    """The loss of a network in one direction through whose time something flows.

    Raises:
        ValueError: for a network that runs both ways, or has no recurrent layer, or no loss.
    """
    one_direction(network)
    if not network.recurrent:
        refuse("network", "a recurrent layer", "none", "nothing flows through time")
    if network.loss is None:
        refuse("loss", "a loss", "none", "build the network with loss=…")
    return network.loss


def linearised_run(network: Network, tape: NetworkTape, loss: LossValue) -> LinearisedRun:
    """Works out the derivatives of all steps of a run, and what arrives from the loss of each.

    Args:
        loss: of the run; its `doutputs` are what is propagated back.
    """
    found = {}
    for number, layer in network.recurrent.items():
        own = tape.layers[number]
        assert isinstance(own, RecurrentTape)
        found[number] = linear(layer.cell, network.of_layer(number), own.directions[0])
    top = max(found)
    arriving, also = loss.doutputs, dict[int, dict[str, Array]]()
    if isinstance(network.loss, ExternalLoss):
        arriving, also = network.loss.split(arriving)
    arriving, head = through_head(network, tape, top, arriving)
    return LinearisedRun(network, tape, found, top, arriving, loss.weights > 0, head, also)


def through_head(
    network: Network, tape: NetworkTape, top: int, arriving: Array
) -> tuple[Array, dict[str, Array]]:
    """∂L/∂(outputs of layer `top`), and the gradient of the layers above it, by name."""
    head: dict[str, Array] = {}
    for number in reversed(range(top + 1, len(network.layers))):
        p = network.of_layer(number)
        own_gradient = {name: np.zeros_like(array) for name, array in p.items()}
        above, kept = network.layers[number], tape.layers[number]
        passed = above.backward(p, kept, arriving, None, True, False, own_gradient)
        assert passed.inputs is not None  # only the first layer takes class indices
        arriving = passed.inputs
        head |= {f"{number}.{name}": array for name, array in own_gradient.items()}
    return arriving, head


def lag_by_lag(
    run: LinearisedRun, ends: Array, max_lag: int, split: tuple[Edges, ...] = ()
) -> Iterator[LagRows]:
    """Propagates the losses of the steps `ends` (ascending) back to `max_lag` or the first step.

    Args:
        split: edges along which gradients are also propagated alone; see `LagRows.split`.
    """
    batch = run.arriving.shape[1]
    modes: tuple[Edges, ...] = ("all", *split)
    fronts = {mode: _nothing(run, len(ends), batch) for mode in modes}
    exponents = np.zeros((len(ends), batch), np.int32)
    first = 0
    for lag in range(min(max_lag, int(ends[-1])) + 1):
        gone = int(np.searchsorted(ends, lag)) - first
        if gone:
            first += gone
            exponents = exponents[gone:]
            fronts = {mode: _sliced(front, gone) for mode, front in fronts.items()}
        at = _places(ends[first:] - lag)
        dtop = run.arriving[at] if lag == 0 else None
        if lag == 0:
            _arrive(run, at, fronts)
        deltas: dict[Edges, Deltas] = {}
        for mode in modes:
            deltas[mode], fronts[mode] = _one_step(
                run, at, dtop, fronts[mode], mode, inner=not split
            )
        lengths = {number: _norms(deltas["all"][number]) for number in run.linear}
        true = {
            number: {name: np.ldexp(one, exponents) for name, one in own.items()}
            for number, own in lengths.items()
        }
        yield LagRows(lag, first, at, exponents, deltas["all"], true, {m: deltas[m] for m in split})
        exponents = _rescaled(fronts, list(lengths.values()), exponents)


def _arrive(run: LinearisedRun, at: slice | Array, fronts: dict[Edges, dict[int, State]]) -> None:
    """Adds what arrives other than through the outputs."""
    for front in fronts.values():
        for number, parts in run.also.items():
            for name, part in parts.items():
                front[number][name] = front[number][name] + part[at]


def _one_step(
    run: LinearisedRun,
    at: slice | Array,
    dtop: Array | None,
    front: dict[int, State],
    edges: Edges,
    *,
    inner: bool,
) -> tuple[Deltas, dict[int, State]]:
    """Takes all layers through one step, from the top down.

    A layer receives what came from the later step, and from the layer above it. With `inner`, every
    layer's "z" is wanted, not only where a lower layer needs it.
    """
    found: Deltas = {}
    before: dict[int, State] = {}
    dx = dtop
    lowest = next(i for i, layer in enumerate(run.network.layers) if layer.shapes())
    for number in reversed(range(run.top + 1)):
        layer = run.network.layers[number]
        if isinstance(layer, RecurrentLayer):
            later = front[number]
            if dx is not None:
                later = later | {"h": later["h"] + dx}
            wanted = inner or number > lowest
            found[number], before[number] = run.linear[number].vjp(at, later, edges, wanted)
            dz = found[number].get("z")
        elif isinstance(layer, Dense) and dx is not None:
            found[number] = {"z": dx}
            dz = dx
        else:  # an embedding takes what arrives; dropout is not applied here
            if dx is not None and layer.shapes():
                found[number] = {"z": dx}
            continue
        if number > lowest and dz is not None:
            if isinstance(layer, RecurrentLayer):
                dx = run.linear[number].to_inputs(at, dz)
            else:
                dx = input_gradient(dz, run.network.of_layer(number)["W"])
    return found, before


def rescaling(largest: Array) -> Array:
    """The exponents by which rows have to be divided, given the largest number in each.

    0 for a row within the range in which its squares can be added up.
    """
    _, powers = np.frexp(np.where(np.isfinite(largest), largest, 1))
    outside = (np.abs(powers) > RESCALED_BEYOND) & (largest > 0)
    return np.asarray(np.where(outside, powers, 0).astype(np.int32))


def unscaled(rows: Array, exponents: Array) -> Array:
    """Rows multiplied by their powers of two."""
    if not exponents.any():
        return rows
    return np.ldexp(rows, exponents[..., None])


def _norms(rows: Mapping[str, Array]) -> dict[str, Array]:
    return {
        name: np.sqrt(np.einsum("nbh,nbh->nb", part, part).astype(np.float64))
        for name, part in rows.items()
        if name != "z"
    }


def _rescaled(
    fronts: dict[Edges, dict[int, State]], lengths: list[dict[str, Array]], exponents: Array
) -> Array:
    """Rescales rows that have left the range; returns the new exponents."""
    shift = rescaling(np.maximum.reduce([part for one in lengths for part in one.values()]))
    if not shift.any():
        return exponents
    for front in fronts.values():
        for state in front.values():
            for name, part in state.items():
                state[name] = np.ldexp(part, -shift[..., None])
    return np.asarray(exponents + shift)


def _nothing(run: LinearisedRun, rows: int, batch: int) -> dict[int, State]:
    dtype = run.arriving.dtype
    return {
        number: {name: np.zeros((rows, batch, n), dtype) for name, n in one.sizes.items()}
        for number, one in run.linear.items()
    }


def _sliced(front: dict[int, State], gone: int) -> dict[int, State]:
    return {
        number: {name: part[gone:] for name, part in state.items()}
        for number, state in front.items()
    }


def _places(steps: Array) -> slice | Array:
    """A slice if the steps follow one another, since that needs no copies."""
    if len(steps) == steps[-1] - steps[0] + 1:
        return slice(int(steps[0]), int(steps[-1]) + 1)
    return steps


@dataclass
class LagNorms:
    """Sums of ‖∂E_t/∂s_{t−l}‖ for one part of one layer's state.

    Attributes:
        total, squares, count: (n, L): sums over sequences; a step without a loss does not count.
        by_sequence, steps: (L, B): the sum over end points, and the number of these.
    """

    total: Array
    squares: Array
    count: Array
    by_sequence: Array
    steps: Array

    @classmethod
    def zeros(cls, ends: int, lags: int, batch: int) -> LagNorms:
        """Sums of nothing."""
        return cls(*(np.zeros((ends, lags)) for _ in range(3)), *np.zeros((2, lags, batch)))

    def add(self, place: slice, lag: int, values: Array, counted: Array) -> None:
        """Adds rows (m, B) of one lag; `counted` says which of them have a loss."""
        values = np.where(counted, values, 0)
        self.total[place, lag] += values.sum(axis=1)
        self.squares[place, lag] += (values**2).sum(axis=1)
        self.count[place, lag] += counted.sum(axis=1)
        self.by_sequence[lag] += values.sum(axis=0)
        self.steps[lag] += counted.sum(axis=0)


@dataclass
class LagSums:
    """Sums over the losses of some sequences.

    Attributes:
        norms: recurrent layer to part of the state.
        by_lag: for each stretch of lags, the part of the parameters' gradient that passed through
            it; these add up to the gradient.
        kept: layer to part to (n, L, B, H): the gradients themselves, if asked for.
    """

    norms: dict[int, dict[str, LagNorms]]
    by_lag: list[Parameters]
    kept: dict[int, dict[str, Array]] = field(default_factory=dict)


def measure_by_lag(
    run: LinearisedRun, ends: Array, max_lag: int, starts: Sequence[int], *, keep: bool = False
) -> LagSums:
    """Propagates the losses of the steps `ends` back, in blocks that fit into the cache.

    Args:
        starts: the lags at which stretches of lags begin, from 0, ascending; empty if only norms
            are wanted.
        keep: whether to keep the gradients themselves: O(n·L·B·H) numbers.
    """
    batch, lags = run.arriving.shape[1], max_lag + 1
    found = LagSums({}, [run.network.parameters.zeros_like() for _ in starts])
    for number, one in run.linear.items():
        found.norms[number] = {part: LagNorms.zeros(len(ends), lags, batch) for part in one.sizes}
        if keep:
            shape, dtype = (len(ends), lags, batch), run.arriving.dtype
            own = {part: np.zeros((*shape, n), dtype) for part, n in one.sizes.items()}
            found.kept[number] = own
    for name, array in run.head.items() if starts else ():
        found.by_lag[0][name][...] = array
    for begin, block in _blocks(ends, batch):
        _measure_block(run, begin, block, starts, found, lags)
    return found


def _measure_block(
    run: LinearisedRun, begin: int, block: Array, starts: Sequence[int], found: LagSums, lags: int
) -> None:
    sums: StretchSums | None = None
    stretch = -1
    for rows in lag_by_lag(run, block, lags - 1):
        here = slice(begin + rows.first, begin + len(block))
        counted = run.counted[block[rows.first :]]
        for number, own in rows.norms.items():
            for part, values in own.items():
                found.norms[number][part].add(here, rows.lag, values, counted)
                if number in found.kept:
                    delta = unscaled(rows.deltas[number][part], rows.exponents)
                    found.kept[number][part][here, rows.lag] = delta
        if rows.lag in starts:
            if sums is not None:
                sums.add_to(found.by_lag[stretch])
            stretch += 1
            after = (*starts, lags)[stretch + 1]
            begin_step, stop_step = int(block[0]) - after + 1, int(block[-1]) - rows.lag + 1
            sums = StretchSums(run, max(0, begin_step), stop_step)
        if sums is not None:
            sums.take(rows)
    if sums is not None:
        sums.add_to(found.by_lag[stretch])


class StretchSums:
    """Sums of δz over all losses, at the steps start … stop − 1, through one stretch of lags."""

    def __init__(self, run: LinearisedRun, start: int, stop: int) -> None:
        self.run, self.start, self.stop = run, start, stop
        self.found: dict[int, dict[str, Array]] = {}
        self.passed = np.zeros(stop - start, bool)  # the steps that some loss passed through

    def take(self, rows: LagRows) -> None:
        """Adds the rows of one lag."""
        batch = self.run.arriving.shape[1]
        at = rows.at
        place: slice | Array
        if isinstance(at, slice):
            place = slice(at.start - self.start, at.stop - self.start)
        else:
            place = at - self.start
        self.passed[place] = True
        for number, deltas in rows.deltas.items():
            wanted = self._wanted(number)
            own = self.found.setdefault(number, {})
            for name in wanted:
                delta = deltas[name]
                if name not in own:
                    shape = (self.stop - self.start, batch, delta.shape[-1])
                    own[name] = np.zeros(shape, delta.dtype)
                own[name][place] += unscaled(delta, rows.exponents)

    def add_to(self, gradient: Parameters) -> None:
        """Adds the parameters' gradient at these steps, summed over them."""
        tape = self.run.tape.steps(self.start, self.stop)
        passed = np.flatnonzero(self.passed)
        few = 2 * len(passed) < len(
            self.passed
        )  # in a long stream, losses reach some of the steps only
        for number, deltas in self.found.items():
            p = self.run.network.of_layer(number)
            layer, own = self.run.network.layers[number], tape.layers[number]
            if few and isinstance(own, RecurrentTape) and "p" not in p:
                own = RecurrentTape((_at(own.directions[0], passed),), None)
                deltas = {name: delta[passed] for name, delta in deltas.items()}
            for name, array in layer.parameter_gradients(p, own, deltas).items():
                gradient[f"{number}.{name}"][...] += array

    def _wanted(self, number: int) -> tuple[str, ...]:
        layer = self.run.network.layers[number]
        projected = isinstance(layer, RecurrentLayer) and "R" in layer.shapes()
        return ("z", "h") if projected else ("z",)


def _at(tape: Tape, steps: Array) -> Tape:
    """The tape of these steps alone, for sums over steps that need the state before each step."""
    before = np.append(steps, steps[-1])  # in place of the tape's final state
    return Tape(
        tape.inputs[steps],
        {name: array[before] for name, array in tape.states.items()},
        {name: array[steps] for name, array in tape.kept.items()},
        None if tape.active is None else tape.active[steps],
    )


def stretches(
    lags: int, parameters: int, extra: Sequence[int] = (), *, coarse: bool = False
) -> list[int]:
    """The lags at which stretches begin: single lags at first, then ever longer stretches.

    The whole gradient of each stretch is kept, so large networks have fewer of them. Each stretch
    costs as much as the weights' part of a backward pass, so long streams have `coarse` ones: 0,
    1, 2, 4, 8, …

    Args:
        lags: how many lags there are.
        parameters: how many numbers a gradient has.
        extra: lags at which a stretch has to begin.
    """
    room = max(4, BY_LAG_NUMBERS // max(1, parameters))
    singles = min(SINGLE_LAGS_OF_A_STREAM if coarse else SINGLE_LAGS, lags, room // 2)
    found = set(range(singles)) | {lag for lag in extra if 0 < lag < lags}
    lag = float(max(1, singles))
    least = 2.0 if coarse else 2**0.25
    ratio = max(least, (lags / lag) ** (1 / max(1, room - singles))) if lags > lag else 2.0
    while lag < lags:
        found.add(int(lag))
        lag = max(lag + 1, lag * ratio)
    return sorted(found)


def _blocks(ends: Array, batch: int) -> Iterator[tuple[int, Array]]:
    size = max(1, BLOCK_ROWS // batch)
    for begin in range(0, len(ends), size):
        yield begin, ends[begin : begin + size]
