"""A pasted text as lines of tokens: numbers, words with an index, brackets and marks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from throughtime.diagnosis.printed.numbers import (
    DAMAGED,
    NOT_FINITE,
    NUMBER,
    Number,
    damaged,
    number,
)

DASHES = str.maketrans(
    dict.fromkeys("−‐‑‒–—﹣－⁻", "-")
    | dict.fromkeys("\u00a0\u2009\u202f\u2007", " ")
    | {"\t": "   "}
)
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
POWER_OF_TEN = re.compile(
    r"(?<=[\d.])\s?(?:[×x·*]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)?\s?[{(]?([-−⁻+]?[\d⁰¹²³⁴⁵⁶⁷⁸⁹]+)[})]?"
)
MATHEMATICA = re.compile(r"(?<=[\d.])\*\^(?=[-+]?\d)")
TOO_LONG = re.compile(r"\w{100,}")  # nothing that is printed has so many digits or letters
SCALE = re.compile(rf"({NUMBER.pattern})\s*\*\s*$")  # MATLAB's and torch's "1.0e-03 *"
# 0,25 by itself; not an index such as (0,25), and not 1,250.5.
DECIMAL_COMMA = re.compile(r"(?<![\d.])(?<!\d,)[-+]?\d+,\d+(?:[eE][-+]?\d+)?(?![\d.]|,\d)")
# No one writes 0617 for 617, or 0 and 1234 without a space.
LIKELY_COMMA = re.compile(r"[-+]?(?:0,\d{2,}|\d+,0\d+)(?:[eE][-+]?\d+)?")
IN_A_ROW = re.compile(r"(?<![\w.([])[-+]?\d+(?:,[-+]?\d+)+(?![\w.])(?!\s*[\])])")

# What stands beside numbers and says nothing of them.
NOISE = re.compile(
    r"\x1b\[[0-9;]*[A-Za-z]|\ufeff|\x00"
    r"|https?://\S+"
    r"|\b\d{4}-\d\d-\d\d(?:[T ]+\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?Z?)?|\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b"
    r"|\bdtype\s*=\s*['\"]?[\w.<]+['\"]?|\bdevice\s*=\s*'[^']*'|\bgrad_fn\s*=\s*<[^>]*>"
    r"|\b(?:requires_grad|weak_type)\s*=\s*\w+|\bshape\s*=?\s*[(\[][\d, ]*[)\]]"
    r"|\btorch\.Size\([^)]*\)|\[torch\.\w+ of size [^\]]*\]"
    r"|\[?\b[\w/\\.-]+\.[A-Za-z]\w{0,3}:\d+(?::\d+)?\]?(?=[\s:]|$)"  # a file, its line
    r"|^\s*E\s{2,}(?=\S)|^\s*>{1,3}(?=\s)|^\s*(?:In|Out) ?\[\d*\]:?"  # pytest, mail, notebooks
    r"|^\s*Columns \d+ (?:through|to|and) \d+:?|^\s*File \".*"
    r"|^\s*\d+(?:×\d+)* (?:\w+ )?(?:Matrix|Array|Vector)\b.*|^\s*\d+-element .*|Array\{[^}]*\}"
    r"|^\s*\[\d*,?\d*\](?=\s+[-+.\d])"  # R counts what it prints
)
# A setting beside the numbers: its name, its value.
SETTING = re.compile(
    rf"\b(?:difference|error|distance|discrepancy|deviation|mismatch) between\b[^\d\n]*"
    rf"{NUMBER.pattern}(?:, which exceeds {NUMBER.pattern})?|^{NUMBER.pattern} evaluates to .*"
    r"|\b(?:eps(?:ilon)?|step(?:[ _]?size)?|reg|lr|learning[ _]rate|seed|[ra]?tol|threshold|loss|"
    rf"cost|iter(?:ation)?s?|epoch|seq_length)\s*[:=]\s*{NUMBER.pattern}(?![\w.])"
    rf"|\b[hTBN]\s*=\s*{NUMBER.pattern}(?=\s*[,;)]|\s*$)",
    re.I,
)
ERROR_BAR = re.compile(rf"(?:±|\+/-|\+-)\s*{NUMBER.pattern}")
INDEX = r"\s?[\[(]\s*\d+(?:\s*,\s*\d+)*\s*,?\s*[\])](?:\[\s*\d+\s*\])*"
ARRAYS = (
    "array",
    "tensor",
    "matrix",
    "float32",
    "float64",
    "float16",
    "double",
    "ndarray",
    "list",
)
TOKEN = re.compile(
    rf"(?P<problem>{DAMAGED.pattern})"
    rf"|(?P<void>{NOT_FINITE.pattern})"
    r"|(?P<size>\d+(?:st|nd|rd|th|x\d+(?:x\d+)*|ms|us|s)\b|0x[0-9a-fA-F]+)"
    rf"|(?P<place>\(\s*\d+(?:\s*,\s*\d+)*\s*,?\s*\)|^\s*\[\s*\d+(?:\s*,\s*\d+)*\s*,?\s*\](?=.*\d))"
    rf"|(?P<glued>[^\W\d_]+(?=\d*\.\d{{3,}}))"
    rf"|(?P<word>[^\W\d][\w.]*)(?P<index>{INDEX})?"
    rf"|(?P<number>{NUMBER.pattern})(?P<percent>\s?%)?"
    r"|(?P<dots>\.\.\.|…)|(?P<arrow>=>|->|→)|(?P<open>[\[{(])|(?P<close>[\]})])|(?P<mark>[:=,;|/])",
    re.I,
)


@dataclass(frozen=True)
class Token:
    """A piece of a line.

    Attributes:
        kind: "number", "word", "place" (an index without a name), "open", "close", "arrow",
            "dots" or "mark".
        text: as it stands there.
        number: if it is one.
        index: if it is a word with an index, or a place.
        start, end: columns of the line, from 0.
    """

    kind: str
    text: str
    number: Number | None = None
    index: tuple[int, ...] | None = None
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class PrintedLine:
    """One line of a pasted text.

    Attributes:
        place: counted from 1.
        text: as it was pasted.
        tokens: what it holds.
        aside: settings and error bars on it, which are not compared.
    """

    place: int
    text: str
    tokens: tuple[Token, ...]
    aside: tuple[str, ...] = field(default=())

    @property
    def numbers(self) -> list[Number]:
        """Its numbers, without those of an index."""
        return [token.number for token in self.tokens if token.number is not None]

    @property
    def words(self) -> list[str]:
        """Its words."""
        return [token.text for token in self.tokens if token.kind == "word"]


def lines_of(text: str) -> list[PrintedLine]:
    """The lines of a text; a factor that stands before numbers, as in MATLAB, is multiplied in."""
    raw = text.splitlines()
    commas = _has_decimal_commas(raw)
    found, scale = [], 1.0
    for place, line in enumerate(raw, start=1):
        clean, aside = _cleaned(line, commas)
        factor = SCALE.search(clean)
        if factor:
            scale = number(factor[1]).value
            clean = clean[: factor.start()]
        if not factor and re.search(r"[^\W\d_]{2}", clean):
            scale = 1.0  # a word: what follows are other numbers
        tokens = tuple(_tokens(clean, place, scale))
        found.append(PrintedLine(place, line.strip(), tokens, aside))
    return found


def _cleaned(line: str, commas: bool) -> tuple[str, tuple[str, ...]]:
    aside = [f"{match[0][:9]}…" for match in TOO_LONG.finditer(line)]
    line = TOO_LONG.sub(" ", line)
    powers = POWER_OF_TEN.sub(lambda m: f"e{m[1].translate(SUPERSCRIPTS).replace('−', '-')}", line)
    clean = MATHEMATICA.sub("e", powers.translate(DASHES))
    clean = NOISE.sub(" ", NOISE.sub(" ", clean))  # a prefix may stand before another
    if commas:
        for match in reversed(list(_decimal_commas(clean))):
            clean = clean[: match.start()] + match[0].replace(",", ".") + clean[match.end() :]
    for pattern in (ERROR_BAR, SETTING):
        aside += [match[0].strip() for match in pattern.finditer(clean)]
        clean = pattern.sub(lambda match: " " * len(match[0]), clean)
    return clean, tuple(aside)


def _has_decimal_commas(lines: list[str]) -> bool:
    """Whether numbers are written with decimal commas, without any point.

    Several stand in a line, or most look like it: 0,25 and 3,07.
    """
    if any(re.search(r"\d\.\d", line) for line in lines):
        return False
    found = [[match[0] for match in _decimal_commas(line)] for line in lines]
    every = [text for own in found for text in own]
    likely = [text for text in every if LIKELY_COMMA.fullmatch(text)]
    several = any(len(own) > 1 for own in found)
    return len(every) > 1 and (
        (several and any(len(text.partition(",")[2]) > 2 for text in every))
        or 2 * len(likely) > len(every)
    )


def _decimal_commas(line: str) -> Iterator[re.Match[str]]:
    """What may be numbers with a decimal comma: no index."""
    for match in DECIMAL_COMMA.finditer(line):
        before, after = line[: match.start()], line[match.end() :]
        enclosed = before[-1:] in ("[", "(") and after[:1] in ("]", ")")
        if not enclosed:
            yield match


def _tokens(line: str, place: int, scale: float) -> Iterator[Token]:
    position = 0
    doubtful = {m.start(): m for m in IN_A_ROW.finditer(line) if LIKELY_COMMA.search(m[0])}
    while match := TOKEN.search(line, position):
        if match.start() in doubtful:
            whole = doubtful[match.start()]
            said = f"{whole[0]} has decimal commas, or is several numbers: write points"
            found = Number(np.nan, whole[0], place, problem=said)
            yield Token("number", whole[0], found, None, *whole.span())
            position = whole.end()
            continue
        token = _token(match, place, scale)
        position = max(token.end, position + 1)
        yield token


def _token(match: re.Match[str], line: int, scale: float) -> Token:
    kind = str(match.lastgroup)
    text, start, end = match[0].strip(), *match.span()
    if match["problem"] is not None:
        return Token("number", text, damaged(text, line), None, start, end)
    if match["void"] is not None:
        return Token("number", text, number(text.lower(), line), None, start, end)
    if match["number"] is not None:
        value = number(match["number"], line, scale, bool(match["percent"]))
        return Token("number", text, value, None, start, end)
    if match["place"] is not None:
        return Token("place", text, None, _integers(text), start, end)
    if match["word"] is not None:
        word, index = match["word"].rstrip("."), match["index"]
        if index and word.rpartition(".")[2].lower() in ARRAYS:
            index = None  # a number in an array; what follows the word is read by itself
            end = match.end("word")
        return Token("word", word, None, _integers(index) if index else None, start, end)
    kind = {"glued": "word", "size": "word"}.get(kind, kind)
    return Token(kind, text, None, None, start, end)


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", text))
