"""Two gradients out of a pasted text, and in words how it was read.

Numbers behind words of their own are tried first, then two arrays, then a table with a heading or
without. What is not read is said, with its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NoReturn

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.diagnosis.printed.numbers import Number, digits_of, half_units
from throughtime.diagnosis.printed.rows import PrintedTable, arrays_of, line_roles, table_of
from throughtime.diagnosis.printed.segments import Segment, matched, segments_of
from throughtime.diagnosis.printed.tokens import PrintedLine, lines_of
from throughtime.gradcheck import CheckError

MOST_SAID = 5  # lines that are quoted; of more, the number is given
LONGEST_QUOTE = 60  # characters
MOST_TENSORS = 60  # with different names; of more, all entries are one tensor
TRAILING_COUNT = re.compile(r"[_.]*\d[\d_.]*$")


@dataclass(frozen=True)
class Pair:
    """An entry of the gradient beside its numerical derivative, as printed."""

    name: str
    index: tuple[int, ...] | None
    gradient: Number
    numerical: Number


@dataclass(frozen=True)
class ParsedGradients:
    """What was read.

    Attributes:
        gradient, numerical: by name.
        gradient_digits, numerical_digits: half a unit of the last digit of each number.
        known: whether the text says which of the two is which.
        said: how it was read, in sentences.
        notes: what was not read, and what cannot be compared, in sentences.
        lost: whether a number of the gradient is not finite where the other one is.
        sources: what the two are called in the text, the gradient first.
    """

    gradient: dict[str, Array]
    numerical: dict[str, Array]
    gradient_digits: dict[str, Array]
    numerical_digits: dict[str, Array]
    known: bool
    said: tuple[str, ...]
    notes: tuple[str, ...]
    lost: bool = False
    sources: tuple[str, str] = ("the first", "the second")


@dataclass(frozen=True)
class PrintedPairs:
    """Pairs, before they are sorted by tensor.

    Attributes:
        pairs: the gradient and its numerical derivative, entry by entry.
        known: whether the text says which of the two is which.
        sources: what the two are called, the gradient first.
        how: where they stand, in words.
        used: the lines that they were read from.
        problems: sentences on lines that should have been read.
    """

    pairs: list[Pair]
    known: bool
    sources: tuple[str, str]
    how: str
    used: set[int]
    problems: list[str] = field(default_factory=list)


def read(text: str, what: str = "text") -> ParsedGradients:
    """Two gradients as a program printed them.

    Raises:
        CheckError: where no pair of numbers can be read, or it is not clear which belong together.

    Example:
        >>> found = read("numerical: 0.50 analytic: 0.25")
        >>> found.gradient["all"], found.numerical["all"]
        (array([0.25]), array([0.5]))
    """
    lines = lines_of(_joined(text))
    found = _labelled(lines) or _of_table(arrays_of(lines)) or _of_table(table_of(lines))
    problems = [_quoted(line) for line in lines if line.numbers]
    if found is None or not found.pairs:
        _refused(what, lines, problems)
    whole = [pair for pair in found.pairs if _finite(pair)]
    if not whole:
        _refused(what, lines, problems, "none of them finite")
    return _sorted(found, whole, lines)


def _joined(text: str) -> str:
    """NumPy's messages in one form.

    The older ones call what is under test x, and what is desired y; the newer ones show the first
    entries twice.
    """
    if re.search(r"^\W*x: *\w*\(?[\[\w]", text, re.M) and re.search(r"^\W*y: *\w*\(?", text, re.M):
        text = re.sub(r"^(\W*)x:", r"\1ACTUAL:", text, flags=re.M)
        text = re.sub(r"^(\W*)y:", r"\1DESIRED:", text, flags=re.M)
    again = re.compile(r"^.*\(ACTUAL\),.*\(DESIRED\).*$", re.M)
    return again.sub("", text) if "ACTUAL: " in text else text


def _finite(pair: Pair) -> bool:
    return bool(np.isfinite(pair.gradient.value) and np.isfinite(pair.numerical.value))


def _labelled(lines: Sequence[PrintedLine]) -> PrintedPairs | None:
    both = matched(segments_of(lines))
    if both is None:
        return None
    pairs: list[Pair] = []
    used: set[int] = set()
    words: list[tuple[str, str]] = []
    for mine, true in both:
        name = mine.name or true.name
        shape = _shape(mine, true)
        for k, (a, b) in enumerate(zip(mine.numbers, true.numbers, strict=True)):
            index = mine.index if mine.index is not None else true.index
            if shape is not None:
                index = tuple(int(i) for i in np.unravel_index(k, shape))
            pairs.append(Pair(name, index, a, b))
            used |= {a.line, b.line}
        used |= {mine.line, true.line}
        words.append((mine.role.text, true.role.text))
    if not pairs:
        return None
    first = words[0]
    how = f"the gradient is '{first[0]}', the numerical one is '{first[1]}'"
    return PrintedPairs(pairs, True, first, how, used)


def _shape(mine: Segment, true: Segment) -> tuple[int, ...] | None:
    """The shape of two arrays, if their brackets or lines give both the same one."""
    rows = [[count for count in one.rows if count] for one in (mine, true)]
    if rows[0] != rows[1] or len(rows[0]) < 2 or len(set(rows[0])) > 1 or rows[0][0] < 2:
        return None
    return len(rows[0]), rows[0][0]


def _of_table(table: PrintedTable | None) -> PrintedPairs | None:
    if table is None:
        return None
    pairs = [
        Pair(row.name, row.index, row.numbers[table.gradient], row.numbers[table.numerical])
        for row in table.rows
    ]
    used = {one.line for row in table.rows for one in row.numbers} | table.headings
    return PrintedPairs(pairs, table.known, table.sources, table.how, used, table.problems)


def _sorted(
    found: PrintedPairs, whole: list[Pair], lines: Sequence[PrintedLine]
) -> ParsedGradients:
    digits = [half_units([getattr(pair, side) for pair in whole]) for side in SIDES]
    names = _names(whole)
    tensors: dict[str, list[int]] = {}
    for k, name in enumerate(names):
        tensors.setdefault(name, []).append(k)
    parts: list[dict[str, Array]] = [{}, {}, {}, {}]
    for name, places in tensors.items():
        order, shape = _in_shape([whole[k].index for k in places])
        chosen = np.array(places)[order]
        columns = [np.array([getattr(whole[k], side).value for k in chosen]) for side in SIDES]
        for part, column in zip(parts, (*columns, *(d[chosen] for d in digits)), strict=True):
            part[name] = column.reshape(shape)
    lost = [
        pair
        for pair in found.pairs
        if not np.isfinite(pair.gradient.value) and np.isfinite(pair.numerical.value)
    ]
    return ParsedGradients(
        parts[0],
        parts[1],
        parts[2],
        parts[3],
        found.known,
        tuple(_said(found, whole)),
        tuple(_notes(found, lines)),
        any(not pair.gradient.problem for pair in lost),
        found.sources,
    )


SIDES = ("gradient", "numerical")


def _names(pairs: list[Pair]) -> list[str]:
    """The tensor of each pair; where names count entries, as in w_1, w_2, …, they are one."""
    names = [pair.name or "all" for pair in pairs]
    if 2 * len(set(names)) > len(names) and len(set(names)) > 2:
        stems = [TRAILING_COUNT.sub("", name) for name in names]
        if len(set(stems)) < len(set(names)) and all(stems):
            names = stems
    return names if len(set(names)) <= MOST_TENSORS else ["all"] * len(pairs)


def _in_shape(indices: list[tuple[int, ...] | None]) -> tuple[Array, tuple[int, ...]]:
    """The order and the shape that indices give, if they name every entry of a matrix once."""
    count = len(indices)
    flat = np.arange(count), (count,)
    if any(index is None or len(index) != 2 for index in indices):
        return flat
    table = np.array(indices, dtype=np.float64)
    table -= table.min(axis=0)
    rows, columns = (int(size) for size in table.max(axis=0) + 1)
    if rows * columns != count or len({tuple(index) for index in table.tolist()}) != count:
        return flat
    return np.lexsort((table[:, 1], table[:, 0])), (rows, columns)


def _said(found: PrintedPairs, whole: list[Pair]) -> Iterator[str]:
    ways = [digits_of([getattr(pair, side) for pair in whole]) for side in SIDES]
    printed = ways[0] if ways[0] == ways[1] else f"{ways[0]} and {ways[1]}"
    names = list(dict.fromkeys(_names(whole)))
    tensors = f" of {', '.join(names)}" if 1 < len(names) <= 8 else ""
    count = f"{len(found.pairs):,} pair{'s' * (len(found.pairs) != 1)}"
    yield f"{count}{tensors}: {found.how}; printed {printed}."


def _notes(found: PrintedPairs, lines: Sequence[PrintedLine]) -> Iterator[str]:
    lost = [pair for pair in found.pairs if not _finite(pair)]
    if lost:
        are = "is" if len(lost) == 1 else "are"
        sentences = [_why_lost(pair) for pair in lost[:MOST_SAID]]
        more = f"; and {len(lost) - MOST_SAID} more" if len(lost) > MOST_SAID else ""
        yield f"{len(lost)} of them {are} not compared: {'; '.join(sentences)}{more}."
    yield from found.problems[:MOST_SAID]
    if len(found.problems) > MOST_SAID:
        yield f"{len(found.problems) - MOST_SAID} further lines could not be read either."
    yield from _glued(lines)
    aside = [f"'{text}' in line {line.place}" for line in lines for text in line.aside]
    left = [
        _quoted(line)
        for line in lines
        if line.place not in found.used and (line.numbers or line.words)
    ]
    yield from _passed_over(left)
    if aside:
        yield f"Left aside: {_listed(aside)}."
    if any(token.kind == "dots" for line in lines for token in line.tokens):
        yield "Entries that the text leaves out with dots are not compared."


def _glued(lines: Sequence[PrintedLine]) -> Iterator[str]:
    """Numbers that were pasted together: the sign between them may have been a dash."""
    found = [
        f"{a.text}{b.text} in line {line.place}"
        for line in lines
        for a, b in pairwise(line.tokens)
        if a.number is not None and b.number is not None and a.end == b.start
    ]
    if found:
        yield f"Without a space between them, read as two numbers each: {_listed(found)}."


def _passed_over(left: list[str]) -> Iterator[str]:
    if left:
        yield f"Passed over: {_listed(left)}."


def _listed(items: list[str]) -> str:
    more = f", and {len(items) - MOST_SAID} more" if len(items) > MOST_SAID else ""
    return ", ".join(items[:MOST_SAID]) + more


def _why_lost(pair: Pair) -> str:
    one = next(n for n in (pair.gradient, pair.numerical) if not np.isfinite(n.value))
    other = pair.numerical if one is pair.gradient else pair.gradient
    return f"line {one.line}: {one.problem or f'{one.text} beside {other.text}'}"


def _quoted(line: PrintedLine) -> str:
    text = line.text if len(line.text) <= LONGEST_QUOTE else line.text[: LONGEST_QUOTE - 1] + "…"
    return f"line {line.place} '{text}'"


def _uneven(lines: Sequence[PrintedLine]) -> str:
    """A sentence on words behind which different counts of numbers stand; "" where there are none.

    Only words that say which of the two it is count.
    """
    found = [s for s in segments_of(lines) if s.role.kind == "gradient" and s.numbers]
    counts = {len(segment.numbers) for segment in found}
    if len({segment.role.trust for segment in found}) < 2 or len(counts) < 2:
        return ""
    return _listed(
        [f"{len(s.numbers)} behind '{s.role.text}' in line {s.line}" for s in found[:MOST_SAID]]
    )


def _refused(
    what: str, lines: Sequence[PrintedLine], problems: list[str], actual: str = ""
) -> NoReturn:
    damage = [f"line {n.line}: {n.problem}" for line in lines for n in line.numbers if n.problem]
    uneven = _uneven(lines)
    texts = (
        [uneven]
        if uneven and not damage
        else damage or problems or [_quoted(line) for line in lines if line.text]
    )
    actual = actual or ("numbers that do not pair" if problems else "none")
    seen = f"{actual}: {_listed(texts)}" if texts else "nothing"
    way_out = (
        "put a pair in each line, under a first line such as 'numerical gradient', or name each "
        "array: 'numerical: [0.1, 0.2] gradient: [0.1, 0.2]'"
    )
    if any(role.kind == "derived" for line in lines for role in line_roles(line)) and not uneven:
        way_out = f"an error or a difference alone tells no cause: {way_out}"
    refuse(what, "lines with two numbers, gradient and numerical", seen, way_out, error=CheckError)
