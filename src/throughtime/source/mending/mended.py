"""What a search for a mend has found: a diff, and how far each change brings the gradient."""

from __future__ import annotations

import ast
import difflib
import io
import json
import os
import textwrap
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from throughtime.arrays import refuse
from throughtime.gradcheck import CheckError
from throughtime.source.lines.trials import Setting
from throughtime.source.mending.agreement import EQUAL, Agreement
from throughtime.source.notebooks import with_changes
from throughtime.source.text import read_source
from throughtime.source.tolerances import MOST_OTHERS, NEAR
from throughtime.storage import keep_copy, replace

Standing = Mapping[Setting, Mapping[str, Agreement]]
JSON_VERSION = 1
LINE_WIDTH = 100


@dataclass(frozen=True)
class Hunk:
    """One step of a mend.

    Attributes:
        kinds: what is done, in words; none where a change before it is taken back.
        lines: of the text that the steps before it left.
        changed: the lines as they are then.
        standing_before, standing_after: how far the gradient agrees, by setting and tensor.
        others: changes that give the same gradient, each by its lines.
        unclipped: whether a call that clips is made no longer.
    """

    kinds: tuple[str, ...]
    lines: tuple[tuple[Path, int], ...]
    changed: tuple[str, ...]
    standing_before: Standing
    standing_after: Standing
    others: tuple[str, ...]
    unclipped: bool = False


@dataclass(frozen=True)
class Mended:
    """What a search has found; `print` it.

    Attributes:
        path: of the user's file.
        before, after: the texts, by path.
        hunks: what was changed, one after another.
        standing_before, standing_after: how far the gradient agrees, by setting and tensor.
        verdict: of the check on the mended files; "disagree" where some tensor does not agree.
        discrepancy: as that check found it; 1 where it was not asked.
        report: of that check, in words; "" where it was not asked.
        tries: how often the gradient was run.
        explained: the small numbers in the loss without which that check agrees, where it does
            not as they are; none where they do not explain what it finds.
        idle_clips: files and lines that clip the gradient where it is large, and have not done so.
    """

    path: Path
    before: Mapping[Path, str]
    after: Mapping[Path, str]
    hunks: tuple[Hunk, ...]
    standing_before: Standing
    standing_after: Standing
    verdict: str
    discrepancy: float
    report: str
    tries: int
    explained: tuple[str, ...] = ()
    idle_clips: tuple[tuple[Path, int], ...] = ()

    @property
    def is_mended(self) -> bool:
        """Whether the gradient agrees: every tensor at every setting, and the check says so."""
        return self.verdict == "agree"

    def diff(self) -> str:
        """All changes as a unified diff; "" where there are none."""
        parts: list[str] = []
        for path, text in self.after.items():
            parts += difflib.unified_diff(
                _lines(self.before[path]), _lines(text), f"a/{path.name}", f"b/{path.name}"
            )
        return "".join(parts)

    def __str__(self) -> str:
        said = (self._headline(), *self._steps(), *self._clips(), *self._rest())
        return "\n".join(said).rstrip() + "\n"

    def _headline(self) -> str:
        tensors = len(next(iter(self.standing_after.values())))
        if self.is_mended and not self.diff():
            return f"nothing to mend: all {tensors} tensors agree"
        if self.is_mended:
            return f"mended: all {tensors} tensors agree"
        if self.explained:
            what = "mended" if self.diff() else "nothing to mend"
            one = len(self.explained) == 1
            explain, them = ("explains", "it") if one else ("explain", "them")
            return (
                f"{what}, all but a residue of d = {self.discrepancy:.1e} that "
                f"{', '.join(self.explained)} {explain}: without {them} all {tensors} tensors agree"
            )
        whole = list(self.standing_after.values())[-1]
        right = [
            name
            for name in whole
            if all(found[name].level == EQUAL for found in self.standing_after.values())
        ]
        if len(right) == tensors:
            how = "not mended" if not self.diff() else "mended in part"
            return (
                f"{how}: all {tensors} tensors agree to {NEAR:.0e} of their size, but the check "
                f"finds d = {self.discrepancy:.1e}"
            )
        some = f": {', '.join(right)}" if right else ""
        how = "mended in part" if self.diff() else "no edit was found that mends it"
        return f"{how}: {len(right)} of {tensors} tensors agree everywhere{some}"

    def _steps(self) -> list[str]:
        """Each change with the discrepancy before and after it, at each setting."""
        said = []
        for number, hunk in enumerate(self.hunks, start=1):
            where = ", ".join(dict.fromkeys(_place(path, line) for path, line in hunk.lines))
            what = f"{', '.join(hunk.kinds)} ({where})" if hunk.kinds else "needless, taken back"
            said += ["", f"{number}. {what}"]
            for setting, before in hunk.standing_before.items():
                was, now = overall(before), overall(hunk.standing_after[setting])
                said.append(f"   {setting.name:42} d = {was:8.2e} → {now:8.2e}")
            if hunk.unclipped:
                said.append("   Clip in the update: what is clipped is not the loss's gradient.")
            if hunk.others:
                shown = "; ".join(f"`{other}`" for other in hunk.others[:MOST_OTHERS])
                more = len(hunk.others) - MOST_OTHERS
                said.append(
                    f"   the same gradient: {shown}" + (f" and {more} more" if more > 0 else "")
                )
        return said

    def _clips(self) -> list[str]:
        """What clips, and has not done so wherever the gradient was looked at."""
        if not self.idle_clips:
            return []
        places = list(dict.fromkeys(_place(path, line) for path, line in self.idle_clips))
        clip = "clips" if len(places) == 1 else "clip"
        said = (
            f"{', '.join(places)} {clip} what is large, which nothing was here. Where something "
            "is, what comes back is not the loss's gradient: clip in the update."
        )
        return ["", *textwrap.wrap(said, LINE_WIDTH)]

    def _rest(self) -> list[str]:
        if self.is_mended or self.explained:
            return ["", self.diff()] if self.diff() else []
        said = [""]
        for setting, found in self.standing_after.items():
            wrong = [name for name, a in found.items() if a.level < EQUAL]
            if wrong:
                said.append(f"{setting.name}: {', '.join(wrong)} still wrong")
        said.append("`throughtime check` says what is known of the cause.")
        return [*said, "", self.diff()]

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes the result as JSON."""
        replace(path, (json.dumps(self._data(), indent=1) + "\n").encode())

    def _data(self) -> dict[str, Any]:
        return {
            "format": "throughtime mend",
            "version": JSON_VERSION,
            "file": str(self.path),
            "mended": self.is_mended,
            "verdict": self.verdict,
            "discrepancy": self.discrepancy,
            "residue_explained_by": list(self.explained),
            "idle_clips": [[path.name, line] for path, line in self.idle_clips],
            "tries": self.tries,
            "diff": self.diff(),
            "steps": [
                {
                    "kinds": list(hunk.kinds),
                    "lines": [[path.name, line] for path, line in hunk.lines],
                    "changed": list(hunk.changed),
                    "alternatives": list(hunk.others),
                    "unclipped": hunk.unclipped,
                    "discrepancies": {
                        setting.name: [overall(before), overall(hunk.standing_after[setting])]
                        for setting, before in hunk.standing_before.items()
                    },
                }
                for hunk in self.hunks
            ],
            "tensors": {
                setting.name: {
                    name: {"agrees": a.level == EQUAL, "discrepancy": a.discrepancy}
                    for name, a in found.items()
                }
                for setting, found in self.standing_after.items()
            },
        }

    def write(self) -> list[Path]:
        """Writes the changed files; each is kept as it was beside it, with `.orig` added.

        Returns:
            the files that were written.

        Raises:
            CheckError: for a file that has changed since, a change over several cells of a
                notebook, or an `.orig` that is there.
        """
        changed = {p: t for p, t in self.after.items() if t != self.before[p]}
        written = {
            path: _as_written(path, self.before[path], text) for path, text in changed.items()
        }
        for path, (old, new) in written.items():
            backup = path.with_name(f"{path.name}.orig")
            keep_copy(path, backup, old)
            replace(path, new)
        return list(written)


def _as_written(path: Path, before: str, after: str) -> tuple[bytes, bytes]:
    """A file's bytes as they are and as they will be, in its own encoding and with its own ends."""
    if path.with_name(f"{path.name}.orig").exists():
        way_out = "move it away: it is never overwritten"
        refuse("--write", f"no {path.name}.orig", "one", way_out, error=CheckError)
    old = path.read_bytes()
    if path.suffix == ".ipynb":
        return old, with_changes(path, before, after)
    encoding = tokenize.detect_encoding(io.BytesIO(old).readline)[0]
    ends = "\r\n" if b"\r\n" in old else "\n"
    if before.replace("\n", ends).encode(encoding) != old:
        way_out = "change it as the diff says"
        refuse("--write", f"{path.name} as it was read", "another text", way_out, error=CheckError)
    return old, after.replace("\n", ends).encode(encoding)


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _place(path: Path, line: int) -> str:
    """A line as a user finds it; of a notebook, with its cell."""
    if path.suffix != ".ipynb":
        return f"{path.name}:{line}"
    source = read_source(path)
    return source.place(min(line, len(source.cells)))


