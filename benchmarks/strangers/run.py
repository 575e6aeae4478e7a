"""The verdicts of the check on strangers' networks: one row per network, and summaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import torch_layer
from benchmarks.check.trust import at_most, finite, ours
from benchmarks.engine import Row
from benchmarks.several import each
from benchmarks.strangers.cases import COARSE, Case, case
from benchmarks.strangers.wrong import wrong

BLURRED = 0.01  # if rounding changes a right gradient by more, it can hardly be called right
BLAMED = ("disagree", "refused")
Groups = Callable[[Row], str]
GROUPS = ("float64", *reversed(tuple(COARSE)))  # the finest first


def strangers(
    right_seeds: Sequence[int], wrong_seeds: Sequence[int], workers: int = 1
) -> Iterator[Row]:
    """One row per network, in random order, so that some of them represent all.

    Returns:
        rows of "part": "strangers"; the entries of `Case.to_dict` or `Wrong.to_dict`; "right",
        whether it is right; "group", the coarsest rounding; "ours", "message", "smallest_error",
        "overclaimed", "evaluations" and "seconds" as in `trust.trust`. Right ones have "off", the
        largest relative distance of any tensor's gradient from that of the same network in
        float64 with nothing rounded. Wrong ones have "effect" and "resolvable", see
        `Wrong.effect`.
    """
    work = [(True, seed) for seed in right_seeds] + [(False, seed) for seed in wrong_seeds]
    order = np.random.default_rng(0).permutation(len(work))
    return each(_row, [work[k] for k in order], workers, "strangers")


def _row(work: tuple[bool, int]) -> Row:
    right, seed = work
    with torch_layer.one_thread():
        return right_row(seed) if right else wrong_row(seed)


def right_row(seed: int) -> Row:
    """See `strangers`."""
    drawn = case(seed)
    found: Row = {"part": "strangers", "right": True, "group": drawn.coarsest}
    found |= drawn.to_dict() | {"inside": str(drawn.inside), "sum": str(drawn.loss.sum)}
    return found | {"off": finite(off(drawn))} | ours(drawn.target(), {})


def wrong_row(seed: int) -> Row:
    """See `strangers`."""
    drawn = wrong(seed)
    known = drawn.effect()
    found: Row = {"part": "strangers", "right": False, "group": drawn.coarsest}
    found |= drawn.to_dict()
    found |= {"effect": finite(known.relative), "resolvable": known.resolvable}
    return found | ours(drawn.target(), known.by_tensor)


def off(drawn: Case) -> float:
    """The relative distance of a right network's gradient from that without any rounding."""
    own, exact = drawn.target().gradient(), drawn.target("float64").gradient()
    norms = {name: float(np.linalg.norm(array)) for name, array in exact.items()}
    away = {name: float(np.linalg.norm(own[name] - array)) for name, array in exact.items()}
    return max(min(away[name] / max(norms[name], 1e-300), 1e9) for name in exact)


def inside(row: Row) -> str:
    """The group of a right network, by what its forward pass rounds."""
    return f"{row['dtype']}, {row['inside'] or 'nothing rounded inside'}"


def added(row: Row) -> str:
    """The group of a right network, by how its loss is added up."""
    own = row["loss"]["sum"]
    kept = f"{own['format']} terms" if own["format"] else own["added"]
    return f"{row['dtype']}, {own['shown'] or kept}"


def right_summary(rows: Sequence[Row], groups: Groups | None = None) -> list[Row]:
    """Right networks by group, with all of them last.

    Returns:
        rows of "group"; "count"; "accepted" and "unresolved", shares; "accused" and "refused",
        how many; "at_most", the upper bound on the share of accused ones, see `trust.at_most`;
        "blurred", how many of the accused ones have a gradient that is `BLURRED`.
    """
    return [
        {
            "group": name,
            "count": len(own),
            "accepted": _share(own, "agree"),
            "unresolved": _share(own, "unresolved"),
            "accused": _count(own, "disagree"),
            "refused": _count(own, "refused"),
            "at_most": at_most(_count(own, "disagree"), len(own)),
            "blurred": _count([row for row in own if _blurred(row)], "disagree"),
        }
        for name, own in _grouped([row for row in rows if row["right"]], groups)
    ]


def wrong_summary(rows: Sequence[Row]) -> list[Row]:
    """Wrong networks by group, with all of them last.

    Returns:
        rows of "group"; "resolvable", how many are resolvable; "found", those called wrong or
        refused, and "unresolved", as shares of these; "accepted", how many of these; "faint", how
        many are not resolvable; "faint_accepted", how many of the faint ones are accepted;
        "overclaimed", how many of all.
    """
    found = []
    for name, own in _grouped([row for row in rows if not row["right"]]):
        clear = [row for row in own if row["resolvable"]]
        faint = [row for row in own if not row["resolvable"]]
        found.append(
            {
                "group": name,
                "resolvable": len(clear),
                "found": _share(clear, "disagree", "refused"),
                "unresolved": _share(clear, "unresolved"),
                "accepted": _count(clear, "agree"),
                "faint": len(faint),
                "faint_accepted": _count(faint, "agree"),
                "overclaimed": sum(row["overclaimed"] for row in own),
            }
        )
    return found


def _blurred(row: Row) -> bool:
    return row["off"] is None or row["off"] > BLURRED


def _grouped(rows: Sequence[Row], groups: Groups | None = None) -> Iterator[tuple[str, list[Row]]]:
    def name(row: Row) -> Any:
        return row["group"] if groups is None else groups(row)

    names = {name(row) for row in rows}
    known = [group for group in GROUPS if group in names]
    for one in [*known, *sorted(names - set(known))]:
        yield one, [row for row in rows if name(row) == one]
    if len(names) > 1:
        yield "all", list(rows)


def _count(rows: Sequence[Row], *verdicts: str) -> int:
    return sum(row["ours"] in verdicts for row in rows)


def _share(rows: Sequence[Row], *verdicts: str) -> float | None:
    return _count(rows, *verdicts) / len(rows) if rows else None
