"""Changes of a derived step's lines, as a slip of the pen makes them.

A line is a sum of terms, each δ times factors. A change puts something else in the place of a
term's number, of its δ, or of a factor; several changes of a line go together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from throughtime.equations import Node, Site, Term


class Slot(NamedTuple):
    """A place in a line: of a term its number ("times"), its δ ("delta"), or a factor by number."""

    term: int
    part: str | int


@dataclass(frozen=True, eq=False)
class SlotChange:
    """Something else in some slots of a line."""

    site: Site
    slots: Mapping[Slot, Node | float]


@dataclass(frozen=True, eq=False)
class StepMistake:
    """One mistake.

    Attributes:
        fault: its identifier.
        where: what it concerns, in words.
        changes: of the lines.
        facts: for the fault's sentence.
        back: whether nothing but δ of the state before the step shows it, so that it needs T > 1.
        down: whether nothing but δ of the input shows it.
    """

    fault: str
    where: str
    changes: tuple[SlotChange, ...]
    facts: Mapping[str, str] = field(default_factory=dict)
    back: bool = False
    down: bool = False


def instead_of(changes: Iterable[SlotChange]) -> dict[int, Node]:
    """By the number of a value, what it is computed as with these changes."""
    by_site: dict[int, tuple[Site, dict[Slot, Node | float]]] = {}
    for change in changes:
        _, slots = by_site.setdefault(change.site.target.number, (change.site, {}))
        slots.update(change.slots)
    return {number: changed(site, slots) for number, (site, slots) in by_site.items()}


def changed(site: Site, slots: Mapping[Slot, Node | float]) -> Node:
    terms: dict[int, Term] = {}
    for (place, part), new in slots.items():
        term = terms.get(place, site.terms[place])
        if part == "times":
            assert isinstance(new, float)
            term = replace(term, times=new)
        elif part == "delta":
            assert isinstance(new, Node)
            term = replace(term, delta=new)
        else:
            assert isinstance(part, int)
            factors = list(term.factors)
            factors[part] = new if isinstance(new, Node) else site.target.graph.constant(new)
            term = replace(term, factors=tuple(factors))
        terms[place] = term
    return site.with_terms(terms)


WAYS = {"is missing": 0.0, "counts twice": 2.0, "has the wrong sign": -1.0}


class ActivationSlope(NamedTuple):
    """The derivative of an activation in a term: its kind, the activated value, and its factors."""

    site: Site
    term: int
    kind: str
    value: Node
    factors: tuple[int, ...]


def sum_of(nodes: Sequence[Node]) -> Node:
    total = nodes[0]
    for node in nodes[1:]:
        total = total + node
    return total


def parts_of(delta: Node) -> tuple[Node, ...]:
    """What a δ is put together from; itself where it is not."""
    inner = delta.operands[0] if delta.operation == "let" else delta
    return inner.operands if inner.operation == "concatenate" else (delta,)


def slopes_of(site: Site, of: Mapping[int, Node | None]) -> Iterator[ActivationSlope]:
    """The slopes of activations in a line; `of` tells which value a δ belongs to."""
    for place, term in enumerate(site.terms):
        for k, factor in enumerate(term.factors):
            if one_minus(factor):
                inner = factor.operands[1]
                square = inner.operation == "power" and inner.operands[1].value == 2
                if square and inner.operands[0].operation == "tanh":
                    yield ActivationSlope(site, place, "tanh", inner.operands[0], (k,))
                beside = [j for j, other in enumerate(term.factors) if other is inner]
                if inner.operation == "sigmoid" and beside:
                    yield ActivationSlope(site, place, "sigmoid", inner, (min(beside), k))
            elif factor.operation == "greater" and factor.operands[0].operation == "relu":
                yield ActivationSlope(site, place, "relu", factor.operands[0], (k,))
            elif factor.operation == "exp" and (
                site.of is factor.operands[0] or of.get(term.delta.number) is factor
            ):
                yield ActivationSlope(site, place, "exp", factor, (k,))


def one_minus(node: Node) -> bool:
    return node.operation == "subtract" and node.operands[0].value == 1


def replaced(slope: ActivationSlope, by: Node | float) -> SlotChange:
    first, *rest = slope.factors
    slots: dict[Slot, Node | float] = {Slot(slope.term, first): by}
    slots |= {Slot(slope.term, k): 1.0 for k in rest}
    return SlotChange(slope.site, slots)


def slope_of(kind: str, value: Node) -> Node:
    """φ′ in terms of the activated value."""
    if kind == "relu":
        return value.graph.apply("greater", value, 0.0)
    if kind == "exp":
        return value
    return 1 - value**2 if kind == "tanh" else value * (1 - value)
