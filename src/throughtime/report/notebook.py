"""Reports and flows as a notebook shows them: what `print` says, as a small piece of HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from throughtime.gradcheck import HEADINGS, Cause, Report, shown_tensors, table_row
from throughtime.gradient_flow import Flow, lag_rows

COLOURS = {
    "agree": "#00795a",
    "healthy": "#00795a",
    "disagree": "#b3261e",
    "exploding": "#b3261e",
    "vanishing": "#b3261e",
    "dead": "#b3261e",
    "unresolved": "#8a6100",
}


def report_html(report: Report) -> str:
    """Headline, table of tensors, causes and notes of a check."""
    parts = [_headline(report.verdict, report.headline())]
    for caption, tensors in shown_tensors(report):
        rows = [table_row(name, tensor) for name, tensor in tensors.items()]
        kept = [k for k in range(len(HEADINGS)) if any(row[k].strip() for row in rows)]
        headings = [HEADINGS[k] for k in kept]  # where all agree, there is no worst entry
        cells = [[row[k] for k in kept] for row in rows]
        parts.append(_table(headings, cells, caption, verdict=headings.index("verdict")))
    parts += [_cause(cause) for cause in report.causes]
    notes = [*report.notes, *([f"To resolve it: {report.remedy}."] if report.remedy else [])]
    return _block([*parts, _list(notes)])


def flow_html(flow: Flow) -> str:
    """Verdict, advice, and each layer's norms by lag, of a flow."""
    parts = [_headline(flow.verdict, f"{flow.verdict.upper()}: {flow.reason}")]
    parts.append(_list(flow.advice.sentences))
    for number, layer in flow.layers.items():
        first, *rows = lag_rows(layer, flow.max_lag)
        parts.append(_table(first, rows, f"{layer.title(number)}: {layer.verdict}"))
    return _block([*parts, _list(flow.notes)])


def _block(parts: Iterable[str]) -> str:
    return f'<div style="max-width: 60em">{"".join(parts)}</div>'


def _headline(verdict: str, text: str) -> str:
    return f'<p style="color: {COLOURS[verdict]}"><b>{escape(text)}</b></p>'


def _table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], caption: str, verdict: int | None = None
) -> str:
    """A table; the words of the column `verdict` are in the verdict's colour."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in headings)
    body = "".join(
        "<tr>" + "".join(_cell(cell, place == verdict) for place, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str, coloured: bool) -> str:
    style = f' style="color: {COLOURS[text]}"' if coloured else ""
    return f"<td{style}>{escape(text)}</td>"


def _cause(cause: Cause) -> str:
    sure = f"{cause.fault}, confidence {cause.confidence:.0%}"
    return (
        f"<p><b>{with_code(cause.statement)}</b> [{escape(sure)}]<br>{with_code(cause.change)}</p>"
        f"{_list(cause.evidence)}"
    )


def with_code(sentence: str) -> str:
    """A sentence as HTML: what stands between backticks is code.

    Example:
        >>> with_code("give `a < b`")
        'give <code>a &lt; b</code>'
    """
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(sentence))


def _list(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{with_code(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""
