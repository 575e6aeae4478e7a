"""An object of the user's with its data: `tt.check(model, inputs, targets)`.

The object is copied, and the copy is run: the user's own stays as it is.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import inspect
import textwrap
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from throughtime.arrays import refuse
from throughtime.gradcheck import CheckError
from throughtime.source.bench import Bench
from throughtime.source.finding.candidates import Candidate, candidates
from throughtime.source.finding.find import Found, found_of
from throughtime.source.finding.forms import Form, Sizes
from throughtime.source.finding.reading import Reading
from throughtime.source.finding.readings import Judged
from throughtime.source.finding.search import ReadingSearch
from throughtime.source.finding.unchecked import unchecked
from throughtime.source.meanings import BACKWARD
from throughtime.source.older import BUILTINS
from throughtime.source.recipe import Program
from throughtime.source.slices import Slices
from throughtime.source.user_files import State, copied, random_states, set_random_states

HEAP_TYPE = 1 << 9  # of a class: made by a class statement
OPTIONS = ("loss", "gradient", "loss_and_gradient", "update", "lr", "time_axis", "batch_axis")


class GivenFiles:
    """A namespace with the user's object and data, in the place of a user's file."""

    def __init__(self, things: dict[str, Any]) -> None:
        self.main = types.ModuleType("given")
        self.old = False
        vars(self.main).update(things)
        vars(self.main)["__builtins__"] = {**vars(builtins), **BUILTINS}
        self._things = things

    def texts(self) -> dict[Path, str]:
        """None of a file: the object's class may have been written anywhere."""
        return {}

    def copy(self) -> GivenFiles:
        """The same once more, from the start."""
        return GivenFiles(self._things)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """While the user's object runs, the random numbers of others are kept."""
        outside = random_states()
        try:
            yield
        finally:
            set_random_states(outside)

    def state(self) -> State:
        """A copy of all that stands in the namespace."""
        memo: dict[int, Any] = {}
        data = {
            key: copied(value, memo)
            for key, value in vars(self.main).items()
            if not key.startswith("__") and not isinstance(value, types.ModuleType)
        }
        return State([(self.main, data)], random_states(0))

    def restore(self, state: State) -> None:
        """Puts a copy of it back."""
        memo: dict[int, Any] = {}
        _, data = state.data[0]
        for key in [k for k, v in vars(self.main).items() if not k.startswith("__")]:
            if key not in data and not isinstance(vars(self.main)[key], types.ModuleType):
                delattr(self.main, key)
        for key, value in data.items():
            setattr(self.main, key, copied(value, memo))
        set_random_states(state.random)


def is_object(what: object, *, named: bool = False) -> bool:
    """Whether it is an object of a class of the user's with a backward pass, or one that is named.

    Args:
        what: anything.
        named: whether the user names what gives loss and gradient.
    """
    kind = type(what)
    room, in_python = kind.__module__.split(".")[0], kind.__flags__ & HEAP_TYPE
    if room in ("numpy", "torch", "jax", "throughtime") or (room == "builtins" and not in_python):
        return False  # a class that text defines, which names no module, counts as a builtin too
    if not hasattr(what, "__dict__") or isinstance(what, type | types.FunctionType):
        return False
    return any(BACKWARD.match(name) for name in dir(kind)) or named


def found_in_object(model: object, *data: Any, **options: Any) -> tuple[Found, Program]:
    """What of an object can be checked, and how, and the program that runs a copy of it.

    Args:
        model: an object with attributes that are its parameters.
        data: its inputs and, where its loss needs them, its targets.
        options: `loss_and_gradient`, the name of a method, or a function of the object, that
            returns both; `loss` and `gradient`, likewise each; `update` and `lr`: a training step
            instead of a gradient; `time_axis` and `batch_axis` of the inputs and targets.

    Raises:
        CheckError: where nothing is found; it says what to give.
    """
    for unknown in set(options) - set(OPTIONS):
        refuse("check", "of " + ", ".join(OPTIONS), unknown, error=TypeError)
    things: dict[str, Any] = {"net": model, "np": np}
    names = ("x", "y", *(f"data{n}" for n in range(2, len(data))))
    things |= dict(zip(names, data, strict=False))
    functions = {
        word: options[word]
        for word in ("loss", "gradient", "loss_and_gradient", "update")
        if options.get(word) is not None
    }
    things |= {f"given_{w}": f for w, f in functions.items() if not isinstance(f, str)}
    files = GivenFiles(things)
    best = (
        _by_functions(files, functions, len(data), options)
        if functions
        else _by_names(files, model, len(data), options)
    )
    if best is None or not best.believed:
        actual = "none that runs" if best is None else "one under which no tensor is right"
        if not functions and not any(map(_class_source, type(model).__mro__[:-1])):
            actual = "none, since the source of its class cannot be read"
        way_out = "give loss_and_gradient=, or loss= and gradient=, as names of its methods"
        refuse(type(model).__name__, "a reading of loss and gradient", actual, way_out,
               error=CheckError)  # fmt: skip
    path = Path("given.py")
    with contextlib.suppress(TypeError, OSError):  # a class in a notebook or a session has no file
        path = Path(inspect.getsourcefile(type(model)) or path)
    left = unchecked(Bench(Path(), files=files.copy()), best)
    found = found_of(path, type(model).__name__, best, [], files=files, length=None, left=left)
    return found, Program(found.recipe, files=files)


