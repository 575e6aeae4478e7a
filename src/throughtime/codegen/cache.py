"""Compiled libraries in the user's cache folder: whole ones, that nobody else can have put there.

A library is code that runs with the user's rights. It is loaded from a folder that is the user's
alone, as all above it are, and where its content has the SHA-256 that stands in its name: half a
file, as a full disk or a lost connection leaves one, would end the process that loads it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from throughtime.storage import lives

MARK = ".compiling-"  # begins the name of a folder in which a process compiles
DIGITS = 32  # of the SHA-256 that stand in a name


class Unavailable(Exception):
    """There is no compiled code; the message says why, in one line."""


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


def cache_folder_name() -> str:
    """The folder as text, also where there is no home."""
    try:
        return str(cache_folder())
    except RuntimeError:
        return "the cache folder"


def own_folder(folder: Path) -> Path:
    """The folder, made if it is missing, by the path that no link changes any more.

    Raises:
        Unavailable: where others may write to it, or put another one in its place.
    """
    folder = Path(os.path.realpath(folder))
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    if hasattr(os, "getuid"):
        for place in folder.parents:
            if place not in missing:
                _only_mine(place)
    for place in reversed(missing):
        place.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid"):
        found = folder.stat()
        if found.st_uid != os.getuid():
            raise Unavailable("it belongs to another user")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Unavailable("other users may write to it")
    return folder


def _only_mine(above: Path) -> None:
    """Refuses a folder whose entries others can exchange, as they cannot in /tmp.

    Some systems give each user a group of the same number, whose rights are the user's own. In a
    container, the system's folders belong to whoever has the root folder.
    """
    found, user = above.stat(), os.getuid()
    if found.st_uid not in (user, 0, os.stat("/").st_uid):
        raise Unavailable(f"{above} belongs to another user")
    if found.st_mode & stat.S_ISVTX:
        return
    if found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid != user):
        raise Unavailable(f"other users may write to {above}")


def kept(folder: Path, name: str) -> tuple[ctypes.CDLL, Path] | None:
    """A library that was compiled before; None where there is no whole one."""
    for path in sorted(folder.glob(f"{name}-*.so")):
        if _is_whole(path):
            found = loaded(path)
            if found is not None:
                return found, path
    return None


def keep(made: Path, folder: Path, name: str) -> Path:
    """Puts a library into the folder in one step; damaged ones of the same name go."""
    for path in folder.glob(f"{name}-*.so"):
        if not _is_whole(path):
            with contextlib.suppress(OSError):
                path.unlink()
    path = folder / f"{name}-{_digest(made)}.so"
    made.chmod(0o700)
    os.replace(made, path)
    return path


def _is_whole(path: Path) -> bool:
    try:
        found = path.lstat()
        own = not hasattr(os, "getuid") or (
            found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        )
        return stat.S_ISREG(found.st_mode) and own and path.stem.endswith(f"-{_digest(path)}")
    except OSError:
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS]


def loaded(path: Path) -> ctypes.CDLL | None:
    """A library, None if the system does not load it."""
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """A folder to compile in, which goes; those that killed processes have left go with it.

    They are moved first: their compiler may still run, and finds no place to write to any more.
    """
    with tempfile.TemporaryDirectory(
        dir=folder, prefix=f"{MARK}{os.getpid()}-", ignore_cleanup_errors=True
    ) as work:
        for left in folder.glob(f"{MARK}*"):
            process = left.name.removeprefix(MARK).partition("-")[0]
            if process.isdecimal() and not lives(int(process)):
                with contextlib.suppress(OSError):
                    left.rename(Path(work, left.name))
        yield Path(work)
