"""What must hold before a gradient is called wrong.

A difference beyond its error bar is a claim, and the error bar may be at fault: the loss may climb
in stairs that are coarser than its noise was taken to be, or bend at a kink among the steps. So a
claim is tried twice.

- Along the same line, with steps and moves of other lengths, a factor of ten and more away
  (`looks`). A second length must show the difference, and none may show that there is none.
- At points close by. Rounding inside the loss, of states that are kept in float32 say, makes the
  loss another function, whose slope in other parameters is off by that rounding, to all digits
  and at any step. A fault stays as it is where all parameters move a little, while rounding comes
  out anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from throughtime.derivatives import START_EXPONENTS, WIDEST_EXPONENT, integrated
from throughtime.gradcheck.budget import Spent
from throughtime.gradcheck.confirmations import Looks
from throughtime.gradcheck.evaluation_point import Measured, Site
from throughtime.gradcheck.parameter_moves import Moved, moves_of
from throughtime.gradcheck.plan import window
from throughtime.gradcheck.target import Evaluator
from throughtime.gradcheck.tolerances import (
    CLOSE_DISTANCE,
    CLOSE_POINT_ERROR,
    CLOSE_POINT_SEEDS,
    CLOSE_POINTS,
    CONFIRMATIONS,
    CONSTANT_DEVIATIONS,
    FAIRLY_CONSTANT_DEVIATIONS,
    REJECTION_BARS,
    SAME_NOISE,
    STEADY_PART,
    STEADY_POINTS,
    SURE_BARS,
)
from throughtime.gradcheck.verdict import accused, cautious, excused


def confirmed(site: Site, found: Sequence[Measured | None]) -> list[Measured | None]:
    """The same results; what differs beyond its error bar has been confirmed.

    Of many, the clearest few are asked; where these stand by it, the others are believed, unless
    their own values repeat. What the budget does not reach is None: nothing is called wrong on
    one measurement.
    """
    result = list(found)
    suspects = sorted(
        (k for k, m in enumerate(found) if m is not None and accused(m)),
        key=lambda k: -_z(found[k]),
    )
    asked, rest = suspects[:CONFIRMATIONS], suspects[CONFIRMATIONS:]
    _confirm(site, result, asked)
    if all(_z(result[k]) > SURE_BARS for k in asked):
        believed = [k for k in rest if (m := found[k]) is not None and not m.stairs]
        result = [cautious(m) if k in believed and m else m for k, m in enumerate(result)]
        rest = [k for k in rest if k not in believed]
    _confirm(site, result, rest)
    return result


def _z(found: Measured | None) -> float:
    return 0.0 if found is None else found.z


def _confirm(site: Site, result: list[Measured | None], places: Sequence[int]) -> None:
    """Replaces some results by what is left of them once they were looked at again."""
    for k in places:
        claim = result[k]
        assert claim is not None
        try:
            result[k] = _at_other_lengths(site, claim)
        except Spent:
            result[k] = None
    standing = {k: m for k in places if (m := result[k]) is not None and accused(m)}
    try:
        for k, m in standing.items():
            if not _above_all_noise(site, m):
                result[k] = excused(m)
        standing = {k: m for k, m in standing.items() if result[k] is m}
        for k, m in _at_points_close_by(site, standing).items():
            result[k] = m
    except Spent:
        for k in standing:
            result[k] = None


def _at_other_lengths(site: Site, claim: Measured) -> Measured:
    """The claim where it stands; else the best that is known of the slope."""
    looks = Looks(site, claim)
    if looks.stand():
        return claim
    noise = looks.noise()
    if noise is None:
        return replace(claim, error=np.inf)
    site.learn_noise(claim.line.blocks, noise)
    again = cautious(site.measure(replace(claim.line, rungs=START_EXPONENTS, goal=0.0)))
    site.learn_noise(claim.line.blocks, looks.noise_over(max(claim.line.unit, again.step)))
    return excused(again) if accused(again) else again


def _above_all_noise(site: Site, claim: Measured) -> bool:
    """Whether a claim holds over a move that would show it above the noise along any tensor.

    Where the loss has stairs along one tensor, what this one adds may be rounded with the rest.
    """
    loudest = max(site.own_noise.values(), default=0.0)
    length = 2 * SAME_NOISE * loudest / abs(claim.residual)
    if length <= 2 * max(claim.step, claim.line.unit):
        return True
    if length > claim.line.unit * 2.0 ** (WIDEST_EXPONENT / 2) or site.target.freeze is not None:
        return False
    at = site.with_gradient(claim.line.blocks)
    move = integrated(at, claim.gradient, length, site.seed)
    return abs(move.residual) > REJECTION_BARS * (move.error + claim.rounding)


# --- at points close by ---


def _at_points_close_by(site: Site, claims: Mapping[int, Measured]) -> dict[int, Measured]:
    """The claims, of which those that do not stay as they are accuse no one any longer."""
    open_ = dict(claims)
    residuals = {k: [claim.residual] for k, claim in claims.items()}
    for number in range(CLOSE_POINTS):
        if not open_:
            break
        with close_by(site, number) as other:
            for k, claim in open_.items():
                goal = CLOSE_POINT_ERROR * abs(claim.residual)
                line = replace(claim.line, rungs=window([claim]), goal=goal)
                found = other.measure(line) if other is not None else None
                if found is not None and np.isfinite(found.error):
                    residuals[k].append(found.residual)
        open_ = {k: claim for k, claim in open_.items() if not _steady(residuals[k])}
    least = CONSTANT_DEVIATIONS if site.own_noise else FAIRLY_CONSTANT_DEVIATIONS
    return {
        k: excused(claim) if k in open_ and not _constant(residuals[k], least) else claim
        for k, claim in claims.items()
    }


def _steady(residuals: Sequence[float]) -> bool:
    """Whether a difference is the same at a few points."""
    first, *others = residuals
    return len(others) >= STEADY_POINTS and all(
        abs(r - first) <= STEADY_PART * abs(first) for r in others
    )


def _constant(residuals: Sequence[float], least: float) -> bool:
    """Whether a difference has the same sign at all points, beyond their scatter."""
    if len(residuals) <= STEADY_POINTS:
        return False
    return abs(float(np.mean(residuals))) > least * float(np.std(residuals, ddof=1))


@contextmanager
def close_by(site: Site, number: int) -> Iterator[Site | None]:
    """A site at which all parameters have moved a little; None where there is no gradient.

    Afterwards they are put back, and what the target freezes is taken anew.
    """
    line = site.everything("close by", CLOSE_POINT_SEEDS + number)
    try:
        with Moved(
            site.target, site.gradient, moves_of(line.blocks, site.parameters), CLOSE_DISTANCE
        ):
            try:
                other = site.beside(Evaluator(site.target).gradient())
            except (ValueError, ArithmeticError):  # CheckError is one
                other = None
            yield other
    finally:
        Evaluator(site.target)
