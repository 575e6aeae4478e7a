"""Taking turns: whatever else the machine does meets all contestants alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from time import perf_counter

Clock = Callable[[], float]  # runs once and says how many seconds that took

TURN = 0.02  # seconds: longer than another's idle threads keep spinning
LOST = 20  # times slower than others of its group: no further turns


def clock(run: Callable[[], object]) -> Clock:
    """Runs once, timed by this process's own clock."""

    def timed() -> float:
        began = perf_counter()
        run()
        return perf_counter() - began

    return timed


def take_turns(
    contestants: Mapping[str, Clock], seconds: float, rounds: int = 3
) -> dict[str, float]:
    """The smallest time of each, in seconds.

    Contestants take turns of at least 20 ms and two runs (one, where it takes long), so that the
    start of a turn, which may still feel the one before, does not decide. The first word of a
    name is its group: who is 20 times slower than the best of its group has no further turn,
    since two threads that wait for each other on a busy machine may take seconds.

    Args:
        contestants: name to clock.
        seconds: how long all of it may take.
        rounds: turns that everyone has at least.
    """
    best = dict.fromkeys(contestants, inf)
    lost: set[str] = set()
    began, played = perf_counter(), 0
    while played < rounds or perf_counter() - began < seconds:
        for name, run in contestants.items():
            if name in lost:
                continue
            group = [best[other] for other in best if other.split()[0] == name.split()[0]]
            limit = LOST * min(group)
            best[name] = min(best[name], _turn(run, limit))
            if best[name] > limit:
                lost.add(name)
        played += 1
    return best


def _turn(run: Clock, limit: float) -> float:
    fastest, spent, runs = inf, 0.0, 0
    began = perf_counter()  # a clock may give the mean of many runs: its time is not the turn's
    while spent < TURN or (runs < 2 and spent < 10 * TURN):
        took = run()
        fastest, spent, runs = min(fastest, took), perf_counter() - began, runs + 1
        if took > limit:
            break
    return fastest
