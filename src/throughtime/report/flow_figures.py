"""Figures of a flow: gradients by lag, what truncation gives up, and what each layer does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradient_flow import VANISHED_BELOW, Flow, LayerFlow
from throughtime.report.figures import BLUE, GREEN, GREY, LEGEND, ORANGE, RED, logarithmic, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEATMAP_CELLS = 160  # of a heatmap in either direction; more than that are averaged
COLOUR_DECADES = 6  # of its colours, at most
SMALLEST_BIAS, LARGEST_BIAS = 1e-12, 1e6  # relative biases beyond which nothing is drawn
NORM_LABEL = "‖∂Eₜ/∂{0}ₖ‖"
RARE_SHARE = 1e-3  # share of values that a histogram's colours begin with
WIDEST_SHARE = 3.0  # of the shares by path that are shown, where paths cancel one another


def lag_heatmap(
    flow: Flow, ax: Axes | None = None, *, layer: int | None = None, part: str | None = None
) -> Axes:
    """How large the gradient of each step's loss is, so many steps back.

    Row: the step t of the loss; column: the lag t − k; colour: ‖∂E_t/∂s_k‖, mean over sequences,
    on a logarithmic scale of at most six decades. It is blank where k would be before the first
    step. There are lags below 0 if losses look at what comes after them. The advised K is marked if
    lags are those of the recurrence alone. If there are more than 160 rows or columns, neighbours
    are averaged.

    Args:
        flow: from `tt.flow`.
        ax: where to draw; by default a new figure.
        layer: its number; by default the recurrent layer nearest to the loss.
        part: "h" or "c"; by default the part that the layer remembers with, which is c in an LSTM.

    Raises:
        ValueError: for a layer or a part that does not exist.
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
        low = max(float(np.nanmin(values)), top * 10.0**-COLOUR_DECADES)
        norm = LogNorm(min(low, top / 10), top)
        extent = (first - 0.5, lags - 0.5, steps - 0.5, -0.5)
        drawn = ax.imshow(values, norm=norm, aspect="auto", extent=extent, interpolation="nearest")
        label = f"{NORM_LABEL.format(part)}, mean over {_count(flow.batch, 'sequence')}"
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
    """The label of an axis of lags, which a second direction counts the other way."""
    if layer.backwards:
        return "lag k − t (steps after the loss)"
    return "lag t − k (steps back from the loss)"


def lag_profile(flow: Flow, ax: Axes | None = None, *, layer: int | None = None) -> Axes:
    """The gradient by lag, averaged over losses and sequences, with the advised K marked.

    There is a line for each part of the state, and a thin one for what goes through the recurrence
    alone if losses look at several steps past it; and one for what the verdict is on, in which each
    lag is compared with the one before over the same losses. The band is the standard deviation
    over sequences; bars are the standard error if only some losses were followed back. The level of
    1 % of lag 0, below which a gradient counts as vanished, belongs to that line.

    Args:
        flow: from `tt.flow`.
        ax: where to draw; by default a new figure.
        layer: its number; by default the recurrent layer nearest to the loss.

    Raises:
        ValueError: for a layer that does not exist.
    """
    one = layer_of(flow, layer)
    ax = ax or new_axes(5.2, 3.8)
    styles = {"h": (ORANGE, "--"), "c": (BLUE, "-")} if "c" in one.norms else {"h": (BLUE, "-")}
    for part, (colour, style) in styles.items():
        _line_with_band(ax, one, part, colour, style)
        if one.recurrent_profile:
            alone = np.where(one.recurrent_profile[part] > 0, one.recurrent_profile[part], np.nan)
            label = f"{NORM_LABEL.format(part)} by recurrence alone"
            ax.plot(alone, ":", marker=".", ms=3, color=colour, lw=1.0, label=label)
    start = float((one.recurrent_profile or one.profile)[one.remembers][0])
    if np.isfinite(start) and start > 0:
        compared = np.where(one.compared > 0, start * one.compared, np.nan)
        label = f"{one.remembers}, same losses compared (verdict)"
        ax.plot(compared, color="black", lw=0.8, ls="--", label=label)
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
        ax: where to draw; by default a new figure.
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
        shown = (values > SMALLEST_BIAS) & (values < LARGEST_BIAS)
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
        say(ax, "truncation gives up nothing, or nothing is known")
    ax.set_xlabel("steps K that each loss is followed back")
    ax.set_ylabel("‖truncated − full‖ / ‖full‖")
    ax.grid(alpha=0.25)
    return whole_numbers(ax, x=int(bias.steps[-1]) + 1)


