"""Compiles C with the compiler that is there, and keeps what it made in the user's cache folder.

A library's name is a hash of all that decides what is in it: the source, the compiler, what that
says of itself and of the processor, and its options. Whoever wants the same library finds it; a
library is written beside its place and renamed, so that two processes do not disturb each other.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from throughtime.codegen import tolerances

SETTING = "THROUGHTIME_COMPILER"  # a command, or "none"
NONE = "none"
FORM = "1"  # of what callers and libraries agree on, beside what stands in the source
CANDIDATES = ("c++", "g++", "clang++", "cc", "gcc", "clang")
OPTIONS = ("-std=c11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-fPIC")
TUNED = (("-march=native",), ("-mcpu=native",), ())
WIDE = "-mprefer-vector-width=512"  # compilers choose 256 for some processors that have 512


class Unavailable(Exception):
    """There is no compiled code; the message says why, in one line."""


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
        command = tuple(shlex.split(text))
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
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as problem:
        raise Unavailable(f"{title} cannot be started: {problem.strerror}") from problem
    try:
        out, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        raise Unavailable(f"{title} did not finish within {seconds:g} seconds") from None
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        first = next((line for line in errors.splitlines() if "error" in line.lower()), "")
        first = first or (errors.splitlines() or [f"exit status {process.returncode}"])[0]
        raise Unavailable(f"{title} failed: {first.strip()[:200]}")
    return out


def _end(process: subprocess.Popen[str]) -> None:
    """Ends a compiler and what it started, which are a group of their own."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def cache_folder() -> Path:
    """Where libraries are kept: a folder of this user's alone."""
    own = os.environ.get("XDG_CACHE_HOME")
    if own and os.path.isabs(own):
        base = Path(own)
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path.home() / ".cache"
    return base / "throughtime" / "cells"


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
    try:
        folder = _own_folder(cache_folder())
    except (OSError, RuntimeError, Unavailable) as problem:  # no home, or one that is read-only
        reason = getattr(problem, "strerror", None) or str(problem)
        say(f"{cache_folder_name()} cannot be used ({reason}); {what} is compiled for now only")
        return _for_now(source, own, what), f"compiled with {own.title}, for this process"
    path = folder / f"{name}.so"
    loaded = _loaded(path) if path.exists() else None
    if loaded is None:
        say(f"compiling {what} with {own.title}; it is kept in {folder}")
        try:
            _compile(source, own, path)
        except OSError as problem:
            say(f"{folder} cannot be written ({problem.strerror}); {what} is compiled for now only")
            return _for_now(source, own, what), f"compiled with {own.title}, for this process"
        loaded = _loaded(path)
    if loaded is None:
        raise Unavailable(f"{path} cannot be loaded")
    return loaded, f"compiled with {own.title}: {path}"


def cache_folder_name() -> str:
    """The folder as text, also where there is no home."""
    try:
        return str(cache_folder())
    except RuntimeError:
        return "the cache folder"


def _own_folder(folder: Path) -> Path:
    """The folder, made if it is missing; what others may write to is not loaded from."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if hasattr(os, "getuid"):
        if found.st_uid != os.getuid():
            raise Unavailable("it belongs to another user")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Unavailable("other users may write to it")
    return folder


def _compile(source: str, own: Compiler, path: Path) -> None:
    """Writes the library at `path`, whole or not at all, and its source beside it."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".compiling-") as work:
        code, made = Path(work, "cell.c"), Path(work, "cell.so")
        code.write_text(source, encoding="utf-8")
        command = [*own.command, *own.options, "-shared", "-x", "c", str(code), "-o", str(made)]
        run([*command, "-lm"], tolerances.COMPILE_SECONDS)
        os.replace(code, path.with_suffix(".c"))
        os.replace(made, path)


def _for_now(source: str, own: Compiler, what: str) -> ctypes.CDLL:
    """The library from a temporary folder, which is gone once it is loaded."""
    try:
        with tempfile.TemporaryDirectory(prefix="throughtime-") as work:
            path = Path(work, "cell.so")
            _compile(source, own, path)
            loaded = _loaded(path)
    except OSError as problem:
        raise Unavailable(f"there is no room for a file: {problem.strerror}") from problem
    if loaded is None:
        raise Unavailable("what was compiled cannot be loaded")
    return loaded


def _loaded(path: Path) -> ctypes.CDLL | None:
    """A library, None if it is damaged."""
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None


_said: set[str] = set()


def say(text: str) -> None:
    """A line on standard error, once."""
    if text in _said or sys.stderr is None:
        return
    _said.add(text)
    with contextlib.suppress(OSError, ValueError):
        print(f"throughtime: {text}", file=sys.stderr, flush=True)
