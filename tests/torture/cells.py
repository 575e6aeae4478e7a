"""The compiler of users' cells, and the folder where its libraries are kept, both gone wrong.

Each attempt is a process with a cache folder of its own, which asks for a function in C. It gets
the right one, or hears that there is none; it never ends by what it loads.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

from throughtime.codegen import SETTING, Unavailable, compiler, library, tolerances
from torture.mutations import mutated
from torture.tally import Tally, apart, folder, fork

C = "int answer(void) { return 42; }\n"
SECONDS = 3.0  # that a compiler has here; the real one, much longer
PROBED = 'case "$*" in *-dM*) exit 0;; esac; '
OUTPUT = 'for word; do last=$1; shift; [ "$last" = -o ] && out=$1; done; '
COMPILERS = [
    "exit 1", "exec sleep 60", "yes", "yes >&2", "head -c 9000000 /dev/zero", "kill -9 $$", "",
    "echo error: no licence >&2; exit 1", "setsid sleep 9 & exit 1", "sleep 9 & sleep 60",
    PROBED, PROBED + "exit 3", PROBED + "yes >&2", PROBED + "sleep 60", PROBED + "kill -11 $$",
    PROBED + OUTPUT + "echo no > $out", PROBED + OUTPUT + ": > $out",
    PROBED + OUTPUT + "mkdir $out", PROBED + OUTPUT + "mkfifo $out",
    PROBED + OUTPUT + "ln -s /dev/zero $out", PROBED + OUTPUT + "ln -s $out $out",
    PROBED + OUTPUT + "head -c 15000 /dev/urandom > $out",
    PROBED + OUTPUT + "rm -rf $(dirname $out)",
]  # fmt: skip


def compiled_cells(count: int, seed: int = 0) -> Tally:
    """`count` attempts, shared out among the ways in which it goes wrong."""
    tally, draw = Tally(), random.Random(seed)
    for number in range(count):
        with folder() as place:
            os.chmod(place, 0o755)
            WAYS[number % len(WAYS)](tally, draw, place, seed + number)
    return tally


def _answer(place: Path, command: str = "", most: int | None = None) -> str:
    """In a fork: the number that C gives, or that there is none."""
    os.environ |= {"XDG_CACHE_HOME": str(place), SETTING: command}
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    if command:
        tolerances.PROBE_SECONDS = tolerances.COMPILE_SECONDS = SECONDS
    if most is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    compiler._found.cache_clear()
    try:
        return str(library(C, "answer")[0].answer())
    except Unavailable as problem:
        words = str(problem)
        return "none" if words.isprintable() and len(words) < 1000 else f"said {words!r}"
    except AttributeError:
        return "none"  # which the cell's twin takes for it


def _judged(
    tally: Tally, words: str, ask: Callable[[], str], *, allowed: tuple[str, ...] = ("42",)
) -> None:
    tally.tried += 1
    found, status = apart(ask)
    if status != 0:
        tally.fail("hang" if status is None else "crash", f"{words}: status {status}")
    elif found not in allowed:
        tally.fail("error", f"{words}: {found}")


def _left(tally: Tally, words: str, place: Path) -> None:
    for left in place.rglob(".compiling-*"):
        tally.fail("left", f"{words}: {left.name}")


def _damaged(tally: Tally, draw: random.Random, place: Path, seed: int) -> None:
    """A library, or the source beside it, that is another one than was written."""
    _judged(tally, "first", lambda: _answer(place))
    for number in range(8):
        for path in place.rglob("*.so"):
            path.write_bytes(mutated(path.read_bytes(), draw))
        _judged(tally, f"damaged {seed} {number}", lambda: _answer(place))
    _left(tally, "damaged", place)


def _bad_compiler(tally: Tally, draw: random.Random, place: Path, seed: int) -> None:
    text = COMPILERS[seed // len(WAYS) % len(COMPILERS)]
    path = place / "compiler"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    _judged(tally, text, lambda: _answer(place, str(path)), allowed=("none",))
    _left(tally, text, place)


def _bad_folder(tally: Tally, draw: random.Random, place: Path, seed: int) -> None:
    """The folder, or what is above it, is a file, a link, another's, or open to others."""
    cells = place / "throughtime" / "cells"
    cells.mkdir(parents=True, mode=0o700)
    (place / "elsewhere").mkdir(mode=0o777)
    (place / "elsewhere").chmod(0o777)
    state = draw.choice(("open", "above", "theirs", "link", "file", "dangling", "full", "loop"))
    if state == "open":
        cells.chmod(0o777)
    elif state == "above":
        place.chmod(0o777)
    elif state == "theirs":
        if os.getuid() == 0:
            os.chown(cells, 65534, 65534)
    elif state != "full":
        cells.rmdir()
        to = {"link": place / "elsewhere", "dangling": place / "none", "loop": cells}
        cells.write_text("") if state == "file" else cells.symlink_to(to[state])
    most = draw.choice((0, 100, 5000)) if state == "full" else None
    allowed = ("42", "none") if state == "full" else ("42",)
    _judged(tally, state, lambda: _answer(place, most=most), allowed=allowed)
    theirs = state in ("open", "above", "link") or (state == "theirs" and os.getuid() == 0)
    if theirs and list(place.rglob("*.so")):
        tally.fail("silent", f"{state}: what is loaded could be exchanged")
    _left(tally, state, place)


def _at_once(tally: Tally, draw: random.Random, place: Path, seed: int) -> None:
    """Several processes at once; some of them are killed."""
    children = []
    for _ in range(3):
        child = fork()
        if not child:
            code = 1
            try:
                code = int(_answer(place) != "42")
            finally:
                os._exit(code)
        children.append(child)
    time.sleep(draw.uniform(0, 0.3))
    os.kill(children[0], signal.SIGKILL)
    for number, child in enumerate(children):
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        tally.tried += 1
        if number and status:
            tally.fail("error" if status > 0 else "crash", f"at once: status {status}")
    for path in place.rglob("*.so"):
        path.unlink()  # so that the next one compiles, and removes what the killed one left
    _judged(tally, "after a kill", lambda: _answer(place))
    _left(tally, "after a kill", place)


WAYS = (_damaged, _bad_compiler, _bad_folder, _at_once)
