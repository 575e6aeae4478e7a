"""Pages: one self-contained HTML file, its figures and its style inside."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from throughtime.report.figures import EXTRA, as_svg
from throughtime.storage import replace

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Table:
    """A table: headings, rows of text, which column tells a verdict, if one does, a caption."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    verdict: int | None = None
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure, in words what it shows for those who cannot see it, and what stands below it.

    The caption is the text itself where there is none.
    """

    ax: Axes
    text: str
    caption: str = ""

    @classmethod
    def of(cls, ax: Axes, words: tuple[str, str]) -> Figure:
        """With a caption, and numbers for those who cannot see it."""
        caption, numbers = words
        return cls(ax, f"{caption} {numbers}", caption)

    def svg(self, *place: int) -> str:
        """Drawn, with ids that no figure at another place of the page has."""
        return with_own_ids(as_svg(self.ax), "-".join(map(str, place)))


@dataclass(frozen=True)
class Section:
    """A heading, what it says in a paragraph, and what it shows.

    Attributes:
        status: a check's or a flow's verdict, or "", which colours the heading's badge.
        preformatted: text to be shown as it is, generated text for one.
        notes: sentences, each a line of its own.
    """

    title: str
    lead: str = ""
    status: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    preformatted: str = ""
    notes: Sequence[str] = ()


def write_page(path: str | os.PathLike[str], title: str, sections: Sequence[Section]) -> None:
    """Writes sections as one page.

    Raises:
        ImportError: without matplotlib and Jinja2, with the command that installs them.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise ImportError(EXTRA) from None
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.from_string(_read("page.html")).render(
        title=title,
        sections=sections,
        sortable=any(len(table.rows) > 1 for section in sections for table in section.tables),
        script=_read("sort.js").strip(),
    )
    replace(path, page.encode())


def with_own_ids(svg: str, place: str) -> str:
    """An SVG whose ids, of which only those that it refers to stay, are its own on a page."""
    used = set(re.findall(r"#(\w+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    return re.sub(r'(\bid="|[("]#)(\w+)(?=[")])', rf"\1f{place}-\2", svg)


def _read(name: str) -> str:
    return resources.files("throughtime.report").joinpath(name).read_text("utf-8")
