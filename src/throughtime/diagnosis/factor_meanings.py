"""What a factor common to all tensors may stand for: sizes, constants, the loss itself.

A meaning predicts a number at every length, and with a single sequence; it is given only if all of
these are seen. Meanings that predict the same numbers are given together, as equals, with what
would tell them apart. A size that is not known may be any whole number, so that a whole number is
never proof of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement

import numpy as np

from throughtime.diagnosis.factors import Ratio
from throughtime.diagnosis.tolerances import (
    DIFFERS_BEYOND,
    FACTOR_ERROR_BARS,
    RATIO_ROUNDING,
    ROUNDED,
    USUAL_SMALL_SIZE,
    WHOLE_NUMBER,
    WIDEST_NAMED,
)

POWERS = (-1, 0, 1)  # of T, with which a factor may grow


@dataclass(frozen=True)
class KnownSizes:
    """What a factor may be compared with: sizes of the target, and the factor at other lengths.

    Attributes:
        steps: T.
        sequences: B.
        outputs: how many outputs or classes there are.
        kind: the kind of loss, as in `Reduction`.
        loss: its value.
        total: the sum of the weights of a cross-entropy's terms; NaN where it is not known.
        others: the factor at other lengths, by T.
        losses: the loss at these lengths.
        alone: the factor with a single sequence; None where that was not seen.
        runs: whether the target could be run at another length.
        said: sentences on how these came to be known.
    """

    steps: int | None = None
    sequences: int | None = None
    outputs: int | None = None
    kind: str = ""
    loss: float = float("nan")
    total: float = float("nan")
    others: Mapping[int, Ratio] = field(default_factory=dict)
    losses: Mapping[int, float] = field(default_factory=dict)
    alone: Ratio | None = None
    runs: bool = False
    said: tuple[str, ...] = ()

    @property
    def square(self) -> bool:
        """Whether the loss is known to be a squared error, or the root of one."""
        return self.kind in ("square", "root")


@dataclass(frozen=True)
class NamedFactor:
    """What a factor stands for.

    Attributes:
        faults: one fault, or two whose factors multiply.
        facts: what stands in the places of their statements.
        evidence: sentences.
        alternatives: faults with the same factor.
        power: the power of T with which the factor grows; None where only one length was seen.
        of_one: alternatives to one of the faults alone, by its name.
    """

    faults: tuple[str, ...]
    facts: Mapping[str, str]
    evidence: tuple[str, ...]
    alternatives: tuple[str, ...]
    power: int | None
    of_one: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Meaning:
    """A number that a factor may be.

    Attributes:
        number: as the target stands.
        faults: whose factors it is the product of.
        words: how it is written.
        power: of T, with which it grows.
        batch: of B, with which it grows.
        root: whether it grows with the loss.
    """

    number: float
    faults: tuple[str, ...]
    words: str
    power: int = 0
    batch: int = 0
    root: bool = False

    def times(self, other: _Meaning) -> _Meaning:
        """Both at once."""
        return _Meaning(
            self.number * other.number,
            (*self.faults, *other.faults),
            f"({self.words}) · ({other.words})",
            self.power + other.power,
            self.batch + other.batch,
            self.root or other.root,
        )

    def fits(self, ratio: Ratio, known: KnownSizes) -> bool:
        """Whether it is the factor, here and wherever else the factor was seen."""
        if not ratio.is_near(self.number):
            return False
        for steps, other in known.others.items():
            if self.power and not known.steps:
                return False
            expected = self.number * (steps / (known.steps or steps)) ** self.power
            if self.root:
                expected *= known.losses.get(steps, known.loss) / known.loss
            if not other.is_near(expected):
                return False
        if known.alone is None or self.root:
            return True
        sequences = known.sequences or 1
        return known.alone.is_near(self.number / float(sequences) ** self.batch)


def name_factor(ratio: Ratio, known: KnownSizes) -> NamedFactor:
    """The faults that a factor common to all tensors stands for."""
    known = replace(known, sequences=known.sequences or _sequences_by(ratio, known))
    power = _power(ratio, known)
    evidence = [f"Every tensor is {ratio} times its numerical derivative."]
    evidence += _followed(ratio, known, power)
    facts = _facts(ratio, known)
    if DIFFERS_BEYOND * ratio.error > WIDEST_NAMED * abs(ratio.value):  # many a size would fit
        return NamedFactor(("scaled",), facts, (*evidence, _range(ratio)), (), power)
    single = [m for m in _single(known) if not _denied(m.faults[0], known, known.sequences)]
    meanings = [m for m in single if m.fits(ratio, known)]
    unknown = _by_an_unknown_size(ratio, known)
    if meanings:
        first, *others = meanings
        beside = [name for m in others for name in m.faults]
        if unknown and unknown[0].small:
            beside += [own.fault for own in unknown]
        small = max(first.number, 1 / first.number) <= USUAL_SMALL_SIZE
        if small and first.power and not known.others:  # another length would tell
            beside += [name for m in _products(single) if m.fits(ratio, known) for name in m.faults]
        names = tuple(dict.fromkeys([*first.faults, *beside]))
        evidence.append(f"{ratio} = {first.words}.")
        T = known.steps or 0
        if first.faults == ("averaged_over_steps",) and T > 1 and ratio.is_near(1 / (T + 1)):
            evidence.append(f"1/{T + 1} would fit as well; T = {T} is named since it is known.")
        evidence += known.said
        evidence += _what_would_tell(names, known)
        if names[0] == "averaged_over_outputs" and not known.square:
            names = _batch_first(names)
            facts.setdefault("B", str(round(ratio.value)))
        return NamedFactor(names[:1], facts, tuple(evidence), names[1:], power)
    if unknown:
        beside = [own.fault for own in unknown]
        evidence += _what_would_tell(tuple(beside), known)
        evidence.append(f"{ratio} = {_read_as(unknown, ratio)}")
        if beside == ["summed_over_batch"] and _is_mean(known):
            facts |= {"B": str(unknown[0].size)}
            evidence += known.said
            return NamedFactor(tuple(beside), facts, tuple(evidence), ("scaled",), power)
        return NamedFactor(("scaled",), facts, tuple(evidence), tuple(beside), power)
    if any(_between_sizes(ratio, sign) for sign in (1, -1)):
        return NamedFactor(("scaled",), facts, (*evidence, _range(ratio)), (), power)
    return _product(ratio, known, single, facts, evidence, power)


def _products(single: list[_Meaning]) -> Iterator[_Meaning]:
    """Two meanings at once, both of which enlarge the gradient or both of which lessen it.

    2 and ½ may come twice, from two lines.
    """
    for one, other in combinations_with_replacement(single, 2):
        twice = one is other and one.number not in (2, 0.5)
        alike = min(one.number, other.number) > 1 or 0 < max(one.number, other.number) < 1
        if alike and not twice and min(one.number, other.number) > 0:
            yield one.times(other)


def _batch_first(names: tuple[str, ...]) -> tuple[str, ...]:
    """Equal names, of which a mean over sequences is the usual one where it is among them."""
    return tuple(sorted(names, key=lambda name: name != "summed_over_batch"))


def _product(
    ratio: Ratio,
    known: KnownSizes,
    single: list[_Meaning],
    facts: dict[str, str],
    evidence: list[str],
    power: int | None,
) -> NamedFactor:
    """The factor as the product of two, of which one may be a size that is not known."""
    pairs = [
        one.times(other)
        for k, one in enumerate(single)
        for other in single[k + 1 :]
        if one.number * other.number != 1 and one.number != other.number
    ]
    fitting = [m for m in pairs if m.fits(ratio, known)]
    if fitting:
        first, *others = fitting
        of_one = {
            own: tuple(
                name
                for m in others
                if own not in m.faults
                for name in m.faults
                if name not in first.faults
            )
            for own in first.faults
        }
        evidence += [f"{ratio} = {first.words}.", *known.said]
        return NamedFactor(first.faults, facts, tuple(evidence), (), power, of_one)
    for one in single:
        if not (one.power or one.root) or (one.power and power != one.power):
            continue
        rest = Ratio(ratio.value / one.number, ratio.error / abs(one.number), True, ratio.entries)
        unknown = _by_an_unknown_size(rest, replace(known, others={}, alone=None))
        if not unknown:
            continue
        evidence.append(f"{ratio} = ({one.words}) · {_read_as(unknown, rest)}")
        beside = [own.fault for own in unknown]
        evidence += _what_would_tell(tuple(beside), known)
        return NamedFactor(
            (*one.faults, "scaled"),
            facts | {"factor": unknown[0].words},
            tuple(evidence),
            (),
            power,
            {"scaled": tuple(beside)},
        )
    return NamedFactor(("scaled",), facts, tuple(evidence), (), power)


@dataclass(frozen=True)
class _Unknown:
    """A size that is not known, as which a whole number, or 1 over one, may be read."""

    fault: str
    letter: str
    size: int
    words: str

    @property
    def small(self) -> bool:
        """Whether sizes are often equal to it, so that it tells none of them from another."""
        return self.size <= USUAL_SMALL_SIZE


def _by_an_unknown_size(ratio: Ratio, known: KnownSizes) -> list[_Unknown]:
    """The sizes that are not known and may be this factor; they predict as much as it says."""
    for sign, words in ((1, ""), (-1, "1/")):
        size = round(ratio.value**sign) if ratio.value > 0 else 0
        if size < 2 or not ratio.is_near(float(size) ** sign):
            continue
        if _between_sizes(ratio, sign):
            continue
        found = []
        for letter, value, faults, grows in (
            ("T", known.steps, ("summed_over_steps", "averaged_over_steps"), (1, 0)),
            ("B", known.sequences, ("summed_over_batch", "divided_by_batch"), (0, 1)),
            ("O", known.outputs, ("averaged_over_outputs", "divided_by_classes"), (0, 0)),
        ):
            if value or (letter == "O" and sign < 0 and known.square):
                continue
            power, batch = (sign * own for own in grows)
            meaning = _Meaning(float(size) ** sign, (faults[sign < 0],), "", power, batch)
            alone = replace(known, sequences=size if letter == "B" else known.sequences)
            if meaning.fits(ratio, alone) and not _denied(faults[sign < 0], alone, size):
                found.append(_Unknown(faults[sign < 0], letter, size, f"{words}{size}"))
        return found
    return []


def _between_sizes(ratio: Ratio, sign: int) -> bool:
    """Whether a factor, or 1 over it, is known too coarsely to be one size and not the next."""
    size = round(ratio.value**sign) if ratio.value > 0 else 0
    near = [k for k in (size - 1, size, size + 1) if k > 1 and ratio.is_near(float(k) ** sign)]
    return size > 1 and len(near) > 1


def _read_as(unknown: list[_Unknown], ratio: Ratio) -> str:
    """The end of a sentence on the sizes that a number may be."""
    letters, first = list(dict.fromkeys(own.letter for own in unknown)), unknown[0]
    see = f"ee whether {', '.join(letters)} or another size is {first.size}."
    if ratio.error <= ROUNDED * abs(ratio.value):
        return f"{first.words}: s{see}"
    part = f"1/{1 / ratio.value:.1f}" if first.words.startswith("1/") else f"{ratio.value:.1f}"
    return f"{part}: {letters[0]} = {first.size}? S{see}"


def _range(ratio: Ratio) -> str:
    """A sentence where a factor is known too coarsely to be a size."""
    low, high = (ratio.value + k * DIFFERS_BEYOND * ratio.error for k in (-1, 1))
    if abs(ratio.value) > 1 or low * high <= 0:
        return f"It lies between {low:.4g} and {high:.4g}, which is too wide to name a size."
    return (
        f"It lies between 1/{1 / low:.4g} and 1/{1 / high:.4g}, which is too wide to name a size: "
        "more digits, or more entries, would tell."
    )


def _sequences_by(ratio: Ratio, known: KnownSizes) -> int | None:
    """B, if a single sequence changes the factor by a whole number, or by 1 over one."""
    if known.alone is None or not known.alone.value:
        return None
    change = abs(ratio.value / known.alone.value)
    for sign in (1, -1):
        size = round(change**sign)
        expected = known.alone.value * float(size) ** sign if size else 0.0
        if size > 1 and ratio.is_near(expected):
            return size
    return None


def _denied(fault: str, known: KnownSizes, sequences: int | None) -> bool:
    """Whether the weights of the loss's terms say that it takes no such mean as a fault says."""
    total, T, outputs = known.total, known.steps, known.outputs or 1
    if not T or not np.isfinite(total):
        return False
    if fault == "summed_over_batch":
        return not _among(total, (T, 1))
    if fault == "averaged_over_outputs" and outputs > 1 and not known.square:
        weights = (T * (sequences or 1), T, sequences or 1, 1)
        return not _among(total, tuple(one / outputs for one in weights)) and _is_mean(known)
    if fault == "summed_over_steps" and T > 1 and sequences is not None:
        return _among(total, (T * sequences, T)) and not _among(total, (1, sequences))
    return False


