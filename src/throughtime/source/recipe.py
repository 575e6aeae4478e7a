"""How a user's own file is run: what is set up, which arrays are parameters, loss and gradient.

A recipe is Python text beside the file, so that it can be printed, and edited versions of the file
can be run by the same one. A program is such a file, run: with its text as it stands or edited,
and with its syntax tree as it stands or with probes put in.
"""

from __future__ import annotations

import ast
import contextlib
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradcheck import CheckError, Target
from throughtime.source.older import compiled
from throughtime.source.pairing import like
from throughtime.source.text import read_source
from throughtime.source.user_files import Transform, UserFiles, as_check_error

LOSS = "loss"  # the name that the statements of a recipe's loss leave its value in


@dataclass(frozen=True)
class Recipe:
    """What has to be run, and where its arrays are; every text is run in the file's namespace.

    Args:
        path: of the file, .py or .ipynb.
        setup: statements that are run once, after the file's definitions: a model, data.
        loss: statements that leave the loss in `loss`.
        gradient: statements after which the gradients can be read.
        parameters: name to an expression that can be assigned to, as `model.Wf`.
        gradients: name to an expression, as `model.dWf`; the names are those of `parameters`.
        steps: the names of data, each with its axis of time: the program can be run on fewer
            steps where these are cut.
        sequences: the names of data, each with its axis of sequences, likewise.
        run: numbers of the lines of the file's own statements that are run besides imports,
            functions and classes, as the recipe needs them.
        data: statements that are run before `setup`, and leave what `steps` and `sequences` name:
            it is cut in between, so that a model can be made for as many steps.
        length: how many steps are used, where no other number is asked for; None: all.
        batch: how many sequences, likewise.
    """

    path: Path
    setup: str
    loss: str
    gradient: str
    parameters: Mapping[str, str]
    gradients: Mapping[str, str]
    steps: Mapping[str, int] = field(default_factory=dict)
    sequences: Mapping[str, int] = field(default_factory=dict)
    run: frozenset[int] = frozenset()
    data: str = ""
    length: int | None = None
    batch: int | None = None


