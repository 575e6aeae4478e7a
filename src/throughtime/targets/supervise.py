"""Runs as a process of its own: starts a program, and sees to it that nothing of it is left.

The checker starts it with the number of a socket and the program's command line. It ends the
program and everything that the program has started once the checker shuts the socket, or is gone,
by whatever death; or once the program itself has ended, with whose exit status or signal it then
ends as well. It imports nothing but the standard library, so that it starts at once.

`keep` is the same for a process that was forked, without a program of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NoReturn, TypeAlias

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of <linux/prctl.h>
STARTED = b"started"  # what the checker is told; otherwise the number of the system's error
LONGEST_END = 1.0  # seconds in which whatever was killed has to be gone
PAUSE = 0.005  # seconds between two looks at it
LOOK = 5.0  # seconds between two looks at whether the process above is still there


def main(number: int, command: list[str]) -> NoReturn:
    """Starts `command`, and never returns."""
    checker = socket.socket(fileno=number)
    checker.set_inheritable(False)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)  # so that the end of a child ends the waiting below
    signal.signal(signal.SIGCHLD, lambda *_: None)
    adopt()
    try:
        program = subprocess.Popen(command, process_group=0, preexec_fn=_end_with_parent)
    except (OSError, subprocess.SubprocessError) as problem:
        checker.sendall(str(getattr(problem, "errno", None) or 0).encode())
        os._exit(1)
    signal.signal(signal.SIGINT, lambda *_: _hand_on(program, signal.SIGINT))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # the program's own: they end when it closes them
        os.dup2(nowhere, stream)
    checker.sendall(STARTED)
    status: int | None = None
    watched = [number, woken]
    while status is None and number not in select.select(watched, [], [])[0]:
        os.read(woken, 2**12)
        status = program.poll()
        _reap(program)
    _end_all(program)
    _end_as(program.returncode if status is None else status)


class Forked:
    """A child that was forked; as much of `Popen` as is asked for here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None


Child: TypeAlias = "subprocess.Popen[bytes] | Forked"


def keep(run: Callable[[], object], begun: Callable[[], object]) -> NoReturn:
    """Runs a function in a fork of this process, and never returns.

    Once the function's process has ended, or SIGTERM has come, or the process that started this one
    is gone, all that was started is killed.

    Args:
        run: what the fork does, in a session of its own; it ends when this has returned.
        begun: what this process does once the other is there, such as closing what that reads.
    """
    parent = os.getppid()
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    adopt()
    pid = os.fork()
    if not pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(woken)
        os.close(wake)
        os.setsid()
        _end_with_parent()
        run()
        os._exit(0)
    child = Forked(pid)
    begun()
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    over: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: over.append(number))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    while not over and child.returncode is None and os.getppid() == parent:
        select.select([woken], [], [], LOOK)
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 2**12)
        _reap(child)
    _end_all(child)
    _end_as(child.returncode)


def _hand_on(program: Child, number: int) -> None:
    """A program that may end itself in order is told to."""
    if program.returncode is None:
        with contextlib.suppress(OSError):
            os.kill(program.pid, number)


def _end_with_parent() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt() -> None:
    """From here on, whoever loses its parent becomes a child of this process."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(*arguments: int) -> None:
    """Linux alone has it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(*arguments)


def _reap(program: Child) -> bool:
    """Takes note of children that have ended; whether there are any others."""
    try:
        while True:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return True
            if process == program.pid:
                program.returncode = os.waitstatus_to_exitcode(status)
    except ChildProcessError:
        return False


def _end_all(program: Child) -> None:
    """Kills until there is nobody left: whoever has lost its parent has become a child."""
    deadline = time.monotonic() + LONGEST_END
    while time.monotonic() < deadline:
        if program.returncode is None:
            with contextlib.suppress(OSError):
                os.killpg(program.pid, signal.SIGKILL)
        for process in descendants(os.getpid()):
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        if not _reap(program):
            return
        time.sleep(PAUSE)


def descendants(ancestor: int) -> list[int]:
    """All processes that descend from one, as /proc has them; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    with contextlib.suppress(OSError):
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    found = children.get(ancestor, [])
    for process in found:  # which grows meanwhile
        found.extend(children.get(process, []))
    return found


def _end_as(status: int | None) -> NoReturn:
    """Ends with an exit status, or by the signal that ended the program."""
    if status is not None and status < 0:
        import resource  # POSIX alone has it

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one of this process would help nobody
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(1 if status is None else status)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