def _is_mean(known: KnownSizes) -> bool:
    """Whether the weights of the loss's terms are those of a mean over the sequences."""
    return bool(known.steps) and _among(known.total, (float(known.steps or 1), 1.0))


def _among(total: float, values: tuple[float, ...]) -> bool:
    return any(abs(total - value) < WHOLE_NUMBER * value for value in values)


def _what_would_tell(names: tuple[str, ...], known: KnownSizes) -> list[str]:
    """A sentence on the experiments that would tell some faults from each other."""
    if len(set(names)) < 2 and names[:1] != ("summed_over_batch",):
        return []
    ways = []
    over_steps = {"averaged_over_steps", "summed_over_steps"} & set(names)
    if over_steps and not known.others:
        ways.append("another T" if known.runs else "another T, for which `at_length=` is needed")
    if {"divided_by_batch", "summed_over_batch"} & set(names) and known.alone is None:
        ways.append('another B, as with `variants={"at_batch": …}`')
    if {"divided_by_classes", "averaged_over_outputs"} & set(names):
        ways.append("another number of outputs")
    if not ways:
        return []
    last = f" or {ways[-1]}" if len(ways) > 1 else ways[-1]
    return [f"To tell what it is: {', '.join(ways[:-1])}{last}."]


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
        lead = law[power] if power is not None else "It changes with T, but neither as T nor as 1/T"
        yield f"{lead}: {seen}, {ratio} at T = {known.steps}."
    if known.alone is not None:
        yield f"With a single sequence it is {known.alone}."


