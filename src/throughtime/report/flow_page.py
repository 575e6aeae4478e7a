"""A flow as sections of a page, and, with the check of the same network, as a page of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from throughtime.gradcheck import Report
from throughtime.gradient_flow import (
    SHARES_CAPTION,
    Flow,
    LayerFlow,
    circumstances,
    facts,
    lag_rows,
    share_rows,
)
from throughtime.report import flow_words as words
from throughtime.report.check_page import check_sections
from throughtime.report.flow_figures import lag_heatmap, lag_profile, truncation_bias
from throughtime.report.layer_figures import (
    carousel,
    gate_histogram,
    lyapunov,
    singular_values,
    time_constants,
)
from throughtime.report.page import Figure, Section, Table, write_page

DRAWN = 3  # layers with all figures; of a deeper stack the page would grow too large


def flow_page(flow: Flow, path: str | os.PathLike[str], check: Report | None = None) -> None:
    """Writes the flow of a network, and the check of its gradient where there is one."""
    checked = [] if check is None else check_sections(check, "Is the gradient right?")
    title = "The flow of a gradient" + ("" if check is None else ", and its check")
    write_page(path, title, [*flow_sections(flow, "Where does the gradient go?"), *checked])


def flow_sections(flow: Flow, title: str, lead: str = "") -> Iterator[Section]:
    """Verdict and advice, with the lags; then each layer; then truncation and the shares."""
    said = [lead, f"{flow.verdict.upper()}: {flow.reason}.", f"{circumstances(flow)}."]
    lags = [
        Figure.of(lag_heatmap(flow), words.heatmap(flow, flow.top)),
        Figure.of(lag_profile(flow), words.profile(flow, flow.top)),
    ]
    notes = [*flow.advice.sentences, *flow.notes]
    yield Section(title, " ".join(filter(None, said)), flow.verdict, figures=lags, notes=notes)
    for number in sorted(flow.layers, reverse=True):
        yield _layer(flow, number)
    yield _truncation(flow)
    rows = share_rows(flow)
    yield Section(
        "Which past step teaches which weight",
        "A share is what the gradient through these lags adds along the whole gradient: shares "
        "add up to 1, and one that pulls the other way is negative.",
        tables=[Table(rows[0], rows[1:], caption=SHARES_CAPTION)],
    )


def _layer(flow: Flow, number: int) -> Section:
    """One recurrent layer: its facts, its table by lag, its figures."""
    layer = flow.layers[number]
    way = ", backwards" if layer.backwards else ""
    name = f"Layer {number}: {layer.kind}, {layer.units} units{way}"
    lead = "" if len(flow.layers) == 1 else f"{layer.reason[0].upper()}{layer.reason[1:]}."
    drawn = number in sorted(flow.layers, reverse=True)[:DRAWN]
    figures = [*_figures(flow, number, layer)] if drawn else []
    more = [] if drawn else [f"Figures are shown of the {DRAWN} layers nearest to the loss."]
    table = _by_lag(layer, flow.max_lag)
    return Section(name, lead, layer.verdict, [table], figures, notes=[*facts(layer), *more])


def _by_lag(layer: LayerFlow, max_lag: int) -> Table:
    """A row for each lag; the spread stands in one cell with what it is the spread of."""
    columns: list[list[str]] = []
    for name, *values in lag_rows(layer, max_lag):
        if "±" in name:
            last = columns.pop()
            columns.append([f"{last[0]} ± over sequences"])
            columns[-1] += [f"{a} ± {b}" for a, b in zip(last[1:], values, strict=True)]
        else:
            columns.append([name, *values])
    headings, *rows = zip(*columns, strict=True)
    return Table(headings, rows, caption="Gradient and its paths, by lag")


def _figures(flow: Flow, number: int, layer: LayerFlow) -> Iterator[Figure]:
    if layer is not flow.top:
        yield Figure.of(lag_heatmap(flow, layer=number), words.heatmap(flow, layer))
        yield Figure.of(lag_profile(flow, layer=number), words.profile(flow, layer))
    if layer.paths:
        yield Figure.of(carousel(flow, layer=number), words.carousel(layer))
    if layer.time_constants is not None:
        yield Figure.of(time_constants(flow, layer=number), words.time_constants(layer))
    if layer.singular_values.size:
        yield Figure.of(singular_values(flow, layer=number), words.singular_values(layer))
    if layer.lyapunov is not None:
        yield Figure.of(lyapunov(flow, layer=number), words.lyapunov(layer.lyapunov))
    for gate, history in layer.gate_history.items():
        figure = gate_histogram(flow, gate, layer=number)
        yield Figure.of(figure, words.gate(gate, layer.gates[gate], history))


def _truncation(flow: Flow) -> Section:
    bias, advised = flow.bias, flow.advice.truncation
    steps = np.unique(np.linspace(0, len(bias.steps) - 1, 24).astype(int))
    if advised.steps in bias.steps:  # the row that matters
        steps = np.union1d(steps, np.flatnonzero(bias.steps == advised.steps))
    rows = [
        (
            f"{bias.steps[k]}",
            words.number(bias.relative[k]),
            words.number(bias.upper[k]),
            words.number(bias.bound[k]),
        )
        for k in steps
    ]
    headings = ("K", "relative bias", "95 % of other data stay below", "if no two lags cancel")
    lead = (
        "With K steps every loss reaches the lags 0 … K − 1; the gradient through all later ones "
        "is lost. How much that is, relative to the whole gradient:"
    )
    table = Table(headings, rows, caption="Bias of a gradient truncated at K steps")
    figure = Figure.of(truncation_bias(flow), words.truncation(flow))
    return Section("What truncation gives up", lead, tables=[table], figures=[figure])
