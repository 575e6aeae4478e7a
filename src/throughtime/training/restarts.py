"""After a restart by the launcher: whether the checkpoint at hand is that of this very run."""

from __future__ import annotations

import os
from pathlib import Path

from throughtime.training.checkpoint import load
from throughtime.training.processes import Processes

UNNAMED = "none"  # torchrun's name for all runs whose machines are known beforehand


def restarted(out: Path, processes: Processes) -> bool:
    """Whether this run goes on from `out`, which it wrote before its launcher restarted it.

    A run is known by the launcher's name for it. Runs without a name of their own are known by
    the launcher's word that this is a restart.
    """
    own = processes.first and _own(out, processes.launch.run)
    return processes.total(own) > 0


def _own(out: Path, run: str) -> bool:
    if not run or (run == UNNAMED and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"):
        return False
    try:
        return load(out).launch.run == run
    except (ValueError, OSError):  # whatever stands there is none
        return False
