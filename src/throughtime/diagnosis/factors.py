"""Factors between a gradient and its numerical derivative, and what they stand for.

One factor may be common to all tensors, to some of them, or to a gate's rows or columns; it may be
T, B, the number of classes, 2, ½, −1, twice the loss, or the effect of a clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.observed import Candidate, Gradient, Observed
from throughtime.diagnosis.tolerances import (
    DIFFERS_BEYOND,
    ENTRIES_AT_OTHER_LENGTHS,
    FACTOR_ERROR_BARS,
    LEAST_STEEP_ENTRIES,
    NORM_POINTS,
    RATIO_ROUNDING,
    ROUNDED,
    SAME_NORM,
    STEEP_ENTRY,
    WIDEST_NAMED,
)

POWERS = (-1, 0, 1)  # of T, with which a factor may grow
SETTLED = 3  # rounds after which a ratio and the error bars that follow from it are one
GATES = (4, 3)  # how many blocks of rows or columns a tensor may have


@dataclass(frozen=True)
class Ratio:
    """g = α n over some entries.

    Attributes:
        value: α.
        error: its error bar.
        fits: whether all entries have that ratio, to within their error bars.
        entries: how many entries are large enough to tell.
    """

    value: float
    error: float
    fits: bool
    entries: int

    def is_near(self, number: float) -> bool:
        """Whether α is this number, to within its error bar."""
        error = DIFFERS_BEYOND * self.error + RATIO_ROUNDING * abs(number)
        return abs(self.value - number) <= error

    def __str__(self) -> str:
        return number(self.value, self.error)


def ratio_of(g: Array, n: Array, bars: Array, own: Array | None = None) -> Ratio:
    """The ratio of two sets of numbers, given the error bars of their difference.

    Args:
        g, n: the numbers; their ratio is α in g = α n.
        bars: the error bars of g − n.
        own: the part of them that is g's own. The other part is n's, and counts α times.
    """
    known = np.isfinite(bars)
    g, n, bars = g[known], n[known], bars[known]
    steep = int((np.abs(n) > STEEP_ENTRY * bars).sum())
    if not steep:
        return Ratio(np.nan, np.inf, False, 0)
    given = bars
    weights = 1 / bars**2
    square = float(np.sum(weights * n**2))
    value = float(np.sum(weights * g * n)) / square
    width = np.hypot(1.0, value)
    if own is not None and value:
        for _ in range(SETTLED):
            bars = abs(value) * (given - own[known]) + own[known]
            square = float(np.sum((n / bars) ** 2))
            value = float(np.sum(g * n / bars**2)) / square
        width = np.sqrt(2.0)  # as above for α = 1
    fits = bool((np.abs(g - value * n) <= DIFFERS_BEYOND * bars * width).all())
    return Ratio(
        value, float(width / np.sqrt(square)), fits and steep >= LEAST_STEEP_ENTRIES, steep
    )


def over(observed: Observed, names: Sequence[str]) -> Ratio:
    """The ratio over all sampled entries of some tensors."""
    columns = [
        (
            observed.beside(name),
            observed.sampled[name].numerical,
            observed.bars(name),
            observed.sampled[name].rounding,
        )
        for name in names
    ]
    return ratio_of(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def of_tensors(observed: Observed) -> dict[str, Ratio]:
    """The ratio in each tensor."""
    return {name: over(observed, [name]) for name in observed.sampled}


def in_block(observed: Observed, name: str, mask: Array) -> Ratio:
    """The ratio over the entries of a tensor that a mask selects."""
    own = observed.sampled[name]
    here = mask.reshape(-1)[own.places]
    g, n, bars = observed.beside(name)[here], own.numerical[here], observed.bars(name)[here]
    return ratio_of(g, n, bars, own.rounding[here])


def shared(ratios: dict[str, Ratio]) -> Iterator[tuple[tuple[str, ...], Ratio]]:
    """Groups of tensors that are off by the same factor, the largest group first."""
    left = {n: r for n, r in ratios.items() if r.fits and not r.is_near(1.0)}
    groups = []
    while left:
        name, first = min(left.items(), key=lambda item: item[1].error)
        group = [n for n, r in left.items() if together(r, first)]
        groups.append((tuple(group), first))
        left = {n: r for n, r in left.items() if n not in group and n != name}
    yield from sorted(groups, key=lambda group: -len(group[0]))


def together(one: Ratio, other: Ratio) -> bool:
    """Whether two ratios are the same, to within their error bars."""
    error = DIFFERS_BEYOND * np.hypot(one.error, other.error) + RATIO_ROUNDING * abs(other.value)
    return bool(abs(one.value - other.value) <= error)


def number(value: float, error: float) -> str:
    """A number with its error bar, written with as many digits as the error bar allows.

    Example:
        >>> number(39.0002, 0.4), number(0.5, 1e-12)
        ('39.0 ± 0.4', '0.5')
    """
    if not np.isfinite(error) or error <= 1e-6 * abs(value):
        return f"{value:.6g}"
    digits = max(0, int(np.ceil(-np.log10(error))))
    return f"{value:.{digits}f} ± {error:.1g}"


@dataclass(frozen=True)
class KnownSizes:
    """What a factor may be compared with: sizes of the target, and the factor at other lengths.

    Attributes:
        steps: T.
        sequences: B.
        outputs: how many outputs or classes there are.
        kind: the kind of loss, as in `Reduction`.
        loss: its value.
        others: the factor at other lengths, by T.
        said: sentences on how these came to be known.
    """

    steps: int | None = None
    sequences: int | None = None
    outputs: int | None = None
    kind: str = ""
    loss: float = float("nan")
    others: Mapping[int, Ratio] = field(default_factory=dict)
    said: tuple[str, ...] = ()


def known_sizes(study: Study, observed: Observed, names: Sequence[str]) -> KnownSizes:
    """What a factor in some tensors may be compared with."""
    reduction = study.reduction
    said = tuple(text for text in [reduction.said(study.steps)] if text)
    return KnownSizes(
        study.steps,
        study.sizes.get("B", reduction.sequences(study.steps)),
        study.sizes.get("O", reduction.outputs or None),
        reduction.kind,
        observed.loss,
        _at_other_lengths(study, observed, names),
        said,
    )


def _at_other_lengths(study: Study, observed: Observed, names: Sequence[str]) -> dict[int, Ratio]:
    """The factor at up to two of the lengths 1, 2 and 3, where all entries have one there."""
    found: dict[int, Ratio] = {}
    for steps in (1, 2, 3):
        if study.steps is None or steps >= study.steps or len(found) == 2:
            continue
        places = {name: _steepest(observed, name) for name in names}
        there = study.seen.get(steps) or study.look(steps, places=places)
        ratio = None if there is None else over(there, names)
        if ratio is not None and ratio.fits:
            found[steps] = ratio
    return found


def _steepest(observed: Observed, name: str) -> Array:
    """The places of a tensor's largest numerical derivatives."""
    own = observed.sampled[name]
    order = np.argsort(-np.abs(own.numerical))[:ENTRIES_AT_OTHER_LENGTHS]
    return np.asarray(np.sort(own.places[order]))


