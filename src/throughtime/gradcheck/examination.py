"""What is measured in each tensor: random directions, stretches of rows, rows, entries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from throughtime.arrays import Array
from throughtime.derivatives import FEWEST_PAIRS, START_EXPONENTS
from throughtime.gradcheck.areas import gates_of
from throughtime.gradcheck.budget import Effort
from throughtime.gradcheck.confirmation import confirmed
from throughtime.gradcheck.evaluation_point import (
    EvaluationPoint,
    Measurement,
    last_step_exponents,
    nearest_step_exponents,
)
from throughtime.gradcheck.locating import SearchResult, locate
from throughtime.gradcheck.remeasured import narrowed
from throughtime.gradcheck.search_direction import DirectionBlock, SearchDirection, entry
from throughtime.gradcheck.tolerances import (
    AVERAGED_SLOPES,
    AVERAGING_ERROR,
    COARSER_ENTRIES,
    HOPEFUL_ERROR,
    HOPELESS_ERROR,
    NEGLIGIBLE_WEIGHT,
    SCREEN_ERROR,
    SETTLING_MARGIN,
    SINGLE_ENTRY_ERROR,
    TIGHTEST_ERROR,
    VERDICT_ERROR,
)
from throughtime.gradcheck.verdict import averaged, rejects, settled, to_settle, with_error_covering
from throughtime.gradcheck.workers import Runner


class MeasurementPlan:
    """Draws the directions to measure at a point.

    Args:
        point: where.
        effort: how much is measured.
    """

    def __init__(self, point: EvaluationPoint, effort: Effort) -> None:
        self.point, self.effort = point, effort
        self.rng = np.random.default_rng(point.seed)

    def screen(self) -> SearchDirection:
        """A direction over all tensors, with an error bar that is narrow enough for each of them.

        A tensor with a gradient of 0 has no influence on how narrow that is.
        """
        direction = self.point.direction_over_all("all")
        sizes = [
            self.point.size_of(replace(direction, blocks=(block,))) for block in direction.blocks
        ]
        goal = SCREEN_ERROR * min(size for size in (*sizes, np.inf) if size > 0)
        goal = min(max(goal, TIGHTEST_ERROR * self.point.size_of(direction)), 1e300)
        return replace(
            direction,
            goal=goal,
            step_exponents=nearest_step_exponents(self.point, goal, START_EXPONENTS),
        )

    def over_tensor(
        self, name: str, number: int, step_exponents: tuple[int, ...]
    ) -> SearchDirection:
        """A random direction over the whole tensor."""
        size = self.point.parameters[name].size
        block = (DirectionBlock(name, 0, size, self.point.seed + 1 + number),)
        return self._confined("all", block, step_exponents)

    def _confined(
        self, label: str, blocks: tuple[DirectionBlock, ...], step_exponents: tuple[int, ...]
    ) -> SearchDirection:
        direction = SearchDirection(
            label, blocks, self.point.scales[blocks[0].name], step_exponents
        )
        entries = sum(block.stop - block.start for block in blocks)
        # One entry among n contributes 1 / √n of what a direction typically gives.
        goal = min(
            self.effort.entry_error * float(np.sqrt(entries)), to_settle(entries) / SETTLING_MARGIN
        )
        return replace(direction, goal=goal * self.point.size_of(direction))

    def at_entry(self, name: str, place: int, step_exponents: tuple[int, ...]) -> SearchDirection:
        """One entry."""
        goal = self.effort.entry_error * float(np.abs(self.point.gradient[name]).max())
        index = np.unravel_index(place, self.point.parameters[name].shape)
        label = "[" + ", ".join(map(str, index)) + "]"
        return SearchDirection(
            label, entry(name, place), self.point.scales[name], step_exponents, goal
        )

    def first_entry(self, name: str, place: int, *, only: bool) -> SearchDirection:
        """One entry; measured as precisely as possible where its steps serve others."""
        direction = self.at_entry(name, place, START_EXPONENTS)
        return replace(
            direction,
            goal=SINGLE_ENTRY_ERROR / self.effort.entry_error * direction.goal if only else 0.0,
        )

    def parts(self, name: str, step_exponents: tuple[int, ...]) -> Iterable[SearchDirection]:
        """Directions over stretches of rows, as gates are, and over single rows."""
        array = self.point.parameters[name]
        if array.ndim == 0 or not array.size:
            return
        rows, width = array.shape[0], array.size // array.shape[0]
        groups = self.point.target.gates or self.effort.groups
        if self.effort.groups > 1 and rows >= 2 * groups:
            for stretch in np.array_split(np.arange(rows), groups):
                yield self._rows(name, int(stretch[0]), int(stretch[-1]) + 1, width, step_exponents)
        if width > 1:
            for row in self.rng.choice(rows, min(self.effort.rows, rows), replace=False):
                yield self._rows(name, int(row), int(row) + 1, width, step_exponents)

    def _rows(
        self, name: str, first: int, last: int, width: int, step_exponents: tuple[int, ...]
    ) -> SearchDirection:
        label = f"row {first}" if last == first + 1 else f"rows {first}–{last - 1}"
        block = DirectionBlock(name, first * width, last * width, self.point.seed + 101)
        return self._confined(label, (block,), step_exponents)

    def choose_entries(self, gradient: Array, entries: int) -> Array:
        """Which entries to measure: half where the gradient is largest, half at random."""
        if entries == 1 and gradient.size:
            return np.array([np.abs(gradient).argmax()])
        if entries >= gradient.size:
            return np.arange(gradient.size)
        half = entries // 2
        order = np.argpartition(-np.abs(gradient), half, axis=None)
        drawn = self.rng.choice(order[half:], entries - half, replace=False)
        return np.sort(np.concatenate([order[:half], drawn])).astype(np.int64)


@dataclass
class TensorMeasurements:
    """What was measured in one tensor.

    Attributes:
        whole: measurements along random directions over the tensor.
        parts: along directions within it: stretches of rows, and single rows.
        entries: single entries, by their index in C order.
        complete: whether these are all entries of the tensor.
        located: what a search for wrong entries found.
        unreached: whether the budget ended before all that was planned was measured.
    """

    whole: list[Measurement] = field(default_factory=list)
    parts: list[Measurement] = field(default_factory=list)
    entries: dict[int, Measurement] = field(default_factory=dict)
    complete: bool = False
    located: SearchResult | None = None
    unreached: bool = False

    @property
    def wrong(self) -> bool:
        """Whether anything in it differs by more than its error bar."""
        return any(rejects(m) for m in (*self.whole, *self.parts, *self.entries.values()))


class Examination:
    """Measures every tensor at one point, the coarse before the fine.

    Args:
        point: where.
        effort: how much is measured.
        run: measures directions.
        entries: how many single entries of each tensor; None: as the effort says.
    """

    def __init__(
        self, point: EvaluationPoint, effort: Effort, run: Runner, entries: int | None
    ) -> None:
        self.point, self.effort, self.run = point, effort, run
        self.plan = MeasurementPlan(point, effort)
        self.overall: list[Measurement] = []
        self.found = {name: TensorMeasurements() for name in point.parameters}
        everything = sum(array.size for array in point.parameters.values())
        self.entries = entries
        self.small = everything <= effort.all_up_to

    def whole_tensors(self) -> None:
        """Random directions over each tensor: widespread errors show in the first."""
        names = [name for name, array in self.point.parameters.items() if array.size]
        first = self._measure(
            {name: [self.plan.over_tensor(name, 0, START_EXPONENTS)] for name in names}
        )
        for name in names:
            self.found[name].whole += self._narrowed_all(first[name])
        if self.wrong:
            return
        more = {
            name: [
                self.plan.over_tensor(name, k, last_step_exponents(self.found[name].whole))
                for k in range(1, self.effort.whole)
            ]
            for name in names
            if self.effort.recheck_settled or not self.settled(name)
        }
        for name, found in self._measure(more).items():
            hopeful = any(
                m.error <= HOPEFUL_ERROR * self.point.size_of(m.direction)
                for m in self.found[name].whole
            )
            self.found[name].whole += self._narrowed_all(found) if hopeful else found

    def settled(self, name: str) -> bool:
        """Whether the directions over a tensor leave nothing for finer measurements to find."""
        found = self.found[name].whole
        entries, size = self.point.parameters[name].size, self.point.sizes[name]
        if not entries or settled(found, entries, size):
            return True
        most = max(self.point.weight(other) for other in self.point.parameters)
        return bool(found) and all(
            (m.flat and m.gradient == 0) or m.error * m.direction.unit <= NEGLIGIBLE_WEIGHT * most
            for m in found
        )

    def hopeless(self, name: str) -> bool:
        """Whether directions over a tensor resolve so little that those within it are useless."""
        found = self.found[name].whole
        return bool(found) and all(
            m.error > HOPELESS_ERROR * self.point.size_of(m.direction) and not rejects(m)
            for m in found
        )

    def all_at_once(self) -> None:
        """Directions over all tensors, from which the discrepancy over all is estimated."""
        count = self.effort.overall
        if not self.effort.recheck_settled and all(self.settled(name) for name in self.found):
            count = min(count, int(self.small))
        directions = [self.point.direction_over_all("all", k) for k in range(count)]
        directions = [
            replace(direction, goal=TIGHTEST_ERROR * self.point.size_of(direction))
            for direction in directions
        ]
        for found in self._confirmed(directions):
            if found is not None:
                self.overall += self._narrowed_all([self._averaged(found)])
        self._attribute()

    def screen(self, *, closer: bool) -> None:
        """One direction over all tensors; where it differs, also one over each of them.

        With `closer`, also where the first resolves too little.
        """
        direction = self.plan.screen()
        self.overall += self._narrowed_all(
            [m for m in self._confirmed([direction]) if m is not None]
        )
        wide = any(m.error > direction.goal for m in self.overall)
        if (closer and wide) or any(map(rejects, self.overall)):
            self.whole_tensors()
        self._attribute()

    def _attribute(self) -> None:
        """Finds the tensor in which a difference over all lies, or drops the difference."""
        for k, found in enumerate(self.overall):
            if self.tensors_wrong:
                return
            if not rejects(found):
                continue
            blocks = {block.name: block for block in found.direction.blocks if block.stop}
            directions = {
                name: [replace(found.direction, label="all", blocks=(block,), goal=0.0)]
                for name, block in blocks.items()
            }
            for name, measured in self._measure(directions).items():
                self.found[name].parts += measured
            if not self.tensors_wrong:
                self.overall[k] = with_error_covering(found)

    def _averaged(self, found: Measurement) -> Measurement:
        """The same slope averaged over further steps, where noise limits it."""
        if not np.isfinite(found.error) or found.error < AVERAGING_ERROR * self.point.size_of(
            found.direction
        ):
            return found
        direction = replace(found.direction, step_exponents=last_step_exponents([found]))
        shifted = [
            replace(direction, unit=direction.unit * 2 ** (k / 8))
            for k in range(1, AVERAGED_SLOPES)
        ]
        again = [m for m in self.run(self.point, shifted) if m is not None]
        mean = averaged([found, *(m for m in again if np.isfinite(m.error))])
        # What one measurement did not reject is not rejected by a mean with a narrower error bar.
        return mean if rejects(found) else with_error_covering(mean)

    def parts_of_tensors(self) -> None:
        """Stretches of rows, as gates are, and single rows, where a tensor is not settled."""
        names = [
            name
            for name in self.found
            if self.effort.recheck_settled or not (self.settled(name) or self.hopeless(name))
        ]
        found = self._measure(
            {
                name: list(self.plan.parts(name, last_step_exponents(self.found[name].whole)))
                for name in names
            }
        )
        for name, measured in found.items():
            self.found[name].parts += measured

    def single_entries(self) -> None:
        """The entry with the largest gradient first; its steps serve the tensor's others."""
        chosen = {
            name: self.plan.choose_entries(gradient, self._count(name))
            for name, gradient in self.point.gradient.items()
        }
        steepest = {
            name: int(places[np.abs(self.point.gradient[name].reshape(-1)[places]).argmax()])
            for name, places in chosen.items()
            if places.size
        }
        first = self._measure(
            {
                n: [self.plan.first_entry(n, k, only=chosen[n].size == 1)]
                for n, k in steepest.items()
            }
        )
        rest = {}
        for name, k in steepest.items():
            self.found[name].entries.update(zip([k], first[name], strict=False))
            step_exponents = last_step_exponents(first[name])[-FEWEST_PAIRS:]
            reached = max((m.error for m in first[name] if np.isfinite(m.error)), default=0.0)
            rest[name] = [
                replace(direction, goal=max(COARSER_ENTRIES * reached, direction.goal))
                for direction in (
                    self.plan.at_entry(name, int(j), step_exponents) for j in chosen[name] if j != k
                )
            ]
        for name, found in self._measure(rest).items():
            own = self.found[name]
            own.entries.update({m.direction.blocks[0].start: m for m in found})
            own.complete = len(own.entries) == self.point.parameters[name].size

    def clearest_claims(self, count: int) -> dict[str, list[SearchDirection]]:
        """By wrong tensor, the directions along which its gradient is most clearly rejected."""
        claims: dict[str, list[SearchDirection]] = {}
        for name, own in self.found.items():
            rejecting = [m for m in (*own.whole, *own.parts, *own.entries.values()) if rejects(m)]
            if rejecting:
                rejecting.sort(key=lambda m: -m.z)
                claims[name] = [m.direction for m in rejecting[:count]]
        return claims

    def excuse(self, names: Collection[str]) -> None:
        """Takes back the rejections in these tensors, and over all where none is left."""
        for name in names:
            own = self.found[name]
            own.whole = [_excused(m) for m in own.whole]
            own.parts = [_excused(m) for m in own.parts]
            own.entries = {place: _excused(m) for place, m in own.entries.items()}
        if not self.tensors_wrong:
            self.overall = [_excused(m) for m in self.overall]

    def locate(self) -> None:
        """Searches wrong tensors for their wrong entries, the worst tensor first."""
        suspects = [n for n, f in self.found.items() if f.wrong and not f.complete]
        suspects.sort(key=lambda name: -max((m.z for m in self.found[name].whole), default=0.0))
        for name in suspects:
            rejecting = [
                m for m in (*self.found[name].whole, *self.found[name].parts) if rejects(m)
            ]
            if not rejecting:
                continue
            clearest = max(rejecting, key=lambda m: m.z)
            gates = next(iter(gates_of(self.point.target, name)), None)
            located = locate(self.point, clearest, self.run, self.effort.located, gates)
            self.found[name].located = located
            self.found[name].entries.update(located.entries)

    @property
    def wrong(self) -> bool:
        """Whether anything differs by more than its error bar."""
        return self.tensors_wrong or any(map(rejects, self.overall))

    @property
    def tensors_wrong(self) -> bool:
        """Whether anything within a tensor does."""
        return any(found.wrong for found in self.found.values())

    def _count(self, name: str) -> int:
        """How many entries of a tensor to measure: in a small target at least one."""
        if self.entries is not None:
            return self.entries
        if self.small and (self.effort.recheck_settled or self.found[name].wrong):
            return self.point.parameters[name].size
        if not self.effort.recheck_settled and self.settled(name):
            return int(self.small)
        if not self.effort.recheck_settled and self.hopeless(name):
            return min(self.effort.entries, 1)
        return self.effort.entries

    # --- measuring ---

    def _measure(
        self, directions: dict[str, list[SearchDirection]]
    ) -> dict[str, list[Measurement]]:
        """Measures all these directions at once; marks tensors that the budget did not reach."""
        found = iter(
            self._confirmed([direction for own in directions.values() for direction in own])
        )
        result = {}
        for name, own in directions.items():
            measured = [next(found) for _ in own]
            result[name] = [m for m in measured if m is not None]
            self.found[name].unreached |= len(result[name]) < len(own)
        return result

    def _narrowed_all(self, found: Sequence[Measurement]) -> list[Measurement]:
        """Narrows error bars that are too wide for a verdict, by long moves."""
        return [narrowed(self.point, m, VERDICT_ERROR) for m in found]

    def _confirmed(self, directions: Sequence[SearchDirection]) -> list[Measurement | None]:
        return confirmed(self.point, self.run(self.point, directions))


def _excused(found: Measurement) -> Measurement:
    return with_error_covering(found) if rejects(found) else found
