"""What a factor is: T, B, the number of classes, 2, ½, −1, twice the loss, or none of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from throughtime.diagnosis.factors import Ratio

POWERS = (-1, 0, 1)


@dataclass(frozen=True)
class Known:
    """What is known of a target, beside its gradient.

    Attributes:
        steps: T.
        sequences: B.
        outputs: how many outputs or classes there are.
        kind: of the loss, as in `Reduction`.
        loss: its value.
        others: at other lengths, the same factor by T.
        said: sentences on how this came to be known.
    """

    steps: int | None = None
    sequences: int | None = None
    outputs: int | None = None
    kind: str = ""
    loss: float = float("nan")
    others: Mapping[int, Ratio] = field(default_factory=dict)
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Named:
    """What a factor stands for.

    Attributes:
        faults: one, or two whose factors multiply.
        facts: for their statements.
        evidence: sentences.
        alternatives: faults with the same factor.
        power: the factor grows as T to this power; None where only one length was looked at.
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


def named(ratio: Ratio, known: Known) -> Named:
    """The faults that a factor in every tensor stands for."""
    power = _power(ratio, known)
    evidence = [f"Every tensor is {ratio} times its numerical derivative."]
    evidence += _followed(ratio, known, power)
    meanings = [m for m in _meanings(known, power) if ratio.is_near(m.number)]
    facts = _facts(ratio, known)
    fewest = min((len(m.faults) for m in meanings), default=0)
    beside, said = _by_a_size(ratio) if not known.steps else ((), "")
    if not meanings or (beside and fewest > 1):  # a size that is not known is simpler than two
        evidence += [said] if said else []
        return Named(("scaled",), facts, tuple(evidence), beside, power)
    simplest = [m for m in meanings if len(m.faults) == fewest]
    first, others = simplest[0], simplest[1:]
    evidence.append(f"{ratio} = {first.words}.")
    evidence += known.said
    alternatives = [f for m in others for f in m.faults if f not in first.faults]
    alternatives += [f for f in beside if f not in first.faults]
    return Named(first.faults, facts, tuple(evidence), tuple(dict.fromkeys(alternatives)), power)


def _by_a_size(ratio: Ratio) -> tuple[tuple[str, ...], str]:
    """A whole number, or 1 over one, perhaps a size that is not known here: faults and words."""
    summed = ("summed_over_steps", "summed_over_batch", "averaged_over_outputs")
    averaged = ("averaged_over_steps", "divided_by_batch", "divided_by_classes")
    for power, words, faults in ((1, "", summed), (-1, "1/", averaged)):
        size = round(ratio.value**power)
        if size > 2 and ratio.is_near(float(size) ** power):
            said = f"{ratio} = {words}{size}: see whether T, B or another size is {size}."
            return faults, said
    return (), ""


def _power(ratio: Ratio, known: Known) -> int | None:
    """How the factor grows with T; None where that was not seen."""
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
    return abs(value / wanted - 1) <= 4 * error + 1e-9


def _followed(ratio: Ratio, known: Known, power: int | None) -> Iterator[str]:
    if known.others:
        seen = ", ".join(f"{r} at T = {steps}" for steps, r in sorted(known.others.items()))
        law = {-1: "It falls as 1/T", 0: "It does not depend on T", 1: "It grows with T"}
        lead = law[power] if power is not None else "It changes with T, as neither T nor 1/T does"
        yield f"{lead}: {seen}, {ratio} at T = {known.steps}."


def _meanings(known: Known, power: int | None) -> list[_Meaning]:
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


def _single(known: Known) -> Iterator[_Meaning]:
    """The likeliest first."""
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


def _facts(ratio: Ratio, known: Known) -> dict[str, str]:
    numbers = {"T": known.steps, "B": known.sequences, "O": known.outputs}
    return {"factor": str(ratio)} | {k: str(v) for k, v in numbers.items() if v}
