"""Colour on a terminal: verdicts and diffs, and nothing where it is not wanted.

Text that is piped or written to a file has none. `NO_COLOR`, `FORCE_COLOR` and `TERM=dumb` are
respected, in this order.
"""

from __future__ import annotations

import os
import re
from typing import TextIO

BOLD, RED, GREEN, YELLOW, CYAN = "1", "31", "32", "33", "36"
VERDICTS = {
    "agree": GREEN, "disagree": RED, "unresolved": YELLOW,
    "healthy": GREEN, "vanishing": RED, "exploding": RED, "dead": RED,
}  # fmt: skip
MENDED = {"mended in part": YELLOW, "mended": GREEN, "nothing to mend": GREEN, "not mended": RED}
MENDED |= {"no edit was found that mends it": RED}
HEADLINE = re.compile(rf"^({'|'.join(VERDICTS).upper()})(?=:)", re.MULTILINE)
CELL = re.compile(rf"(?<=  )({'|'.join(VERDICTS)})(?=  )")  # of a table, whose columns these part
OUTCOME = re.compile(rf"^({'|'.join(MENDED)})(?=:|;|$)", re.MULTILINE)
CHANGED = {"+++": BOLD, "---": BOLD, "@@ ": CYAN, "+": GREEN, "-": RED}  # lines of a diff, by start


def coloured(stream: TextIO) -> bool:
    """Whether colour is wanted on a stream."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    if os.environ.get("TERM") == "dumb" or not stream.isatty():
        return False
    return os.name != "nt" or "WT_SESSION" in os.environ  # an older console shows the codes


def verdicts(text: str) -> str:
    """The text of a report or a flow with its verdicts in colour.

    Example:
        >>> verdicts("AGREE: d = 1e-12")
        '\\x1b[1;32mAGREE\\x1b[0m: d = 1e-12'
    """
    text = HEADLINE.sub(lambda found: _in(f"{BOLD};{VERDICTS[found[0].lower()]}", found[0]), text)
    return CELL.sub(lambda found: _in(VERDICTS[found[0]], found[0]), text)


def edits(text: str) -> str:
    """What `mend` says, its outcome and the lines of its diff in colour."""
    text = OUTCOME.sub(lambda found: _in(f"{BOLD};{MENDED[found[0]]}", found[0]), text)
    lines, within = [], False
    for line in text.split("\n"):
        within = line.startswith(("--- ", "+++ ", "@@ ")) or (within and line[:1] in (*" +-\\",))
        colour = next((c for start, c in CHANGED.items() if line.startswith(start)), "")
        lines.append(_in(colour, line) if within and colour else line)
    return "\n".join(lines)


def _in(codes: str, text: str) -> str:
    return f"\x1b[{codes}m{text}\x1b[0m"
