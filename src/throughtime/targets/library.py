"""A shared library with the C interface of `throughtime.h` as a target.

The library runs in a process of its own: if it crashes, the checker goes on and says where.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from throughtime.arrays import refuse
from throughtime.gradcheck import CheckError
from throughtime.targets import serve_library
from throughtime.targets.program import ProgramStart, ProgramTarget, seconds, started
from throughtime.targets.tolerances import ANSWER_TIMEOUT

PLACES = {
    "load": "while it was loaded",
    "describe": "in tt_describe",
    "loss": "in tt_loss",
    "gradient": "in tt_gradient",
    "reset": "in tt_reset",
    "set_length": "in tt_set_length",
    "initial": "in tt_initial",
}

INCLUDE = Path(__file__).parents[1] / "include"  # the folder of throughtime.h


def library_target(
    path: str | os.PathLike[str],
    *,
    timeout: float = ANSWER_TIMEOUT,
    seed: int = 0,
    layout: Any = None,
) -> ProgramTarget:
    """Loads a shared library with the C interface, in a process of its own, as a target.

    Args:
        path: the library's file.
        timeout: seconds that each call may take.
        seed: random seed for the parameters, where there is no `tt_initial`: they are drawn
            uniformly from ±1/√n, with n the length of the last axis.
        layout: how its arrays hold a cell's matrices, and the data of its run, see `Target`.

    Raises:
        CheckError: where it cannot be loaded, lacks a function or does not describe itself.

    Example:
        >>> target = tt.library_target("./liblstm.so")  # doctest: +SKIP
        >>> tt.check(target).verdict  # doctest: +SKIP
        'agree'
    """
    if not Path(path).is_file():
        actual = f"the folder {path}" if Path(path).is_dir() else os.fspath(path)
        refuse("library", "an existing file", actual, error=CheckError)
    command = (sys.executable, "-I", serve_library.__file__)
    load: dict[str, object] = {"do": "load", "library": str(Path(path).resolve())}
    start = ProgramStart(command, os.fspath(path), PLACES, seconds(timeout), (load,))
    return started(start, seed, layout)


def is_library(path: object) -> bool:
    """Whether this is the path of a shared library, by its name."""
    if not isinstance(path, str | os.PathLike):
        return False
    name = Path(os.fspath(path)).name
    return name.endswith((".so", ".dylib", ".dll")) or ".so." in name
