"""How much memory a pass takes at its peak, beyond what its data take: in a process of its own.

Linux keeps the highest mark of a process's resident memory and lets it be reset; elsewhere there
is no answer.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import torch_layer
from benchmarks.cases import Case
from benchmarks.ours import Ours
from benchmarks.torch_layer import TorchLayer

PROCESS = Path("/proc/self")


def megabytes(case: Case, who: str) -> float | None:
    """Peak memory of one run in a fresh process, in 10⁶ bytes, without parameters and data.

    Args:
        case: what is run.
        who: "ours" or "torch".

    Returns:
        None on other systems than Linux.
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
    _run(_layer(brief, who))  # what is allocated once is not the pass's
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
    """A number of bytes from the process's status."""
    lines = (PROCESS / "status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(name + ":"))
    return 1024 * int(kilobytes)


if __name__ == "__main__":
    print(_peak(Case(**json.loads(sys.argv[1])), sys.argv[2]))