def layer_of(flow: Flow, number: int | None) -> LayerFlow:
    """The recurrent layer of this number, or the one nearest to the loss."""
    if number is None:
        return flow.top
    if number not in flow.layers:
        refuse("layer", f"one of {', '.join(map(str, flow.layers))}", number)
    return flow.layers[number]


def part_of(layer: LayerFlow, part: str | None) -> str:
    """The part of the state, or the one that the layer remembers with."""
    if part is None:
        return layer.remembers
    if part not in layer.norms:
        refuse("part", " or ".join(layer.norms), repr(part))
    return part


def shown_norms(norms: Array) -> tuple[Array, float]:
    """(n, L) as at most 160 × 160 means of what is finite and above 0, or NaN; and the largest."""
    values = np.where(np.isfinite(norms) & (norms > 0), norms, np.nan)
    for axis in (0, 1):
        size = values.shape[axis]
        cuts = np.arange(min(size, HEATMAP_CELLS)) * size // min(size, HEATMAP_CELLS)
        counts = np.add.reduceat(np.isfinite(values).astype(float), cuts, axis)
        sums = np.add.reduceat(np.nan_to_num(values), cuts, axis)
        values = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    known = values[np.isfinite(values)]
    return values, float(known.max()) if known.size else 0.0


def mark_truncation(flow: Flow, ax: Axes) -> None:
    """Draws a line at the advised K: lags from K on are given up."""
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
    """Writes words in place of what cannot be drawn."""
    ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", color=GREY)


def whole_numbers(ax: Axes, x: int = 0, y: int = 0) -> Axes:
    """Puts ticks at whole numbers only, on the axes that count so many steps."""
    from matplotlib.ticker import MaxNLocator

    for axis, count in ((ax.xaxis, x), (ax.yaxis, y)):
        if count:
            axis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    return ax


def _line_with_band(ax: Axes, layer: LayerFlow, part: str, colour: str, style: str) -> None:
    profile, spread = layer.profile[part], layer.profile_spread[part]
    lags = np.arange(len(profile))
    shown = np.isfinite(profile) & (profile > 0)
    label = NORM_LABEL.format(part)
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


def carousel(flow: Flow, ax: Axes | None = None, *, layer: int | None = None) -> Axes:
    """Carousel against gates: by lag, the share of the gradient that took each kind of path.

    Along the carry alone (the forget gates of an LSTM, z of a GRU), through the gates alone, or
    along both. The three add up to 1; where paths cancel one another, one is below 0.

    Args:
        flow: from `tt.flow`.
        ax: where to draw; by default a new figure.
        layer: its number; by default the recurrent layer nearest to the loss.

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
        "both": ("through both", GREEN, "-."),
    }
    known = np.concatenate([shares[np.isfinite(shares)] for shares in one.paths.values()])
    for path, (label, colour, style) in styles.items():
        shares = one.paths[path]
        marker = "o" if np.isfinite(shares).sum() == 1 else ""
        lags = np.arange(len(shares))
        ax.plot(lags, 100 * shares, style, marker=marker, color=colour, lw=1.6, label=label)
    if known.size:
        low, high = max(-WIDEST_SHARE, known.min()), min(WIDEST_SHARE, known.max())
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
        ax: where to draw; by default a new figure.
        layer: its number; by default the recurrent layer nearest to the loss.

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
        ax: where to draw; by default a new figure.
        layer: its number; by default the recurrent layer nearest to the loss.

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
        ax: where to draw; by default a new figure.
        layer: its number; by default the recurrent layer nearest to the loss.

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
        ax: where to draw; by default a new figure.
        layer: its number; by default the recurrent layer nearest to the loss.

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
        found.steps, found.edges, shares.T, norm=LogNorm(RARE_SHARE, 1), rasterized=True
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
