"""What a slip of the pen makes of a derived step: changes of its lines, each with its fault.

A line is a sum of terms, each δ times factors. A change puts something else in the place of a
term's number, of its δ, or of a factor; several changes of a line go together. Which fault a change
is follows from what stands there: a slope, a state, a matrix, or any other value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations, permutations
from typing import NamedTuple

from throughtime.diagnosis.mutants.equation_cell import EquationCell
from throughtime.diagnosis.mutants.slope_forms import (
    FORMS,
    OPPOSITE,
    RIGHT,
    WITH_PHI,
)
from throughtime.equations import (
    TEXT,
    Node,
    Site,
    Term,
    Writer,
    reachable,
    sites_of,
)


class Slot(NamedTuple):
    """A place in a line: of a term its number ("times"), its δ ("delta"), or a factor by number."""

    term: int
    part: str | int


@dataclass(frozen=True, eq=False)
class Change:
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
    changes: tuple[Change, ...]
    facts: Mapping[str, str] = field(default_factory=dict)
    back: bool = False
    down: bool = False


@lru_cache(maxsize=16)
def mistakes_of(cell: EquationCell) -> list[StepMistake]:
    """All mistakes of a cell's step, each once."""
    return StepMistakes(cell).all()


def instead_of(changes: Iterable[Change]) -> dict[int, Node]:
    """By the number of a value, what it is computed as with these changes."""
    by_site: dict[int, tuple[Site, dict[Slot, Node | float]]] = {}
    for change in changes:
        _, slots = by_site.setdefault(change.site.target.number, (change.site, {}))
        slots.update(change.slots)
    return {number: _changed(site, slots) for number, (site, slots) in by_site.items()}


def _changed(site: Site, slots: Mapping[Slot, Node | float]) -> Node:
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


class Slope(NamedTuple):
    """The derivative of an activation in a term: its kind, the activated value, and its factors."""

    site: Site
    term: int
    kind: str
    value: Node
    factors: tuple[int, ...]


MOST_PERMUTED = 4  # gates, of which every order is tried
MOST_GATED = 4  # products of a gate and a state that may be taken for another value
WAYS = {"is missing": 0.0, "counts twice": 2.0, "has the wrong sign": -1.0}


