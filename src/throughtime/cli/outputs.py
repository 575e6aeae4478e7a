"""The files that a command is to write: whether they can be written, before the work begins."""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path

from throughtime.arrays import refuse
from throughtime.gradcheck import CheckError
from throughtime.report.figures import INSTALL_REPORT
from throughtime.storage import OPEN_ALREADY

OUTPUTS = ("json", "html", "junit", "figure")  # options of any command that name a file to write
# What any command reads, as its parser calls it; a few may say which object of the file is meant.
INPUTS: tuple[str, ...] = (
    "target", "gradient", "numerical", "parameters", "checkpoint", "data", "sources", "record",
    "cell", "rows", "read", "text",
)  # fmt: skip
DRAWN = {"html": ("matplotlib", "jinja2"), "figure": ("matplotlib",)}  # and what that needs


def check_outputs(options: argparse.Namespace) -> None:
    """Refuses outputs that could not be written, so that no long work is done for nothing.

    Args:
        options: of any command; those named in `OUTPUTS` are looked at, where there are any.

    Raises:
        CheckError: where a file cannot be written there, or in the format of its suffix, or would
            take the place of another output or of what the command reads.
        ImportError: where a page or a figure is asked for and what draws it is not installed.
    """
    written: dict[str, str] = {}
    for name in OUTPUTS:
        path = getattr(options, name, None)
        if path is None:
            continue
        writable(f"--{name}", path)
        spare_inputs(f"--{name}", path, options)
        for other, before in written.items():
            if _same(before, path):
                refuse(f"--{name}", f"another file than that of {other}", path, error=CheckError)
        written[f"--{name}"] = path
        if not all(map(importlib.util.find_spec, DRAWN.get(name, ()))):
            raise ImportError(f"--{name} {path}: {INSTALL_REPORT}")
        if name == "figure":
            _drawable(path)


def writable(option: str, path: str | os.PathLike[str], way_out: str = "") -> None:
    """Refuses a place at which no file can be written.

    Args:
        option: which names the place.
        path: the place; an open stream such as /dev/stdout, a pipe and a device are one.
        way_out: what to do where the place is a folder.

    Raises:
        CheckError: where it is a folder, or in none, or in one that nobody may write to.
    """
    place, shown = Path(path), os.fspath(path) or "''"
    if not os.fspath(path) or place.is_dir():
        actual = f"the folder {shown}" if os.fspath(path) else shown
        refuse(option, "a file", actual, way_out, error=CheckError)
    if OPEN_ALREADY.fullmatch(os.fspath(path)) or (place.exists() and not place.is_file()):
        return
    folder = Path(os.path.realpath(place)).parent
    if not folder.is_dir():
        expected, mkdir = "a file in an existing folder", f"mkdir -p {place.parent}"
        refuse(option, expected, shown, mkdir, error=CheckError)
    if not os.access(folder, os.W_OK):
        expected = "a file in a folder that can be written to"
        refuse(option, expected, shown, "name another one", error=CheckError)


def spare_inputs(option: str, path: str | os.PathLike[str], options: argparse.Namespace) -> None:
    """Refuses to write over a file that the command reads, such as the code that it checks.

    Args:
        option: which names the place.
        path: the place.
        options: of the command.

    Raises:
        CheckError: where a file to be read lies there.
    """
    for name in INPUTS:
        given = getattr(options, name, None)
        for one in given if isinstance(given, list) else [given]:
            if not isinstance(one, str) or (name == "cell" and ".py" not in one):
                continue  # the cell of `train` is a word
            if _same(one, path) or _same(one.rpartition(":")[0], path):
                expected, way_out = "another file than the one that is read", "name another one"
                refuse(option, expected, os.fspath(path), way_out, error=CheckError)


def _same(one: str, other: str | os.PathLike[str]) -> bool:
    """Whether two places are one file, which may be there already or not yet."""
    places = [Path(one), Path(other)]
    if not one or any(OPEN_ALREADY.fullmatch(str(place)) for place in places):
        return False
    if any(place.exists() and not place.is_file() for place in places):
        return False  # a pipe or a device
    return os.path.realpath(places[0]) == os.path.realpath(places[1])


def _drawable(path: str) -> None:
    """Refuses a figure whose suffix names no format that matplotlib writes."""
    from matplotlib.backend_bases import FigureCanvasBase

    suffix = Path(path).suffix.removeprefix(".").lower()
    if suffix and suffix not in FigureCanvasBase.filetypes:
        expected = "a format that matplotlib writes, such as .png, .svg or .pdf"
        refuse("--figure", expected, path, error=CheckError)
