"""Which line, as a report says it: seen twice, at other points and with other data.

A line that is called wrong costs its reader an hour. What a single point shows may be a
coincidence, of a factor with a size, or of a value with a derivative that it is not: so the lines
are looked at again elsewhere, and what is not seen there too is only a doubt.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from throughtime.diagnosis.faults import FAULTS
from throughtime.gradcheck import (
    Cause,
    CheckError,
    Report,
    SourceLine,
    SourceLines,
    is_multiple,
)
from throughtime.source.lines.annotate import LineFinding, annotate, at_few_steps, first_wrong
from throughtime.source.lines.annotated import said
from throughtime.source.lines.trials import moved
from throughtime.source.recipe import Program, Recipe
from throughtime.source.text import read_source
from throughtime.source.tolerances import SECOND_POINT, UNSURE

NOT_SHOWN = (
    "It is not known: at the few steps at which the lines were looked at, the gradient is right."
)
ONCE = "seen at one of two points only"


def which_line(recipe: Recipe, report: Report, seed: int) -> SourceLines:
    """The lines of the backward pass, and which of them is wrong; or why that is not known.

    Args:
        recipe: how the file is run.
        report: what the check found.
        seed: of its data; the second look is at those of the next seed.
    """
    try:
        findings = confirmed(recipe, seed)
        _, shown = at_few_steps(Program(recipe, seed=seed), None)
    except CheckError as problem:
        return SourceLines(f"It is not known, since the lines could not be looked at: {problem}.")
    if not findings:
        return SourceLines(
            "It is not known: no line of the file assigns a value that changes with the gradient."
        )
    wrong = [finding for finding in findings if finding.status == "wrong"]
    return SourceLines(
        (summary(findings) if shown else NOT_SHOWN) + _in_cells(recipe, wrong),
        leads=bool(wrong) and _says_more(wrong, report),
        mends=tuple(sorted({name for finding in wrong for name in finding.mended})),
        lines=tuple(_listed(findings)),
    )


def causes_beside(lines: SourceLines, report: Report) -> tuple[Cause, ...]:
    """The causes that stay beside lines: where these explain all that is wrong, guesses do not.

    Of a place like the output layer, or of one among several faults that cannot be told apart.
    """
    wrong = {name for name, tensor in report.tensors.items() if tensor.verdict == "disagree"}
    if not lines.leads or not wrong <= set(lines.mends):
        return tuple(report.causes)
    return tuple(cause for cause in report.causes if cause.confidence > UNSURE)


def _in_cells(recipe: Recipe, wrong: Sequence[LineFinding]) -> str:
    """How the lines of a notebook are counted, and in which cells the wrong ones are."""
    if recipe.path.suffix != ".ipynb":
        return ""
    places = [f"line {f.line} is {read_source(f.path).place(f.line)}" for f in wrong]
    counted = " Lines are counted through all code cells"
    return f"{counted}: {'; '.join(places)}." if places else f"{counted}."


def confirmed(recipe: Recipe, seed: int) -> tuple[LineFinding, ...]:
    """The lines as two looks at them agree, with other data and at another point.

    Raises:
        CheckError: where they cannot be looked at as the file stands.
    """
    first = annotate(Program(recipe, seed=seed))
    if not any(finding.expected for finding in first):
        return first
    try:
        second = annotate(moved(Program(recipe, seed=seed + 1), SECOND_POINT))
    except CheckError:
        second = ()
    return agreed(first, second)


def agreed(first: Sequence[LineFinding], second: Sequence[LineFinding]) -> tuple[LineFinding, ...]:
    """What two looks say alike; the rest of what they say is in doubt."""
    again = {(finding.path, finding.line): finding for finding in second}
    found = [_agreed(finding, again.get((finding.path, finding.line))) for finding in first]
    if any(finding.status == "wrong" for finding in found):
        return tuple(found)
    return tuple(
        replace(finding, status="unknown") if finding.status == "follows" else finding
        for finding in found
    )


def _agreed(finding: LineFinding, other: LineFinding | None) -> LineFinding:
    if finding.status == "wrong":
        if other is None or (other.status, other.expected) != ("wrong", finding.expected):
            return replace(finding, status="unknown", noticed=(ONCE,), edit=None)
        noticed = tuple(text for text in finding.noticed if text in other.noticed)
        edit = finding.edit if finding.edit == other.edit else None
        return replace(finding, noticed=noticed, edit=edit)
    if finding.status == "right" and other is not None and other.status != "right":
        return replace(finding, status="unknown", meaning="")
    return finding


def summary(findings: Sequence[LineFinding]) -> str:
    """Which line is wrong, in a sentence or two."""
    wrong = sorted((f for f in findings if f.status == "wrong"), key=lambda f: f.order)
    if wrong:
        first = wrong[0]
        lines = f"Line {first.line} is wrong"
        if len(wrong) > 1:
            others = ", ".join(str(finding.line) for finding in wrong[:-1])
            lines = f"Lines {others} and {wrong[-1].line} are wrong; line {first.line} runs first"
        words = "; ".join([f"should be {first.expected}", *first.noticed])
        names = ", ".join(first.mended)
        mended = f" The true value there makes {names} right." if names else ""
        where = "Two points, with different data, show the same"
        return f"{lines}: {first.target} {words}.{mended} {where}."
    doubt = first_wrong(findings)
    if doubt is None and any(is_multiple(f.status, f.meaning) for f in findings):
        return (
            "It is not known. There is no single value whose true derivative, in its place, would "
            "make a wrong tensor right; lines marked ∝ assign multiples of derivatives."
        )
    if doubt is None:
        return (
            "It is not known: there is no single value whose true derivative, in its place, would "
            "make a wrong tensor right."
        )
    doubtful = [line for line in doubt.doubtful if line != doubt.line]
    made = f", or line {_any_of(doubtful)}, which it is made of" if doubtful else ""
    return f"It is not certain. Line {doubt.line} may be wrong{made}."


def _any_of(lines: Sequence[int]) -> str:
    return " or ".join(map(str, lines))


def _says_more(wrong: Sequence[LineFinding], report: Report) -> bool:
    """Whether the causes are places, or guesses, or about tensors that the lines do not concern."""
    if not report.causes:
        return True
    first = report.causes[0]
    fault = FAULTS.get(first.fault)
    if (fault is not None and fault.family) or first.confidence <= UNSURE:
        return True
    named = {name for name in report.tensors if _names(first.where, name)}
    mended = {name for finding in wrong for name in finding.mended}
    return bool(named) and not named & mended


def _names(words: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.]\w)", words) is not None


def _listed(findings: Sequence[LineFinding]) -> Iterator[SourceLine]:
    """The lines of the functions that the findings are in, with what is said of each."""
    for path in dict.fromkeys(finding.path for finding in findings):
        source = read_source(path)
        code = source.text.split("\n")
        own = {finding.line: finding for finding in findings if finding.path == path}
        for number in sorted(_lines_of_functions(source.text, own)):
            finding = own.get(number)
            if finding is None:
                yield SourceLine(str(path), number, number, code[number - 1])
                continue
            yield SourceLine(
                str(path),
                number,
                finding.last_line,
                code[number - 1],
                finding.status,
                said(finding, list(own.values())),
                **{name: getattr(finding, name) for name in COPIED},
            )


COPIED = ("function", "target", "meaning", "expected", "noticed", "edit", "doubtful", "mended",
          "order")  # fmt: skip


def _lines_of_functions(text: str, lines: dict[int, LineFinding]) -> set[int]:
    """The lines of the innermost functions around some; of those in none, all between them."""
    functions = [
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    found: set[int] = set()
    outside = []
    for line in lines:
        around = [set(extent) for extent in functions if line in extent]
        if around:
            found |= min(around, key=len)
        else:
            outside.append(line)
    if outside:
        found |= set(range(min(outside), max(outside) + 1))
    return found
