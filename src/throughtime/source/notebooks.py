"""Changes of a notebook's code, put into its cells: everything else of the file stays."""

from __future__ import annotations

import difflib
import json
from collections import defaultdict
from pathlib import Path

from throughtime.arrays import refuse
from throughtime.gradcheck import CheckError
from throughtime.source.text import read_source

WAY_OUT = "change its cells as the diff says"


def with_changes(path: Path, before: str, after: str) -> bytes:
    """A notebook's bytes with the changes of its text.

    Args:
        path: of the notebook.
        before: the text of its code cells, as `read_source` gives it.
        after: the same, changed.

    Raises:
        CheckError: where the notebook holds another text by now, or a change spans cells.
    """
    source = read_source(path)
    if source.text != before or source.old:
        refuse("--write", f"{path.name} as it was read", "another text", WAY_OUT, error=CheckError)
    raw = path.read_text(encoding="utf-8")
    book = json.loads(raw)
    changes: dict[int, list[tuple[int, int, list[str]]]] = defaultdict(list)
    old, new = before.split("\n"), after.split("\n")
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            continue
        places = source.cells[a:b] or source.cells[max(a - 1, 0) : a] or source.cells[:1]
        if len({cell for cell, _ in places}) > 1:
            refuse("--write", "a change within one cell", "one of several", WAY_OUT,
                   error=CheckError)  # fmt: skip
        cell, first = places[0]
        start = first - 1 if a < b else first if a else 0
        changes[cell].append((start, start + b - a, new[c:d]))
    for cell, spans in changes.items():
        held = book["cells"][cell]["source"]
        lines = (held if isinstance(held, str) else "".join(held)).split("\n")
        for start, end, text in sorted(spans, reverse=True):
            lines[start:end] = text
        whole = "\n".join(lines)
        book["cells"][cell]["source"] = (
            whole if isinstance(held, str) else whole.splitlines(keepends=True)
        )
    return _written(book, raw).encode()


def _written(book: object, raw: str) -> str:
    """A notebook as JSON, laid out as it was."""
    end = "\n" if raw.endswith("\n") else ""
    known = json.loads(raw)
    layouts: list[int | None] = [1, 2, 4, None]
    for indent in layouts:
        for plain in (False, True):
            if json.dumps(known, indent=indent, ensure_ascii=plain) + end == raw:
                return json.dumps(book, indent=indent, ensure_ascii=plain) + end
    return json.dumps(book, indent=1, ensure_ascii=False) + end
