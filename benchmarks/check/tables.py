"""The columns of the check's tables."""

from __future__ import annotations

from benchmarks.check.calibration import BARS
from benchmarks.tables import THREE_DIGITS, Column

TRUST = (
    Column("precision, init", "group", "s"),
    Column("tool", "tool", "s"),
    Column("right", "right", ",d"),
    Column("ok", "right_accepted", ".1%"),
    Column("accused", "right_accused", ".1%"),
    Column("open", "right_unresolved", ".1%"),
    Column("wrong", "wrong", ",d"),
    Column("found", "wrong_found", ".1%"),
    Column("missed", "wrong_accepted", ".1%"),
    Column("open", "wrong_unresolved", ".1%"),
    Column("faint", "faint", ",d"),
    Column("missed", "faint_accepted", ".1%"),
)
STRANGERS_RIGHT = (
    Column("right", "group", "s"),
    Column("count", "count", ",d"),
    Column("ok", "accepted", ".1%"),
    Column("open", "unresolved", ".1%"),
    Column("refused", "refused", ",d"),
    Column("accused", "accused", ",d"),
    Column("blurred", "blurred", ",d"),
    Column("at most", "at_most", ".2%"),
)
STRANGERS_WRONG = (
    Column("wrong", "group", "s"),
    Column("resolvable", "resolvable", ",d"),
    Column("found", "found", ".1%"),
    Column("open", "unresolved", ".1%"),
    Column("missed", "accepted", ",d"),
    Column("faint", "faint", ",d"),
    Column("missed", "faint_accepted", ",d"),
    Column("overclaimed", "overclaimed", ",d"),
)
CALIBRATION = (
    Column("", "what", "s"),
    Column("count", "count", ",d"),
    *(Column(f"≤ {bar:g}", f"within_{bar}", ".3%") for bar in BARS),
    Column("largest", "largest", ".2f"),
)
COST = (
    Column("parameters", "parameters", ",d"),
    Column("gradient", "gradient", "s"),
    Column("quick", "quick", "s"),
    Column("losses", "quick_evaluations", ",d"),
    Column("s", "quick_seconds", THREE_DIGITS),
    Column("normal", "normal", "s"),
    Column("s", "normal_seconds", THREE_DIGITS),
    Column("torch", "torch_slow", "s"),
    Column("s", "torch_slow_seconds", THREE_DIGITS),
    Column("fast", "torch_fast", "s"),
    Column("ratio", "ratio", ".0f"),
)
GROWTH = (
    Column("parameters", "parameters", ",d"),
    Column("effort", "effort", "s"),
    Column("ms a loss", "loss_ms", THREE_DIGITS),
    Column("right: agree", "right", "s"),
    Column("losses", "right_evaluations", ",.0f"),
    Column("s", "right_seconds", THREE_DIGITS),
    Column("wrong: named", "named", "s"),
    Column("losses", "wrong_evaluations", ",.0f"),
    Column("s", "wrong_seconds", THREE_DIGITS),
)
ACCURACY = (
    Column("loss", "loss", "s"),
    Column("d", "discrepancy", ".1e"),
    Column("worst", "worst", ".1e"),
    Column("aim", "aim", ".0e"),
    Column("floor", "floor", ".1e"),
    Column("losses", "evaluations", ",d"),
    Column("by hand", "hand_discrepancy", ".1e"),
    Column("at epsilon", "hand_epsilon", ".0e"),
)