def _single(known: KnownSizes) -> Iterator[_Meaning]:
    """What a factor may mean by itself, the likeliest meaning first."""
    T, B, outputs = known.steps, known.sequences, known.outputs
    if T and T > 1:
        yield _Meaning(1 / T, ("averaged_over_steps",), f"1/T with T = {T}", -1)
        yield _Meaning(T, ("summed_over_steps",), f"T = {T}", 1)
    if known.kind == "root" and known.loss > 0:
        words = f"2 L with L = {known.loss:.6g}"
        yield _Meaning(2 * known.loss, ("root_taken",), words, root=True)
    if known.square and outputs and outputs > 1:
        yield _Meaning(outputs, ("averaged_over_outputs",), f"{outputs}, the number of outputs")
    if B and B > 1:
        yield _Meaning(1 / B, ("divided_by_batch",), f"1/B with B = {B}", batch=-1)
        yield _Meaning(B, ("summed_over_batch",), f"B = {B}", batch=1)
    yield _Meaning(-1, ("wrong_sign",), "−1")
    half = ("half_squared_error",) if known.square else ("factor_half",)
    yield _Meaning(0.5, half, "½")
    yield _Meaning(2, ("factor_two",), "2")
    if not known.square and outputs and outputs > 1:
        yield _Meaning(1 / outputs, ("divided_by_classes",), f"1/{outputs}, {outputs} classes")
        yield _Meaning(outputs, ("averaged_over_outputs",), f"{outputs}, the number of classes")
    if not known.square and known.kind != "classes":
        yield _Meaning(0.5, ("half_squared_error",), "½")
    if known.square:
        yield _Meaning(0.5, ("factor_half",), "½")


def _facts(ratio: Ratio, known: KnownSizes) -> dict[str, str]:
    numbers = {"T": known.steps, "B": known.sequences, "O": known.outputs}
    return {"factor": str(ratio)} | {k: str(v) for k, v in numbers.items() if v}
