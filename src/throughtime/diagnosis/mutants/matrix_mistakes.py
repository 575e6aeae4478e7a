"""Products of a matrix and δ that are wrong: not transposed, another matrix, gates mixed up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations

from throughtime.diagnosis.mutants.step_changes import (
    WAYS,
    Slot,
    SlotChange,
    StepMistake,
    parts_of,
    sum_of,
)
from throughtime.diagnosis.mutants.step_view import StepView
from throughtime.equations import Node, Site, reachable

MOST_PERMUTED = 4  # gates, of which every order is tried


class MatrixMistakes(StepView):
    """Mistakes in products of matrices and δ."""

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
            parts = parts_of(delta)
            yield from self._gates(site, slot, matrix, delta, parts)
            turned = matrix.operation == "transpose"
            own = matrix.operands[0] if turned else matrix
            for other in self.matrices:
                if other is not own and other.shape == own.shape:
                    new = self.graph.apply("transpose", other) if turned else other
                    where = f"{self.said(other)} for {self.said(own)} in {self.of(site)}"
                    change = SlotChange(site, {slot: new @ delta})
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
                change = SlotChange(site, {slot: part @ delta})
                where = f"{words} in {self.of(site)}"
                yield self._mistake("wrong_matrix", where, change)

    def _untransposed(
        self, site: Site, slot: Slot, matrix: Node, delta: Node
    ) -> Iterator[StepMistake]:
        rows, columns = matrix.shape
        own = matrix.operands[0] if matrix.operation == "transpose" else matrix
        recurrent = self._recurrent(own)

        def named(new: Node, words: str) -> StepMistake:
            change = SlotChange(site, {slot: new})
            if recurrent:
                return self._mistake("recurrent_untransposed", words, change)
            turned, straight = self.said(matrix @ delta), f"{self.said(own)} {self.said(delta)}"
            return self._operand(site, {slot: new}, straight, turned)

        turned = self.graph.apply("transpose", matrix)
        if rows == columns:
            yield named(turned @ delta, self.of(site))
        parts = parts_of(delta)
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
        yield named(sum_of(straight), self.of(site))
        for count in (1, *((2,) if len(parts) == 3 else ())):
            for chosen in combinations(range(len(parts)), count):
                mixed = [straight[j] if j in chosen else right[j] for j in range(len(parts))]
                names = " and ".join(self._part_name(delta, k) for k in chosen)
                yield named(sum_of(mixed), f"gate {names}")

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
                change = SlotChange(site, with_parts(new))
                where = f"in {of}, {expected} {how}"
                yield self._mistake("wrong_term_in_step", where, change, facts=facts)
        if len({part.shape for part in parts}) > 1:
            return
        word = self.said(matrix.operands[0] if matrix.operation == "transpose" else matrix)
        zero = [0.0 * part for part in parts]
        for k in range(n):
            all_of_it = [sum_of(parts) if j == k else zero[j] for j in range(n)]
            change = SlotChange(site, with_parts(all_of_it))
            yield self._mistake("wrong_matrix", f"{word} of {names[k]} for every gate", change)
        for order in permutations(range(n)) if n <= MOST_PERMUTED else _swaps(n):
            moved = [k for k in range(n) if order[k] != k]
            if not moved:
                continue
            swapped = " and ".join(names[k] for k in moved)
            where = f"{word} of {swapped} in another order"
            change = SlotChange(site, with_parts([parts[k] for k in order]))
            yield self._mistake("wrong_matrix", where, change)
        for a, b in permutations(range(n), 2):
            new = list(zero)
            for k in range(n):
                new[k] = parts[k] if k not in (a, b) else zero[k]
            new[b] = parts[b] + parts[a]
            change = SlotChange(site, with_parts(new))
            yield self._mistake(
                "wrong_matrix", f"{word} of {names[b]} for that of {names[a]}", change
            )


def _swaps(n: int) -> Iterator[tuple[int, ...]]:
    """Orders in which two have changed places, or all have moved on."""
    for a, b in combinations(range(n), 2):
        yield tuple(b if k == a else a if k == b else k for k in range(n))
    for by in range(1, n):
        yield tuple((k - by) % n for k in range(n))
