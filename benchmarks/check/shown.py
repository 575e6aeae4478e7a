"""The tables of measured rows, and what is listed below them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.check import calibration, growth, tables, trust
from benchmarks.engine import Row
from benchmarks.strangers import run
from benchmarks.tables import table

OFFENDERS = 20  # cases that are listed by name


def text(part: str, rows: Sequence[Row]) -> str:
    """A title and a table of one part's rows; for trust, also who was accused or missed."""
    if part == "trust":
        return _trust(rows)
    if part == "strangers":
        return _strangers(rows)
    if part == "calibration":
        title = "Calibration: share of right entries and directions within so many error bars"
        lines = [*map(calibration.flat, rows), calibration.nominal_row()]
        return f"{title}\n{table(lines, tables.CALIBRATION)}"
    if part == "cost":
        title = "Cost: an LSTM with a head, T = 20, B = 4"
        return f"{title}\n{table(rows, tables.COST)}"
    if part == "growth":
        title = (
            "Growth: an LSTM in float64, its gradient right, then one entry off by 1 % of the rms"
        )
        return f"{title}\n{table(growth.summary(rows), tables.GROWTH)}"
    title = "Accuracy: discrepancy of a right gradient, softmax LSTM of 5-5-5, T = 39"
    return f"{title}\n{table(rows, tables.ACCURACY)}"


def _trust(rows: Sequence[Row]) -> str:
    unresolved, bounds = [], []
    for dtype in ("float64", "float32"):
        own = [row for row in rows if row["dtype"] == dtype]
        if own:
            share = sum(row["ours"] == "unresolved" for row in own) / len(own)
            unresolved.append(f"{dtype} {share:.1%}")
        if right := [row["ours"] for row in own if not row["fault"]]:
            lost = len(right) - right.count("agree")
            accused = lost - right.count("unresolved")
            least, most = (trust.at_most(n, len(right)) for n in (lost, accused))
            bounds.append(
                f"{dtype}: of right ones at least {1 - least:.2%} are accepted, "
                f"at most {most:.2%} accused"
            )
    blamed = [row for row in rows if not row["fault"] and row["ours"] in ("disagree", "refused")]
    missed = [row for row in rows if row["resolvable"] and row["ours"] == "agree"]
    return "\n".join(
        [
            "Trust: right gradients accepted, wrong ones found",
            table(trust.summary(rows), tables.TRUST),
            "ours unresolved: " + ", ".join(unresolved),
            *(f"{bound} (95 % confidence)" for bound in bounds),
            *_listed("right, but accused", blamed),
            *_listed("resolvable, but accepted", missed),
            *_listed("accepted against its own claim", [r for r in rows if r["overclaimed"]]),
        ]
    )


def _strangers(rows: Sequence[Row]) -> str:
    """Right ones by what is coarsest, by what is rounded inside and by how the loss is added up."""
    lines = ["Strangers: right networks of every kind, size and precision, and wrong ones"]
    right = [row for row in rows if row["right"]]
    if right:
        lines.append(table(run.right_summary(right), tables.STRANGERS_RIGHT))
        for groups in (run.inside, run.added):
            lines += ["", table(run.right_summary(right, groups), tables.STRANGERS_RIGHT)]
        lines.append("at most: the share of accused ones, with 95 % confidence")
    if len(right) < len(rows):
        lines += ["", table(run.wrong_summary(rows), tables.STRANGERS_WRONG)]
    said = {verdict: [r for r in right if r["ours"] == verdict] for verdict in run.BLAMED}
    missed = [row for row in rows if not row["right"] and row["ours"] == "agree"]
    lines += _listed("right, but accused", said["disagree"], _stranger)
    lines += _listed("right, but refused", said["refused"], _stranger)
    lines += _listed(
        "resolvable, but accepted", [row for row in missed if row["resolvable"]], _stranger
    )
    claims = [row for row in missed if row["overclaimed"]]
    return "\n".join([*lines, *_listed("accepted against its own claim", claims, _stranger)])


def _stranger(row: Row) -> str:
    known = row["off"] if row["right"] else row["effect"]
    off = f" | off by {known:.1e}" if known is not None else ""
    why = f": {row['message']}" if row["message"] else ""
    return f"  {row['case']}{off}{why}"


def _listed(what: str, rows: Sequence[Row], line: Callable[[Row], str] | None = None) -> list[str]:
    lines = [f"{what}: {len(rows)}" + ":" * bool(rows), *map(line or _line, rows[:OFFENDERS])]
    return lines + [f"  and {len(rows) - OFFENDERS} more"] * (len(rows) > OFFENDERS)


def _line(row: Row) -> str:
    variant = ", ".join(f"{k}={v}" for k, v in row["variant"].items())
    off = f", off by {row['effect']:.1e}" if row["effect"] is not None else ""
    why = f": {row['message']}" if row["message"] else ""
    return "  " + " ".join(filter(None, [row["case"], f"seed {row['seed']}", variant])) + off + why