class StepMistakes:
    """Finds all mistakes of a step.

    Args:
        cell: the cell.
    """

    def __init__(self, cell: EquationCell) -> None:
        self.cell, self.backward = cell, cell.backward
        self.trace, self.graph = cell.backward.trace, cell.backward.trace.graph
        self.writer = Writer(cell.backward, TEXT, shared=False)
        self.sites = sites_of(cell.backward)
        self.ends = {node.number: name for name, node in cell.backward.deltas.items()}
        self.output = next(iter(self.trace.states))
        self.after = {node.number: name for name, node in self.trace.after.items()}
        forward = reachable(self.trace.after.values())
        multiplied = {o.number for n in forward if n.operation == "matmul" for o in n.operands}
        named = [n for n in forward if n.number in {*self.backward.names, *multiplied}]
        named = [n for n in named if not n.leaf]
        given = [self.trace.inputs, *self.trace.states.values()]
        self.values = [n for n in (*given, *named) if n.batched]
        self.values += [1 - n for n in named if n.operation == "sigmoid"]
        self.values += [
            self.graph.apply(n.operation, self.trace.states[self.after[n.operands[0].number]])
            for n in named
            if n.operation in ("tanh", "sigmoid") and n.operands[0].number in self.after
        ]
        taken = {value.number for value in self.values}
        factors = [f for site in self.sites for term in site.terms for f in term.factors]
        shares = [f for f in dict.fromkeys(factors) if f.operation == "add" and f.batched]
        self.values += [f for f in shares if f.number not in taken]
        gates = [n for n in named if n.operation == "sigmoid"]
        states = [node for node in self.trace.states.values() if len(node.shape) == 1]
        pairs = [(a, b) for a in gates for b in states if a.shape == b.shape]
        gated = [self.graph.apply("multiply", a, b) for a, b in pairs[:MOST_GATED]]
        self.values += [node for node in gated if node.number not in taken]
        self.vectors = [
            node for name, node in self.trace.parameters.items() if cell.kinds[name].letter == "p"
        ]
        flat = ("parameter", "part")
        self.matrices = [
            n for n in forward if not n.batched and len(n.shape) == 2 and n.operation in flat
        ]
        lets = {site.target.number: site for site in self.sites if site.target.operation == "let"}
        self.lets = lets
        of = {number: site.of for number, site in lets.items()}
        self.slopes = [slope for site in self.sites for slope in _slopes_of(site, of)]

    def all(self) -> list[StepMistake]:
        """All of them, each once; where several are the same, the one that is named first."""
        found: list[StepMistake] = []
        known: set[tuple[tuple[int, int], ...]] = set()
        for one in self._all():
            nodes = instead_of(one.changes)
            key = tuple(sorted((number, node.number) for number, node in nodes.items()))
            same = any(number == node.number for number, node in nodes.items())
            if key not in known and not same and all(self._fits(*pair) for pair in nodes.items()):
                known.add(key)
                found.append(one)
        return found

    def _fits(self, number: int, node: Node) -> bool:
        return self.graph.nodes[number].shape == node.shape

    def _all(self) -> Iterator[StepMistake]:
        yield from self._known_slopes()
        yield from self._paths()
        yield from self._exchanged()
        for site in self.sites:
            yield from self._states(site)
            yield from self._matrices(site)
        for site in self.sites:
            yield from self._terms(site)
            yield from self._factors(site)
            yield from self._deltas(site)
        yield from self._common_factors()

    # --- words ---

    def said(self, node: Node) -> str:
        """A value in words."""
        return self.writer.expression(node)

    def of(self, site: Site) -> str:
        """What a line computes, in words."""
        if site.summed:
            users = [n for n in self.graph.nodes if site.target in n.operands]
            names = [self.writer.names[n.number] for n in users if n.number in self.writer.names]
            return names[0] if names else self.said(site.target)
        return self.said(site.target)

    def _mistake(
        self, fault: str, where: str, *changes: Change, facts: Mapping[str, str] | None = None
    ) -> StepMistake:
        targets = {change.site.target.number for change in changes}
        end = self.backward.inputs
        down = end is not None and targets == {end.number}
        return StepMistake(fault, where, changes, facts or {}, targets <= set(self.ends), down)

    def _operand(self, site: Site, slots: dict[Slot, Node | float], used: str, expected: str,
                 fault: str = "wrong_operand_in_step") -> StepMistake:  # fmt: skip
        of = self.of(site)
        facts = {"of": of, "used": used, "expected": expected}
        where = f"{used} for {expected} in {of}"
        return self._mistake(fault, where, Change(site, slots), facts=facts)

    # --- faults with a history ---

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
            gone = [_replaced(slope, 1.0) for slope in own]
            yield self._mistake("derivative_missing", where, *gone)
        for own in sets:
            if any(slope.kind not in ("tanh", "sigmoid") for slope in own):
                continue
            where = ", ".join(dict.fromkeys(self.of(slope.site) for slope in own))
            again = [
                _replaced(s, _slope_of(s.kind, self.graph.apply(s.kind, s.value))) for s in own
            ]
            yield self._mistake("derivative_of_activated_value", where, *again)
            for words, form in WITH_PHI.items():
                wrong = [
                    _replaced(s, form(s.value, self.graph.apply(s.kind, s.value))) for s in own
                ]
                yield self._mistake("activation_for_derivative", f"{words} of {where}", *wrong)
        for kind, forms in FORMS.items():
            for words, form in forms.items() if len(kinds[kind]) > 1 else ():
                own = kinds[kind]
                where = " and ".join(self.of(slope.site) for slope in own)
                used, expected = words.format(v="v"), RIGHT[kind].format(v="v")
                wrong = [_replaced(slope, form(slope.value)) for slope in own]
                facts = {"of": where, "used": used, "expected": expected}
                where = f"{used} for {expected} in {where}"
                yield self._mistake("wrong_operand_in_step", where, *wrong, facts=facts)
        for slope in self.slopes:
            before = self._of_the_state_before(slope.value)
            if before is not None:
                name, value = before
                wrong_slope = _replaced(slope, _slope_of(slope.kind, value))
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
        peepholes: list[Change] = []
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
                    yield self._mistake(fault, "", Change(site, slots))
            seen = {
                k: factor
                for k, term in enumerate(site.terms)
                for factor in term.factors
                if factor in self.vectors
            }
            if len(seen) > 1:
                cuts: dict[Slot, Node | float] = {Slot(k, "times"): 0.0 for k in seen}
                where = " and ".join(map(self.said, seen.values()))
                yield self._mistake("peephole_path_missing", where, Change(site, cuts))
            for k, vector in seen.items():
                name = self.said(vector)
                cut = Change(site, {Slot(k, "times"): 0.0})
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
                        yield self._mistake("update_gate_term_missing", of, Change(site, slots))

    def _directly(self, term: Term) -> bool:
        """Whether a term is what arrives, times values of the step."""
        delta = term.delta
        lined = self.lets.get(delta.number)
        of_state = lined is not None and lined.of is not None and lined.of.number in self.after
        return delta.operation == "arriving" or of_state

    def _is_state(self, node: Node) -> bool:
        return node in self.trace.states.values()

    def _exchanged(self) -> Iterator[StepMistake]:
        """The operands of a product, or the two shares of an update gate, exchanged."""
        forward = reachable(self.trace.after.values())
        for product in forward:
            if product.operation != "multiply" or not all(o.batched for o in product.operands):
                continue
            a, b = product.operands
            both = [self._multiplied_by(a, b), self._multiplied_by(b, a)]
            if all(both):
                changes = [Change(site, {slot: own}) for pair in both for site, slot, own in pair]
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
        places: list[tuple[str, Change]] = []
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
                        places.append((self.of(site), Change(site, {Slot(place, k): other})))
                    of_gate = site.of in (gate, gate.operands[0])
                    if of_gate and factor.operation == "subtract" and not _one_minus(factor):
                        sign: dict[Slot, Node | float] = {Slot(place, "times"): -term.times}
                        places.append((self.of(site), Change(site, sign)))
        kept = {self.said(n) for _, c in places for n in c.slots.values() if isinstance(n, Node)}
        if len(kept) < 2:
            return  # it is no update gate, whose two shares both occur
        for count in (1, len(places), 2):
            for chosen in combinations(places, count):
                where = " and ".join(name for name, _ in chosen)
                yield self._mistake("update_gate_exchanged", where, *(c for _, c in chosen))

    def _common_factors(self) -> Iterator[StepMistake]:
        """A factor that stands in several places, left out in some of them."""
        places: dict[int, list[tuple[Site, Slot]]] = {}
        for site in self.sites:
            for place, term in enumerate(site.terms):
                for k, factor in enumerate(term.factors):
                    places.setdefault(factor.number, []).append((site, Slot(place, k)))
        for number, found in places.items():
            if not 2 <= len(found) <= MOST_PERMUTED:
                continue
            expected = self.said(self.graph.nodes[number])
            for count in range(2, len(found) + 1):
                for chosen in combinations(found, count):
                    of = " and ".join(dict.fromkeys(self.of(site) for site, _ in chosen))
                    changes = [Change(site, {slot: 1.0}) for site, slot in chosen]
                    facts = {"of": of, "used": "1", "expected": expected}
                    where = f"1 for {expected} in {of}"
                    yield self._mistake("wrong_operand_in_step", where, *changes, facts=facts)

    def _states(self, site: Site) -> Iterator[StepMistake]:
        """The state after the step for the one before it."""
        for place, term in enumerate(site.terms):
            for k, factor in enumerate(term.factors):
                name = self._before(factor)
                if name is not None and (site.summed or name != self.output):
                    own = Change(site, {Slot(place, k): self.trace.after[name]})
                    yield self._mistake(self._current(name), self._where(site, name), own)
                if factor.operation in ("add", "subtract"):
                    for name in map(self._before, factor.operands):
                        if name is not None and name != self.output:
                            instead = [self._now(operand) for operand in factor.operands]
                            new = self.graph.apply(factor.operation, *instead)
                            own = Change(site, {Slot(place, k): new})
                            yield self._mistake(self._current(name), self._where(site, name), own)
            if term.delta.operation != "outer":
                continue
            state = next((o for o in term.delta.operands if self._before(o) is not None), None)
            if state is not None:
                name = self._before(state)
                assert name is not None
                new = self._outer(term.delta, {state.number: self.trace.after[name]})
                change = Change(site, {Slot(place, "delta"): new})
                yield self._mistake(self._current(name), self._where(site, name), change)
                yield from self._states_of_gates(site, place, term.delta, state, name)

    def _states_of_gates(
        self, site: Site, place: int, outer: Node, state: Node, name: str
    ) -> Iterator[StepMistake]:
        """The same in the rows of one gate alone."""
        delta = outer.operands[0]
        parts = _parts(delta)
        if len(parts) < 2 or state is not outer.operands[1]:
            return
        for k, own in enumerate(parts):
            rows = [
                self.graph.apply("outer", part, self.trace.after[name] if part is own else state)
                for part in parts
            ]
            whole = self.graph.apply("concatenate", *rows)
            where = f"{self.of(site)}, {self._part_name(delta, k)}"
            change = Change(site, {Slot(place, "delta"): whole})
            yield self._mistake(self._current(name), where, change)

    def _where(self, site: Site, name: str) -> str:
        """A line, with the state that it is about where a cell has several beside the output."""
        words = f", {name}_t for {name}_{{t−1}}" if len(self.ends) > 2 else ""
        return self.of(site) + words

    def _current(self, name: str) -> str:
        """The fault of a state after the step in the place of the one before it."""
        return "current_h_for_previous" if name == self.output else "current_c_for_previous"

    def _now(self, node: Node) -> Node:
        """A state before the step as it is after it; any other value as it is."""
        name = self._before(node)
        return node if name is None else self.trace.after[name]

    def _before(self, node: Node) -> str | None:
        """The state that a node is before the step."""
        return next((n for n, own in self.trace.states.items() if own is node), None)

    def _outer(self, outer: Node, instead: Mapping[int, Node]) -> Node:
        return self.graph.apply("outer", *(instead.get(o.number, o) for o in outer.operands))

    def _part_name(self, whole: Node, k: int) -> str:
        return self.said(_parts(whole)[k])

    # --- matrices ---

    def _matrices(self, site: Site) -> Iterator[StepMistake]:
        """A product of a matrix and δ: not transposed, another one, gates mixed up."""
        if site.summed:
            return
        for place, term in enumerate(site.terms):
            product = term.delta
            if product.operation != "matmul" or self.cell.moves(product.operands[0]):
                continue
            matrix, delta = product.operands
            slot = Slot(place, "delta")
            yield from self._untransposed(site, slot, matrix, delta)
            parts = _parts(delta)
            yield from self._gates(site, slot, matrix, delta, parts)
            turned = matrix.operation == "transpose"
            own = matrix.operands[0] if turned else matrix
            for other in self.matrices:
                if other is not own and other.shape == own.shape:
                    new = self.graph.apply("transpose", other) if turned else other
                    where = f"{self.said(other)} for {self.said(own)} in {self.of(site)}"
                    change = Change(site, {slot: new @ delta})
                    yield self._mistake("wrong_matrix", where, change)
            yield from self._columns(site, slot, matrix, delta)

    def _columns(self, site: Site, slot: Slot, matrix: Node, delta: Node) -> Iterator[StepMistake]:
        """The wrong columns, where one matrix holds those of x and of h side by side."""
        rows = matrix.shape[0]
        for other in self.matrices:
            beside = self.graph.apply("transpose", other)
            if matrix.operation != "transpose" or beside.shape[1] != matrix.shape[1]:
                continue
            own, width = matrix.operands[0], beside.shape[0]
            users = [n for n in self.graph.nodes if n.operation == "matmul" and other in n.operands]
            if other is own or not any(self.trace.inputs in n.operands for n in users):
                continue
            names = self.said(own), self.said(other)
            both = self.graph.apply("concatenate", matrix, beside)
            turned = self.graph.apply("concatenate", beside, matrix)
            again = self.graph.apply("concatenate", *[beside] * (rows // width + 1))
            for words, whole, start in (
                (f"the last columns of [{names[0]}, {names[1]}]", both, width),
                (f"the first columns of [{names[1]}, {names[0]}]", turned, 0),
                (f"the columns of {names[1]} over and over", again, 0),
            ):
                part = self.graph.apply("part", whole, start=start, stop=start + rows)
                change = Change(site, {slot: part @ delta})
                where = f"{words} in {self.of(site)}"
                yield self._mistake("wrong_matrix", where, change)

    def _untransposed(
        self, site: Site, slot: Slot, matrix: Node, delta: Node
    ) -> Iterator[StepMistake]:
        rows, columns = matrix.shape
        own = matrix.operands[0] if matrix.operation == "transpose" else matrix
        recurrent = self._recurrent(own)

        def named(new: Node, words: str) -> StepMistake:
            change = Change(site, {slot: new})
            if recurrent:
                return self._mistake("recurrent_untransposed", words, change)
            turned, straight = self.said(matrix @ delta), f"{self.said(own)} {self.said(delta)}"
            return self._operand(site, {slot: new}, straight, turned)

        turned = self.graph.apply("transpose", matrix)
        if rows == columns:
            yield named(turned @ delta, self.of(site))
        parts = _parts(delta)
        if matrix.operation != "transpose" or len(parts) < 2:
            return
        if any(part.shape != (rows,) for part in parts):
            return
        blocks = [self.graph.apply("part", own, start=k * rows, stop=(k + 1) * rows)
                  for k in range(len(parts))]  # fmt: skip
        straight = [block @ part for block, part in zip(blocks, parts, strict=True)]
        right = [
            self.graph.apply("transpose", b) @ part for b, part in zip(blocks, parts, strict=True)
        ]
        yield named(_sum(straight), self.of(site))
        for count in (1, *((2,) if len(parts) == 3 else ())):
            for chosen in combinations(range(len(parts)), count):
                mixed = [straight[j] if j in chosen else right[j] for j in range(len(parts))]
                names = " and ".join(self._part_name(delta, k) for k in chosen)
                yield named(_sum(mixed), f"gate {names}")

    def _recurrent(self, matrix: Node) -> bool:
        """Whether a matrix multiplies the state before the step, perhaps gated."""
        states = {node.number for node in self.trace.states.values()}
        for node in reachable(self.trace.after.values()):
            if node.operation == "matmul" and matrix in node.operands:
                other = node.operands[1] if node.operands[0] is matrix else node.operands[0]
                gated = other.operands if other.operation == "multiply" else (other,)
                if any(one.number in states for one in gated):
                    return True
        return False

    def _gates(
        self, site: Site, slot: Slot, matrix: Node, delta: Node, parts: Sequence[Node]
    ) -> Iterator[StepMistake]:
        n = len(parts)
        if n < 2:
            return

        def with_parts(new: Sequence[Node]) -> dict[Slot, Node | float]:
            return {slot: matrix @ self.graph.apply("concatenate", *new)}

        of, names = self.of(site), [self.said(part).removeprefix("δ") for part in parts]
        for part in parts:
            for how, times in WAYS.items():
                new = [times * p if p is part else p for p in parts]
                expected = f"the product with {self.said(part)}"
                facts = {"of": of, "used": how, "expected": expected}
                change = Change(site, with_parts(new))
                where = f"in {of}, {expected} {how}"
                yield self._mistake("wrong_term_in_step", where, change, facts=facts)
        if len({part.shape for part in parts}) > 1:
            return
        word = self.said(matrix.operands[0] if matrix.operation == "transpose" else matrix)
        zero = [0.0 * part for part in parts]
        for k in range(n):
            all_of_it = [_sum(parts) if j == k else zero[j] for j in range(n)]
            change = Change(site, with_parts(all_of_it))
            yield self._mistake("wrong_matrix", f"{word} of {names[k]} for every gate", change)
        for order in permutations(range(n)) if n <= MOST_PERMUTED else _swaps(n):
            moved = [k for k in range(n) if order[k] != k]
            if not moved:
                continue
            swapped = " and ".join(names[k] for k in moved)
            where = f"{word} of {swapped} in another order"
            change = Change(site, with_parts([parts[k] for k in order]))
            yield self._mistake("wrong_matrix", where, change)
        for a, b in permutations(range(n), 2):
            new = list(zero)
            for k in range(n):
                new[k] = parts[k] if k not in (a, b) else zero[k]
            new[b] = parts[b] + parts[a]
            change = Change(site, with_parts(new))
            yield self._mistake(
                "wrong_matrix", f"{word} of {names[b]} for that of {names[a]}", change
            )

    # --- every single edit of a line ---

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
            change = Change(site, nothing)
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
        return self._mistake("wrong_term_in_step", where, Change(site, slots), facts=facts)

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

    def _slope_forms(self, slope: Slope) -> Iterator[StepMistake]:
        """φ′ written wrongly, or that of another value."""
        forms = FORMS.get(slope.kind, {})
        expected = self._slope_words(slope)
        v = self.said(slope.value)
        for words, form in forms.items():
            if words in OPPOSITE:
                continue  # the same as the term with the wrong sign
            slots = _replaced(slope, form(slope.value)).slots
            yield self._operand(slope.site, dict(slots), words.format(v=v), expected)
        inner = slope.value.operands[0]
        products = [n for n in self.values if n.operation == "multiply"]
        squares = [inner, *self.trace.after.values(), *products]
        squares = [value for value in squares if value.shape == inner.shape]
        for value in squares if slope.kind == "tanh" else ():
            slots = _replaced(slope, 1 - value**2).slots
            yield self._operand(slope.site, dict(slots), f"1 − {self.said(value)}²", expected)
        for other in self.slopes:
            if other.value is slope.value or other.value.shape != slope.value.shape:
                continue
            if other.kind in ("sigmoid", "tanh"):
                slots = _replaced(slope, _slope_of(other.kind, other.value)).slots
                used = self._slope_words(other)
                yield self._operand(slope.site, dict(slots), used, expected)

    def _slope_words(self, slope: Slope) -> str:
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
                change = Change(site, {slot: node})
                facts = {"where": where}
                yield self._mistake("gates_permuted", where, change, facts=facts)

    def _other_deltas(self, own: Node, site: Site) -> Iterator[tuple[str, Node]]:
        """Other values of the backward pass that are known by then."""
        plain = self._plain(own)
        if plain is not None:
            yield f"{self.said(own)} without φ′", plain
        parts = _parts(own)
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
            slots |= _replaced(slope, 1.0).slots
        return _changed(site, slots)


def _swaps(n: int) -> Iterator[tuple[int, ...]]:
    """Orders in which two have changed places, or all have moved on."""
    for a, b in combinations(range(n), 2):
        yield tuple(b if k == a else a if k == b else k for k in range(n))
    for by in range(1, n):
        yield tuple((k - by) % n for k in range(n))


def _sum(nodes: Sequence[Node]) -> Node:
    total = nodes[0]
    for node in nodes[1:]:
        total = total + node
    return total


def _parts(delta: Node) -> tuple[Node, ...]:
    """What a δ is put together from; itself where it is not."""
    inner = delta.operands[0] if delta.operation == "let" else delta
    return inner.operands if inner.operation == "concatenate" else (delta,)


def _slopes_of(site: Site, of: Mapping[int, Node | None]) -> Iterator[Slope]:
    """The slopes of activations in a line; `of` tells which value a δ belongs to."""
    for place, term in enumerate(site.terms):
        for k, factor in enumerate(term.factors):
            if _one_minus(factor):
                inner = factor.operands[1]
                square = inner.operation == "power" and inner.operands[1].value == 2
                if square and inner.operands[0].operation == "tanh":
                    yield Slope(site, place, "tanh", inner.operands[0], (k,))
                beside = [j for j, other in enumerate(term.factors) if other is inner]
                if inner.operation == "sigmoid" and beside:
                    yield Slope(site, place, "sigmoid", inner, (min(beside), k))
            elif factor.operation == "greater" and factor.operands[0].operation == "relu":
                yield Slope(site, place, "relu", factor.operands[0], (k,))
            elif factor.operation == "exp" and (
                site.of is factor.operands[0] or of.get(term.delta.number) is factor
            ):
                yield Slope(site, place, "exp", factor, (k,))


def _one_minus(node: Node) -> bool:
    return node.operation == "subtract" and node.operands[0].value == 1


def _replaced(slope: Slope, by: Node | float) -> Change:
    first, *rest = slope.factors
    slots: dict[Slot, Node | float] = {Slot(slope.term, first): by}
    slots |= {Slot(slope.term, k): 1.0 for k in rest}
    return Change(slope.site, slots)


def _slope_of(kind: str, value: Node) -> Node:
    """φ′ in terms of the activated value."""
    if kind == "relu":
        return value.graph.apply("greater", value, 0.0)
    if kind == "exp":
        return value
    return 1 - value**2 if kind == "tanh" else value * (1 - value)
