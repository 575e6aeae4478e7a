"""The gradients of many steps' losses, side by side, one step further back at a time.

Row j is E_t for one t. At lag l it stands at step t − l: all rows together are one large product
with U, where T backward passes would be T² small ones. A row that has passed the first step
leaves.

Rows shrink and grow exponentially. Whenever one leaves the range in which its squares can be
added up, it is multiplied by a power of two, which rounds nothing, and the exponent is kept beside
it: a gradient of 1e-60 is as exact as one of 1, in float32 too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import State, input_gradient
from throughtime.gradient_flow.external_loss import ExternalLoss
from throughtime.gradient_flow.linear import Edges, Linear, linear
from throughtime.gradient_flow.tolerances import RESCALED_BEYOND
from throughtime.network import Dense, LossValue, Network, NetworkTape, Recurrent, RecurrentTape

Deltas = dict[int, dict[str, Array]]  # layer to "h", "c", "z": (n, B, ·)


@dataclass(frozen=True)
class Lines:
    """One run, ready to be walked back.

    Attributes:
        network, tape: of the run.
        linear: recurrent layer to the derivatives of its steps.
        top: the recurrent layer that is nearest to the loss.
        arriving: ∂E_t/∂(outputs of that layer at t), (T, B, ·).
        counted: (T, B), whether step t of sequence b has a loss at all.
        head: gradients of the layers above it, by the parameters' full names.
        also: layer to part of the state to (T, B, ·): what else arrives there from E_t, past the
            outputs.
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
class Rows:
    """Where the rows stand at one lag.

    Attributes:
        lag: l.
        first: how many rows, of the earliest steps, have left.
        at: the step at which each of the others stands: a slice, or indices.
        exponents: (n, B); a row's gradient is what `deltas` say times 2^exponent.
        deltas: layer to the gradient with respect to its state and pre-activations.
        norms: recurrent layer to "h", "c": ‖∂E_t/∂h‖₂ and ‖∂E_t/∂c‖₂, (n, B) in float64.
        split: the same along the carry alone, and along the rest alone, where it was asked for.
    """

    lag: int
    first: int
    at: slice | Array
    exponents: Array
    deltas: Deltas
    norms: dict[int, dict[str, Array]]
    split: dict[Edges, Deltas]


def lines(network: Network, tape: NetworkTape, loss: LossValue) -> Lines:
    """The derivatives of all steps of a run, and what arrives from the loss of each.

    Args:
        loss: of the run; its doutputs are what is walked back.
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
    return Lines(network, tape, found, top, arriving, loss.weights > 0, head, also)


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


def walk(run: Lines, ends: Array, max_lag: int, split: tuple[Edges, ...] = ()) -> Iterator[Rows]:
    """Walks the losses of the steps `ends` (ascending) back to `max_lag` or the first step.

    Args:
        split: also the same along these edges alone; `Rows.split`.
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
            deltas[mode], fronts[mode] = _one_step(run, at, dtop, fronts[mode], mode)
        lengths = {number: _norms(deltas["all"][number]) for number in run.linear}
        true = {
            number: {name: np.ldexp(one, exponents) for name, one in own.items()}
            for number, own in lengths.items()
        }
        yield Rows(lag, first, at, exponents, deltas["all"], true, {m: deltas[m] for m in split})
        exponents = _rescaled(fronts, list(lengths.values()), exponents)


def _arrive(run: Lines, at: slice | Array, fronts: dict[Edges, dict[int, State]]) -> None:
    """What arrives past the outputs."""
    for front in fronts.values():
        for number, parts in run.also.items():
            for name, part in parts.items():
                front[number][name] = front[number][name] + part[at]


def _one_step(
    run: Lines, at: slice | Array, dtop: Array | None, front: dict[int, State], edges: Edges
) -> tuple[Deltas, dict[int, State]]:
    """All layers at one step, from the top down: what came from later and from the layer above."""
    found: Deltas = {}
    before: dict[int, State] = {}
    dx = dtop
    lowest = next(i for i, layer in enumerate(run.network.layers) if layer.shapes())
    for number in reversed(range(run.top + 1)):
        layer = run.network.layers[number]
        if isinstance(layer, Recurrent):
            later = front[number]
            if dx is not None:
                later = later | {"h": later["h"] + dx}
            found[number], before[number] = run.linear[number].vjp(at, later, edges)
            dz = found[number]["z"]
        elif isinstance(layer, Dense) and dx is not None:
            found[number] = {"z": dx}
            dz = dx
        else:  # an embedding takes what arrives; nothing is dropped here
            if dx is not None and layer.shapes():
                found[number] = {"z": dx}
            continue
        if number > lowest:
            dx = input_gradient(dz, run.network.of_layer(number)["W"])
    return found, before


def unscaled(rows: Array, exponents: Array) -> Array:
    """Rows with their exponents put in."""
    if not exponents.any():
        return rows
    return np.ldexp(rows, exponents[..., None])


def _norms(rows: Mapping[str, Array]) -> dict[str, Array]:
    return {
        name: np.sqrt(np.einsum("nbh,nbh->nb", rows[name], rows[name]).astype(np.float64))
        for name in ("h", "c")
        if name in rows
    }


def _rescaled(
    fronts: dict[Edges, dict[int, State]], lengths: list[dict[str, Array]], exponents: Array
) -> Array:
    """Brings rows back that have left the range; returns the new exponents."""
    largest = np.maximum.reduce([part for one in lengths for part in one.values()])
    _, powers = np.frexp(np.where(np.isfinite(largest), largest, 1.0))
    outside = (np.abs(powers) > RESCALED_BEYOND) & (largest > 0)
    shift = np.where(outside, powers, 0).astype(np.int32)
    if not shift.any():
        return exponents
    for front in fronts.values():
        for state in front.values():
            for name, part in state.items():
                state[name] = np.ldexp(part, -shift[..., None])
    return np.asarray(exponents + shift)


def _nothing(run: Lines, rows: int, batch: int) -> dict[int, State]:
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
    """A slice where the steps follow one another, which needs no copies."""
    if len(steps) == steps[-1] - steps[0] + 1:
        return slice(int(steps[0]), int(steps[-1]) + 1)
    return steps
