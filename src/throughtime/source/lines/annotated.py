"""A user's source with what each line of its backward pass computes, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from throughtime.source.lines.annotate import LineFinding
from throughtime.source.text import SourceText, read_source

MARKS = {"right": "✓", "wrong": "✗", "follows": "·", "unknown": "?"}
WIDEST_CODE = 60  # columns; the rest of a line is left out


def annotated_text(
    findings: Sequence[LineFinding], sources: Mapping[Path, SourceText] | None = None
) -> str:
    """The lines of the backward pass, each with its number, a mark, and what it computes.

    Args:
        findings: what `annotate` found.
        sources: the text of files that are not read from disk.
    """
    given = dict(sources or {})
    blocks = []
    for path in dict.fromkeys(finding.path for finding in findings):
        source = given.get(path) or read_source(path)
        own = [finding for finding in findings if finding.path == path]
        text = source.text.split("\n")
        code = [_code(text, finding) for finding in own]
        width = min(WIDEST_CODE, max(map(len, code)))
        digits = len(str(own[-1].line))
        rows = [
            f"{finding.line:>{digits}} {MARKS[finding.status]}  {line:<{width}}  "
            f"{said(finding, own)}".rstrip()
            for finding, line in zip(own, code, strict=True)
        ]
        blocks.append("\n".join([f"{path.name}", *rows]))
    return "\n\n".join(blocks)


def said(finding: LineFinding, others: Sequence[LineFinding] = ()) -> str:
    """What is known of a line, in one."""
    if finding.status == "right":
        return finding.meaning
    if finding.status == "follows":
        first = [other for other in others if other.status == "wrong"]
        lines = sorted({other.line for other in first})
        if not lines:
            return "follows from an earlier line"
        if len(lines) == 1:
            return f"follows from line {lines[0]}"
        return f"follows from lines {', '.join(map(str, lines))}"
    if not finding.expected:
        return "no derivative that is known"
    words = "; ".join([f"should be {finding.expected}", *finding.noticed])
    if finding.doubtful:
        made = ", ".join(map(str, finding.doubtful))
        words += f"; or what it is made of is wrong already (lines {made})"
    return words


def _code(text: Sequence[str], finding: LineFinding) -> str:
    lines = text[finding.line - 1 : finding.last_line]
    joined = " ".join(line.strip() for line in lines)
    indent = len(lines[0]) - len(lines[0].lstrip())
    code = joined.split("  #")[0].rstrip()
    code = " " * max(0, min(indent, 8) - 4) + code
    return code if len(code) <= WIDEST_CODE else code[: WIDEST_CODE - 1] + "…"
