"""Files in safetensors format, written completely or not at all, and known to be whole.

A safetensors file holds a short header and raw numbers. Loading it executes nothing, so that a
file from a stranger can be read safely, unlike a checkpoint in pickle.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import stat
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as encode

from throughtime.arrays import Array, refuse

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

WHOLE = "a whole safetensors file of NumPy's number types"
CHECKSUMS = "throughtime.sha256"  # of each tensor, by name, and under "" of the other metadata
MOST_TENSORS = 2**14  # a stack of a thousand layers has some thousands
OPEN_ALREADY = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/(self|\d+)/fd/\d+")
LARGEST_HEADER = 2**24  # bytes; a file's header is read whole before anything else


class NoFolderError(FileNotFoundError, ValueError):
    """The folder in which a file was to be written is not there, or not any more."""


def write(
    path: str | os.PathLike[str],
    arrays: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes named arrays and text metadata as one safetensors file, atomically.

    Checksums stand in it too, by which `read` notices a damaged file.
    """
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    words = dict(metadata or {})
    words[CHECKSUMS] = json.dumps(_checksums(tensors, words))
    replace(path, encode(tensors, metadata=words))


def replace(path: str | os.PathLike[str], content: bytes) -> None:
    """Puts `content` at `path` in one step: a reader sees either the old file or the new one.

    A file beside it is written and flushed to the disk first, then renamed, which POSIX and
    Windows both do atomically within a folder. A symbolic link stays one, and its target is
    replaced; owner and mode of a file that is there stay as they are. What is no file, such as
    /dev/stdout or a pipe, is written to. Files that were left beside it by processes that were
    killed are removed.
    """
    if OPEN_ALREADY.fullmatch(os.fsdecode(path)):
        with open(path, "ab") as stream:  # as /dev/stdout, which may be a pipe or a file
            stream.write(content)
        return
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        way_out = f"mkdir -p {target.parent}"
        refuse("path", "an existing folder", str(target.parent), way_out, error=NoFolderError)
    if target.is_dir():
        refuse("path", "a file", f"the folder {target}")
    before = target.stat() if target.exists() else None
    if before is not None and not stat.S_ISREG(before.st_mode):
        _write_through(target, before.st_mode, content)
        return
    name = _written_beside(target, content, before)
    try:
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def keep_copy(path: str | os.PathLike[str], copy: str | os.PathLike[str], content: bytes) -> None:
    """Puts what a file holds beside it, whole or not at all, with the file's owner and mode.

    Args:
        path: of the file.
        copy: where its copy will be, in the same folder.
        content: of the file, as it was read.

    Raises:
        FileExistsError: where there is something already; it is left as it is.
    """
    target = Path(copy)
    name = _written_beside(target, content, os.stat(path))
    try:
        try:
            os.link(name, target)
        except FileExistsError:
            raise
        except OSError:  # of a file system that has no hard links
            with target.open("xb") as file:
                file.write(content)
    finally:
        Path(name).unlink(missing_ok=True)
    _sync_folder(target.parent)


def _written_beside(target: Path, content: bytes, before: os.stat_result | None) -> str:
    """The name of a new file beside `target`, on the disk, with the mode and owner of `before`."""
    _remove_stale(target)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f"{_mark(target)}{os.getpid()}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask() if before is None else stat.S_IMODE(before.st_mode))
        if before is not None and hasattr(os, "chown"):
            with suppress(PermissionError):  # only root gives files away
                os.chown(name, before.st_uid, before.st_gid)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return name


def _write_through(target: Path, mode: int, content: bytes) -> None:
    if not (stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):
        refuse("path", "a file, a pipe or a terminal", f"{target}, which is none of them")
    with target.open("wb") as file:
        file.write(content)


def _mark(target: Path) -> str:
    return f".{target.name}.part-"


def _remove_stale(target: Path) -> None:
    """Removes unfinished files whose process no longer lives."""
    start = _mark(target)
    for left in target.parent.glob(f"{glob.escape(start)}*"):
        process = left.name[len(start) :].partition("-")[0]
        if process.isdecimal() and not lives(int(process)):
            left.unlink(missing_ok=True)