def overall(standing: Mapping[str, Agreement]) -> float:
    """The largest discrepancy of all tensors."""
    return float(np.max([agreement.discrepancy for agreement in standing.values()]))


def line_as_found(before: str, after: str, line: int) -> int:
    """The number that a line has in a text before edits; of a line that was put in, the one above.

    Example:
        >>> line_as_found("a\\nb\\nc", "a\\nnew\\nb\\nc", 4)
        3
    """
    matcher = difflib.SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    for _, start, stop, first, last in matcher.get_opcodes():
        if first < line <= last:
            return max(min(start + line - first, stop), 1)
    return line


def clips(texts: Mapping[Path, str]) -> int:
    """How many calls there are of something that clips, as `np.clip` or `clip_gradient_norm`."""
    calls = [
        node.func
        for text in texts.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
    ]
    names = [f.id if isinstance(f, ast.Name) else getattr(f, "attr", "") for f in calls]
    return sum("clip" in name.lower() for name in names)


def changed_lines(before: Mapping[Path, str], after: Mapping[Path, str]) -> tuple[str, ...]:
    """The lines of a text that another one does not have, without their indentation."""
    found: list[str] = []
    for path, text in after.items():
        old = before.get(path, text)
        if old != text:
            for line in difflib.ndiff(_lines(old), _lines(text)):
                if line[:2] in ("+ ", "- ") and line[2:].strip():
                    found.append((line[:2] if line[0] == "-" else "") + line[2:].strip())
    added = [line for line in found if not line.startswith("- ")]
    return tuple(added or found)
