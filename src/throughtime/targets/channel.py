"""A child process that answers each line of JSON with one line of JSON, within a time limit."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO, Any, NoReturn

from throughtime.arrays import refuse, visible
from throughtime.gradcheck import CheckError
from throughtime.targets.supervised import end, start
from throughtime.targets.tolerances import (
    END_GRACE,
    LONGEST_LINE,
    MOST_DIGITS,
    QUOTED_LINES,
    WITHOUT_BLOCKING,
)


class Channel:
    """Starts a program, sends it requests, and ends it with all its children.

    The program has a session of its own: Ctrl-C reaches the checker alone, which then ends it. It
    also ends when the channel is garbage-collected, when the interpreter exits, and when it is
    killed. Between the two stands `supervise`, which ends what the program has started as well.

    Args:
        command: the program and its arguments.
        name: what messages call it.
        places: what the program is doing, for each `"do"` that will be sent; messages end with it.
        timeout: seconds that an answer may take.
    """

    def __init__(
        self, command: Sequence[str], name: str, places: Mapping[str, str], timeout: float
    ) -> None:
        self.name, self.places, self.timeout = name, places, timeout
        try:
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            self._process, lifeline = start(command, timeout, **pipes)
        except OSError as problem:
            actual = f"{command[0]!r} ({problem.strerror})"
            refuse("program", "a command that can be run", actual, error=CheckError)
        self._chunks: queue.SimpleQueue[bytes] = queue.SimpleQueue()  # b"" is the end
        self._rest = b""  # what came after the last whole line
        self._owed = 0  # answers to questions whose asker was interrupted
        self._last_words: deque[bytes] = deque(maxlen=QUOTED_LINES)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        _in_background(_read_chunks, self._process.stdout, self._chunks)
        self._listener = _in_background(_read_lines, self._process.stderr, self._last_words)
        self._end = weakref.finalize(self, end, self._process, lifeline, os.getpid())

    def ask(self, request: Mapping[str, object]) -> dict[str, Any]:
        """The answer to a request.

        After a Ctrl-C that came before the answer, the next request waits for it and drops it.

        Raises:
            CheckError: where the program answers `{"error": …}`; or where it dies, is late, or
                says something that is no JSON object: then it is ended, and its last words on
                standard error are quoted.
        """
        place = self.places[str(request["do"])]
        if not self._end.alive:
            raise CheckError(f"{self.name}: has been closed; make the target anew")
        while self._owed:
            self._line(place)
            self._owed -= 1
        if self._rest:
            self.refuse("", "one line an answer", f"one more, {shown(self._rest.rstrip())}")
        assert self._process.stdin is not None
        self._owed += 1
        self._send(json.dumps(request).encode() + b"\n", place)
        line = self._line(place)
        self._owed -= 1
        return self._answer(line, place)

    def _send(self, line: bytes, place: str) -> None:
        """Writes a line; a program that does not read has as long for it as for an answer."""
        stream = self._process.stdin
        assert stream is not None
        failed: list[OSError] = []

        def write() -> None:
            try:
                stream.write(line)
                stream.flush()
            except OSError as problem:
                failed.append(problem)

        if len(line) <= WITHOUT_BLOCKING:
            write()
        else:
            writer = _in_background(write)
            writer.join(self.timeout)
            if writer.is_alive():
                expected = f"its standard input to be read within {self.timeout:g} s {place}"
                self.refuse("", expected, "a program that does not read it")
        if failed:
            self._ended(place)

    def close(self) -> None:
        """Ends the program: its input first, then, if need be, the whole group.

        Raises:
            CheckError: where it ends by itself with an exit status other than 0.
        """
        if not self._end.alive:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            status = self._process.wait(END_GRACE)
        except subprocess.TimeoutExpired:
            status = 0  # it ignores the end of its input, which does no harm
        self.kill()
        if status:
            self._say(f"{_death(status)} after its last answer")

    def refuse(self, what: str, expected: str, actual: str, way_out: str = "") -> NoReturn:
        """Refuses an answer, and quotes the program's last words."""
        try:
            refuse(what, expected, actual, way_out, error=CheckError)
        except CheckError as problem:
            self._say(str(problem).removeprefix(": "))

    def kill(self) -> None:
        """Ends the program and its children at once."""
        self._end()

    def _line(self, place: str) -> bytes:
        """The next whole line of standard output."""
        parts: list[bytes] = []
        length = 0
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                chunk = self._chunks.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                self._late(b"".join(parts), place)
            if not chunk:
                self._ended(place, b"".join(parts))
            head, newline, rest = chunk.partition(b"\n")
            parts.append(head)
            length += len(head)
            if newline:
                self._rest = rest
                return b"".join(parts)
            if length > LONGEST_LINE:
                self.refuse("", "a line of JSON", f"{length:,} bytes without a line's end {place}")

    def _answer(self, line: bytes, place: str) -> dict[str, Any]:
        try:
            answer = _parsed(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            way_out = "print whatever is not an answer to standard error"
            self.refuse("", "a JSON object on one line", f"{shown(line)} {place}", way_out)
        if "error" in answer:
            raise CheckError(visible(f"{self.name}: {answer['error']}"))
        return answer

    def _late(self, partial: bytes, place: str) -> NoReturn:
        expected = f"an answer within {self.timeout:g} s {place}"
        if partial:
            way_out = "end each answer with a newline and flush it"
            self.refuse("", expected, f"a line without an end, {shown(partial)}", way_out)
        self.refuse("", expected, "none", "flush each answer, or give it longer: timeout")

    def _ended(self, place: str, partial: bytes = b"") -> NoReturn:
        try:
            status = self._process.wait(END_GRACE)
        except subprocess.TimeoutExpired:
            self._say(f"closed its standard output {place}")
        within = f", within the line {shown(partial)}" if partial else ""
        self._say(f"{_death(status)} {place}{within}")

    def _say(self, message: str) -> NoReturn:
        """Ends the program; raises the message with its last words below it."""
        self.kill()
        self._listener.join(END_GRACE)  # its last words may still be in the pipe
        words = [visible(line.decode(errors="replace").rstrip()) for line in self._last_words]
        quoted = "".join(f"\n    {line[:200]}" for line in words if line)
        heading = "; its last words on standard error:" if quoted else ""
        raise CheckError(f"{self.name}: {message}{heading}{quoted}")


# A value of JSON that is no number, as printf and streams of C, C++ and others write it: nan, -nan,
# -nan(ind), inf, 1.#INF.
NOT_FINITE = re.compile(
    rb"(?<=[:,\[\s])([-+]?)(nan(?:\(\w*\))?|inf(?:inity)?|1\.#\w+)(?=\s*[,\]}])", re.IGNORECASE
)


def _parsed(line: bytes) -> Any:
    """A line of JSON, whose numbers may be infinite or no numbers in the words of other languages.

    A loss may well be that at some point, as it may be of a library.
    """
    try:
        return json.loads(line, parse_int=_whole)
    except ValueError:
        return json.loads(NOT_FINITE.sub(_in_json, line), parse_int=_whole)


def _in_json(found: re.Match[bytes]) -> bytes:
    if b"inf" not in found[2].lower():
        return b"NaN"
    return b"-Infinity" if found[1] == b"-" else b"Infinity"


def _whole(digits: str) -> int | float:
    """A whole number; one that no machine word holds is not kept exactly."""
    return int(digits) if len(digits) <= MOST_DIGITS else float(digits)


def _death(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"died with {signal.Signals(-status).name}"
    except ValueError:
        return f"died with signal {-status}"


def shown(line: bytes, longest: int = 80) -> str:
    """A line as a message quotes it, shortened."""
    text = line.decode(errors="backslashreplace")
    return repr(text if len(text) <= longest else text[:longest] + "…")


def _in_background(function: Any, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def _read_chunks(stream: IO[bytes], chunks: queue.SimpleQueue[bytes]) -> None:
    with stream:
        while chunk := os.read(stream.fileno(), 2**16):
            chunks.put(chunk)
    chunks.put(b"")


def _read_lines(stream: IO[bytes], lines: deque[bytes]) -> None:
    with stream:
        while line := stream.readline(2**12):  # a line that never ends is cut, not collected
            lines.append(line)
