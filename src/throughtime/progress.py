"""Progress, on a terminal: the bar, and the words and the time of work that nothing counts.

tqdm is imported only when a bar is made, since that takes a while.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from time import monotonic, time
from typing import TYPE_CHECKING, NoReturn

from throughtime.arrays import in_a_line

if TYPE_CHECKING:
    from tqdm import tqdm

DELAY = 2.0  # seconds of work before which nothing is shown
EVERY = 1.0  # seconds between two times that `waiting` shows
KNOWN = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{unit} [{elapsed}<{remaining}]"
UNKNOWN = "{desc}: {n_fmt}{unit} [{elapsed}]"  # of an unknown number


def progress_bar(total: int, what: str, unit: str, show: bool | None = None) -> tqdm[NoReturn]:
    """A bar on standard error that disappears when it is done.

    Args:
        total: how many units there are to do.
        what: the text before the bar.
        unit: what is counted, as a plural: "losses".
        show: whether to draw it; None: in a terminal, after two seconds.
    """
    from tqdm import tqdm

    disable = None if show is None else not show
    bar: tqdm[NoReturn] = tqdm(
        desc=what, unit=f" {unit}", disable=disable, delay=DELAY, leave=False
    )
    expect(bar, total)
    return bar


def expect(bar: tqdm[NoReturn], total: int | None) -> None:
    """Tells a bar how many units there are to do; None or 0 where that is not known."""
    bar.total = total
    bar.bar_format = KNOWN if total else UNKNOWN


def begin(bar: tqdm[NoReturn], what: str, unit: str, total: int | None) -> None:
    """Makes a bar count something else, from 0 on; it appears no earlier than it would have.

    Args:
        bar: what `progress_bar` made.
        what, unit, total: as there; None where the total is not known.
    """
    bar.desc, bar.unit = what, f" {unit}"
    bar.n = bar.last_print_n = bar.miniters = 0
    expect(bar, total)


def doing(bar: tqdm[NoReturn], what: str) -> None:
    """Says what is being done from here on, while the bar counts on."""
    bar.desc = what
    if not bar.disable and time() - bar.start_t >= (bar.delay or 0.0):
        bar.refresh()


@contextlib.contextmanager
def waiting(what: str, show: bool | None = None) -> Iterator[Callable[[str], None]]:
    """Shows on standard error what is waited for, and for how long, until it is there.

    It yields a function that is given what is being done now, which is shown too.

    Args:
        what: is done elsewhere, as in another process, which tells nothing meanwhile.
        show: whether to show it; None: in a terminal. Either way, after two seconds.
    """
    stream = sys.stderr
    if not (stream.isatty() if show is None else show):
        yield lambda words: None
        return
    shown, done, began = [in_a_line(what)], threading.Event(), monotonic()

    def now(words: str) -> None:
        shown[:] = [in_a_line(f"{what}, {words}" if words else what)]

    def tell() -> None:
        pause, before = DELAY, 0
        with contextlib.suppress(OSError, ValueError):  # the terminal has gone
            while not done.wait(pause):
                fitting = max(1, shutil.get_terminal_size().columns - 1)
                took = f": {monotonic() - began:.0f} s"
                words = (shown[0][: max(0, fitting - len(took))] + took)[:fitting]
                stream.write(f"\r{words:<{min(before, fitting)}}")
                stream.flush()
                pause, before = EVERY, len(words)
            stream.write("\r" + " " * before + "\r" if before else "")
            stream.flush()

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield now
    finally:
        done.set()
        teller.join()
