"""`python -m throughtime`, and the command `throughtime`.

What the command needs is imported here, inside of what catches everything: an interruption or too
little memory, as early as that, is one line too, and its exit status is none of a verdict's.
"""

from __future__ import annotations

import sys

# Bytes; with less, OpenBLAS, which NumPy loads, ends the process with exit status 1, as a verdict
# would. It needs some 100 MiB with one thread.
LEAST_ADDRESS_SPACE = 192 * 2**20
FAILED, INTERRUPTED = 3, 130  # as in `throughtime.cli`, which may not be there yet


def main() -> int:
    """The exit status of the command line."""
    try:
        _enough_memory()
        from throughtime.cli import main as command

        return command()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as problem:
        words = " ".join(f"{type(problem).__name__}: {problem}".split())
        print(f"throughtime: {words}", file=sys.stderr)
        return FAILED


def _enough_memory() -> None:
    """Refuses a limit, as `ulimit -v` sets one, under which NumPy cannot be loaded."""
    try:
        from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit
    except ImportError:  # POSIX alone has it
        return
    limit = getrlimit(RLIMIT_AS)[0]
    if limit != RLIM_INFINITY and limit < LEAST_ADDRESS_SPACE:
        least, given = LEAST_ADDRESS_SPACE >> 20, limit >> 20
        raise MemoryError(f"expected at least {least} MiB of address space, got {given}; ulimit -v")


if __name__ == "__main__":
    sys.exit(main())
