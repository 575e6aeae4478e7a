"""The columns of the flow's tables."""

from __future__ import annotations

from benchmarks.tables import CASE, THREE_DIGITS, Column

LAGS = (
    Column("ours", "what", "s"),
    Column("s", "seconds", THREE_DIGITS),
    Column("torch, T calls", "torch_seconds", THREE_DIGITS),
    Column("ratio", "ratio", ".1f"),
    Column("differs by", "error", ".1e"),
    Column("GF/s", "gflops", ".0f"),
    Column("peak", "peak_share", ".0%"),
)
MEMORY = (
    CASE,
    Column("matrix MB", "matrix_mb", ".0f"),
    Column("bytes / T·B·H", "matrix_per_tbh", ".0f"),
    Column("flow MB", "flow_mb", ".0f"),
    Column("keep=True", "kept_mb", ".0f"),
    Column("torch, one call", "torch_mb", ".0f"),
)
STREAM = (
    CASE,
    Column("ours", "what", "s"),
    Column("s", "seconds", THREE_DIGITS),
    Column("pass in windows", "windows_seconds", THREE_DIGITS),
    Column("whole pass", "whole_seconds", THREE_DIGITS),
    Column("passes", "ratio", ".2f"),
)
OVERHEAD = (
    CASE,
    Column("updates", "updates", ",d"),
    Column("s", "plain_seconds", THREE_DIGITS),
    Column("watched", "seconds", THREE_DIGITS),
    Column("overhead", "overhead", "+.1%"),
    Column("looks", "looks", ",d"),
    Column("took", "taken", ".1%"),
)
TRUNCATION = (
    Column("task and lag, network", "name", "s"),
    Column("runs", "runs", ",d"),
    Column("held", "held", ".1%"),
    Column("where seen", "seen_held", ".1%"),
    Column("K at 0.1", "K", ".0f"),
    Column("of T", "share", ".0%"),
    Column("worst / bound", "excess", ".2f"),
)
