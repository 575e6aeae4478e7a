"""Programs that answer with anything but what was asked for, and stay when they should go."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import throughtime as tt
from torture.mutations import mutated
from torture.tally import KINDS, Tally, folder, processes_with

TIMEOUT = 1.0  # seconds that an answer may take
SLOWEST = 60.0  # seconds in which a refusal has to come, on a busy machine too
MARK = "TORTURE_MARK"

# Answers rightly until its turn; then with what stands in a file, or by a line of Python.
PROGRAM = """
import array, json, os, signal, socket, subprocess, sys, time
case = json.load(open(sys.argv[1]))
turn = 0

def say(answer):
    os.write(1, json.dumps(answer).encode() + b"\\n")

while True:
    line = sys.stdin.readline()
    if not line:
        break
    request, turn = json.loads(line), turn + 1
    do = request["do"]
    if turn == case.get("turn") or do == case.get("do"):
        exec(case.get("code", ""))
        if "answer" in case:
            os.write(1, case["answer"].encode("latin-1"))
            continue
        if case.get("over"):
            continue
    if do == "describe":
        say({"names": ["W", "b"], "shapes": [[2, 3], [2]], "dtype": "float64"})
        continue
    w = array.array("d", open(request["parameters"], "rb").read())
    if do == "loss":
        say({"loss": sum(x**3 for x in w)})
    else:
        open(request["gradient"], "wb").write(array.array("d", [3 * x * x for x in w]).tobytes())
        say({})
