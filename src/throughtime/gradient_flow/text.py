"""The flow as lines of text: verdict and advice first, then a table for each layer.

No line is longer than 100 columns, but for names that are: sentences go on in a further line, and
tables in a further one below.
"""

from __future__ import annotations

from itertools import pairwise
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from throughtime.arrays import Array

if TYPE_CHECKING:
    from throughtime.gradient_flow.result import Flow, LayerFlow

WIDTH = 100
COLUMNS = 8  # lags in a table
SHARES_CAPTION = "Share of each parameter's gradient by the lag that it passed through"
NAMES = {"carry": "along {} alone", "gates": "through the gates alone", "both": "through both"}


def text(flow: Flow) -> str:
    """All of it."""
    lines = [
        *_wrapped(f"{flow.verdict.upper()}: {flow.reason}"),
        *_wrapped(circumstances(flow)),
        "",
    ]
    lines += [line for sentence in flow.advice.sentences for line in _wrapped(sentence, "- ")]
    for number, layer in flow.layers.items():
        lines += ["", *_layer(number, layer, flow.max_lag)]
    lines += ["", *_shares(flow)]
    if flow.notes:
        lines += ["", *(line for note in flow.notes for line in _wrapped(note))]
    return "\n".join(lines)


def circumstances(flow: Flow) -> str:
    """What was looked at, in one line."""
    ends = len(flow.ends)
    which = "all steps" if ends == flow.steps else f"{ends:,} of them"
    return (
        f"{flow.dtype}, T = {flow.steps:,}, B = {flow.batch}; losses of {which} followed back "
        f"up to {flow.max_lag} steps; ‖∇L‖ = {flow.gradient_norm:.3g}"
    )


def _layer(number: int, layer: LayerFlow, max_lag: int) -> list[str]:
    way = ", backwards" if layer.backwards else ""
    units = f"{layer.kind}, {layer.units} units{way}"
    lines = [f"Layer {number} ({units}): {layer.verdict}", *_table(lag_rows(layer, max_lag))]
    lines += [line for fact in facts(layer) for line in _wrapped(fact, "  ", "    ")]
    return lines


def lag_rows(layer: LayerFlow, max_lag: int) -> list[list[str]]:
    """Norms and paths at some lags: headings first, a row's name in front."""
    lags = some_lags(max_lag)
    rows = [["lag", *(str(lag) for lag in lags)]]
    for part, profile in layer.profile.items():
        rows.append([f"‖∂E/∂{part}‖", *(_size(profile[lag]) for lag in lags)])
        spread = layer.profile_spread[part]
        if np.nan_to_num(spread).any():  # 0 of a single sequence
            rows.append(["  ± over sequences", *(_size(spread[lag]) for lag in lags)])
    for part, profile in layer.recurrent_profile.items():
        rows.append([f"‖∂E/∂{part}‖ by recurrence", *(_size(profile[lag]) for lag in lags)])
    for path, shares in layer.paths.items():
        name = NAMES[path].format("c" if layer.remembers == "c" else "z")
        rows.append([name, *(_percent(shares[lag]) for lag in lags)])
    return rows


