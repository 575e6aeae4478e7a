"""The user's file and those of its folder, run apart from everything else, and their state."""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import io
import random
import sys
import sysconfig
import traceback
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from throughtime.gradcheck import CheckError
from throughtime.source.meanings import SIZE_KINDS, STEPS, VALUES, size_kind
from throughtime.source.older import compiled, is_python_2
from throughtime.source.slices import names_set
from throughtime.source.text import read_source
from throughtime.source.vintage import StandIn, builtins_of_users, old_names

PACKAGE = Path(__file__).parents[1]
LIBRARIES = tuple(sorted({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}))

IMPORTS = (ast.Import, ast.ImportFrom)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
HIGHEST = 3  # folders above the file's own in which its packages are looked for
LONGEST_MESSAGE = 1000  # characters of an exception's that are quoted
HIGHEST_BESIDE = 1  # folders above in which a script may lie that imports the file
MOST_DEFAULTS = 20  # names that the defaults of one function may lack

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
        self._main_path = path
        self._roots = [path.parent, *list(path.parents)[1 : 1 + HIGHEST]]
        self._hidden = _names_in(path.parent)
        self._modules: dict[str, types.ModuleType] = {}
        self._imported: list[str] = []  # names of modules that this has made since it was entered
        self._inside = False
        self.old = False  # whether the main file is one of Python 2
        name = path.stem if path.stem.isidentifier() else "user_file"
        self.main = types.ModuleType(name)
        self.main.__file__ = str(path)
        self.main.__package__ = path.parent.name  # for relative imports
        self._modules[name] = self.main
        self._random = random_states(seed)
        self._precision: Any = None  # of torch's new tensors, as the user's code has set it
        with self.entered():
            tree = ast.parse(self._text(path), str(path))
            tree.body = [node for node in tree.body if _is_run(node, run)]
            self._run(tree, path, vars(self.main))

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """While the user's code runs: its own modules are found, what it prints is dropped.

        Entered once more inside of it, it changes nothing.
        """
        if self._inside:
            yield
            return
        self._inside = True
        own = self._hidden | set(self._modules)
        names = []
        if not own.isdisjoint(sys.modules):  # a part of a package is there with its package only
            names = [n for n in sys.modules if n in own or n.partition(".")[0] in own]
        before = {name: sys.modules.pop(name) for name in names}
        outside, precision = random_states(), torch_precision()
        sys.modules.update(self._modules)
        set_random_states(self._random)
        torch_precision(self._precision)
        try:
            with (
                contextlib.redirect_stdout(Nowhere()),
                contextlib.redirect_stderr(Nowhere()),
                warnings.catch_warnings(action="ignore"),
                old_names(),
                self._first_finder(),
            ):
                yield
        finally:
            self._inside = False
            self._random, self._precision = random_states(), torch_precision()
            set_random_states(outside)
            torch_precision(precision or "float32")
            for name in self._imported:
                if name in sys.modules:  # it is not where the import failed
                    self._modules[name] = sys.modules.pop(name)
            self._imported.clear()
            for name in self._modules:
                sys.modules.pop(name, None)
            sys.modules.update(before)

    @contextlib.contextmanager
    def _first_finder(self) -> Iterator[None]:
        sys.meta_path.insert(0, self)
        try:
            yield
        finally:
            sys.meta_path.remove(self)

    def state(self) -> State:
        """A copy of all data in the user's modules and classes; what cannot be copied is shared."""
        memo: dict[int, Any] = {}
        data = [
            (space, {key: copied(value, memo) for key, value in dict(vars(space)).items()
                     if _is_data(key, value)})
            for space in self._spaces()
        ]  # fmt: skip
        code = [
            (space, {key: value for key, value in dict(vars(space)).items()
                     if not key.startswith("__") and not _is_data(key, value)})
            for space in self._spaces()
        ]  # fmt: skip
        return State(data, random_states(), code)

    def restore(self, state: State) -> None:
        """Puts a copy of the data back."""
        memo: dict[int, Any] = {}
        for space, data in state.data:
            for key in [key for key, value in vars(space).items() if _is_data(key, value)]:
                if key not in data:
                    delattr(space, key)
            for key, value in data.items():
                setattr(space, key, copied(value, memo))
        for space, code in state.code:  # a name of a function may have been given to a number
            for key in code.keys() - vars(space).keys():
                setattr(space, key, code[key])
        set_random_states(state.random)

    def texts(self) -> dict[Path, str]:
        """Path to text, of the files that have been run."""
        files = [getattr(module, "__file__", None) for module in self._modules.values()]
        return {Path(file): self._text(Path(file)) for file in files if file}

    def namespaces(self, path: Path) -> list[dict[str, Any]]:
        """The names of each module that a file was run as.

        The user's file may be two: what it imports of its own package may import it once more.
        """
        modules = self._modules.values()
        return [vars(m) for m in modules if getattr(m, "__file__", None) == str(path)]

    def _spaces(self) -> list[types.ModuleType | type]:
        """The user's modules, and the classes that they define."""
        late = [sys.modules[name] for name in self._imported if name in sys.modules]
        modules = [*self._modules.values(), *late]  # those that a run has imported, too
        spaces: list[types.ModuleType | type] = list(modules)
        for module in modules:
            classes = [thing for thing in vars(module).values() if isinstance(thing, type)]
            spaces += [thing for thing in classes if thing.__module__ == module.__name__]
        return spaces

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """For what stands in the user's folder; else None, and others look."""
        words = fullname.split(".")
        for n, root in enumerate(self._roots):
            if n and not self._is_found_above(words[0], n):
                continue
            place = root.joinpath(*words)
            for file, package in ((place / "__init__.py", True), (place.with_suffix(".py"), False)):
                if file.is_file():
                    return self._spec(fullname, file, place if package else None)
            if place.is_dir() and (n or not _is_installed(words[0])):
                return self._spec(fullname, None, place)
        return None

    def _is_found_above(self, name: str, n: int) -> bool:
        """Whether a module in a folder above is meant: a package, or a file beside a script.

        A file `models/lstm.py` is imported by scripts in the folder above it, and imports what
        lies beside them; what is installed goes before that.
        """
        root = self._roots[n]
        if name in (self._roots[n - 1].name, self._main_path.parent.name):
            return True
        if (root / name / "__init__.py").is_file():
            return True
        beside = (root / f"{name}.py").is_file() or any((root / name).glob("*.py"))
        return n <= HIGHEST_BESIDE and beside and not _is_installed(name)

    def _spec(
        self, name: str, file: Path | None, folder: Path | None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.util.spec_from_loader(name, self, is_package=folder is not None)
        if spec is not None:
            spec.origin = str(file) if file else None
            if folder is not None:
                spec.submodule_search_locations = [str(folder)]
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Lets Python make the module."""
        self._imported.append(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Runs a file of the user's folder."""
        origin = module.__spec__ and module.__spec__.origin
        if not origin:
            return  # a folder without a file of its own
        path = Path(origin).resolve()
        module.__file__ = str(path)
        self._run(ast.parse(self._text(path), str(path)), path, vars(module))

    def _run(self, tree: ast.Module, path: Path, space: dict[str, Any]) -> None:
        old = is_python_2(tree) or (path.is_file() and read_source(path).old)
        if path == self._main_path:
            self.old = old
        if self._transform is not None:
            tree = ast.fix_missing_locations(self._transform(tree, path))
        space["__builtins__"] = builtins_of_users(old=old)
        space.update(self._names)
        if path != self._main_path:
            _run_beside(tree, path, space, old=old)
            return
        for node in tree.body:
            self._run_one(node, str(path), space)

    def _run_one(self, node: ast.stmt, path: str, space: dict[str, Any]) -> None:
        """Runs one statement at the top of the user's file.

        A default value may be a name that the file's other statements set: it is None until then.
        What is called there, or is a base class, came with `from … import *` out of a module that
        is absent: a stand-in takes its place.
        """
        code = compiled(ast.Module([node], []), path, old=self.old)
        for _ in range(MOST_DEFAULTS):
            try:
                exec(code, space)
                return
            except NameError as problem:
                if not isinstance(node, DEFINITIONS) or problem.name is None:
                    raise
                used = _is_used_at_once(node, problem.name)
                space[problem.name] = StandIn(problem.name) if used else None

    def _text(self, path: Path) -> str:
        return self._texts[path] if path in self._texts else read_source(path).text


def _run_beside(tree: ast.Module, path: Path, space: dict[str, Any], *, old: bool) -> None:
    """Runs a file that the user's imports; beside definitions, a statement that fails is left out.

    What reads data that are not there, or asks the network for them, must not hide the functions
    of its file. Sizes that it would set are as small as others; the rest is a stand-in.
    """
    rest = list(tree.body)
    while rest:
        try:
            exec(compiled(ast.Module(rest, []), str(path), old=old), space)
            return
        except (Exception, SystemExit) as problem:
            failed = _statement_of(problem, path, rest)
            if failed is None or not any(isinstance(n, DEFINITIONS) for n in tree.body):
                raise
            for name in names_set(rest[failed]):
                space.setdefault(name, _size(name) or StandIn(name))
            rest = rest[failed + 1 :]


def _size(name: str) -> int:
    """A small size, where a name is that of one; else 0."""
    kind = size_kind(name)
    if kind == "steps" or kind not in SIZE_KINDS:
        return STEPS if kind == "steps" else 0
    return int(VALUES[kind][0])


def _statement_of(problem: BaseException, path: Path, body: list[ast.stmt]) -> int | None:
    """The statement at the top of a file in which something was raised."""
    for frame, line in traceback.walk_tb(problem.__traceback__):
        if frame.f_code.co_filename == str(path) and frame.f_code.co_name == "<module>":
            inside = [n for n, s in enumerate(body) if s.lineno <= line <= (s.end_lineno or line)]
            return inside[0] if inside else None
    return None


def _is_installed(name: str) -> bool:
    """Whether a module of this name is found without the user's folders."""
    return importlib.machinery.PathFinder.find_spec(name) is not None


def _names_in(folder: Path) -> set[str]:
    """Names under which the files of a folder are imported, but those of Python's own library."""
    names = {path.stem for path in folder.glob("*.py")}
    names |= {path.parent.name for path in folder.glob("*/__init__.py")}
    return names - set(sys.stdlib_module_names) - {"throughtime", "numpy"}


@dataclass(frozen=True)
class State:
    """The data of modules and classes by name, the random states, and functions by name."""

    data: list[tuple[types.ModuleType | type, dict[str, Any]]]
    random: tuple[Any, Any]
    code: list[tuple[types.ModuleType | type, dict[str, Any]]] = field(default_factory=list)


class Nowhere(io.TextIOBase):
    """Takes whatever is printed."""

    def write(self, text: str) -> int:
        """Drops it."""
        return len(text)


@contextlib.contextmanager
def as_check_error() -> Iterator[None]:
    """What the user's code raises, in one line: the check cannot run."""
    try:
        yield
    except CheckError:
        raise
    except (Exception, SystemExit) as problem:
        raise CheckError(said(problem)) from problem


def said(problem: BaseException) -> str:
    """An error of the user's code in one line: where, which kind, and what it says."""
    places: dict[bool, str] = {}  # the last of the user's files, and of libraries
    for frame, line in traceback.walk_tb(problem.__traceback__):
        name = Path(frame.f_code.co_filename)
        if name.suffix in (".py", ".ipynb") and not name.is_relative_to(PACKAGE):
            places[_is_library(name)] = f"{name.name}, line {line}: "
    place = places.get(False) or places.get(True, "")
    text = " ".join(str(problem)[:LONGEST_MESSAGE].split())
    return f"{place}{type(problem).__name__}{': ' * bool(text)}{text}"


def _is_library(path: Path) -> bool:
    """Whether a file is one of Python's own or of an installed package."""
    return any(path.is_relative_to(folder) for folder in LIBRARIES)


def _is_used_at_once(node: ast.stmt, name: str) -> bool:
    """Whether a definition calls a name in a default value, decorates with it or inherits it."""
    used: list[ast.expr] = []
    for part in ast.walk(node):
        used += getattr(part, "decorator_list", [])
        used += getattr(part, "bases", [])
        used += [part.func] if isinstance(part, ast.Call) else []
    return any(n.id == name for top in used for n in ast.walk(top) if isinstance(n, ast.Name))


def random_states(seed: int | None = None) -> tuple[Any, Any]:
    """The states of Python's and NumPy's global random numbers, or those that a seed gives."""
    if seed is None:
        return random.getstate(), np.random.get_state()  # noqa: NPY002
    return random.Random(seed).getstate(), np.random.RandomState(seed).get_state()


def torch_precision(given: Any = None) -> Any:
    """The type of torch's new tensors, put back after a user's file; None without torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if given is not None:
        torch.set_default_dtype(getattr(torch, given) if isinstance(given, str) else given)
    return torch.get_default_dtype()


def set_random_states(states: tuple[Any, Any]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002


def _is_run(node: ast.stmt, lines: frozenset[int]) -> bool:
    """Whether a statement at the top of a file is run: what defines, and what the recipe names."""
    return isinstance(node, (*IMPORTS, *DEFINITIONS)) or node.lineno in lines


def _is_data(name: str, value: object) -> bool:
    code = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)
    return not (name.startswith("__") or isinstance(value, code))


def copied(value: Any, memo: dict[int, Any]) -> Any:
    """A deep copy; the value itself where it has none."""
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # an open file, a generator: whatever the user's objects hold
        return value
