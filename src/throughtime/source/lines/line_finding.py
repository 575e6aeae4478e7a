"""What is known of one line of a backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

Status = Literal["right", "wrong", "follows", "unknown"]


@dataclass(frozen=True)
class LineFinding:
    """What is known of one line of a backward pass.

    Attributes:
        path, line, last_line: where it is.
        function: which function it is in.
        target: what it assigns to, as written.
        status: "right": what it assigns is the derivative that `meaning` names. "wrong": it is
            not, and with the true value in its place wrong gradients become right. "follows":
            wrong because of lines that are; right once they are mended. "unknown": it matches no
            derivative, and nothing shows whether it should; with `expected`, true values there
            mend something, but it is made of what is unknown too (`doubtful`).
        meaning: of a right line, as "∂L/∂c_t"; "" where there is none.
        expected: of a wrong line, what it should be.
        noticed: of a wrong line, what its values are instead, and what would make them right.
        edit: of a wrong line, an expression or statement and what would be right in its place;
            None where no small change was found.
        others: further edits with the same values, as with another size of the same number.
        doubtful: the lines of operands that match no derivative: the fault may be in one of these.
        mended: the parameters whose gradients become right, or nearer to it, with the true value.
        order: by which the wrong lines run: the first is where to begin; 0 for others.
    """

    path: Path
    line: int
    last_line: int
    function: str
    target: str
    status: Status
    meaning: str = ""
    expected: str = ""
    noticed: tuple[str, ...] = ()
    edit: tuple[str, str] | None = None
    others: tuple[tuple[str, str], ...] = ()
    doubtful: tuple[int, ...] = ()
    mended: tuple[str, ...] = ()
    order: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self) | {"path": str(self.path)}


def with_doubts(
    findings: Sequence[LineFinding], read: Callable[[LineFinding], set[str]]
) -> tuple[LineFinding, ...]:
    """Lines that are made of what a doubtful line sets are doubtful themselves.

    With true values there and in the doubtful line more is right; that proves no fault of theirs,
    unless a change of their own makes them right. A doubt goes on through lines that follow.

    Args:
        findings: one for each line.
        read: the variables that a line reads.
    """
    found = list(findings)
    doubts = [(f, f.line) for f in found if f.status == "unknown" and f.expected]
    passed: set[tuple[int, int]] = set()  # lines that pass a doubt on, each with whose it is
    while doubts:
        doubt, origin = doubts.pop()
        for n, one in enumerate(found):
            same = (one.path, one.function) == (doubt.path, doubt.function)
            if not same or (n, origin) in passed or doubt.target not in read(one):
                continue
            copied = one.edit is not None and one.edit[1].isidentifier()
            if one.status == "wrong":
                if one.edit is not None and not copied:
                    continue
                lines = tuple(sorted({*one.doubtful, origin}))
                found[n] = replace(one, status="unknown", edit=None, others=(), doubtful=lines)
                doubts.append((found[n], one.line))
            elif one.status == "follows" and one.line > doubt.line:
                doubts.append((one, origin))
            passed.add((n, origin))
    return tuple(found)
