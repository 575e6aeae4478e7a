"""Files in safetensors format, written completely or not at all.

A safetensors file holds a short header and raw numbers. Loading it executes nothing, so that a
file from a stranger can be read safely, unlike a checkpoint in pickle.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as encode

from throughtime.arrays import Array, refuse

WHOLE = "a whole safetensors file of NumPy's number types"


def write(
    path: str | os.PathLike[str],
    arrays: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes named arrays and text metadata as one safetensors file, atomically."""
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    replace(path, encode(tensors, metadata=dict(metadata) if metadata else None))


def replace(path: str | os.PathLike[str], content: bytes) -> None:
    """Puts `content` at `path` in one step: a reader sees either the old file or the new one.

    A file beside it is written and flushed to the disk first, then renamed, which POSIX and
    Windows both do atomically within a folder.
    """
    target = Path(path)
    if not target.parent.is_dir():
        refuse("path", "an existing folder", str(target.parent), f"mkdir -p {target.parent}")
    if target.is_dir():
        refuse("path", "a file", f"the folder {target}")
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Reads named arrays and metadata; refuses a file that is not a complete safetensors file."""
    if not Path(path).is_file():
        refuse("file", "an existing safetensors file", str(path), error=FileNotFoundError)
    try:
        with safe_open(str(path), framework="numpy") as file:
            names = file.keys()  # the file object is no mapping
            arrays = {name: file.get_tensor(name) for name in names}
            metadata = file.metadata() or {}
    except (SafetensorError, TypeError, AttributeError) as problem:
        refuse(str(path), WHOLE, problem)
    for name, array in arrays.items():
        if array.dtype.kind not in "biufc":  # other libraries add types to NumPy
            refuse(str(path), WHOLE, f"{array.dtype} for {name!r}")
    return arrays, metadata
