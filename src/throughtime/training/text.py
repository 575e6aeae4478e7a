"""A text: its files, its characters as classes, and its parallel streams of windows."""

from __future__ import annotations

import hashlib
import os
import sysconfig
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from throughtime import storage
from throughtime.arrays import Array, positive, refuse
from throughtime.network import TruncationWindow, windows

LARGEST_HELD_OUT = 200_000  # characters: validation stays a matter of seconds
OTHER = "\N{REPLACEMENT CHARACTER}"  # represents the class of all other characters


@dataclass(frozen=True)
class Text:
    """A text and where it comes from.

    Attributes:
        characters: the text, files joined end to end.
        files: the files that were read, in this order.
        passed_over: how many files of the folders were left out, since they are not text.

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
        """SHA-256 of the text in UTF-8, by which a checkpoint recognises its text."""
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
    """The top-level modules of Python's own standard library: real text that every machine has.

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

    In a folder, hidden files (names that begin with a dot) and files that are not text (not
    UTF-8, or with a NUL character) are left out; the latter are counted. A file that is named
    itself must be text.

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
        content = storage.read_bytes(path)
    except OSError as problem:
        actual = problem.strerror or problem
        refuse(str(path), "a readable file", actual, error=OSError)
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
            if not name.startswith(".") and file.is_file():  # reading a pipe would block
                yield file


def _content(path: str) -> str | None:
    """The text of a file in a folder; None where it is not text or cannot be read."""
    try:
        content = storage.read_bytes(path)
        return None if b"\0" in content else content.decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


@dataclass(frozen=True)
class Vocabulary:
    """Characters, class 0 first, and one class more for every other character.

    Args:
        characters: the known ones, each once; class k is `characters[k]`.

    Example:
        >>> from throughtime.training import Vocabulary
        >>> vocabulary = Vocabulary.of("banana", most=3)
        >>> vocabulary.characters, len(vocabulary)
        ('an', 3)
        >>> vocabulary.encode("nab")
        array([1, 0, 2], dtype=uint8)
        >>> vocabulary.decode([1, 0, 2])
        'na�'
    """

    characters: str

    def __post_init__(self) -> None:
        if not isinstance(self.characters, str):
            refuse("vocabulary", "a string", type(self.characters).__name__, error=TypeError)
        repeated = [c for c, count in Counter(self.characters).items() if count > 1]
        if repeated or not self.characters:
            actual = f"{repeated[0]!r} more than once" if repeated else "none"
            refuse("vocabulary", "characters, each once", actual)

    @classmethod
    def of(cls, text: str, most: int = 256) -> Vocabulary:
        """The most frequent characters of a text first, at most `most` classes in all.

        Equally frequent ones stand in the order of their code points.
        """
        counts = Counter(text)
        order = sorted(counts, key=lambda character: (-counts[character], character))
        return cls("".join(order[: positive("classes", most, at_least=2) - 1]))

    def __len__(self) -> int:
        """Number of classes, that of the other characters included."""
        return len(self.characters) + 1

    @property
    def other(self) -> int:
        """The class of every character that is not in `characters`; the last one."""
        return len(self.characters)

    @cached_property
    def _class_of(self) -> Array:
        """Code point to class."""
        table = np.full(0x110000, self.other, np.min_scalar_type(self.other))
        table[_code_points(self.characters)] = np.arange(self.other)
        return table

    def encode(self, text: str) -> Array:
        """The class of every character, in the smallest unsigned type that holds them."""
        classes: Array = self._class_of[_code_points(text)]
        return classes

    def decode(self, classes: object) -> str:
        """The text of class indices; � for the class of other characters."""
        known = self.characters + OTHER
        return "".join(known[int(k)] for k in np.asarray(classes))

    def encode_known(self, what: str, text: str) -> Array:
        """As `encode`, but characters that the model does not know are refused by name."""
        unknown = sorted(set(text) - set(self.characters))
        if unknown:
            names = ", ".join(f"{c!r} ({unicodedata.name(c, f'U+{ord(c):04X}')})" for c in unknown)
            refuse(what, "characters that the model knows", names, "leave them out")
        return self.encode(text)


def _code_points(text: str) -> Array:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


class Streams:
    """One epoch of a text as B parallel streams, in windows of truncated BPTT.

    Stream b begins where stream b − 1 ends, so that every step of a window continues the text of
    the window before, in each of the B columns, and the state can be carried.

    Args:
        codes: class indices of the whole text, one axis.
        batch: B.
        k1, k2: steps between updates, and steps that the gradient goes back.

    Attributes:
        inputs, targets: (N, B); the target of a step is the input of the next one. Up to B − 1
            characters at the end of the text do not fill a step and are left out.
        windows: those of N steps; the last one may be shorter.

    Example:
        >>> import numpy as np
        >>> from throughtime.training import Streams
        >>> streams = Streams(np.arange(11), batch=2, k1=2, k2=3)
        >>> streams.inputs.T
        array([[0, 1, 2, 3, 4],
               [5, 6, 7, 8, 9]])
        >>> streams.windows
        [TruncationWindow(start=0, first=0, stop=2), TruncationWindow(start=1, first=2, stop=4),
         TruncationWindow(start=2, first=4, stop=5)]
    """

    def __init__(self, codes: Array, batch: int, k1: int, k2: int) -> None:
        needed = positive("batch", batch) * max(positive("k1", k1), positive("k2", k2)) + 1
        if len(codes) < needed:
            refuse(
                "text",
                f"at least {needed} characters for training (B = {batch} streams of a window of "
                f"{max(k1, k2)} steps, and one more)",
                len(codes),
                "give more text, or choose a smaller batch, k1 or k2",
            )
        self.inputs, self.targets = parallel(codes, batch)
        self.windows: list[TruncationWindow] = windows(len(self.inputs), k1, k2)

    def carried_to(self, window: int) -> int:
        """The step up to which the state that is carried into a window has been run.

        That is the start of the window, except where k2 < k1: then steps lie between two windows
        that neither of them covers, and the state stands before these.
        """
        if window == 0:
            return 0
        return min(self.windows[window].start, self.windows[window - 1].stop)


def parallel(codes: Array, batch: int) -> tuple[Array, Array]:
    """Inputs and targets (N, B) of B streams, each a contiguous N + 1 characters of the text."""
    steps = (len(codes) - 1) // batch
    inputs, targets = (codes[s : s + steps * batch].reshape(batch, steps).T for s in (0, 1))
    return inputs, targets
