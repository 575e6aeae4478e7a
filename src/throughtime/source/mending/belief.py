"""When an edit is believed that helps at one setting, and when it does so by coincidence.

A number that an edit takes may be the right one at one number of steps, with some data, or where
as many units as steps happen to be. So what it mends has to agree elsewhere as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

from throughtime.source.lines.trials import Setting
from throughtime.source.mending.agreement import EQUAL, WRONG, Agreement, score, worse_somewhere
from throughtime.source.mending.mended import Standing
from throughtime.source.tolerances import SAME_FACTOR


def is_believed(before: Standing, after: Standing, groups: Sequence[Sequence[Setting]]) -> bool:
    """Whether an edit mends what it mends for a reason.

    Args:
        before, after: how far the gradient agrees, by setting and tensor.
        groups: settings with the same data at several lengths, then others with other data: in
            each group more has to agree than before, where what is mended disagrees in it at all.
    """
    if any(worse_somewhere(before[s], after[s]) for s in before):
        return False
    mended = {n for s in before for n, a in before[s].items() if a.level < after[s][n].level}
    for settings in groups:
        shows = any(before[s][name].level < EQUAL for s in settings for name in mended)
        if (shows or not mended) and not any(score(after[s]) > score(before[s]) for s in settings):
            return False
        for number, setting in enumerate(settings):
            shorter = [s for s in settings[:number] if _is_shorter(s, setting)]
            if _agrees_at_last_alone(before[setting], after[setting], [after[s] for s in shorter]):
                return False
    return not any(
        _one_of_two(before[one], before[other], after[one], after[other])
        for one, other in permutations(before, 2)
    )


def _is_shorter(one: Setting, other: Setting) -> bool:
    return one.length is not None and other.length is not None and one.length < other.length


def _agrees_at_last_alone(
    before: Mapping[str, Agreement],
    after: Mapping[str, Agreement],
    shorter: Sequence[Mapping[str, Agreement]],
) -> bool:
    """Whether a tensor agrees now, and at fewer steps, where less can be wrong, nowhere."""
    return bool(shorter) and any(
        a.level == EQUAL > before[name].level and all(s[name].level < EQUAL for s in shorter)
        for name, a in after.items()
    )


def _one_of_two(
    before: Mapping[str, Agreement],
    elsewhere_before: Mapping[str, Agreement],
    after: Mapping[str, Agreement],
    elsewhere_after: Mapping[str, Agreement],
) -> bool:
    """Whether a tensor that was off by one factor at two settings agrees at one of them alone."""
    return any(
        WRONG < a.level < EQUAL
        and WRONG < elsewhere_before[name].level < EQUAL
        and abs(a.ratio - elsewhere_before[name].ratio) <= SAME_FACTOR * abs(a.ratio)
        and after[name].level == EQUAL > elsewhere_after[name].level
        for name, a in before.items()
    )
