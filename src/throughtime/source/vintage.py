"""What older files expect and today's machine lacks: names of NumPy, print statements, libraries.

A library that is not installed becomes a stand-in that can be imported, called and used as a
decorator: plots and progress bars of a training script are not needed to check its gradient.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import re
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from throughtime.source.meanings import TEXT
from throughtime.source.older import BUILTINS

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
NOT_NEEDED = {
    "matplotlib", "mpl_toolkits", "seaborn", "tqdm", "IPython", "tensorboardX", "wandb", "plotly",
}  # fmt: skip
PRINT = re.compile(
    r"^(\s*(?:(?:for|while|if|elif|else|try|with)\b.*?:\s*)?)print(?:\s+(?!\()(.*)|\s+(\(.*\)\s*[,%].*)|\s*)$"
)


def as_python_3(text: str) -> str:
    """A file of Python 2 whose print statements become calls; any other text as it is."""
    if _parses(text):
        return text
    changed = _with_print_calls(text)
    return changed if _parses(changed) else _parsing_part(changed, text.expandtabs(8))


def has_print_statements(text: str) -> bool:
    """Whether a text is one of Python 2: it parses once its print statements are calls."""
    if _parses(text):
        return False
    printed = re.search(r"^\s*print\s+[^\s(=]", text, re.M) is not None
    return _parses(_with_print_calls(text)) or (printed and _parses(as_python_3(text)))


def _with_print_calls(text: str) -> str:
    text = text.expandtabs(8)
    lines: list[str] = []
    waiting = False  # for the end of a print statement of several lines
    for line in text.split("\n"):
        if waiting:
            waiting = line.rstrip().endswith("\\")
            lines.append(line if waiting else f"{line.rstrip()})")
            continue
        found = PRINT.match(line)
        if found is None:
            lines.append(re.sub(r"^(\s*except\s+[\w.]+)\s*,\s*(\w+)\s*:", r"\1 as \2:", line))
            continue
        words = (found[2] or found[3] or "").rstrip()
        if words.endswith("\\"):
            waiting = True
            lines.append(f"{found[1]}print({words}")
            continue
        code, mark, comment = words.partition(" #")
        lines.append(f"{found[1]}print({code.rstrip().rstrip(',')}){mark}{comment}")
    return "\n".join(lines)


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _parsing_part(changed: str, text: str) -> str:
    """The definitions that parse; others become comments, so that lines keep their numbers.

    The text as it is where no definition parses: then it is no Python.
    """
    blocks: list[list[str]] = [[]]
    for line in changed.split("\n"):
        begins = line[:1] not in ("", " ", "#", ")", "]", "}") and bool(blocks[-1])
        if begins and (not blocks[-1][0].startswith("@") or len(blocks[-1]) > 1):
            blocks.append([])
        blocks[-1].append(line)
    kept = [block if _parses("\n".join(block)) else [f"# {ln}" for ln in block] for block in blocks]
    whole = "\n".join(line for block in kept for line in block)
    some = any(block[0].startswith(("def ", "class ")) for block in kept)
    return whole if some and _parses(whole) else text


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


class _Numpy(types.ModuleType):
    """NumPy under the name of a library that has its interface."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        return np.asarray if name == "asnumpy" else getattr(np, name)


class _Absent(types.ModuleType):
    """A module any name of which is a stand-in."""

    __path__: list[str] = []  # noqa: RUF012
    __all__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        if name in ("tqdm", "trange", "tqdm_notebook", "track"):
            return _unwrapped
        return StandIn(f"{self.__name__}.{name}")


class StandIn:
    """Stands for anything of a library that is absent; what it gives is one too."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"a stand-in for {self._name}, which is not installed here"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return StandIn(f"{self._name}.{name}")

    def __call__(self, *given: Any, **named: Any) -> Any:
        if len(given) == 1 and not named and callable(given[0]):
            return given[0]  # as a decorator
        return StandIn(f"{self._name}()")

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (_AbsentBase,)


class _AbsentBase:
    """The base class of a user's class where its own is absent: it takes what it is given."""

    def __init__(self, *given: Any, **named: Any) -> None:
        del given, named


def is_stand_in(value: Any) -> bool:
    """Whether a value stands for something of an absent library."""
    return isinstance(value, StandIn | _Absent)


def _unwrapped(steps: Any = (), *given: Any, **named: Any) -> Any:
    """What a progress bar counts, without the bar."""
    return range(steps) if isinstance(steps, int) else steps


def builtins_of_users(*, old: bool = False) -> dict[str, Any]:
    """Python's builtins for a user's module: nothing that it imports is missing.

    Args:
        old: whether it is one of Python 2, where `map` and the like give lists.
    """
    own = {"__import__": _imported, "open": _opened, "input": _no_input, "exit": _exit}
    return {
        **vars(builtins),
        **BUILTINS,
        **own,
        **(LISTS_OF_2 if old else {}),
        "xrange": range,
        "raw_input": _no_input,
        "quit": _exit,
    }


def _listed(function: Any) -> Any:
    """A function whose iterator is a list, as in Python 2."""

    def given(*words: Any) -> list[Any]:
        return list(function(*words))

    return given


LISTS_OF_2 = {function.__name__: _listed(function) for function in (map, zip, filter, range)}


def _no_input(*given: Any) -> str:
    return ""


def _exit(*given: Any) -> None:
    raise RuntimeError("the program ends itself")


def _opened(path: Any, mode: str = "r", *given: Any, **named: Any) -> Any:
    """Files that a training script reads hold a short text; what it writes goes nowhere."""
    del path
    if "r" in mode and "+" not in mode:
        return io.BytesIO(TEXT.encode()) if "b" in mode else io.StringIO(TEXT)
    return io.BytesIO() if "b" in mode else io.StringIO()


def _imported(
    name: str,
    space: Any = None,
    local: Any = None,
    wanted: Any = (),
    level: int = 0,
) -> Any:
    """Imports a module; a stand-in takes the place of one that is absent, or only shows things."""
    first = name.partition(".")[0]
    if level == 0 and name in AS_NUMPY:
        return _Numpy(name)
    if level == 0 and first in NOT_NEEDED:
        return _Absent(name if wanted else first)
    try:
        return builtins.__import__(name, space, local, wanted or (), level)
    except ImportError:
        return _Absent(name if wanted else first)
