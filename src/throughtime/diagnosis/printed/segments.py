"""Numbers that stand behind a word of their own: `numerical: 0.1 analytic: 0.2`, or two arrays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from throughtime.diagnosis.printed.numbers import Number
from throughtime.diagnosis.printed.roles import NUMERICAL, OUTWARD, Role, phrase, role_of
from throughtime.diagnosis.printed.tokens import ARRAYS, PrintedLine, Token

LONGEST_PHRASE = 6  # words
# Words between a label and its numbers, and of sentences around them, that name no tensor.
NO_NAMES = re.compile(
    r"gives|gave|yields|says|shows|returns|while|but|i|what|"
    r"variable|parameter|is|was|of|at|for|value|vector|matrix|result|results|by|from|jacobian|wrt|"
    r"respect|to|the|a|an|and|vs|versus|with|in|on|not|equal|input|output|np|"
    r"torch|checking|check|running|max|min|mean|inf|all|norm|difference|testing|"
    r"test|my|this|that|compare|comparing|example|sample|x|y|true|false|failed|"
    r"passed|info|debug|print|out|here|are|get|got|line|size|shape|type|dtype|"
    r"assertionerror|runtimeerror|error|gradcheckerror"
)


@dataclass
class Segment:
    """A word that says what follows, and the numbers that follow.

    Attributes:
        role: what it says.
        name: the tensor's; "" where none is given.
        index: of an entry in that tensor.
        line: where it begins.
        numbers: what follows.
        rows: how many of them stand in each innermost bracket, or in each line without brackets.
    """

    role: Role
    name: str
    index: tuple[int, ...] | None
    line: int
    numbers: list[Number] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Phrase:
    """Words that stand together, at tokens first … last of a line."""

    role: Role
    first: int
    last: int


def is_name(token: Token) -> bool:
    """Whether a word may be the name of a tensor."""
    last = token.text.rpartition(".")[2].lower()
    return token.index is not None or not (NO_NAMES.fullmatch(last) or last in ARRAYS)


def phrases(tokens: Sequence[Token]) -> list[Phrase]:
    """The words of a line that say what numbers are, those of one phrase together."""
    found: list[Phrase] = []
    k = 0
    while k < len(tokens):
        if tokens[k].kind != "word" or role_of(tokens[k].text) is None:
            k += 1
            continue
        last = k
        while last + 1 < min(len(tokens), k + LONGEST_PHRASE) and _goes_on(tokens, k, last):
            last += 1
        role = phrase([token.text for token in tokens[k : last + 1]])
        if role is not None:
            found.append(Phrase(role, k, last))
        k = last + 1
    return found


def _goes_on(tokens: Sequence[Token], first: int, last: int) -> bool:
    """Whether the next word belongs to the phrase: one that adds no second role."""
    one, other = tokens[last], tokens[last + 1]
    if other.kind != "word" or other.start - one.end > 1 or one.index is not None:
        return False
    before = phrase([token.text for token in tokens[first : last + 1]])
    after = role_of(other.text)
    if before is None or after is None:
        return False
    if after.kind == "derived":  # the numerical error, unless columns are named one by one
        if before.trust == NUMERICAL and tokens[first].text.lower() in OUTWARD:
            return True
        following = tokens[last + 2].text if last + 2 < len(tokens) else ""
        return before.weak or before.kind != "gradient" or following in (":", "=")
    if before.kind == "derived":
        return after.kind == "gradient" and len(tokens[last].text) > 1 and _errs(tokens[first])
    if before.kind == "index":
        return after.kind == "index"
    return after.kind == before.kind == "gradient" and (
        before.trust == after.trust or (after.weak and "grad" not in one.text.lower())
    )


def _errs(token: Token) -> bool:
    """Whether "error" stands before what it is an error of, and not for a column of its own."""
    return token.text == "Error"


def segments_of(lines: Sequence[PrintedLine]) -> list[Segment]:
    """All numbers of a text with the word that they stand behind, in their order."""
    reader = _Reader()
    for line in lines:
        reader.read(line)
    return reader.found


class _Reader:
    def __init__(self) -> None:
        self.found: list[Segment] = []
        self.name = ""  # of what follows
        self.index: tuple[int, ...] | None = None
        self.depth = 0
        self.open: Segment | None = None

    def read(self, line: PrintedLine) -> None:
        tokens = line.tokens
        if line.aside and not line.numbers and not phrases(tokens):
            return  # a loss, a step: what it names is no tensor
        own = {one.first: one for one in phrases(tokens)}
        if not self.depth and self.ends_a_segment(line, own):
            self.open = None
        if not self.depth:  # NumPy breaks long rows within their brackets
            self.row_begins()
        k = 0
        while k < len(tokens):
            token = tokens[k]
            if k in own:
                k = self.label(tokens, own[k], line.place)
                continue
            if token.kind == "word":
                self.word(tokens, k, line.place)
            elif token.kind == "place":
                self.index = token.index
            elif token.kind in ("open", "close"):
                self.depth = max(0, self.depth + (1 if token.kind == "open" else -1))
                self.row_begins()
            elif token.number is not None and self.open is not None:
                self.open.numbers.append(token.number)
                self.open.rows[-1] += 1
            k += 1

    def ends_a_segment(self, line: PrintedLine, own: dict[int, Phrase]) -> bool:
        """Whether a line does not go on with what stands above: a title, or another label."""
        if any(one.role.kind == "gradient" for one in own.values()):
            return True
        said = {word.lower() for word in line.words}
        if not said or said & set(ARRAYS):
            return False
        return line.tokens[0].kind == "word" and all(one.whole for one in line.numbers)

    def row_begins(self) -> None:
        if self.open is not None and (not self.open.rows or self.open.rows[-1]):
            self.open.rows.append(0)

    def label(self, tokens: Sequence[Token], at: Phrase, line: int) -> int:
        """Opens a segment if numbers can follow; the place of the next token."""
        k, name, index = at.last + 1, self.name, self.index
        inside = tokens[at.last].index
        while k < len(tokens) and tokens[k].kind == "word" and k - at.last <= 6:
            following = phrases(tokens[k : k + 1])
            if any(not one.role.weak for one in following) or tokens[k].text.lower() in ARRAYS:
                break
            if is_name(tokens[k]):
                name, index = tokens[k].text, tokens[k].index
            k += 1
        begins = k == len(tokens) or tokens[k].number is not None or tokens[k].kind == "open"
        begins |= k < len(tokens) and tokens[k].kind == "close"  # gradients (numeric): …
        begins |= k + 1 < len(tokens) and tokens[k].text == "|" and tokens[k + 1].number is not None
        begins |= k < len(tokens) and tokens[k].text.lower() in {":", "=", ",", *ARRAYS}
        if begins and at.role.kind != "index":
            self.open = Segment(at.role, name, index if inside is None else inside, line, [], [0])
            self.found.append(self.open)
        elif at.role.kind != "index":
            self.open = None
        return k

    def word(self, tokens: Sequence[Token], k: int, line: int) -> None:
        """A name: of what follows, or of an array within a segment."""
        token = tokens[k]
        if not is_name(token):
            return
        following = next((t for t in tokens[k + 1 :] if t.text not in "'\""), None)
        names = following is not None and following.text in (":", "=", "[", "(", "{")
        self.name, self.index = token.text, token.index
        if names and self.open is not None and (self.depth or self.open.line < line):
            self.open = Segment(self.open.role, self.name, self.index, line, [], [0])
            self.found.append(self.open)
        elif not self.depth and self.open is not None and self.open.numbers:
            self.open = None


def matched(found: Sequence[Segment]) -> Iterator[tuple[Segment, Segment]] | None:
    """Segments with equally many numbers side by side, the one of lower trust first.

    Returns:
        None where the segments do not come in such pairs.
    """
    full = [one for one in found if one.numbers and one.role.kind == "gradient"]
    trusts = sorted({one.role.trust for one in full})
    if len(trusts) > 2:  # a word in passing
        full = [one for one in full if not one.role.weak]
        trusts = sorted({one.role.trust for one in full})
    if len(trusts) < 2:
        return None
    # Of three, as of one's own, a library's and the numerical one, the first and the last.
    mine, true = ([one for one in full if one.role.trust == t] for t in (trusts[0], trusts[-1]))
    names = [one.name for one in mine]
    if sorted(names) == sorted(one.name for one in true) and len(set(names)) == len(names):
        true.sort(key=lambda one: names.index(one.name))
    if len(mine) != len(true):
        return None
    if any(len(a.numbers) != len(b.numbers) for a, b in zip(mine, true, strict=True)):
        return None
    return zip(mine, true, strict=True)
