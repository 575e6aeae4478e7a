"""A user's own file that does, in its backward pass, what no backward pass should.

Its gradient is right. What is not in the way of running it has to agree; for the rest there is one
line. Nothing outside of the folder is changed, and neither a process nor a file is left.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import throughtime as tt
from throughtime.source import apart
from torture.programs import leftovers, marked
from torture.tally import Tally, folder

TASK = "throughtime.cli.own_file:judge"
SECONDS = 60.0  # for what ends by itself, on a machine that is busy too
SHORT = 12.0  # for what does not

NET = """
import numpy as np

class Net:
    def __init__(self, n_in, n_hidden):
        self.W = np.random.randn(n_hidden, n_in)
        self.U = np.random.randn(n_hidden, n_hidden)

    def forward(self, x):
        self.x, self.hs = x, [np.zeros(len(self.U))]
        for step in x:
            self.hs.append(np.tanh(self.W @ step + self.U @ self.hs[-1]))
        return np.array(self.hs[1:])

    def backward(self, dout):
        misbehave()
        self.dW, self.dU = 0 * self.W, 0 * self.U
        d = 0
        for t in reversed(range(len(self.x))):
            dz = (dout[t] + d) * (1 - self.hs[t + 1] ** 2)
            self.dW += np.outer(dz, self.x[t])
            self.dU += np.outer(dz, self.hs[t])
            d = self.U.T @ dz
