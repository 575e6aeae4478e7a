"""From measurements at one point to the report of each tensor, in numbers and in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from throughtime.arrays import Array, Shape
from throughtime.gradcheck.areas import Area, areas_of, gates_of, listed, table_of
from throughtime.gradcheck.evaluation_point import EvaluationPoint, Measurement
from throughtime.gradcheck.examination import Examination, TensorMeasurements
from throughtime.gradcheck.locating import LocatedArea
from throughtime.gradcheck.report import (
    Direction,
    Point,
    TensorReport,
    Worst,
    WrongArea,
    worst_verdict,
)
from throughtime.gradcheck.tolerances import (
    BENT_RATIO,
    COARSE_LOSS,
    MOST_LISTED,
    MOST_NAMED,
    NEGLIGIBLE_WEIGHT,
    NOTABLE_KINK,
    SHORT_SPACING,
    SINGLE_SPACING,
    SMALL_WEIGHTS,
)
from throughtime.gradcheck.verdict import (
    Distance,
    better_estimate,
    columns,
    discrepancy,
    distance_over_directions,
    distance_over_entries,
    distance_over_known,
    floor,
    judge,
    rejects,
    remaining_size,
)


@dataclass(frozen=True)
class Summary:
    """A point of the report, and notes on it."""

    point: Point
    notes: tuple[str, ...]


def summarise(name: str, examination: Examination) -> Summary:
    """The report of a point that was examined."""
    point = examination.point
    most = max(point.weight(n) for n in point.parameters)
    tensors = {}
    if any(found.whole or found.entries or found.unreached for found in examination.found.values()):
        tensors = {n: _tensor(point, n, found, most) for n, found in examination.found.items()}
    whole = _overall(examination, tensors)
    verdict = worst_verdict([t.verdict for t in tensors.values()])
    if not tensors:
        verdict = judge(False, whole.smallest, False)
    if any(map(rejects, examination.overall)):
        verdict = "disagree"
    reported = Point(name, point.target.steps, verdict, whole.d, whole.floor, tensors)
    return Summary(reported, tuple(_notes(examination)))


def _tensor(
    point: EvaluationPoint, name: str, found: TensorMeasurements, most: float
) -> TensorReport:
    shape = point.parameters[name].shape
    where = describe_location(point, name, found)
    distance = _distance(point, name, found, all_found=where.all_found and not where.areas)
    wrong = found.wrong
    negligible = point.parameters[name].size == 0 or _negligible(found, most)
    verdict = judge(wrong, distance.smallest, negligible)
    if verdict == "agree" and found.unreached:
        verdict = "unresolved"
    why = ""
    if verdict == "unresolved":
        why = BUDGET if found.unreached else remedy(point, name, found)
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
        wrong=tuple(_worst(m, shape) for m in ranked if rejects(m))[:MOST_LISTED],
        areas=where.areas,
        all_found=where.all_found,
        directions=tuple(_direction(m) for m in (*found.whole, *found.parts)),
        remedy=why,
    )


def _distance(
    point: EvaluationPoint, name: str, found: TensorMeasurements, *, all_found: bool
) -> Distance:
    """d of a tensor: from all entries, from random directions, or from the entries that are wrong.

    One direction may estimate d many times too small, and a single entry that cannot be resolved
    hides all others; what is known to be wrong does neither.
    """
    whole = [m for m in found.whole if np.isfinite(m.error)]
    entries = list(found.entries.values())
    distance = Distance(0.0, 1.0, np.inf)
    if whole:
        distance = distance_over_directions(whole, point.size_of(whole[0].direction))
    if found.complete and all(np.isfinite(m.error) for m in entries):
        distance = better_estimate(distance_over_entries(entries), distance if whole else None)
    if wrong := list(filter(rejects, entries)):
        known = distance_over_known(wrong, point.sizes[name])
        if known.d > distance.d or not distance.clear or (all_found and not found.complete):
            return replace(known, smallest=distance.smallest)
    return distance


def _negligible(found: TensorMeasurements, most: float) -> bool:
    """Whether the tensor does not move the loss, or by next to nothing compared with the others.

    Its gradient says so too, or it would differ by more than the error bars.
    """
    measured = found.whole or list(found.entries.values())
    if not measured or not all(np.isfinite(m.error) for m in measured):
        return False
    if all(m.flat and m.gradient == 0 for m in measured):
        return True
    # The unit of a single entry is a step; the moves of a direction have a mean square of 1.
    return all(m.error * m.direction.unit <= NEGLIGIBLE_WEIGHT * most for m in measured)


def _overall(examination: Examination, tensors: dict[str, TensorReport]) -> Distance:
    """d over all tensors: from all entries, or combined from the d of each tensor."""
    point = examination.point
    directions = [m for m in examination.overall if np.isfinite(m.error)]
    over_all = (
        distance_over_directions(directions, point.size_of(directions[0].direction))
        if directions
        else None
    )
    if not tensors:
        return over_all or Distance(0.0, 1.0, np.inf)
    by_tensor = _put_together(point, tensors)
    whole = by_tensor
    if all(found.complete for found in examination.found.values()):
        g, n, errors = (np.concatenate([getattr(t, c) for t in tensors.values()]) for c in COLUMNS)
        whole = Distance(discrepancy(g, n), floor(errors, g, n), np.inf)
    whole = better_estimate(whole, over_all)
    if (by_tensor.d > whole.d or not whole.clear) and any(t.wrong for t in tensors.values()):
        return replace(by_tensor, smallest=whole.smallest)
    return whole


COLUMNS = ("gradient", "numerical", "errors")


def _put_together(point: EvaluationPoint, tensors: dict[str, TensorReport]) -> Distance:
    """d over all from d = ‖g − n‖ / (‖g‖ + ‖n‖) of each, with ‖n‖ from entries or directions."""
    apart, errors, g_square, n_square = 0.0, 0.0, 0.0, 0.0
    for name, tensor in tensors.items():
        g = point.sizes[name]
        along_g = np.array(
            [direction.gradient for direction in tensor.directions if direction.label == "all"]
        )
        along_n = np.array(
            [direction.numerical for direction in tensor.directions if direction.label == "all"]
        )
        n, length = float(np.linalg.norm(along_n)), float(np.linalg.norm(along_g))
        if length:  # it is 0, too, where the squares of numbers that are not are
            n *= g / length
        if tensor.indices.size == tensor.size:
            n = float(np.linalg.norm(tensor.numerical))
        elif tensor.all_found and not tensor.areas:
            n = remaining_size(tensor.gradient, tensor.numerical, g)
        apart += (tensor.discrepancy * (g + n)) ** 2
        errors += (tensor.floor * (g + n)) ** 2
        g_square, n_square = g_square + g**2, n_square + n**2
    below = np.sqrt(g_square) + np.sqrt(n_square) or 1.0
    return Distance(float(np.sqrt(apart) / below), float(np.sqrt(errors) / below), np.inf)


def _notes(examination: Examination) -> Iterable[str]:
    point = examination.point
    throughout: dict[str, Location] = {}
    for name, found in examination.found.items():
        measured = [*found.whole, *found.entries.values()]
        if measured and all(m.flat and m.gradient == 0 for m in measured):
            yield f"{name} does not move the loss here, and its gradient is 0."
        kinks = sum(map(_has_notable_kink, measured))
        if name in point.own_noise:
            yield (
                f"{name}: along it the loss scatters by some {point.own_noise[name]:.0e} about a "
                "smooth curve, more than its digits explain: something on the way is rounded, or "
                "has kinks."
            )
        elif kinks:
            yield (
                f"{name}: the loss has a kink here in {kinks} of {len(measured)} directions; "
                "the slopes on either side differ, and the error bars span both."
            )
        location = describe_location(point, name, found)
        if _is_throughout(location, point.parameters[name].shape):
            throughout[name] = location
        else:
            yield from location.sentences
    yield from _wrong_throughout(point, throughout)


def _is_throughout(location: Location, shape: Shape) -> bool:
    """Whether a tensor is wrong in all that was measured of it, all over it."""
    if len(location.areas) != 1 or len(location.sentences) != 1:
        return False
    (area,) = location.areas
    rows, columns = table_of(shape)
    over_all = (area.rows, area.columns) == ((0, rows - 1), (0, columns - 1))
    return over_all and area.wrong == area.looked


def _wrong_throughout(point: EvaluationPoint, locations: Mapping[str, Location]) -> Iterable[str]:
    """One sentence on all tensors that are wrong throughout: most faults do that to many."""
    if len(locations) < 2:
        for location in locations.values():
            yield from location.sentences
        return
    measured = sum(location.areas[0].looked for location in locations.values())
    checked = " checked" * (measured < sum(point.parameters[name].size for name in locations))
    entries = f"all {measured:,} entries{checked}"
    yield f"{listed(list(locations))}: wrong throughout: {entries} are wrong."


def _has_notable_kink(found: Measurement) -> bool:
    """Whether a kink dominates the error bar and is large enough for a note."""
    size = max(abs(found.gradient), abs(found.numerical))
    return found.at_kink and found.slope is not None and found.slope.kink > NOTABLE_KINK * size


def _worst(found: Measurement, shape: tuple[int, ...]) -> Worst:
    index = np.unravel_index(found.direction.blocks[0].start, shape)
    return Worst(tuple(int(i) for i in index), found.gradient, found.numerical, found.error)


def _direction(found: Measurement) -> Direction:
    return Direction(found.direction.label, found.gradient, found.numerical, found.error)


@dataclass(frozen=True)
class Location:
    """Where in a tensor something is wrong, as a report says it.

    Attributes:
        areas: rows and columns that are wrong.
        all_found: whether nothing else is wrong, as far as was measured.
        sentences: about these areas, and about what was not searched.
    """

    areas: tuple[WrongArea, ...] = ()
    all_found: bool = False
    sentences: tuple[str, ...] = ()


def describe_location(point: EvaluationPoint, name: str, found: TensorMeasurements) -> Location:
    """Where a tensor is wrong: from all its entries, or from a search for the wrong ones."""
    if found.complete and found.wrong:
        return _of_all(point, name, found)
    if found.located is None:
        return Location()
    shape = point.parameters[name].shape
    said = []
    for wrong in found.located.areas:
        outside = f", and {_strips(wrong.agreeing, shape)}" if wrong.agreeing else ""
        if wrong.unclear:
            outside += f"; it cannot be told whether {_strips(wrong.unclear, shape)}"
        said.append(_sentence(point, name, [wrong], outside))
    left = [area.words(shape) for area in found.located.left]
    if left:
        places = listed([*left[:MOST_NAMED], "elsewhere"] if left[MOST_NAMED:] else left)
        said.append(f"{name}: something is wrong in {places}, which was not searched further.")
    areas = tuple(_as_reported(point, name, wrong) for wrong in found.located.areas)
    return Location(areas, found.located.ended, tuple(said))


def _of_all(point: EvaluationPoint, name: str, found: TensorMeasurements) -> Location:
    """The location in a tensor whose entries were all measured."""
    shape = point.parameters[name].shape
    table = np.array([rejects(found.entries[k]) for k in range(len(found.entries))])
    table = table.reshape(table_of(shape))
    count, areas = int(table.sum()), [_counted(table, area) for area in areas_of(table)]
    if not areas:
        more = f"{name}: {count:,} of its {table.size:,} entries are wrong."
        return Location((), count <= MOST_LISTED, (more,) if count > 1 else ())
    others = table.size - sum(wrong.measured for wrong in areas)
    off = count - sum(wrong.wrong for wrong in areas)
    outside = f", and so {_are(off)} {off:,} of the {others:,} others" if off else ""
    if others and not off:
        outside = _outside(others, sum(bool(np.isinf(own.error)) for own in found.entries.values()))
    reported = tuple(_as_reported(point, name, wrong) for wrong in areas)
    return Location(
        reported, not off or count <= MOST_LISTED, (_sentence(point, name, areas, outside),)
    )


def _outside(others: int, flat: int) -> str:
    """What is known of the entries that are not wrong, along some of which the loss is flat."""
    agree = others - flat
    said = ""
    if agree:
        said = f", and all {agree:,} others agree" if agree > 1 else ", and the other agrees"
    if agree and flat:
        said = f", and {agree:,} of the {others:,} others agree{'s' if agree == 1 else ''}"
    if flat:
        which = f"the other {flat:,}" if agree else f"the {others:,} other{'s' * (others > 1)}"
        said += f"; along {which} the loss does not change at all, so that nothing can be told"
    return said


def _counted(table: Array, area: Area) -> LocatedArea:
    inside = table[slice(*area.rows), slice(*area.columns)]
    return LocatedArea(area, inside.size, int(inside.sum()))


def _sentence(point: EvaluationPoint, name: str, areas: Sequence[LocatedArea], outside: str) -> str:
    """A sentence on areas that are wrong, with the evidence."""
    shape = point.parameters[name].shape
    measured, wrong = sum(one.measured for one in areas), sum(one.wrong for one in areas)
    whole = areas[0].area == Area.whole(shape)
    sample = measured < sum(one.area.size for one in areas)
    entries = f"{measured:,} entr{'y' if measured == 1 else 'ies'}"
    entries += " checked" * sample + " there" * (not whole)
    throughout = wrong == measured
    inside = f"all {entries} are" if throughout else f"{wrong:,} of {entries} {_are(wrong)}"
    where = "" if whole else " " + " and ".join(_words(point, name, one.area) for one in areas)
    if whole and not throughout:
        return f"{name}: {inside} wrong{outside}."
    return f"{name}: wrong {'throughout' if throughout else 'in'}{where}: {inside} wrong{outside}."


def _strips(strips: Sequence[Area], shape: Shape) -> str:
    """Says that strips beside an area agree."""
    one = len(strips) == 1 and 1 in (strips[0].height, strips[0].width)
    return f"{listed([strip.words(shape) for strip in strips])} {'agrees' if one else 'agree'}"


def _words(point: EvaluationPoint, name: str, area: Area) -> str:
    """An area in words, with its gate where only one reading of the gates fits."""
    shape = point.parameters[name].shape
    gates = {gates.words(area, shape) for gates in gates_of(point.target, name)} - {""}
    words = area.words(shape)
    return f"{words}, {gates.pop()}" if len(gates) == 1 else words


def _as_reported(point: EvaluationPoint, name: str, wrong: LocatedArea) -> WrongArea:
    (top, bottom), (left, right) = wrong.area.rows, wrong.area.columns
    words = _words(point, name, wrong.area)
    return WrongArea((top, bottom - 1), (left, right - 1), words, wrong.measured, wrong.wrong)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


BUDGET = "allow more evaluations or seconds: the budget ended before everything was checked"
UNDEFINED = "the loss is NaN or infinite, or raises, around this point: check its domain"
KINK = "the loss has a kink here, as a ReLU at 0: move the parameters or inputs a little"
TERMS = "return the loss as an array of per-step terms, which are then summed in float64"
DOUBLE = "compute the loss in float64"
UNROUNDED = "the loss carries few digits: return it unrounded, computed in float64"
INSIDE = (
    "something inside the loss is rounded to few digits, so that it changes in steps: keep states "
    "and activations in float64 for the check"
)
LARGER = "check at larger weights: these are so small that they hardly reach the loss"
SMOOTHER = "the loss curves at every step tried: check fewer steps, or smaller weights"
STEEPER = "this tensor hardly moves the loss here: check where its gradient is larger"
MORE = "look at more directions: effort='normal'"


def remedy(point: EvaluationPoint, name: str, found: TensorMeasurements) -> str:
    """One sentence: what would help most, judged by what makes the error bars wide."""
    measured = [*found.whole, *found.entries.values()]
    if not measured:
        return BUDGET
    if any(m.slope is None for m in measured):
        return UNDEFINED
    worst = max(measured, key=lambda m: m.error / max(m.direction.unit, np.finfo(float).tiny))
    assert worst.slope is not None
    slope = worst.slope
    if point.noise.relative > COARSE_LOSS or point.noise.digits > SINGLE_SPACING:
        return UNROUNDED
    if (
        name in point.own_noise
        and point.noise.digits <= SHORT_SPACING
        and not _single_precision(point)
    ):
        return INSIDE
    if worst.at_kink:
        return KINK
    # With more digits the steps may be smaller, and the loss curves less over them.
    if point.noise.digits > SHORT_SPACING or _single_precision(point):
        small = point.scales[name] < SMALL_WEIGHTS
        return TERMS if point.terms == 1 else LARGER if small else DOUBLE
    if slope.truncation + slope.kink > BENT_RATIO * slope.noise:
        return SMOOTHER
    if _resolved_along_each(measured, point):
        return MORE
    return LARGER if point.scales[name] < SMALL_WEIGHTS else STEEPER


def _single_precision(point: EvaluationPoint) -> bool:
    """Whether the noise is that of a shorter format than float64."""
    return bool(point.noise.deviation > 1e3 * np.finfo(float).eps * point.noise.level)


def _resolved_along_each(measured: list[Measurement], point: EvaluationPoint) -> bool:
    return all(m.error < 0.01 * point.size_of(m.direction) for m in measured)
