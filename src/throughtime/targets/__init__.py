"""What can be checked: functions, networks, torch, JAX, libraries, programs, files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from throughtime.doors import door

if TYPE_CHECKING:
    from throughtime.targets.file import objects_in_file, send_by_value
    from throughtime.targets.jax_function import is_jax
    from throughtime.targets.library import INCLUDE, is_library, library_target
    from throughtime.targets.network import network_target, truncated_target
    from throughtime.targets.program import ProgramTarget, program_target
    from throughtime.targets.recognise import as_target, is_known, target_of
    from throughtime.targets.supervise import descendants, keep
    from throughtime.targets.supervised import end, start
else:
    __getattr__ = door(
        __name__,
        {
            "file": "objects_in_file send_by_value",
            "jax_function": "is_jax",
            "library": "INCLUDE is_library library_target",
            "network": "network_target truncated_target",
            "program": "ProgramTarget program_target",
            "recognise": "as_target is_known target_of",
            "supervise": "descendants keep",
            "supervised": "end start",
        },
    )

__all__ = [
    "INCLUDE",
    "ProgramTarget",
    "as_target",
    "descendants",
    "end",
    "is_jax",
    "is_known",
    "is_library",
    "keep",
    "library_target",
    "network_target",
    "objects_in_file",
    "program_target",
    "send_by_value",
    "start",
    "target_of",
    "truncated_target",
]