"""

# Lines of Python; KEPT is a file of the user's. What has to agree, and what may be refused.
HARMLESS = [
    "os.chdir('/')",
    "atexit.register(time.sleep, 600)",
    "threading.Thread(target=time.sleep, args=(600,)).start()",
    "[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]",
    "[os.write(n, b'\\x1b[2J' * 10**5) for n in (1, 2)]",
    "print('x' * 10**6, file=sys.__stdout__)",
    "open('kept', 'w').write('other'); open('/dev/null', 'w').write('x')",
    "open(KEPT).read()",
    "tempfile.TemporaryDirectory().cleanup()",
    "sys.setrecursionlimit(200)",
    "gc.disable()",
    "os.environ.clear()",
    "os.umask(0o777)",
    "np.random.seed(0); np.random.rand()",
    "np.seterr(all='raise')",
    "warnings.simplefilter('error'); warnings.warn('x') if 0 else None",
    "sys.stdout = sys.stderr = None",
    "sys.settrace(lambda *_: None)",
    "signal.setitimer(signal.ITIMER_REAL, 100)",
    "ctypes.CDLL(None).fork() or (os.setsid(), time.sleep(600))",
]
REFUSED = [
    "while True: pass", "time.sleep(600)", "sys.exit(0)", "os._exit(0)", "os.abort()",
    "ctypes.string_at(0)", "os.fork()", "os.system('true')", "subprocess.run(['true'])",
    "multiprocessing.Process(target=print).start()", "os.kill(os.getppid(), 9)",
    "os.remove(KEPT)", "os.truncate(KEPT, 0)", "open(KEPT, 'w')", "os.open(KEPT, os.O_RDWR)",
    "os.rename(KEPT, 'own')", "open('own', 'w'); os.replace('own', KEPT)", "os.link(KEPT, 'own')",
    "os.symlink(KEPT, 'own'); open('own', 'w')", "shutil.rmtree(os.path.dirname(KEPT))",
    "shutil.move(KEPT, 'own')", "os.utime(KEPT, (0, 0))", "os.chmod(KEPT, 0)",
    "np.memmap(KEPT, mode='r+')", "sqlite3.connect(KEPT + '.db')", "np.save(KEPT, np.ones(9))",
    "os.mkdir(KEPT + '.folder')", "shutil.rmtree(os.getcwd())", "bytearray(10**13)",
    "[np.ones(10**7) for _ in range(10**4)]", "open('big', 'wb').write(bytes(10**9))",
    "input()", "breakpoint()", "socket.create_connection(('127.0.0.1', 1))",
    "raise KeyboardInterrupt", "raise GeneratorExit", "raise MemoryError", "raise SystemExit('x')",
    "raise type('Odd', (BaseException,), {})('x' * 10**6)", "raise ValueError('\\x1b[2J\\n\\0')",
    "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})()",
    "(lambda f: f(f))(lambda f: f(f))",
    "threading.Timer(0.1, os._exit, (0,)).start(); time.sleep(9)",
    "open('answer.pickle', 'w').write('x'); os._exit(0)", "os.mkdir('answer.pickle'); os._exit(0)",
    "resource.setrlimit(resource.RLIMIT_CPU, (1, 1))\n    while True: pass",
    "signal.setitimer(signal.ITIMER_REAL, 0.1); time.sleep(9)",
    "[os.close(n) for n in range(100)]",
    "ctypes.CDLL(None).fork() or (os.setsid(), time.sleep(600)); os._exit(1)",
    "_thread.interrupt_main(); time.sleep(9)",
]  # fmt: skip
ENDLESS = {"while True: pass", "time.sleep(600)"}
MODULES = (
    "_thread, atexit, ctypes, gc, multiprocessing, os, resource, shutil, signal, socket, sqlite3, "
    "subprocess, sys, tempfile, threading, time, warnings"
)


def cases() -> list[tuple[str, bool]]:
    """What is done, and whether it has to agree."""
    return [*((code, True) for code in HARMLESS), *((code, False) for code in REFUSED)]


def own_files(count: int, seed: int = 0) -> Tally:
    """The first `count` of the cases after the `seed`-th, around the end."""
    tally, chosen = Tally(), cases()
    chosen = (chosen[seed % len(chosen) :] + chosen[: seed % len(chosen)])[:count]
    before = tempfile.tempdir
    with folder() as place, marked() as mark:
        (place / "temporary").mkdir()
        tempfile.tempdir = str(place / "temporary")
        try:
            for code, has_to_agree in chosen:
                _attempt(tally, place, code, has_to_agree)
        finally:
            tempfile.tempdir = before
        leftovers(tally, mark)
    return tally


def _state(path: Path) -> tuple[object, ...]:
    """What would show that a file was touched."""
    if not path.is_file():
        return ()
    found = path.lstat()
    return found.st_ino, found.st_nlink, found.st_mode, found.st_mtime_ns, path.read_bytes()


def _attempt(tally: Tally, place: Path, code: str, has_to_agree: bool) -> None:
    tally.tried += 1
    kept = place / "kept"
    kept.write_text("as it was")
    state = _state(kept)
    text = f"import {MODULES}\ndef misbehave():\n    KEPT = {str(kept)!r}\n    {code}\n{NET}"
    (place / "net.py").write_text(text)
    given = (str(place / "net.py"), "", 0, {"effort": "quick", "progress": False}, True)
    seconds = SHORT if code in ENDLESS else SECONDS
    try:
        found = apart(TASK, *given, seconds=seconds).report.verdict
    except tt.CheckError as problem:
        found, said = "refused", str(problem)
        if has_to_agree or len(said) > 2000 or "\n" in said:
            tally.fail("error", f"{code}: {said}"[:300])
    except KeyboardInterrupt:
        found = "refused"
        if "nterrupt" not in code:
            tally.fail("error", f"{code}: KeyboardInterrupt")
    except Exception as problem:
        found = "refused"
        tally.fail("error", f"{code}: {type(problem).__name__}: {problem}"[:300])
    if found not in ("agree", "refused"):
        tally.fail("silent", f"{code}: {found}")
    changed = _state(kept) != state
    for name in set(os.listdir(place)) - {"kept", "net.py", "temporary"}:
        tally.fail("left", f"{code}: {name}")
    for name in os.listdir(place / "temporary"):
        tally.fail("left", f"{code}: temporary/{name}")
    if changed:
        tally.fail("silent", f"{code}: the user's file is another")
