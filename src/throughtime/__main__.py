"""`python -m throughtime`, and the command `throughtime`.

What the command needs is imported here, inside of what catches everything: an interruption or too
little memory, as early as that, is one line too, and its exit status is none of a verdict's.
"""

from __future__ import annotations

import os
import sys

# Bytes; with less, OpenBLAS, which NumPy loads, ends the process with exit status 1, as a verdict
# would. It needs some 100 MiB with one thread.
LEAST_ADDRESS_SPACE = 192 * 2**20
FAILED, INTERRUPTED = 3, 130  # as in `throughtime.cli`, which may not be there yet


def main() -> int:
    """The exit status of the command line."""
    try:
        _open_streams()
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


def _open_streams() -> None:
    """Opens what a shell has closed, as in `throughtime … >&-`: nobody need read what is said.

    Without it the next file that is opened would take the stream's number, and what a library
    prints would be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


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
