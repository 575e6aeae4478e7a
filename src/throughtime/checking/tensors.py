"""What is measured in each tensor: random directions, stretches of rows, rows, entries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from throughtime.arrays import Array
from throughtime.checking.direction import Block, Line, entry
from throughtime.checking.effort import Effort
from throughtime.checking.line import START
from throughtime.checking.locate import Located, locate
from throughtime.checking.run import Runner, confirmed
from throughtime.checking.site import Measured, Site
from throughtime.checking.stencil import FEWEST
from throughtime.checking.verdict import ACCUSED, accused, averaged

LARGEST = 1e-6  # of what a direction typically gives: an error bar is never wider by choice
SHARP = 1e-7  # of what a direction typically gives: no noise that averaging would help against
AGAIN = 4  # looks along a direction over all tensors
COARSER = 4.0  # times the error bar that the steepest entry reached: it does for the others


@dataclass
class Findings:
    """What was measured in one tensor.

    Attributes:
        whole: along random directions over the tensor.
        parts: along directions within it: stretches of rows, and rows.
        entries: single ones, by their place in C order.
        complete: whether these are all entries of the tensor.
        located: what a search for wrong entries found.
        unreached: whether the budget ended before all that was planned was measured.
    """

    whole: list[Measured] = field(default_factory=list)
    parts: list[Measured] = field(default_factory=list)
    entries: dict[int, Measured] = field(default_factory=dict)
    complete: bool = False
    located: Located | None = None
    unreached: bool = False

    @property
    def wrong(self) -> bool:
        """Whether anything in it differs by more than its error bar."""
        return any(accused(m) for m in (*self.whole, *self.parts, *self.entries.values()))


class Examination:
    """Looks at every tensor at one site, the coarse before the fine.

    Args:
        site: where.
        effort: how closely.
        run: measures lines.
        entries: how many single entries of each tensor, where the effort does not say.
    """

    def __init__(self, site: Site, effort: Effort, run: Runner, entries: int | None) -> None:
        self.site, self.effort, self.run = site, effort, run
        self.rng = np.random.default_rng(site.seed)
        self.overall: list[Measured] = []
        self.found = {name: Findings() for name in site.parameters}
        everything = sum(array.size for array in site.parameters.values())
        self.entries = entries
        if entries is None:
            self.entries = effort.entries
            if everything <= effort.all_up_to:
                self.entries = everything

    def whole_tensors(self) -> None:
        """Random directions over each tensor: what is wrong densely shows in the first."""
        names = [name for name, array in self.site.parameters.items() if array.size]
        first = self._measure({name: [self._over(name, 0, START)] for name in names})
        for name in names:
            self.found[name].whole += first[name]
        if self.wrong:
            return
        more = {
            name: [
                self._over(name, k, _window(self.found[name].whole))
                for k in range(1, self.effort.whole)
            ]
            for name in names
        }
        for name, found in self._measure(more).items():
            self.found[name].whole += found

    def all_at_once(self, goal: float = 0.0) -> None:
        """Directions over all tensors, from which the discrepancy over all is estimated.

        Args:
            goal: an error bar that is small enough, of what such a direction typically gives.
        """
        lines = [self.site.everything("all", k) for k in range(self.effort.overall)]
        lines = [replace(line, goal=goal * self.site.size_of(line)) for line in lines]
        for found in self._confirmed(lines):
            if found is not None:
                self.overall.append(self._averaged(found))

    def _averaged(self, found: Measured) -> Measured:
        """The same slope from further steps too, where it is the loss's noise that hides it."""
        if not np.isfinite(found.error) or found.error < SHARP * self.site.size_of(found.line):
            return found
        line = replace(found.line, rungs=_window([found]))
        askew = [replace(line, unit=line.unit * 2 ** (k / 8)) for k in range(1, AGAIN)]
        again = [m for m in self.run(self.site, askew) if m is not None]
        mean = averaged([found, *(m for m in again if np.isfinite(m.error))])
        # What a single look did not accuse is not accused by a mean whose error bar is narrower.
        least = 0.0 if accused(found) else abs(mean.residual) / ACCUSED
        return replace(mean, error=max(mean.error, least))

    def parts_of_tensors(self) -> None:
        """Stretches of rows, as gates are, and single rows."""
        found = self._measure({name: list(self._parts(name)) for name in self.found})
        for name, measured in found.items():
            self.found[name].parts += measured

    def single_entries(self) -> None:
        """The steepest entry first; its steps serve the tensor's others."""
        chosen = {name: self._choose(gradient) for name, gradient in self.site.gradient.items()}
        steepest = {
            name: int(places[np.abs(self.site.gradient[name].reshape(-1)[places]).argmax()])
            for name, places in chosen.items()
            if places.size
        }
        first = self._measure({n: [self._first(n, k)] for n, k in steepest.items()})
        rest = {}
        for name, k in steepest.items():
            self.found[name].entries.update(zip([k], first[name], strict=False))
            rungs = _window(first[name])[-FEWEST:]
            reached = max((m.error for m in first[name] if np.isfinite(m.error)), default=0.0)
            rest[name] = [
                replace(line, goal=max(COARSER * reached, line.goal))
                for line in (self._alone(name, int(j), rungs) for j in chosen[name] if j != k)
            ]
        for name, found in self._measure(rest).items():
            own = self.found[name]
            own.entries.update({m.line.blocks[0].start: m for m in found})
            own.complete = len(own.entries) == self.site.parameters[name].size

    def locate(self) -> None:
        """Searches the tensors that are wrong for the entries that are, the worst first."""
        suspects = [n for n, f in self.found.items() if f.wrong and not f.complete]
        suspects.sort(key=lambda name: -max((m.z for m in self.found[name].whole), default=0.0))
        for name in suspects:
            accusing = [m for m in (*self.found[name].whole, *self.found[name].parts) if accused(m)]
            if not accusing:
                continue
            clearest = max(accusing, key=lambda m: m.z)
            located = locate(self.site, clearest, self.run, self.effort.located)
            self.found[name].located = located
            self.found[name].entries.update({m.line.blocks[0].start: m for m in located.entries})

    @property
    def wrong(self) -> bool:
        """Whether anything differs by more than its error bar."""
        return any(found.wrong for found in self.found.values()) or any(map(accused, self.overall))

    # --- lines ---

    def _over(self, name: str, number: int, rungs: tuple[int, ...]) -> Line:
        size = self.site.parameters[name].size
        block = (Block(name, 0, size, self.site.seed + 1 + number),)
        return self._confined("all", block, rungs)

    def _confined(self, label: str, blocks: tuple[Block, ...], rungs: tuple[int, ...]) -> Line:
        entries = sum(block.stop - block.start for block in blocks)
        line = Line(label, blocks, self.site.scales[blocks[0].name], rungs)
        # One entry among n shows as 1 / √n of what the direction typically gives.
        goal = min(self.effort.enough * float(np.sqrt(entries)), LARGEST)
        return replace(line, goal=goal * self.site.size_of(line))

    def _alone(self, name: str, place: int, rungs: tuple[int, ...]) -> Line:
        goal = self.effort.enough * float(np.abs(self.site.gradient[name]).max())
        index = np.unravel_index(place, self.site.parameters[name].shape)
        label = "[" + ", ".join(map(str, index)) + "]"
        return Line(label, entry(name, place), self.site.scales[name], rungs, goal)

    def _first(self, name: str, place: int) -> Line:
        return replace(self._alone(name, place, START), goal=0.0)

    def _parts(self, name: str) -> Iterable[Line]:
        array = self.site.parameters[name]
        if array.ndim == 0 or not array.size:
            return
        rows, width = array.shape[0], array.size // array.shape[0]
        rungs = _window(self.found[name].whole)
        groups = self.site.target.gates or self.effort.groups
        if self.effort.groups > 1 and rows >= 2 * groups:
            for stretch in np.array_split(np.arange(rows), groups):
                yield self._rows(name, int(stretch[0]), int(stretch[-1]) + 1, width, rungs)
        if width > 1:
            for row in self.rng.choice(rows, min(self.effort.rows, rows), replace=False):
                yield self._rows(name, int(row), int(row) + 1, width, rungs)

    def _rows(self, name: str, first: int, last: int, width: int, rungs: tuple[int, ...]) -> Line:
        label = f"row {first}" if last == first + 1 else f"rows {first}–{last - 1}"
        block = Block(name, first * width, last * width, self.site.seed + 101)
        return self._confined(label, (block,), rungs)

    def _choose(self, gradient: Array) -> Array:
        """Which entries to look at: half where the gradient is largest, half by chance."""
        entries = self.entries or 0
        if entries >= gradient.size:
            return np.arange(gradient.size)
        half = entries // 2
        order = np.argpartition(-np.abs(gradient), half, axis=None)
        drawn = self.rng.choice(order[half:], entries - half, replace=False)
        return np.sort(np.concatenate([order[:half], drawn])).astype(np.int64)

    # --- measuring ---

    def _measure(self, lines: dict[str, list[Line]]) -> dict[str, list[Measured]]:
        """All these lines in one go; a tensor that the budget did not reach is marked."""
        found = iter(self._confirmed([line for own in lines.values() for line in own]))
        result = {}
        for name, own in lines.items():
            measured = [next(found) for _ in own]
            result[name] = [m for m in measured if m is not None]
            self.found[name].unreached |= len(result[name]) < len(own)
        return result

    def _confirmed(self, lines: Sequence[Line]) -> list[Measured | None]:
        return confirmed(self.site, self.run(self.site, lines), self.run)


def _window(found: Sequence[Measured]) -> tuple[int, ...]:
    """The steps that served the last line, every other one where they are dense."""
    for m in reversed(found):
        if len(m.rungs) > 2:
            return tuple(rung for rung in m.rungs if (rung - m.rungs[-1]) % 2 == 0)
    return START
