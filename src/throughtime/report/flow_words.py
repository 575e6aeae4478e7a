"""What the figures of a flow show: a caption, and in numbers for those who cannot see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from throughtime.arrays import Array
from throughtime.gradient_flow import Flow, Gate, GateHistory, LayerFlow, Lyapunov, some_lags
from throughtime.report.flow_figures import LARGE


class Words(NamedTuple):
    """A figure in words: what stands below it, and the numbers that the eye takes from it."""

    caption: str
    numbers: str


def heatmap(flow: Flow, layer: LayerFlow) -> Words:
    """Of `lag_heatmap`."""
    part = layer.remembers
    norms = layer.norms[part]
    known = norms[np.isfinite(norms) & (norms > 0)]
    numbers = "It is 0, or not finite, everywhere."
    if known.size:
        numbers = f"Its sizes go from {number(known.min())} to {number(known.max())}."
    ahead = " Left of 0 it looks at what comes after it." if layer.ahead else ""
    marked = "" if layer.recurrent_profile else _marked(flow)
    caption = (
        f"Gradient ‖∂E_t/∂{part}_k‖ of each step's loss, by lag. A row that stays bright far to "
        f"the right is a loss that reaches far back.{ahead}{marked}"
    )
    return Words(caption, numbers)


def profile(flow: Flow, layer: LayerFlow) -> Words:
    """Of `lag_profile`."""
    parts = " and ".join(f"‖∂E_t/∂{part}_k‖" for part in layer.profile)
    caption = f"{parts} by lag, mean over losses; the band is the spread over sequences."
    numbers = "; ".join(
        f"with respect to {part} {_at_lags(values)}" for part, values in layer.profile.items()
    )
    if layer.recurrent_profile:
        alone = layer.recurrent_profile[layer.remembers]
        numbers += f"; through the recurrence alone {_at_lags(alone)}"
    return Words(caption + _marked(flow), f"{numbers}.")


def carousel(layer: LayerFlow) -> Words:
    """Of `carousel`."""
    carry = "c" if layer.remembers == "c" else "z"
    names = (f"along {carry} alone", "through the gates alone", "along both")
    parts = [
        f"{name} {_at_lags(shares, percent)}"
        for name, shares in zip(names, layer.paths.values(), strict=True)
    ]
    caption = f"The ways that the gradient took back in time: {', '.join(names)}."
    return Words(caption, "; ".join(parts) + ".")


def time_constants(layer: LayerFlow) -> Words:
    """Of `time_constants`."""
    assert layer.time_constants is not None
    longest = layer.units_that_remember(-1)[:5]
    units = ", ".join(f"unit {u} {layer.time_constants[u]:.3g}" for u in longest)
    middle = np.quantile(layer.time_constants, 0.5, method="nearest")
    caption = "For how long each unit remembers: steps after which its carry alone leaves 1/e."
    return Words(caption, f"Longest: {units}. Half of the units: {middle:.3g} or less.")


def singular_values(layer: LayerFlow) -> Words:
    """Of `singular_values`."""
    values = layer.singular_values
    largest, middle, smallest = (
        number(np.median(part)) for part in (values[:, 0], values, values[:, -1])
    )
    above = np.median((values > 1).sum(axis=1))
    caption = "Singular values of ∂s_t/∂s_(t−1) over the full state: above 1 a small change grows."
    numbers = (
        f"At {len(values)} steps: the largest {largest}, the median {middle}, the smallest "
        f"{smallest}; {above:.0f} of {values.shape[1]} above 1."
    )
    return Words(caption, numbers)


def lyapunov(found: Lyapunov) -> Words:
    """Of `lyapunov`."""
    first = ", ".join(f"{value:+.3g}" for value in found.exponents[:4])
    caption = "Lyapunov exponents, mean growth of small changes, as they settle along the run."
    if not np.isfinite(found.exponents[0]):
        return Words(caption, f"After {found.steps[-1]} steps {first}: a change is gone at once.")
    meaning = "small changes grow"
    if not found.exponents[0] > 0:
        meaning = f"half of a small change is left after {found.half_life:.3g} steps"
    numbers = (
        f"After {found.steps[-1]} steps {first} per step: {meaning}. The first still moved by "
        f"{found.drift:.2g} in the second half."
    )
    return Words(caption, numbers)


def gate(letter: str, found: Gate, history: GateHistory) -> Words:
    """Of `gate_histogram`."""
    mean = "unknown" if np.isnan(found.mean) else f"{found.mean:+.3f}"
    numbers = f"Mean {mean}, saturated below {percent(found.closed)}, above {percent(found.open)}."
    means = history.shares @ ((history.edges[:-1] + history.edges[1:]) / 2)
    known = means[np.isfinite(means)]
    if known.size > 1 and history.edges[-1] <= 1:
        numbers += f" The mean moves between {known.min():+.2f} and {known.max():+.2f}."
    return Words(f"Values of {letter} over time, all units and sequences.", numbers)


def truncation(flow: Flow) -> Words:
    """Of `truncation_bias`."""
    bias, advised = flow.bias, flow.advice.truncation
    chosen = np.unique(np.linspace(0, len(bias.steps) - 1, 6).astype(int))
    some = ", ".join(f"{number(bias.relative[k])} at K = {bias.steps[k]}" for k in chosen)
    caption = f"Relative bias over K.{_marked(flow)}"
    return Words(caption, f"{some}; asked: below {advised.asked:.3g}.")


def number(value: float) -> str:
    """Three digits, or a dash; what is too large to mean anything is only called large."""
    if value > LARGE:
        return f"over {LARGE:.0e}"
    return "–" if np.isnan(value) else f"{value:.3g}"


def percent(value: float) -> str:
    """Whole per cent, or a dash."""
    return "–" if np.isnan(value) else f"{100 * value:.0f} %".replace("-0 %", "0 %")


def _at_lags(values: Array, shown: Callable[[float], str] = number) -> str:
    lags = [lag for lag in some_lags(len(values) - 1) if np.isfinite(values[lag])]
    return ", ".join(f"{shown(values[lag])} at lag {lag}" for lag in lags) or "nothing"


def _marked(flow: Flow) -> str:
    steps = flow.advice.truncation.steps
    if steps is None or steps > flow.max_lag + 1:
        return ""
    return f" The line marks the advised K = {steps}."