def _steps(files: GivenFiles, options: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """The data that are cut to other lengths: those that are as long as the inputs."""
    axis = options.get("time_axis")
    if axis is None:
        return ()
    shapes = {n: np.shape(v) for n, v in vars(files.main).items() if n in ("x", "y")}
    long = shapes["x"][axis]
    return tuple((n, axis) for n, s in shapes.items() if len(s) > axis and s[axis] == long)


def _sequences(files: GivenFiles, options: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """The data that are cut to a single sequence: those that have as many as the inputs."""
    axis = options.get("batch_axis")
    if axis is None:
        return ()
    shapes = {n: np.shape(v) for n, v in vars(files.main).items() if n in ("x", "y")}
    whole = shapes["x"][axis]
    return tuple((n, axis) for n, s in shapes.items() if len(s) > axis and s[axis] == whole)


def _by_functions(
    files: GivenFiles, functions: dict[str, Any], count: int, options: dict[str, Any]
) -> Judged | None:
    """A reading by what the user has named."""
    from throughtime.source.finding.readings import judged

    words = ", ".join(["x", "y", "data2", "data3"][:count])

    def call(word: str) -> str:
        given = functions[word]
        return f"net.{given}({words})" if isinstance(given, str) else f"given_{word}(net, {words})"

    if "update" in functions and options.get("lr") is None:
        refuse("update", "lr=, the learning rate of its step, beside it", "none", error=CheckError)
    both = functions.get("loss_and_gradient")
    gradient = next(
        w for w in ("loss_and_gradient", "gradient", "update", "loss") if w in functions
    )
    texts = []
    if both is not None:
        texts = [f"back = {call(gradient)}\nloss = back[{n}]" for n in (0, -1)]
        texts.append(f"back = {call(gradient)}\nloss = back")
    elif "loss" in functions:
        texts = [f"loss = {call('loss')}", f"loss = {call('loss')}[0]"]
    else:
        refuse(gradient, "loss= beside it", "none", error=CheckError)
    before = f"{call('loss')}\n" if gradient == "gradient" and "loss" in functions else ""
    for text in texts:
        found = judged(
            Bench(Path(), files=files),
            Reading(
                "",
                "",
                "",
                text,
                f"{before}back = {call(gradient)}",
                ("net",),
                steps=_steps(files, options),
                sequences=_sequences(files, options),
                rate=float(options.get("lr") or 0.1),
                said=(f"loss: {functions.get('loss', both)}", f"gradient: {functions[gradient]}"),
                redraw=False,
                literal=True,
            ),
        )
        if found is not None:
            return found
    return None


class _GivenSearch(ReadingSearch):
    """The search for a reading where object and data are given."""

    steps: tuple[tuple[str, int], ...] = ()
    sequences: tuple[tuple[str, int], ...] = ()
    has_targets = False

    def models(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        yield "", ("net",)

    def _with_data(self, setup: str, roots: tuple[str, ...], form: Form) -> Iterator[Reading]:
        reading = Reading("", "", "", "", "", roots, steps=self.steps, redraw=False)
        reading = replace(reading, sequences=self.sequences)
        yield from self._forwards(reading, form)

    def sizes_for(self, setup: str, roots: tuple[str, ...]) -> list[Sizes]:
        return [Sizes()]

    def _forms(self) -> tuple[Form, ...]:
        return (Form("x", 0, None, "as given"),)

    def _targets(self, form: Form, first: Any) -> list[tuple[str, int | None]]:
        return [("y", None)] if self.has_targets else []


def _by_names(
    files: GivenFiles, model: object, count: int, options: dict[str, Any]
) -> Judged | None:
    """The likeliest reading of an object's own methods."""
    best: Judged | None = None
    slices, found = _source_of(model)
    for candidate in found:
        search = _GivenSearch(Bench(Path(), files=files), slices, candidate)
        search.steps, search.has_targets = _steps(files, options), count > 1
        search.sequences = _sequences(files, options)
        other = search.best()
        if other is not None and (best is None or other.rank > best.rank):
            best = other
    return best


def _class_source(kind: type) -> str:
    """The source of a class; "" where it cannot be read.

    Of a class in a notebook or a session, which stands in no file, that of its methods can be.
    """
    with contextlib.suppress(OSError, TypeError):
        return textwrap.dedent(inspect.getsource(kind))
    methods = []
    for method in filter(inspect.isfunction, vars(kind).values()):
        with contextlib.suppress(OSError, TypeError):
            methods.append(textwrap.indent(textwrap.dedent(inspect.getsource(method)), "    "))
    return "\n".join([f"class {kind.__name__}:", *methods]) if methods else ""


def _source_of(model: object) -> tuple[Slices, list[Candidate]]:
    """The source of an object's class, and of those that it inherits from, as candidates."""
    tree = ast.parse("\n".join(map(_class_source, reversed(type(model).__mro__[:-1]))))
    slices = Slices(tree)
    name = type(model).__name__
    every = candidates(tree, slices)
    return slices, [c for c in every if c.owner is not None and c.owner.name == name]
