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
MARGIN = 4096  # bytes before and after each array, so that writing past an end is noticed
UNTOUCHED = b"\xff"  # eight or four of them are a NaN that no arithmetic gives


class Buffer:
    """An array on a page of its own, with a margin on both sides."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._memory = mmap.mmap(-1, size + 2 * MARGIN)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._margin = UNTOUCHED * MARGIN

    def clear(self) -> int:
        """Marks every byte as untouched; returns the array's address."""
        self._memory[:] = UNTOUCHED * len(self._memory)
        return self._address + MARGIN

    def read(self, path: str) -> int:
        """Fills the array from a file; returns its address."""
        self.clear()
        with open(path, "rb") as file:
            self._memory[MARGIN : MARGIN + self.size] = file.read()
        return self._address + MARGIN

    def write(self, path: str, function: str) -> None:
        """Writes the array to a file, unless a margin was written to."""
        before, after = self._memory[:MARGIN], self._memory[MARGIN + self.size :]
        for margin, where in ((before, "before its start"), (after, "past its end")):
            if margin != self._margin:
                raise ValueError(f"{function}: expected to write within the array, wrote {where}")
        with open(path, "wb") as file:
            file.write(self._memory[MARGIN : MARGIN + self.size])


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
        return {"loss": self.functions.tt_loss(*self._parameters(request))}

    def gradient(self, request: dict[str, Any]) -> dict[str, Any]:
        """`tt_gradient` at the parameters of a file, into another file."""
        parameters, count = self._parameters(request)
        gradient = Buffer(count * self.itemsize)
        self.functions.tt_gradient(parameters, gradient.clear(), count)
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


def serve() -> None:
    """Answers until standard input ends."""
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
