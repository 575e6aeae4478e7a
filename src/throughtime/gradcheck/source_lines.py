"""What a check says of the lines of a user's source: plain data, and as text.

The lines are judged elsewhere, by running the source: a target has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

MARKS = {"right": "✓", "wrong": "✗", "follows": "·", "unknown": "?", "": " "}
INDENTED: Any = {"initial_indent": "   ", "subsequent_indent": "   "}
WIDEST_WORDS = 100  # columns of sentences
UNBROKEN = 10**6  # columns where no line is broken, since it is read by a program or in a file
WIDEST_CODE = 60  # columns of text; the rest of a line is left out
DEEPEST = 4  # columns of indentation that are kept


def is_multiple(status: str, meaning: str) -> bool:
    """Whether a line assigns a multiple of a derivative, as "3 · ∂L/∂y"."""
    return status == "right" and bool(meaning) and meaning[0] != "∂"


@dataclass(frozen=True)
class SourceLine:
    """One line of a function that computes the gradient.

    Attributes:
        path: of its file.
        line: its number.
        last_line: of the statement that begins there.
        code: as it is written.
        status: "right": what it assigns is a derivative or its multiple, as `meaning` says;
            "wrong": it is not what it should be, which was seen at two points with different data;
            "follows": wrong because of a line that is;
            "unknown": it matches nothing that is known, and with `expected` it may be wrong;
            "": nothing was looked at in it.
        said: what is known of it, in words.
        function, target, meaning, expected, noticed, edit, doubtful, mended, order: as in a
            `LineFinding`; empty where nothing was looked at.
    """

    path: str
    line: int
    last_line: int
    code: str
    status: str = ""
    said: str = ""
    function: str = ""
    target: str = ""
    meaning: str = ""
    expected: str = ""
    noticed: tuple[str, ...] = ()
    edit: tuple[str, str] | None = None
    doubtful: tuple[int, ...] = ()
    mended: tuple[str, ...] = ()
    order: int = 0

    @property
    def mark(self) -> str:
        """A sign for its status; a multiple of a derivative is not it."""
        return "∝" if is_multiple(self.status, self.meaning) else MARKS[self.status]


@dataclass(frozen=True)
class SourceLines:
    """Which line of a user's source is wrong, as far as that is known.

    Attributes:
        summary: in one or two sentences.
        next: what to do then, one sentence.
        leads: whether it says more than the causes, and so comes before them.
        mends: the names of tensors that the true values in its wrong lines make right.
        lines: of all functions that compute the gradient, in order.
    """

    summary: str
    next: str = ""
    leads: bool = False
    mends: tuple[str, ...] = ()
    lines: tuple[SourceLine, ...] = ()


def sentence_width(width: int) -> int:
    """Up to how many columns a sentence may have where a line may have so many."""
    return width if width >= UNBROKEN else min(width, WIDEST_WORDS)


def line_section(found: SourceLines, width: int) -> Iterator[str]:
    """The section of a report, as lines of text."""
    yield ""
    yield "Which line"
    yield from wrap(found.summary, sentence_width(width), **INDENTED)
    paths = list(dict.fromkeys(line.path for line in found.lines if line.status))
    for path in paths:
        if len(paths) > 1:
            yield f"   {path}"
        yield from _listing([line for line in found.lines if line.path == path], width)
    if found.next:
        yield from wrap(found.next, width, break_on_hyphens=False, **INDENTED)


def _listing(lines: list[SourceLine], width: int) -> Iterator[str]:
    """The lines that something is said of: in columns, or two below each other where too wide."""
    raw = {line.line: line.code for line in lines}
    shown = [line for line in lines if line.status]
    least = min(_indent(line.code) for line in shown)
    code = [_statement(line, raw, least) for line in shown]
    digits, columns = len(str(shown[-1].line)), max(map(len, code))
    for line, text in zip(shown, code, strict=True):
        start = f"   {line.line:>{digits}} {line.mark}  "
        row = f"{start}{text:<{columns}}  {line.said}".rstrip()
        if len(row) <= width:
            yield row
            continue
        room = width - len(start)
        yield start + (text if len(text) <= room else f"{text[: room - 1]}…")
        indent = " " * (len(start) + 4)
        yield from wrap(line.said, width, initial_indent=indent, subsequent_indent=indent)


def _statement(line: SourceLine, raw: dict[int, str], least: int) -> str:
    """A statement in one line of text, without its comment and most of its indentation."""
    parts = [raw.get(number, "") for number in range(line.line, line.last_line + 1)]
    text = " ".join(part.strip() for part in parts).split(" #")[0].rstrip()
    text = " " * min(_indent(line.code) - least, DEEPEST) + text
    return text if len(text) <= WIDEST_CODE else f"{text[: WIDEST_CODE - 1]}…"


def _indent(code: str) -> int:
    return len(code) - len(code.lstrip())
