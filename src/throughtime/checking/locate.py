"""Which entries are wrong? A search that halves, instead of one that looks at all.

Along a direction v the gradient is off by r·v, and so it is along each half of v: the two parts
add up to the whole, so that measuring one gives the other. One wrong entry among N is found after
log₂ N of these.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from throughtime.checking.direction import Block, Line, entry
from throughtime.checking.run import Runner
from throughtime.checking.site import Measured, Site
from throughtime.checking.verdict import ACCUSED, accused, cautious

DENSE = 3  # halvings in a row that find both halves wrong: 8 stretches of 8
SAMPLED = 4  # entries that are looked at where all are wrong
SHARP = 0.02  # of the residual: an error bar that tells whose it is


@dataclass
class Located:
    """What the search found.

    Attributes:
        entries: wrong ones, looked at one by one.
        dense: stretches (start, stop) wrong throughout.
        left: stretches in which something is wrong that was not searched further.
    """

    entries: list[Measured] = field(default_factory=list)
    dense: list[tuple[int, int]] = field(default_factory=list)
    left: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class _Stretch:
    """Entries from start to stop: by how much the gradient is off along them, ± an error bar.

    `full` counts the halvings in a row, up to here, that found both halves wrong.
    """

    start: int
    stop: int
    residual: float
    error: float
    full: int = 0

    @property
    def wrong(self) -> bool:
        return abs(self.residual) > ACCUSED * self.error


def locate(site: Site, accusing: Measured, run: Runner, count: int) -> Located:
    """Searches for up to `count` wrong entries along a line that accuses its tensor.

    The stretch that is furthest off is halved first. Where halving finds both halves wrong again
    and again, everything there is: a few of its entries stand for it.
    """
    block = accusing.line.blocks[0]
    found = Located()
    queue = [_Stretch(block.start, block.stop, accusing.residual, accusing.error)]
    while queue and len(found.entries) < count:
        queue.sort(key=lambda s: abs(s.residual))
        stretch = queue.pop()
        if stretch.stop - stretch.start == 1:
            looked = _look(site, accusing, [stretch.start], run)
            found.entries += [m for m in looked if accused(m)]
            if not looked:
                found.left.append((stretch.start, stretch.stop))
                break
            continue
        halves = _halved(site, accusing, stretch, run)
        if halves is None:
            found.left.append((stretch.start, stretch.stop))
            break
        wrong = [half for half in halves if half.wrong]
        if not wrong:  # off together, but each by too little to be told from its error bar
            found.left.append((stretch.start, stretch.stop))
        elif len(wrong) == 2 and stretch.full + 1 >= DENSE:
            whole = _ancestor(stretch, block)
            queue = [s for s in queue if s.start < whole[0] or s.stop > whole[1]]
            found.dense.append(whole)
            found.entries += _sample(site, accusing, whole, run)
        else:
            queue += [replace(h, full=stretch.full + 1 if len(wrong) == 2 else 0) for h in wrong]
    found.left += [(stretch.start, stretch.stop) for stretch in queue]
    return found


def _halved(
    site: Site, accusing: Measured, stretch: _Stretch, run: Runner
) -> tuple[_Stretch, _Stretch] | None:
    """Both halves; one is measured, and the other is what remains. None: budget spent."""
    block = accusing.line.blocks[0]
    middle = (stretch.start + stretch.stop) // 2
    goal = max(SHARP * abs(stretch.residual), stretch.error / 2)
    half = replace(block, start=stretch.start, stop=middle)
    line = Line("", (half,), accusing.line.unit, _steps(accusing), goal)
    (measured,) = run(site, [line])
    if measured is None or not np.isfinite(measured.error):
        return None
    left = _Stretch(stretch.start, middle, measured.residual, measured.error)
    rest = stretch.residual - measured.residual
    return left, _Stretch(middle, stretch.stop, rest, stretch.error + measured.error)


def _ancestor(stretch: _Stretch, block: Block) -> tuple[int, int]:
    """The stretch in which the run of full halvings began: 2^full times as long."""
    start, stop, path = block.start, block.stop, []
    while (start, stop) != (stretch.start, stretch.stop):
        path.append((start, stop))
        middle = (start + stop) // 2
        start, stop = (start, middle) if stretch.start < middle else (middle, stop)
    path.append((start, stop))
    return path[-1 - stretch.full]


def _sample(
    site: Site, accusing: Measured, stretch: tuple[int, int], run: Runner
) -> list[Measured]:
    """The entries in a stretch whose gradient is largest, half of them, and others."""
    start, stop = stretch
    name = accusing.line.blocks[0].name
    size = np.abs(site.gradient[name].reshape(-1)[start:stop])
    spread = np.linspace(0, stop - start - 1, SAMPLED).astype(int)
    places = dict.fromkeys([int(size.argmax()), *map(int, spread)])
    return [m for m in _look(site, accusing, [start + p for p in places], run) if accused(m)]


def _look(site: Site, accusing: Measured, places: list[int], run: Runner) -> list[Measured]:
    name = accusing.line.blocks[0].name
    shape = site.parameters[name].shape
    lines = [
        Line(
            str([int(i) for i in np.unravel_index(p, shape)]),
            entry(name, p),
            site.scales[name],
            _steps(accusing),
        )
        for p in places
    ]
    typical = float(np.sqrt(np.mean(np.square(site.gradient[name], dtype=np.float64))))
    lines = [replace(line, goal=1e-6 * typical) for line in lines]
    return [cautious(m) for m in run(site, lines) if m is not None]


def _steps(accusing: Measured) -> tuple[int, ...]:
    """Few steps to begin with: along a part of a direction, the loss curves no more."""
    return accusing.rungs[-1] - 4, accusing.rungs[-1] - 2, accusing.rungs[-1]
