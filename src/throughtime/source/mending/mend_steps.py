"""One step of a mend: edits of a version, and how far its gradient agrees with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from throughtime.source.edits.edit import Edit, edited
from throughtime.source.mending.agreement import score, worse_somewhere
from throughtime.source.mending.edit_candidates import Version
from throughtime.source.mending.mended import Hunk, Standing, changed_lines, clips


@dataclass(frozen=True)
class MendingStep:
    """An edit that was found, or a pair of them.

    Attributes:
        version: with it.
        edits: what was changed.
        standing: how far the gradient agrees then.
        others: edits that do the same.
        sure: whether it helps by itself; else only what follows may show that it was right.
    """

    version: Version
    edits: tuple[Edit, ...]
    standing: Standing
    others: tuple[tuple[Edit, ...], ...] = ()
    sure: bool = True

    @property
    def total(self) -> float:
        """How many tensors agree, over all settings."""
        return sum(map(score, self.standing.values()))

    @property
    def far(self) -> float:
        """How far off the tensors are that are no multiples, over all settings."""
        rest = [a.apart for s in self.standing.values() for a in s.values() if not a.level]
        return float(np.sum(np.log10(np.maximum(rest, 1e-16))))

    @property
    def cost(self) -> float:
        """Of its edits."""
        return sum(edit.cost for edit in self.edits)


def hunk_of(before: MendingStep, after: MendingStep, as_found: Mapping[Path, str]) -> Hunk:
    texts = {**as_found, **before.version.texts}
    others = tuple(" / ".join(changed_lines(texts, edited(texts, other))) for other in after.others)
    lines = tuple(sorted({(edit.path, line) for edit in after.edits for line in edit.lines}))
    kinds = tuple(dict.fromkeys(edit.kind for edit in after.edits))
    changed = changed_lines(texts, after.version.texts)
    unclipped = clips(after.version.texts) < clips(
        {path: texts.get(path, text) for path, text in after.version.texts.items()}
    )
    return Hunk(kinds, lines, changed, before.standing, after.standing, others, unclipped)


def reverted(before: str, after: str, others: bool = False) -> Iterator[str]:
    """The text with one change after another taken back, the last first.

    One that is alone in it only where there are others in other files.
    """
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    blocks = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "replace" and b - a == d - c:
            blocks += [(a + n, a + n + 1, c + n, c + n + 1) for n in range(b - a)]
        elif tag != "equal":
            blocks.append((a, b, c, d))
    if len(blocks) > 1 or others:
        for a, b, c, d in reversed(blocks):
            yield "".join([*new[:c], *old[a:b], *new[d:]])


def texts_mark(version: Version) -> int:
    return hash(tuple(sorted(version.texts.items())))


def spoils(before: Standing, after: Standing) -> bool:
    """Whether any tensor agrees less at any setting."""
    return any(worse_somewhere(before[s], after[s]) for s in before)


def mends_more(best: Standing, other: Standing) -> bool:
    """Whether the other one mends anything that the best does not."""
    return any(
        a.level > best[s][name].level for s, found in other.items() for name, a in found.items()
    )