@dataclass(frozen=True)
class NamedFactor:
    """What a factor stands for.

    Attributes:
        faults: one fault, or two whose factors multiply.
        facts: what stands in the places of their statements.
        evidence: sentences.
        alternatives: faults with the same factor.
        power: the power of T with which the factor grows; None where only one length was seen.
    """

    faults: tuple[str, ...]
    facts: Mapping[str, str]
    evidence: tuple[str, ...]
    alternatives: tuple[str, ...]
    power: int | None


@dataclass(frozen=True)
class _Meaning:
    number: float
    faults: tuple[str, ...]
    words: str
    power: int = 0


def name_factor(ratio: Ratio, known: KnownSizes) -> NamedFactor:
    """The faults that a factor common to all tensors stands for."""
    power = _power(ratio, known)
    evidence = [f"Every tensor is {ratio} times its numerical derivative."]
    evidence += _followed(ratio, known, power)
    meanings = [m for m in _meanings(known, power) if ratio.is_near(m.number)]
    facts = _facts(ratio, known)
    fewest = min((len(m.faults) for m in meanings), default=0)
    beside, said = _by_a_size(ratio) if not known.steps else ((), "")
    if DIFFERS_BEYOND * ratio.error > WIDEST_NAMED * abs(ratio.value):  # many a size would fit
        meanings, beside, said = [], (), _range(ratio)
    if not meanings or (beside and fewest > 1):  # one unknown size is simpler than two faults
        evidence += [said] if said else []
        return NamedFactor(("scaled",), facts, tuple(evidence), beside, power)
    simplest = [m for m in meanings if len(m.faults) == fewest]
    first, others = simplest[0], simplest[1:]
    evidence.append(f"{ratio} = {first.words}.")
    T = known.steps or 0
    if first.faults == ("averaged_over_steps",) and T > 1 and ratio.is_near(1 / (T + 1)):
        evidence.append(f"1/{T + 1} would fit as well; T = {T} is named since it is known.")
    evidence += known.said
    alternatives = [f for m in others for f in m.faults if f not in first.faults]
    alternatives += [f for f in beside if f not in first.faults]
    return NamedFactor(
        first.faults, facts, tuple(evidence), tuple(dict.fromkeys(alternatives)), power
    )


