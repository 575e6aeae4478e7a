"""Runs a user's program and its edited versions in processes of their own, within limits.

What hangs is ended, what takes too much memory fails, what is printed is dropped, and nothing is
left behind: a process that answers too late is killed with all that it has started.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.derivatives import derivative
from throughtime.gradcheck import CheckError, EffortName, check_target
from throughtime.source.child import limit, watch
from throughtime.source.edits.executed import Executed, executed
from throughtime.source.edits.versions import Replaced, put_in
from throughtime.source.finding.models import IMPORT
from throughtime.source.lines.annotate import LineFinding, suspected
from throughtime.source.recipe import Program, Recipe
from throughtime.source.tolerances import (
    DIRECTIONS,
    END_SECONDS,
    LOAD_SECONDS,
    POINT_RMS,
    POINT_WIDTH,
    PROCESSOR_SECONDS,
    QUICK_ERROR,
    QUICK_STEPS,
    TRY_PATIENCE,
    TRY_RATIO,
    TRY_SECONDS,
)
from throughtime.targets import descendants, keep

DRAWN = IMPORT.split("\n")[1]  # how a recipe that was found begins to draw


@dataclass(frozen=True)
class Setting:
    """Where a program is run.

    Attributes:
        name: in words.
        length, batch, seed: as `Program` takes them.
        point: seed of the point that the parameters stand at; None: where the file puts them.
    """

    name: str
    length: int | None = None
    batch: int | None = None
    seed: int = 0
    point: int | None = None


@dataclass(frozen=True)
class Try:
    """A version of the program, run at a setting.

    Attributes:
        setting: where.
        version: functions with another text.
        texts: whole files, where a version cannot be told by functions.
        loss: whether the loss is wanted too.
    """

    setting: Setting
    version: tuple[Replaced, ...] = ()
    texts: tuple[tuple[Path, str], ...] | None = None
    loss: bool = False


@dataclass(frozen=True)
class Tried:
    """What came of a try.

    Attributes:
        products: name to the gradient's products with its directions; None where it failed.
        loss: the loss, where it was wanted.
        problem: why it failed, in words.
    """

    products: Mapping[str, Array] | None
    loss: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class Measured:
    """Numerical derivatives of a tensor along its directions, with error bars."""

    name: str
    values: Array
    errors: Array


class TimeLimit(BaseException):
    """A try took too long; no `except Exception` of the user's holds it."""


def directions(name: str, shape: tuple[int, ...]) -> Array:
    """The directions of a tensor, (K, size): its entries where there are no more of them."""
    size = int(np.prod(shape, dtype=int))
    if size <= DIRECTIONS:
        return np.eye(size)
    seed = [len(name), *name.encode()]
    return np.random.default_rng(seed).standard_normal((DIRECTIONS, size))


