"""Figures of a check: gradient against numerical derivative, and noise against truncation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradcheck import Direction, Report, TensorReport, Valley
from throughtime.report.figures import (
    BLUE,
    GREEN,
    GREY,
    LEGEND,
    RED,
    SERIES,
    cycle,
    logarithmic,
    new_axes,
    plain,
    raised,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TENSORS_IN_LEGEND = 14  # tensors in a legend; more would be longer than the figure
LETTERS_IN_LEGEND = 24  # of a name in it, likewise
FILLS = ("full", "none", "top", "left")  # of marks: tensors after the last colour begin anew
BESIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.02)}  # covers no point
AXIS_DECADES = 4  # of the axes on either side of 0


def plot_check(report: Report, ax: Axes | None = None) -> Axes:
    """Gradient against numerical derivative, with error bars, at the point as given.

    Dots are single entries, squares are directions along which a whole tensor or a part of it was
    moved; each tensor has its colour. On the line the two agree; a gradient that is k times too
    small is on a line beside it. Entries that were located as wrong are circled.

    Args:
        report: of the check.
        ax: where to draw; by default a new figure.
    """
    ax = ax or new_axes(5.8, 4.0)
    drawn = [
        _draw(ax, tensor, look, plain(shortened(name)) if number < TENSORS_IN_LEGEND else None)
        for number, ((name, tensor), look) in enumerate(
            zip(report.tensors.items(), _looks(len(report.tensors)), strict=True)
        )
    ]
    _ring(ax, list(report.tensors.values()))
    _symmetric(ax, max(drawn) or 1.0)
    ax.set_xlabel("numerical derivative")
    ax.set_ylabel("gradient under test")
    ax.grid(alpha=0.25)
    if max(drawn):
        many = len(drawn) > TENSORS_IN_LEGEND
        title = f"{TENSORS_IN_LEGEND} of {len(drawn)} tensors" if many else None
        ax.legend(title=title, title_fontsize=9, alignment="left", **BESIDE, **LEGEND)
    return ax


def plot_valley(report: Report, ax: Axes | None = None) -> Axes:
    """What the error bar of one derivative is made of, and the step that was chosen.

    The lines belong to the difference that was taken, of order p: the loss's noise, which a step h
    magnifies by 1/h, and truncation, which grows as hᵖ. Between them is the valley. The dots are
    the measured error bars of the best differences that reach as far as h.

    Args:
        report: of the check.
        ax: where to draw; by default a new figure.

    Raises:
        ValueError: if the check kept no valley.
    """
    valley = report.valley
    if valley is None:
        refuse("valley", "a check that chose a step", "none in this report")
    ax = ax or new_axes(4.4, 3.6)
    h, (noise, truncation) = valley.steps, error_parts(valley)
    grid = valley.chosen * np.geomspace(min(h) / valley.chosen / 10, max(h) / valley.chosen * 2)
    lines = {
        "noise, as 1/h": (noise * valley.chosen / grid, BLUE, "--"),
        f"truncation, as h{raised(valley.order)}": (
            truncation * (grid / valley.chosen) ** valley.order,
            GREEN,
            "-.",
        ),
    }
    for label, (values, colour, style) in lines.items():
        shown = np.isfinite(values) & (values > 0)
        ax.loglog(grid[shown], values[shown], style, color=colour, label=label, lw=1.4)
    measured = valley.noise + valley.truncation
    shown = np.isfinite(measured) & (measured > 0)
    ax.loglog(h[shown], measured[shown], "o", color=GREY, ms=4, label="error bar up to h")
    if shown.any():
        ax.set_ylim(measured[shown].min() / 30, measured[shown].max() * 3)
    ax.axvline(valley.chosen, color=RED, lw=0.9, label=f"step chosen, {valley.chosen:.2g}")
    logarithmic(ax.xaxis)
    logarithmic(ax.yaxis)
    ax.set_xlabel("step h")
    ax.set_ylabel("error of the derivative")
    ax.grid(alpha=0.25)
    ax.legend(**LEGEND)
    return ax


def shortened(name: str) -> str:
    """A long name without its middle, since tensors differ at the ends of their names.

    Example:
        >>> shortened("encoder.recurrent_layers.0.weight_hh_l0")
        'encoder.rec…weight_hh_l0'
    """
    half = LETTERS_IN_LEGEND // 2
    return name if len(name) <= LETTERS_IN_LEGEND else f"{name[: half - 1]}…{name[-half:]}"


def error_parts(valley: Valley) -> tuple[float, float]:
    """Noise and truncation at the step that was chosen."""
    place = int(np.abs(np.log(valley.steps / valley.chosen)).argmin())
    return float(valley.noise[place]), float(valley.truncation[place])


def _draw(ax: Axes, tensor: TensorReport, look: dict[str, Any], label: str | None) -> float:
    """Draws one tensor's entries and directions; returns the largest number among them."""
    largest = 0.0
    dots = (tensor.gradient, tensor.numerical, tensor.errors)
    for kind, columns in (("o", dots), ("s", _columns(tensor.directions))):
        known = np.isfinite(columns).all(axis=0)  # without an error bar there is no derivative
        gradient, numerical, errors = (column[known] for column in columns)
        if known.any():
            ax.errorbar(
                numerical,
                gradient,
                xerr=errors,
                fmt=kind,
                ms=3.5,
                lw=0.8,
                alpha=0.75,
                **look,
                label=label,
            )
            label = None
            largest = max(largest, float(np.abs([numerical, gradient]).max()))
    return largest


def _looks(count: int) -> list[dict[str, Any]]:
    """So many ways to draw a tensor: all colours with full marks, then all with hollow ones."""
    fills = [FILLS[k // len(SERIES) % len(FILLS)] for k in range(count)]
    return [
        {"color": colour, "fillstyle": fill}
        for colour, fill in zip(cycle(count), fills, strict=True)
    ]


def _columns(directions: tuple[Direction, ...]) -> tuple[Array, Array, Array]:
    """Gradients, numerical derivatives and error bars along directions."""
    columns = [[d.gradient, d.numerical, d.error] for d in directions]
    gradient, numerical, errors = np.array(columns, float).reshape(-1, 3).T
    return gradient, numerical, errors


def _ring(ax: Axes, tensors: list[TensorReport]) -> None:
    wrong = [entry for tensor in tensors for entry in tensor.wrong]
    if wrong:
        x, y = [entry.numerical for entry in wrong], [entry.gradient for entry in wrong]
        ax.plot(x, y, "o", mfc="none", mec=RED, ms=9, mew=1.2, label="located as wrong")


def _symmetric(ax: Axes, limit: float) -> None:
    """Makes both axes symmetric, logarithmic except near 0, and draws the line of agreement."""
    from matplotlib.ticker import NullLocator

    small = limit * 10.0**-AXIS_DECADES
    ax.plot([-limit, -small, small, limit], [-limit, -small, small, limit], color=GREY, lw=0.8)
    ax.set_xscale("symlog", linthresh=small)
    ax.set_yscale("symlog", linthresh=small)
    ticks = [sign * limit * 10.0**-k for sign in (-1, 1) for k in (0, 2)]
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(sorted([*ticks, 0.0]))
        axis.set_major_formatter(lambda value, _: f"{value:.2g}")
        axis.set_minor_locator(NullLocator())
