"""All losses of a run at one step: one matrix for each sequence takes them to the step before.

What a step does before its product with U is a product with numbers that are the same for all
losses. They fold into U: of an LSTM, δh_{t−1} = (Σ_g diag(γ_g) U_g)ᵀ δc + (diag(γ_o) U_o)ᵀ δh, half
of the arithmetic of four gates one by one, a third for a GRU; and δz need not be written down,
since its sum over losses follows from the sums of δc and δh.

It needs one recurrent layer whose step is such a product, and the losses of all steps; otherwise
`measure` does the same with `walk`. Both are tested against backward passes, and the walk here
against its compiled twin, which answers unless the gradients themselves are to be kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import input_gradient
from throughtime.engine_settings import use_compiled
from throughtime.gradient_flow.compiled import walk_back
from throughtime.gradient_flow.linear import Linear, LinearGRU, LinearLSTM, LinearRNN
from throughtime.gradient_flow.measure import Measured, Norms
from throughtime.gradient_flow.tolerances import RESCALED_BEYOND
from throughtime.gradient_flow.walk import Lines
from throughtime.parameters import Parameters


class Folded:
    """One step for all losses: rows (B, n, width), for an LSTM δc beside δh, else δh."""

    def __init__(self, one: Linear) -> None:
        self.one, self.H = one, one.cell.units
        self.decay: Array | None = None  # of c alone
        H, U = self.H, one.p["U"]
        if isinstance(one, LinearLSTM):
            factors = [one.gamma, one.gamma_o[:, :, None]]
            self.to_z = np.concatenate(factors, axis=2)
            self.halves = [(factors[0], U[: 3 * H]), (factors[1], U[3 * H :])]
            assert one.carry is not None
            self.decay = one.carry if one.peep is None else one.carry + one.peep
        elif isinstance(one, LinearGRU):
            self.to_z, self.halves = one.to_z, [(one.to_u, U)]
        else:
            assert isinstance(one, LinearRNN)
            self.to_z = one.slope[:, :, None]
            self.halves = [(self.to_z, U)]
        self.width = H * len(self.halves)
        # (H, gates, H) each: row j of every gate's U.
        self.U = [part.reshape(-1, H, H).transpose(1, 0, 2).copy() for _, part in self.halves]
        self.parts = {"h": slice(self.width - H, self.width)}
        if self.width > H:
            self.parts["c"] = slice(0, H)

    def arrive(self, k: int, rows: Array) -> None:
        """δc takes up what comes through h_k = o ⊙ tanh c_k."""
        if isinstance(self.one, LinearLSTM):
            rows[..., : self.H] += rows[..., self.H :] * self.one.beta[k][:, None]

    def vjp(self, k: int, rows: Array, out: Array) -> None:
        """To the step before k."""
        B, H = rows.shape[0], self.H
        F = np.empty((self.width, B, H), rows.dtype)
        for number, (factors, _) in enumerate(self.halves):
            part = F[number * H : (number + 1) * H]
            np.matmul(factors[k].transpose(2, 0, 1), self.U[number], out=part)
        if isinstance(self.one, LinearGRU):
            assert self.one.carry is not None
            unit = np.arange(H)
            F[unit, :, unit] += self.one.carry[k].T
        np.matmul(rows, F.transpose(1, 0, 2), out=out[..., self.parts["h"]])
        if isinstance(self.one, LinearLSTM):
            assert self.decay is not None
            np.multiply(rows[..., :H], self.decay[k][:, None], out=out[..., :H])

    def compiled(
        self, run: Lines, lags: int, starts: Sequence[int]
    ) -> tuple[dict[str, Norms], Array]:
        """All steps, compiled; as `_walk`."""
        one = self.one
        factors, carry, through_h = self.to_z, one.carry, None
        if isinstance(one, LinearLSTM):
            carry, through_h = self.decay, one.beta
        elif isinstance(one, LinearGRU):
            factors = one.to_u
        given = (run.arriving, run.counted, lags, starts)
        return walk_back(one.cell, one.p["U"], factors, carry, through_h, *given)

    def deltas(self, sums: Array, dz: Array) -> Array:
        """Sums of rows (T, B, width) -> of δz (T, B, G·H), in the memory of dz (T, B, G, H)."""
        T, B, H = (*sums.shape[:2], self.H)
        if self.width == H:
            np.multiply(sums[:, :, None], self.to_z, out=dz)
            return dz.reshape(T, B, -1)
        np.multiply(sums[:, :, None, :H], self.to_z[:, :, :3], out=dz[:, :, :3])
        np.multiply(sums[:, :, H:], self.to_z[:, :, 3], out=dz[:, :, 3])
        return dz.reshape(T, B, -1)


def applies(run: Lines, ends: Array) -> bool:
    """Whether this file can do it."""
    one = run.linear[run.top]
    kinds = (LinearRNN, LinearLSTM, LinearGRU)
    fits = isinstance(one, kinds) and "R" not in one.p and len(run.linear) == 1 and not run.also
    return fits and len(ends) == run.steps


def measure_batched(
    run: Lines, ends: Array, max_lag: int, starts: Sequence[int], *, keep: bool = False
) -> Measured:
    """As `measure`, of the losses of all steps."""
    folded = Folded(run.linear[run.top])
    kept: dict[str, Array] = {}
    if use_compiled() and not keep:
        norms, sums = folded.compiled(run, max_lag + 1, starts)
    else:
        norms, sums, kept = _walk(run, folded, max_lag + 1, starts, keep)
    names = list(run.linear[run.top].sizes)
    found = Measured({run.top: {name: norms[name] for name in names}}, _by_lag(run, folded, sums))
    found.kept = {run.top: kept} if keep else {}
    return found


def _walk(
    run: Lines, folded: Folded, lags: int, starts: Sequence[int], keep: bool
) -> tuple[dict[str, Norms], Array, dict[str, Array]]:
    """Norms, the rows added up over each stretch of lags (S, T, B, width), and the rows."""
    T, B = run.arriving.shape[:2]
    dtype = run.arriving.dtype
    norms = {part: Norms.zeros(T, lags, B) for part in folded.parts}
    kept = {}
    if keep:
        kept = {part: np.zeros((T, lags, B, folded.H), dtype) for part in folded.parts}
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


def _add(norms: Norms, k: int, values: Array, counted: Array) -> None:
    """(B, n): row j is the loss of step k + j, at lag j; row k of the sums for now."""
    n = values.shape[1]
    values = np.where(counted, values, 0)
    norms.total[k, :n] = values.sum(axis=0)
    norms.squares[k, :n] = np.einsum("bn,bn->n", values, values)
    norms.count[k, :n] = counted.sum(axis=0)
    norms.by_sequence[:n] += values.T
    norms.steps[:n] += counted.T


def _by_end(norms: Norms) -> Norms:
    """Sums by the step k that was reached -> by the step t = k + l of the loss."""
    steps, lags = norms.total.shape
    k, lag = np.nonzero(np.arange(steps)[:, None] + np.arange(lags) < steps)
    for name in ("total", "squares", "count"):
        array = getattr(norms, name)
        by_end = np.zeros_like(array)
        by_end[k + lag, lag] = array[k, lag]
        setattr(norms, name, by_end)
    return norms


def _rescaled(rows: Array, lengths: list[Array], exponents: Array) -> Array:
    """Multiplies rows that have left the range by powers of two; the new exponents."""
    largest = np.maximum.reduce(lengths)
    if largest.max() < 2.0**RESCALED_BEYOND and largest.min() > 2.0**-RESCALED_BEYOND:
        return exponents
    _, powers = np.frexp(np.where(np.isfinite(largest), largest, 1.0))
    outside = (np.abs(powers) > RESCALED_BEYOND) & (largest > 0)
    shift = np.where(outside, powers, 0).astype(np.int32)
    if shift.any():
        rows[...] = np.ldexp(rows, -shift[..., None])
    return np.asarray(exponents + shift)


def _by_lag(run: Lines, folded: Folded, sums: Array) -> list[Parameters]:
    """The gradient of each stretch of lags, from the sums of its rows; (S, T, B, width)."""
    found = []
    dz = np.empty_like(folded.to_z)  # asked from the system once, not for each stretch
    for one in sums:
        gradient = run.network.parameters.zeros_like()
        delta = folded.deltas(one, dz)
        for number in reversed(range(run.top + 1)):
            layer, p = run.network.layers[number], run.network.of_layer(number)
            parts = layer.parameter_gradients(p, run.tape.layers[number], {"z": delta})
            for name, array in parts.items():
                gradient[f"{number}.{name}"][...] = array
            if number and "W" in p:  # dropout, which drops nothing here, has no weights
                delta = input_gradient(delta, p["W"])
        found.append(gradient)
    for name, array in run.head.items() if found else ():
        found[0][name][...] = array
    return found