class TrialRunner:
    """Answers questions about a program, in the process that it lives in."""

    def __init__(self, recipe: Recipe, texts: Mapping[Path, str]) -> None:
        self._recipe, self._texts = recipe, dict(texts)
        self._programs: dict[Setting, Program] = {}
        self._seconds: dict[Setting, float] = {}
        self._held: Program | None = None
        self._entered = contextlib.ExitStack()
        self._home = Path.cwd()
        self._elsewhere = Path(os.environ["THROUGHTIME_TRIAL_FOLDER"])

    def answer(self, question: Any) -> Any:
        """One question; whatever the user's code raises is the answer's problem."""
        kind, *rest = question
        return getattr(self, f"_{kind}")(*rest)

    def _executed(self, what: Try) -> Executed:
        with self._version(what) as program:
            return executed(program, {**self._texts, **dict(what.texts or ())})

    def _suspected(self, what: Try) -> list[LineFinding]:
        """The lines of a version that are wrong, or may be, as their values show, in order."""
        with self._version(what) as program:
            return suspected(program)

    def _shape(self, setting: Setting) -> tuple[dict[str, tuple[int, ...]], int | None]:
        program = self._program(setting)
        return {name: array.shape for name, array in program.parameters.items()}, program.length

    def _measured(self, setting: Setting, name: str) -> Measured:
        program = self._program(setting)
        self._hold(program)
        array = program.parameters[name]
        start = array.copy()

        def loss(flat: Array) -> Any:
            array[...] = flat.reshape(array.shape)
            return program.loss()

        try:
            found = [_slope(loss, start.reshape(-1), v) for v in directions(name, start.shape)]
        finally:
            array[...] = start
        values, errors = np.array(found).T
        return Measured(name, values, errors)

    def _tried(self, what: Try) -> Tried:
        seconds = max(TRY_SECONDS, TRY_RATIO * self._usual(what.setting))
        try:
            with alarm(seconds), self._version(what) as program:
                return _evaluated(program, what.loss)
        except TimeLimit:
            return Tried(None, problem="it takes too long")
        except (KeyboardInterrupt, MemoryError) as problem:
            return Tried(None, problem=type(problem).__name__)
        except BaseException as problem:  # the user's code may raise anything, SystemExit too
            return Tried(None, problem=f"{type(problem).__name__}: {problem}")

    def _checked(self, what: Try, effort: EffortName) -> tuple[str, float, str]:
        """The verdict of the check on a version, the discrepancy, and its report in words."""
        with self._version(what) as program:
            report = check_target(program.target(), effort=effort, progress=False)
            return report.verdict, report.discrepancy, str(report)

    @contextlib.contextmanager
    def _version(self, what: Try) -> Iterator[Program]:
        if what.texts is None:
            program = self._program(what.setting)
            self._hold(program)
            with put_in(program, what.version) as done:
                if not done:
                    raise SyntaxError("this version cannot be put into the running program")
                yield program
            return
        yield self._loaded(what.setting, {**self._texts, **dict(what.texts)})

    def _usual(self, setting: Setting) -> float:
        """The seconds that the program takes as it stands."""
        if setting not in self._seconds:
            program, began = self._program(setting), time.perf_counter()
            with contextlib.suppress(Exception):
                program.gradient()
            self._seconds[setting] = time.perf_counter() - began
        return self._seconds[setting]

    def _program(self, setting: Setting) -> Program:
        if setting not in self._programs:
            self._programs[setting] = self._loaded(setting, self._texts)
        return self._programs[setting]

    def _hold(self, program: Program | None) -> None:
        """Stays inside of one program, as tries at one setting come one after another."""
        if self._held is not program:
            self._entered.close()
            self._held = program
            if program is not None:
                self._entered.enter_context(program.entered())

    def _loaded(self, setting: Setting, texts: Mapping[Path, str]) -> Program:
        self._hold(None)
        drawn = f"default_rng({setting.seed})"  # data that were drawn for want of the user's own
        data = self._recipe.data.replace(DRAWN, DRAWN.replace("default_rng(0)", drawn))
        os.chdir(self._home)
        try:
            program = Program(
                replace(self._recipe, data=data),
                texts=texts,
                length=setting.length,
                batch=setting.batch,
                seed=setting.seed,
            )
        finally:
            os.chdir(self._elsewhere)
        if setting.point is not None:
            moved(program, setting.point)
        return program


def _slope(loss: Callable[[Array], Any], start: Array, direction: Array) -> tuple[float, float]:
    """The derivative of the loss along a direction, with an error bar.

    Sixth-order differences at two steps suffice wherever the loss is smooth and these agree. Where
    they do not, a kink may be near, as of a ReLU, and smaller ones may be on this side of it; else
    `derivative` looks for the steps.
    """
    size = float(np.sqrt(np.mean(start.astype(np.float64) ** 2))) or 1.0
    for step in (part * size for part in QUICK_STEPS if start.dtype == np.float64):
        with np.errstate(all="ignore"):
            rises = {
                n: float(np.sum(loss(start + n * step * direction)))
                - float(np.sum(loss(start - n * step * direction)))
                for n in (1, 2, 3, 4, 6)
            }
        near, far = (
            (45 * rises[n] - 9 * rises[2 * n] + rises[3 * n]) / (60 * n * step) for n in (1, 2)
        )
        error = abs(near - far)
        if error <= QUICK_ERROR * abs(near):
            return near, max(error, QUICK_ERROR * 1e-3 * abs(near))
    found = derivative(loss, start, direction)
    return found.value, found.error


def moved(program: Program, seed: int) -> Program:
    """Puts the parameters where all that they do shows; near, where the loss is not finite there.

    Returns:
        the program itself.
    """
    draw = np.random.default_rng(seed)
    before = {name: array.copy() for name, array in program.parameters.items()}
    for array in program.parameters.values():
        width = array.shape[-1] if array.ndim > 1 else 1
        rms = POINT_RMS * min(1.0, float(np.sqrt(POINT_WIDTH / max(width, 1))))
        array[...] = rms * draw.standard_normal(array.shape)
    with contextlib.suppress(Exception):
        if np.isfinite(np.sum(program.loss())):
            return program
    for name, array in program.parameters.items():
        array[...] = before[name] * (1 + 0.1 * draw.standard_normal(array.shape))
    return program


def _evaluated(program: Program, with_loss: bool) -> Tried:
    gradient = program.gradient()
    products = {}
    for name, array in program.parameters.items():
        found = gradient[name]
        if found.shape != array.shape:
            return Tried(None, problem=f"{name} has the shape {found.shape}")
        products[name] = directions(name, array.shape) @ found.reshape(-1)
    if not all(np.isfinite(product).all() for product in products.values()):
        return Tried(None, problem="it is not finite")
    return Tried(products, float(np.sum(program.loss())) if with_loss else None)


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Ends what runs inside after so long of processor time, or `TRY_PATIENCE` times of any."""
    began, worked = time.perf_counter(), time.process_time()

    def ring(number: int, frame: object) -> None:
        waited = time.perf_counter() - began
        if time.process_time() - worked >= seconds or waited >= TRY_PATIENCE * seconds:
            raise TimeLimit

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.05)  # again, should an `except:` hold it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _serve(pipe: Connection, recipe: Recipe, texts: Mapping[Path, str], folder: str) -> NoReturn:
    """The life of a process: below it another one answers, and nothing is left of that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep(partial(_answer, pipe, recipe, texts, folder), pipe.close)


