"""Measurements that are made once more: over a long move for a narrower error bar, or nearer by.

Neither is what must hold before a gradient is called wrong: `confirmation` is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from throughtime.derivatives import residual_over_move
from throughtime.gradcheck.budget import Spent
from throughtime.gradcheck.evaluation_point import EvaluationPoint, Measurement
from throughtime.gradcheck.search_direction import SearchDirection
from throughtime.gradcheck.tolerances import (
    CONFIRMATIONS,
    LENGTH_RATIO,
    LONGEST_MOVE,
    NARROWING_MOVES,
    NARROWING_NOISES,
    NEARER_EXPONENTS,
    REJECTION_BARS,
    SHIFTED_UNIT,
    SHORTEST_MOVE,
    SURE_BARS,
)
from throughtime.gradcheck.verdict import reconcile, rejects, with_kink_bound
from throughtime.gradcheck.workers import measure_serially


def narrowed(point: EvaluationPoint, found: Measurement, part: float) -> Measurement:
    """The same, or with a narrower error bar from a long move.

    The change of the loss over a move, minus the integral of the gradient, tells how far the
    gradient is off on average there: with as little noise as long steps have, and without
    truncation, since the gradient accounts for the curvature.

    Args:
        point: where.
        found: the measurement from near steps.
        part: the error bar to reach, relative to the gradient's typical size along a line.
    """
    if found.slope is None or rejects(found) or point.target.freeze is not None:
        return found
    goal = part * point.size_of(found.direction)
    if found.error <= goal or not goal:
        return found
    unit, noise = found.direction.unit, point.noise_along(found.direction.blocks).deviation
    at = point.loss_and_gradient_along(found.direction.blocks)
    best, length = (
        found,
        float(np.clip(NARROWING_NOISES * noise / goal, SHORTEST_MOVE * unit, LONGEST_MOVE * unit)),
    )
    for number in range(NARROWING_MOVES):
        try:
            move = residual_over_move(at, found.gradient, length, point.seed + number)
        except Spent:
            break
        error = move.error + found.rounding
        if error < best.error and abs(move.residual) <= REJECTION_BARS * error:
            step_exponent = round(2 * np.log2(length / unit))
            numerical = found.gradient - move.residual
            best = replace(
                found,
                numerical=numerical,
                error=error,
                step_exponents=(step_exponent,),
                hidden_kink=0.0,
            )
        bent = move.curve > error / 2
        hopeless = not bent and error > LENGTH_RATIO**2 * goal
        if best.error <= goal or hopeless:
            break
        length = length / LENGTH_RATIO if bent else length * LENGTH_RATIO
    return best


def measured_twice(
    point: EvaluationPoint, found: Sequence[Measurement | None]
) -> list[Measurement | None]:
    """The same results, in which whatever differs beyond its error bar was measured again.

    The second measurement uses other, smaller steps, and no goal to stop at. Of many differences
    the clearest few are measured again; where these are confirmed, the others are believed. This
    is less than `confirmed` demands before a gradient is called wrong, and costs a fifth of it: it
    serves where the gradient is already known to be wrong.
    """
    result = [m if m is None else with_kink_bound(m) for m in found]
    suspects = sorted(
        (k for k, m in enumerate(found) if m is not None and rejects(m)),
        key=lambda k: 0.0 if (m := result[k]) is None else -m.z,
    )
    for group in (suspects[:CONFIRMATIONS], suspects[CONFIRMATIONS:]):
        doubted = [m for k in group if (m := found[k]) is not None]
        again = measure_serially(point, [_nearer_direction(m) for m in doubted])
        for k, first, second in zip(group, doubted, again, strict=True):
            # Where the budget ends, nothing is called wrong because of a single measurement.
            result[k] = None if second is None else reconcile(first, second)
        if all((m := result[k]) is not None and m.z > SURE_BARS for k in group):
            break
    return result


def _nearer_direction(found: Measurement) -> SearchDirection:
    """The same line from smaller steps on: what saturates far off does not saturate there."""
    direction = found.direction
    first = (found.step_exponents or direction.step_exponents)[0] - NEARER_EXPONENTS
    return replace(
        direction,
        unit=SHIFTED_UNIT * direction.unit,
        step_exponents=(first, first + 2, first + 4),
        goal=0.0,
    )