def _by_a_size(ratio: Ratio) -> tuple[tuple[str, ...], str]:
    """Faults and a sentence where a factor is a whole number or 1 over one: an unknown size?"""
    summed = ("summed_over_steps", "summed_over_batch", "averaged_over_outputs")
    averaged = ("averaged_over_steps", "divided_by_batch", "divided_by_classes")
    for power, words, faults in ((1, "", summed), (-1, "1/", averaged)):
        size = round(ratio.value**power)
        if size > 2 and ratio.is_near(float(size) ** power):
            if any(ratio.is_near(float(size + k) ** power) for k in (-1, 1)):
                return (), _range(ratio)
            see = f"ee whether T, B or another size is {size}."
            if ratio.error <= ROUNDED * ratio.value:
                return faults, f"{ratio} = {words}{size}: s{see}"
            said = f"{ratio} = {words}{ratio.value**power:.1f}: T = {size}? S{see}"
            return faults, said
    return (), ""


def _range(ratio: Ratio) -> str:
    """A sentence where a factor is known too coarsely to be a size."""
    low, high = (ratio.value + k * DIFFERS_BEYOND * ratio.error for k in (-1, 1))
    if abs(ratio.value) > 1 or low * high <= 0:
        return f"It lies between {low:.4g} and {high:.4g}, which is too wide to name a size."
    return (
        f"It lies between 1/{1 / low:.4g} and 1/{1 / high:.4g}, which is too wide to name a size: "
        "more digits, or more entries, would tell."
    )


def _power(ratio: Ratio, known: KnownSizes) -> int | None:
    """The power of T with which the factor grows; None where that was not seen."""
    if not known.steps or not known.others:
        return None
    for power in POWERS:
        if all(
            _near(ratio.value / other.value, (known.steps / steps) ** power, ratio, other)
            for steps, other in known.others.items()
            if other.value
        ):
            return power
    return None


def _near(value: float, wanted: float, one: Ratio, other: Ratio) -> bool:
    error = abs(one.error / one.value) + abs(other.error / other.value)
    return abs(value / wanted - 1) <= FACTOR_ERROR_BARS * error + RATIO_ROUNDING


def _followed(ratio: Ratio, known: KnownSizes, power: int | None) -> Iterator[str]:
    if known.others:
        seen = ", ".join(f"{r} at T = {steps}" for steps, r in sorted(known.others.items()))
        law = {-1: "It falls as 1/T", 0: "It does not depend on T", 1: "It grows with T"}
        lead = law[power] if power is not None else "It changes with T, as neither T nor 1/T does"
        yield f"{lead}: {seen}, {ratio} at T = {known.steps}."


def _meanings(known: KnownSizes, power: int | None) -> list[_Meaning]:
    single = list(_single(known))
    pairs = [
        _Meaning(a.number * b.number, (*a.faults, *b.faults), _product(a, b), a.power + b.power)
        for k, a in enumerate(single)
        for b in single[k + 1 :]
        if a.number * b.number != 1 and a.number != b.number
    ]
    return [m for m in single + pairs if power is None or m.power == power]


