"""The record on disk: a JSON object a line, appended, so that a crash costs one line at most."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from throughtime.arrays import refuse
from throughtime.gradcheck import plain_data

FORMAT = "throughtime flow record"
VERSION = 1  # a change that older programs would misread raises it


def begin(path: Path, way_out: str = "") -> None:
    """Makes sure that lines can be appended: a new file, or a record that ends with a line.

    Args:
        way_out: what to do where the file is no record.

    Raises:
        ValueError: for a file that is no record.
        OSError: where it cannot be written.
    """
    if not path.parent.is_dir():
        refuse("record", "a file in an existing folder", path, f"mkdir -p {path.parent}")
    if path.is_dir():
        refuse("record", "a file", f"the folder {path}", f"{path / 'flow.jsonl'}")
    if path.exists() and path.stat().st_size:
        next(lines(path, way_out))  # refuses what is no record
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # of a run that was cut off
                file.write(b"\n")


def append(path: Path, line: Mapping[str, Any]) -> None:
    """One line, in one piece; numbers that are not finite become null."""
    text = json.dumps(plain_data(line), ensure_ascii=False, allow_nan=False)
    with path.open("ab") as file:
        file.write(text.encode() + b"\n")


def lines(path: Path, way_out: str = "") -> Iterator[dict[str, Any]]:
    """All whole lines; what a crash cut off is left out.

    Raises:
        ValueError, OSError: for what is no record, or one of a newer version.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file):
            line = _decoded(raw)
            if number == 0 and (line is None or line.get("format") != FORMAT):
                refuse(str(path), f"a {FORMAT}", "something else", way_out)
            if line is None:
                continue
            if line.get("version", VERSION) != VERSION:
                newer = "it comes from a newer throughtime: install that one"
                refuse(f"{path}: version", VERSION, line["version"], newer)
            yield line


def _decoded(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None