def _answer(pipe: Connection, recipe: Recipe, texts: Mapping[Path, str], folder: str) -> None:
    """Answers until the pipe is closed."""
    os.environ["THROUGHTIME_TRIAL_FOLDER"] = folder
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    limit(PROCESSOR_SECONDS)
    watch(os.path.realpath(folder))
    runner = TrialRunner(recipe, texts)
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        try:
            answer = runner.answer(question)
        except BaseException as problem:  # the user's code may raise anything
            answer = Failed(f"{type(problem).__name__}: {problem}")
        pipe.send(answer)


@dataclass(frozen=True)
class Failed:
    """A question without an answer, and why."""

    problem: str


class Trials:
    """Processes that answer questions about one program; a context, which ends them all.

    Args:
        recipe: how the program is run.
        texts: path to text, of files that are read otherwise than they stand.
        count: how many processes.
    """

    def __init__(self, recipe: Recipe, texts: Mapping[Path, str], count: int = 2) -> None:
        if not hasattr(os, "fork"):
            way_out = "use Linux, macOS or WSL"
            refuse("mending", "a system that can fork", sys.platform, way_out, error=CheckError)
        self._recipe, self._texts, self._count = recipe, texts, count
        self._context = multiprocessing.get_context("fork")
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        for worker in self._workers:
            worker.end()
        self._workers = []

    def ask(self, *question: Any, seconds: float = LOAD_SECONDS) -> Any:
        """One question.

        Raises:
            CheckError: where the user's code fails, or gives no answer in time.
        """
        answer = next(iter(self.ask_all([question], seconds)))[1]
        if isinstance(answer, Failed):
            raise CheckError(answer.problem)
        return answer

    def ask_all(
        self, questions: Iterable[tuple[Any, ...]], seconds: float = LOAD_SECONDS
    ) -> Iterator[tuple[int, Any]]:
        """Number and answer of each question, as they come; `Failed` where there is none."""
        waiting = deque(enumerate(questions))
        busy: dict[Connection, tuple[_Worker, int, float]] = {}
        while len(self._workers) < min(self._count, len(waiting)):
            self._workers.append(self._started())
        idle = list(self._workers)
        try:
            while waiting or busy:
                while waiting and idle:
                    number, question = waiting.popleft()
                    worker = idle.pop()
                    worker.pipe.send(question)
                    busy[worker.pipe] = (worker, number, time.monotonic() + seconds)
                until = min(limit for _, _, limit in busy.values()) - time.monotonic()
                for ready in wait(list(busy), timeout=max(until, 0.0)):
                    worker, number, _ = busy.pop(ready)  # type: ignore[call-overload]
                    try:
                        answer = worker.pipe.recv()
                    except (EOFError, OSError):
                        answer = Failed("the program ended its process")
                        worker = self._again(worker)
                    idle.append(worker)
                    yield number, answer
                for pipe, (worker, number, limit) in list(busy.items()):
                    if time.monotonic() > limit:
                        del busy[pipe]
                        idle.append(self._again(worker))
                        yield number, Failed(f"it takes longer than {seconds:.0f} s")
        finally:
            for worker, _, _ in busy.values():
                self._again(worker)

    def _started(self) -> _Worker:
        return _Worker(self._context, self._recipe, self._texts)

    def _again(self, worker: _Worker) -> _Worker:
        """Another process in the place of one that has ended or hangs."""
        worker.end()
        new = self._started()
        self._workers[self._workers.index(worker)] = new
        return new


class _Worker:
    """A process, its pipe and its temporary folder."""

    def __init__(self, context: Any, recipe: Recipe, texts: Mapping[Path, str]) -> None:
        self._folder = tempfile.mkdtemp(prefix="throughtime-")
        self.pipe, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, recipe, texts, self._folder), daemon=True
        )
        with warnings.catch_warnings():
            # JAX, where the parent holds it, warns of any fork; the child never calls it.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            self._process.start()
        other.close()

    def end(self) -> None:
        """Ends it with all that it has started, and removes its folder."""
        self._process.terminate()
        self._process.join(END_SECONDS)
        if self._process.exitcode is None:  # what it kept has stopped it
            below = descendants(self._process.pid)
            for number in (self._process.pid, *below):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(number, signal.SIGKILL)
            self._process.join()
        self.pipe.close()
        shutil.rmtree(self._folder, ignore_errors=True)
