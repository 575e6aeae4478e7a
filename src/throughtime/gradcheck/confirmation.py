"""What must hold before a gradient is called wrong.

A difference beyond its error bar is a claim, and the error bar may be at fault: the loss may climb
in stairs that are coarser than its noise was taken to be, or bend at a kink among the steps. So a
claim is tested in three ways.

- Along the same line, with steps and moves of other lengths, shorter and longer by a factor of ten
  and more. Short steps see the slope where it is asked for, and what kinks among longer ones hide.
  Long moves, over which the gradient under test is integrated, see across the treads of stairs. A
  second length must show the difference, and none may show that there is none.
- Over a move on which it exceeds the noise along every tensor. Where the loss has stairs along one
  tensor, the contribution of another may be rounded with it.
- At nearby points. Rounding inside the loss, of states that are kept in float32 say, makes the
  loss another function, whose slope in other parameters is off by that rounding, to all digits
  and at any step. A fault stays as it is where all parameters move a little, while rounding comes
  out anew. Where the loss is coarsely rounded, `check` asks at a distant point as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np

from throughtime.derivatives import (
    START_EXPONENTS,
    WIDEST_EXPONENT,
    MoveResidual,
    RandomStepSlope,
    change_beyond_slopes,
    residual_over_move,
    slope_from_random_steps,
)
from throughtime.gradcheck.budget import Spent
from throughtime.gradcheck.evaluation_point import EvaluationPoint, Measurement, last_step_exponents
from throughtime.gradcheck.search_direction import MovedParameters, draw_moves
from throughtime.gradcheck.target import Evaluator
from throughtime.gradcheck.tolerances import (
    ABRUPT_POWER,
    CLOSE_DISTANCE,
    CLOSE_POINT_ERROR,
    CLOSE_POINT_SEEDS,
    CLOSE_POINTS,
    CONFIRMATIONS,
    CONSTANT_DEVIATIONS,
    CONTAINED_BARS,
    CURVE_POWER,
    DOUBLE_PRECISION_NOISE,
    EXCLUDED_BARS,
    FAIRLY_CONSTANT_DEVIATIONS,
    KNOWN_SLOPE,
    LENGTH_RATIO,
    MOST_MOVES,
    NEARER_EXPONENTS,
    REFUTING_PART,
    REJECTION_BARS,
    SAME_NOISE,
    SATURATING_MOVE,
    SEVENTH_POWER_PART,
    SHIFTED_UNIT,
    SHORT_STEP_RATIO,
    SLIGHT_PART,
    SMOOTH_PART,
    STEADY_GRADIENT,
    STEADY_PART,
    STEADY_POINTS,
    STRETCHED_STEPS,
    SURE_BARS,
    UNKNOWN_PART,
)
from throughtime.gradcheck.verdict import rejects, with_error_covering, with_kink_bound


def confirmed(
    point: EvaluationPoint, found: Sequence[Measurement | None]
) -> list[Measurement | None]:
    """The same results, in which whatever differs beyond its error bar has been confirmed.

    Of many differences the clearest few are tested. Where all of them are confirmed, the others
    are believed, unless their own values repeat. What the budget does not reach is None: nothing
    is called wrong because of a single measurement.
    """
    _learn_unknown_change(point, found)
    result = list(found)
    suspects = sorted(
        (k for k, m in enumerate(found) if m is not None and rejects(m)),
        key=lambda k: -_z(found[k]),
    )
    asked, rest = suspects[:CONFIRMATIONS], suspects[CONFIRMATIONS:]
    _confirm(point, result, asked)
    if all(_z(result[k]) > SURE_BARS for k in asked):
        believed = [k for k in rest if (m := found[k]) is not None and not m.stairs]
        result = [with_kink_bound(m) if k in believed and m else m for k, m in enumerate(result)]
        rest = [k for k in rest if k not in believed]
    _confirm(point, result, rest)
    return result


def _learn_unknown_change(point: EvaluationPoint, found: Sequence[Measurement | None]) -> None:
    """Notes by how much the loss may change along directions whose slope is not known.

    Where there are stairs along one tensor, another may lead over the same stairs, on treads so
    wide that no step has left the first. In double precision rounding leaves no slope unknown:
    all short steps stay inside a tread. Elsewhere it may, so that the steps themselves count.
    """
    fine = point.noise.deviation <= DOUBLE_PRECISION_NOISE * abs(point.loss)
    exact = fine and point.in_double_precision
    for m in found:
        if m is None or rejects(m) or not np.isfinite(m.error):
            continue
        if m.error > UNKNOWN_PART * max(abs(m.gradient), abs(m.numerical)):
            reach = m.direction.unit if exact else min(m.direction.unit, m.step)
            for block in m.direction.blocks:
                known = point.unknown_change.get(block.name, 0.0)
                point.unknown_change[block.name] = max(known, m.error * reach)


def _z(found: Measurement | None) -> float:
    return 0.0 if found is None else found.z


def _confirm(
    point: EvaluationPoint, result: list[Measurement | None], places: Sequence[int]
) -> None:
    """Replaces some results by what further measurements leave of them."""
    tests: dict[int, ClaimTest] = {}
    for k in places:
        claim = result[k]
        assert claim is not None
        tests[k] = ClaimTest(point, claim)
        try:
            result[k] = _at_other_lengths(tests[k])
        except Spent:
            result[k] = None
    remaining = {k: m for k in places if (m := result[k]) is not None and rejects(m)}
    try:
        for k, m in remaining.items():
            if not _above_all_noise(tests[k]):
                result[k] = with_error_covering(m)
        remaining = {k: m for k, m in remaining.items() if result[k] is m}
        for k, m in _at_nearby_points(point, remaining).items():
            result[k] = m
    except Spent:
        for k in remaining:
            result[k] = None


def _at_other_lengths(test: ClaimTest) -> Measurement:
    """The claim if it holds, else the best known measurement of the slope."""
    point, claim = test.point, test.claim
    if test.holds():
        return claim
    noise = test.noise()
    if noise is None:
        return replace(claim, error=np.inf)
    point.learn_noise(claim.direction.blocks, noise)
    again = with_kink_bound(
        point.measure(replace(claim.direction, step_exponents=START_EXPONENTS, goal=0.0))
    )
    point.learn_noise(
        claim.direction.blocks, test.noise_over(max(claim.direction.unit, again.step))
    )
    return with_error_covering(again) if rejects(again) else again


def _above_all_noise(test: ClaimTest) -> bool:
    """Whether a claim holds over a move long enough to exceed the noise along every tensor.

    Where the loss has stairs along one tensor, the contribution of another may be rounded too;
    and where long moves left noise over, shorter ones may not have crossed the stairs.
    """
    point, claim = test.point, test.claim
    moved = {block.name for block in claim.direction.blocks}
    unknown = [change for name, change in point.unknown_change.items() if name not in moved]
    loudest = max([test.loudest_noise(), *unknown, *point.own_noise.values()])
    length = 2 * SAME_NOISE * loudest / abs(claim.residual)
    if length <= test.longest_shown():
        return True
    if (
        length > claim.direction.unit * 2.0 ** (WIDEST_EXPONENT / 2)
        or point.target.freeze is not None
    ):
        return False
    at = point.loss_and_gradient_along(claim.direction.blocks)
    move = residual_over_move(at, claim.gradient, length, point.seed)
    return abs(move.residual) > REJECTION_BARS * (move.error + claim.rounding)


# --- at nearby points ---


def _at_nearby_points(
    point: EvaluationPoint, claims: Mapping[int, Measurement]
) -> dict[int, Measurement]:
    """The claims; those that are not the same at nearby points reject the gradient no longer."""
    open_ = dict(claims)
    seen = {k: [claim] for k, claim in claims.items()}
    for number in range(CLOSE_POINTS):
        if not open_:
            break
        with nearby_point(point, number) as other:
            for k, claim in open_.items():
                goal = CLOSE_POINT_ERROR * abs(claim.residual)
                direction = replace(
                    claim.direction, step_exponents=last_step_exponents([claim]), goal=goal
                )
                found = other.measure(direction) if other is not None else None
                if found is not None and np.isfinite(found.error):
                    seen[k].append(found)
        open_ = {k: claim for k, claim in open_.items() if not any(map(_steady, _sizes(seen[k])))}
    least = CONSTANT_DEVIATIONS if point.own_noise else FAIRLY_CONSTANT_DEVIATIONS
    return {
        k: with_error_covering(claim)
        if k in open_ and not any(_constant(sizes, least) for sizes in _sizes(seen[k]))
        else claim
        for k, claim in claims.items()
    }


def _sizes(found: Sequence[Measurement]) -> list[list[float]]:
    """A difference by itself, and in proportion to the slope, as of a gradient off by a factor.

    The slope is the numerical one, where it is known. In proportion to the gradient, every
    difference is steady where the numerical one is lost: in a network that is chaotic, the gradient
    may be anything, and no move is short enough.
    """
    residuals = [m.residual for m in found]
    if not all(abs(m.numerical) > KNOWN_SLOPE * m.error for m in found):
        return [residuals]
    return [residuals, [r / m.numerical for r, m in zip(residuals, found, strict=True)]]


def _steady(residuals: Sequence[float]) -> bool:
    """Whether a difference is the same at a few nearby points."""
    first, *others = residuals
    return len(others) >= STEADY_POINTS and all(
        abs(r - first) <= STEADY_PART * abs(first) for r in others
    )


def _constant(residuals: Sequence[float], least: float) -> bool:
    """Whether the mean of a difference over all points exceeds its scatter."""
    if len(residuals) <= STEADY_POINTS:
        return False
    return abs(float(np.mean(residuals))) > least * float(np.std(residuals, ddof=1))


@contextmanager
def nearby_point(point: EvaluationPoint, number: int) -> Iterator[EvaluationPoint | None]:
    """A point at which all parameters have moved a little; None where there is no gradient.

    Afterwards they are put back, and what the target freezes is taken anew.
    """
    direction = point.direction_over_all("close by", CLOSE_POINT_SEEDS + number)
    try:
        with MovedParameters(
            point.target,
            point.gradient,
            draw_moves(direction.blocks, point.parameters),
            CLOSE_DISTANCE,
        ):
            try:
                other = point.nearby(Evaluator(point.target).gradient())
            except (ValueError, ArithmeticError):  # CheckError is one
                other = None
            yield other
    finally:
        Evaluator(point.target)


# --- along the same line, with steps and moves of other lengths ---


class ClaimTest:
    """Tests a claim by slopes along its line, from random steps and moves of several lengths."""

    def __init__(self, point: EvaluationPoint, claim: Measurement) -> None:
        self.point, self.claim = point, claim
        self.function = point.loss_along(claim.direction.blocks)
        self.unit, self.step = claim.direction.unit, claim.step or claim.direction.unit
        kink = claim.slope.kink if claim.slope is not None else 0.0
        self.fixed_error = (
            claim.rounding + kink
        )  # the part of an error bar that the steps do not show
        self.slopes: list[RandomStepSlope] = []
        self.moves: list[MoveResidual] = []
        self.noisy = False  # whether moves left over what is no curve

    def holds(self) -> bool:
        """Whether steps of two very different lengths show the difference, and none refutes it.

        The first steps are so short that the seventh power, which no fit includes, cannot hide a
        claim.
        """
        size = max(abs(self.claim.gradient), abs(self.claim.numerical))
        part = abs(self.claim.residual) / size
        near = self.slope_over(self.step * min(1.0, (SEVENTH_POWER_PART * part) ** (1 / 6)))
        if not self.differs(near):
            return False
        stretched = near.scale > STRETCHED_STEPS * self.unit
        if stretched and not self.differs(self.slope_over(LENGTH_RATIO * self.unit)):
            return False
        far = self.over_long_moves(near.scale)
        if far is False and self.smooth_over_moves(near.scale):
            far, self.noisy = None, False
        if far is not None:
            return far
        short = self.slope_over(near.scale / SHORT_STEP_RATIO)
        if self.refutes(short):
            return False
        return self.differs(short) or (
            not self.noisier_than_known(near) and self.holds_at_nearer_steps()
        )

    def over_long_moves(self, near: float) -> bool | None:
        """Whether the gradient fails to explain a long move; None where that cannot be told.

        Where the loss bends too much over a move for its slopes to be integrated, shorter moves
        are tried. Where the slopes hardly change and yet explain nothing, the loss may climb in
        stairs, and a move that is too short to leave its tread would show no slope at all: then
        longer moves have to decide.
        """
        if self.point.target.freeze is not None:
            return None  # at other places its gradient is that of another loss
        shown, length = None, max(SHORT_STEP_RATIO * near, self.unit)
        longest = length
        shortest = near / LENGTH_RATIO
        while shown is None and length >= shortest and len(self.moves) < MOST_MOVES:
            move = self.integrate_over(length)
            shown = self.shows_difference(move, self.bars(move))
            length /= LENGTH_RATIO
        if shown is False or not self.leaves_unexplained():
            return shown
        if shown:  # by the last move alone: does what is left over grow like a curve from there?
            self.integrate_over(float(np.sqrt(self.moves[-1].length * self.moves[-2].length)))
        self.noisy = self.has_uncurved_noise()
        self.point.rounded_inside |= self.noisy
        confirming, contradicting = 0, 0
        for length in (LENGTH_RATIO * longest, LENGTH_RATIO**2 * longest):
            move = self.integrate_over(length)
            far = self.shows_difference(move, SURE_BARS)
            if far is not None:
                return far
            least = max(CONTAINED_BARS * move.error, REFUTING_PART * abs(self.claim.residual))
            confirming += move.residual * np.sign(self.claim.residual) > least
            apart = abs(move.residual - self.claim.residual)
            within = (
                move.steady < STEADY_GRADIENT and abs(move.residual) < CONTAINED_BARS * move.error
            )
            contradicting += within and apart > CONTAINED_BARS * move.error
        if contradicting > 1:
            return False
        if self.point.coarse:  # then longer moves do not leave more over because they bend
            self.noisy = self.has_uncurved_noise()
        return shown if shown and (confirming > 1 or not self.noisy) else False

    def smooth_over_moves(self, steps: float) -> bool:
        """Whether slopes from short steps miss nothing of the moves that speak against the claim.

        Then the loss has no stairs there, and its slope at 0 is the one that short steps show; what
        a gradient adds up to over a move says nothing, where it is wrong in another way at every
        place.
        """
        against = [m.length for m in self.moves if self.shows_difference(m) is False]
        length = max([*against, *(m.length for m in self._noisy_moves())], default=0.0)
        point = self.point
        noise = point.noise_along(self.claim.direction.blocks).deviation
        fine = point.in_double_precision and noise <= DOUBLE_PRECISION_NOISE * abs(point.loss)
        if not length or not fine or point.coarse or point.rounded_inside:
            return False  # what is rounded to a grid may be smooth for as long as steps are short
        missed = change_beyond_slopes(self.function, self.point.loss, length, min(steps, self.step))
        return missed <= SMOOTH_PART * abs(self.claim.residual) * length

    def integrate_over(self, length: float) -> MoveResidual:
        """How far the gradient is off over a move of this length."""
        at = self.point.loss_and_gradient_along(self.claim.direction.blocks)
        seed = self.point.seed + len(self.moves)
        self.moves.append(residual_over_move(at, self.claim.gradient, length, seed))
        return self.moves[-1]

    def shows_difference(self, move: MoveResidual, bars: float = REJECTION_BARS) -> bool | None:
        """Whether a move shows the difference, or False: that there is none, or None: neither."""
        error = move.error + self.claim.rounding  # kinks add nothing: the gradient explains them
        if abs(move.residual) > bars * error:
            return True
        apart = abs(move.residual - self.claim.residual)
        nothing = max(CONTAINED_BARS * error, REFUTING_PART * abs(self.claim.residual) - error)
        contained = abs(move.residual) < nothing and apart > EXCLUDED_BARS * error
        kinked = self.fixed_error > self.claim.rounding  # then slopes jump, and are seldom steady
        slight = kinked and move.curve < REFUTING_PART * abs(self.claim.residual)
        known = move.steady < STEADY_GRADIENT or slight
        return False if contained and known else None

    def bars(self, move: MoveResidual) -> float:
        """How many error bars a residual must exceed: more where noise may be underrated."""
        return SURE_BARS if self.noisier_than_known(move) else REJECTION_BARS

    def noisier_than_known(self, found: MoveResidual | RandomStepSlope) -> bool:
        """Whether a fit leaves over more than the noise as it is known."""
        known = self.point.noise_along(self.claim.direction.blocks).deviation
        return found.deviation > SAME_NOISE * known

    def gradient_known(self, move: MoveResidual) -> bool:
        """Whether what a fit to a move leaves over is noise, and not a gradient that bends.

        Where the loss is known to be coarsely rounded, a gradient that bends will do, provided
        that its course is known better than the loss is.
        """
        slight = self.point.coarse and move.curve < SLIGHT_PART * move.error
        return move.steady < STEADY_GRADIENT or slight

    def leaves_unexplained(self) -> bool:
        """Whether slopes that are known over all of a move fail to explain it."""
        known = filter(self.gradient_known, self.moves)
        return any(self.shows_difference(m, self.bars(m)) is None for m in known)

    def has_uncurved_noise(self) -> bool:
        """Whether what moves leave over grows with the length as no curve does.

        Noise is the same at any length; and where a move crosses a stair that a shorter one does
        not cross, it grows at once.
        """
        left = sorted(self._noisy_moves(), key=lambda m: m.length)
        for shorter, longer in pairwise(left):
            ratio = longer.length / shorter.length
            growth = longer.deviation / shorter.deviation
            if not ratio**CURVE_POWER <= growth <= ratio**ABRUPT_POWER:
                return True
        return False

    def loudest_noise(self) -> float:
        """The largest noise over the moves; 0 where it cannot be told from curvature.

        By now more noise may be known than when it was seen, which accounts for all of it.
        """
        if not self.noisy:
            return 0.0
        return max((m.deviation for m in self._noisy_moves()), default=0.0)

    def longest_shown(self) -> float:
        """The longest steps or move that showed the difference."""
        moves = [m.length for m in self.moves if self.shows_difference(m)]
        return max([self.step, *moves, *(f.scale for f in self.slopes if self.differs(f))])

    def _noisy_moves(self) -> list[MoveResidual]:
        """Moves that left over more than the known noise, though the gradient is known there.

        Far beyond the size of what is moved, a loss that is not known to be rounded saturates.
        """
        furthest = np.inf if self.point.coarse else SATURATING_MOVE * self.unit
        known = [m for m in self.moves if self.gradient_known(m) and m.length <= furthest]
        return [m for m in known if self.noisier_than_known(m)]

    def slope_over(self, scale: float) -> RandomStepSlope:
        """The slope from random steps up to a length."""
        seed = self.point.seed + len(self.slopes)
        self.slopes.append(slope_from_random_steps(self.function, self.point.loss, scale, seed))
        return self.slopes[-1]

    def error(self, found: RandomStepSlope) -> float:
        """The error bar of a slope, including the rounding of the gradient."""
        return found.error + self.fixed_error

    def differs(self, found: RandomStepSlope) -> bool:
        """Whether the gradient differs from a slope by more than errors and kinks explain."""
        jump = (
            min(found.hidden_kink, self.claim.hidden_kink)
            if found.scale <= self.step
            else found.hidden_kink
        )
        return abs(self.claim.gradient - found.value) > REJECTION_BARS * (self.error(found) + jump)

    def refutes(self, found: RandomStepSlope) -> bool:
        """Whether a slope shows that there is no difference like the one claimed."""
        error = self.error(found)
        small = error < REFUTING_PART * abs(self.claim.residual)
        return small and abs(self.claim.gradient - found.value) <= REJECTION_BARS * error

    def holds_at_nearer_steps(self) -> bool:
        """Whether a ladder of smaller steps shows it, which is sharper where the noise is known."""
        direction, step_exponents = self.claim.direction, last_step_exponents([self.claim])
        nearer = tuple(step_exponent - NEARER_EXPONENTS for step_exponent in step_exponents)
        found = self.point.measure(
            replace(direction, unit=SHIFTED_UNIT * direction.unit, step_exponents=nearer),
            last=nearer[-1],
        )
        return rejects(with_kink_bound(found, self.claim))

    def noise(self) -> float | None:
        """The noise of the loss along this line, from the measurement with the smallest error bar.

        Where no step has moved the loss, longer steps are tried; None where none moves it.
        """
        limit = self.unit * 2.0 ** (WIDEST_EXPONENT / 2)
        known = [*(m.error for m in self.moves), *(f.error for f in self.slopes)]
        while not np.isfinite(known).any():
            longest = max(found.scale for found in self.slopes)
            if longest >= limit:
                return None
            known.append(self.slope_over(min(LENGTH_RATIO * longest, limit)).error)
        # Measurements that show the difference are in doubt: their noise is that of one tread.
        # Nor is what a move leaves over noise where the gradient bends too much to be integrated.
        known_moves = filter(self.gradient_known, self.moves)
        moved = [(m.error, m.deviation) for m in known_moves if not self.shows_difference(m)]
        agreeing = [(f.error, f.deviation) for f in self.slopes if not self.differs(f)]
        every = [(f.error, f.deviation) for f in self.slopes]
        finite = [min(each) for each in (moved, agreeing, every) if np.isfinite(each).any()]
        return finite[0][1] if finite else None

    def noise_over(self, length: float) -> float:
        """The noise of the loss over a move, which crosses more stairs than steps do.

        It is 0 where noise cannot be told from curvature.
        """
        if self.point.target.freeze is not None:
            return 0.0
        move = self.integrate_over(length)
        return (
            move.deviation if move.steady < STEADY_GRADIENT and np.isfinite(move.deviation) else 0.0
        )
