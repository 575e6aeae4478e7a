"""The progress bar; tqdm is imported only when a bar is made, since that takes a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm


def progress_bar(total: int, what: str, unit: str, show: bool | None = None) -> tqdm[NoReturn]:
    """A bar on standard error that disappears when it is done.

    Args:
        total: how many units there are to do.
        what: the text before the bar.
        unit: of what is counted.
        show: whether to draw it; None: in a terminal, after two seconds.
    """
    from tqdm import tqdm

    disable = None if show is None else not show
    return tqdm(total=total, desc=what, unit=unit, disable=disable, delay=2, leave=False)


def begin(bar: tqdm[NoReturn], what: str, unit: str, total: int | None) -> None:
    """Makes a bar count something else, from 0 on; it appears no earlier than it would have.

    Args:
        bar: what `progress_bar` made.
        what, unit, total: as there; None where the total is not known.
    """
    bar.desc, bar.unit, bar.total = what, unit, total
    bar.n = bar.last_print_n = bar.miniters = 0
