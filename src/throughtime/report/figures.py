"""What all figures share, and the figures of a sweep and of training.

Each function takes `ax=None` and returns the Axes. matplotlib is imported only when it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from throughtime.arrays import in_a_line
from throughtime.gradcheck import Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which stay apart for colour-blind readers.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7f7f7f"
SERIES = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#8C6D1F", RED)

LINES = ("-", "--", "-.", ":")  # of curves: those after the last colour begin anew

LEGEND: dict[str, Any] = {"fontsize": 9, "framealpha": 0.85, "edgecolor": "none"}

INSTALL_REPORT = "figures and pages need matplotlib and Jinja2: pip install matplotlib jinja2"


def new_axes(width: float = 6.4, height: float = 4.0) -> Axes:
    """Axes of a new figure, without touching pyplot's state."""
    try:
        from throughtime.report.shown_axes import shown_axes
    except ImportError:
        raise ImportError(INSTALL_REPORT) from None
    return shown_axes(width, height)


def logarithmic(axis: Axis) -> None:
    """Sets the ticks of a logarithmic axis whose limits are known.

    10⁻³ is plain text, which is drawn a hundred times faster than a formula. Between powers of ten
    there are ticks only if there are few of these.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = axis.get_view_interval()
    narrow = high < 12 * low
    axis.set_minor_locator(LogLocator(subs=(2, 5)) if narrow else NullLocator())
    axis.set_minor_formatter(lambda value, _: f"{value:.2g}")
    axis.set_major_formatter(lambda value, _: power_of_ten(value))


def power_of_ten(value: float) -> str:
    """A whole power of ten as text.

    Example:
        >>> [power_of_ten(value) for value in (1e-12, 0.1, 1.0, 10.0, 1e3)]
        ['10⁻¹²', '0.1', '1', '10', '10³']
    """
    if 0.05 < value < 500:
        return f"{value:g}"
    return f"10{raised(round(np.log10(value)))}" if value > 0 else "0"


def raised(power: int) -> str:
    """A whole number as an exponent."""
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def plain(name: str) -> str:
    """A stranger's name as a label: no formula, no control characters, and always in the legend.

    Example:
        >>> print(plain("$W$"), repr(plain("_h")))
        \\$W\\$ '\\u200b_h'
    """
    return "\u200b" * name.startswith("_") + in_a_line(name).replace("$", r"\$")


def save_figure(ax: Axes, path: str) -> None:
    """Writes the figure that the axes belong to; the suffix of `path` chooses the format."""
    _figure(ax).savefig(path, dpi=144)


def as_svg(ax: Axes) -> str:
    """The figure as an SVG element with a transparent background, to be put into a page."""
    buffer = StringIO()
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "throughtime"}):
        _figure(ax).savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' d="[^"]+"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), text)
    return re.sub(r"\s*\n\s*", "\n", text)


def plot_sweep(
    sweep: Sweep, ax: Axes | None = None, *, groups: Mapping[str, Sequence[str]] | None = None
) -> Axes:
    """The valley of d over epsilon: noise on its left, truncation on its right.

    Args:
        sweep: from `tt.sweep`.
        ax: where to draw; by default a new figure.
        groups: label to names of tensors, drawn in one colour; every tensor its own without it.
    """
    ax = ax or new_axes()
    groups = groups or {name: [name] for name in sweep.tensors}
    for place, (label, names) in enumerate(groups.items()):
        colour, style = cycle(len(groups))[place], LINES[place // len(SERIES) % len(LINES)]
        for number, name in enumerate(names):
            shown = plain(label) if number == 0 else None
            d = np.maximum(sweep.tensors[name], np.finfo(float).tiny)
            ax.loglog(sweep.epsilons, d, style, color=colour, lw=1.4, label=shown)
    epsilon, best = sweep.best
    if best < 0.5:
        ax.plot(epsilon, best, "o", mfc="none", mec=GREY, ms=10)
        ax.annotate(
            f"d = {best:.1e}",
            (epsilon, best),
            xytext=(epsilon, 0.03),  # below all lines
            textcoords=ax.get_xaxis_transform(),
            ha="center",
            fontsize=9,
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.8, "ls": ":", "shrinkB": 5},
        )
        low, high = ax.get_ylim()
        ax.set_ylim(low / 4, high)
    logarithmic(ax.xaxis)
    logarithmic(ax.yaxis)
    ax.set_xlabel("epsilon")
    ax.set_ylabel("discrepancy d")
    ax.grid(alpha=0.25)
    ax.legend(frameon=False, fontsize=9)
    return ax


def plot_training(
    losses: Sequence[tuple[int, float]],
    yardsticks: Mapping[str, float],
    held_out: Sequence[tuple[int, float]] = (),
    ax: Axes | None = None,
) -> Axes:
    """Bits per character over updates, beside what counting letters achieves.

    Args:
        losses: (update, bits per character) while training.
        yardsticks: name to held-out bits per character, drawn as lines.
        held_out: (update, bits per character) on the held-out text.
        ax: where to draw; by default a new figure.
    """
    ax = ax or new_axes()
    updates, bits = np.array(losses, float).reshape(-1, 2).T
    ax.plot(updates, bits, color=BLUE, lw=1.0, alpha=0.6, label="training")
    if held_out:
        updates, bits = np.array(held_out, float).T
        ax.plot(updates, bits, "o-", color=RED, lw=1.4, ms=4, label="held out")
    for name, level in yardsticks.items():
        ax.axhline(level, color=GREY, lw=0.9, ls="--")
        ax.annotate(
            f"{name} {level:.2f}",
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            fontsize=9,
        )
    ax.set_xlabel("updates")
    ax.set_ylabel("bits a character")
    ax.grid(alpha=0.25)
    ax.legend(frameon=False, fontsize=9, loc="upper center")
    return ax


def _figure(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None  # axes are always drawn on a figure
    return figure


def cycle(count: int) -> list[str]:
    """So many colours, which repeat after the last one."""
    return [SERIES[k % len(SERIES)] for k in range(count)]
