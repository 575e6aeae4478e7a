"""Where in a tensor something is wrong: what was measured of it, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array, Shape
from throughtime.gradcheck.areas import Area, areas_of, listed, table_of
from throughtime.gradcheck.borders import Wrong
from throughtime.gradcheck.evaluation_point import Site
from throughtime.gradcheck.examination import Findings
from throughtime.gradcheck.gates import gates_of
from throughtime.gradcheck.report import WrongArea
from throughtime.gradcheck.tolerances import MOST_LISTED, MOST_NAMED
from throughtime.gradcheck.verdict import accused


@dataclass(frozen=True)
class Whereabouts:
    """What a report says of the places that are wrong in a tensor.

    Attributes:
        areas: rows and columns.
        all_found: whether nothing else is wrong, as far as was measured.
        sentences: about these areas, and about what was not searched.
    """

    areas: tuple[WrongArea, ...] = ()
    all_found: bool = False
    sentences: tuple[str, ...] = ()


def whereabouts(site: Site, name: str, found: Findings) -> Whereabouts:
    """From all of a tensor's entries, or from a search for those that are wrong."""
    if found.complete and found.wrong:
        return _of_all(site, name, found)
    if found.located is None:
        return Whereabouts()
    shape = site.parameters[name].shape
    said = []
    for wrong in found.located.areas:
        outside = f", and {_strips(wrong.beside, shape)}" if wrong.beside else ""
        if wrong.unclear:
            outside += f"; whether {_strips(wrong.unclear, shape)} cannot be told"
        said.append(_sentence(site, name, [wrong], outside))
    left = [area.words(shape) for area in found.located.left]
    if left:
        places = listed([*left[:MOST_NAMED], "elsewhere"] if left[MOST_NAMED:] else left)
        said.append(f"{name}: something is wrong in {places}, which was not searched further.")
    areas = tuple(_as_reported(site, name, wrong) for wrong in found.located.areas)
    return Whereabouts(areas, found.located.ended, tuple(said))


def _of_all(site: Site, name: str, found: Findings) -> Whereabouts:
    """Of a tensor whose entries were all looked at."""
    shape = site.parameters[name].shape
    table = np.array([accused(found.entries[k]) for k in range(len(found.entries))])
    table = table.reshape(table_of(shape))
    count, areas = int(table.sum()), [_counted(table, area) for area in areas_of(table)]
    if not areas:
        more = f"{name}: {count:,} of its {table.size:,} entries are wrong."
        return Whereabouts((), count <= MOST_LISTED, (more,) if count > 1 else ())
    others = table.size - sum(wrong.looked for wrong in areas)
    off = count - sum(wrong.wrong for wrong in areas)
    outside = f", and so {_are(off)} {off:,} of the {others:,} others" if off else ""
    if others and not off:
        outside = f", and all {others:,} others agree" if others > 1 else ", and the other agrees"
    reported = tuple(_as_reported(site, name, wrong) for wrong in areas)
    return Whereabouts(
        reported, not off or count <= MOST_LISTED, (_sentence(site, name, areas, outside),)
    )


def _counted(table: Array, area: Area) -> Wrong:
    inside = table[slice(*area.rows), slice(*area.columns)]
    return Wrong(area, inside.size, int(inside.sum()))


def _sentence(site: Site, name: str, areas: Sequence[Wrong], outside: str) -> str:
    """Areas that are wrong, and what speaks for it."""
    shape = site.parameters[name].shape
    looked, wrong = sum(one.looked for one in areas), sum(one.wrong for one in areas)
    whole = areas[0].area == Area.whole(shape)
    sample = looked < sum(one.area.size for one in areas)
    entries = f"{looked:,} entr{'y' if looked == 1 else 'ies'}"
    entries += " looked at" * sample + " there" * (not whole)
    throughout = wrong == looked
    inside = f"all {entries} are" if throughout else f"{wrong:,} of {entries} {_are(wrong)}"
    where = "" if whole else " " + " and ".join(_words(site, name, one.area) for one in areas)
    if whole and not throughout:
        return f"{name}: {inside} wrong{outside}."
    return f"{name}: wrong {'throughout' if throughout else 'in'}{where}: {inside} wrong{outside}."


def _strips(strips: Sequence[Area], shape: Shape) -> str:
    """That strips beside an area agree."""
    one = len(strips) == 1 and 1 in (strips[0].height, strips[0].width)
    return f"{listed([strip.words(shape) for strip in strips])} {'agrees' if one else 'agree'}"


def _words(site: Site, name: str, area: Area) -> str:
    """An area in words, with the gate that it is; where gates are open, if one reading fits."""
    shape = site.parameters[name].shape
    gates = {gates.words(area, shape) for gates in gates_of(site.target, name)} - {""}
    words = area.words(shape)
    return f"{words}, {gates.pop()}" if len(gates) == 1 else words


def _as_reported(site: Site, name: str, wrong: Wrong) -> WrongArea:
    (top, bottom), (left, right) = wrong.area.rows, wrong.area.columns
    words = _words(site, name, wrong.area)
    return WrongArea((top, bottom - 1), (left, right - 1), words, wrong.looked, wrong.wrong)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
