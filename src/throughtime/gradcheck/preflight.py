"""Faults of the harness, found before any verdict: with ten losses and three gradients at most.

A numerical derivative means something only where the loss is a function of the parameters: of
all of them, and of nothing that changes from call to call. What breaks this looks like a wrong
gradient. Here it is told apart, each kind by a message of its own that says what was seen, what it
means, and the way out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NoReturn

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
from throughtime.gradcheck.points import ParameterSnapshot
from throughtime.gradcheck.target import Evaluator
from throughtime.gradcheck.tolerances import (
    ALIGNED_MOVES,
    ALIGNED_RATIO,
    FAR_MOVE,
    LARGEST_UNSTEADY,
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
    """What the preflight found at the point as given.

    Attributes:
        loss: its terms summed in float64.
        gradient: a copy of the gradient under test.
        notes: what is worth knowing but prevents no verdict, in plain sentences.
    """

    loss: float
    gradient: dict[str, Array]
    notes: tuple[str, ...]


def preflight(evaluator: Evaluator, *, far: bool = True, seed: int = 0) -> Preflight:
    """Refuses a harness under which no verdict would mean anything.

    Args:
        evaluator: evaluates the target, whose parameters are put back bit for bit.
        far: whether parameters may be moved by half their size and more, to see whether the
            loss reacts to them; otherwise only where it does not react to a thousandth.
        seed: random seed for these moves.

    Raises:
        CheckError: where parameters are not finite or share memory; where names, shapes or
            kinds of numbers do not fit; where the loss or the gradient is not finite, differs
            when it is repeated, depends on what was evaluated before, or changes the
            parameters; where the loss does not react to parameters that have a gradient.
    """
    _refuse_unusable_parameters(evaluator)
    run = _PreflightRun(evaluator, far, seed)
    try:
        run.repeat_the_loss()
        run.call_the_gradient()
        run.repeat_the_gradient()
        run.go_elsewhere_and_back()
        run.move_some_of_the_parameters()
    finally:
        run.origin.restore()
    loss = float(np.sum(run.first, dtype=np.float64))
    return Preflight(loss, run.gradient, tuple(run.notes()))


def _refuse_unusable_parameters(evaluator: Evaluator) -> None:
    """Refuses parameters that are not finite, or share memory."""
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


class _PreflightRun:
    """The evaluations in their order, and what they have shown so far."""

    def __init__(self, evaluator: Evaluator, far: bool, seed: int) -> None:
        self.evaluator = evaluator
        self.far = far
        self.rng = np.random.default_rng(seed)
        self.origin = ParameterSnapshot(evaluator.target.parameters)
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
            gradient_changes_loss(_sum(self.first), _sum(after), self._has_reset)

    def repeat_the_gradient(self) -> None:
        second = self.evaluator.gradient()
        changed = self._changed(second)
        if not changed:
            return
        third = self.evaluator.gradient()
        kept = kept_part((self.gradient, second, third), list(changed))
        norms = [float(np.linalg.norm(g[next(iter(changed))])) for g in (self.gradient, second)]
        gradient_differs(changed, norms, kept, self._has_reset)

    def go_elsewhere_and_back(self) -> None:
        """There the gradient is called first: it must not use what the last loss left behind."""
        names = list(self.gradient)
        self._refuse_unless_it_reacts(names)
        changed = self._changed(self.evaluator.gradient())
        if changed:
            gradient_is_stale(changed)
        back = self._loss()
        if not self._same(back):
            self._refuse_scatter([_sum(back)])
            loss_remembers(_sum(self.first), _sum(back), self._has_reset)

    def move_some_of_the_parameters(self) -> None:
        """Moves the tensors whose gradient is 0 together, and the others in a few groups."""
        zero = [name for name, array in self.gradient.items() if not array.any()]
        others = [name for name in self.gradient if name not in zero]
        if zero and others and not self._reacts(zero):
            self.unused = zero
        if len(others) > 1 or (others and zero):
            for group in (others[k::TENSOR_GROUPS] for k in range(min(TENSOR_GROUPS, len(others)))):
                self._refuse_unless_it_reacts(group)

    def notes(self) -> list[str]:
        """What is worth knowing but prevents no verdict."""
        found = []
        if self.unsteady:
            found.append(UNSTEADY)
        if self.unused:
            found.append(unused(self.unused))
        if self.still:
            found.append(still(list(dict.fromkeys(self.still))))
        own = max((array.dtype for array in self.origin.copies.values()), key=lambda d: d.itemsize)
        carried = format_of(self.losses)
        if decimal_digits(carried) < decimal_digits(str(own)):
            found.append(short_loss(carried, decimal_digits(carried), str(own)))
        return [*found, *gradient_precision(self.gradient, self.origin.copies)]

    def _refuse_scatter(self, values: list[float]) -> None:
        """Refuses a loss that keeps differing when it is evaluated again and again."""
        values += [self.evaluator.loss() for _ in range(LOSS_REPEATS - len(values))]
        if np.ptp(values) > REORDERING_ULPS * self.eps * max(map(abs, values)):
            loss_differs(values, pattern(values), self._has_reset)

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
        """Whether the loss differs once these tensors are moved; an exception counts as well."""
        return self._differs_within(self.origin.moved(names, self.rng, self.far, near), names)

    def _differs_within(self, moved: AbstractContextManager[None], names: Sequence[str]) -> bool:
        with moved:
            try:
                with np.errstate(all="ignore"):
                    terms = self._loss()
            except CheckError:
                raise
            except Exception:  # the user's own code, at a point that it was not meant for
                return True
            if self.origin.all_back(names):
                parameters_overwritten(names[0])
        if self.unsteady:
            return not same_loss(self.first, terms, self.eps)
        return not np.array_equal(terms, self.first)

    def _refuse_unless_it_reacts(self, names: Sequence[str]) -> None:
        """Refuses a loss that does not change although the gradient says that it would.

        A second move rules out that the loss has the same value by chance, and a move by half a
        tensor's size that it carries few digits. A gradient may hold nearby alone, so that moves
        along it, of all lengths that should be seen, rule out that the others were too long.
        """
        if self._reacts(names) or self._reacts(names):
            return
        if not self.far and self._reacts(names, near=FAR_MOVE):
            return
        slopes = {n: float(np.linalg.norm(self.gradient[n].astype(np.float64))) for n in names}
        steepest = max(slopes, key=lambda name: slopes[name])
        change = slopes[steepest] * self.origin.reach(steepest, self.far, FAR_MOVE)
        # A loss of exactly 0, as of a probability that rounds to 1, has the size that others have.
        size = max(float(np.sum(np.abs(terms), dtype=np.float64)) for terms in self.losses)
        # Terms that are held in float64 may have been computed from float32 parameters.
        eps = max(self.eps, *(float(np.finfo(g.dtype).eps) for g in self.origin.copies.values()))
        swallowed = VISIBLE_ULPS * eps * size
        unit = last_place(np.concatenate([np.ravel(terms) for terms in self.losses]))
        nowhere = not any(array.any() for array in self.gradient.values())
        visible = max(swallowed, VISIBLE_PART * size, VISIBLE_SHORT_ULPS * unit)
        if change > visible and self._reacts_along_the_gradient(names, visible):
            return
        if change > visible or nowhere:
            loss_does_not_react(_sum(self.first), names, len(self.gradient), slopes)
        if change > swallowed:
            self.still += names

    def _reacts_along_the_gradient(self, names: Sequence[str], visible: float) -> bool:
        """Whether the loss differs after moves by which it should change visibly, or more."""
        slopes = {name: self.gradient[name].astype(np.float64) for name in names}
        square = sum(float(np.vdot(g, g)) for g in slopes.values())
        farthest = max(self.origin.reach(name, self.far, FAR_MOVE) for name in names)
        factor = (visible or 1.0) / square  # so that factor · |∇|² is the change
        for _ in range(ALIGNED_MOVES):
            shifts = {name: factor * g for name, g in slopes.items()}
            if max(float(np.abs(shift).max(initial=0)) for shift in shifts.values()) > farthest:
                return False
            if self._differs_within(self.origin.shifted(shifts), names):
                return True
            factor *= ALIGNED_RATIO
        return False


def _sum(terms: Array) -> float:
    return float(np.sum(terms, dtype=np.float64))


def _eps(losses: Sequence[Array]) -> float:
    """The relative spacing of numbers in the precision of these losses."""
    kind = losses[0].dtype
    own = float(np.finfo(kind).eps) if kind.kind == "f" else 0.0
    bits = significant_bits(np.concatenate([np.ravel(terms) for terms in losses]))
    return max(own, 2.0**-23 if bits <= 24 else 2.0**-52)


Pattern = Literal["adds up", "repeats", "settles", "scatters"]


def pattern(values: Sequence[float]) -> Pattern:
    """How a dozen or so numbers differ that ought to be the same.

    Differences that all have one sign, or shrink to a tenth and stay there, show that something
    is carried from one evaluation into the next; the chance that independent draws do either is
    less than one in a thousand.

    Returns:
        "adds up": each is the one before plus a constant; "repeats": they come in a cycle;
        "settles": they drift, or converge; "scatters": none of these.

    Example:
        >>> pattern([0.5 * k for k in range(1, 13)])
        'adds up'
        >>> pattern([1 + (-0.5)**k for k in range(12)])
        'settles'
    """
    array = np.array(values)
    differences = np.diff(array)
    if np.allclose(differences, differences[0], rtol=1e-4, atol=0):
        return "adds up"
    if (differences >= 0).all() or (differences <= 0).all():
        return "settles"
    if any((array[cycle:] == array[:-cycle]).all() for cycle in range(2, len(array) // 2 + 1)):
        return "repeats"
    sizes, part = np.abs(differences), len(differences) // 3
    return "settles" if sizes[-part:].max() <= sizes[:part].max() / 10 else "scatters"


def same_loss(first: Array, second: Array, eps: float) -> bool:
    """Whether the terms of two evaluations have the same sum, up to the order of additions."""
    a, b = (float(np.sum(terms, dtype=np.float64)) for terms in (first, second))
    scale = float(np.sum(np.abs(first), dtype=np.float64))
    return a == b or abs(a - b) <= REORDERING_ULPS * eps * scale


def changed_tensors(
    first: Mapping[str, Array], second: Mapping[str, Array], eps: float
) -> dict[str, float]:
    """Tensors in which two gradients differ by more than the order of additions explains.

    Where the terms of a tensor cancel, their rounding is large compared with their sum: so each
    tensor counts as at least a hundredth of the whole gradient in size.

    Returns:
        name to ‖second − first‖ / ‖first‖.
    """
    norms = {name: float(np.linalg.norm(array.astype(np.float64))) for name, array in first.items()}
    whole = float(np.sqrt(sum(norm**2 for norm in norms.values())))
    changed = {}
    for name, norm in norms.items():
        away = second[name].astype(np.float64) - first[name]
        distance = float(np.linalg.norm(away))
        if distance > min(4 * REORDERING_ULPS * eps, LARGEST_UNSTEADY) * max(norm, whole / 100):
            changed[name] = distance / norm if norm else np.inf
    return changed


def kept_part(gradients: Sequence[Mapping[str, Array]], names: Sequence[str]) -> float | None:
    """The factor between the first and the second change of three gradients.

    1: every call adds the same; between 0 and 1: a part is kept; 0: the second and the third
    are equal; None: the two changes are no multiples of each other.
    """
    first, second, third = (
        np.concatenate([g[name].astype(np.float64).ravel() for name in names]) for g in gradients
    )
    earlier, later = second - first, third - second
    factor = float(earlier @ later / (earlier @ earlier))
    away = np.linalg.norm(later - factor * earlier)
    return factor if away <= 0.01 * np.linalg.norm(earlier) else None


UNSTEADY = (
    "Repeated evaluations differ in their last digits, as sums do when their order changes from "
    "call to call; the error bars include this."
)

RESET = "put it back before each evaluation: Target(reset=…)"
RESET_FAILS = "Target.reset is called before each evaluation and does not put all of it back"


# --- the loss ---


def loss_differs(values: Sequence[float], how: Pattern, has_reset: bool) -> NoReturn:
    """Refuses a loss that differs when it is evaluated again at the same point."""
    back = RESET_FAILS if has_reset else RESET
    again = RESET_FAILS if has_reset else "seed it before each evaluation: Target(reset=…)"
    differences = np.abs(np.diff(values))
    way = "settle" if differences[-1] < differences[0] / 10 else "go one way"
    meaning = {
        "adds up": f"each adds {values[1] - values[0]:.6g}: a sum, or a state, is carried over "
        f"from evaluation to evaluation; {back}",
        "settles": f"they {way} (by {differences[0]:.1e} at first, {differences[-1]:.1e} at "
        "last): a state is carried from one evaluation into the next, so that it does not begin "
        f"at the initial state; {back}",
        "repeats": "they come in a cycle: each evaluation is given other data, or two states take "
        f"turns; let every evaluation see the same batch, or {back}",
        "scatters": f"they scatter by {np.std(values):.1e} and do not settle: dropout, or another "
        f"random draw; {again}",
    }
    digits = max(6, 2 - int(np.floor(np.log10(np.ptp(values) / max(map(abs, values))))))
    *early, last = (f"{value:.{digits}g}" for value in [*values[:3], values[-1]])
    seen = f"{', '.join(early)} … {last}"
    _refuse("loss", "the same number at the same parameters", seen, meaning[how])


def gradient_changes_loss(before: float, after: float, has_reset: bool) -> NoReturn:
    """Refuses a loss that differs once the gradient has been called."""
    meaning = (
        "calling the gradient changes something that the loss depends on, other than the "
        "parameters' arrays: weights updated inside the backward pass in a copy that "
        f"the target keeps, a state, or running averages; {RESET_FAILS if has_reset else RESET}"
    )
    seen = f"{before:.9g} before the gradient was called and {after:.9g} after"
    _refuse("loss", "the same number at the same parameters", seen, meaning)


def loss_remembers(before: float, after: float, has_reset: bool) -> NoReturn:
    """Refuses a loss that differs once the parameters have been moved and put back."""
    meaning = (
        "something is left over from the other point: a state, or a copy of the parameters that "
        f"is not made anew at every evaluation; {RESET_FAILS if has_reset else RESET}"
    )
    seen = f"{before:.9g}, and {after:.9g} once the parameters had been moved and put back"
    _refuse("loss", "the same number at the same parameters", seen, meaning)


def loss_does_not_react(
    loss: float, names: Sequence[str], tensors: int, slopes: Mapping[str, float]
) -> NoReturn:
    """Refuses a loss that is the same wherever these tensors stand."""
    steepest = max(slopes, key=lambda name: slopes[name])
    meaning = (
        "it works on a copy: detached, converted to another dtype, or read once when the loss was "
        "made; let it read Target.parameters in every call, or take them: loss(parameters)"
    )
    if slopes[steepest]:
        meaning += (
            "; or something on the way is rounded so coarsely that the moves are lost in it: "
            "compute it in float64, or check at larger weights"
        )
    else:  # the gradient says the same
        meaning += (
            "; or the loss is constant here, as where it is clipped throughout: check elsewhere"
        )
    every = len(names) == tensors
    what = "loss" if every else f"parameters[{names[0]!r}]"
    moved = "every entry of every tensor" if every else "every entry of " + ", ".join(names)
    slope = f"whose gradient is {slopes[steepest]:.2g} in size" if slopes[steepest] else ""
    seen = f"{loss:.9g} before and after {moved} was moved" + (f", {slope}" if slope else "")
    expected = "one that reacts to the parameters" if every else "a loss that reacts to it"
    _refuse(what, expected, seen, meaning)


def parameters_overwritten(name: str) -> NoReturn:
    """Refuses a loss that sets the parameters back to their old values."""
    meaning = "it writes a copy of its own into them; it should only read them, never write them"
    seen = "it back at its old values after the loss was evaluated elsewhere"
    _refuse(f"parameters[{name!r}]", "the loss to leave it as it is", seen, meaning)


# --- the gradient ---


def gradient_differs(
    changed: Mapping[str, float], norms: Sequence[float], kept: float | None, has_reset: bool
) -> NoReturn:
    """Refuses a gradient that differs when it is called again at the same point."""
    name = next(iter(changed))
    back = RESET_FAILS if has_reset else RESET
    if kept is None:
        meaning = (
            "the changes follow no pattern: a mask drawn again in the backward pass, or a buffer "
            "that starts with whatever lies in memory (np.empty, malloc); seed the draw before "
            "each call with Target(reset=…), or start the buffer with zeros"
        )
    elif abs(kept) < 0.01:
        meaning = f"only the first call differs: something is left over from it; {back}"
    elif 0.99 < kept < 1.01:
        meaning = (
            "every call adds the same: it is accumulated without being set to zero; begin each "
            "call with zeros (zero_grad, or grad[...] = 0)"
        )
    else:
        meaning = (
            f"each call's change is {kept:.2g} times the one before: a part of it is kept, as "
            f"momentum keeps it, or a state settles; {back}"
        )
    others = f" (and likewise {', '.join(list(changed)[1:])})" if len(changed) > 1 else ""
    seen = f"one of size {norms[0]:.6g}, then one of {norms[1]:.6g}{others}"
    _refuse(f"gradient[{name!r}]", "the same numbers at the same parameters", seen, meaning)


def gradient_is_stale(changed: Mapping[str, float]) -> NoReturn:
    """Refuses a gradient that depends on where the loss was evaluated last."""
    name = max(changed, key=lambda each: changed[each])
    seen = (
        f"another ({_percent(changed[name])} of its size away) once the loss had been evaluated "
        "elsewhere and the parameters were put back"
    )
    meaning = (
        "it uses what the last evaluation of the loss left behind; let it run a forward pass of "
        "its own"
    )
    _refuse(f"gradient[{name!r}]", "the gradient at the current parameters", seen, meaning)


# --- notes ---


def unused(names: Sequence[str]) -> str:
    """A note that these tensors do not matter."""
    one = len(names) == 1
    return (
        f"The loss does not react to {', '.join(names)} at all, and {'its' if one else 'their'} "
        f"gradient is exactly 0: {'it does' if one else 'they do'} not matter here."
    )


def still(names: Sequence[str]) -> str:
    """A note that the loss did not change where the gradient predicts a slight change."""
    one = len(names) == 1
    return (
        f"The loss did not change when {', '.join(names)} {'was' if one else 'were'} moved, though "
        f"{'its' if one else 'their'} gradient is not 0: either rounding swallows so small a "
        "change, or the loss works on a copy."
    )


def short_loss(carried: str, digits: int, parameters: str) -> str:
    """A note that the loss has fewer digits than its parameters."""
    return (
        f"The loss carries {digits} digits ({carried}), its parameters are {parameters}: it is "
        f"converted on the way, and the error bars are as wide as {carried} makes them."
    )


def gradient_precision(gradient: Mapping[str, Array], parameters: Mapping[str, Array]) -> list[str]:
    """Notes on tensors whose gradient has another precision than the parameter."""
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for name, array in gradient.items():
        own, came = str(parameters[name].dtype), str(array.dtype)
        both_long = own == came == "float64"
        carried = "float32" if both_long and format_of([array]) == "float32" else came
        if own != came or carried != came:
            kinds.setdefault((own, came, carried), []).append(name)
    return [_conversion(names, *kind) for kind, names in kinds.items()]


def _conversion(names: Sequence[str], own: str, came: str, carried: str) -> str:
    text = f"The gradient of {', '.join(names)} comes in {came}, the parameters are in {own}"
    if carried == came:
        digits = _digits(came)
        return text + (f"; it carries {digits} digits." if digits < _digits(own) else ".")
    return (
        f"The gradient of {', '.join(names)} comes in {came} but carries {_digits(carried)} "
        f"digits: it was computed in {carried}."
    )


def _digits(kind: str) -> int:
    return decimal_digits(kind) if kind in ("float16", "float32", "float64") else 16


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.3g} %" if np.isfinite(ratio) else "all"


def _refuse(what: str, expected: str, seen: str, meaning: str) -> NoReturn:
    refuse(what, expected, seen, meaning, error=CheckError)
