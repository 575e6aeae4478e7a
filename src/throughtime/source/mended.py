"""What a search for a mend has found: the edits, how far each brings the gradient, a diff."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from throughtime.source.agreement import EQUAL, Agreement
from throughtime.source.edits import Edit
from throughtime.source.trials import Setting

Standing = Mapping[Setting, Mapping[str, Agreement]]


@dataclass(frozen=True)
class Hunk:
    """One step of a mend.

    Attributes:
        edits: what is changed.
        before, after: the texts, by path.
        standing_before, standing_after: how far the gradient agrees, by setting and tensor.
        others: edits that give the same gradient.
    """

    edits: tuple[Edit, ...]
    before: Mapping[Path, str]
    after: Mapping[Path, str]
    standing_before: Standing
    standing_after: Standing
    others: tuple[tuple[Edit, ...], ...]


@dataclass(frozen=True)
class Mended:
    """What a search has found.

    Attributes:
        path: of the user's file.
        before, after: the texts, by path.
        hunks: what was changed, one after another.
        standing_before, standing_after: how far the gradient agrees, by setting and tensor.
        verdict: of the check on the mended files; "disagree" where some tensor does not agree.
        report: of that check, in words.
        tries: how often the gradient was run.
    """

    path: Path
    before: Mapping[Path, str]
    after: Mapping[Path, str]
    hunks: tuple[Hunk, ...]
    standing_before: Standing
    standing_after: Standing
    verdict: str
    report: str
    tries: int

    @property
    def is_mended(self) -> bool:
        """Whether the check agrees with what the files are now."""
        return self.verdict == "agree"

    def diff(self) -> str:
        """All changes as a unified diff."""
        return _diff(self.before, self.after)


def _diff(before: Mapping[Path, str], after: Mapping[Path, str]) -> str:
    parts: list[str] = []
    for path, text in after.items():
        old = before.get(path, text)
        parts += difflib.unified_diff(
            old.splitlines(keepends=True), text.splitlines(keepends=True),
            f"a/{path.name}", f"b/{path.name}",
        )  # fmt: skip
    return "".join(parts)


def agreeing(standing: Mapping[str, Agreement]) -> list[str]:
    """The names of the tensors that agree."""
    return [name for name, agreement in standing.items() if agreement.level == EQUAL]
