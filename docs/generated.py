"""Writes pages that are made from the code, so that Sphinx reads no more than what has changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_page(path: Path, text: str | bytes) -> None:
    """Writes a page, or a picture, if it has changed."""
    data = text if isinstance(text, bytes) else text.encode("utf-8")
    if not path.exists() or path.read_bytes() != data:
        path.write_bytes(data)


def write_folder(folder: Path, pages: Mapping[str, str | bytes]) -> None:
    """Writes a folder's pages, by the names of their files, and removes all other files."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        write_page(folder / name, text)
