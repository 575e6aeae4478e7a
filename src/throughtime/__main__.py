"""`python -m throughtime`, and the command `throughtime`.

What the command needs is imported here, inside of what catches everything: an interruption or too
little memory, as early as that, is one line too, and its exit status is none of a verdict's.
"""

from __future__ import annotations

import sys

FAILED, INTERRUPTED = 3, 130  # as in `throughtime.cli`, which may not be there yet


def main() -> int:
    """The exit status of the command line."""
    try:
        from throughtime.cli import main as command

        return command()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as problem:
        words = " ".join(f"{type(problem).__name__}: {problem}".split())
        print(f"throughtime: {words}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
