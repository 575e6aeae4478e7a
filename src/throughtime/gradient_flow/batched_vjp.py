"""All losses of a run at one step: one matrix per sequence takes them to the step before.

What a step does before its product with U is a product with numbers that are the same for all
losses. They can be folded into U: for an LSTM, δh_{t−1} = (Σ_g diag(γ_g) U_g)ᵀ δc + (diag(γ_o)
U_o)ᵀ δh, which is half the arithmetic of four gates one by one, and a third for a GRU. δz need not
be written down, since its sum over losses follows from the sums of δc and δh.

This takes one recurrent layer whose step is such a product, and the losses of all steps; otherwise
`measure_by_lag` gives the same. Both are tested against backward passes, and the readable code here
against its compiled twin in native/lags.hpp, which answers unless the gradients themselves are to
be kept. The twin takes each sequence back through all its steps by itself, so that the rows of its
losses and one step's matrix stay in the cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from throughtime import _engine
from throughtime.arrays import Array, array_of
from throughtime.cells import Cell, has_twin, input_gradient
from throughtime.engine_settings import use_compiled
from throughtime.equations import ProductBlock
from throughtime.gradient_flow.jacobians import Linear
from throughtime.gradient_flow.lag_by_lag import (
    LagNorms,
    LagSums,
    LinearisedRun,
    linearised_run,
    measure_by_lag,
    recurrent_loss,
    rescaling,
)
from throughtime.gradient_flow.tolerances import RESCALED_BEYOND
from throughtime.network import Network
from throughtime.parameters import Parameters

ENGINE_PARTS = ("h", "c")  # in the order of the compiled code


class FoldedStep:
    """One step for all losses at once.

    Rows are (B, n, width): the full δ of each part of the state beside the others, δh last.
    """

    def __init__(self, one: Linear) -> None:
        folded = one.step.folded
        assert folded is not None
        self.one, self.width = one, sum(one.sizes.values())
        self.parts: dict[str, slice] = {}
        end = self.width
        for part, size in one.sizes.items():
            self.parts[part] = slice(end - size, end)
            end -= size
        names, coefficient = one.names, one.coefficient
        self.within = [  # what a part has from another one within the step
            (names[to], names[source], coefficient(node, (one.sizes[names[to]],)))
            for to, found in folded.within.items()
            for source, node in found
        ]
        self.before = {names[to]: SentBack(self, blocks) for to, blocks in folded.before.items()}

    def arrive(self, k: int, rows: Array) -> None:
        """Adds to δ of each part what comes from the others within step k."""
        for to, source, factor in self.within:
            rows[..., self.parts[to]] += rows[..., self.parts[source]] * factor[k][:, None]

    def vjp(self, k: int, rows: Array, out: Array) -> None:
        """Takes rows from step k to the step before it."""
        for part, sent in self.before.items():
            sent.write(k, rows, out[..., self.parts[part]])

    def compiled(
        self, run: LinearisedRun, lags: int, starts: Sequence[int]
    ) -> tuple[dict[str, LagNorms], Array]:
        """As `_step_by_step`, compiled."""
        main = list(self.one.sizes)[-1]
        carry = self.before[main].direct.get(main)
        through_h = self.within[0][2] if self.within else None
        factors = np.concatenate([own[0] for own in self.before["h"].products.values()], axis=2)
        given = (run.arriving, run.counted, lags, starts)
        return compiled_vjps(self.one.cell, self.one.p["U"], factors, carry, through_h, *given)

    def deltas(self, sums: Array) -> Array:
        """Sums of δz (T, B, ·) from those of rows (T, B, width)."""
        full = {part: sums[..., place] for part, place in self.parts.items()}
        return self.one.frontier_of(slice(0, len(sums)), full)


class SentBack:
    """What a step sends back to one part of the state.

    Attributes:
        direct: by part after the step, the factor (T, B, H) of its δ.
        products: by part after the step, factors of its δ (T, B, G, H), and for each of them the
            rows of parameters that follow, (H, G, ·): row j of each.
    """

    def __init__(self, step: FoldedStep, blocks: Sequence[ProductBlock]) -> None:
        one, self.step = step.one, step
        self.direct: dict[str, Array] = {}
        grouped: dict[str, list[tuple[Array, Array]]] = {}
        for block in sorted(blocks, key=lambda block: block.row):
            source = one.names[block.source]
            factor = one.coefficient(block.coefficient, (one.sizes[source],))
            if block.parameter is None:
                known = self.direct.get(source)
                self.direct[source] = factor if known is None else known + factor
            else:
                rows = one.p[block.parameter][block.row : block.row + one.sizes[source]]
                grouped.setdefault(source, []).append((factor, rows))
        self.products = {
            source: tuple(
                np.stack(arrays, axis=axis)
                for axis, arrays in zip((2, 1), zip(*own, strict=True), strict=True)
            )
            for source, own in grouped.items()
        }

    def write(self, k: int, rows: Array, out: Array) -> None:
        """Takes rows (B, n, width) from step k to the part before it, (B, n, H)."""
        parts = self.step.parts
        if not self.products:
            out[...] = 0
            for source, factor in self.direct.items():
                out += rows[..., parts[source]] * factor[k][:, None]
            return
        B, H = rows.shape[0], out.shape[-1]
        F = np.empty((self.step.width, B, H), rows.dtype)
        unit = np.arange(H)
        for source, place in parts.items():
            if source in self.products:
                factors, U = self.products[source]
                np.matmul(factors[k].transpose(2, 0, 1), U, out=F[place])
            else:
                F[place] = 0
            if source in self.direct:
                F[place][unit, :, unit] += self.direct[source][k].T
        np.matmul(rows, F.transpose(1, 0, 2), out=out)


def can_batch(run: LinearisedRun, ends: Array) -> bool:
    """Whether the losses of these steps can be taken back all at once."""
    one = run.linear[run.top]
    fits = one.step.folded is not None and len(run.linear) == 1 and not run.also
    return fits and len(ends) == run.steps


def measure_batched(
    run: LinearisedRun, ends: Array, max_lag: int, starts: Sequence[int], *, keep: bool = False
) -> LagSums:
    """As `measure_by_lag`, for the losses of all steps."""
    folded = FoldedStep(run.linear[run.top])
    kept: dict[str, Array] = {}
    if use_compiled() and not keep and has_twin(run.linear[run.top].cell):
        norms, sums = folded.compiled(run, max_lag + 1, starts)
    else:
        norms, sums, kept = _step_by_step(run, folded, max_lag + 1, starts, keep)
    names = list(run.linear[run.top].sizes)
    found = LagSums({run.top: {name: norms[name] for name in names}}, _by_lag(run, folded, sums))
    found.kept = {run.top: kept} if keep else {}
    return found


def _step_by_step(
    run: LinearisedRun, folded: FoldedStep, lags: int, starts: Sequence[int], keep: bool
) -> tuple[dict[str, LagNorms], Array, dict[str, Array]]:
    """Norms, the rows added up over each stretch of lags (S, T, B, width), and the rows."""
    T, B = run.arriving.shape[:2]
    dtype = run.arriving.dtype
    norms = {part: LagNorms.zeros(T, lags, B) for part in folded.parts}
    kept = {}
    if keep:
        sizes = folded.one.sizes
        kept = {part: np.zeros((T, lags, B, sizes[part]), dtype) for part in folded.parts}
    sums = np.zeros((len(starts), T, B, folded.width), dtype)
    rows, before = np.zeros((2, B, T, folded.width), dtype)
    exponents = np.zeros((B, T), np.int32)
    for k in reversed(range(T)):
        reach = slice(k, min(T, k + lags))
        here, powers = rows[:, reach], exponents[:, reach]
        here[:, 0, folded.parts["h"]] = run.arriving[k]
        folded.arrive(k, here)
        lengths = {
            part: np.sqrt(np.einsum("bnh,bnh->bn", here[..., p], here[..., p]).astype(np.float64))
            for part, p in folded.parts.items()
        }
        counted, scaled = run.counted[reach].T, powers.any()
        for part, values in lengths.items():
            _add(norms[part], k, np.ldexp(values, powers) if scaled else values, counted)
        if starts or keep:
            true = np.ldexp(here, powers[..., None]) if scaled else here
            begins = [start for start in starts if start < true.shape[1]]
            if starts:
                sums[: len(begins), k] = np.add.reduceat(true, begins, axis=1).swapaxes(0, 1)
            for part, array in kept.items():
                lag = np.arange(true.shape[1])
                array[k + lag, lag] = true[..., folded.parts[part]].swapaxes(0, 1)
        if k:
            folded.vjp(k, here, before[:, reach])
            exponents[:, reach] = _rescaled(before[:, reach], list(lengths.values()), powers)
            rows, before = before, rows
            rows[:, k - 1] = 0
    return {part: _by_end(own) for part, own in norms.items()}, sums, kept


def _add(norms: LagNorms, k: int, values: Array, counted: Array) -> None:
    """Adds (B, n), where row j is the loss of step k + j at lag j, to row k of the sums."""
    n = values.shape[1]
    values = np.where(counted, values, 0)
    norms.total[k, :n] = values.sum(axis=0)
    norms.squares[k, :n] = np.einsum("bn,bn->n", values, values)
    norms.count[k, :n] = counted.sum(axis=0)
    norms.by_sequence[:n] += values.T
    norms.steps[:n] += counted.T


def _by_end(norms: LagNorms) -> LagNorms:
    """Turns sums by the step k that was reached into sums by the step t = k + l of the loss."""
    steps, lags = norms.total.shape
    k, lag = np.nonzero(np.arange(steps)[:, None] + np.arange(lags) < steps)
    for name in ("total", "squares", "count"):
        array = getattr(norms, name)
        by_end = np.zeros_like(array)
        by_end[k + lag, lag] = array[k, lag]
        setattr(norms, name, by_end)
    return norms


def _rescaled(rows: Array, lengths: list[Array], exponents: Array) -> Array:
    """Rescales rows that have left the range; returns the new exponents."""
    largest = np.maximum.reduce(lengths)
    if largest.max() < 2.0**RESCALED_BEYOND and largest.min() > 2.0**-RESCALED_BEYOND:
        return exponents
    shift = rescaling(largest)
    if shift.any():
        rows[...] = np.ldexp(rows, -shift[..., None])
    return np.asarray(exponents + shift)


def _by_lag(run: LinearisedRun, folded: FoldedStep, sums: Array) -> list[Parameters]:
    """The gradient of each stretch of lags, from the sums of its rows (S, T, B, width)."""
    found = []
    for one in sums:
        gradient = run.network.parameters.zeros_like()
        delta = folded.deltas(one)
        for number in reversed(range(run.top + 1)):
            layer, p = run.network.layers[number], run.network.of_layer(number)
            parts = layer.parameter_gradients(p, run.tape.layers[number], {"z": delta})
            for name, array in parts.items():
                gradient[f"{number}.{name}"][...] = array
            if number == run.top and number:
                delta = folded.one.to_inputs(slice(0, len(delta)), delta)
            elif number and "W" in p:  # dropout, which is not applied here, has no weights
                delta = input_gradient(delta, p["W"])
        found.append(gradient)
    for name, array in run.head.items() if found else ():
        found[0][name][...] = array
    return found


def compiled_vjps(
    cell: Cell,
    U: Array,
    factors: Array,
    carry: Array | None,
    through_h: Array | None,
    arriving: Array,
    counted: Array,
    lags: int,
    starts: Sequence[int],
) -> tuple[dict[str, LagNorms], Array]:
    """Takes all losses of a run back over `lags` lags, compiled.

    Args:
        cell: one with a compiled twin.
        U: (G·H, H).
        factors: (T, B, G, H), by which a gradient is multiplied before each gate's rows of U.
        carry: (T, B, H), the factor of δc (LSTM) or δh (GRU) past all gates.
        through_h: (T, B, H), for an LSTM: δc per δh within a step.
        arriving: (T, B, H), δh at every step from its own loss.
        counted: (T, B), whether a step has a loss.
        starts: the lags at which stretches of lags begin, from 0; may be empty.

    Returns:
        norms by part of the state, and the rows added up over each stretch, (S, T, B, width), with
        δc before δh.
    """
    T, B, H = arriving.shape
    parts = ENGINE_PARTS[: len(cell.state_specs)]
    total, squares = np.zeros((2, len(parts), T, lags))
    by_sequence = np.zeros((len(parts), lags, B))
    sums = _zeros(len(starts), T, B, len(parts) * H, arriving.dtype)
    if not counted.all():
        arriving = np.where(counted[..., None], arriving, arriving.dtype.type(0))
    arrays = [factors, carry, through_h, arriving]
    contiguous = [None if array is None else np.ascontiguousarray(array) for array in arrays]
    number = cell.engine_number
    assert number is not None
    begins = np.asarray(starts, np.intp) if len(starts) else None
    _engine.lags(number, begins, U, *contiguous, total, squares, by_sequence, sums)
    count, steps = _counts(counted, lags)
    return {
        part: LagNorms(total[n], squares[n], count.copy(), by_sequence[n], steps.copy())
        for n, part in enumerate(parts)
    }, sums


def _zeros(stretches: int, steps: int, batch: int, width: int, dtype: np.dtype[Any]) -> Array:
    """Zeros in memory that the engine keeps from one chunk of a run to the next."""
    found = _engine.empty(stretches * steps, batch, width, dtype == np.float64)
    found[...] = 0
    return found.reshape(stretches, steps, batch, width)


def _counts(counted: Array, lags: int) -> tuple[Array, Array]:
    """(T, L): the sequences whose loss at t reaches lag l; (L, B): the losses that reach it."""
    T = len(counted)
    there = np.arange(lags) <= np.arange(T)[:, None]
    count = np.where(there, counted.sum(axis=1)[:, None], 0.0)
    later = np.cumsum(counted[::-1], axis=0, dtype=np.float64)[::-1]  # row l: losses of t ≥ l
    return count, later[:lags]


def lag_matrix(
    network: Network,
    inputs: Array,
    targets: Array,
    *,
    state: Mapping[str, Array] | None = None,
    lengths: Array | None = None,
) -> dict[str, Array]:
    """‖∂E_t/∂s_k‖ for all pairs of steps, averaged over sequences; `tt.flow` has all the rest.

    Args:
        network: with a loss and a recurrent layer, in one direction only.
        inputs, targets, state, lengths: as in `Network.loss_and_gradient`. Nothing is dropped out.

    Returns:
        part of the state of the recurrent layer nearest to the loss, "h" and for LSTM "c", to
        (T, T): row t, column k; 0 for k > t, NaN in rows without a loss. This takes O(T·B·H + T²)
        memory.

    Raises:
        ValueError, TypeError: for a network through which nothing flows, or data that do not fit.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> from throughtime.gradient_flow import lag_matrix
        >>> net = tt.Network([tt.LSTM(2, 3)], tt.MeanSquaredError(), dtype="float64", seed=0)
        >>> x, y = np.ones((9, 4, 2)), np.zeros((9, 4, 3))
        >>> found = lag_matrix(net, x, y)
        >>> found["c"].shape, bool(np.allclose(found["c"], tt.flow(net, x, y).matrix("c")))
        ((9, 9), True)
    """
    recurrent_loss(network)
    network, inputs, targets = network.in_time(inputs, targets)
    outputs, _, tape = network.forward(inputs, state, lengths)
    loss = network.loss_of(outputs, array_of("targets", targets), lengths)
    run = linearised_run(network, tape, loss)
    ends = np.arange(run.steps)
    way = measure_batched if can_batch(run, ends) else measure_by_lag
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        norms = way(run, ends, run.steps - 1, ()).norms[run.top]
    return {part: _matrix(own.total, own.count) for part, own in norms.items()}


def _matrix(total: Array, count: Array) -> Array:
    """The means by step (T, T), from sums by lag (T, L)."""
    T = len(total)
    t, k = np.tril_indices(T)
    found = np.zeros((T, T))
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    found[t, k] = mean[t, t - k]
    return found
