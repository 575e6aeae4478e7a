"""An initial state of 0, where a backward pass can be right at that one alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from throughtime.gradcheck import CheckError
from throughtime.source.bench import Bench
from throughtime.source.finding.numbers_held import numbers_in
from throughtime.source.finding.reading import AT_REST, STATE, Reading
from throughtime.source.finding.readings import Judged, judged


def from_rest(bench: Bench, found: Judged) -> Judged:
    """With an initial state of 0, where that is the only one that the gradient can be right at.

    So it is where all tensors are right with that one alone, and where nothing that the forward
    pass leaves for the backward pass holds the state.
    """
    setup = found.reading.setup.replace(STATE, AT_REST)
    if len(found.right) == len(found.moves) or setup == found.reading.setup:
        return found
    other = judged(bench, replace(found.reading, setup=setup))
    if other is None:
        return found
    lost = len(other.right) >= len(found.right) and not _is_left_behind(bench, found.reading)
    return other if other.settled or lost else found


def _is_left_behind(bench: Bench, reading: Reading) -> bool:
    """Whether an initial state is among what there is where the backward pass begins."""
    if "states" in reading.gradient or "(" not in reading.gradient:
        return True  # given to it, or to the one call that does both
    try:
        bench.run(f"{reading.begin}\n{reading.run}")
    except CheckError:
        return True
    space = dict(bench.space)
    wanted = [np.asarray(state).reshape(-1) for state in space.pop("states", ())]
    if not wanted:  # they are kept under another name
        return True
    # The numbers were drawn: nothing else has them by chance.
    numbers = list(numbers_in(space))
    return any(np.isin(state, found).all() for state in wanted for found in numbers)
