"""Compiles C with the compiler that is there, and keeps what it made in the user's cache folder.

A library's name is a hash of all that decides what is in it: the source, the compiler, what that
says of itself and of the processor, and its options. Whoever wants the same library finds it; a
library is written beside its place and renamed, so that two processes do not disturb each other.
`cache` says which libraries are loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from throughtime.arrays import visible
from throughtime.codegen import tolerances
from throughtime.codegen.cache import (
    Unavailable,
    cache_folder,
    cache_folder_name,
    keep,
    kept,
    loaded,
    own_folder,
    workplace,
)

SETTING = "THROUGHTIME_COMPILER"  # a command, or "none"
NONE = "none"
FORM = "1"  # of what callers and libraries agree on, beside what stands in the source
CANDIDATES = ("c++", "g++", "clang++", "cc", "gcc", "clang")
OPTIONS = ("-std=c11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-fPIC")
TUNED = (("-march=native",), ("-mcpu=native",), ())
WIDE = "-mprefer-vector-width=512"  # compilers choose 256 for some processors that have 512


@dataclass(frozen=True)
class Compiler:
    """A compiler that works.

    Attributes:
        command: how it is called.
        options: those that suit it and this processor.
        about: what it says of itself and of the processor, hashed.
        title: what it is called in messages.
    """

    command: tuple[str, ...]
    options: tuple[str, ...]
    about: str
    title: str


class CompilerTimeout(Unavailable):
    """A compiler has not finished in time."""


def compiler() -> Compiler:
    """The compiler that is used.

    Raises:
        Unavailable: if there is none.
    """
    chosen = os.environ.get(SETTING, "")
    own = (os.environ.get("CXX", ""), os.environ.get("CC", ""))
    found = _found(chosen, own, os.environ.get("PATH", ""))
    if isinstance(found, str):
        raise Unavailable(found)
    return found


@lru_cache(maxsize=8)
def _found(chosen: str, own: tuple[str, ...], path: str) -> Compiler | str:
    """The compiler, or why there is none; asked once for each setting."""
    if chosen == NONE:
        return f"{SETTING}={NONE}"
    commands = [chosen] if chosen else [*filter(None, own), *CANDIDATES]
    reason = "no C or C++ compiler was found; install g++ or clang++, or set CXX"
    for text in commands:
        try:
            command = tuple(shlex.split(text))
        except ValueError as problem:  # a quotation mark too few
            reason = f"{text!r} is no command: {problem}"
            continue
        if not command or shutil.which(command[0]) is None:
            if text == chosen:
                reason = f"{SETTING}: {text!r} was not found"
            continue
        try:
            return _asked(command)
        except Unavailable as problem:
            reason = str(problem)
    return reason


def _asked(command: tuple[str, ...]) -> Compiler:
    """Asks a compiler what it is, and which processor it would compile for."""
    problem = ""
    for tuned in TUNED:
        asked = [*command, *OPTIONS, *tuned, "-x", "c", "-dM", "-E", os.devnull]
        try:
            told = run(asked, tolerances.PROBE_SECONDS)
        except CompilerTimeout:
            raise  # it would be as late with other options
        except Unavailable as failure:
            problem = str(failure)
            continue
        wide = (WIDE,) if "__AVX512F__" in told else ()
        about = hashlib.sha256(told.encode()).hexdigest()
        return Compiler(command, (*OPTIONS, *tuned, *wide), about, shlex.join(command))
    raise Unavailable(problem)


def run(command: list[str], seconds: float) -> str:
    """Runs a compiler and returns what it prints.

    Raises:
        Unavailable: if it cannot be started, fails, or takes too long.
    """
    title = command[0]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise Unavailable(f"{title} cannot be started: {reason}") from problem
    _bound(process, seconds)
    assert process.stdout is not None
    assert process.stderr is not None
    out, errors = _Heard(process.stdout), _Heard(process.stderr)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise CompilerTimeout(f"{title} did not finish within {seconds:g} seconds") from None
    finally:
        if process.returncode is None:
            _end(process)
        for stream in (out, errors):
            stream.join(tolerances.LAST_WORDS_SECONDS)  # what it has started may hold it open
    if process.returncode:
        lines = errors.text().splitlines()
        first = next((line for line in lines if "error" in line.lower()), "")
        first = first or next(filter(str.strip, lines), f"exit status {process.returncode}")
        raise Unavailable(f"{title} failed: {visible(first.strip()[:200])}")
    if out.is_too_much:
        raise Unavailable(f"{title} printed more than {tolerances.MOST_SAID:,} bytes")
    return out.text()


def _bound(process: subprocess.Popen[bytes], seconds: float) -> None:
    """A compiler that is left alone, since whoever called it was killed, does not run for ever."""
    with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):
        import resource

        most = int(seconds) + 1
        resource.prlimit(process.pid, resource.RLIMIT_CPU, (most, most))


class _Heard(threading.Thread):
    """Listens to a stream until its end, and keeps as much as a compiler has to say."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._stream, self._said, self.is_too_much = stream, b"", False
        self.start()

    def run(self) -> None:
        """Until nobody has the other end any more."""
        with self._stream:
            while chunk := os.read(self._stream.fileno(), 2**16):
                self.is_too_much |= len(self._said) + len(chunk) > tolerances.MOST_SAID
                self._said += b"" if self.is_too_much else chunk

    def text(self) -> str:
        """What was said so far."""
        return self._said.decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a compiler and what it started, which are a group of their own."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def library(source: str, what: str) -> tuple[ctypes.CDLL, str]:
    """The compiled source, loaded, and a line that says with what and from where.

    Args:
        source: in C.
        what: it is called in messages.

    Raises:
        Unavailable: if it cannot be had.
    """
    if len(source) > tolerances.MOST_CODE:
        raise Unavailable(
            f"its C code would have {len(source):,} characters, more than the "
            f"{tolerances.MOST_CODE:,} that are compiled"
        )
    own = compiler()
    words = [source, FORM, own.about, own.title, *own.options]
    name = hashlib.sha256("\0".join(words).encode()).hexdigest()[:40]
    for_now = f"compiled with {own.title}, for this process"
    try:
        folder = own_folder(cache_folder())
    except (OSError, RuntimeError, Unavailable) as problem:  # no home, or one that is read-only
        reason = getattr(problem, "strerror", None) or str(problem)
        say(f"{cache_folder_name()} cannot be used ({reason}); {what} is compiled for now only")
        return _for_now(source, own), for_now
    found = kept(folder, name)
    if found is None:
        say(f"compiling {what} with {own.title}; it is kept in {folder}")
        try:
            with workplace(folder) as work:
                code, made = _compile(source, own, work)
                os.replace(code, folder / f"{name}.c")
                keep(made, folder, name)
        except OSError as problem:
            say(f"{folder} cannot be written ({problem.strerror}); {what} is compiled for now only")
            return _for_now(source, own), for_now
        found = kept(folder, name)
    if found is None:  # nothing is loaded from some disks
        return _for_now(source, own), for_now
    return found[0], f"compiled with {own.title}: {found[1]}"


