"""What the preflight says: what was seen, what it means, the way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.derivatives import CheckError, decimal_digits, format_of
from throughtime.gradcheck.repeats import Pattern

UNSTEADY = (
    "Repeated evaluations differ in their last digits, as sums do whose order changes from call "
    "to call; the error bars take it in."
)

RESET = "put it back before each evaluation: Target(reset=…)"
RESET_FAILS = "Target.reset is called before each evaluation and does not put all of it back"


# --- the loss ---


def loss_differs(values: Sequence[float], how: Pattern, has_reset: bool) -> NoReturn:
    """Evaluated again at the same point, the loss is another."""
    back = RESET_FAILS if has_reset else RESET
    again = RESET_FAILS if has_reset else "seed it before each evaluation: Target(reset=…)"
    differences = np.abs(np.diff(values))
    way = "settle" if differences[-1] < differences[0] / 10 else "go one way"
    meaning = {
        "adds up": f"each adds {values[1] - values[0]:.6g}: a sum, or a state, is carried on from "
        f"evaluation to evaluation; {back}",
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
    """The loss is another once the gradient has been called."""
    meaning = (
        "calling the gradient changes what the loss depends on, the parameters' arrays aside: "
        "weights updated inside the backward pass in a copy that the target keeps, a state, or "
        f"running averages; {RESET_FAILS if has_reset else RESET}"
    )
    seen = f"{before:.9g} before the gradient was called and {after:.9g} after"
    _refuse("loss", "the same number at the same parameters", seen, meaning)


def loss_remembers(before: float, after: float, has_reset: bool) -> NoReturn:
    """The loss is another once the parameters have been elsewhere."""
    meaning = (
        "something of the other point is left: a state, or a copy of the parameters that is not "
        f"made anew at every evaluation; {RESET_FAILS if has_reset else RESET}"
    )
    seen = f"{before:.9g}, and {after:.9g} once they had been elsewhere and were put back"
    _refuse("loss", "the same number at the same parameters", seen, meaning)


def loss_does_not_react(
    loss: float, names: Sequence[str], tensors: int, slopes: Mapping[str, float]
) -> NoReturn:
    """The loss is the same wherever these tensors stand."""
    steepest = max(slopes, key=lambda name: slopes[name])
    meaning = (
        "it works on a copy: detached, converted to another dtype, or read once when the loss was "
        "made; let it look at Target.parameters in every call, or take them: loss(parameters)"
    )
    every = len(names) == tensors
    what = "loss" if every else f"parameters[{names[0]!r}]"
    moved = "every entry of every tensor" if every else "every entry of " + ", ".join(names)
    slope = f"whose gradient is {slopes[steepest]:.2g} in size" if slopes[steepest] else ""
    seen = f"{loss:.9g} before and after {moved} was moved" + (f", {slope}" if slope else "")
    expected = "one that reacts to the parameters" if every else "a loss that reacts to it"
    _refuse(what, expected, seen, meaning)


def parameters_overwritten(name: str) -> NoReturn:
    """The loss sets the parameters to what they were."""
    meaning = "it writes a copy of its own into them; let it read them, and never write"
    seen = "it back at its old values after the loss was evaluated elsewhere"
    _refuse(f"parameters[{name!r}]", "the loss to leave it as it is", seen, meaning)


# --- the gradient ---


def gradient_differs(
    changed: Mapping[str, float], norms: Sequence[float], kept: float | None, has_reset: bool
) -> NoReturn:
    """Called again at the same point, the gradient is another."""
    name = next(iter(changed))
    back = RESET_FAILS if has_reset else RESET
    if kept is None:
        meaning = (
            "the changes follow no pattern: a mask drawn again in the backward pass, or a buffer "
            "that starts with whatever lies in memory (np.empty, malloc); seed the draw before "
            "each call with Target(reset=…), start the buffer with zeros"
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
    """The gradient depends on where the loss was evaluated last."""
    name = max(changed, key=lambda each: changed[each])
    seen = (
        f"another ({_percent(changed[name])} of its size away) once the loss had been evaluated "
        "elsewhere and the parameters were put back"
    )
    meaning = (
        "it uses what the last evaluation of the loss left behind; let it run a forward pass of "
        "its own"
    )
    _refuse(f"gradient[{name!r}]", "that of where the parameters stand", seen, meaning)


# --- notes ---


def unused(names: Sequence[str]) -> str:
    """These tensors do not matter."""
    one = len(names) == 1
    return (
        f"The loss does not react to {', '.join(names)} at all, and {'its' if one else 'their'} "
        f"gradient is exactly 0: {'it does' if one else 'they do'} not matter here."
    )


def still(names: Sequence[str]) -> str:
    """The loss did not change where the gradient says that it would, by little."""
    one = len(names) == 1
    return (
        f"The loss did not change when {', '.join(names)} {'was' if one else 'were'} moved, though "
        f"{'its' if one else 'their'} gradient is not 0: either rounding swallows so small a "
        "change, or the loss works on a copy."
    )


def short_loss(carried: str, digits: int, parameters: str) -> str:
    """The loss has fewer digits than its parameters."""
    return (
        f"The loss carries {digits} digits ({carried}), its parameters are {parameters}: it is "
        f"converted on the way, and the error bars are as wide as {carried} makes them."
    )


def gradient_precision(gradient: Mapping[str, Array], parameters: Mapping[str, Array]) -> list[str]:
    """Tensors whose gradient comes in another precision than the parameter's."""
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
