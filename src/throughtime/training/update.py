"""What one update reports, and the end of a run that has diverged."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from throughtime.gradient_flow import DivergedError, NonFinite


@dataclass(frozen=True)
class Update:
    """What one update reports.

    Attributes:
        number: counted from 1.
        bits: training loss of the window before the update, bits a character.
        norm: of the gradient before clipping.
        clipped_norm: of the gradient after clipping.
        learning_rate: η of this update.
        characters: how many predictions the loss is the mean of.
    """

    number: int
    bits: float
    norm: float
    clipped_norm: float
    learning_rate: float
    characters: int


def still_finite(
    what: str, number: float, update: int, find: Callable[[], NonFinite | None] = lambda: None
) -> None:
    """Ends a run in which `number` is NaN or infinite; `find` says where that comes from."""
    if math.isfinite(number):
        return
    finding = find()
    where = f" ({finding})" if finding else ""
    raise DivergedError(
        f"{what}: expected a finite number, got {number} at update {update}{where}; "
        "choose a lower learning rate or a smaller clip",
        update,
        finding,
    )
