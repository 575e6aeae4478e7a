"""Axes that a notebook shows as a picture where they are the last value of a cell.

Figures of this package do without pyplot, whose open figures a notebook would show by itself.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

DOTS = 80  # per inch: the figure about as wide as a notebook's text


class ShownAxes(Axes):
    """The only axes of a figure, or the first of several; the whole figure is shown."""

    def _repr_png_(self) -> bytes:
        picture = BytesIO()
        figure = self.get_figure(root=True)
        assert figure is not None
        figure.savefig(picture, format="png", dpi=DOTS)
        return picture.getvalue()


def shown_axes(width: float, height: float) -> Axes:
    """Axes of a new figure, in inches."""
    options: dict[str, Any] = {"axes_class": ShownAxes}
    found: Axes = Figure(figsize=(width, height), layout="constrained").add_subplot(**options)
    return found