def lives(process: int) -> bool:
    """Whether there is a process of this number."""
    if os.name != "posix":
        return True  # there, signal 0 would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def exclusively(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps `path` for this process, for as long as the context lasts.

    Other processes that ask for it are refused; a process that dies lets go of it. Where the
    system has no locks of POSIX, nothing is kept.

    Raises:
        ValueError: where another process has it; the message says which.
    """
    target = Path(os.path.realpath(path))
    if fcntl is None or not target.parent.is_dir():
        yield
        return
    beside = target.parent / f".{target.name}.lock"
    while True:
        file = beside.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            process = file.read().strip() or "?"
            file.close()
            way_out = "wait until it has ended, or write to another file"
            refuse(
                str(path),
                "a file that no other process writes",
                f"one of process {process}",
                way_out,
            )
        if beside.exists() and os.path.samestat(os.fstat(file.fileno()), beside.stat()):
            break
        file.close()  # its owner removed it in between
    try:
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
    finally:
        beside.unlink(missing_ok=True)
        file.close()


def _sync_folder(folder: Path) -> None:
    """Has the disk remember the new name too; not every system can."""
    if os.name == "posix":
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, opened to be read; a device or a pipe is refused, since it need not end."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        refuse(str(path), "an existing file", "none", error=FileNotFoundError)
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a device or a pipe"
        refuse(str(path), "a file", kind, error=OSError)
    return open(path, "rb")


def read_bytes(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """What a regular file holds.

    Args:
        path: of the file; a device or a pipe is refused, since it need not end.
        most: how many bytes it may have.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            refuse(str(path), f"at most {most:,} bytes", f"{size:,}")
        return file.read()


def read_stream(path: str | os.PathLike[str], most: int) -> bytes:
    """What a file or a pipe holds, as `<(command)` of a shell is one; it has to end.

    Args:
        path: of either.
        most: how many bytes it may have.
    """
    if os.path.isdir(path):
        refuse(str(path), "a file", "a folder", error=IsADirectoryError)
    if not os.path.exists(path):
        refuse(str(path), "an existing file", "none", error=FileNotFoundError)
    with open(path, "rb") as file:
        found = file.read(most + 1)
    if len(found) > most:
        refuse(str(path), f"at most {most:,} bytes", "more")
    return found


def read(
    path: str | os.PathLike[str], *, own: bool = False
) -> tuple[dict[str, Array], dict[str, str]]:
    """Reads named arrays and metadata; refuses a file that is not a complete safetensors file.

    Where the file has checksums, they are compared.

    Args:
        path: of the file.
        own: whether this package wrote it; where it has no checksums, a warning says that
            nothing vouches for its numbers.
    """
    if not Path(path).is_file():
        refuse("file", "an existing safetensors file", str(path), error=FileNotFoundError)
    _bounded_header(path)
    try:
        with safe_open(str(path), framework="numpy") as file:
            names = file.keys()  # the file object is no mapping
            if len(names) > MOST_TENSORS:
                refuse(str(path), f"at most {MOST_TENSORS:,} tensors", f"{len(names):,}")
            arrays = {name: file.get_tensor(name) for name in names}
            metadata = file.metadata() or {}
    except (SafetensorError, TypeError, AttributeError) as problem:
        refuse(str(path), WHOLE, problem)
    for name, array in arrays.items():
        if array.dtype.kind not in "biufc":  # other libraries add types to NumPy
            refuse(str(path), WHOLE, f"{array.dtype} for {name!r}")
    wanted = metadata.pop(CHECKSUMS, None)
    if wanted is not None:
        _compare(path, wanted, _checksums(arrays, metadata))
    elif own:
        warnings.warn(
            f"{path}: it has no checksums, as files of earlier versions have none; whether its "
            "numbers are those that were saved cannot be told",
            stacklevel=3,
        )
    return arrays, metadata


def _bounded_header(path: str | os.PathLike[str]) -> None:
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > LARGEST_HEADER:
        refuse(str(path), WHOLE, f"a header of {size:,} bytes, more than {LARGEST_HEADER:,}")


def _checksums(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> dict[str, str]:
    found = {"": hashlib.sha256(json.dumps(sorted(metadata.items())).encode()).hexdigest()}
    for name, array in arrays.items():
        digest = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data if array.size else b"")
        found[name] = digest.hexdigest()
    return found


def _compare(path: str | os.PathLike[str], wanted: str, found: Mapping[str, str]) -> None:
    try:
        saved = json.loads(wanted)
    except ValueError:
        saved = None
    if saved == found:
        return
    before = saved if isinstance(saved, dict) else {}
    differing = [name for name in {**found, **before} if found.get(name) != before.get(name)]
    names = ", ".join(name or "the metadata" for name in differing[:5])
    way_out = "the file is damaged; take a copy of it"
    refuse(str(path), "the content that was saved", f"something else in {names}", way_out)
