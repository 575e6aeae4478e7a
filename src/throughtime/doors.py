"""Doors that open when somebody asks: what a room offers is imported at its first use.

A room's `__init__` says twice what it offers: to type checkers under `if TYPE_CHECKING`, and to
its door. `tests/test_house.py` compares the two.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def door(room: str, files: Mapping[str, str]) -> Callable[[str], Any]:
    """What is to be a room's `__getattr__`.

    Args:
        room: its `__name__`.
        files: for each file in it the words, separated by blanks, that the room offers of it; of a
            file that is offered itself also none.

    Example:
        >>> opened = door("throughtime.codegen", {"plan": "Product size"})
        >>> opened("size").__module__
        'throughtime.codegen.plan'
    """
    homes = {word: file for file, words in files.items() for word in words.split()}

    def opened(word: str) -> Any:
        if word in homes:
            found = getattr(import_module(f"{room}.{homes[word]}"), word)
        elif word in files:
            found = import_module(f"{room}.{word}")
        else:
            raise AttributeError(f"module {room!r} has no attribute {word!r}")
        setattr(sys.modules[room], word, found)
        return found

    return opened
