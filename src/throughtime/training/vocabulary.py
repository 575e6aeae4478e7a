"""The characters that a model knows, as class indices."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from throughtime.arrays import Array, positive, refuse

OTHER = "\N{REPLACEMENT CHARACTER}"  # what stands for the class of all other characters


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
