"""Processes that torchrun started on this machine, and one of them that hangs.

Where one process ends, torchrun asks the others to, and kills after 30 seconds what does not
answer. A process that has been silent for 20 will not: who has found that ends it.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any


class Siblings:
    """The other processes with the same parent.

    Args:
        store: with `set` and `multi_get`, as torch.distributed's TCPStore.
        rank, size: of this process, and how many there are.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self._store, self._names = store, [str(number) for number in range(size)]
        self._own = f"{socket.gethostname()} {os.getppid()}"
        self._there: dict[int, int] = {}
        store.set(str(rank), f"{self._own} {os.getpid()}")

    def meet(self) -> None:
        """Once all have come together: who they are, while the store can still be asked."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return
        for rank, content in enumerate(self._store.multi_get(self._names)):
            place, _, number = content.decode().rpartition(" ")
            if place == self._own:
                self._there[rank] = int(number)

    def end(self, silent: list[int]) -> None:
        """Kills those of them that are here."""
        for rank in silent:
            if self._there.get(rank, os.getpid()) != os.getpid():
                end_child(self._there[rank], os.getppid())


def end_child(process: int, parent: int) -> None:
    """Kills a process if it is still its parent's: its number may have gone to another one."""
    with suppress(OSError):
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        if int(status.rpartition(")")[2].split()[1]) == parent:
            os.kill(process, signal.SIGKILL)
