"""Text from files and folders, and the part of it that is held out."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from throughtime.arrays import positive, refuse

LARGEST_HELD_OUT = 200_000  # characters: validation stays a matter of seconds


@dataclass(frozen=True)
class Text:
    """A text and where it comes from.

    Attributes:
        characters: the text, files joined end to end.
        files: the files that were read, in this order.
        passed_over: how many files of the folders are not in it, since they are no text.

    Example:
        >>> from throughtime.training import Text
        >>> Text("abc" * 100).split(0.05)[1]
        'abcabcabcabcabc'
    """

    characters: str
    files: tuple[str, ...] = ()
    passed_over: int = 0

    def __len__(self) -> int:
        return len(self.characters)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the text in UTF-8, by which a checkpoint knows its text again."""
        return hashlib.sha256(self.characters.encode("utf-8", "surrogatepass")).hexdigest()

    def split(self, share: float, at_most: int = LARGEST_HELD_OUT) -> tuple[str, str]:
        """The training part, and the end of the text, which is held out.

        Args:
            share: how much of the text is held out, from above 0 to 0.5.
            at_most: the most characters held out.
        """
        held_out = max(3, min(held_out_share(share) * len(self), positive("at_most", at_most)))
        cut = max(0, len(self) - int(held_out))
        return self.characters[:cut], self.characters[cut:]


def held_out_share(share: float) -> float:
    """`share`, if it is from above 0 to 0.5."""
    if not 0 < share <= 0.5:
        refuse("held_out", "a share from above 0 to 0.5", share)
    return share


def standard_library() -> list[Path]:
    """The top-level modules of Python's own standard library: real text that is on every machine.

    Raises:
        ValueError: for a Python that comes without the source, as some embedded ones do.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(folder.glob("*.py"))
    if not files:
        refuse("standard library", f"*.py files in {folder}", "none", "give files of your own")
    return files


def read(sources: Iterable[str | os.PathLike[str]]) -> Text:
    """Reads files, and all text files of folders, in sorted order, each of them once.

    In a folder, hidden files (names that begin with a dot) and what is no text (not UTF-8, or
    with a NUL character) are left out; the latter are counted. A file that is named itself must
    be a text.

    Raises:
        ValueError, OSError: for what is missing, unreadable, empty or not UTF-8, and where a
            folder holds no text at all.
    """
    parts: dict[str, str] = {}
    passed_over = 0
    for source in map(Path, sources):
        if not source.is_dir():
            parts.setdefault(str(source.resolve()), _named_file(source))
            continue
        found = 0
        for file in map(str, _files_of(source)):
            content = parts.get(os.path.realpath(file)) or _content(file)
            passed_over += content is None
            if content:
                parts.setdefault(os.path.realpath(file), content)
                found += 1
        if not found:
            refuse(str(source), "a folder with text files (UTF-8)", "none in it")
    if not parts:
        refuse("text", "files or folders", "none", "name some, or use the standard library's")
    return Text("".join(parts.values()), tuple(parts), passed_over)


def _named_file(path: Path) -> str:
    if not path.exists():
        refuse(str(path), "an existing file or folder", "none there", error=FileNotFoundError)
    try:
        content = path.read_bytes()
    except OSError as problem:
        refuse(str(path), "a readable file", problem.strerror, error=OSError)
    if not content:
        refuse(str(path), "a text", "an empty file", "leave it out")
    way_out = "convert it, or leave it out"
    if b"\0" in content:
        refuse(str(path), "a text", f"a NUL character at byte {content.index(0)}", way_out)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        actual = f"byte 0x{content[problem.start]:02x} at {problem.start}"
        refuse(str(path), "a text in UTF-8", actual, way_out)


def _files_of(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = Path(place, name)
            if not name.startswith(".") and file.is_file():  # a pipe would be waited for
                yield file


def _content(path: str) -> str | None:
    """The text of a file of a folder; None for what is no text or cannot be read."""
    try:
        content = Path(path).read_bytes()
        return None if b"\0" in content else content.decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
