"""The classes of swapped modules: torch's, ours, and those that are made from a user's.

torch's own class    becomes ours, and back.
a subclass           becomes a class that derives from it and then from ours, so that what it calls
                     by `super().forward` is ours.
a parametrised one   (`weight_norm` and the like make a class for each module) becomes the same
                     class over ours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import torch

Class: TypeAlias = Any  # of a torch.nn.Module

_PER_CLASS = ("__dict__", "__weakref__")  # what Python adds to a class's namespace


def over(cls: Class, change: Callable[[Class], Class]) -> Class:
    """The changed class; that of a parametrised module is made anew over the changed one."""
    if not is_parametrised(cls):
        return change(cls)
    own = {name: part for name, part in vars(cls).items() if name not in _PER_CLASS}
    return type(cls.__name__, (over(cls.__bases__[0], change),), own)


def is_parametrised(cls: Class) -> bool:
    """Whether `torch.nn.utils.parametrize` made this class, for one module."""
    return len(cls.__bases__) == 1 and cls.__name__ == f"Parametrized{cls.__bases__[0].__name__}"


@cache
def derived(cls: Class, ours: Class) -> Class:
    """A class that derives from a user's and then from ours."""
    own = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__reduce_ex__": _reduced,
        "swapped_from": (cls, ours),
    }
    return type(cls.__name__, (cls, ours), own)


def restored(cls: Class) -> Class:
    """The class from which one of ours, or one that `derived` made, came."""
    return cls.swapped_from[0] if "swapped_from" in vars(cls) else cls.torchs


def _reduced(self: Any, _: Any) -> tuple[Any, ...]:
    """For copies and files: a class that was made here has no name by which it could be found."""
    return _instance, type(self).swapped_from, self.__getstate__()


def _instance(cls: Class, ours: Class) -> Any:
    made = derived(cls, ours)
    return made.__new__(made)


def torchs_twin(module: Any) -> torch.nn.Module:
    """The module as it was before it was swapped, sharing all that it has."""
    twin = module.__new__(over(type(module), restored))
    twin.__dict__.update(module.__dict__)
    for name in ("accelerated", "memory_limit"):
        twin.__dict__.pop(name, None)
    result: torch.nn.Module = twin
    return result
