"""Tables: pairs in rows, under a heading or without, and two arrays without words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from throughtime.diagnosis.printed.columns import pairs_among, side_by_side, spread
from throughtime.diagnosis.printed.numbers import Number, commonest
from throughtime.diagnosis.printed.roles import Role
from throughtime.diagnosis.printed.segments import is_name, phrases
from throughtime.diagnosis.printed.tokens import ARRAYS, PrintedLine, Token

PROSE = 3  # words: with so many, whole numbers in a line are no entries
NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")


@dataclass(frozen=True)
class PrintedRow:
    """Numbers side by side.

    Attributes:
        line: where they stand.
        name: what stands before them.
        index: of the entry, if what stands before them has one.
        numbers: all but the index.
    """

    line: int
    name: str
    index: tuple[int, ...] | None
    numbers: tuple[Number, ...]


@dataclass(frozen=True)
class PrintedTable:
    """Rows, and which of their columns are the two gradients.

    Attributes:
        rows: each with equally many numbers.
        gradient, numerical: columns, from 0.
        known: whether the text says which is which.
        sources: what the two are called, the gradient first.
        how: where they stand, in words.
        headings: lines that were understood as headings.
        problems: sentences on lines that should have been read.
    """

    rows: list[PrintedRow]
    gradient: int
    numerical: int
    known: bool
    sources: tuple[str, str]
    how: str
    headings: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Heading:
    line: int
    roles: tuple[Role, ...]


def table_of(lines: Sequence[PrintedLine]) -> PrintedTable | None:
    """The rows of a text, under its first heading."""
    rows, headings, titles = _rows(lines)
    if not rows:
        return None
    found = _under(headings, rows) if headings else _without_heading(rows, lines)
    return None if found is None else replace(found, headings=found.headings | titles)


def _rows(lines: Sequence[PrintedLine]) -> tuple[list[PrintedRow], list[_Heading], set[int]]:
    """The rows, the headings, and the lines that name what follows."""
    rows: list[PrintedRow] = []
    headings: list[_Heading] = []
    title = ""
    titles: set[int] = set()
    for line in lines:
        tokens = list(line.tokens)
        roles = _roles(tokens)
        if _is_heading(roles):
            headings.append(_Heading(line.place, roles))
            title = title if not line.numbers else ""
        elif not line.numbers and len(line.words) == 1 and not roles:
            title, titles = line.words[0], titles | {line.place}
        numbers = line.numbers
        if not any(one.value == one.value for one in numbers) and not any(
            one.text.lower() in ("nan", "inf", "-inf", "none") for one in numbers
        ):
            continue
        if all(one.whole for one in numbers) and len(line.words) >= PROSE:
            continue
        if roles and all(role.kind == "derived" for role in roles):
            continue  # an error, a difference: not the two gradients
        name, index = _label(tokens)
        rows.append(PrintedRow(line.place, name or title, index, tuple(numbers)))
    return rows, headings, titles


def line_roles(line: PrintedLine) -> tuple[Role, ...]:
    """What the words before the first number of a line say."""
    return _roles(line.tokens)


def _roles(tokens: Sequence[Token]) -> tuple[Role, ...]:
    first = next((k for k, t in enumerate(tokens) if t.number is not None), len(tokens))
    return tuple(one.role for one in phrases(tokens[:first]))


def _is_heading(roles: Sequence[Role]) -> bool:
    gradients = _gradients(roles)
    return len(gradients) == 2 and gradients[0].trust != gradients[1].trust


def _gradients(roles: Sequence[Role]) -> list[Role]:
    """The two gradients that a heading names: strong words before weak ones.

    Of three, as of one's own, a library's and the numerical one, the most different are taken.
    """
    own = [role for role in roles if role.kind == "gradient"]
    strong = [role for role in own if not role.weak]
    if len(own) != 2 and len(strong) > 2 and len({role.trust for role in strong}) == len(strong):
        ends = [pick(strong, key=lambda role: role.trust) for pick in (min, max)]
        return [role for role in strong if role in ends]
    return own if len(own) == 2 else strong if len(strong) == 2 else own


def _label(tokens: Sequence[Token]) -> tuple[str, tuple[int, ...] | None]:
    """The name and the index that stand before the first number."""
    before = []
    for token in tokens:
        if token.number is not None:
            break
        before.append(token)
    named = [t for t in before if t.kind == "word" and t.index is not None]
    words = [t for t in before if t.kind == "word" and is_name(t) and not phrases([t])]
    chosen = next(iter(named or words), None)
    index = next((t.index for t in before if t.index is not None), None)
    match = NAME.search(chosen.text) if chosen is not None else None
    return (match.group() if match else chosen.text if chosen else ""), index


def _under(headings: Sequence[_Heading], rows: list[PrintedRow]) -> PrintedTable | None:
    """Rows below a heading that names their columns."""
    roles = [role for role in headings[0].roles if role.kind != "index"]
    two = _gradients(headings[0].roles)
    strong = [role for role in roles if role.kind == "gradient" and not role.weak]
    kept = [role for role in roles if role.kind == "derived" or role in (*two, *strong)]
    lines = {heading.line for heading in headings}
    width = len(kept)
    indices = sum(role.kind == "index" for role in headings[0].roles)
    places = [kept.index(role) for role in two]
    problems: list[str] = []
    if all(len(row.numbers) == width + indices for row in rows) and indices:
        rows = [replace(row, numbers=row.numbers[indices:]) for row in rows]
    whole = [row for row in rows if len(row.numbers) == width]
    if 2 * len(whole) < len(rows):
        narrowed = _narrowed(rows, two, width)
        if narrowed is not None:
            whole, places, width = narrowed
        else:
            return None
    else:
        problems = [_miscounted(row, width) for row in rows if len(row.numbers) != width]
    gradient, numerical = places if two[0].trust < two[1].trust else places[::-1]
    names = {places[0]: two[0].text, places[1]: two[1].text}
    how = (
        f"the gradient is '{names[gradient]}', column {gradient + 1}; the numerical one is "
        f"'{names[numerical]}', column {numerical + 1}"
    )
    sources = names[gradient], names[numerical]
    return PrintedTable(whole, gradient, numerical, True, sources, how, lines, problems)


def _miscounted(row: PrintedRow, width: int) -> str:
    count = len(row.numbers)
    text = "  ".join(one.text for one in row.numbers[:6])
    return (
        f"Line {row.line} was not read: {count} number{'s' * (count != 1)}, not {width} ({text})."
    )


def _narrowed(
    rows: list[PrintedRow], two: Sequence[Role], width: int
) -> tuple[list[PrintedRow], list[int], int] | None:
    """Rows whose count is not that of the heading: more columns, or several pairs to a line."""
    count = commonest([len(row.numbers) for row in rows])
    alike = [row for row in rows if len(row.numbers) == count]
    if len(alike) > 1 and count > 2 and len(alike) == len(rows):
        found = pairs_among(list(zip(*(row.numbers for row in alike), strict=True)))
        if found:
            return alike, list(found[0]), count
    flat = [one for row in rows for one in row.numbers]
    if all(len(row.numbers) % width == 0 for row in rows) or len(flat) % width == 0:
        if width == 2 and len(rows) == 1:
            both = side_by_side(flat)
            if both is not None and both[0][1] is not flat[2]:  # one column, then the other
                flat = [one for pair in zip(*both, strict=True) for one in pair]
        named = rows if len(rows) > 1 else [replace(rows[0], name="", index=None)]
        line = {id(one): row for row in named for one in row.numbers}
        return (
            [
                replace(line[id(flat[k])], numbers=tuple(flat[k : k + width]))
                for k in range(0, len(flat), width)
            ],
            [0, 1],
            width,
        )
    return None


def _without_heading(rows: list[PrintedRow], lines: Sequence[PrintedLine]) -> PrintedTable | None:
    order = _order_of_form(lines)
    count = commonest([len(row.numbers) for row in rows if len(row.numbers) > 1])
    alike = [row for row in rows if len(row.numbers) == count]
    problems = [_miscounted(row, count) for row in rows if len(row.numbers) != count]
    if count >= 2 and (len(alike) > 1 or count <= 3):
        found = pairs_among(list(zip(*(row.numbers for row in alike), strict=True)))
        blocks = _two_blocks(rows) if len(alike) == len(rows) else None
        if blocks is not None and count == 2 and _spread(blocks.rows) < 0.5 * _spread(rows):
            return blocks
        if len(found) == 1 and 2 * len(alike) >= len(rows):
            return _unnamed(alike, *found[0], order, problems)
    flat = tuple(one for row in rows for one in row.numbers)
    if len(rows) > 1 and count > 1:
        return _two_blocks(rows)
    both = side_by_side(flat)
    if both is None:
        return None
    where = [row for row in rows for _ in row.numbers]
    paired = [PrintedRow(where[0].line, "", None, (a, b)) for a, b in zip(*both, strict=True)]
    lined = [replace(row, line=row.numbers[0].line) for row in paired]
    table = _unnamed(lined, 0, 1, order, [])
    beside = both[0][1] is flat[2]
    words = "numbers stand in pairs" if beside else "one column stands before the other"
    used = {row.line for row in rows}
    return replace(table, how=f"{words}; {table.how}", headings=used)


def _spread(rows: list[PrintedRow]) -> float:
    """How far the ratios of two columns lie apart."""
    return spread(*zip(*(row.numbers for row in rows), strict=True))


def _two_blocks(rows: list[PrintedRow]) -> PrintedTable | None:
    """Two matrices without brackets, with an empty line or a word between them."""
    half = len(rows) // 2
    widths = [len(row.numbers) for row in rows]
    gaps = [k for k in range(1, len(rows)) if rows[k].line - rows[k - 1].line > 1]
    if gaps != [half] or widths[:half] != widths[half:]:
        return None
    flat = [one for row in rows for one in row.numbers]
    paired = zip(flat[: len(flat) // 2], flat[len(flat) // 2 :], strict=True)
    table = _unnamed([PrintedRow(a.line, "", None, (a, b)) for a, b in paired], 0, 1, "", [])
    how = "two blocks of lines; nothing says which of them is the numerical one"
    return replace(table, how=how, sources=("the first block", "the second block"))


def _unnamed(
    rows: list[PrintedRow], one: int, other: int, order: str, problems: list[str]
) -> PrintedTable:
    if order:
        how = (
            f"the gradient is column {other + 1}, the numerical one column {one + 1}, as in {order}"
        )
        sources = (f"column {other + 1}", f"column {one + 1}")
        return PrintedTable(rows, other, one, True, sources, how, set(), problems)
    how = f"columns {one + 1} and {other + 1}; nothing says which of them is the numerical one"
    sources = (f"column {one + 1}", f"column {other + 1}")
    return PrintedTable(rows, one, other, False, sources, how, set(), problems)


def _order_of_form(lines: Sequence[PrintedLine]) -> str:
    """The checker whose form fixes the order of its columns; "" where there is none."""
    forms = [line for line in lines if line.numbers]
    arrows = [
        line
        for line in forms
        if len(line.numbers) == 3
        and [t.kind for t in line.tokens if t.kind in ("arrow", "number")][-2:]
        == ["arrow", "number"]
    ]
    return "gradCheck of min-char-rnn" if forms and len(arrows) == len(forms) else ""


def arrays_of(lines: Sequence[PrintedLine]) -> PrintedTable | None:
    """Two arrays, one after the other, without a word that says which is which."""
    tokens = [(line, token) for line in lines for token in line.tokens]
    if any(_roles(line.tokens) for line in lines):
        return None
    groups: list[list[Number]] = []
    prefixed: list[list[Number]] = []
    depth, within = 0, -1
    for k, (_, token) in enumerate(tokens):
        if token.kind == "open":
            if not depth:
                groups.append([])
            depth += 1
            before = tokens[k - 1][1] if k else None
            if within < 0 and before is not None and _makes_arrays(before):
                prefixed.append([])
                within = depth
        elif token.kind == "close":
            if depth == within:
                within = -1
            depth = max(0, depth - 1)
        elif token.number is not None:
            if not depth:
                return None
            groups[-1].append(token.number)
            if within >= 0:
                prefixed[-1].append(token.number)
    for own in (prefixed, groups):
        if len(own) == 2 and len(own[0]) == len(own[1]) > 2:
            rows = [PrintedRow(a.line, "", None, (a, b)) for a, b in zip(*own, strict=True)]
            table = _unnamed(rows, 0, 1, "", [])
            how = "two arrays; nothing says which of them is the numerical one"
            used = {one.line for group in own for one in group}
            sources = ("the first array", "the second array")
            return replace(table, how=how, headings=used, sources=sources)
    return None


def _makes_arrays(token: Token) -> bool:
    return token.kind == "word" and token.text.rpartition(".")[2].lower() in ARRAYS
