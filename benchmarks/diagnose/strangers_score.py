"""Is the first cause of a stranger's program true? Judged by names, places and gradients."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from benchmarks.diagnose.strangers import Stranger
from corpus import notebooks
from corpus.notebooks import Habits
from corpus.notebooks.mistakes import BETWEEN, HEAD, OPERAND, REDUCTION, STEP, TENSOR
from corpus.notebooks.storage import LETTERS, head_names
from throughtime.arrays import Array
from throughtime.diagnosis import FAULTS, Cause

SAME = 1e-12  # relative: two gradients in float64 are one up to the order of their sums

# Both of these together are a truncation after one step.
NOTHING_BACK = {"dh_next_missing", "dc_next_missing"}
# What a name that stands for a place claims.
CLAIMED: Mapping[str, str] = {
    "output_layer": HEAD,
    "inside_a_step": STEP,
    "between_steps": BETWEEN,
}


def outcome(case: Stranger, causes: Sequence[Cause]) -> str:
    """Judges the first cause.

    Returns:
        "nothing": there is none. "true": it is one of the mistakes, or gives the same gradient at
        every length that the diagnosis could run. "in set": it is a fault, not this one, and the
        mistake is among its alternatives. "place": it says no more than a place, a factor or a
        tensor, and is right about that, or lists the mistake as one of that place. "false":
        everything else, even if the place is right.
    """
    if not causes:
        return "nothing"
    return judged(case, causes[0])


def judged(case: Stranger, cause: Cause) -> str:
    """The outcome of one cause, whichever place it has."""
    truth = notebooks.names(case.mistakes)
    if cause.fault in truth:
        return "true"
    if cause.fault == "truncated" and cause.where.startswith("k = 1") and truth >= NOTHING_BACK:
        return "true"
    among = bool(truth & set(cause.alternatives))
    if FAULTS[cause.fault].family:  # whose alternatives are all faults of that place
        return "place" if among or holds(case, cause) else "false"
    if same_gradient(case, cause.fault):
        return "true"
    if among:
        return "in set"
    return "place" if literal(case, cause) else "false"


def same_gradient(case: Stranger, fault: str) -> bool:
    """Whether the program with that fault in place of one or two of its mistakes has its gradient.

    This is asked at its own length and, if the diagnosis had others, at one of these.
    """
    lengths = [case.habits.T]
    if case.known not in ("plain", "functions"):
        lengths.append(case.habits.T - 1 or min(2, case.habits.longest))
    own = [case.gradient(T=T) for T in lengths]
    kinds = [name for name, kind in notebooks.KINDS.items() if fault in kind.names]
    for other in (one for kind in kinds for one in notebooks.variants(kind, case.habits)):
        for replaced in (*combinations(case.mistakes, 1), *combinations(case.mistakes, 2)):
            chosen = [one for one in case.mistakes if one not in replaced] + [other]
            try:
                found = [case.gradient(chosen, T=T) for T in lengths]
            except (ValueError, KeyError):  # the program cannot have it
                continue
            if all(map(_same, own, found)):
                return True
    return False


def _same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    scale = max(float(np.abs(array).max()) for array in one.values())
    return all(np.abs(one[name] - other[name]).max() <= SAME * scale for name in one)


def holds(case: Stranger, cause: Cause) -> bool:
    """Whether a mistake is at the place that a cause claims."""
    places = notebooks.places(case.mistakes)
    if any(off_by(case, name) == 1.0 for name in named(case, cause)):
        return False  # "in Wf" where the gradient of Wf is right
    if not of_its_gates(case, cause):
        return False
    own = set(head_names(case.habits).values())
    claimed = CLAIMED.get(cause.fault)
    if claimed == HEAD and own:
        return any(off_by(case, name) != 1.0 for name in own)
    if claimed is None:
        one_tensor = "operand" in cause.fault or "tensor" in cause.fault
        return bool({OPERAND, TENSOR} & places) if one_tensor else False
    if claimed == STEP and not own and HEAD in places:
        return True  # without an output layer δ of the loss and of the step are one
    if claimed == STEP and OPERAND in places:
        return True  # "within a step" says: δ, or what it is multiplied by
    return claimed in places


def literal(case: Stranger, cause: Cause) -> bool:
    """Whether "all is c times too large", or "this tensor is", is what the numbers say."""
    if cause.fault == "scaled":
        rest = [m for m in case.mistakes if REDUCTION not in notebooks.places((m,))]
        return any(_scaled(case.wrong, other) for other in (case.right, case.gradient(rest)))
    factors = {name: off_by(case, name) for name in case.right}
    if cause.fault in ("tensor_scaled", "zero_gradient"):
        said = named(case, cause)
        return bool(said) and all(factors[name] not in (None, 1.0) for name in said)
    return False


def of_its_gates(case: Stranger, cause: Cause) -> bool:
    """Whether the gates that a cause names, if it names any by its letter, have a mistake."""
    s = case.habits
    letters = LETTERS[s.cell][s.names % 3]
    own = {letter: gate for gate, letter in letters.items()} if _by_letters(s) else {}
    said = re.findall(r"\bgates? (\w)\b", cause.where)
    wrong = {gate for mistake in case.mistakes if (gate := mistake.partition(" ")[2])}
    return not wrong or all(own.get(letter, letter) in wrong for letter in said if letter in own)


def _by_letters(s: Habits) -> bool:
    """Whether the names of the arrays tell the gates."""
    return s.stored.startswith("gate by gate") and s.cell != "RNN"


def named(case: Stranger, cause: Cause) -> list[str]:
    """The tensors that a cause names."""
    return [n for n in case.right if re.search(rf"(?<!\w){re.escape(n)}(?!\w)", cause.where)]


def off_by(case: Stranger, name: str) -> float | None:
    """The factor of a tensor of the gradient; None if it is off by no factor, NaN if both are 0."""
    return _factor(case.wrong[name], case.right[name])


def _scaled(wrong: Mapping[str, Array], right: Mapping[str, Array]) -> bool:
    """Whether all tensors are off by one factor."""
    factors = [_factor(wrong[name], right[name]) for name in right]
    found = {c for c in factors if c is None or c == c}
    return None not in found and len(found) == 1 and found != {1.0}


def _factor(wrong: Array, right: Array) -> float | None:
    own, other = wrong.ravel(), right.ravel()
    size = float(other @ other)
    if not size:
        return None if own.any() else float("nan")
    factor = float(own @ other) / size
    off = float(np.linalg.norm(own - factor * other))
    return round(factor, 9) if off <= 1e-9 * float(np.sqrt(size)) * max(1.0, abs(factor)) else None
