"""A task in a process of its own: limited in time and memory, in a temporary folder.

A user's code may hang, end the process, start others or print without end. None of it reaches the
process that waits: the task's folder, and all that the task has started, go when it is over.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import IO, Any, NoReturn

from throughtime.arrays import refuse
from throughtime.gradcheck import CheckError
from throughtime.targets import end, start

SECONDS = 900.0  # of wall-clock time for a whole task, where the user gives no other limit
MEMORY = 8 * 2**30  # bytes of address space; BLAS and torch reserve some without using it
LARGEST_FILE = 64 * 2**20  # bytes
GRACE = 5.0  # seconds to end after Ctrl-C
START_SECONDS = 60.0  # in which a process starts at all, on a machine that is busy
ANSWER, REQUEST = "answer.pickle", "request.pickle"
STAGE = "stage.txt"  # of the task's folder: what it does now, in words
LONGEST_STAGE = 200  # bytes of it that are read
EVERY = 1.0  # seconds between two looks at it
# Modules are looked for where the parent finds them, and not in the working directory.
START = (
    "import pickle, sys; "
    f"request = open(sys.argv[1] + '/{REQUEST}', 'rb'); sys.path[:] = pickle.load(request); "
    "from throughtime.source.child import main; main(request, *sys.argv[1:])"
)
LONGEST_MESSAGE = 1000  # characters of an exception's that are quoted
LAST_WORDS = 3  # lines of standard error that are quoted

STARTS = {
    "os.fork", "os.forkpty", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn",
    "subprocess.Popen", "os.startfile",
}  # fmt: skip
# What changes files: which arguments are paths, each with the one that holds its folder's number.
CHANGES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.link": ((0, 2), (1, 3)),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.utime": ((0, 3),),
    "os.setxattr": ((0, None),),
    "os.removexattr": ((0, None),),
    "shutil.rmtree": ((0, 1),),
    "shutil.move": ((0, None), (1, None)),
    "shutil.copyfile": ((1, None),),
    "sqlite3.connect": ((0, None),),
}
ENDS = {"os.kill", "os.killpg"}
REACHES = {"socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request"}


def apart(
    task: str,
    *arguments: Any,
    seconds: float | None = None,
    told: Callable[[str], None] | None = None,
) -> Any:
    """What a function returns that is run in a process of its own.

    Args:
        task: `module:function`.
        arguments: of the function; it and they can be pickled.
        seconds: of wall-clock time that it may take.
        told: is given what the task does, as it says with `tell`, while it is waited for.

    Raises:
        CheckError: where the function raises it; where it takes too long, or its process ends.
        KeyboardInterrupt: where Ctrl-C ends it; a task may end itself in order, and return.
    """
    limit = SECONDS if seconds is None else seconds
    with tempfile.TemporaryDirectory(prefix="throughtime-", ignore_cleanup_errors=True) as folder:
        (Path(folder) / REQUEST).write_bytes(
            pickle.dumps(sys.path) + pickle.dumps((task, arguments))
        )
        process, lifeline = start(
            [sys.executable, "-P", "-c", START, folder, str(limit)],
            max(limit, START_SECONDS),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "MPLBACKEND": "Agg", "MPLCONFIGDIR": ".", "TMPDIR": folder},
        )
        words: deque[bytes] = deque(maxlen=LAST_WORDS)
        assert process.stderr is not None
        listener = threading.Thread(target=_listen, args=(process.stderr, words), daemon=True)
        listener.start()
        try:
            interrupted = _wait(process, limit, Path(folder) / STAGE, told)
        finally:
            end(process, lifeline, os.getpid())
        listener.join(1.0)
        answer = Path(folder) / ANSWER
        if interrupted and not answer.is_file():  # the task could not end in order
            raise KeyboardInterrupt
        return _answer(answer, process.returncode, words)


def _wait(
    process: subprocess.Popen[bytes],
    limit: float,
    stage: Path,
    told: Callable[[str], None] | None,
) -> bool:
    """Waits for the end; Ctrl-C is handed on once, so that a task can end in order.

    Returns:
        whether Ctrl-C came.
    """
    until = monotonic() + limit
    try:
        while told is not None and (left := until - monotonic()) > EVERY:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(min(EVERY, left))
                return False
            told(_stage(stage))
        process.wait(max(until - monotonic(), 0.0))
        return False
    except subprocess.TimeoutExpired:
        way_out = "allow more time: --timeout"
        refuse("the file", f"an end within {limit:g} s", "none", way_out, error=CheckError)
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            process.send_signal(signal.SIGINT)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            raise KeyboardInterrupt from None
        return True


def tell(words: str) -> None:
    """In a task: says what it does from here on to whoever waits for it."""
    if _told is not None:
        with contextlib.suppress(OSError):
            _told.write_text(words, "utf-8")


_told: Path | None = None  # in the child: the file in which it tells


def _stage(path: Path) -> str:
    """What a task has told; the user's code may have put anything in the place of the file."""
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return ""
    try:
        return os.read(number, LONGEST_STAGE).decode("utf-8", "replace")
    except OSError:  # a folder
        return ""
    finally:
        os.close(number)


