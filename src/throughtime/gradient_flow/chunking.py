"""A run in chunks that fit into memory: groups of sequences, or stretches of time of a long stream.

Sequences are independent of one another, and a loss that is followed back over at most L steps
needs no more of the past than that. So each chunk can be run and analysed by itself. Chunks also
show how far the findings differ between parts of the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.gradient_flow.lag_by_lag import LinearisedRun, linearised_run
from throughtime.gradient_flow.tolerances import CHUNK_STATES, SEQUENCE_GROUPS, STREAM_STEPS
from throughtime.gradient_flow.upstream import ExternalLoss
from throughtime.network import LossValue, Network, NetworkTape
from throughtime.parameters import Parameters


@dataclass(frozen=True)
class Problem:
    """A network, its data, and what is to be looked at, after all checks.

    Attributes:
        lengths: (B,) or None.
        ends: the steps whose losses are followed back, ascending.
        max_lag: how many steps back.
        first: the number to be added to the numbers of its layers.
        backwards: whether its time runs from the end of the whole run to its beginning.
    """

    network: Network
    inputs: Array
    targets: Array
    state: Mapping[str, Array] | None
    lengths: Array | None
    ends: Array
    max_lag: int
    first: int = 0
    backwards: bool = False

    @property
    def steps(self) -> int:
        """T."""
        return len(self.inputs)

    @property
    def batch(self) -> int:
        """B."""
        return int(self.inputs.shape[1])

    @property
    def weights(self) -> Array:
        """(T, B), the weights of the losses."""
        assert self.network.loss is not None
        return self.network.loss.weights(self.steps, self.batch, self.lengths)

    @property
    def sampled(self) -> bool:
        """Whether the losses of some steps are not followed back."""
        steps = np.flatnonzero(self.weights.any(axis=1))
        return not bool(np.isin(steps, self.ends).all())

    @property
    def tells(self) -> bool:
        """Whether inputs and targets are whole data, which tell about memory and windows."""
        return self.lengths is None and not isinstance(self.network.loss, ExternalLoss)

    @property
    def in_time(self) -> bool:
        """Whether the run is cut in time, not into groups of sequences."""
        stream = self.steps > STREAM_STEPS and self.steps > 4 * self.max_lag
        return stream and self.lengths is None


@dataclass(frozen=True)
class Chunk:
    """One chunk after its forward pass.

    Attributes:
        run: with the derivatives of its steps.
        ends: the steps whose losses are followed back, counted within the chunk.
        places: where these are among all ends.
        columns: its sequences.
        fresh: the first step that no earlier chunk had.
        lengths: of its sequences, in steps of the chunk.
        loss: of its fresh steps.
        begin: the step of the whole run at which it begins.
    """

    run: LinearisedRun
    ends: Array
    places: slice
    columns: Array
    fresh: int
    lengths: Array
    loss: float
    begin: int = 0


def chunks(problem: Problem) -> Iterator[Chunk]:
    """Runs the chunks one after another."""
    if problem.in_time:
        yield from _in_time(problem)
        return
    weights, B = problem.weights, problem.batch
    for columns in np.array_split(np.arange(B), min(B, SEQUENCE_GROUPS)):
        state = _of_sequences(problem, columns)
        lengths = None if problem.lengths is None else problem.lengths[columns]
        x = np.ascontiguousarray(problem.inputs[:, columns])
        outputs, _, tape = problem.network.forward(x, state, lengths)
        part = (problem.targets[:, columns], weights[:, columns])
        value, run = _run_of(problem.network, tape, outputs, *part, problem.ends)
        counts = np.full(len(columns), problem.steps) if lengths is None else lengths
        whole = slice(0, len(problem.ends))
        yield Chunk(run, problem.ends, whole, columns, 0, counts, value)


def _in_time(problem: Problem) -> Iterator[Chunk]:
    """Stretches of time; each begins `max_lag` steps early, so that its lags lie within it."""
    network, weights = problem.network, problem.weights
    units = sum(layer.cell.units for layer in network.recurrent.values())
    length = max(CHUNK_STATES // (problem.batch * units), 8 * problem.max_lag, 1)
    columns = np.arange(problem.batch)
    state, start = problem.state, 0
    for fresh in range(0, problem.steps, length):
        stop = min(fresh + length, problem.steps)
        outputs, _, tape = network.forward(problem.inputs[start:stop], state)
        left, right = np.searchsorted(problem.ends, [fresh, stop])
        ends = problem.ends[left:right] - start
        span = slice(start, stop)
        given = (problem.targets[span], weights[span])
        value, run = _run_of(network, tape, outputs, *given, ends, fresh - start)
        counts = np.full(problem.batch, stop - start)
        place = slice(int(left), int(right))
        yield Chunk(run, ends, place, columns, fresh - start, counts, value, start)
        following = max(0, stop - problem.max_lag)
        state, start = network.state_after(tape, following - start), following


def _run_of(
    network: Network,
    tape: NetworkTape,
    outputs: Array,
    targets: Array,
    weights: Array,
    ends: Array,
    fresh: int = 0,
) -> tuple[float, LinearisedRun]:
    """The loss of the fresh steps, and the run with losses at `ends` only."""
    assert network.loss is not None
    found = network.loss.evaluate(outputs, network.loss.check_targets(targets, outputs), weights)
    chosen = np.zeros((len(outputs), 1), bool)
    chosen[ends] = True
    doutputs = np.where(chosen[..., None], found.doutputs, found.doutputs.dtype.type(0))
    wanted = LossValue(found.value, found.terms, weights, doutputs)
    return float((weights * found.terms)[fresh:].sum()), linearised_run(network, tape, wanted)


def _of_sequences(problem: Problem, columns: Array) -> Parameters | None:
    if problem.state is None:
        return None
    arrays = {name: np.asarray(array)[columns] for name, array in problem.state.items()}
    return Parameters.of(arrays, problem.network.dtype)
