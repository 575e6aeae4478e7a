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
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from throughtime.arrays import refuse
from throughtime.gradcheck import CheckError

SECONDS = 900.0  # of wall-clock time for a whole task, where the user gives no other limit
MEMORY = 8 * 2**30  # bytes of address space; BLAS and torch reserve some without using it
LARGEST_FILE = 64 * 2**20  # bytes
GRACE = 5.0  # seconds to end after Ctrl-C
ANSWER, REQUEST = "answer.pickle", "request.pickle"
LAST_WORDS = 3  # lines of standard error that are quoted

STARTS = {
    "os.fork", "os.forkpty", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn",
    "subprocess.Popen", "os.startfile",
}  # fmt: skip
CHANGES = {
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate",
    "os.chmod", "os.chown", "shutil.rmtree", "shutil.move", "shutil.copyfile", "os.kill",
    "os.killpg",
}  # fmt: skip
REACHES = {"socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request"}


def apart(task: str, *arguments: Any, seconds: float | None = None) -> Any:
    """What a function returns that is run in a process of its own.

    Args:
        task: `module:function`.
        arguments: of the function; it and they can be pickled.
        seconds: of wall-clock time that it may take.

    Raises:
        CheckError: where the function raises it; where it takes too long, or its process ends.
        KeyboardInterrupt: where Ctrl-C ends it; a task may end itself in order, and return.
    """
    limit = SECONDS if seconds is None else seconds
    with tempfile.TemporaryDirectory(prefix="throughtime-", ignore_cleanup_errors=True) as folder:
        (Path(folder) / REQUEST).write_bytes(pickle.dumps((task, arguments, sys.path)))
        process = subprocess.Popen(
            [sys.executable, "-m", "throughtime.source.child", folder, str(limit)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=_environment(),
        )
        words: deque[bytes] = deque(maxlen=LAST_WORDS)
        assert process.stderr is not None
        listener = threading.Thread(target=_listen, args=(process.stderr, words), daemon=True)
        listener.start()
        try:
            interrupted = _wait(process, limit)
        finally:
            _end(process)
        listener.join(1.0)
        answer = Path(folder) / ANSWER
        if interrupted and not answer.is_file():  # the task could not end in order
            raise KeyboardInterrupt
        return _answer(answer, process.returncode, words)


def _environment() -> dict[str, str]:
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": ".",
    }


def _wait(process: subprocess.Popen[bytes], limit: float) -> bool:
    """Waits for the end; Ctrl-C is handed on once, so that a task can end in order.

    Returns:
        whether Ctrl-C came.
    """
    try:
        process.wait(limit)
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


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and all that it has started."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _listen(stream: IO[bytes], words: deque[bytes]) -> None:
    with stream:
        while line := stream.readline(2**12):  # a line that never ends is cut, not collected
            words.append(line)


def _answer(path: Path, status: int, words: deque[bytes]) -> Any:
    if not path.is_file():
        said = [line.decode(errors="replace").strip()[:200] for line in words]
        quoted = f"; its last words: {' | '.join(filter(None, said))}" if any(said) else ""
        raise CheckError(f"the file ended its process ({_how(status)}) while it was run{quoted}")
    kind, value = pickle.loads(path.read_bytes())
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
        if event in CHANGES and not _inside(arguments[:1], folder):
            raise Forbidden(f"it changes {arguments[0]!r}, which a file under check may not do")
        if event == "open" and _writes(arguments) and not _inside(arguments[:1], folder):
            raise Forbidden(f"it writes {arguments[0]!r}, which a file under check may not do")

    sys.addaudithook(hook)


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, mode, flags = (*arguments, None, None, None)[:3]
    if not isinstance(path, str | bytes):
        return False
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    return isinstance(flags, int) and bool(flags & changing)


def _inside(arguments: tuple[Any, ...], folder: str) -> bool:
    if not arguments or not isinstance(arguments[0], str | bytes | os.PathLike):
        return False
    path = os.path.realpath(os.fsdecode(arguments[0]))
    return path.startswith(folder + os.sep) or path == os.devnull


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
        os.close(null)


def main(folder: str, seconds: float) -> None:
    """In the child: runs the task, and leaves its answer in the folder."""
    folder = os.path.realpath(folder)
    task, arguments, path = pickle.loads((Path(folder) / REQUEST).read_bytes())
    sys.path[:] = path
    sys.dont_write_bytecode = True
    module, _, name = task.partition(":")
    function = getattr(importlib.import_module(module), name)
    os.chdir(folder)
    limit(seconds)
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
            said = " ".join(str(problem).split())
            answer = ("error", f"{type(problem).__name__}: {said}")
    part = Path(folder) / f"{ANSWER}.part"
    part.write_bytes(pickle.dumps(answer))
    part.rename(Path(folder) / ANSWER)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
