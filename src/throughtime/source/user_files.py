"""The user's file and those of its folder, run apart from everything else, and their state."""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import random
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from throughtime.source.text import read_source

Transform = Callable[[ast.Module, Path], ast.Module]


class UserFiles(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The user's file and those of its folder that it imports, apart from what others import."""

    def __init__(
        self,
        path: Path,
        run: frozenset[int],
        texts: Mapping[Path, str],
        transform: Transform | None,
        names: Mapping[str, Any],
        seed: int,
    ) -> None:
        self._texts = {path.resolve(): text for path, text in texts.items()}
        self._transform, self._names = transform, names
        path = path.resolve()
        self._folder = path.parent
        self._modules: dict[str, types.ModuleType] = {}
        name = path.stem if path.stem.isidentifier() else "user_file"
        self.main = types.ModuleType(name)
        self.main.__file__ = str(path)
        self._modules[name] = self.main
        self._random = _random_states(seed)
        with self.entered():
            tree = ast.parse(self._text(path), str(path))
            tree.body = [node for node in tree.body if _is_run(node, run)]
            self._run(tree, path, vars(self.main))

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """While the user's code runs: its own modules are found, what it prints is dropped."""
        before = {name: sys.modules.pop(name) for name in self._own(sys.modules)}
        outside = _random_states()
        sys.modules.update(self._modules)
        sys.meta_path.insert(0, self)
        _set_random_states(self._random)
        try:
            with contextlib.redirect_stdout(Nowhere()), contextlib.redirect_stderr(Nowhere()):
                yield
        finally:
            self._random = _random_states()
            _set_random_states(outside)
            sys.meta_path.remove(self)
            self._modules |= {name: sys.modules.pop(name) for name in self._own(sys.modules)}
            sys.modules.update(before)

    def state(self) -> State:
        """A copy of all data in the user's modules and classes; what cannot be copied is shared."""
        memo: dict[int, Any] = {}
        data = [
            (space, {key: _copied(value, memo) for key, value in dict(vars(space)).items()
                     if _is_data(key, value)})
            for space in self._spaces()
        ]  # fmt: skip
        return State(data, _random_states())

    def restore(self, state: State) -> None:
        """Puts a copy of the data back."""
        memo: dict[int, Any] = {}
        for space, data in state.data:
            for key in [key for key, value in vars(space).items() if _is_data(key, value)]:
                if key not in data:
                    delattr(space, key)
            for key, value in data.items():
                setattr(space, key, _copied(value, memo))
        _set_random_states(state.random)

    def namespace(self, path: Path) -> dict[str, Any] | None:
        """The names of the module that a file was run as; None where there is none."""
        files = {getattr(module, "__file__", None): module for module in self._modules.values()}
        return vars(files[str(path)]) if str(path) in files else None

    def _spaces(self) -> list[types.ModuleType | type]:
        """The user's modules, and the classes that they define."""
        spaces: list[types.ModuleType | type] = list(self._modules.values())
        for module in self._modules.values():
            classes = [thing for thing in vars(module).values() if isinstance(thing, type)]
            spaces += [thing for thing in classes if thing.__module__ == module.__name__]
        return spaces

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """For what stands in the user's folder; else None, and others look."""
        place = self._folder.joinpath(*fullname.split("."))
        for file, package in ((place / "__init__.py", True), (place.with_suffix(".py"), False)):
            if file.is_file():
                spec = importlib.util.spec_from_loader(fullname, self, is_package=package)
                if spec is not None:
                    spec.origin = str(file)
                    if package:
                        spec.submodule_search_locations = [str(place)]
                return spec
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Lets Python make the module."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Runs a file of the user's folder."""
        path = Path(str(module.__spec__ and module.__spec__.origin)).resolve()
        module.__file__ = str(path)
        self._run(ast.parse(self._text(path), str(path)), path, vars(module))

    def _run(self, tree: ast.Module, path: Path, space: dict[str, Any]) -> None:
        if self._transform is not None:
            tree = ast.fix_missing_locations(self._transform(tree, path))
        space.update(self._names)
        exec(compile(tree, str(path), "exec"), space)

    def _text(self, path: Path) -> str:
        return self._texts[path] if path in self._texts else read_source(path).text

    def _own(self, modules: Mapping[str, Any]) -> list[str]:
        """Names of the modules whose file is in the user's folder."""
        folder = str(self._folder) + os.sep
        files = {name: getattr(module, "__file__", None) for name, module in modules.items()}
        return [name for name, file in files.items() if file and str(file).startswith(folder)]


@dataclass(frozen=True)
class State:
    """The data of modules and classes by name, and the random states."""

    data: list[tuple[types.ModuleType | type, dict[str, Any]]]
    random: tuple[Any, Any]


class Nowhere(io.TextIOBase):
    """Takes whatever is printed."""

    def write(self, text: str) -> int:
        """Drops it."""
        return len(text)


def _random_states(seed: int | None = None) -> tuple[Any, Any]:
    """The states of Python's and NumPy's global random numbers, or those that a seed gives."""
    if seed is None:
        return random.getstate(), np.random.get_state()  # noqa: NPY002
    return random.Random(seed).getstate(), np.random.RandomState(seed).get_state()


def _set_random_states(states: tuple[Any, Any]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002


def _is_run(node: ast.stmt, lines: frozenset[int]) -> bool:
    """Whether a statement at the top of a file is run: what defines, and what the recipe names."""
    definitions = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return isinstance(node, definitions) or node.lineno in lines


def _is_data(name: str, value: object) -> bool:
    code = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)
    return not (name.startswith("__") or isinstance(value, code))


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # an open file, a generator: whatever the user's objects hold
        return value
