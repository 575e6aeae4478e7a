"""Whether a page of the documentation quotes what its commands print."""

import re

NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]\d+)|[-+]?\d+\.\d+")


def quoted(page, output):
    """How many text blocks of a page stand in what was printed, but for the digits of numbers.

    An AssertionError shows the part that does not.
    """
    output = _plain(output)
    blocks = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    for block in blocks:
        lines = [line for line in block.split("\n") if not line.startswith("$ ")]
        for part in "\n".join(lines).split("…\n"):
            assert _plain(part) in output, part
    return len(blocks)


def _plain(text):
    """Without the digits of numbers, and however long its lines are: a pipe breaks none."""
    return " ".join(NUMBER.sub("#", text).split())
