"""Pages: one self-contained HTML file each, with its figures and its style inside.

First what a page consists of; then a check and a flow as sections, each also as a page of its own,
with the figures of a flow in words: a caption, and the numbers for those who cannot see them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from throughtime.arrays import Array, visible
from throughtime.gradcheck import (
    HEADINGS,
    Report,
    SourceLine,
    explained_part,
    shown_tensors,
    table_row,
)
from throughtime.gradient_flow import (
    SHARES_CAPTION,
    Flow,
    Gate,
    GateHistory,
    LayerFlow,
    Lyapunov,
    circumstances,
    facts,
    lag_rows,
    share_rows,
    some_lags,
)
from throughtime.report.check_figures import error_parts, plot_check, plot_valley
from throughtime.report.figures import INSTALL_REPORT, as_svg
from throughtime.report.flow_figures import (
    LARGEST_BIAS,
    carousel,
    gate_histogram,
    lag_heatmap,
    lag_profile,
    lyapunov,
    singular_values,
    time_constants,
    truncation_bias,
)
from throughtime.report.notebook import with_code
from throughtime.storage import replace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENTRIES_SHOWN = 50  # located entries; a report in JSON holds all of them
LAYERS_DRAWN = 3  # layers with all figures; of a deeper stack the page would grow too large


@dataclass(frozen=True)
class Table:
    """A table: headings, rows of text, the column with a verdict if there is one, a caption."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    verdict: int | None = None
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure, what it shows in words for those who cannot see it, and the caption below it.

    Without a caption the text itself is the caption.
    """

    ax: Axes
    text: str
    caption: str = ""

    @classmethod
    def of(cls, ax: Axes, words: tuple[str, str]) -> Figure:
        """A figure with a caption, and numbers for those who cannot see it."""
        caption, numbers = words
        return cls(ax, f"{caption} {numbers}", caption)

    def svg(self, *place: int) -> str:
        """As SVG, with ids that no figure at another place of the page has."""
        return with_own_ids(as_svg(self.ax), "-".join(map(str, place)))


@dataclass(frozen=True)
class PageSection:
    """A heading, a paragraph, tables and figures.

    Attributes:
        status: a check's or a flow's verdict, which colours the heading's badge, or "".
        preformatted: text to be shown as it is, for instance generated text.
        notes: sentences, each on a line of its own.
        source: lines of source, each with what is said of it.
    """

    title: str
    lead: str = ""
    status: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    preformatted: str = ""
    notes: Sequence[str] = ()
    source: Sequence[SourceLine] = ()


def write_page(
    path: str | os.PathLike[str],
    title: str,
    sections: Sequence[PageSection],
    about: Mapping[str, str] | None = None,
) -> None:
    """Writes sections as one page.

    Args:
        path: of the file.
        title: of the page.
        sections: in order.
        about: what the page is of, such as the command and its data; version and time are added.

    Raises:
        ImportError: without matplotlib and Jinja2, with the command that installs them.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise ImportError(INSTALL_REPORT) from None
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["with_code"] = lambda sentence: Markup(with_code(sentence))
    page = environment.from_string(_read("page.html")).render(
        title=title,
        sections=sections,
        names=distinct(sections),
        about={**(about or {}), **_written()},
        sortable=any(len(table.rows) > 1 for section in sections for table in section.tables),
        script=_read("sort.js").strip(),
    )
    replace(path, visible(page).encode())


def _written() -> dict[str, str]:
    """With what a page was written, and when."""
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")
    version = sys.modules["throughtime"].__version__  # which stands above this floor
    return {"written": f"{when}, throughtime {version}"}


def distinct(sections: Sequence[PageSection]) -> list[str]:
    """Titles for a list of contents: one that occurs again says which verdict it belongs to."""
    titles, found, verdict = [section.title for section in sections], [], ""
    for section in sections:
        title = section.title
        if section.status:
            verdict = title
        again = titles.count(title) > 1 and verdict not in ("", title)
        found.append(f"{verdict}: {title[0].lower()}{title[1:]}" if again else title)
    return found


