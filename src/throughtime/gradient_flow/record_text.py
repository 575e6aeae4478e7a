"""A look as one line, a record as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from throughtime.gradient_flow.record_norms import NormsSince
from throughtime.gradient_flow.tolerances import LONG_RUN_LAGS

if TYPE_CHECKING:
    from throughtime.gradient_flow.record import FlowRecord, LayerLook, Look

ROWS = 24


def live_line(look: Look | None, norms: NormsSince, wait: float = 0.0) -> str:
    """Verdict, reach and half-life, norm of the gradient, share of clipped updates.

    Without a look, `wait`: seconds until the time for one is earned.
    """
    if look is None:
        when = f", the time for it is earned in {wait:.0f} s" if 0 < wait < float("inf") else ""
        parts = [f"no look yet{when}"]
    else:
        number, layer = look.worst
        parts = [
            look.verdict + few(look),
            f"layer {number} ({layer.kind}): reach {reach(layer)}, half-life {half_life(layer)}",
        ]
    if norms.count:
        parts.append(f"|gradient| {norms.median:.2g}, largest {norms.largest:.2g}")
    elif look is not None and look.norm is not None:
        parts.append(f"|gradient| {look.norm:.2g}, largest {_number(look.largest_norm)}")
    share = norms.share if norms.count else look and look.clipped
    if share is not None:
        parts.append(f"{share:.0%} clipped")
    return "flow: " + "; ".join(parts)


def few(look: Look) -> str:
    """How far a small look went; nothing of one that went all the way."""
    if look.max_lag >= min(look.steps - 1, LONG_RUN_LAGS):
        return ""
    return f" ({look.max_lag} lags)"


def reach(layer: LayerLook) -> str:
    """In steps, "≥" where the gradient is still there at the longest lag."""
    return f"{'' if layer.falls else '≥ '}{layer.reach} steps"


def half_life(layer: LayerLook) -> str:
    """In steps, "–" where the gradient does not fall."""
    return "–" if layer.half_life is None else f"{layer.half_life:.3g}"


def table(record: FlowRecord) -> str:
    """A row a look, of many looks some, evenly; then how the run ended."""
    heads = ["update", "verdict", "layer", "reach", "half-life", "|gradient|", "9 of 10", "largest"]
    rows = [[*heads, *(["clipped"] if record.clip is not None else [])]]
    places = np.linspace(0, len(record.looks) - 1, min(ROWS, len(record.looks)))
    for place in np.unique(places.astype(int)):
        look = record.looks[place]
        number, layer = look.worst
        row = [
            f"{look.update:,}",
            look.verdict + few(look),
            f"{number} ({layer.kind})",
            reach(layer),
        ]
        row.append(half_life(layer))
        row += [_number(size) for size in (look.norm, look.usual_norm, look.largest_norm)]
        if record.clip is not None:
            row.append("–" if look.clipped is None else f"{look.clipped:.0%}")
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    text = ["  ".join(map(str.rjust, row, widths)) for row in rows] if record.looks else []
    return "\n".join([*text, *_last_lines(record)])


def _last_lines(record: FlowRecord) -> list[str]:
    if not record.looks:
        count = "No look was taken"
    else:
        cost = sum(one.cost for one in record.looks)
        plural = "" if len(record.looks) == 1 else "s"
        count = f"{len(record.looks)} look{plural}, which took {cost:.2g} s"
    end = "It still goes on, or was cut off"
    if record.ended:
        at = f"{record.ended.capitalize()} at update {record.update:,}"
        end = f"{at}: {record.message}" if record.message else at
    return [count + ".", end + "."]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"
