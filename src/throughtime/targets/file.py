"""A target from a Python file, as the command line names it: `file.py:name`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from throughtime.arrays import refuse
from throughtime.checking import CheckError, Target


def target_from_file(place: str) -> Target:
    """The Target that `file.py:name` holds, or that the function of this name makes.

    Raises:
        CheckError: where there is no such file or name, or it is no target.
    """
    path, separator, name = place.rpartition(":")
    if not separator or not path:
        refuse("target", "file.py:name", repr(place), error=CheckError)
    if not Path(path).is_file():
        refuse("target", "an existing Python file", path, error=CheckError)
    module = _module(Path(path))
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        refuse(f"{path}: name", "one of " + ", ".join(public), repr(name), error=CheckError)
    found = getattr(module, name)
    if callable(found) and not isinstance(found, Target):
        found = found()
    if not isinstance(found, Target):
        kind = type(found).__name__
        refuse(f"{place}", "a throughtime.Target, or a function making one", kind, error=CheckError)
    return found


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
