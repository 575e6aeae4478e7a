"""`network.cpp`, compiled once a process with the system's compiler and loaded by ctypes."""

from __future__ import annotations

import ctypes
import os
import subprocess
from functools import cache
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

SOURCE = Path(__file__).with_name("network.cpp")
COMPILERS = (os.environ.get("CXX", "c++"), "g++", "clang++")


class Options(ctypes.Structure):
    """The struct of the same name."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("cell", "T", "B", "I", "H", "O")),
        *(
            (name, ctypes.c_int)
            for name in ("time_mean", "batch_mean", "regression", "relu", "root")
        ),
        ("decay", ctypes.c_double),
    ]


@cache
def library() -> ctypes.CDLL:
    """The compiled file.

    Raises:
        OSError: where no compiler is found, or it fails; its own words are told.
    """
    compiler = next(filter(None, map(which, COMPILERS)), None)
    if compiler is None:
        raise OSError("compiled: expected a C++ compiler, got none of " + ", ".join(COMPILERS))
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "network.so"
        command = [compiler, "-std=c++17", "-O2", "-shared", "-fPIC", str(SOURCE), "-o", str(file)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"{compiler} failed on {SOURCE.name}:\n{done.stderr[-2000:]}")
        return ctypes.CDLL(str(file))