def _listen(stream: IO[bytes], words: deque[bytes]) -> None:
    with stream:
        while line := stream.readline(2**12):  # a line that never ends is cut, not collected
            words.append(line)


def _answer(path: Path, status: int, words: deque[bytes]) -> Any:
    if not path.is_file():
        said = [line.decode(errors="replace").strip()[:200] for line in words]
        quoted = f"; its last words: {' | '.join(filter(None, said))}" if any(said) else ""
        raise CheckError(f"the file ended its process ({_how(status)}) while it was run{quoted}")
    try:
        kind, value = pickle.loads(path.read_bytes())
    except Exception:  # it may have written there itself
        raise CheckError("the file has written over what was to be answered") from None
    if kind == "error":
        raise CheckError(value)
    if kind == "interrupted":
        raise KeyboardInterrupt
    return value


def _how(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"


class Forbidden(RuntimeError):
    """What a file may not do while it is checked."""


def watch(folder: str) -> None:
    """From here on nothing is started, and nothing outside the folder is changed."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STARTS:
            raise Forbidden("it starts another program, which a file under check may not do")
        if event in REACHES:
            raise Forbidden("it opens a connection, which a file under check may not do")
        if event in ENDS:
            raise Forbidden("it sends a signal, which a file under check may not do")
        for number, above in CHANGES.get(event, ()):
            if not _inside(arguments[number], folder, _folder_of(arguments, above)):
                path = arguments[number]
                raise Forbidden(f"it changes {path!r}, which a file under check may not do")
        if event == "open" and _writes(arguments) and not _inside(arguments[0], folder):
            raise Forbidden(f"it writes {arguments[0]!r}, which a file under check may not do")

    sys.addaudithook(hook)


def _folder_of(arguments: tuple[Any, ...], number: int | None) -> str:
    """The open folder that a path is in; "" for the working directory."""
    given = arguments[number] if number is not None and number < len(arguments) else None
    return "" if given in (None, -1) else os.path.realpath(f"/proc/self/fd/{given}")


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, mode, flags = (*arguments, None, None, None)[:3]
    if not isinstance(path, str | bytes):
        return False
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    return isinstance(flags, int) and bool(flags & changing)


def _inside(path: Any, folder: str, above: str = "") -> bool:
    if path == ":memory:":  # of SQLite
        return True
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    place = os.path.realpath(os.path.join(above, os.fsdecode(path)))
    return place.startswith(folder + os.sep) or place == os.devnull


def limit(seconds: float) -> None:
    """Memory, time of the processor, files; the end of the parent is the end of the child."""
    with contextlib.suppress(ImportError):
        import resource

        cores = os.cpu_count() or 1
        for what, most in (
            (resource.RLIMIT_AS, MEMORY + _mapped()),
            (resource.RLIMIT_CPU, int(seconds * cores) + 1),
            (resource.RLIMIT_FSIZE, LARGEST_FILE),
            (resource.RLIMIT_CORE, 0),
        ):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(what, (most, most))
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _mapped() -> int:
    """Bytes of address space that this process has already: a fork has all of its parent's."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the user's code prints past Python's streams goes nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # closed already
            os.close(null)


def main(request: IO[bytes], folder: str, seconds: str) -> NoReturn:
    """In the child: runs the task, leaves its answer in the folder, and ends.

    Threads that still run, and what was registered to run at the end, are not waited for.
    """
    folder = os.path.realpath(folder)
    with request:
        task, arguments = pickle.load(request)
    sys.dont_write_bytecode = True
    module, _, name = task.partition(":")
    function = getattr(importlib.import_module(module), name)
    os.chdir(folder)
    global _told
    _told = Path(folder) / STAGE
    limit(float(seconds))
    watch(folder)
    with _quiet():
        try:
            answer: tuple[str, Any] = ("value", function(*arguments))
        except KeyboardInterrupt:
            answer = ("interrupted", None)
        except MemoryError:
            answer = ("error", f"the file needs more than {MEMORY // 2**30} GiB of memory")
        except CheckError as problem:
            answer = ("error", str(problem))
        except Exception as problem:
            said = " ".join(str(problem)[:LONGEST_MESSAGE].split())
            answer = ("error", f"{type(problem).__name__}: {said}")
    part = Path(folder) / f"{ANSWER}.part"
    part.write_bytes(pickle.dumps(answer))
    part.rename(Path(folder) / ANSWER)
    os._exit(0)
