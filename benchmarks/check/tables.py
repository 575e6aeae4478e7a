"""The tables of measured rows: their columns, and the cases that are listed below them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.check import calibration, growth, trust
from benchmarks.check.calibration import BARS
from benchmarks.engine import Row
from benchmarks.strangers import run
from benchmarks.tables import THREE_DIGITS, Column, table

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


OFFENDERS = 20  # how many cases are listed by name


def text(part: str, rows: Sequence[Row]) -> str:
    """A title and a table of one part's rows; for trust, also the cases that were misjudged."""
    if part == "trust":
        return _trust(rows)
    if part == "strangers":
        return _strangers(rows)
    if part == "calibration":
        title = "Calibration: share of right entries and directions within so many error bars"
        lines = [*map(calibration.flat, rows), calibration.nominal_row()]
        return f"{title}\n{table(lines, CALIBRATION)}"
    if part == "cost":
        title = "Cost: an LSTM with a head, T = 20, B = 4"
        return f"{title}\n{table(rows, COST)}"
    if part == "growth":
        title = (
            "Growth: an LSTM in float64, its gradient right, then one entry off by 1 % of the rms"
        )
        return f"{title}\n{table(growth.summary(rows), GROWTH)}"
    title = "Accuracy: discrepancy of a right gradient, softmax LSTM of 5-5-5, T = 39"
    return f"{title}\n{table(rows, ACCURACY)}"


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
            table(trust.summary(rows), TRUST),
            "ours unresolved: " + ", ".join(unresolved),
            *(f"{bound} (95 % confidence)" for bound in bounds),
            *_listed("right, but accused", blamed),
            *_listed("resolvable, but accepted", missed),
            *_listed("accepted against its own claim", [r for r in rows if r["overclaimed"]]),
        ]
    )


def _strangers(rows: Sequence[Row]) -> str:
    """Right ones by coarsest rounding, by rounding inside, and by the summation of the loss."""
    lines = ["Strangers: right networks of every kind, size and precision, and wrong ones"]
    right = [row for row in rows if row["right"]]
    if right:
        lines.append(table(run.right_summary(right), STRANGERS_RIGHT))
        for groups in (run.inside, run.added):
            lines += ["", table(run.right_summary(right, groups), STRANGERS_RIGHT)]
        lines.append("at most: the share of accused ones, with 95 % confidence")
    if len(right) < len(rows):
        lines += ["", table(run.wrong_summary(rows), STRANGERS_WRONG)]
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
