"""Faults with a history, put into a derived step: slopes, paths, gates, states."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from throughtime.diagnosis.mutants.slope_forms import FORMS, RIGHT, WITH_PHI
from throughtime.diagnosis.mutants.step_changes import (
    Slot,
    SlotChange,
    StepMistake,
    one_minus,
    parts_of,
    replaced,
    slope_of,
)
from throughtime.diagnosis.mutants.step_view import StepView
from throughtime.equations import Node, Site, Term, reachable


class KnownMistakes(StepView):
    """Faults that people are known to make."""

    def _known_slopes(self) -> Iterator[StepMistake]:
        """Slopes that are missing, or taken of something else, in one place or in several."""
        of_states = [s for s in self.slopes if s.value.operands[0].number in self.after]
        inner = [s for s in self.slopes if s not in of_states]
        kinds = {kind: [s for s in inner if s.kind == kind] for kind in ("sigmoid", "tanh")}
        sets = [[slope] for slope in self.slopes]
        sets += [own for own in (*kinds.values(), inner, self.slopes) if len(own) > 1]
        sets += [list(pair) for pair in combinations(inner, 2)] if len(inner) > 2 else []
        for own in sets:
            where = ", ".join(dict.fromkeys(self.of(slope.site) for slope in own))
            gone = [replaced(slope, 1.0) for slope in own]
            yield self._mistake("derivative_missing", where, *gone)
        for own in sets:
            if any(slope.kind not in ("tanh", "sigmoid") for slope in own):
                continue
            where = ", ".join(dict.fromkeys(self.of(slope.site) for slope in own))
            again = [replaced(s, slope_of(s.kind, self.graph.apply(s.kind, s.value))) for s in own]
            yield self._mistake("derivative_of_activated_value", where, *again)
            for words, wrong_form in WITH_PHI.items():
                wrong = [
                    replaced(s, wrong_form(s.value, self.graph.apply(s.kind, s.value))) for s in own
                ]
                yield self._mistake("activation_for_derivative", f"{words} of {where}", *wrong)
        for kind, forms in FORMS.items():
            for words, form in forms.items() if len(kinds[kind]) > 1 else ():
                own = kinds[kind]
                where = " and ".join(self.of(slope.site) for slope in own)
                used, expected = words.format(v="v"), RIGHT[kind].format(v="v")
                wrong = [replaced(slope, form(slope.value)) for slope in own]
                facts = {"of": where, "used": used, "expected": expected}
                where = f"{used} for {expected} in {where}"
                yield self._mistake("wrong_operand_in_step", where, *wrong, facts=facts)
        for slope in self.slopes:
            before = self._of_the_state_before(slope.value)
            if before is not None:
                name, value = before
                wrong_slope = replaced(slope, slope_of(slope.kind, value))
                where = f"{name}_{{t−1}}"
                yield self._mistake("slope_of_previous_state", where, wrong_slope)

    def _of_the_state_before(self, value: Node) -> tuple[str, Node] | None:
        """The activated value as it would be at the state before the step."""
        if value.number in self.after:
            name = self.after[value.number]
            return name, self.trace.states[name]
        inner = value.operands[0]
        if inner.number in self.after:
            name = self.after[inner.number]
            return name, self.graph.apply(value.operation, self.trace.states[name])
        return None

    def _paths(self) -> Iterator[StepMistake]:
        """Ways back that are left out: the direct one, those through gates, through peepholes."""
        peepholes: list[SlotChange] = []
        names: list[str] = []
        for site in self.sites:
            if len(site.terms) < 2 or site.summed:
                continue
            end = self.ends.get(site.target.number)
            direct = [k for k, term in enumerate(site.terms) if self._directly(term)]
            rest = [k for k in range(len(site.terms)) if k not in direct]
            if end == self.output and direct and rest:
                for fault, gone in (("direct_path_missing", direct), ("direct_path_only", rest)):
                    slots: dict[Slot, Node | float] = {Slot(k, "times"): 0.0 for k in gone}
                    yield self._mistake(fault, "", SlotChange(site, slots))
            seen = {
                k: factor
                for k, term in enumerate(site.terms)
                for factor in term.factors
                if factor in self.vectors
            }
            if len(seen) > 1:
                cuts: dict[Slot, Node | float] = {Slot(k, "times"): 0.0 for k in seen}
                where = " and ".join(map(self.said, seen.values()))
                yield self._mistake("peephole_path_missing", where, SlotChange(site, cuts))
            for k, vector in seen.items():
                name = self.said(vector)
                cut = SlotChange(site, {Slot(k, "times"): 0.0})
                yield self._mistake("peephole_path_missing", name, cut)
                peepholes.append(cut)
                names.append(name)
        if len(peepholes) > 1:
            yield self._mistake("peephole_path_missing", " and ".join(names), *peepholes)
        for site in self.sites:
            for place, term in enumerate(site.terms):
                for k, factor in enumerate(term.factors):
                    if factor.operation in ("add", "subtract"):
                        a, b = factor.operands
                        state = b if self._is_state(b) else a if self._is_state(a) else None
                        if state is None or a.value is not None:
                            continue
                        left = a if state is b else (b if factor.operation == "add" else -b)
                        slots = {Slot(place, k): left}
                        of = self.of(site)
                        yield self._mistake("update_gate_term_missing", of, SlotChange(site, slots))

    def _directly(self, term: Term) -> bool:
        """Whether a term is what arrives, times values of the step."""
        delta = term.delta
        lined = self.lets.get(delta.number)
        of_state = lined is not None and lined.of is not None and lined.of.number in self.after
        return delta.operation == "arriving" or of_state

    def _exchanged(self) -> Iterator[StepMistake]:
        """The operands of a product, or the two shares of an update gate, exchanged."""
        forward = reachable(self.trace.after.values())
        for product in forward:
            if product.operation != "multiply" or not all(o.batched for o in product.operands):
                continue
            a, b = product.operands
            both = [self._multiplied_by(a, b), self._multiplied_by(b, a)]
            if all(both):
                changes = [
                    SlotChange(site, {slot: own}) for pair in both for site, slot, own in pair
                ]
                where = " and ".join(self.of(change.site) for change in changes)
                kinds = {a.operation, b.operation}
                swapped = kinds == {"sigmoid", "tanh"}
                yield self._mistake(
                    "gates_swapped_in_dc" if swapped else "wrong_operand_in_step",
                    where,
                    *changes,
                    facts={"of": where, "used": f"{self.said(a)} and {self.said(b)}",
                           "expected": f"{self.said(b)} and {self.said(a)}"},
                )  # fmt: skip
        for gate in forward:
            if gate.operation == "sigmoid":
                yield from self._shares(gate)

    def _multiplied_by(self, own: Node, other: Node) -> list[tuple[Site, Slot, Node]]:
        """Where δ of one operand of a product is made with the other: there its own may stand."""
        found = []
        for site in self.sites:
            inner = own.operands[0] if own.operands else own
            if site.of is None or site.of.number not in (own.number, inner.number):
                continue
            for place, term in enumerate(site.terms):
                taken = {k for s in self.slopes if s.site is site for k in s.factors}
                for k, factor in enumerate(term.factors):
                    if factor is other and k not in taken:
                        found.append((site, Slot(place, k), own))
        return found[:1]

    def _shares(self, gate: Node) -> Iterator[StepMistake]:
        """z for 1 − z and 1 − z for z, in one place or in all of them."""
        share, rest = gate, 1 - gate
        places: list[tuple[str, SlotChange]] = []
        for site in self.sites:
            taken = {
                (s.term, k) for s in self.slopes if s.site is site for k in s.factors
            }  # of its own slope
            for place, term in enumerate(site.terms):
                for k, factor in enumerate(term.factors):
                    if (place, k) in taken:
                        continue
                    if factor in (share, rest):
                        other = rest if factor is share else share
                        places.append((self.of(site), SlotChange(site, {Slot(place, k): other})))
                    of_gate = site.of in (gate, gate.operands[0])
                    if of_gate and factor.operation == "subtract" and not one_minus(factor):
                        sign: dict[Slot, Node | float] = {Slot(place, "times"): -term.times}
                        places.append((self.of(site), SlotChange(site, sign)))
        kept = {self.said(n) for _, c in places for n in c.slots.values() if isinstance(n, Node)}
        if len(kept) < 2:
            return  # it is no update gate, whose two shares both occur
        for count in (1, len(places), 2):
            for chosen in combinations(places, count):
                where = " and ".join(name for name, _ in chosen)
                yield self._mistake("update_gate_exchanged", where, *(c for _, c in chosen))

    def _states(self, site: Site) -> Iterator[StepMistake]:
        """The state after the step for the one before it."""
        for place, term in enumerate(site.terms):
            for k, factor in enumerate(term.factors):
                name = self._before(factor)
                if name is not None and (site.summed or name != self.output):
                    own = SlotChange(site, {Slot(place, k): self.trace.after[name]})
                    yield self._mistake(self._current(name), self._where(site, name), own)
                if factor.operation in ("add", "subtract"):
                    for name in map(self._before, factor.operands):
                        if name is not None and name != self.output:
                            instead = [self._now(operand) for operand in factor.operands]
                            new = self.graph.apply(factor.operation, *instead)
                            own = SlotChange(site, {Slot(place, k): new})
                            yield self._mistake(self._current(name), self._where(site, name), own)
            if term.delta.operation != "outer":
                continue
            state = next((o for o in term.delta.operands if self._before(o) is not None), None)
            if state is not None:
                name = self._before(state)
                assert name is not None
                new = self._outer(term.delta, {state.number: self.trace.after[name]})
                change = SlotChange(site, {Slot(place, "delta"): new})
                yield self._mistake(self._current(name), self._where(site, name), change)
                yield from self._states_of_gates(site, place, term.delta, state, name)

    def _states_of_gates(
        self, site: Site, place: int, outer: Node, state: Node, name: str
    ) -> Iterator[StepMistake]:
        """The same in the rows of one gate alone."""
        delta = outer.operands[0]
        parts = parts_of(delta)
        if len(parts) < 2 or state is not outer.operands[1]:
            return
        for k, own in enumerate(parts):
            rows = [
                self.graph.apply("outer", part, self.trace.after[name] if part is own else state)
                for part in parts
            ]
            whole = self.graph.apply("concatenate", *rows)
            where = f"{self.of(site)}, {self._part_name(delta, k)}"
            change = SlotChange(site, {Slot(place, "delta"): whole})
            yield self._mistake(self._current(name), where, change)
