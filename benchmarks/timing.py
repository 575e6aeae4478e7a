"""Contestants take turns, so that other work of the machine affects all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from time import perf_counter

Clock = Callable[[], float]  # runs once and returns the seconds that this took

TURN = 0.02  # seconds: longer than the idle threads of another contestant keep spinning
LOST = 20  # a contestant that is so many times slower than its group's best has no more turns


def clock(run: Callable[[], object]) -> Clock:
    """A clock that runs the function once and times it in this process."""

    def timed() -> float:
        began = perf_counter()
        run()
        return perf_counter() - began

    return timed


def take_turns(
    contestants: Mapping[str, Clock], seconds: float, rounds: int = 3
) -> dict[str, float]:
    """The smallest time of each contestant, in seconds.

    A turn lasts at least 20 ms and two runs, or one run if it is long. The start of a turn, which
    the previous turn may still affect, therefore does not decide. The first word of a name is its
    group. A contestant that is 20 times slower than the best of its group has no more turns, since
    two threads that wait for each other on a busy machine may take seconds.

    Args:
        contestants: the clocks by name.
        seconds: how long all turns together may take.
        rounds: the smallest number of turns of each contestant.
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
    began = perf_counter()  # a clock may return the mean of many runs, not the time of the turn
    while spent < TURN or (runs < 2 and spent < 10 * TURN):
        took = run()
        fastest, spent, runs = min(fastest, took), perf_counter() - began, runs + 1
        if took > limit:
            break
    return fastest
