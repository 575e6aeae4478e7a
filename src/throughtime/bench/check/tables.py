"""The columns of the check's tables."""

from __future__ import annotations

from throughtime.bench.tables import THREE_DIGITS, Column

TRUST = (
    Column("", "group", "s"),
    Column("", "tool", "s"),
    Column("right", "right", ",d"),
    Column("accepted", "right_accepted", ".1%"),
    Column("accused", "right_accused", ".1%"),
    Column("open", "right_unresolved", ".1%"),
    Column("wrong", "wrong", ",d"),
    Column("found", "wrong_found", ".1%"),
    Column("accepted", "wrong_accepted", ".1%"),
    Column("open", "wrong_unresolved", ".1%"),
    Column("faint", "faint", ",d"),
    Column("accepted", "faint_accepted", ".1%"),
)
_ = THREE_DIGITS
