"""Ctrl-C, and the signal by which launchers end a process, as a wish: no update is cut short."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context in which the first Ctrl-C is only taken note of; the second one interrupts.

    SIGTERM, which torchrun and batch systems send, is heard in the same way.

    Attributes:
        wished: whether one of them came; give `lambda: interruption.wished` to `Trainer.fit`.
    """

    def __init__(self) -> None:
        self.wished = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *problem: object) -> None:
        self._put_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wished = True
        self._put_back()

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
