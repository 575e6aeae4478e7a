"""Peak memory of the lag matrix by the length of the run, each measured in a separate process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

from benchmarks import torch_layer
from benchmarks.cases import Case
from benchmarks.engine import Row
from benchmarks.flow.lags import CASE, Ours, UnrolledTwin
from benchmarks.growth import PROCESS, status
from throughtime.questions import flow

KEPT_UP_TO = 256  # steps, for which all gradients take a gigabyte
WHO = ("matrix", "flow", "kept", "torch")


def memory_rows(quick: bool) -> list[Row]:
    """Megabytes by T; no rows on systems other than Linux."""
    if not (PROCESS / "clear_refs").exists():
        return []
    rows: list[Row] = []
    for T in (64, 128) if quick else (128, 256, 512, 1024):
        case = replace(CASE, T=T)
        row: Row = {"part": "memory", "case": str(case)}
        for who in WHO:
            wanted = who != "torch" or torch_layer.find()
            there = wanted and (who != "kept" or T <= KEPT_UP_TO)
            row[f"{who}_mb"] = _megabytes(case, who) if there else None
        tbh = case.T * case.B * case.H
        rows.append(row | {"matrix_per_tbh": 1e6 * row["matrix_mb"] / tbh})
    return rows


def _megabytes(case: Case, who: str) -> float:
    command = [sys.executable, "-m", __name__, json.dumps(case.to_dict()), who]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if answer.returncode:
        raise OSError(f"{case}: the process that measures memory ended: {answer.returncode}")
    return float(answer.stdout) / 1e6


def _run_of(case: Case, who: str) -> Callable[[], object]:
    ours = Ours(case)
    if who == "matrix":
        return ours.runs()["matrix"]  # type: ignore[no-any-return]
    if who == "torch":  # the graph, and the gradient that reaches furthest back
        twin = UnrolledTwin(torch_layer.find(), ours)
        return lambda: twin.run(1, [case.T - 1])
    keep = who == "kept"
    return lambda: flow(
        ours.network, ours.inputs, ours.targets, carousel=False, spectrum=False, keep=keep
    )


def _peak(case: Case, who: str) -> int:
    _run_of(replace(case, T=4), who)()  # what is allocated only once does not count
    run = _run_of(case, who)
    (PROCESS / "clear_refs").write_text("5")
    before = status("VmRSS")
    run()
    return status("VmHWM") - before


if __name__ == "__main__":
    print(_peak(Case(**json.loads(sys.argv[1])), sys.argv[2]))
