"""Signs of life: how one process knows that another is still there, however long it computes."""

from __future__ import annotations

import threading
from typing import Any


class Pulse(threading.Thread):
    """Counts up in a store that all processes share, and looks at the others' counters.

    Who waits calls `silent` once a `beat`. It counts its own looks, not seconds: where a whole
    machine was asleep, everyone has missed the same time and nobody is lost.

    Args:
        store: with `set` and `multi_get`, as torch.distributed's TCPStore.
        rank, size: of this process, and how many there are.
    """

    beat = 1.0  # seconds between two signs
    missed = 20  # signs that may stay out, as counted by who waits

    def __init__(self, store: Any, rank: int, size: int) -> None:
        super().__init__(name="throughtime pulse", daemon=True)
        self.store, self.rank, self.size = store, rank, size
        self.seen: list[bytes] = [b""] * size
        self._last, self._looks = self.seen, [0] * size
        self._ended = threading.Event()
        store.set(str(rank), "0")  # before anyone looks: a look at what is not there would wait

    def run(self) -> None:
        """Until the end, or until the store is gone: then everyone falls silent."""
        names = [str(rank) for rank in range(self.size)]
        beats = 0
        try:
            while not self._ended.wait(self.beat):
                beats += 1
                self.store.set(str(self.rank), str(beats))
                self.seen = self.store.multi_get(names)
        except RuntimeError:
            return

    def watch(self) -> None:
        """Begins to wait: nobody has been silent yet."""
        self._last, self._looks = self.seen, [0] * self.size

    def silent(self) -> list[int]:
        """Who has given no sign for `missed` looks in a row."""
        seen = self.seen
        for rank in range(self.size):
            same = seen[rank] == self._last[rank]
            self._looks[rank] = self._looks[rank] + 1 if same else 0
        self._last = seen
        return [rank for rank, looks in enumerate(self._looks) if looks >= self.missed]

    def end(self) -> None:
        """No further signs."""
        self._ended.set()
        self.join(2 * self.beat)
