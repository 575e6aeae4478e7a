"""Figures of one recurrent layer: carousel, time constants, spectrum, gates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradient_flow import Flow
from throughtime.report.figures import BLUE, GREEN, LEGEND, ORANGE, RED, logarithmic, new_axes
from throughtime.report.flow_figures import lag_label, layer_of, mark_truncation, say, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RARE = 1e-3  # share of values that a histogram's colours begin with
WIDEST = 3.0  # of the shares by path that are shown, where paths cancel one another


def carousel(flow: Flow, ax: Axes | None = None, *, layer: int | None = None) -> Axes:
    """Carousel against gates: by lag, the share of the gradient that took each kind of path.

    Along the carry alone (the forget gates of an LSTM, z of a GRU), through the gates alone, or
    along both. The three add up to 1; where paths cancel one another, one is below 0.

    Args:
        flow: from `tt.flow`.
        ax: where to draw; a new figure without it.
        layer: its number; the recurrent layer nearest to the loss without it.

    Raises:
        ValueError: for a layer that is not there, or has no carry, or with `carousel=False`.
    """
    one = layer_of(flow, layer)
    if not one.paths:
        refuse("carousel", "an LSTM or a GRU looked at with carousel=True", one.kind)
    ax = ax or new_axes(5.2, 3.8)
    carry = "c" if one.remembers == "c" else "z"
    styles = {
        "carry": (f"along {carry} alone", BLUE, "-"),
        "gates": ("through the gates alone", ORANGE, "--"),
        "both": ("along both", GREEN, "-."),
    }
    known = np.concatenate([shares[np.isfinite(shares)] for shares in one.paths.values()])
    for path, (label, colour, style) in styles.items():
        shares = one.paths[path]
        marker = "o" if np.isfinite(shares).sum() == 1 else ""
        lags = np.arange(len(shares))
        ax.plot(lags, 100 * shares, style, marker=marker, color=colour, lw=1.6, label=label)
    if known.size:
        low, high = max(-WIDEST, known.min()), min(WIDEST, known.max())
        ax.set_ylim(100 * min(-0.05, low * 1.05), 100 * max(1.05, high * 1.05))
        mark_truncation(flow, ax)
        ax.legend(**LEGEND)
    else:
        say(ax, "the gradient is 0 at all lags")
    ax.set_xlabel(lag_label(one))
    ax.set_ylabel(f"share of ∂Eₜ/∂{one.remembers}ₖ (%)")
    ax.grid(alpha=0.25)
    return whole_numbers(ax, x=flow.max_lag + 1)


def time_constants(flow: Flow, ax: Axes | None = None, *, layer: int | None = None) -> Axes:
    """For how long each unit remembers: time constants of its carry, longest first.

    Triangles at the upper edge are units that never forget. The lag that the data need is marked
    where it is known.

    Args:
        flow: from `tt.flow`.
        ax: where to draw; a new figure without it.
        layer: its number; the recurrent layer nearest to the loss without it.

    Raises:
        ValueError: for a layer that is not there or has no carry.
    """
    one = layer_of(flow, layer)
    if one.time_constants is None:
        refuse("time_constants", "an LSTM or a GRU", one.kind)
    ax = ax or new_axes(5.2, 3.4)
    values = one.time_constants[one.units_that_remember(-1)]
    finite = np.isfinite(values) & (values > 0)
    rank = np.arange(1, len(values) + 1)
    if finite.any():
        ax.semilogy(rank[finite], values[finite], "o", color=BLUE, ms=3.5)
    if np.isinf(values).any():
        top = 10 * max(1.0, values[finite].max(initial=1.0))
        forever = rank[np.isinf(values)]
        ax.semilogy(forever, np.full(len(forever), top), "^", color=BLUE, label="never forget")
    memory = flow.advice.memory
    if memory is not None:
        ax.axhline(memory, color=GREEN, lw=0.9, ls="-.", label=f"needed lag {memory}")
    if ax.get_legend_handles_labels()[1]:
        ax.legend(**LEGEND)
    logarithmic(ax.yaxis)
    ax.set_xlabel("units, the longest memory first")
    ax.set_ylabel("time constant (steps)")
    ax.grid(alpha=0.25)
    return whole_numbers(ax, x=one.units)


def singular_values(flow: Flow, ax: Axes | None = None, *, layer: int | None = None) -> Axes:
    """Singular values of ∂s_t/∂s_{t−1}, over h and c together, at a few steps.

    Thin lines are single steps, the thick one is their median. Above 1 a small change of the
    state grows in the next step, below it shrinks.

    Args:
        flow: from `tt.flow`.
        ax: where to draw; a new figure without it.
        layer: its number; the recurrent layer nearest to the loss without it.

    Raises:
        ValueError: for a layer that is not there, or with `spectrum=False`.
    """
    one = layer_of(flow, layer)
    if not one.singular_values.size:
        refuse("singular_values", "a flow looked at with spectrum=True", "none")
    ax = ax or new_axes(5.2, 3.4)
    values = one.singular_values
    number = np.arange(1, values.shape[1] + 1)
    for row in values:
        _positive(ax, number, row, color=BLUE, lw=0.7, alpha=0.35)
    marker = "o" if len(number) == 1 else ""
    middle = np.median(values, axis=0)
    _positive(ax, number, middle, color=BLUE, lw=2, marker=marker, label="median over steps")
    ax.axhline(1, color=RED, lw=0.9, ls="--", label="1: neither grows nor shrinks")
    ax.set_yscale("log")
    ax.set_ylim(bottom=max(1e-8, ax.get_ylim()[0]))
    logarithmic(ax.yaxis)
    ax.set_xlabel("singular value, the largest first")
    ax.set_ylabel("factor per step")
    ax.grid(alpha=0.25)
    ax.legend(**LEGEND)
    return whole_numbers(ax, x=len(number))


def lyapunov(flow: Flow, ax: Axes | None = None, *, layer: int | None = None) -> Axes:
    """How the first Lyapunov exponents settle along the run; bars: spread over sequences.

    Args:
        flow: from `tt.flow`.
        ax: where to draw; a new figure without it.
        layer: its number; the recurrent layer nearest to the loss without it.

    Raises:
        ValueError: for a layer that is not there, or with `spectrum=False`.
    """
    from matplotlib import colormaps

    found = layer_of(flow, layer).lyapunov
    if found is None:
        refuse("lyapunov", "a flow looked at with spectrum=True", "none")
    ax = ax or new_axes(5.2, 3.4)
    colours = colormaps["viridis"](np.linspace(0.2, 0.8, len(found.exponents)))
    for k, (colour, exponent) in enumerate(zip(colours, found.exponents, strict=True)):
        label = f"{k + 1}: {exponent:+.3g}" if k < 4 else None
        line = {"color": colour, "lw": 1.8 if k == 0 else 1.0, "ms": 3}
        ax.plot(found.steps, found.convergence[:, k], "o-", label=label, **line)
        if found.spread[k] > 0 and np.isfinite(exponent):
            last = found.steps[-1]
            ax.errorbar(last, exponent, found.spread[k], fmt="none", ecolor=colour, capsize=3)
    ax.axhline(0, color=RED, lw=0.9, ls="--")
    ax.set_xlabel("steps followed")
    ax.set_ylabel("exponent (nats per step)")
    ax.grid(alpha=0.25)
    ax.legend(title="exponent", title_fontsize=9, ncols=2, **LEGEND)
    return whole_numbers(ax, x=int(found.steps[-1]))


def gate_histogram(
    flow: Flow, gate: str, ax: Axes | None = None, *, layer: int | None = None
) -> Axes:
    """How one gate's values are spread over time: a histogram for each stretch of steps.

    Args:
        flow: from `tt.flow`.
        gate: its letter: i, f, a, o of an LSTM, r, z, n of a GRU, s of an RNN.
        ax: where to draw; a new figure without it.
        layer: its number; the recurrent layer nearest to the loss without it.

    Raises:
        ValueError: for a layer or a gate that is not there.
    """
    from matplotlib.colors import LogNorm

    one = layer_of(flow, layer)
    if gate not in one.gate_history:
        refuse("gate", " or ".join(one.gate_history), repr(gate))
    ax = ax or new_axes(5.2, 3.0)
    found = one.gate_history[gate]
    shares = np.where(found.shares > 0, found.shares, np.nan)
    drawn = ax.pcolormesh(
        found.steps, found.edges, shares.T, norm=LogNorm(RARE, 1), rasterized=True
    )
    bar = ax.figure.colorbar(drawn, ax=ax, label="share of values", extend="min")
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    bar.ax.yaxis.minorticks_off()
    if found.edges[-1] > 1:  # a ReLU
        ax.set_yscale("symlog", linthresh=float(found.edges[1]))
    ax.set_xlabel("step t")
    ax.set_ylabel(f"value of {gate}")
    return whole_numbers(ax, x=flow.steps)


def _positive(ax: Axes, x: Array, values: Array, **style: object) -> None:
    """A line where it can stand on a logarithmic axis."""
    shown = np.isfinite(values) & (values > 0)
    ax.plot(x[shown], values[shown], **style)  # type: ignore[arg-type]
