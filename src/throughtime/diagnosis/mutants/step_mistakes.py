"""All mistakes of a derived step, the likelier ones first."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from throughtime.diagnosis.mutants.equation_cell import EquationCell
from throughtime.diagnosis.mutants.known_step_mistakes import KnownMistakes
from throughtime.diagnosis.mutants.matrix_mistakes import MatrixMistakes
from throughtime.diagnosis.mutants.single_edits import SingleEdits
from throughtime.diagnosis.mutants.step_changes import StepMistake, instead_of
from throughtime.equations import Node


@lru_cache(maxsize=16)
def mistakes_of(cell: EquationCell) -> list[StepMistake]:
    """All mistakes of a cell's step, each once."""
    return StepMistakes(cell).all()


class StepMistakes(KnownMistakes, MatrixMistakes, SingleEdits):
    """Finds all mistakes of a step."""

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
