"""Every single edit of a derived step: of its terms, its factors, its δ, its operands."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from throughtime.diagnosis.mutants.slope_forms import FORMS, OPPOSITE
from throughtime.diagnosis.mutants.step_changes import (
    WAYS,
    ActivationSlope,
    Slot,
    SlotChange,
    StepMistake,
    changed,
    parts_of,
    replaced,
    slope_of,
)
from throughtime.diagnosis.mutants.step_view import StepView
from throughtime.equations import Node, Site, Term

MOST_IN_COMMON = 4  # places of one factor, in some of which it may be left out


class SingleEdits(StepView):
    """Edits without a history of their own."""

    def _common_factors(self) -> Iterator[StepMistake]:
        """A factor that stands in several places, left out in some of them."""
        places: dict[int, list[tuple[Site, Slot]]] = {}
        for site in self.sites:
            for place, term in enumerate(site.terms):
                for k, factor in enumerate(term.factors):
                    places.setdefault(factor.number, []).append((site, Slot(place, k)))
        for number, found in places.items():
            if not 2 <= len(found) <= MOST_IN_COMMON:
                continue
            expected = self.said(self.graph.nodes[number])
            for count in range(2, len(found) + 1):
                for chosen in combinations(found, count):
                    of = " and ".join(dict.fromkeys(self.of(site) for site, _ in chosen))
                    changes = [SlotChange(site, {slot: 1.0}) for site, slot in chosen]
                    facts = {"of": of, "used": "1", "expected": expected}
                    where = f"1 for {expected} in {of}"
                    yield self._mistake("wrong_operand_in_step", where, *changes, facts=facts)

    def _terms(self, site: Site) -> Iterator[StepMistake]:
        """Every term left out, counted twice, subtracted, or alone."""
        if site.summed:
            return  # what becomes of a whole tensor is read off
        of, several = self.of(site), len(site.terms) > 1
        end = site.target.number in self.ends
        if several and not end:
            nothing: dict[Slot, Node | float] = {
                Slot(k, "times"): 0.0 for k in range(len(site.terms))
            }
            facts = {"of": of, "used": "is missing", "expected": "all of it"}
            where = f"in {of}, all of it is missing"
            change = SlotChange(site, nothing)
            yield self._mistake("wrong_term_in_step", where, change, facts=facts)
        for place, term in enumerate(site.terms):
            if several and term.delta.operation == "arriving" and not term.factors:
                continue  # that is how what is carried is treated
            for how, times in WAYS.items():
                if end and not several and times >= 0:
                    continue
                slots: dict[Slot, Node | float] = {Slot(place, "times"): times * term.times}
                yield self._term(site, slots, of, how, term)
            if len(site.terms) > 2:
                others = {Slot(k, "times"): 0.0 for k in range(len(site.terms)) if k != place}
                yield self._term(site, dict(others), of, "takes the place of the others", term)

    def _term(
        self, site: Site, slots: dict[Slot, Node | float], of: str, how: str, term: Term
    ) -> StepMistake:
        expected = self.said(term.node())
        if len(site.terms) == 1:
            expected = "its only term"
        facts = {"of": of, "used": how, "expected": expected}
        where = f"in {of}, {expected} {how}"
        return self._mistake("wrong_term_in_step", where, SlotChange(site, slots), facts=facts)

    def _factors(self, site: Site) -> Iterator[StepMistake]:
        """Every factor left out, or another value of its shape in its place."""
        for place, term in enumerate(site.terms):
            slopes = [s for s in self.slopes if s.site is site and s.term == place]
            for slope in slopes:
                yield from self._slope_forms(slope)
            for k, factor in enumerate(term.factors):
                expected = self.said(factor)
                yield self._operand(site, {Slot(place, k): 1.0}, "1", expected)
                for value in self._like(factor):
                    new: dict[Slot, Node | float] = {Slot(place, k): value}
                    yield self._operand(site, new, self.said(value), expected)
                for words, value in self._at_other_steps(factor):
                    yield self._operand(site, {Slot(place, k): value}, words, expected)
                if factor.operation in ("add", "subtract"):
                    a, b = factor.operands
                    sign = -1 if factor.operation == "subtract" else 1
                    for own, times, kept in ((a, 1, sign * b), (b, sign, a)):
                        for other in self._like(own) if own.batched else ():
                            value = times * other + kept
                            if value.shape == factor.shape:
                                new = {Slot(place, k): value}
                                used = self.said(other)
                                words = f"{self.said(own)} of {expected}"
                                yield self._operand(site, new, used, words)
                        if own.batched and own.shape == factor.shape:
                            value = times * self._one_like(own) + kept
                            words = f"{self.said(own)} of {expected}"
                            yield self._operand(site, {Slot(place, k): value}, "1", words)
                    for value in (a, sign * b, a - sign * b):
                        fits = value.shape == factor.shape or value.value is not None
                        if fits:
                            new = {Slot(place, k): value}
                            yield self._operand(site, new, self.said(value), expected)

    def _one_like(self, value: Node) -> Node:
        return self.graph.apply("broadcast", self.graph.constant(1.0), shape=value.shape)

    def _like(self, factor: Node) -> Iterator[Node]:
        """Other values of the step with the shape of a factor."""
        for value in (*self.values, *self.vectors):
            if value is not factor and value.shape == factor.shape:
                yield value

    def _at_other_steps(self, factor: Node) -> Iterator[tuple[str, Node]]:
        if not factor.batched:
            return
        word = self.said(factor).removesuffix("_t").removesuffix("_{t−1}")
        before = self._before(factor) is not None
        for shift, step in ((-1, "t−2" if before else "t−1"), (1, "t+1")):
            if before and shift > 0:
                continue  # that is the state after the step
            yield f"{word}_{{{step}}}", self.cell.at_step(factor, shift)

    def _slope_forms(self, slope: ActivationSlope) -> Iterator[StepMistake]:
        """φ′ written wrongly, or that of another value."""
        forms = FORMS.get(slope.kind, {})
        expected = self._slope_words(slope)
        v = self.said(slope.value)
        for words, form in forms.items():
            if words in OPPOSITE:
                continue  # the same as the term with the wrong sign
            slots = replaced(slope, form(slope.value)).slots
            yield self._operand(slope.site, dict(slots), words.format(v=v), expected)
        inner = slope.value.operands[0]
        products = [n for n in self.values if n.operation == "multiply"]
        squares = [inner, *self.trace.after.values(), *products]
        squares = [value for value in squares if value.shape == inner.shape]
        for value in squares if slope.kind == "tanh" else ():
            slots = replaced(slope, 1 - value**2).slots
            yield self._operand(slope.site, dict(slots), f"1 − {self.said(value)}²", expected)
        for other in self.slopes:
            if other.value is slope.value or other.value.shape != slope.value.shape:
                continue
            if other.kind in ("sigmoid", "tanh"):
                slots = replaced(slope, slope_of(other.kind, other.value)).slots
                used = self._slope_words(other)
                yield self._operand(slope.site, dict(slots), used, expected)

    def _slope_words(self, slope: ActivationSlope) -> str:
        factors = slope.site.terms[slope.term].factors
        return " ⊙ ".join(
            f"({self.said(factors[k])})" if factors[k].operation == "subtract"
            else self.said(factors[k]) for k in slope.factors
        )  # fmt: skip

    def _deltas(self, site: Site) -> Iterator[StepMistake]:
        """Another δ of the same shape, or another value beside δ in a tensor's gradient."""
        for place, term in enumerate(site.terms):
            slot = Slot(place, "delta")
            delta = term.delta
            if delta.operation == "outer":
                yield from self._outer_operands(site, slot, delta)
            elif delta.operation == "matmul" and not self.cell.moves(delta.operands[0]):
                matrix, own = delta.operands
                for words, other in self._other_deltas(own, site):
                    yield self._operand(site, {slot: matrix @ other}, words, self.said(own))
            elif delta.operation == "concatenate":
                yield from self._parts_exchanged(site, slot, delta)
            else:
                for words, other in self._other_deltas(delta, site):
                    yield self._operand(site, {slot: other}, words, self.said(delta))

    def _outer_operands(self, site: Site, slot: Slot, outer: Node) -> Iterator[StepMistake]:
        for own in outer.operands:
            if self.cell.moves(own):
                for words, other in self._other_deltas(own, site):
                    new = self._outer(outer, {own.number: other})
                    yield self._operand(site, {slot: new}, words, self.said(own))
                continue
            inner = own.operands if own.operation == "multiply" else ()
            shifted = list(self._at_other_steps(own))
            for words, value in (
                *((self.said(n), n) for n in (*self._like(own), *inner)),
                *shifted,
            ):
                if value.shape == own.shape:
                    new = self._outer(outer, {own.number: value})
                    yield self._operand(site, {slot: new}, words, self.said(own))
            for part in inner:
                for value in self._like(part):
                    new_value = value * next(o for o in inner if o is not part)
                    new = self._outer(outer, {own.number: new_value})
                    used = self.said(new_value)
                    yield self._operand(site, {slot: new}, used, self.said(own))

    def _parts_exchanged(self, site: Site, slot: Slot, whole: Node) -> Iterator[StepMistake]:
        parts = whole.operands
        for a, b in combinations(range(len(parts)), 2):
            if parts[a].shape == parts[b].shape:
                new = list(parts)
                new[a], new[b] = parts[b], parts[a]
                node = self.graph.apply("concatenate", *new)
                names = [self.said(part).removeprefix("δ") for part in (parts[a], parts[b])]
                where = f"{names[0]} in the place of {names[1]}, {names[1]} in that of {names[0]}"
                change = SlotChange(site, {slot: node})
                facts = {"where": where}
                yield self._mistake("gates_permuted", where, change, facts=facts)

    def _other_deltas(self, own: Node, site: Site) -> Iterator[tuple[str, Node]]:
        """Other values of the backward pass that are known by then."""
        plain = self._plain(own)
        if plain is not None:
            yield f"{self.said(own)} without φ′", plain
        parts = parts_of(own)
        for k, part in enumerate(parts) if len(parts) > 1 else ():
            bare = self._plain(part)
            if bare is not None:
                new = [bare if j == k else other for j, other in enumerate(parts)]
                words = f"{self.said(part)} without φ′"
                yield words, self.graph.apply("concatenate", *new)
        for line in self.sites:
            before = site.summed or line.target.number <= site.target.number
            for term in line.terms if len(line.terms) > 1 and before and not line.summed else ():
                node = term.node()
                plain_state = term.delta.operation == "arriving" and not term.factors
                earlier = line.target.number < site.target.number or node is not own
                if node.shape == own.shape and term.times == 1 and earlier and not plain_state:
                    yield self.said(node), node
        arriving = list(self.backward.arriving.values())
        known = [other.target for other in self.sites if not other.summed]
        for other in (*arriving, *known):
            before = site.summed or other.number < site.target.number
            ends = other.number in self.ends or other is self.backward.inputs
            if other is not own and other.shape == own.shape and before and not ends:
                yield self.said(other), other

    def _plain(self, own: Node) -> Node | None:
        """δ before it meets the slope of its activation."""
        site = self.lets.get(own.number)
        if site is None:
            return None
        if len(site.terms) == 1 and site.terms[0].delta.operation == "concatenate":
            parts = site.terms[0].delta.operands
            plain = [self._plain(part) for part in parts]
            if not any(plain):
                return None
            found = (p or part for p, part in zip(plain, parts, strict=True))
            return self.graph.apply("concatenate", *found)
        slopes = [slope for slope in self.slopes if slope.site is site]
        if not slopes:
            return None
        slots: dict[Slot, Node | float] = {}
        for slope in slopes:
            slots |= replaced(slope, 1.0).slots
        return changed(site, slots)
