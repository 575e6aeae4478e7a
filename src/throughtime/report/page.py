"""Pages: one self-contained HTML file, its figures and its style inside."""

from __future__ import annotations

import os
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
    """A figure, and in words what it shows, for those who cannot see it."""

    ax: Axes
    text: str

    @property
    def svg(self) -> str:
        return as_svg(self.ax)


@dataclass(frozen=True)
class Section:
    """A heading, what it says in a paragraph, and what it shows.

    Attributes:
        status: "agree", "disagree", "unresolved" or "", which colours the heading's badge.
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
    source = resources.files("throughtime.report").joinpath("page.html").read_text("utf-8")
    page = environment.from_string(source).render(title=title, sections=sections)
    replace(path, page.encode())
