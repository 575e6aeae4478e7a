"""Commands that write a user's files, killed while they write, or with no place to write to.

Whatever happens, a file is the old one or the new one, whole; a source file that was changed has
the old one beside it; devices and pipes stay what they are.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import throughtime as tt
from throughtime.cli import FAILED, main
from throughtime.source.mending.mended import Mended
from torture.memory import _quietly
from torture.tally import Tally, apart, folder, fork

LONGEST_LIFE = 0.03  # seconds; a file is written in a few thousandths of one
FULL = (500, 1000, 4096)  # bytes that fit on the disk, where standard error has to fit too


def writes(count: int, seed: int = 0) -> Tally:
    """`count` writes: three quarters are killed, the others have no place."""
    tally, draw = Tally(), random.Random(seed)
    with folder() as place:
        nets = [place / "one", place / "other"]
        for number, path in enumerate(nets):
            layers = [tt.GRU(2, 20), tt.Dense(20, 2)]
            tt.Network(layers, loss=tt.MeanSquaredError(), seed=number).save(path)
        whole = {}
        for path in nets:
            _quietly(lambda path=path: main(["export", str(path), "--c", str(place / "net.c")]))
            whole[path] = (place / "net.c").read_bytes()
        ways = (_export_killed, _mend_killed, _mend_killed, _nowhere)
        for number in range(count):
            tally.tried += 1
            ways[number % len(ways)](tally, draw, place, whole)
    return tally


def _killed(draw: random.Random, work: Callable[[], object]) -> None:
    """Runs `work` again and again, until it is killed."""
    child = fork()
    if not child:
        try:
            _quietly(lambda: [work() for _ in range(10**6)])
        finally:
            os._exit(1)
    time.sleep(draw.uniform(0, LONGEST_LIFE))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _export_killed(
    tally: Tally, draw: random.Random, place: Path, whole: dict[Path, bytes]
) -> None:
    out = place / "net.c"

    def work() -> None:
        for path in whole:
            main(["export", str(path), "--c", str(out)])

    _killed(draw, work)
    if out.read_bytes() not in whole.values():
        tally.fail("silent", f"export: {out.stat().st_size} bytes that nobody wrote")
    _quietly(lambda: main(["export", str(next(iter(whole))), "--c", str(out)]))
    for left in place.glob(".net.c.part-*"):
        tally.fail("left", f"export: {left.name}")


def _mend_killed(tally: Tally, draw: random.Random, place: Path, whole: dict[Path, bytes]) -> None:
    path, copy = place / "lstm.py", place / "lstm.py.orig"
    old, new = "a = 1\n" * 20_000, "a = 2\n" * 20_000
    mended = Mended(path, {path: old}, {path: new}, (), {}, {}, "agree", 0.0, "agree", 0)

    def scene() -> None:
        with suppress(FileNotFoundError):
            copy.unlink()
        path.write_text(old)
        path.chmod(0o600)

    def work() -> None:
        scene()
        os.write(writing, b"x")
        mended.write()
        os.write(writing, b"y")

    reading, writing = os.pipe()
    _killed(draw, work)
    os.close(writing)
    steps = b""
    while chunk := os.read(reading, 2**16):
        steps += chunk
    os.close(reading)
    if steps[-1:] != b"x":
        return  # it was killed while it set the scene
    if path.read_text() not in (old, new):
        tally.fail("silent", "mend: neither the old file nor the new one")
    if copy.exists() and copy.read_text() != old:
        tally.fail("silent", "mend: a copy that is not the old file")
    if path.read_text() == new and not copy.exists():
        tally.fail("silent", "mend: the old file is nowhere")
    modes = {stat.S_IMODE(one.stat().st_mode) for one in (path, copy) if one.exists()}
    if modes != {0o600}:
        tally.fail("silent", f"mend: mode {modes}")
    scene()
    mended.write()
    for left in place.glob(".lstm.py*.part-*"):
        tally.fail("left", f"mend: {left.name}")


def _nowhere(tally: Tally, draw: random.Random, place: Path, whole: dict[Path, bytes]) -> None:
    """Export to what is no file, or where nothing fits."""
    kind = draw.choice(("null", "full device", "pipe", "folder", "dangling", "full", "link"))
    out = place / f"out-{kind.replace(' ', '-')}.c"
    (place / "target.c").write_bytes(b"old")
    net, before = next(iter(whole)), None
    if kind in ("null", "full device"):
        if os.getuid() == 0:
            minor = 3 if kind == "null" else 7
            os.mknod(out, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        else:
            out.symlink_to("/dev/null" if kind == "null" else "/dev/full")
    elif kind == "pipe":
        os.mkfifo(out)
        before = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
    elif kind == "folder":
        out.mkdir()
    elif kind in ("link", "dangling"):
        out.symlink_to(place / ("target.c" if kind == "link" else "none/there.c"))
    else:
        out.write_bytes(b"old")
    mode = os.lstat(out).st_mode

    def work() -> list[object]:
        if kind == "full":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            most = draw.choice(FULL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        return list(_quietly(lambda: main(["export", str(net), "--c", str(out)])))

    found, status = apart(work, 20.0)
    words = f"export to {kind}"
    if kind == "pipe" and before is not None:
        os.close(before)
    if found is None:
        # A pipe that nobody empties may keep a writer waiting, as it does any program.
        if status is not None or kind != "pipe":
            tally.fail("hang" if status is None else "crash", f"{words}: status {status}")
    else:
        code, said = found
        fails = kind in ("full device", "folder", "dangling", "full")
        lines = [line for line in said.splitlines() if line.strip()]
        if code != (FAILED if fails else 0) or (fails and len(lines) != 1):
            tally.fail("error", f"{words}: status {code}: {said[-200:]}")
    if os.lstat(out).st_mode != mode:
        tally.fail("silent", f"{words}: it is something else now")
    if kind == "full" and out.read_bytes() != b"old":
        tally.fail("silent", f"{words}: the old file is gone")
    if kind == "link" and (place / "target.c").read_bytes() == b"old":
        tally.fail("silent", f"{words}: the target is stale")
    for left in place.glob(f".{out.name}.part-*"):
        tally.fail("left", f"{words}: {left.name}")
    out.rmdir() if kind == "folder" else out.unlink()
