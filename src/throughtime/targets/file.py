"""What stands in a Python file, as the command line names it: `file.py:name`."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from throughtime.arrays import refuse
from throughtime.gradcheck import CheckError, Target


def thing_in_file(place: str) -> object:
    """What `file.py:name` holds, or what the function of this name returns.

    Raises:
        CheckError: where there is no such file or name.
    """
    path, separator, name = place.rpartition(":")
    if not separator or not path:
        _refuse_place(place)
    if not Path(path).is_file():
        actual = f"the folder {path}" if Path(path).is_dir() else path
        refuse("target", "an existing Python file", actual, error=CheckError)
    module = _module(Path(path))
    if not hasattr(module, name):
        refuse(f"{path}: name", f"one of {_names(module)}", repr(name), error=CheckError)
    found = getattr(module, name)
    makes = inspect.isfunction(found) or isinstance(found, type | functools.partial)
    made = _made(place, found) if makes else found
    if made is None and makes:
        way_out = f"return one, or have the file itself looked through: throughtime check {path}"
        refuse(place, "a function that returns a target", "None", way_out, error=CheckError)
    return made


def without_its_name(place: str) -> str:
    """The way out where `file.py:name` is no target and its file knows of none; "" elsewhere."""
    path = place.rpartition(":")[0]
    known = vars(sys.modules[Path(path).stem]).values()
    homes = [t.__module__ for t in known if isinstance(t, type) or inspect.isfunction(t)]
    homes += [t.__name__ for t in known if inspect.ismodule(t)]
    if any(str(home).partition(".")[0] == "throughtime" for home in homes):
        return ""
    return f"; leave the name out to have the file itself looked through: throughtime check {path}"


def objects_in_file(place: str) -> tuple[dict[str, object], str]:
    """What stands in the file of `file.py` or `file.py:name`, by name, and the name; "" if none.

    Raises:
        CheckError: where there is no such file.
    """
    path, name = (place, "") if Path(place).is_file() else place.rpartition(":")[::2]
    if not Path(path).is_file() or path.endswith(":"):
        expected = "an existing Python file, as file.py or file.py:name"
        refuse("file", expected, repr(place), error=CheckError)
    return dict(vars(_module(Path(path)))), name


def _made(place: str, make: Callable[[], object]) -> object:
    """What a function returns; one that needs arguments cannot be called from here."""
    needed = [p.name for p in inspect.signature(make).parameters.values() if _is_needed(p)]
    if needed:
        expected, actual = "a function that needs no argument", f"one of ({', '.join(needed)})"
        refuse(place, expected, actual, "wrap it, or give them defaults", error=CheckError)
    return make()


def _is_needed(parameter: inspect.Parameter) -> bool:
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and parameter.kind not in optional


def _refuse_place(place: str) -> NoReturn:
    """For what is no `file.py:name`."""
    if place.endswith((".py", ".ipynb")) and not Path(place).exists():
        refuse("target", "an existing Python file", place, error=CheckError)
    actual, way_out = repr(place), ""
    if Path(place).is_dir() and place:
        actual = f"the folder {place}"
        own = sorted(path for path in Path(place).glob("*.py") if path.is_file())
        way_out = f"name a file in it, as {own[0]}" if own else ""
    elif Path(place).is_file():
        way_out = f"name what to check in it: {place}:NAME"
    expected = "a file, as lstm.py or lstm.py:NAME, or a shared library"
    refuse("target", expected, actual, way_out, error=CheckError)


def _names(module: ModuleType) -> str:
    """The names in a file that may be targets or make one; if there are none, all its names."""
    public = {name: thing for name, thing in vars(module).items() if not name.startswith("_")}
    own = {name: thing for name, thing in public.items() if not inspect.ismodule(thing)}
    likely = [name for name, thing in own.items() if _may_be_target(thing, module)]
    return ", ".join(likely or own) or "its names, of which there are none"


def _may_be_target(thing: object, module: ModuleType) -> bool:
    if inspect.isfunction(thing):
        signature = inspect.signature(thing)
        own = thing.__module__ == module.__name__
        return own and not any(map(_is_needed, signature.parameters.values()))
    return isinstance(thing, Target | tuple)


def send_by_value(place: str) -> None:
    """Lets worker processes have copies of what a file holds, instead of importing it anew.

    In each copy too, the file's functions then use the arrays that the target perturbs.

    Raises:
        CheckError: without cloudpickle.
    """
    try:
        import cloudpickle
    except ImportError:
        way_out = "pip install joblib cloudpickle"
        refuse("workers", "cloudpickle", "none", way_out, error=CheckError)
    cloudpickle.register_pickle_by_value(sys.modules[Path(place.rpartition(":")[0]).stem])


def _module(path: Path) -> ModuleType:
    """The file, run as a module; its own folder is where it imports from."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        refuse("target", "a Python file", str(path), error=CheckError)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    folder = str(path.resolve().parent)
    # First for the file's own imports, as when it is run as a script; last afterwards, so that a
    # file beside it is never taken for a library that this package imports later.
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
        sys.path.append(folder)
    return module