class Program:
    """A user's file, run by a recipe; each evaluation begins from the same state.

    Objects and random states are as they were after the setup, whatever an evaluation changes.

    Args:
        recipe: how it is run.
        texts: path to text, for files of the user's that are read otherwise than they stand.
        transform: is given the syntax tree of each of the user's files, and returns the one that
            is compiled.
        names: further names that the user's files see, as probes call them.
        length: the number of steps, where the data are cut.
        batch: the number of sequences, likewise.
        seed: of Python's and NumPy's global random numbers, before the file is run.
        files: what the recipe's texts are run in, where it is no file.

    Raises:
        CheckError: where a parameter is no array of numbers, or the data are too short.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        texts: Mapping[Path, str] | None = None,
        transform: Transform | None = None,
        names: Mapping[str, Any] | None = None,
        length: int | None = None,
        batch: int | None = None,
        seed: int = 0,
        files: Any = None,
    ) -> None:
        self.recipe = recipe
        self._versions: dict[str, Any] = {"texts": texts, "transform": transform, "names": names}
        self._versions |= {"seed": seed, "files": files}
        length = recipe.length if length is None else length
        batch = recipe.batch if batch is None else batch
        self._sizes: dict[str, Any] = {"length": length, "batch": batch}
        self._files = files or UserFiles(
            recipe.path, recipe.run, texts or {}, transform, names or {}, seed
        )
        if files is not None:
            self._files = files.copy()
        self._space = vars(self._files.main)
        self._loss = compiled(recipe.loss, "<loss>", old=self._files.old)
        self._gradient = compiled(recipe.gradient, "<gradient>", old=self._files.old)
        with self._files.entered():
            with as_check_error():
                exec(compiled(recipe.data, "<data>", old=self._files.old), self._space)
            if recipe.data:
                self._cut_all(length, batch)
            with as_check_error():
                exec(compiled(recipe.setup, "<setup>", old=self._files.old), self._space)
            if not recipe.data:
                self._cut_all(length, batch)
            self._initial = self._files.state()
            self.parameters = {name: self._value(name) for name in recipe.parameters}

    @property
    def length(self) -> int | None:
        """The number of steps; None where the recipe does not say which axis they are on."""
        return self._size(self.recipe.steps)

    def at_length(self, length: int) -> Program:
        """The same program on the first `length` steps, with the same parameters."""
        return self._resized(length=length)

    def at_batch(self, batch: int) -> Program:
        """The same program on the first `batch` sequences, with the same parameters."""
        return self._resized(batch=batch)

    def loss(self) -> Any:
        """The loss, or its terms, where the parameters stand now."""
        with self._evaluation(self._loss):
            found = np.asarray(self._space[LOSS], dtype=np.float64)
            return float(found.reshape(())) if found.size == 1 else found

    def gradient(self) -> dict[str, Array]:
        """The user's gradient where the parameters stand now, each of its parameter's shape."""
        with self._evaluation(self._gradient), as_check_error():  # may not be there at a length
            return {name: self._of_shape(name) for name in self.recipe.gradients}

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """A context in which several evaluations cost less: what each enters is entered once."""
        return self._files.entered()

    def namespaces(self, path: Path) -> list[dict[str, Any]]:
        """What one of the user's files defines, for each module that it was run as."""
        return self._files.namespaces(path)

    def probed(
        self,
        transform: Transform,
        names: Mapping[str, Any],
        region: Callable[[str, Path, str], ast.Module],
    ) -> Program:
        """The same program with its syntax trees transformed, and the same parameters.

        Args:
            transform, names: as for a new program.
            region: is given the statements of the loss and of the gradient, the file, its text.
        """
        versions = {**self._versions, "transform": transform, "names": names}
        other = Program(self.recipe, **{**versions, **self._sizes})
        other.parameters = self.parameters
        path = self.recipe.path.resolve()
        texts = {file.resolve(): text for file, text in (self._versions["texts"] or {}).items()}
        whole = texts[path] if path in texts else read_source(path).text
        for name, text in (("loss", self.recipe.loss), ("gradient", self.recipe.gradient)):
            code = compiled(region(text, path, whole), f"<{name}>", old=self._files.old)
            setattr(other, f"_{name}", code)
        return other

    def texts(self) -> dict[Path, str]:
        """The texts of the user's files that have been loaded."""
        return self._files.texts()

    def with_texts(self, texts: Mapping[Path, str]) -> Program:
        """The same program with other texts for some of its files, and the same parameters."""
        known = {path.resolve(): text for path, text in (self._versions["texts"] or {}).items()}
        versions = {**self._versions, "texts": {**known, **texts}}
        other = Program(self.recipe, **{**versions, **self._sizes})
        other.parameters = self.parameters
        return other

    def live(self, name: str) -> Any:
        """A parameter as the running code has it, no copy."""
        return eval(self.recipe.parameters[name], self._space)

    def target(self) -> Target:
        """What `tt.check` takes."""
        variants: dict[str, Callable[..., Target]] = {}
        if self.recipe.sequences:
            variants["at_batch"] = lambda batch: self.at_batch(batch).target()
        cut = bool(self.recipe.steps)
        return Target(
            self.parameters,
            self.loss,
            self.gradient,
            steps=self.length,
            at_length=(lambda length: self.at_length(length).target()) if cut else None,
            variants=variants,
        )

    def _resized(self, **sizes: int) -> Program:
        other = Program(self.recipe, **{**self._versions, **self._sizes, **sizes})
        other.parameters = self.parameters
        return other

    @contextlib.contextmanager
    def _evaluation(self, code: types.CodeType) -> Iterator[None]:
        """Runs statements from the initial state, with the parameters where they stand now."""
        with self._files.entered():
            self._files.restore(self._initial)
            for name, place in self.recipe.parameters.items():
                self._put(place, self.parameters[name])
            with np.errstate(all="ignore"), as_check_error():
                exec(code, self._space)
            yield

    def _value(self, name: str) -> Array:
        """A copy of a parameter, as float64 where it is no float32."""
        place = self.recipe.parameters[name]
        try:
            value = np.array(eval(_expression(place), self._space))
            if value.dtype == np.float32:
                return value
            return value.astype(np.float64)
        except (TypeError, ValueError):
            refuse(f"parameter {name}", "an array of numbers", place, error=CheckError)

    def _put(self, place: str, value: Array) -> None:
        """Sets a parameter: in place where it is an array, else with its own type."""
        present = eval(_expression(place), self._space)
        if isinstance(present, np.ndarray) and present.dtype.kind == "f":
            present[...] = value
            return
        self._space["_given"] = like(present, value)
        exec(f"{place} = _given", self._space)
        del self._space["_given"]

    def _of_shape(self, name: str) -> Array:
        """A gradient; with its parameter's shape, where only axes of size 1 differ."""
        found = np.array(
            eval(_expression(self.recipe.gradients[name]), self._space), dtype=np.float64
        )
        shape = self.parameters[name].shape
        if found.shape != shape and [n for n in found.shape if n > 1] == [
            n for n in shape if n > 1
        ]:
            return found.reshape(shape)
        return found

    def _cut_all(self, length: int | None, batch: int | None) -> None:
        self._cut(self.recipe.steps, length, "steps")
        self._cut(self.recipe.sequences, batch, "sequences")

    def _cut(self, axes: Mapping[str, int], size: int | None, what: str) -> None:
        """Keeps the first entries of data along an axis; None keeps all."""
        for name, axis in axes.items():
            if size is None:
                continue
            whole = self._space[name]
            present = _extent(whole, axis)
            if not 1 <= size <= present:
                refuse(f"{name}: {what}", f"from 1 to {present}", size, error=CheckError)
            self._space[name] = _first(whole, axis, size)

    def datum(self, name: str) -> Any:
        """What a name of the file had before the first evaluation."""
        return self._initial.data[0][1][name]

    def _size(self, axes: Mapping[str, int]) -> int | None:
        data = self._initial.data[0][1]  # the file's own
        return next((_extent(data[name], axis) for name, axis in axes.items()), None)


@cache
def _expression(place: str) -> types.CodeType:
    return compile(place, "<recipe>", "eval")


def _extent(data: Any, axis: int) -> int:
    return np.shape(data)[axis] if axis else len(data)


def _first(data: Any, axis: int, size: int) -> Any:
    """The first entries along an axis, of an array or a list."""
    if isinstance(data, list | tuple):
        return (
            data[:size] if axis == 0 else type(data)(_first(part, axis - 1, size) for part in data)
        )
    return data[(slice(None),) * axis + (slice(size),)]