def _product(one: _Meaning, other: _Meaning) -> str:
    return f"({one.words}) · ({other.words})"


def _single(known: KnownSizes) -> Iterator[_Meaning]:
    """What a factor may mean by itself, the likeliest meaning first."""
    T, B, outputs = known.steps, known.sequences, known.outputs
    square = known.kind in ("square", "root")
    if T and T > 1:
        yield _Meaning(1 / T, ("averaged_over_steps",), f"1/T with T = {T}", -1)
        yield _Meaning(T, ("summed_over_steps",), f"T = {T}", 1)
    if known.kind == "root" and known.loss > 0:
        yield _Meaning(2 * known.loss, ("root_taken",), f"2 L with L = {known.loss:.6g}")
    if square and outputs and outputs > 1:
        yield _Meaning(outputs, ("averaged_over_outputs",), f"{outputs}, the number of outputs")
    if B and B > 1:
        yield _Meaning(1 / B, ("divided_by_batch",), f"1/B with B = {B}")
        yield _Meaning(B, ("summed_over_batch",), f"B = {B}")
    yield _Meaning(-1, ("wrong_sign",), "−1")
    half = ("half_squared_error",) if square else ("factor_half",)
    yield _Meaning(0.5, half, "½")
    yield _Meaning(2, ("factor_two",), "2")
    if not square and outputs and outputs > 1:
        yield _Meaning(1 / outputs, ("divided_by_classes",), f"1/{outputs}, {outputs} classes")
    if not square and known.kind != "classes":
        yield _Meaning(0.5, ("half_squared_error",), "½")
    if square:
        yield _Meaning(0.5, ("factor_half",), "½")
    if not B and not square:
        yield _Meaning(0.5, ("divided_by_batch",), "1/B with B = 2")


def _facts(ratio: Ratio, known: KnownSizes) -> dict[str, str]:
    numbers = {"T": known.steps, "B": known.sequences, "O": known.outputs}
    return {"factor": str(ratio)} | {k: str(v) for k, v in numbers.items() if v}


def everywhere(observed: Observed, study: Study) -> Iterator[Candidate]:
    """One factor in all tensors, or in all but those that are wrong in another way too."""
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
    yield _factor(observed, whole, known_sizes(study, observed, names), names)


def _factor(
    observed: Observed, whole: Ratio, known: KnownSizes, names: tuple[str, ...]
) -> Candidate:
    found = name_factor(whole, known)
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
    """The whole number, or 1 over a whole number, that a ratio may be; otherwise its value.

    Code divides by sizes. A factor that is undone as it was measured leaves its error behind.
    """
    for near in (round(ratio.value), 1 / (round(1 / ratio.value) or 1)):
        if near and ratio.is_near(near):
            return float(near)
    return ratio.value


def _norm_held(observed: Observed, study: Study) -> float | None:
    """The norm that the gradient has both here and at another point; None where norms differ."""
    here = _norm(observed.gradient)
    for factor in NORM_POINTS:
        there = study.gradient({name: factor * a for name, a in study.values.items()})
        if there is None:
            continue
        if abs(_norm(there) - here) <= max(SAME_NORM, 8 * observed.eps) * here:
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
    """The same factor in one or a few tensors, while others are right."""
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
    """The fault that a factor in some tensors stands for, sentences, and alternatives."""
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
    """B, if the target or its loss tells it."""
    return study.sizes.get("B", study.reduction.sequences(study.steps))


def _over_what(study: Study, ratio: Ratio) -> dict[str, str]:
    words = {"T": "the steps", "B": "the sequences", "T·B": "steps and sequences"}
    for size, letter in _sizes(study):
        if ratio.is_near(1 / size):
            return {"over": words[letter]}
    return {"over": "what is added up"}


def _gate(name: str) -> str:
    """A tensor's name without the letter of its kind: "f" for Wf, Uf and bf."""
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
    """The one block of a tensor that is off by a factor; None where more is wrong or not seen."""
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
        if not (observed.z(name, undone) > DIFFERS_BEYOND).any():
            return k, ratio, mask
    return None
