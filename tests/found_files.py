"""What a check says of what was found in a user's file."""

from __future__ import annotations

import throughtime as tt
from throughtime.gradcheck import Report
from throughtime.source import Found, Program


def report_of(found: Found) -> Report:
    """The report of a quick check, without causes."""
    target = Program(found.recipe).target()
    return tt.check(target, progress=False, diagnose=False, effort="quick")


def verdict(found: Found) -> str:
    """Its verdict."""
    return report_of(found).verdict
