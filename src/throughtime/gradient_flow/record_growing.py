"""Looks that grow: the first one is small, and each tells how long the next may take.

Nobody knows how long a look takes on this machine, with this model. So the first one follows one
sequence over few lags, the next ones more, until all is looked at that was asked for. No part of a
look costs more than in proportion to its sequences, to its lags, and to the losses that are
followed back: what the last one took, times how much larger the next one is, is not exceeded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from throughtime.gradient_flow.result import Flow
from throughtime.gradient_flow.tolerances import (
    GROWING_LOOKS,
    LONG_RUN,
    LONG_RUN_END_POINTS,
    LONG_RUN_LAGS,
)


class Growing:
    """Which look comes next.

    Attributes:
        size: how many of the `GROWING_LOOKS` are behind; all of them once looks have full size.
    """

    def __init__(self) -> None:
        self.size = 0

    def options(self, wanted: Mapping[str, Any], torch: bool) -> dict[str, Any]:
        """Those of the next look, where `wanted` are those of a whole one."""
        return _options(self.size, wanted, torch)

    def grown(self, flow: Flow, wanted: Mapping[str, Any], torch: bool) -> float:
        """How many times as much as this look the next one has to do; to be asked after each."""
        last = _work(flow, _options(self.size, wanted, torch))
        while self.size < len(GROWING_LOOKS):
            self.size += 1
            work = _work(flow, _options(self.size, wanted, torch))
            if work > last:
                return work / last
        return 1.0


def _options(size: int, wanted: Mapping[str, Any], torch: bool) -> dict[str, Any]:
    found = dict(wanted)
    for name, most in GROWING_LOOKS[size].items() if size < len(GROWING_LOOKS) else ():
        if name == "sample" and not torch:
            continue  # of a Network all losses go back together
        given = found.get(name)
        found[name] = most if given is None else min(most, given)
    return found


def _work(flow: Flow, options: Mapping[str, Any]) -> int:
    """Sequences times lags times losses."""
    T = flow.steps
    lags, losses = (T - 1, T) if T <= LONG_RUN else (LONG_RUN_LAGS, LONG_RUN_END_POINTS)
    lags, losses = (options.get(n) or m for n, m in (("max_lag", lags), ("sample", losses)))
    sequences: int = options.get("sequences") or flow.batch
    return sequences * (min(lags, T - 1) + 1) * min(losses, T)
