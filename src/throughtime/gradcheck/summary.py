"""From measurements at one site to the report of each tensor, and of the point."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from throughtime.gradcheck.evaluation_point import Measured, Site
from throughtime.gradcheck.examination import Examination, Findings
from throughtime.gradcheck.relative_error import discrepancy, floor
from throughtime.gradcheck.remedy import BUDGET, remedy
from throughtime.gradcheck.report import Direction, Point, TensorReport, Worst, worst_verdict
from throughtime.gradcheck.tolerances import MOST_LISTED, NEGLIGIBLE_WEIGHT, NOTABLE_KINK
from throughtime.gradcheck.verdict import (
    Distance,
    accused,
    columns,
    judge,
    of_directions,
    of_entries,
    sharper,
)
from throughtime.gradcheck.whereabouts import whereabouts


@dataclass(frozen=True)
class Summary:
    """A point of the report, and what is worth a sentence."""

    point: Point
    notes: tuple[str, ...]


def summarise(name: str, looked: Examination) -> Summary:
    """The report of a point that was looked at."""
    site = looked.site
    most = max(site.weight(n) for n in site.parameters)
    tensors = {}
    if any(found.whole or found.entries or found.unreached for found in looked.found.values()):
        tensors = {n: _tensor(site, n, found, most) for n, found in looked.found.items()}
    whole = _overall(looked, tensors)
    verdict = worst_verdict([t.verdict for t in tensors.values()])
    if not tensors:
        verdict = judge(False, whole.smallest, False)
    if any(map(accused, looked.overall)):
        verdict = "disagree"
    point = Point(name, site.target.steps, verdict, whole.d, whole.floor, tensors)
    return Summary(point, tuple(_notes(looked)))


def _tensor(site: Site, name: str, found: Findings, most: float) -> TensorReport:
    shape = site.parameters[name].shape
    distance = _distance(site, name, found)
    wrong = found.wrong
    negligible = site.parameters[name].size == 0 or _negligible(found, most)
    where = whereabouts(site, name, found)
    verdict = judge(wrong, distance.smallest, negligible)
    if verdict == "agree" and found.unreached:
        verdict = "unresolved"
    why = ""
    if verdict == "unresolved":
        why = BUDGET if found.unreached else remedy(site, name, found)
    places = sorted(found.entries)
    entries = [found.entries[place] for place in places]
    g, n, errors = columns(entries)
    first = next(iter(entries or found.whole), None)
    ranked = sorted(entries, key=lambda m: -m.z)
    return TensorReport(
        verdict=verdict,
        discrepancy=distance.d,
        floor=distance.floor,
        shape=shape,
        step=first.step if first is not None else 0.0,
        indices=np.array(places, dtype=np.int64),
        gradient=g,
        numerical=n,
        errors=errors,
        worst=_worst(ranked[0], shape) if ranked else None,
        smallest_error=distance.smallest,
        order=first.slope.order if first is not None and first.slope else 0,
        wrong=tuple(_worst(m, shape) for m in ranked if accused(m))[:MOST_LISTED],
        areas=where.areas,
        all_found=where.all_found,
        directions=tuple(_direction(m) for m in (*found.whole, *found.parts)),
        remedy=why,
    )


def _distance(site: Site, name: str, found: Findings) -> Distance:
    whole = [m for m in found.whole if np.isfinite(m.error)]
    directions = None
    if whole:
        directions = of_directions(whole, site.size_of(whole[0].line))
    entries = list(found.entries.values())
    if found.complete and all(np.isfinite(m.error) for m in entries):
        return sharper(of_entries(entries), directions)
    return directions or Distance(0.0, 1.0, np.inf)


def _negligible(found: Findings, most: float) -> bool:
    """Whether the tensor does not move the loss, or by next to nothing beside the others.

    And its gradient says so too, or it would differ by more than the error bars.
    """
    measured = found.whole or list(found.entries.values())
    if not measured or not all(np.isfinite(m.error) for m in measured):
        return False
    if all(m.flat and m.gradient == 0 for m in measured):
        return True
    # Of a single entry the unit is a step, of a direction its moves have the mean square 1.
    return all(m.error * m.line.unit <= NEGLIGIBLE_WEIGHT * most for m in measured)


def _overall(looked: Examination, tensors: dict[str, TensorReport]) -> Distance:
    """d over all tensors: from all entries, or put together from what each tensor showed."""
    site = looked.site
    lines = [m for m in looked.overall if np.isfinite(m.error)]
    over_all = of_directions(lines, site.size_of(lines[0].line)) if lines else None
    if not tensors:
        return over_all or Distance(0.0, 1.0, np.inf)
    if all(found.complete for found in looked.found.values()):
        g, n, errors = (np.concatenate([getattr(t, c) for t in tensors.values()]) for c in COLUMNS)
        return sharper(Distance(discrepancy(g, n), floor(errors, g, n), np.inf), over_all)
    return sharper(_put_together(site, tensors), over_all)


COLUMNS = ("gradient", "numerical", "errors")


def _put_together(site: Site, tensors: dict[str, TensorReport]) -> Distance:
    """From d = ‖g − n‖ / (‖g‖ + ‖n‖) of each tensor, with ‖n‖ from its entries or directions."""
    apart, errors, g_square, n_square = 0.0, 0.0, 0.0, 0.0
    for name, tensor in tensors.items():
        g = site.sizes[name]
        along_g = np.array([line.gradient for line in tensor.directions if line.label == "all"])
        along_n = np.array([line.numerical for line in tensor.directions if line.label == "all"])
        ratio = np.linalg.norm(along_n) / np.linalg.norm(along_g) if along_g.any() else 0.0
        n = g * float(ratio) if along_g.any() else float(np.linalg.norm(along_n))
        if tensor.indices.size == tensor.size:
            n = float(np.linalg.norm(tensor.numerical))
        apart += (tensor.discrepancy * (g + n)) ** 2
        errors += (tensor.floor * (g + n)) ** 2
        g_square, n_square = g_square + g**2, n_square + n**2
    below = np.sqrt(g_square) + np.sqrt(n_square) or 1.0
    return Distance(float(np.sqrt(apart) / below), float(np.sqrt(errors) / below), np.inf)


def _notes(looked: Examination) -> Iterable[str]:
    site = looked.site
    for name, found in looked.found.items():
        measured = [*found.whole, *found.entries.values()]
        if measured and all(m.flat and m.gradient == 0 for m in measured):
            yield f"{name} does not move the loss here, and its gradient is 0."
        kinks = sum(map(_kinked, measured))
        if name in site.own_noise:
            yield (
                f"{name}: along it the loss scatters by some {site.own_noise[name]:.0e} about a "
                "smooth curve, more than its digits explain: something on the way is rounded, or "
                "has kinks."
            )
        elif kinks:
            yield (
                f"{name}: the loss has a kink here in {kinks} of {len(measured)} directions; "
                "the slopes on either side differ, and the error bars span both."
            )
        yield from whereabouts(site, name, found).sentences


def _kinked(found: Measured) -> bool:
    """Whether a kink makes the error bar what it is, and that is worth telling."""
    size = max(abs(found.gradient), abs(found.numerical))
    return found.broken and found.slope is not None and found.slope.kink > NOTABLE_KINK * size


def _worst(found: Measured, shape: tuple[int, ...]) -> Worst:
    index = np.unravel_index(found.line.blocks[0].start, shape)
    return Worst(tuple(int(i) for i in index), found.gradient, found.numerical, found.error)


def _direction(found: Measured) -> Direction:
    return Direction(found.line.label, found.gradient, found.numerical, found.error)