def _compile(source: str, own: Compiler, work: Path) -> tuple[Path, Path]:
    """The source and the library that is made of it, in a folder."""
    code, made = work / "cell.c", work / "cell.so"
    code.write_text(source, encoding="utf-8")
    command = [*own.command, *own.options, "-shared", "-x", "c", str(code), "-o", str(made), "-lm"]
    run(command, tolerances.COMPILE_SECONDS)
    if not made.is_file():
        raise Unavailable(f"{own.title} has ended without an error and without a library")
    return code, made


def _for_now(source: str, own: Compiler) -> ctypes.CDLL:
    """The library from a temporary folder, which is gone once it is loaded."""
    try:
        with tempfile.TemporaryDirectory(prefix="throughtime-") as work:
            found = loaded(_compile(source, own, Path(work))[1])
    except OSError as problem:
        raise Unavailable(f"there is no room for a file: {problem.strerror}") from problem
    if found is None:
        raise Unavailable("what was compiled cannot be loaded")
    return found


_said: set[str] = set()


def say(text: str) -> None:
    """A line on standard error, once."""
    if text in _said or sys.stderr is None:
        return
    _said.add(text)
    with contextlib.suppress(OSError, ValueError):
        print(f"throughtime: {text}", file=sys.stderr, flush=True)
