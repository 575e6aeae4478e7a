"""One line that is written over in a terminal; elsewhere a line now and then."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, TextIO

from throughtime.gradient_flow.tolerances import SECONDS_BETWEEN_LINES, SECONDS_BETWEEN_VERSIONS


class LiveLine:
    """Shows text below a progress bar, where there is one.

    Args:
        live: whether to; None: in a terminal only.
        file: where.
    """

    def __init__(self, live: bool | None, file: TextIO) -> None:
        self.file, self.terminal = file, file.isatty()
        self.wanted = self.terminal if live is None else live
        self.shown = perf_counter()
        self._bar: Any = None

    def show(self, words: Callable[[], str], *, now: bool = False) -> None:
        """Shows what `words` gives, where it is time to; `now` in a terminal at once."""
        if not self.wanted:
            return
        passed = perf_counter() - self.shown
        if self.terminal and (now or passed >= SECONDS_BETWEEN_VERSIONS):
            self._line().set_description_str(words())
        elif not self.terminal and passed >= SECONDS_BETWEEN_LINES:
            print(words(), file=self.file, flush=True)
        else:
            return
        self.shown = perf_counter()

    def close(self) -> None:
        """Leaves the last version standing."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _line(self) -> Any:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(bar_format="{desc}", file=self.file, dynamic_ncols=True, leave=True)
        return self._bar
