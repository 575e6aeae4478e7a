"""The pages, one a fault, and the small networks on which their examples run."""

from __future__ import annotations

from pathlib import Path

from throughtime.arrays import refuse
from throughtime.diagnosis.faults import FAULTS, Fault

FOLDER = Path(__file__).parent


def page(name: str) -> str:
    """A fault's page, as Markdown.

    Args:
        name: the fault's identifier, `dh_next_missing`, or its page's name, `dh-next-missing`.

    Raises:
        ValueError: where no fault is called so; the message names those that sound like it.

    Example:
        >>> from throughtime.diagnosis.pages import page
        >>> print(page("dh_next_missing").splitlines()[0])
        # dh_next_missing
    """
    return path(fault(name)).read_text(encoding="utf-8")


def summary(name: str) -> str:
    """What is wrong, in a sentence: the first of the fault's page."""
    return " ".join(page(name).split("\n\n")[1].split())


def path(of: Fault) -> Path:
    """Where its page lies."""
    return FOLDER / f"{of.page}.md"


def fault(name: str) -> Fault:
    """The fault of that name, written with underscores or hyphens."""
    identifier = name.strip().lower().replace("-", "_")
    if identifier not in FAULTS:
        from difflib import get_close_matches

        close = get_close_matches(identifier, FAULTS, n=3)
        way_out = "perhaps " + ", ".join(close) if close else "throughtime explain fault lists all"
        refuse("fault", f"one of {len(FAULTS)} names", repr(name), way_out)
    return FAULTS[identifier]
