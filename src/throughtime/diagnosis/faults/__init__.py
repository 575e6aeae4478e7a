"""The faults that a diagnosis can name, one file each; adding a file here adds a fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from pkgutil import iter_modules

from throughtime.arrays import refuse
from throughtime.diagnosis.fault import Fault, Section

__all__ = ["FAULTS", "Fault", "Section", "fault_named"]


class _Faults(Mapping[str, Fault]):
    """The faults by identifier, in the order of the index; imported when first asked for."""

    @cached_property
    def _by_name(self) -> dict[str, Fault]:
        files = [f"{__name__}.{file.name}" for file in iter_modules(__path__)]
        faults: list[Fault] = [import_module(file).FAULT for file in files]
        sections = list(Section)
        faults.sort(key=lambda fault: (sections.index(fault.section), fault.place, fault.name))
        return {fault.name: fault for fault in faults}

    def __getitem__(self, name: str) -> Fault:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


FAULTS: Mapping[str, Fault] = _Faults()


def fault_named(name: str) -> Fault:
    """The fault of that name, which may be written with underscores or hyphens.

    Raises:
        ValueError: where there is none; the message gives those with similar names.

    Example:
        >>> fault_named("dh-next-missing").name
        'dh_next_missing'
    """
    identifier = name.strip().lower().replace("-", "_")
    if identifier not in FAULTS:
        close = get_close_matches(identifier, FAULTS, n=3)
        way_out = "perhaps " + ", ".join(close) if close else "throughtime explain fault lists all"
        refuse("fault", f"one of {len(FAULTS)} names", repr(name), way_out)
    return FAULTS[identifier]
