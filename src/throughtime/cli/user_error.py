"""An exception of the user's own code, in one line that says where it was raised."""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path

OWN = Path(__file__).parents[1]
LIBRARIES = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib"))
SAID = (ValueError, OSError, ImportError)  # whose messages need no name before them


def in_one_line(problem: BaseException) -> str:
    """`file:line: Kind: message`; the message alone where no code of the user was involved.

    Example:
        >>> in_one_line(OSError("no space\\nleft"))
        'no space left'
    """
    kind, words = type(problem).__name__, " ".join(str(problem).split())
    if isinstance(problem, SyntaxError) and problem.filename:  # no line of it has run
        return f"{problem.filename}:{problem.lineno}: {kind}: {problem.msg}"
    frames = traceback.extract_tb(problem.__traceback__)
    places = [f"{frame.filename}:{frame.lineno}" for frame in frames if _is_theirs(frame.filename)]
    if not places and isinstance(problem, SAID):
        return of_the_system(problem) if isinstance(problem, OSError) else words
    return ": ".join([*places[-1:], kind, *([words] if words else [])])


def of_the_system(problem: OSError) -> str:
    """What the system says of a file, without its number, which tells nobody anything.

    Example:
        >>> of_the_system(OSError(28, "No space left on device", "r.json"))
        'r.json: No space left on device'
    """
    if not problem.strerror:
        return " ".join(str(problem).split())
    file = "" if problem.filename is None else f"{os.fsdecode(problem.filename)}: "
    return f"{file}{problem.strerror}"


def _is_theirs(file: str) -> bool:
    """Whether a file belongs to neither this package nor a library; `<frozen …>` is no file."""
    path = Path(file)
    return path.is_file() and not any(map(path.is_relative_to, (OWN, *LIBRARIES)))
