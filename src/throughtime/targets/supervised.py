"""Starts a process under `supervise`, and ends it with all that it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from throughtime.targets import supervise
from throughtime.targets.tolerances import END_GRACE


def start(
    command: Sequence[str], timeout: float, **options: Any
) -> tuple[subprocess.Popen[bytes], socket.socket | None]:
    """A program's process, under its supervisor where there is one; and the line to that.

    The supervisor has a session of its own, ends as the program does, and hands SIGINT on to it.

    Args:
        command: the program and its arguments.
        timeout: seconds in which it has to start.
        options: of `subprocess.Popen`: where its streams lead.

    Raises:
        OSError: where it cannot be started.
    """
    if os.name != "posix":
        return subprocess.Popen(list(command), **options), None
    own, other = socket.socketpair()
    with other:
        program = [os.fsencode(word) for word in command]
        above = [sys.executable, "-I", "-S", supervise.__file__, str(other.fileno())]
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [*above, *program], pass_fds=[other.fileno()], start_new_session=True, **options
        )
    own.settimeout(timeout)
    said = b""
    with contextlib.suppress(TimeoutError):
        said = own.recv(64)
    if said != supervise.STARTED:
        end(process, own, os.getpid())
        for stream in filter(None, (process.stdout, process.stderr)):
            stream.close()
        number = int(said or 0)
        raise OSError(number, os.strerror(number) if number > 0 else "it did not start")
    return process, own


def end(process: subprocess.Popen[bytes], lifeline: socket.socket | None, owner: int) -> None:
    """Ends the program and all that it started; waits until it is gone."""
    if os.getpid() != owner:
        return  # a fork of the checker, which has copies of the pipes
    if lifeline is None:
        process.kill()
    else:
        with contextlib.suppress(OSError), lifeline:
            lifeline.shutdown(socket.SHUT_RDWR)
        try:
            process.wait(END_GRACE)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):  # a supervisor that the program has stopped
                os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
