"""Factors and what they stand for: in every tensor, in some of them, in a gate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.candidate import Candidate, Gradient
from throughtime.diagnosis.factors import Ratio, in_block, of_tensors, over, shared, together
from throughtime.diagnosis.naming import Known, named
from throughtime.diagnosis.observed import LIMIT, Observed
from throughtime.diagnosis.study import Study

GATES = (4, 3)
ROUND = 1e-6  # relative: how close a norm is to a round number
ELSEWHERE = (1.3, 0.8, 1.7)  # times the parameters: where a norm is looked at again


def everywhere(observed: Observed, study: Study) -> Iterator[Candidate]:
    """One factor in all tensors, or in all that are not wrong in another way too."""
    ratios = of_tensors(observed)
    whole = over(observed, list(ratios))
    names = tuple(name for name, ratio in ratios.items() if np.isfinite(ratio.value))
    if not whole.fits:
        group = next(shared(ratios), None)
        if group is None or any(ratio.fits and ratio.is_near(1.0) for ratio in ratios.values()):
            return
        names, whole = group
        if not (study.roles.output and set(study.roles.output) <= set(names)):
            return
    if whole.is_near(1.0) or not whole.value:
        return
    held = _norm_held(observed, study) if whole.value > 0 else None
    if held is not None:
        yield _clipped(observed, whole, held)
        return
    yield _factor(observed, whole, study.known(observed, names), names)


def _factor(observed: Observed, whole: Ratio, known: Known, names: tuple[str, ...]) -> Candidate:
    found = named(whole, known)
    steps, power = observed.steps or 1, found.power or 0
    root = "root_taken" in found.faults
    rest = whole.value / (2 * observed.loss) if root else _exact(whole)

    def undo(there: Observed) -> Gradient:
        factor = rest * ((there.steps or steps) / steps) ** power
        factor *= 2 * there.loss if root else 1
        return {name: g / factor for name, g in there.gradient.items()}

    evidence = list(found.evidence)
    if len(names) < len(observed.sampled):
        evidence[0] = f"{', '.join(names)} are {whole} times their numerical derivatives."
    if found.faults == ("scaled",):
        confidence = 0.6
    elif found.power is not None:
        confidence = 0.97
    else:
        confidence = 0.85
    confidence = min(confidence, 0.98 / (1 + 0.5 * len(found.alternatives)))
    return Candidate(
        found.faults,
        "",
        undo(observed),
        tuple(evidence),
        found.facts,
        found.alternatives,
        confidence,
        undo,
    )


def _exact(ratio: Ratio) -> float:
    """The whole number, or the one part in a whole number, that a ratio may be; else its value.

    Code divides by sizes. Undone as it was measured, a factor would leave its own error behind.
    """
    for near in (round(ratio.value), 1 / (round(1 / ratio.value) or 1)):
        if near and ratio.is_near(near):
            return float(near)
    return ratio.value


def _norm_held(observed: Observed, study: Study) -> float | None:
    """The norm that the gradient has here and at another point too; None where it has none."""
    here = _norm(observed.gradient)
    for factor in ELSEWHERE:
        there = study.gradient({name: factor * a for name, a in study.values.items()})
        if there is not None and abs(_norm(there) - here) <= max(ROUND, 8 * observed.eps) * here:
            return here
    return None


def _clipped(observed: Observed, whole: Ratio, norm: float) -> Candidate:
    undone = {name: g / whole.value for name, g in observed.gradient.items()}
    evidence = (
        f"Every tensor is {whole} times its numerical derivative.",
        f"The gradient's norm is {norm:.6g}, and so it is with other parameters.",
    )
    return Candidate(("clipped_by_norm",), "", undone, evidence, {"limit": f"{norm:.6g}"})


def _norm(gradient: Gradient) -> float:
    return float(np.sqrt(sum(float(np.sum(g**2)) for g in gradient.values())))


def in_tensors(observed: Observed, study: Study) -> Iterator[Candidate]:
    """The same factor in one or a few tensors, where others are right."""
    ratios = of_tensors(observed)
    if not any(ratio.fits and ratio.is_near(1.0) for ratio in ratios.values()):
        return
    for names, ratio in shared(ratios):
        if not ratio.value:
            continue
        undone = {
            name: g / ratio.value if name in names else g for name, g in observed.gradient.items()
        }
        where = ", ".join(names)
        facts = {"where": where, "factor": str(ratio)}
        is_are = "are" if len(names) > 1 else "is"
        evidence = [f"{where} {is_are} {ratio} times what the numerical derivatives say."]
        fault, said, alternatives = _meaning(observed, study, names, ratio)
        yield Candidate(
            (fault,),
            where,
            undone,
            (*evidence, *said),
            facts | _over_what(study, ratio),
            alternatives,
        )


def _meaning(
    observed: Observed, study: Study, names: Sequence[str], ratio: Ratio
) -> tuple[str, list[str], tuple[str, ...]]:
    """The fault, sentences, alternatives."""
    if all(np.squeeze(observed.gradient[name]).ndim == 1 for name in names):
        for size, letter in _sizes(study):
            if ratio.is_near(1 / size):
                said = f"{ratio} = 1/{letter} with {letter} = {size}."
                return "bias_averaged", [said], ("tensor_scaled",)
        if ratio.is_near(2.0):
            return "bias_counted_twice", [], ("tensor_scaled",)
        whole = round(1 / ratio.value)
        unsaid = not (study.steps and _sequences(study))
        if unsaid and whole > 1 and ratio.is_near(1 / whole):
            said = f"{ratio} = 1/{whole}: see whether T, B or T·B is {whole}, and a mean was taken."
            return "tensor_scaled", [said], ("bias_averaged",)
    kinds = {np.squeeze(observed.gradient[name]).ndim for name in names}
    if len(names) >= 2 and kinds == {1, 2} and len({_gate(name) for name in names}) == 1:
        return "gate_scaled", [], ()
    return "tensor_scaled", [], ()


def _sizes(study: Study) -> Iterator[tuple[int, str]]:
    steps, sequences = study.steps, _sequences(study)
    for size, letter in ((steps, "T"), (sequences, "B")):
        if size and size > 1:
            yield size, letter
    if steps and sequences and steps > 1 and sequences > 1:
        yield steps * sequences, "T·B"
    if sequences is None and study.roles.head is not None:
        yield from ((size, "B") for size in (2, 3, 4, 5, 8, 16, 32, 64))


def _sequences(study: Study) -> int | None:
    """B, where the target or its loss tells it."""
    return study.sizes.get("B", study.reduction.sequences(study.steps))


def _over_what(study: Study, ratio: Ratio) -> dict[str, str]:
    words = {"T": "the steps", "B": "the sequences", "T·B": "steps and sequences"}
    for size, letter in _sizes(study):
        if ratio.is_near(1 / size):
            return {"over": words[letter]}
    return {"over": "what is added up"}


def _gate(name: str) -> str:
    """What stays of a tensor's name without the letter of its kind: "f" of Wf, Uf and bf."""
    return name[1:] if len(name) > 1 else name


