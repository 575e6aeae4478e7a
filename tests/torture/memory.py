"""Every command with less and less memory: it works, or says in one line that it does not."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from throughtime.cli import FAILED, main
from torture.tally import Tally, apart, folder
from training_examples import text

LEAST, MOST = 2**14, 2**28  # bytes beyond what the process has when the command begins
VERDICTS = {0, 1, 2}
WITH_VERDICTS = {"check", "compare"}

TARGET = """
import numpy as np
import throughtime as tt

net = tt.Network([tt.LSTM(3, 8), tt.Dense(8, 2)], loss=tt.MeanSquaredError(), dtype="float64")
x, y = np.ones((20, 3, 3)), np.zeros((20, 3, 2))
target = (net, x, y)
"""


def commands(place: Path) -> list[list[str]]:
    """The command lines, whose files are made."""
    (place / "book.txt").write_text(text(400).characters)
    (place / "target.py").write_text(TARGET)
    (place / "pairs.txt").write_text("".join(f"W[{k}] {k}.5 {k}.5\n" for k in range(200)))
    small = ["--hidden", "8", "--embedding", "0", "--batch", "3", "--k1", "16", "--updates", "3"]
    checkpoint, again = str(place / "checkpoint"), str(place / "again")
    train = ["train", str(place / "book.txt"), *small, "--out"]
    if main([*train, checkpoint]):
        raise RuntimeError("the command does not work with enough memory either")
    return [
        [*train, again],
        ["sample", checkpoint, "--length", "20"],
        ["flow", checkpoint, "--steps", "30", "--batch", "2"],
        ["check", str(place / "target.py:target"), "--json", str(place / "r.json")],
        ["compare", str(place / "pairs.txt")],
        ["explain", "lstm"],
    ]


def memory(count: int, seed: int = 0) -> Tally:
    """`count` limits of the address space, in steps, shared out among the commands."""
    tally = Tally()
    with folder() as place:
        lines: list[list[str]] = _quietly(lambda: commands(place))[0]
        each = max(1, count // len(lines))
        for number, line in enumerate(lines):
            own = each if number else count - each * (len(lines) - 1)
            for step in range(own):
                share = (step + (seed % 7) / 7) / own
                room = int(LEAST * (MOST / LEAST) ** share)
                _tried(tally, line, room, place)
    return tally


def _tried(tally: Tally, line: list[str], room: int, place: Path) -> None:
    tally.tried += 1
    words = f"{line[0]} with {room / 2**20:.2f} MiB"
    before = set(os.listdir(place))
    found, status = apart(lambda: _limited(line, room))
    if status is None:
        tally.fail("hang", words)
    elif found is None:
        tally.fail("crash", f"{words}: status {status}")
    else:
        code, err = found
        told = [one for one in err.splitlines() if one.strip()]
        silent = code == FAILED and len(told) != 1
        allowed = {0, FAILED}
        if code not in allowed or silent or "Traceback" in err:
            tally.fail("error", f"{words}: status {code}: {told[-3:]}"[:400])
    for left in set(os.listdir(place)) - before - {"again", "r.json", "__pycache__", ".again.lock"}:
        tally.fail("left", f"{words}: {left}")


def _limited(line: list[str], room: int) -> tuple[Any, str]:
    """In a fork: status and standard error."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    sys.argv = ["throughtime"]

    def run() -> int:
        resource.setrlimit(resource.RLIMIT_AS, (taken + room, resource.RLIM_INFINITY))
        try:
            return main(line)
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)

    return _quietly(run)


def _quietly(work: Any) -> tuple[Any, str]:
    """What it returns, and what it writes to standard error; standard output is dropped."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as err, open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(err.fileno(), 2)
        streams = sys.stdout, sys.stderr  # under pytest they write elsewhere
        try:
            with open(1, "w", closefd=False) as sys.stdout, open(2, "w", closefd=False) as said:
                sys.stderr = said
                found = work()
        finally:
            sys.stdout, sys.stderr = streams
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
        err.seek(0)
        return found, err.read().decode(errors="replace")


def from_the_start(count: int, seed: int = 0) -> Tally:
    """`count` limits under which a new interpreter begins: NumPy may not even be imported."""
    tally = Tally()
    for step in range(count):
        limit = int(2**25 * (2**31 / 2**25) ** ((step + (seed % 7) / 7) / count))
        code = (
            f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit},) * 2)\n"
            "import sys; from throughtime.__main__ import main; sys.exit(main())"
        )
        words = [sys.executable, "-c", code, "check", "--include"]
        tally.tried += 1
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        told = f"{limit / 2**20:.0f} MiB from the start: status {done.returncode}: {done.stderr}"
        if done.returncode not in (0, FAILED):
            tally.fail("crash" if done.returncode < 0 else "error", told[:400])
    return tally
