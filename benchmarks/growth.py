"""How time and memory grow with the number of steps and of hidden units.

Peak memory is measured in a separate process, without the memory of its data. Linux records the
peak of a process's resident memory and allows it to be reset. Other systems give no answer.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import torch_layer
from benchmarks.cases import Case, Ours
from benchmarks.engine import Row, row, shown
from benchmarks.torch_layer import TorchLayer

LONGEST = 10**4  # steps with which other libraries are timed


def growth(cases: Sequence[Case], seconds: float) -> list[Row]:
    """One row per case as in `engine.row`, with these additional entries:

    "forward_ms" and "torch_forward_ms"; "step_us", microseconds per step, forward and backward;
    "memory_mb" and "torch_memory_mb", peak memory beyond parameters and data.

    Args:
        cases: what to time; beyond 10⁴ steps other libraries are left out.
        seconds: how long each pass of a case may take; every contestant has at least one turn.
    """
    return [_row(case, seconds) for case in shown(cases)]


def _row(case: Case, seconds: float) -> Row:
    alone = case.T > LONGEST
    forward = row(Case(**(case.to_dict() | {"forward_only": True})), seconds, 1, alone=alone)
    both = row(case, seconds, 1, alone=alone)
    torch = not alone and torch_layer.find() is not None
    return both | {
        "forward_ms": forward["ours_ms"],
        "torch_forward_ms": forward["torch_ms"],
        "step_us": 1e3 * both["ours_ms"] / case.T,
        "memory_mb": megabytes(case, "ours"),
        "torch_memory_mb": megabytes(case, "torch") if torch else None,
    }


PROCESS = Path("/proc/self")


def megabytes(case: Case, who: str) -> float | None:
    """Peak memory of one run in a fresh process, in 10⁶ bytes, without parameters and data.

    Args:
        case: what is run.
        who: "ours" or "torch".

    Returns:
        None on systems other than Linux.
    """
    if not (PROCESS / "clear_refs").exists():
        return None
    command = [sys.executable, "-m", __name__, json.dumps(case.to_dict()), who]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if answer.returncode:
        raise OSError(f"{case}: the process that measures memory ended: {answer.returncode}")
    return float(answer.stdout) / 1e6


def _peak(case: Case, who: str) -> int:
    brief = Case(**(case.to_dict() | {"T": 4}))
    _run(_layer(brief, who))  # what is allocated only once does not count
    layer = _layer(case, who)
    (PROCESS / "clear_refs").write_text("5")
    before = status("VmRSS")
    _run(layer)
    return status("VmHWM") - before


def _layer(case: Case, who: str) -> Any:
    return Ours(case) if who == "ours" else TorchLayer(torch_layer.find(), case)


def _run(layer: Ours | TorchLayer) -> object:
    return layer.run() if isinstance(layer, Ours) else layer.run(1)


def status(name: str) -> int:
    """A number of bytes from the status of the process."""
    lines = (PROCESS / "status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(name + ":"))
    return 1024 * int(kilobytes)


if __name__ == "__main__":
    print(_peak(Case(**json.loads(sys.argv[1])), sys.argv[2]))