def in_gates(observed: Observed, study: Study) -> Iterator[Candidate]:
    """A factor in one gate's rows or columns of every tensor that has them."""
    for gates in GATES:
        found = {
            name: own
            for name in observed.wrong()
            if (own := _blocks(observed, name, gates)) is not None
        }
        if not found:
            continue
        k, ratio, _ = next(iter(found.values()))
        same = {n: o for n, o in found.items() if o[0] == k and together(o[1], ratio)}
        undone = dict(observed.gradient)
        for name, (_, _, mask) in same.items():
            undone[name] = np.where(mask, undone[name] / ratio.value, undone[name])
        where = f"block {k + 1} of {gates} of {', '.join(same)}"
        evidence = (f"{where} is {ratio} times its numerical derivative; the other blocks agree.",)
        facts = {"where": where, "factor": str(ratio)}
        yield Candidate(("gate_scaled",), where, undone, evidence, facts)


def _blocks(observed: Observed, name: str, gates: int) -> tuple[int, Ratio, Array] | None:
    """The one block of a tensor that is off, by a factor; None where more is wrong or unseen."""
    g = observed.gradient[name]
    for axis in range(g.ndim):
        if g.shape[axis] % gates or g.shape[axis] == gates == 1:
            continue
        size = g.shape[axis] // gates
        ratios = []
        for k in range(gates):
            mask = np.zeros(g.shape, bool)
            mask[(slice(None),) * axis + (slice(k * size, (k + 1) * size),)] = True
            ratios.append((k, in_block(observed, name, mask), mask))
        off = [own for own in ratios if own[1].fits and not own[1].is_near(1.0) and own[1].value]
        seen = sum(bool(ratio.entries) for _, ratio, _ in ratios)
        if len(off) != 1 or seen < gates:
            continue
        k, ratio, mask = off[0]
        undone = {**observed.gradient, name: np.where(mask, g / ratio.value, g)}
        if not (observed.z(name, undone) > LIMIT).any():
            return k, ratio, mask
    return None