"""

RIGHT = {
    1: {"names": ["W", "b"], "shapes": [[2, 3], [2]], "dtype": "float64"},
    2: {"loss": 1.5},
    3: {},
}

# What is never a right answer: a verdict after it has no ground.
REFUSED = [
    "\n", "null\n", "[]\n", "{\n", "0\n", '{"loss": "x"}\n', '{"loss": []}\n', '{"loss": [[1]]}\n',
    '{"loss": true}\n', '{"loss": {}}\n', "{}\n{}\n", "\x00\n", "\xff\xfe\n", "[" * 10**5 + "\n",
    '{"a":' * 10**5 + "\n", '{"loss": 1' + "0" * 5000, "x" * 10**6 + "\n", '{"error": 5}\n',
    '{"names": [], "shapes": [], "dtype": "float64"}\n',
    '{"names": ["W"], "shapes": [[0]], "dtype": "float64"}\n',
    '{"names": ["W"], "shapes": [[-1]], "dtype": "float64"}\n',
    '{"names": ["W"], "shapes": [[1e9]], "dtype": "float64"}\n',
    '{"names": ["W"], "shapes": [[1180591620717411303424]], "dtype": "float64"}\n',
    '{"names": ["W"], "shapes": [[1000000000, 1000000000]], "dtype": "float64"}\n',
    '{"names": ["W"], "shapes": [' + "[" * 900 + "]" * 900 + '], "dtype": "float64"}\n',
    '{"names": ["W"], "shapes": [' + json.dumps([1] * 100) + '], "dtype": "float64"}\n',
    '{"names": ["W"], "shapes": [[2]], "dtype": "object"}\n',
    '{"names": [5], "shapes": [[2]], "dtype": "float64"}\n',
]  # fmt: skip

DAEMON = (
    "subprocess.Popen([sys.executable, '-S', '-c', "
    "'import os, time; os.setsid(); os.fork() and os._exit(0); time.sleep(600)']).wait(); "
)
BEHAVIOUR = [
    "os._exit(0)", "os._exit(7)", "os.abort()", "os.kill(os.getpid(), signal.SIGSEGV)",
    "os.close(1)", "os.close(0); os.close(1); time.sleep(600)", "time.sleep(600)",
    "os.write(1, b'{'); time.sleep(600)", "os.kill(os.getpid(), signal.SIGSTOP)",
    "os.kill(os.getppid(), signal.SIGSTOP); time.sleep(600)",
    "os.kill(os.getppid(), signal.SIGKILL); time.sleep(600)",
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)", DAEMON + "time.sleep(600)",
    DAEMON + "os._exit(0)", DAEMON + "os.abort()", "os.setsid; os.fork() or time.sleep(600)",
    "[os.write(2, b'\\x1b[2J' * 10**4) for _ in range(100)]; os._exit(1)",
    "while True: os.write(1, b' ' * 2**16)",
]  # fmt: skip
GRADIENT_FILES = [
    "os.mkfifo(request['gradient'])", "os.mkdir(request['gradient'])", "pass",
    "os.symlink('/dev/zero', request['gradient'])", "os.symlink(__file__, request['gradient'])",
    "open(request['gradient'], 'wb').truncate(2 * 10**11)", "open(request['gradient'], 'wb')",
    "open(request['gradient'], 'wb').write(bytes(63))",
    "open(request['gradient'], 'wb').write(bytes(65))",
    "open(request['gradient'], 'wb').write(b'\\xff' * 64)",
    "socket.socket(socket.AF_UNIX).bind(request['gradient'])",
    "os.symlink(request['gradient'], request['gradient'])",
]  # fmt: skip


def programs(count: int, seed: int = 0) -> Tally:
    """`count` programs, each wrong in one answer; none may bring about a verdict."""
    tally = Tally()
    with folder() as place, marked() as mark:
        (place / "program.py").write_text(PROGRAM)
        for number, case in zip(range(count), _cases(random.Random(seed)), strict=False):
            path = place / f"{number}.json"
            path.write_text(json.dumps(case))
            words = [sys.executable, "-I", "-S", str(place / "program.py"), str(path)]
            attempt(tally, lambda words=words: tt.program_target(words, timeout=TIMEOUT), case)
        leftovers(tally, mark)
    return tally


def attempt(tally: Tally, start: object, case: dict[str, object]) -> None:
    """Checks a target that `start()` makes, and counts what comes of it."""
    tally.tried += 1
    words = json.dumps(case)[:120]
    began = time.monotonic()
    try:
        with start() as target:  # type: ignore[operator]
            report = tt.check(target, diagnose=False, progress=False, effort="quick")
    except tt.CheckError as problem:
        if any(not character.isprintable() and character != "\n" for character in str(problem)):
            tally.fail("silent", f"{words}: control characters in the message")
    except Exception as problem:
        tally.fail("error", f"{words}: {type(problem).__name__}: {problem}"[:300])
    else:
        if report.verdict not in case.get("allowed", ()):  # type: ignore[operator]
            tally.fail("silent", f"{words}: {report.verdict}")
    if time.monotonic() - began > SLOWEST:
        tally.fail("hang", words)


@contextmanager
def marked() -> Iterator[str]:
    """Whatever is started meanwhile has a mark in its environment."""
    mark = f"{MARK}={os.getpid()}-{time.monotonic_ns()}"
    os.environ[MARK] = mark.partition("=")[2]
    try:
        yield mark
    finally:
        del os.environ[MARK]


def leftovers(tally: Tally, mark: str) -> None:
    """Counts processes that are still there, and ends them."""
    for process in processes_with(mark):
        with suppress(OSError):
            words = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ")[:200]
            tally.fail("left", f"{process}: {words!r}")
            os.kill(process, 9)


def _cases(draw: random.Random) -> Iterator[dict[str, object]]:
    """Every fixed one first; then answers that were mutated."""
    for answer in REFUSED:
        yield from ({"turn": turn, "answer": answer} for turn in (1, 2))
    for code in BEHAVIOUR:
        yield {"turn": draw.choice((1, 2)), "code": code, "over": True}
    for code in GRADIENT_FILES:
        yield {"do": "gradient", "code": f"{code}\nsay({{}})", "over": True}
    while True:
        turn = draw.choice((1, 2, 3))
        line = json.dumps(RIGHT[turn]).encode() + b"\n"
        answer = mutated(line, draw)
        allowed = ["agree", "disagree", "unresolved"]  # a mutated number is a number
        yield {"turn": turn, "answer": answer.decode("latin-1"), "allowed": allowed}


assert set(KINDS) >= {"left", "silent"}
