"""What stands in a Python file, as the command line names it: `file.py:name`."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
from pathlib import Path

from throughtime.arrays import refuse
from throughtime.checking import CheckError


def thing_in_file(place: str) -> object:
    """What `file.py:name` holds, or what the function of this name returns.

    Raises:
        CheckError: where there is no such file or name.
    """
    path, separator, name = place.rpartition(":")
    if not separator or not path:
        refuse("target", "file.py:name, or a shared library", repr(place), error=CheckError)
    if not Path(path).is_file():
        refuse("target", "an existing Python file", path, error=CheckError)
    module = _module(Path(path))
    if not hasattr(module, name):
        public = [
            key
            for key, thing in vars(module).items()
            if not key.startswith("_") and not inspect.ismodule(thing)
        ]
        refuse(f"{path}: name", "one of " + ", ".join(public), repr(name), error=CheckError)
    found = getattr(module, name)
    makes = inspect.isfunction(found) or isinstance(found, type | functools.partial)
    return found() if makes else found


def send_by_value(place: str) -> None:
    """Lets processes have copies of what a file holds, which they would else import anew.

    Its arrays then are those that its functions look at, in each copy too.

    Raises:
        CheckError: without cloudpickle.
    """
    try:
        import cloudpickle
    except ImportError:
        way_out = "pip install 'throughtime[many]'"
        refuse("workers", "cloudpickle", "none", way_out, error=CheckError)
    cloudpickle.register_pickle_by_value(sys.modules[Path(place.rpartition(":")[0]).stem])


def _module(path: Path) -> object:
    """The file, run as a module; its own folder is where it imports from."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        refuse("target", "a Python file", str(path), error=CheckError)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    return module
