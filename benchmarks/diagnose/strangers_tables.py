"""The tables of strangers' programs: shares by what was known, mistakes at once, head, and cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median

from benchmarks.check.trust import at_most
from benchmarks.diagnose.strangers import KNOWN
from benchmarks.engine import Row
from benchmarks.tables import Column, table
from corpus.notebooks import CELLS, HEADS, KINDS

OFFENDERS = 20  # how many cases are listed by name
STRANGERS = (
    Column("", "group", "s"),
    Column("cases", "cases", ",d"),
    Column("true first", "true", ".1%"),
    Column("or in set", "set", ".1%"),
    Column("or place", "place", ".1%"),
    Column("false first", "false", ".1%"),
    Column("at most", "at_most", ".1%"),
    Column("nothing", "nothing", ".1%"),
    Column("any false", "any", ".1%"),
    Column("losses", "losses", ",.0f"),
)
KINDS_OF = (
    Column("mistake", "kind", "s"),
    Column("cases", "cases", ",d"),
    Column("true first", "true", ".0%"),
    Column("false first", "false", ",d"),
    Column("first otherwise", "otherwise", "s"),
)


def text(rows: Sequence[Row]) -> str:
    """A title, the tables by each grouping and by kind, and the cases with a false name first."""
    lines = ["Strangers: programs with the habits of notebooks, one to eight mistakes in each"]
    for title, (by, order) in GROUPS.items():
        own = (STRANGERS[0]._replace(title=title), *STRANGERS[1:])
        lines += [table(summary(rows, by, order), own), ""]
    lines[-1] = "at most: the share with a false name first, with 95 % confidence"
    if found := kinds(rows):
        lines += ["", "Single mistakes that are not always named first", table(found, KINDS_OF)]
    verdicts = Counter(row["verdict"] for row in rows)
    others = ("agree", "unresolved", "refused", "failed")
    lines += ["", "without a diagnosis: " + ", ".join(f"{v} {verdicts[v]}" for v in others)]
    lines += listed("failed", [row for row in rows if row["verdict"] == "failed"])
    lines += listed("a false name first", [row for row in rows if row["outcome"] == "false"])
    return "\n".join(lines)


def listed(what: str, rows: Sequence[Row], most: int = OFFENDERS) -> list[str]:
    """Cases by name, with what was said of them."""
    lines = [f"{what}: {len(rows)}" + ":" * bool(rows)]
    for row in rows[:most]:
        said = " + ".join(row["causes"]) or row["message"] or "nothing"
        lines.append(f"  {row['case']}: {said}")
    return lines + [f"  and {len(rows) - most} more"] * (len(rows) > most)


def summary(rows: Sequence[Row], by: Callable[[Row], str], order: Sequence[str]) -> list[Row]:
    """Shares by group, with all of them last.

    Returns:
        rows of "group", "cases"; "true", "set" and "place", shares that include those before;
        "false", the share with a false name first, and "at_most", its upper bound with 95 %
        confidence; "nothing"; "any", the share with a false name anywhere; "losses", a median.
    """
    known = [r for r in rows if r["outcome"]]
    groups = [(name, [r for r in known if by(r) == name]) for name in order]
    found = [_shares(name, own) for name, own in groups if own]
    return [*found, _shares("all", known)] if known else []


def _shares(name: str, own: Sequence[Row]) -> Row:
    n, count = len(own), Counter(r["outcome"] for r in own)
    listed = count["true"] + count["in set"]
    return {
        "group": name,
        "cases": n,
        "true": count["true"] / n,
        "set": listed / n,
        "place": (listed + count["place"]) / n,
        "false": count["false"] / n,
        "at_most": at_most(count["false"], n),
        "nothing": count["nothing"] / n,
        "any": sum("false" in r["judged"] for r in own) / n,
        "losses": median(r["losses"] for r in own),
    }


def number(found: Row) -> str:
    """The group of a row by how many mistakes it has."""
    n = len(found["faults"])
    return str(n) if n < 3 else "3–4" if n < 5 else "5–8"


GROUPS: dict[str, tuple[Callable[[Row], str], Sequence[str]]] = {
    "known": (lambda r: str(r["known"]), KNOWN),
    "faults at once": (number, ("1", "2", "3–4", "5–8")),
    "head": (lambda r: str(r["head"]), HEADS),
    "cell": (lambda r: str(r["cell"]), CELLS),
}


def kinds(rows: Sequence[Row]) -> list[Row]:
    """Single mistakes by kind, those with a false name first at the top."""
    found = []
    for kind in KINDS:
        own = [r for r in rows if r["outcome"] and _kinds(r) == [kind]]
        others = Counter(_first(r) for r in own if r["outcome"] != "true")
        if others:
            words = ", ".join(f"{name} {n}" for name, n in others.most_common())
            true = sum(r["outcome"] == "true" for r in own) / len(own)
            false = sum(r["outcome"] == "false" for r in own)
            shares = {"true": true, "false": false, "otherwise": words}
            found.append({"kind": kind, "cases": len(own)} | shares)
    return sorted(found, key=lambda r: (-r["false"], r["kind"]))


def _kinds(found: Row) -> list[str]:
    return [mistake.partition(" ")[0] for mistake in found["faults"]]


def _first(found: Row) -> str:
    mark = "!" if found["outcome"] == "false" else ""
    return mark + found["causes"][0] if found["causes"] else "nothing"
