"""Factors between a gradient and its numerical derivative, in some tensors or in a gate's blocks.

What a factor common to all tensors stands for is in `common_factor.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.observed import CandidateCause, Observed
from throughtime.diagnosis.tolerances import (
    DIFFERS_BEYOND,
    ENTRIES_AT_OTHER_LENGTHS,
    LEAST_STEEP_ENTRIES,
    RATIO_ROUNDING,
    STEEP_ENTRY,
    WIDEST_NAMED,
)

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

    @property
    def rounds_to_one(self) -> bool:
        """Whether it is written as 1, so that to print it would say nothing."""
        return float(str(self).partition(" ")[0]) == 1

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
    left = {n: r for n, r in ratios.items() if r.fits and not (r.is_near(1.0) or r.rounds_to_one)}
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


def held_elsewhere(observed: Observed, study: Study, whole: Ratio, names: Sequence[str]) -> bool:
    """Whether some tensor has the factor with other parameters too, if anything shows there.

    Or all of them together have it, as tensors of one entry can. Where outputs are small, the
    derivative of an activation, or an ε beside a probability, is as good as a number: σ′(0) = 1/4.
    """
    there = study.elsewhere({name: steepest(observed, name) for name in names})
    if there is None:
        return True
    ratios = {name: over(there, [name]) for name in names}
    width = WIDEST_NAMED * abs(whole.value - 1)
    shown = {name: r for name, r in ratios.items() if DIFFERS_BEYOND * r.error < width}
    above = [r for name, r in shown.items() if name in study.roles.output]
    telling = above or list(shown.values())  # what δ of the outputs has, all below has too
    telling += [over(there, names)] if telling else []
    return not telling or any(ratio.fits and together(ratio, whole) for ratio in telling)


def steepest(observed: Observed, name: str) -> Array:
    """The places of a tensor's largest numerical derivatives."""
    own = observed.sampled[name]
    order = np.argsort(-np.abs(own.numerical))[:ENTRIES_AT_OTHER_LENGTHS]
    return np.asarray(np.sort(own.places[order]))


def in_tensors(observed: Observed, study: Study) -> Iterator[CandidateCause]:
    """The same factor in one or a few tensors, while others are right."""
    ratios = of_tensors(observed)
    if not any(ratio.fits and ratio.is_near(1.0) for ratio in ratios.values()):
        return
    for names, ratio in shared(ratios):
        if not ratio.value or not held_elsewhere(observed, study, ratio, names):
            continue
        undone = {
            name: g / ratio.value if name in names else g for name, g in observed.gradient.items()
        }
        where = ", ".join(names)
        facts = {"where": where, "factor": str(ratio)}
        is_are = "are" if len(names) > 1 else "is"
        evidence = [f"{where} {is_are} {ratio} times what the numerical derivatives say."]
        fault, said, alternatives = _meaning(observed, study, names, ratio)
        yield CandidateCause(
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


def in_gates(observed: Observed, study: Study) -> Iterator[CandidateCause]:
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
        yield CandidateCause(("gate_scaled",), where, undone, evidence, facts)


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
        off = [own for own in ratios if _is_off(own[1])]
        seen = sum(bool(ratio.entries) for _, ratio, _ in ratios)
        if len(off) != 1 or seen < gates:
            continue
        k, ratio, mask = off[0]
        undone = {**observed.gradient, name: np.where(mask, g / ratio.value, g)}
        if not (observed.z(name, undone) > DIFFERS_BEYOND).any():
            return k, ratio, mask
    return None


def _is_off(ratio: Ratio) -> bool:
    return bool(ratio.fits and ratio.value and not (ratio.is_near(1.0) or ratio.rounds_to_one))
