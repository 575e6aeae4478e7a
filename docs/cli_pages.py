"""Writes the reference of the command line, docs/command-line.md, from its parsers."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from generated import write_page

from throughtime.cli import command_parser

HERE = Path(__file__).parent
INTRODUCTION = """# The command line

`throughtime COMMAND --help` prints what stands here. Every command returns 0 where all is well, 3
where it could not run and 130 where Ctrl-C ended it; a command with other statuses says so.
`throughtime --debug COMMAND …` shows where an error came from.
"""


def page() -> str:
    """The text of the page: for each command its usage, in the words of its parser."""
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "88"  # argparse wraps its text at this width
    try:
        found = [INTRODUCTION]
        for name, one in commands().items():
            found.append(f"## throughtime {name}\n\n```text\n{one.format_help().rstrip()}\n```\n")
        return "\n".join(found)
    finally:
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of every command, and of every command below one, by name."""
    found: dict[str, argparse.ArgumentParser] = {}
    pending = [("", command_parser())]
    while pending:
        name, one = pending.pop(0)
        for action in one._actions:
            if isinstance(action, argparse._SubParsersAction):
                pending += [(f"{name} {key}".strip(), own) for key, own in action.choices.items()]
        if name:
            found[name] = one
    return found


def write(path: Path = HERE / "command-line.md") -> None:
    """Writes the page if it has changed."""
    write_page(path, page())
