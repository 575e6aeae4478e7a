"""Runs as a process of its own: calls a shared library for the checker, one request a line.

It imports nothing but the standard library, so that it starts at once, and answers as every
program does: `{"do": "loss", "parameters": "p.bin"}` on standard input, one JSON object on
standard output. What the library itself prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

POINTER, SIZE = ctypes.c_void_p, ctypes.c_size_t
FORMS: dict[str, tuple[Any, ...]] = {  # result, then arguments
    "tt_describe": (ctypes.c_char_p,),
    "tt_loss": (ctypes.c_double, POINTER, SIZE),
    "tt_gradient": (None, POINTER, POINTER, SIZE),
    "tt_reset": (None,),
    "tt_set_length": (ctypes.c_int, SIZE),
    "tt_initial": (None, POINTER, SIZE),
}
NEEDED = ("tt_describe", "tt_loss", "tt_gradient")
OPTIONAL = ("reset", "set_length", "initial")
PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
PROT_NONE = 0  # of <sys/mman.h>
ALIGNED = 64  # bytes: of a cache line, and of the widest vector that a compiler aligns
UNTOUCHED = b"\xff"  # eight or four of them are a NaN that no arithmetic gives


class Buffer:
    """An array between two pages that nobody may touch.

    It ends a little before the second of them. What is written into the little is noticed
    afterwards; what is written beyond it, or before the first page's end, ends the process at once
    where the system protects pages.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        page = mmap.PAGESIZE
        behind = -(-size // ALIGNED) * ALIGNED + ALIGNED
        inner = -(-(behind + ALIGNED) // page) * page
        self._memory = mmap.mmap(-1, inner + 2 * page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._inner = slice(page, page + inner)
        self._start = page + inner - behind
        self._address = address + self._start
        with contextlib.suppress(OSError, AttributeError, TypeError):
            protect = ctypes.CDLL(None).mprotect
            for place in (address, address + page + inner):
                protect(ctypes.c_void_p(place), ctypes.c_size_t(page), PROT_NONE)

    def clear(self) -> int:
        """Marks every byte as untouched; returns the array's address.

        Around the array the marks are random, so that whatever is written there is noticed.
        """
        self._memory[self._own] = UNTOUCHED * self.size
        self._marks = [(where, place, os.urandom(n)) for where, place, n in self._margins()]
        for _, place, mark in self._marks:
            self._memory[place] = mark
        return self._address

    def _margins(self) -> list[tuple[str, slice, int]]:
        """In words and as places, with their lengths."""
        end, last = self._start + self.size, self._inner.stop
        before = slice(self._inner.start, self._start)
        return [
            ("before its start", before, before.stop - before.start),
            ("past its end", slice(end, last), last - end),
        ]

    def read(self, path: str) -> int:
        """Fills the array from a file; returns its address."""
        self.clear()
        with open(path, "rb") as file:
            self.content = file.read()
        self._memory[self._own] = self.content
        return self._address

    def stays(self, function: str) -> None:
        """Refuses a function that wrote into the array, or around it."""
        self._bounds(function)
        if self._memory[self._own] != self.content:
            raise ValueError(f"{function}: expected to read the parameters alone, wrote into them")

    def write(self, path: str, function: str) -> None:
        """Writes the array to a file, unless something was written around it."""
        self._bounds(function)
        with open(path, "wb") as file:
            file.write(self._memory[self._own])

    @property
    def _own(self) -> slice:
        return slice(self._start, self._start + self.size)

    def _bounds(self, function: str) -> None:
        for where, place, mark in self._marks:
            if self._memory[place] != mark:
                raise ValueError(f"{function}: expected to write within the array, wrote {where}")


class Library:
    """The loaded library; its public methods are what can be asked for."""

    def __init__(self) -> None:
        self.itemsize = 8
        self.optional: list[str] = []
        self._kept = Buffer(0)  # of the parameters, whose size stays the same

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Loads it and finds its functions."""
        try:
            self.functions = ctypes.CDLL(request["library"])
        except OSError as problem:
            raise ValueError(f"cannot be loaded: {problem}") from None
        missing = [name for name in NEEDED if not hasattr(self.functions, name)]
        if missing:
            raise ValueError(
                f"expected the functions {', '.join(NEEDED)}, got no {' and no '.join(missing)}; "
                'in C++ declare them extern "C", as throughtime.h does'
            )
        self.optional = [name for name in OPTIONAL if hasattr(self.functions, f"tt_{name}")]
        for name in (*NEEDED, *(f"tt_{name}" for name in self.optional)):
            function = getattr(self.functions, name)
            function.restype, *function.argtypes = FORMS[name]
        return {}

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """The JSON of `tt_describe`, and which optional functions there are."""
        text = self.functions.tt_describe()
        shown = "NULL" if text is None else repr(text[:200].decode(errors="backslashreplace"))
        try:
            found = json.loads(text or b"")
        except ValueError as problem:
            raise ValueError(f"tt_describe: expected JSON, got {shown} ({problem})") from None
        if not isinstance(found, dict):
            raise ValueError(f"tt_describe: expected a JSON object, got {shown}")
        self.itemsize = 4 if found.get("dtype") == "float32" else 8
        return {"optional": self.optional, **found}

    def loss(self, request: dict[str, Any]) -> dict[str, Any]:
        """`tt_loss` at the parameters of a file."""
        loss = self.functions.tt_loss(*self._parameters(request))
        self._kept.stays("tt_loss")
        return {"loss": loss}

    def gradient(self, request: dict[str, Any]) -> dict[str, Any]:
        """`tt_gradient` at the parameters of a file, into another file."""
        parameters, count = self._parameters(request)
        gradient = Buffer(count * self.itemsize)
        self.functions.tt_gradient(parameters, gradient.clear(), count)
        self._kept.stays("tt_gradient")
        gradient.write(request["gradient"], "tt_gradient")
        return {}

    def initial(self, request: dict[str, Any]) -> dict[str, Any]:
        """`tt_initial`, into a file."""
        parameters = Buffer(os.path.getsize(request["parameters"]))
        self.functions.tt_initial(parameters.clear(), parameters.size // self.itemsize)
        parameters.write(request["parameters"], "tt_initial")
        return {}

    def reset(self, request: dict[str, Any]) -> dict[str, Any]:
        """`tt_reset`."""
        self.functions.tt_reset()
        return {}

    def set_length(self, request: dict[str, Any]) -> dict[str, Any]:
        """`tt_set_length`, which returns 0 where it can."""
        if self.functions.tt_set_length(request["steps"]):
            raise ValueError(f"tt_set_length: expected 0, got no data for {request['steps']} steps")
        return {}

    def _parameters(self, request: dict[str, Any]) -> tuple[int, int]:
        """Address and count."""
        size = os.path.getsize(request["parameters"])
        if self._kept.size != size:
            self._kept = Buffer(size)
        return self._kept.read(request["parameters"]), size // self.itemsize


def _end_with_parent() -> None:
    """Has Linux end this process when the checker dies, even within a function of the library."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def serve() -> None:
    """Answers until standard input ends."""
    _end_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the library prints is not an answer
    with contextlib.suppress(OSError, ValueError, AttributeError):
        c = ctypes.CDLL(None)
        c.setlinebuf(ctypes.c_void_p.in_dll(c, "stdout"))  # or a crash would swallow its last words
    library = Library()
    for line in sys.stdin:
        request = json.loads(line)
        do: Callable[[dict[str, Any]], dict[str, Any]] = getattr(library, request["do"])
        try:
            answer = do(request)
        except ValueError as problem:
            answer = {"error": str(problem)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve()
