"""A program in any language as a target: it reads and writes JSON lines and flat binary files.

First it describes itself: names, shapes and dtype of its parameters. A library does the same, by
way of `serve_library`.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from throughtime import storage
from throughtime.arrays import Array, Shape, positive, refuse
from throughtime.gradcheck import CheckError, Target
from throughtime.parameters import Parameters
from throughtime.targets.channel import Channel, shown
from throughtime.targets.tolerances import (
    ANSWER_TIMEOUT,
    ENOUGH_LOSSES,
    FEW_DECIMALS,
    MOST_AXES,
)

PLACES = {
    "describe": "when asked to describe itself",
    "loss": "when asked for the loss",
    "gradient": "when asked for the gradient",
    "reset": "when asked to reset",
    "set_length": "when asked for another length",
    "initial": "when asked for its initial parameters",
}

OPTIONAL = ("reset", "set_length", "initial")
NEEDED_KEYS = ("names", "shapes", "dtype")
KEYS = (*NEEDED_KEYS, "steps", "optional")

UNKNOWN_LENGTH = -1


@dataclass(frozen=True)
class ProgramStart:
    """How a program is started; enough to start it again elsewhere."""

    command: tuple[str, ...]
    name: str
    places: Mapping[str, str]
    timeout: float
    first: tuple[dict[str, object], ...] = ()  # requests that come before all others


class RunningProgram:
    """A running program, which computes losses and gradients at the target's parameters."""

    def __init__(self, start: ProgramStart, seed: int) -> None:
        self._open(start)
        self.parameters: Parameters = self._initial(seed)

    def _open(self, start: ProgramStart) -> None:
        self.start = start
        self.channel = Channel(start.command, start.name, start.places, start.timeout)
        for request in start.first:
            self.channel.ask(request)
        answer = self.channel.ask({"do": "describe"})
        self.description: Description = read_description(start.name, answer)
        self._in_memory()
        self.length = self.description.steps
        self._most_digits = self._most_decimals = self._losses = 0
        folder = Path(tempfile.mkdtemp(prefix="throughtime-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._p, self._g = folder / "p.bin", folder / "g.bin"

    def _in_memory(self) -> None:
        """Refuses more parameters than there is memory for, before they are drawn."""
        size = self.description.size
        try:
            np.empty(size, self.description.dtype)
        except (MemoryError, ValueError, OverflowError):
            actual = f"{size:.3g} numbers" if size < 10**300 else "far more"
            expected = "parameters that there is memory for"
            self.channel.refuse("description: shapes", expected, actual)

    def __getstate__(self) -> dict[str, Any]:
        return {"start": self.start, "parameters": self.parameters}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.parameters = state["parameters"]
        self._open(state["start"])

    def loss(self, length: int | None) -> Any:
        """The loss, a number or a list of terms, over `length` steps."""
        answer = self._ask_at("loss", length, parameters=str(self._p))
        loss = answer.get("loss")
        terms: list[Any] = loss if isinstance(loss, list) else [loss]
        if self._losses and "loss" in answer:
            # null is how many languages write NaN, which a loss may well be at some other point.
            terms = [math.nan if term is None else term for term in terms]
        if not terms or not all(type(term) in (int, float) for term in terms):
            null = "loss" in answer and None in terms
            way_out = "many languages write NaN and infinity as null" if null else ""
            actual = shown(json.dumps(answer).encode())
            self.channel.refuse("", '{"loss": a number or a list of terms}', actual, way_out)
        self._count_digits(terms)
        return terms if isinstance(loss, list) else terms[0]

    def gradient(self, length: int | None) -> Mapping[str, Array]:
        """The gradient that the program writes to a file, over `length` steps."""
        self._g.unlink(missing_ok=True)
        self._ask_at("gradient", length, parameters=str(self._p), gradient=str(self._g))
        return self.parameters.like(self._read(self._g, "gradient"))

    def set_length(self, length: int | None) -> None:
        """Sets the number of steps; refused where the program has no data for so many."""
        if length != self.length:
            self.length = UNKNOWN_LENGTH  # in case no answer comes
            self.channel.ask({"do": "set_length", "steps": length})
            self.length = length

    def reset(self) -> None:
        """Sends the program a reset."""
        self.channel.ask({"do": "reset"})

    def note(self) -> str:
        """What the user should know about the answers; mostly empty."""
        few = min(self._most_digits, self._most_decimals) <= FEW_DECIMALS
        if self._losses < ENOUGH_LOSSES or not few:
            return ""
        return (
            f"{self.start.name}: no loss had more than {FEW_DECIMALS} digits; "
            "print it with 17 (%.17g), since a check lives on the last ones"
        )

    def _ask_at(self, do: str, length: int | None, **files: str) -> dict[str, Any]:
        self.set_length(length)
        self._write(self.parameters)
        return self.channel.ask({"do": do, **files})

    def _write(self, parameters: Parameters) -> None:
        """Writes the parameters over those of the last evaluation.

        The file is made anew only where the program has removed it: to truncate it to nothing
        first costs milliseconds on some file systems (ext4: 2.8 ms instead of 0.04).
        """
        numbers = parameters.flat.astype(self._little_endian, copy=False)
        with open(self._p, "r+b" if self._p.exists() else "wb") as file:
            numbers.tofile(file)
            file.truncate()

    def _initial(self, seed: int) -> Parameters:
        drawn = self.description.draw(seed)
        if "initial" in self.description.optional:
            self._write(drawn)
            self.channel.ask({"do": "initial", "parameters": str(self._p)})
            drawn.flat[...] = self._read(self._p, "initial parameters")
        return drawn

    @property
    def _little_endian(self) -> np.dtype[Any]:
        return np.dtype(self.description.dtype).newbyteorder("<")

    def _read(self, path: Path, what: str) -> Array:
        """A vector of the parameters' size and dtype from a file of the program."""
        dtype, size = np.dtype(self.description.dtype), self.description.size
        expected = f"{size} numbers of {dtype}, {size * dtype.itemsize} bytes, in {path.name}"
        try:
            raw = storage.read_bytes(path, most=2 * size * dtype.itemsize)
        except FileNotFoundError:
            self.channel.refuse(what, expected, "no such file")
        except (OSError, ValueError) as problem:  # a pipe, a folder, or far too many bytes
            self.channel.refuse(what, expected, str(problem).partition("got ")[2] or str(problem))
        if len(raw) != size * dtype.itemsize:
            doubles = len(raw) == 2 * size * dtype.itemsize and dtype.itemsize == 4
            halves = 2 * len(raw) == size * dtype.itemsize and dtype.itemsize == 8
            way_out = f"are they {'float64' if doubles else 'float32'}?" if doubles | halves else ""
            self.channel.refuse(what, expected, f"{len(raw)} bytes", way_out)
        left = np.frombuffer(raw, f"<u{dtype.itemsize}") == 2 ** (8 * dtype.itemsize) - 1
        if left.any():  # what a library's buffer holds beforehand; no arithmetic gives this NaN
            actual = f"{np.count_nonzero(left)} left as they were"
            self.channel.refuse(what, f"all {size} numbers to be set", actual)
        return np.frombuffer(raw, self._little_endian).astype(dtype)

    def _count_digits(self, terms: Sequence[float]) -> None:
        self._losses += 1
        for term in terms[:1]:
            parts = Decimal(repr(term)).as_tuple()
            if isinstance(parts.exponent, int):
                self._most_digits = max(self._most_digits, len(parts.digits))
                self._most_decimals = max(self._most_decimals, -parts.exponent)


@dataclass(frozen=True)
class ProgramTarget(Target):
    """A target whose loss and gradient another process computes.

    The process ends with `close()`, at the end of a `with` block, or when the target is
    garbage-collected. A copy that is sent to a worker starts a process of its own.
    """

    program: RunningProgram = field(kw_only=True, repr=False)

    length_hint: ClassVar[str] = (
        "let a library export `tt_set_length`, and a program answer `set_length`"
    )

    def close(self) -> None:
        """Ends the process.

        Raises:
            CheckError: where it ends by itself with an exit status other than 0.
        """
        self.program.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.program.channel.kill()


def program_target(
    command: str | Sequence[str],
    *,
    timeout: float = ANSWER_TIMEOUT,
    seed: int = 0,
    layout: Any = None,
) -> ProgramTarget:
    """Starts a program that speaks the line protocol, as a target.

    Args:
        command: the program and its arguments; a string is split as a shell does.
        timeout: seconds that each answer may take.
        seed: random seed for the parameters, where the program gives no initial ones: they are
            drawn uniformly from ±1/√n, with n the length of the last axis.
        layout: how its arrays hold a cell's matrices, and the data of its run, see `Target`.

    Raises:
        CheckError: where it cannot be started or does not describe itself.

    Example:
        >>> target = tt.program_target("node lstm.js")  # doctest: +SKIP
        >>> tt.check(target).verdict  # doctest: +SKIP
        'agree'
    """
    words = shlex.split(command) if isinstance(command, str) else [os.fspath(w) for w in command]
    if not words:
        refuse("program", "a command", "none", error=CheckError)
    start = ProgramStart(tuple(words), shlex.join(words), PLACES, seconds(timeout))
    return started(start, seed, layout)


def started(start: ProgramStart, seed: int, layout: Any = None) -> ProgramTarget:
    """The target of a program that is started now; a layout is that of its own length alone."""
    program = RunningProgram(start, seed)
    return replace(_target(program, program.description.steps), layout=layout)


def seconds(timeout: float) -> float:
    """A time limit, refused unless it is positive and a lock can wait that long."""
    if not 0 < timeout <= threading.TIMEOUT_MAX:
        refuse("timeout", "a positive number of seconds", timeout, error=CheckError)
    return float(timeout)


def _target(program: RunningProgram, steps: int | None) -> ProgramTarget:
    optional = program.description.optional
    return ProgramTarget(
        program.parameters,
        partial(program.loss, steps),
        partial(program.gradient, steps),
        reset=program.reset if "reset" in optional else None,
        at_length=partial(_at_length, program) if "set_length" in optional else None,
        steps=steps,
        program=program,
    )


def _at_length(program: RunningProgram, steps: int) -> ProgramTarget:
    program.set_length(positive("steps", steps))
    return _target(program, steps)


@dataclass(frozen=True)
class Description:
    """The answer to `{"do": "describe"}`.

    Attributes:
        shapes: name to shape, in the order in which the flat vector holds them.
        dtype: "float32" or "float64".
        steps: T, where it is known.
        optional: which of "reset", "set_length", "initial" can be asked for.
    """

    shapes: dict[str, Shape]
    dtype: str
    steps: int | None
    optional: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many numbers the flat vector has."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def draw(self, seed: int) -> Parameters:
        """Parameters drawn uniformly from ±1/√n, with n the length of the last axis."""
        rng = np.random.default_rng(seed)
        drawn = Parameters(self.shapes, self.dtype)
        for name, shape in self.shapes.items():
            bound = 1 / math.sqrt(shape[-1]) if shape else 1.0
            drawn[name] = rng.uniform(-bound, bound, shape)
        return drawn


def read_description(who: str, answer: Mapping[str, Any]) -> Description:
    """The description in an answer.

    Raises:
        CheckError: where something is missing, unknown or of the wrong form.
    """
    what = f"{who}: description"

    def demand(true: bool, key: str, expected: str) -> None:
        if not true:
            refuse(f"{what}: {key}", expected, repr(answer.get(key)), error=CheckError)

    missing = [key for key in NEEDED_KEYS if key not in answer]
    unknown = [key for key in answer if key not in KEYS]
    if missing or unknown:
        found = [f"no {key}" for key in missing] + [f"an unknown {key!r}" for key in unknown]
        keys = "the keys names, shapes and dtype, if need be steps and optional"
        refuse(what, keys, " and ".join(found), error=CheckError)
    names, shapes, dtype, steps = (answer.get(key) for key in KEYS[:4])
    optional = answer.get("optional", [])
    all_names = isinstance(names, list) and all(isinstance(n, str) and n for n in names)
    demand(all_names and bool(names), "names", "a list of names")
    demand(len(set(names)) == len(names), "names", "names that differ")  # type: ignore[arg-type]
    all_shapes = isinstance(shapes, list) and all(map(_is_shape, shapes))
    sizes = f"a list of lists of up to {MOST_AXES} sizes, each at least 1"
    demand(all_shapes, "shapes", sizes)
    same = len(shapes) == len(names)  # type: ignore[arg-type]
    demand(same, "shapes", f"one for each of {len(names)} names")  # type: ignore[arg-type]
    demand(dtype in ("float32", "float64"), "dtype", "float32 or float64")
    demand(steps is None or _is_size(steps), "steps", "a number of steps, at least 1")
    known = isinstance(optional, list) and all(o in OPTIONAL for o in optional)
    demand(known, "optional", "a list of some of " + ", ".join(OPTIONAL))
    lasting = steps is not None or "set_length" not in optional
    demand(lasting, "steps", "a number of steps, since set_length changes it")
    named = {n: tuple(s) for n, s in zip(names, shapes, strict=True)}  # type: ignore[arg-type]
    return Description(named, str(dtype), steps, tuple(optional))


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and len(value) <= MOST_AXES and all(map(_is_size, value))
