"""Writes rows as tables of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Column(NamedTuple):
    """A title, the key in a row, and the format; an optional column is left out if it is empty."""

    title: str
    key: str
    form: str
    optional: bool = False


CASE = Column("case: B,T,I,H", "case", "s")
THREE_DIGITS = "#.3g"
TIMES = (
    CASE,
    Column("ours ms", "ours_ms", THREE_DIGITS),
    Column("torch", "torch_ms", THREE_DIGITS),
    Column("tuned", "torch_tuned_ms", THREE_DIGITS),
    Column("jax", "jax_ms", THREE_DIGITS, optional=True),
    Column("ratio", "ratio", ".2f"),
    Column("GF/s", "gflops", ".0f"),
    Column("peak", "peak_share", ".0%"),
)
GROWTH = (
    CASE,
    Column("fwd ms", "forward_ms", THREE_DIGITS),
    Column("torch", "torch_forward_ms", THREE_DIGITS),
    Column("both ms", "ours_ms", THREE_DIGITS),
    Column("torch", "torch_ms", THREE_DIGITS),
    Column("ratio", "ratio", ".2f"),
    Column("µs/step", "step_us", THREE_DIGITS),
    Column("peak", "peak_share", ".0%"),
    Column("MB", "memory_mb", ".1f"),
    Column("torch MB", "torch_memory_mb", ".1f"),
)
MODULES = (
    CASE,
    Column("ours ms", "ours_ms", THREE_DIGITS),
    Column("torch.nn", "torch_ms", THREE_DIGITS),
    Column("ratio", "ratio", ".2f"),
    Column("engine's ratio", "engine_ratio", ".2f"),
    Column("of it", "kept", ".0%"),
    Column("autograd ms", "autograd_ms", THREE_DIGITS),
    Column("at most", "at_most", ".0%"),
)
LIMITS = (
    CASE,
    Column("ratio", "ratio", ".2f"),
    Column("threads", "peak_share", ".0%"),
    Column("one thread", "one_thread", ".0%"),
    Column("processes", "processes", ".0%"),
    Column("ratio at that", "bound", ".2f"),
)
TRAINING = (
    CASE,
    Column("ours ch/s", "ours_characters", ",.0f"),
    Column("torch ch/s", "torch_characters", ",.0f"),
    Column("fused ch/s", "torch_fused_characters", ",.0f"),
    Column("ratio", "ratio", ".2f"),
    Column("loss differs by", "loss_difference", ".1e"),
)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """A line of titles and one line per row, with "—" for unknown values.

    Example:
        >>> from benchmarks.tables import CASE, Column, table
        >>> rows = [{"case": "GRU 8,128,64,64", "ms": 12.5}, {"case": "RNN", "ms": None}]
        >>> print(table(rows, [CASE, Column("ms", "ms", ".1f")]))
        case: B,T,I,H      ms
        GRU 8,128,64,64  12.5
        RNN                 —
    """
    known = {c.key for c in columns if any(row.get(c.key) is not None for row in rows)}
    shown = [c for c in columns if c.key in known or not c.optional]
    lines = [[c.title for c in shown]]
    for row in rows:
        lines.append([_written(row[c.key], c.form) for c in shown])
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _written(value: Any, form: str) -> str:
    if value is None:
        return "—"
    if form == THREE_DIGITS and value >= 100:  # the format would write 1.23e+03
        return f"{value:.0f}"
    return format(value, form)
