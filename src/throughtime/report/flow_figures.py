"""Figures of a flow: gradients by lag, and what truncation gives up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradient_flow import VANISHED_BELOW, Flow, LayerFlow
from throughtime.report.figures import BLUE, GREEN, GREY, LEGEND, ORANGE, RED, logarithmic, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CELLS = 160  # of a heatmap in either direction; more than that are averaged
DECADES = 6  # of its colours, at most
SMALL, LARGE = 1e-12, 1e6  # relative biases beyond which nothing is drawn
NORM = "‖∂Eₜ/∂{0}ₖ‖"


def lag_heatmap(
    flow: Flow, ax: Axes | None = None, *, layer: int | None = None, part: str | None = None
) -> Axes:
    """How large the gradient of each step's loss still is, so many steps back.

    Row: the step t of the loss; column: the lag t − k; colour: ‖∂E_t/∂s_k‖, mean over sequences,
    on a logarithmic scale of at most six decades. Blank where there is nothing: k would lie
    before the first step. Lags below 0 are there where losses look at what comes after them. The
    advised K is marked, where lags are those of the recurrence alone. Of more than 160 rows or
    columns neighbours are averaged.

    Args:
        flow: from `tt.flow`.
        ax: where to draw; a new figure without it.
        layer: its number; the recurrent layer nearest to the loss without it.
        part: "h" or "c"; what the layer remembers with, c of an LSTM, without it.

    Raises:
        ValueError: for a layer or a part that is not there.
    """
    from matplotlib.colors import LogNorm

    one = layer_of(flow, layer)
    part = part_of(one, part)
    ax = ax or new_axes(5.2, 4.2)
    norms, lags, steps = one.norms[part], flow.max_lag + 1, flow.steps
    first = 0
    if one.ahead:
        norms = np.concatenate([one.ahead[part][:, ::-1], norms], axis=1)
        first = -one.ahead[part].shape[1]
    values, top = shown_norms(norms)
    if top > 0:
        low = max(float(np.nanmin(values)), top * 10.0**-DECADES)
        norm = LogNorm(min(low, top / 10), top)
        extent = (first - 0.5, lags - 0.5, steps - 0.5, -0.5)
        drawn = ax.imshow(values, norm=norm, aspect="auto", extent=extent, interpolation="nearest")
        label = f"{NORM.format(part)}, mean over {_count(flow.batch, 'sequence')}"
        logarithmic(ax.figure.colorbar(drawn, ax=ax, label=label, extend="min").ax.yaxis)
        if not one.recurrent_profile:
            mark_truncation(flow, ax)
    else:
        say(ax, "the gradient is 0, or not finite, at all lags")
        ax.set(xlim=(first - 0.5, lags - 0.5), ylim=(steps - 0.5, -0.5))
    ax.set_xlabel(lag_label(one))
    ax.set_ylabel("step t of the loss")
    return whole_numbers(ax, x=lags, y=steps)


def lag_label(layer: LayerFlow) -> str:
    """Of an axis: a second direction goes the other way."""
    if layer.backwards:
        return "lag k − t (steps after the loss)"
    return "lag t − k (steps back from the loss)"


def lag_profile(flow: Flow, ax: Axes | None = None, *, layer: int | None = None) -> Axes:
    """The gradient by lag, averaged over losses and sequences, with the advised K marked.

    A line for each part of the state, and a thin one for what goes through the recurrence alone
    where losses look at several steps past it. The band is the standard deviation over
    sequences, bars are the standard error where only some losses were followed back. The level
    of 1 % of lag 0, from which on a gradient counts as vanished, belongs to the part that the
    layer remembers with, and to the recurrence.

    Args:
        flow: from `tt.flow`.
        ax: where to draw; a new figure without it.
        layer: its number; the recurrent layer nearest to the loss without it.

    Raises:
        ValueError: for a layer that is not there.
    """
    one = layer_of(flow, layer)
    ax = ax or new_axes(5.2, 3.8)
    styles = {"h": (ORANGE, "--"), "c": (BLUE, "-")} if "c" in one.norms else {"h": (BLUE, "-")}
    for part, (colour, style) in styles.items():
        _line_with_band(ax, one, part, colour, style)
        if one.recurrent_profile:
            alone = np.where(one.recurrent_profile[part] > 0, one.recurrent_profile[part], np.nan)
            label = f"{NORM.format(part)} by recurrence alone"
            ax.plot(alone, ":", marker=".", ms=3, color=colour, lw=1.0, label=label)
    judged = one.recurrent_profile or one.profile  # what the verdict is on
    start = float(judged[one.remembers][0])
    if np.isfinite(start) and start > 0:
        label = f"{VANISHED_BELOW:.0%} of {one.remembers} at lag 0"
        ax.axhline(VANISHED_BELOW * start, color=GREY, lw=0.9, ls=":", label=label)
        ax.set_yscale("log")
        ax.set_ylim(bottom=max(start * 1e-12, ax.get_ylim()[0]))
        logarithmic(ax.yaxis)
    mark_truncation(flow, ax)
    if flow.advice.memory is not None and flow.advice.memory <= flow.max_lag:
        label = f"needed lag {flow.advice.memory}"
        ax.axvline(flow.advice.memory, color=GREEN, lw=0.9, ls="-.", label=label)
    ax.set_xlabel(lag_label(one))
    ax.set_ylabel("‖∂Eₜ/∂sₖ‖, mean over t")
    ax.grid(alpha=0.25)
    ax.legend(**LEGEND)
    return whole_numbers(ax, x=flow.max_lag + 1)


def truncation_bias(flow: Flow, ax: Axes | None = None) -> Axes:
    """What truncation gives up, by the number of steps K that each loss is followed back.

    Args:
        flow: from `tt.flow`.
        ax: where to draw; a new figure without it.
    """
    ax = ax or new_axes(5.2, 3.8)
    bias, advised = flow.bias, flow.advice.truncation
    lines = {
        "relative bias": (bias.relative, BLUE, "o-"),
        "95 % of other data stay below": (bias.upper, ORANGE, "--"),
        "even if no two lags cancel": (bias.bound, GREEN, "-."),
    }
    some = False
    for label, (values, colour, style) in lines.items():
        shown = (values > SMALL) & (values < LARGE)
        if shown.any():
            some = True
            ax.plot(
                bias.steps[shown], values[shown], style, color=colour, ms=3, lw=1.4, label=label
            )
    if some:
        ax.set_yscale("log")
        ax.axhline(advised.asked, color=GREY, lw=0.9, ls=":", label=f"asked: {advised.asked:.3g}")
        logarithmic(ax.yaxis)
        mark_truncation(flow, ax)
        ax.legend(**LEGEND)
    else:
        say(ax, "truncation gives up nothing, or nothing can be told")
    ax.set_xlabel("steps K that each loss is followed back")
    ax.set_ylabel("‖truncated − full‖ / ‖full‖")
    ax.grid(alpha=0.25)
    return whole_numbers(ax, x=int(bias.steps[-1]) + 1)


def layer_of(flow: Flow, number: int | None) -> LayerFlow:
    """A recurrent layer by its number, or the one nearest to the loss."""
    if number is None:
        return flow.top
    if number not in flow.layers:
        refuse("layer", f"one of {', '.join(map(str, flow.layers))}", number)
    return flow.layers[number]


def part_of(layer: LayerFlow, part: str | None) -> str:
    """A part of the state, or the one that the layer remembers with."""
    if part is None:
        return layer.remembers
    if part not in layer.norms:
        refuse("part", " or ".join(layer.norms), repr(part))
    return part


def shown_norms(norms: Array) -> tuple[Array, float]:
    """(n, L) as at most 160 × 160 means of what is finite and above 0, else NaN; the largest."""
    values = np.where(np.isfinite(norms) & (norms > 0), norms, np.nan)
    for axis in (0, 1):
        size = values.shape[axis]
        cuts = np.arange(min(size, CELLS)) * size // min(size, CELLS)
        counts = np.add.reduceat(np.isfinite(values).astype(float), cuts, axis)
        sums = np.add.reduceat(np.nan_to_num(values), cuts, axis)
        values = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    known = values[np.isfinite(values)]
    return values, float(known.max()) if known.size else 0.0


def mark_truncation(flow: Flow, ax: Axes) -> None:
    """A line at the advised K: what lies at K and beyond is given up."""
    steps = flow.advice.truncation.steps
    if steps is not None and steps <= flow.max_lag + 1:
        ax.axvline(steps, color=RED, lw=1.2)
        ax.annotate(
            f"K = {steps}",
            (steps, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -3),
            textcoords="offset points",
            va="top",
            fontsize=9,
            color=RED,
        )


def say(ax: Axes, words: str) -> None:
    """Words in place of what cannot be drawn."""
    ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", color=GREY)


def whole_numbers(ax: Axes, x: int = 0, y: int = 0) -> Axes:
    """Ticks at whole numbers of steps only, on the axes that count so many of them."""
    from matplotlib.ticker import MaxNLocator

    for axis, count in ((ax.xaxis, x), (ax.yaxis, y)):
        if count:
            axis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    return ax


def _line_with_band(ax: Axes, layer: LayerFlow, part: str, colour: str, style: str) -> None:
    profile, spread = layer.profile[part], layer.profile_spread[part]
    lags = np.arange(len(profile))
    shown = np.isfinite(profile) & (profile > 0)
    label = NORM.format(part)
    marker = "o" if shown.sum() == 1 else ""
    ax.plot(lags[shown], profile[shown], style, marker=marker, color=colour, lw=1.6, label=label)
    lower = np.maximum(profile - spread, profile / 10)
    ax.fill_between(
        lags, lower, profile + spread, where=shown, color=colour, alpha=0.18, linewidth=0
    )
    error = layer.profile_error[part]
    some = shown & (error > 0)
    some[np.arange(len(some)) % max(1, len(some) // 25) > 0] = False
    if some.any():
        ax.errorbar(lags[some], profile[some], error[some], fmt="none", ecolor=colour, capsize=2)


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'s' if number > 1 else ''}"
