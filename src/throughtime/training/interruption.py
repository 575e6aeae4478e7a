"""Ctrl-C as a wish: the update in progress is finished first."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Self


class Interruption:
    """A context in which the first Ctrl-C is only taken note of; the second one interrupts.

    Attributes:
        wished: whether Ctrl-C was pressed; give `lambda: interruption.wished` to `Trainer.fit`.
    """

    def __init__(self) -> None:
        self.wished = False
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *problem: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wished = True
        signal.signal(signal.SIGINT, self._before)
