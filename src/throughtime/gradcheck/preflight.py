"""Faults of the harness, found before any verdict: with ten losses and three gradients at most.

A numerical derivative means something only where the loss is a function of the parameters: of
all of them, and of nothing that changes from call to call. What breaks this looks like a wrong
gradient. Here it is told apart, each kind by a message of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from throughtime.arrays import Array, finite, refuse
from throughtime.derivatives import (
    CheckError,
    bits_of,
    decimal_digits,
    format_of,
    last_place,
    significant_bits,
)
from throughtime.gradcheck import messages
from throughtime.gradcheck.repeats import changed_tensors, kept_part, pattern, same_loss
from throughtime.gradcheck.starting_point import Origin
from throughtime.gradcheck.target import Evaluator
from throughtime.gradcheck.tolerances import (
    FAR_MOVE,
    LOSS_REPEATS,
    NEAR_MOVE,
    REORDERING_ULPS,
    TENSOR_GROUPS,
    VISIBLE_PART,
    VISIBLE_SHORT_ULPS,
    VISIBLE_ULPS,
)


@dataclass(frozen=True)
class Preflight:
    """What was found where the parameters stand.

    Attributes:
        loss: there, its terms summed in float64.
        gradient: the gradient under test there, copied.
        notes: what is worth knowing and stands in no verdict's way, in plain sentences.
    """

    loss: float
    gradient: dict[str, Array]
    notes: tuple[str, ...]


def preflight(evaluator: Evaluator, *, far: bool = True, seed: int = 0) -> Preflight:
    """Refuses a harness under which no verdict would mean anything.

    Args:
        evaluator: of the target. Its parameters are put back bit for bit.
        far: whether parameters may be moved by half their size and more, to see whether the
            loss reacts to them; otherwise only where it does not react to a thousandth.
        seed: of these moves.

    Raises:
        CheckError: where parameters are not finite or share memory; where names, shapes or
            kinds of numbers do not fit; where the loss or the gradient is not finite, differs
            when it is repeated, depends on what was evaluated before, or changes the
            parameters; where the loss does not react to parameters that have a gradient.
    """
    _sound(evaluator)
    flight = _Flight(evaluator, far, seed)
    try:
        flight.repeat_the_loss()
        flight.call_the_gradient()
        flight.repeat_the_gradient()
        flight.go_elsewhere_and_back()
        flight.move_some_of_the_parameters()
    finally:
        flight.origin.restore()
    loss = float(np.sum(flight.first, dtype=np.float64))
    return Preflight(loss, flight.gradient, tuple(flight.notes()))


def _sound(evaluator: Evaluator) -> None:
    """Refuses parameters that are not finite, or not arrays of their own."""
    parameters = evaluator.target.parameters
    for name, array in parameters.items():
        try:
            finite(f"parameters[{name!r}]", array)
        except ValueError as problem:
            raise CheckError(str(problem)) from None
    for (name, array), (other, second) in combinations(parameters.items(), 2):
        if np.may_share_memory(array, second) and np.shares_memory(array, second):
            way_out = "give shared weights one name; their gradient is the sum over their uses"
            seen = f"{name!r} and {other!r} sharing memory"
            refuse("parameters", "arrays that do not overlap", seen, way_out, error=CheckError)


class _Flight:
    """The evaluations in their order, and what they have shown so far."""

    def __init__(self, evaluator: Evaluator, far: bool, seed: int) -> None:
        self.evaluator = evaluator
        self.far = far
        self.rng = np.random.default_rng(seed)
        self.origin = Origin(evaluator.target.parameters)
        self.losses: list[Array] = []
        self.gradient: dict[str, Array] = {}
        self.unsteady = False
        self.unused: list[str] = []
        self.still: list[str] = []

    @property
    def first(self) -> Array:
        """The terms of the first evaluation."""
        return self.losses[0]

    def repeat_the_loss(self) -> None:
        first = self._loss()
        self.evaluator.total(first)  # finite, or a message
        self.origin.refuse_changes("loss")
        self.eps = _eps([first])
        second = self._loss()
        self.eps = _eps(self.losses)
        if not self._same(second):
            self._refuse_scatter([_sum(first), _sum(second)])

    def call_the_gradient(self) -> None:
        self.gradient = self.evaluator.gradient()
        self.origin.refuse_changes("gradient", self.gradient)
        after = self._loss()
        if not self._same(after):
            self._refuse_scatter([_sum(after)])
            messages.gradient_changes_loss(_sum(self.first), _sum(after), self._has_reset)

    def repeat_the_gradient(self) -> None:
        second = self.evaluator.gradient()
        changed = self._changed(second)
        if not changed:
            return
        third = self.evaluator.gradient()
        kept = kept_part((self.gradient, second, third), list(changed))
        norms = [float(np.linalg.norm(g[next(iter(changed))])) for g in (self.gradient, second)]
        messages.gradient_differs(changed, norms, kept, self._has_reset)

    def go_elsewhere_and_back(self) -> None:
        """The gradient comes first there: it must not live on what the last loss left behind."""
        names = list(self.gradient)
        self._refuse_unless_it_reacts(names)
        changed = self._changed(self.evaluator.gradient())
        if changed:
            messages.gradient_is_stale(changed)
        back = self._loss()
        if not self._same(back):
            self._refuse_scatter([_sum(back)])
            messages.loss_remembers(_sum(self.first), _sum(back), self._has_reset)

    def move_some_of_the_parameters(self) -> None:
        """Tensors whose gradient is 0 together; the others in a few groups."""
        zero = [name for name, array in self.gradient.items() if not array.any()]
        others = [name for name in self.gradient if name not in zero]
        if zero and others and not self._reacts(zero):
            self.unused = zero
        if len(others) > 1 or (others and zero):
            for group in (others[k::TENSOR_GROUPS] for k in range(min(TENSOR_GROUPS, len(others)))):
                self._refuse_unless_it_reacts(group)

    def notes(self) -> list[str]:
        """What stands in no verdict's way."""
        found = []
        if self.unsteady:
            found.append(messages.UNSTEADY)
        if self.unused:
            found.append(messages.unused(self.unused))
        if self.still:
            found.append(messages.still(list(dict.fromkeys(self.still))))
        own = max((array.dtype for array in self.origin.copies.values()), key=lambda d: d.itemsize)
        carried = format_of(self.losses)
        if decimal_digits(carried) < decimal_digits(str(own)):
            found.append(messages.short_loss(carried, decimal_digits(carried), str(own)))
        return [*found, *messages.gradient_precision(self.gradient, self.origin.copies)]

    def _refuse_scatter(self, values: list[float]) -> None:
        """Refuses a loss that goes on to differ where it is evaluated again and again."""
        values += [self.evaluator.loss() for _ in range(LOSS_REPEATS - len(values))]
        if np.ptp(values) > REORDERING_ULPS * self.eps * max(map(abs, values)):
            messages.loss_differs(values, pattern(values), self._has_reset)

    # --- one evaluation, and what it is compared with ---

    @property
    def _has_reset(self) -> bool:
        return self.evaluator.target.reset is not None

    def _loss(self) -> Array:
        self.losses.append(self.evaluator.terms())
        return self.losses[-1]

    def _same(self, terms: Array) -> bool:
        if np.array_equal(terms, self.first):
            return True
        self.unsteady = same_loss(self.first, terms, self.eps) or self.unsteady
        return same_loss(self.first, terms, self.eps)

    def _changed(self, second: dict[str, Array]) -> dict[str, float]:
        carried = format_of(list(self.gradient.values()))
        eps = max(self.eps, 2.0 ** (1 - bits_of(carried)))
        if any(not np.array_equal(array, second[name]) for name, array in self.gradient.items()):
            self.unsteady = True
        return changed_tensors(self.gradient, second, eps)

    def _reacts(self, names: Sequence[str], near: float = NEAR_MOVE) -> bool:
        """Whether the loss differs once these tensors are moved; an error there is a reaction."""
        with self.origin.moved(names, self.rng, self.far, near):
            try:
                with np.errstate(all="ignore"):
                    terms = self._loss()
            except CheckError:
                raise
            except Exception:  # the user's own code, at a point that it was not meant for
                return True
            if self.origin.all_back(names):
                messages.parameters_overwritten(names[0])
        if self.unsteady:
            return not same_loss(self.first, terms, self.eps)
        return not np.array_equal(terms, self.first)

    def _refuse_unless_it_reacts(self, names: Sequence[str]) -> None:
        """Refuses a loss that stays where it is though the gradient says that it would move.

        A second move tells a loss that stays from one that comes by the same value by chance, and
        one by half a tensor's size from one that carries few digits.
        """
        if self._reacts(names) or self._reacts(names):
            return
        if not self.far and self._reacts(names, near=FAR_MOVE):
            return
        slopes = {n: float(np.linalg.norm(self.gradient[n].astype(np.float64))) for n in names}
        steepest = max(slopes, key=lambda name: slopes[name])
        change = slopes[steepest] * self.origin.reach(steepest, self.far, FAR_MOVE)
        size = float(np.sum(np.abs(self.first), dtype=np.float64))
        # Terms that are held in float64 may have been computed from float32 parameters.
        eps = max(self.eps, *(float(np.finfo(g.dtype).eps) for g in self.origin.copies.values()))
        swallowed = VISIBLE_ULPS * eps * size
        unit = last_place(np.concatenate([np.ravel(terms) for terms in self.losses]))
        nowhere = not any(array.any() for array in self.gradient.values())
        if change > max(swallowed, VISIBLE_PART * size, VISIBLE_SHORT_ULPS * unit) or nowhere:
            messages.loss_does_not_react(_sum(self.first), names, len(self.gradient), slopes)
        if change > swallowed:
            self.still += names


def _sum(terms: Array) -> float:
    return float(np.sum(terms, dtype=np.float64))


def _eps(losses: Sequence[Array]) -> float:
    """The relative distance of neighbouring numbers in the precision of these losses."""
    kind = losses[0].dtype
    own = float(np.finfo(kind).eps) if kind.kind == "f" else 0.0
    bits = significant_bits(np.concatenate([np.ravel(terms) for terms in losses]))
    return max(own, 2.0**-23 if bits <= 24 else 2.0**-52)
