"""A text as B parallel streams, walked through in windows of truncated BPTT.

Stream b begins where stream b − 1 ends, so that every step of a window continues the text of
the window before, in each of the B columns, and the state can be carried.
"""

from __future__ import annotations

from throughtime.arrays import Array, positive, refuse
from throughtime.network import TruncationWindow, windows


class Streams:
    """One epoch of a text: inputs, targets and windows.

    Args:
        codes: class indices of the whole text, one axis.
        batch: B.
        k1, k2: steps between updates, and steps that the gradient goes back.

    Attributes:
        inputs, targets: (N, B); the target of a step is the input of the next one. Up to B − 1
            characters at the end of the text do not fill a step and are left out.
        windows: those of N steps; the last one may be shorter.

    Example:
        >>> import numpy as np
        >>> from throughtime.training import Streams
        >>> streams = Streams(np.arange(11), batch=2, k1=2, k2=3)
        >>> streams.inputs.T
        array([[0, 1, 2, 3, 4],
               [5, 6, 7, 8, 9]])
        >>> streams.windows
        [TruncationWindow(start=0, first=0, stop=2), TruncationWindow(start=1, first=2, stop=4),
         TruncationWindow(start=2, first=4, stop=5)]
    """

    def __init__(self, codes: Array, batch: int, k1: int, k2: int) -> None:
        needed = positive("batch", batch) * max(positive("k1", k1), positive("k2", k2)) + 1
        if len(codes) < needed:
            refuse(
                "text",
                f"at least {needed} characters for training (B = {batch} streams of a window of "
                f"{max(k1, k2)} steps, and one more)",
                len(codes),
                "give more text, or choose a smaller batch, k1 or k2",
            )
        self.inputs, self.targets = parallel(codes, batch)
        self.windows: list[TruncationWindow] = windows(len(self.inputs), k1, k2)

    def carried_to(self, window: int) -> int:
        """The step before which the state stands that is carried into a window.

        That is the window's start; but where k2 < k1, steps lie between two windows that neither
        of them reaches, and the state waits before them.
        """
        if window == 0:
            return 0
        return min(self.windows[window].start, self.windows[window - 1].stop)


def parallel(codes: Array, batch: int) -> tuple[Array, Array]:
    """Inputs and targets (N, B) of B streams, each a contiguous N + 1 characters of the text."""
    steps = (len(codes) - 1) // batch
    inputs, targets = (codes[s : s + steps * batch].reshape(batch, steps).T for s in (0, 1))
    return inputs, targets