def facts(layer: LayerFlow) -> list[str]:
    """What else was found there, a line each."""
    lines = [_ahead(part, norms) for part, norms in layer.ahead.items()]
    if layer.time_constants is not None:
        q = np.quantile(layer.time_constants, [0.1, 0.5, 0.9, 1.0], method="nearest")
        longest = ", ".join(str(u) for u in layer.units_that_remember(0)[:3])
        which = "longest unit" if layer.units == 1 else "longest units"
        lines.append(
            f"time constants of the units: 10 % {q[0]:.3g}, median {q[1]:.3g}, 90 % {q[2]:.3g}, "
            f"longest {q[3]:.3g} steps ({which}: {longest})"
        )
    if layer.lyapunov is not None:
        first = layer.lyapunov.exponents[: min(4, len(layer.lyapunov.exponents))]
        values = ", ".join(f"{value:+.3g}" for value in first)
        settled = "a change is gone at once"
        if np.isfinite(layer.lyapunov.drift):
            settled = f"settled within {layer.lyapunov.drift:.2g}"
        half_life = f"half-life {layer.lyapunov.half_life:.3g} steps"
        lines.append(f"Lyapunov exponents {values} per step, {settled}; {half_life}")
    if layer.singular_values.size:
        s = layer.singular_values
        lines.append(
            f"singular values of ∂s_t/∂s_(t−1): largest {np.median(s[:, 0]):.3g}, median "
            f"{np.median(s):.3g}"
        )
    for letter, gate in layer.gates.items():
        low, high = ("closed", "open") if gate.activation == "sigmoid" else ("low", "high")
        lines.append(
            f"gate {letter}: mean {gate.mean:+.3f}, saturated {low} {_percent(gate.closed)}, "
            f"{high} {_percent(gate.open)}"
        )
    if layer.dead.any():
        some = ", ".join(str(unit) for unit in np.flatnonzero(layer.dead)[:8])
        lines.append(f"dead units: {int(layer.dead.sum())} of {layer.units} ({some})")
    return lines


def _ahead(part: str, norms: Array) -> str:
    """What losses look at that comes after their own step, by lag."""
    known = np.isfinite(norms)
    mean = np.where(known, norms, 0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    some = ", ".join(f"{_size(mean[lag - 1])} at −{lag}" for lag in some_lags(len(mean)) if lag)
    return f"losses look ahead: ‖∂E/∂{part}‖ {some}"


def _shares(flow: Flow) -> list[str]:
    return [SHARES_CAPTION, *_table(share_rows(flow))]


def share_rows(flow: Flow) -> list[list[str]]:
    """Of every parameter the share that came through lag 0, 1, 2, …, in a few columns."""
    begins = flow.share_lags
    stops = [i for i in (1, 2, 3, 5, 9, 17, 33, 65, 129, 257, 513) if i <= flow.max_lag]
    cuts = sorted({0, *(int(np.searchsorted(begins, stop)) for stop in stops), len(begins) - 1})
    heads = []
    for left, right in pairwise(cuts):
        first, last = int(begins[left]), int(begins[right]) - 1
        heads.append(str(first) if first == last else f"{first}–{last}")
    rows = [["from lags", *heads]]
    for name, gates in flow.shares.items():
        for gate, values in gates.items():
            label = name if gate == "all" else f"{name} {gate}"
            sums = [values[a:b].sum() for a, b in pairwise(cuts)]
            rows.append([label, *(_percent(value) for value in sums)])
    return rows


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines: list[str] = []
    for left, right in pairwise(_breaks(widths)):
        if lines:
            lines.append("")
        for row in rows:
            cells = map(str.rjust, row[left:right], widths[left:right])
            lines.append("  " + "  ".join([row[0].ljust(widths[0]), *cells]))
    return lines


def _breaks(widths: list[int]) -> list[int]:
    """Where tables one below the other begin, each with the first column in front, and the end."""
    found, used = [1], 2 + widths[0]
    for column, width in enumerate(widths[1:], 1):
        if used + 2 + width > WIDTH and column > found[-1]:
            found.append(column)
            used = 2 + widths[0]
        used += 2 + width
    return [*found, len(widths)]


def _wrapped(sentence: str, first: str = "", further: str | None = None) -> list[str]:
    """Lines of at most 100 columns, the further ones as far in as the first or as told."""
    indent = " " * len(first) if further is None else further
    return wrap(
        sentence,
        WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def some_lags(max_lag: int) -> list[int]:
    """A few lags that tell of all: 0, 1 and ever wider steps up to the last."""
    if max_lag < COLUMNS:
        return list(range(max_lag + 1))
    spread = np.geomspace(1, max_lag, COLUMNS - 1)
    return sorted({0, *(round(lag) for lag in spread)})


def _size(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2g}"


def _percent(value: float | Array) -> str:
    return "–" if np.isnan(value) else f"{100 * float(value):.0f} %".replace("-0 %", "0 %")