def with_own_ids(svg: str, place: str) -> str:
    """The SVG with ids that are unique on a page; ids that it does not refer to are removed."""
    used = set(re.findall(r"#(\w+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    return re.sub(r'(\bid="|[("]#)(\w+)(?=[")])', rf"\1f{place}-\2", svg)


def _read(name: str) -> str:
    return resources.files("throughtime.report").joinpath(name).read_text("utf-8")


def check_page(
    report: Report, path: str | os.PathLike[str], about: Mapping[str, str] | None = None
) -> None:
    """Writes a check as a page of its own."""
    write_page(path, "Gradient check", [*check_sections(report, "Is the gradient right?")], about)


def check_sections(report: Report, title: str, lead: str = "") -> Iterator[PageSection]:
    """A check as sections: the verdict, then the reasons, then everything that was seen."""
    said = [lead, f"{report.headline()}.", f"{report.circumstances()}."]
    notes = [*report.notes, *([f"To resolve it: {report.remedy}."] if report.remedy else [])]
    words = " ".join(part for part in said if part)
    yield PageSection(title, words, report.verdict, list(_of_tensors(report)), notes=notes)
    leads = report.lines is not None and report.lines.leads
    yield from _which_line(report) if leads else ()
    yield from _why(report)
    yield from () if leads else _which_line(report)
    points, figures = list(_points(report)), list(_check_figures(report))
    if points or figures:
        yield PageSection("What was seen", tables=points, figures=figures)
    yield from _located(report)


def _why(report: Report) -> Iterator[PageSection]:
    """A section for each cause: what is wrong, what to change, and the evidence."""
    for number, cause in enumerate(report.causes, start=1):
        name = f"{cause.fault}, confidence {cause.confidence:.0%}"
        more = f"More: throughtime explain fault {cause.fault}"
        notes = [*cause.evidence, *explained_part(cause, number), more]
        yield PageSection(f"Why: {name}", f"{cause.statement} {cause.change}", notes=notes)


def _which_line(report: Report) -> Iterator[PageSection]:
    """The source of the functions that compute the gradient, with what is known of each line."""
    if (found := report.lines) is not None:
        notes = [found.next] if found.next else []
        yield PageSection("Which line", found.summary, notes=notes, source=found.lines)


def _of_tensors(report: Report) -> Iterator[Table]:
    for title, tensors in shown_tensors(report):
        rows = [table_row(name, tensor) for name, tensor in tensors.items()]
        place = title.replace("A", "a", 1) if title else "at the point as given"
        kept = [k for k in range(len(HEADINGS)) if any(row[k].strip() for row in rows)]
        headings = [HEADINGS[k] for k in kept]  # where all agree, there is no worst entry
        filled = [[row[k] for k in kept] for row in rows]
        yield Table(headings, filled, headings.index("verdict"), f"Tensors, {place}")


def _points(report: Report) -> Iterator[Table]:
    """The points that were checked; tensors that disagree have a column if there are any."""
    if len(report.points) < 2:
        return
    rows = [
        [
            point.name,
            "" if point.steps is None else str(point.steps),
            point.verdict,
            f"{point.discrepancy:.2e}",
            f"{point.floor:.0e}",
            ", ".join(name for name, t in point.tensors.items() if t.verdict == "disagree"),
        ]
        for point in report.points
    ]
    headings = ("point", "T", "verdict", "d", "floor", "tensors that disagree")
    shown = len(headings) if any(row[-1] for row in rows) else len(headings) - 1
    caption = "Points at which the gradient was checked"
    yield Table(headings[:shown], [row[:shown] for row in rows], 2, caption)


def _located(report: Report) -> Iterator[PageSection]:
    """The wrong entries, which come last since there may be many."""
    wrong = [(name, entry) for name, tensor in report.tensors.items() for entry in tensor.wrong]
    if not wrong:
        return
    rows = [
        (
            name,
            str(list(entry.index)),
            f"{entry.gradient:+.6e}",
            f"{entry.numerical:+.6e} ± {entry.error:.0e}",
        )
        for name, entry in wrong[:ENTRIES_SHOWN]
    ]
    caption = f"The first {ENTRIES_SHOWN} of {len(wrong)}" if len(wrong) > ENTRIES_SHOWN else ""
    table = Table(("tensor", "entry", "gradient", "numerical"), rows, None, caption)
    yield PageSection("Entries located as wrong", tables=[table])


def _check_figures(report: Report) -> Iterator[Figure]:
    looked = sum(tensor.indices.size for tensor in report.tensors.values())
    along = sum(len(tensor.directions) for tensor in report.tensors.values())
    counts = {"entry": looked, "direction": along}
    what = [_count(number, unit) for unit, number in counts.items() if number]
    verdict = report.points[0].verdict if report.points else report.verdict
    if what:
        words = (
            f"Gradient under test against numerical derivative, {' and '.join(what)} at the point "
            f"as given: {verdict}, d = {report.discrepancy:.3g}, where error bars alone "
            f"would give {report.floor:.2g}. On the line the two agree."
        )
        yield Figure(plot_check(report), words)
    valley = report.valley
    if valley is not None:
        noise, truncation = error_parts(valley)
        words = (
            "What the error bar of one derivative is made of: the loss's noise, which small "
            "steps magnify, and truncation, which grows with the step. At the step chosen, "
            f"{valley.chosen:.2g}, they are {noise:.1g} and {truncation:.1g}."
        )
        yield Figure(plot_valley(report), words)


def _count(number: int, unit: str) -> str:
    plural = unit.removesuffix("y") + "ies" if unit.endswith("y") else unit + "s"
    return f"{number:,} {unit if number == 1 else plural}"


def flow_page(
    flow: Flow,
    path: str | os.PathLike[str],
    check: Report | None = None,
    about: Mapping[str, str] | None = None,
) -> None:
    """Writes the flow of a network, and the check of its gradient if there is one."""
    checked = [] if check is None else check_sections(check, "Is the gradient right?")
    title = "The flow of a gradient" + ("" if check is None else ", and its check")
    sections = [*flow_sections(flow, "Where does the gradient go?"), *checked]
    write_page(path, title, sections, about)


def flow_sections(flow: Flow, title: str, lead: str = "") -> Iterator[PageSection]:
    """A flow as sections: verdict, advice and lags; then each layer; then truncation and shares."""
    said = [lead, f"{flow.verdict.upper()}: {flow.reason}.", f"{circumstances(flow)}."]
    lags = [
        Figure.of(lag_heatmap(flow), _heatmap_words(flow, flow.top)),
        Figure.of(lag_profile(flow), _profile_words(flow, flow.top)),
    ]
    notes = [*flow.advice.sentences, *flow.notes]
    yield PageSection(title, " ".join(filter(None, said)), flow.verdict, figures=lags, notes=notes)
    for number in sorted(flow.layers, reverse=True):
        yield _layer_section(flow, number)
    yield _truncation_section(flow)
    rows = share_rows(flow)
    yield PageSection(
        "Which past step teaches which weight",
        "A share is what the gradient through these lags adds along the whole gradient: shares "
        "add up to 1, and one that pulls the other way is negative.",
        tables=[Table(rows[0], rows[1:], caption=SHARES_CAPTION)],
    )


def _layer_section(flow: Flow, number: int) -> PageSection:
    """One recurrent layer: its facts, its table by lag, its figures."""
    layer = flow.layers[number]
    way = ", backwards" if layer.backwards else ""
    name = f"Layer {number}: {layer.kind}, {layer.units} units{way}"
    lead = "" if len(flow.layers) == 1 else f"{layer.reason[0].upper()}{layer.reason[1:]}."
    drawn = number in sorted(flow.layers, reverse=True)[:LAYERS_DRAWN]
    figures = [*_layer_figures(flow, number, layer)] if drawn else []
    more = [] if drawn else [f"Figures are shown of the {LAYERS_DRAWN} layers nearest to the loss."]
    table = _by_lag(layer, flow.max_lag)
    return PageSection(name, lead, layer.verdict, [table], figures, notes=[*facts(layer), *more])


def _by_lag(layer: LayerFlow, max_lag: int) -> Table:
    """One row per lag; a spread is in the same cell as its mean."""
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


def _layer_figures(flow: Flow, number: int, layer: LayerFlow) -> Iterator[Figure]:
    if layer is not flow.top:
        yield Figure.of(lag_heatmap(flow, layer=number), _heatmap_words(flow, layer))
        yield Figure.of(lag_profile(flow, layer=number), _profile_words(flow, layer))
    if layer.paths:
        yield Figure.of(carousel(flow, layer=number), _carousel_words(layer))
    if layer.time_constants is not None:
        yield Figure.of(time_constants(flow, layer=number), _time_constants_words(layer))
    if layer.singular_values.size:
        yield Figure.of(singular_values(flow, layer=number), _singular_values_words(layer))
    if layer.lyapunov is not None:
        yield Figure.of(lyapunov(flow, layer=number), _lyapunov_words(layer.lyapunov))
    for gate, history in layer.gate_history.items():
        figure = gate_histogram(flow, gate, layer=number)
        yield Figure.of(figure, _gate_words(gate, layer.gates[gate], history))


def _truncation_section(flow: Flow) -> PageSection:
    bias, advised = flow.bias, flow.advice.truncation
    steps = np.unique(np.linspace(0, len(bias.steps) - 1, 24).astype(int))
    if advised.steps in bias.steps:  # the row that matters
        steps = np.union1d(steps, np.flatnonzero(bias.steps == advised.steps))
    rows = [
        (
            f"{bias.steps[k]}",
            _number(bias.relative[k]),
            _number(bias.upper[k]),
            _number(bias.bound[k]),
        )
        for k in steps
    ]
    headings = ("K", "relative bias", "95 % of other data stay below", "if no two lags cancel")
    lead = (
        "With K steps every loss reaches the lags 0 … K − 1; the gradient through all later ones "
        "is lost. How much that is, relative to the whole gradient:"
    )
    table = Table(headings, rows, caption="Bias of a gradient truncated at K steps")
    figure = Figure.of(truncation_bias(flow), _truncation_words(flow))
    return PageSection("What truncation gives up", lead, tables=[table], figures=[figure])


class FigureText(NamedTuple):
    """A figure in words: its caption, and the numbers that one would read from it."""

    caption: str
    numbers: str


def _heatmap_words(flow: Flow, layer: LayerFlow) -> FigureText:
    """The figure of `lag_heatmap` in words."""
    part = layer.remembers
    norms = layer.norms[part]
    known = norms[np.isfinite(norms) & (norms > 0)]
    numbers = "It is 0, or not finite, everywhere."
    if known.size:
        numbers = f"Its sizes go from {_number(known.min())} to {_number(known.max())}."
    ahead = " Left of 0 it looks at what comes after it." if layer.ahead else ""
    marked = "" if layer.recurrent_profile else _marked(flow)
    caption = (
        f"Gradient ‖∂Eₜ/∂{part}ₖ‖ of each step's loss, by lag. A row that stays bright far to "
        f"the right is a loss that reaches far back.{ahead}{marked}"
    )
    return FigureText(caption, numbers)


def _profile_words(flow: Flow, layer: LayerFlow) -> FigureText:
    """The figure of `lag_profile` in words."""
    parts = " and ".join(f"‖∂Eₜ/∂{part}ₖ‖" for part in layer.profile)
    caption = f"{parts} by lag, mean over losses; the band is the spread over sequences."
    numbers = "; ".join(
        f"with respect to {part} {_at_lags(values)}" for part, values in layer.profile.items()
    )
    if layer.recurrent_profile:
        alone = layer.recurrent_profile[layer.remembers]
        numbers += f"; through the recurrence alone {_at_lags(alone)}"
    return FigureText(caption + _marked(flow), f"{numbers}.")


def _carousel_words(layer: LayerFlow) -> FigureText:
    """The figure of `carousel` in words."""
    carry = "c" if layer.remembers == "c" else "z"
    names = (f"along {carry} alone", "through the gates alone", "through both")
    parts = [
        f"{name} {_at_lags(shares, _percent)}"
        for name, shares in zip(names, layer.paths.values(), strict=True)
    ]
    caption = f"The ways that the gradient took back in time: {', '.join(names)}."
    return FigureText(caption, "; ".join(parts) + ".")


def _time_constants_words(layer: LayerFlow) -> FigureText:
    """The figure of `time_constants` in words."""
    assert layer.time_constants is not None
    longest = layer.units_that_remember(-1)[:5]
    units = ", ".join(f"unit {u} {layer.time_constants[u]:.3g}" for u in longest)
    middle = np.quantile(layer.time_constants, 0.5, method="nearest")
    caption = "For how long each unit remembers: steps after which its carry alone leaves 1/e."
    return FigureText(caption, f"Longest: {units}. Half of the units: {middle:.3g} or less.")


def _singular_values_words(layer: LayerFlow) -> FigureText:
    """The figure of `singular_values` in words."""
    values = layer.singular_values
    largest, middle, smallest = (
        _number(np.median(part)) for part in (values[:, 0], values, values[:, -1])
    )
    above = np.median((values > 1).sum(axis=1))
    caption = "Singular values of ∂sₜ/∂sₜ₋₁ over the full state: above 1 a small change grows."
    numbers = (
        f"At {len(values)} steps: the largest {largest}, the median {middle}, the smallest "
        f"{smallest}; {above:.0f} of {values.shape[1]} above 1."
    )
    return FigureText(caption, numbers)


def _lyapunov_words(found: Lyapunov) -> FigureText:
    """The figure of `lyapunov` in words."""
    first = ", ".join(f"{value:+.3g}" for value in found.exponents[:4])
    caption = "Lyapunov exponents, mean growth of small changes, as they settle along the run."
    if not np.isfinite(found.exponents[0]):
        return FigureText(
            caption, f"After {found.steps[-1]} steps {first}: a change is gone at once."
        )
    meaning = "small changes grow"
    if not found.exponents[0] > 0:
        meaning = f"half of a small change is left after {found.half_life:.3g} steps"
    numbers = (
        f"After {found.steps[-1]} steps {first} per step: {meaning}. The first still moved by "
        f"{found.drift:.2g} in the second half."
    )
    return FigureText(caption, numbers)


def _gate_words(letter: str, found: Gate, history: GateHistory) -> FigureText:
    """The figure of `gate_histogram` in words."""
    mean = "unknown" if np.isnan(found.mean) else f"{found.mean:+.3f}"
    numbers = (
        f"Mean {mean}, saturated below {_percent(found.closed)}, above {_percent(found.open)}."
    )
    means = history.shares @ ((history.edges[:-1] + history.edges[1:]) / 2)
    known = means[np.isfinite(means)]
    if known.size > 1 and history.edges[-1] <= 1:
        numbers += f" The mean moves between {known.min():+.2f} and {known.max():+.2f}."
    return FigureText(f"Values of {letter} over time, all units and sequences.", numbers)


def _truncation_words(flow: Flow) -> FigureText:
    """The figure of `truncation_bias` in words."""
    bias, advised = flow.bias, flow.advice.truncation
    chosen = np.unique(np.linspace(0, len(bias.steps) - 1, 6).astype(int))
    some = ", ".join(f"{_number(bias.relative[k])} at K = {bias.steps[k]}" for k in chosen)
    caption = f"Relative bias over K.{_marked(flow)}"
    return FigureText(caption, f"{some}; asked: below {advised.asked:.3g}.")


def _number(value: float) -> str:
    """Three digits, or a dash; a number too large to mean anything is only called large."""
    if value > LARGEST_BIAS:
        return f"over {LARGEST_BIAS:.0e}"
    return "–" if np.isnan(value) else f"{value:.3g}"


def _percent(value: float) -> str:
    """Whole per cent, or a dash."""
    return "–" if np.isnan(value) else f"{100 * value:.0f} %".replace("-0 %", "0 %")


def _at_lags(values: Array, shown: Callable[[float], str] = _number) -> str:
    lags = [lag for lag in some_lags(len(values) - 1) if np.isfinite(values[lag])]
    return ", ".join(f"{shown(values[lag])} at lag {lag}" for lag in lags) or "nothing"


def _marked(flow: Flow) -> str:
    steps = flow.advice.truncation.steps
    if steps is None or steps > flow.max_lag + 1:
        return ""
    return f" The line marks the advised K = {steps}."
