"""What older files expect and today's machine lacks: names of NumPy, print statements, libraries.

A library that is not installed becomes a stand-in that can be imported, called and used as a
decorator: plots and progress bars of a training script are not needed to check its gradient.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

OLD_NAMES: dict[str, Any] = {
    "row_stack": np.vstack,
    "float": float,
    "int": int,
    "bool": bool,
    "object": object,
    "float_": np.float64,
    "product": np.prod,
    "cumproduct": np.cumprod,
    "Inf": np.inf,
    "NaN": np.nan,
    "mat": np.asmatrix,
    "in1d": np.isin,
}
AS_NUMPY = {"cupy", "autograd.numpy", "numpycupy", "minpy.numpy"}
NOT_NEEDED = {"matplotlib", "seaborn", "tqdm", "IPython", "tensorboardX", "wandb", "plotly"}
PRINT = re.compile(r"^(\s*)print(?:\s+(?!\()(.*)|\s+(\(.*\)\s*[,%].*)|\s*)$")


def as_python_3(text: str) -> str:
    """A file of Python 2 whose print statements become calls; any other text as it is."""
    try:
        ast.parse(text)
        return text
    except SyntaxError:
        pass
    text = text.expandtabs(8)
    lines = []
    for line in text.split("\n"):
        found = PRINT.match(line)
        if found is None:
            lines.append(re.sub(r"^(\s*except\s+[\w.]+)\s*,\s*(\w+)\s*:", r"\1 as \2:", line))
            continue
        words = (found[2] or found[3] or "").rstrip()
        code, mark, comment = words.partition(" #")
        lines.append(f"{found[1]}print({code.rstrip().rstrip(',')}){mark}{comment}")
    changed = "\n".join(lines)
    try:
        ast.parse(changed)
    except SyntaxError:
        return text
    return changed


@contextlib.contextmanager
def old_names() -> Iterator[None]:
    """While an older file runs, NumPy has the names that it has lost."""
    given = [name for name in OLD_NAMES if name not in vars(np)]
    for name in given:
        setattr(np, name, OLD_NAMES[name])
    try:
        yield
    finally:
        for name in given:
            delattr(np, name)


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a stand-in for a library that nothing else finds, and for those of plots."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec:
        """A stand-in, for whatever name."""
        return importlib.util.spec_from_loader(fullname, self, is_package=True)  # type: ignore[return-value]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """NumPy for what has its interface, else a module of stand-ins."""
        self.names.append(spec.name)
        return _Numpy(spec.name) if spec.name in AS_NUMPY else _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is run."""


class _Numpy(types.ModuleType):
    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name == "asnumpy":
            return np.asarray
        return getattr(np, name)


class _StandIn(types.ModuleType):
    """A module any name of which is a stand-in."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        if name in ("tqdm", "trange", "tqdm_notebook"):
            return _unwrapped
        return StandIn(f"{self.__name__}.{name}")


class StandIn:
    """Stands for anything of a library that is absent; what it gives is one too."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return StandIn(f"{self._name}.{name}")

    def __call__(self, *given: Any, **named: Any) -> Any:
        plain = len(given) == 1 and not named and isinstance(given[0], Callable | type)  # type: ignore[arg-type]
        return given[0] if plain else StandIn(f"{self._name}()")

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (object,)


def _unwrapped(steps: Any = (), *given: Any, **named: Any) -> Any:
    return range(steps) if isinstance(steps, int) else steps


@contextlib.contextmanager
def absent_libraries(absent: Absent) -> Iterator[None]:
    """While the user's file is imported: nothing that it imports is missing."""
    hidden = {n: sys.modules.pop(n) for n in list(sys.modules) if n.split(".")[0] in NOT_NEEDED}
    first = _Plots(absent)
    sys.meta_path.insert(0, first)
    sys.meta_path.append(absent)
    try:
        yield
    finally:
        sys.meta_path.remove(first)
        sys.meta_path.remove(absent)
        for name in [n for n in sys.modules if n in absent.names]:
            del sys.modules[name]
        absent.names.clear()
        sys.modules.update(hidden)


class _Plots(importlib.abc.MetaPathFinder):
    """Plots and bars are stand-ins even where they are installed."""

    def __init__(self, absent: Absent) -> None:
        self._absent = absent

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A stand-in for these, and None for any other."""
        if fullname.split(".")[0] in NOT_NEEDED | {"cupy"}:
            return self._absent.find_spec(fullname)
        return None
