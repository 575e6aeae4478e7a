"""PyTorch with a malloc that keeps its memory, in a separate process that times on request.

glibc reads its settings when a process starts. By default it returns large arrays to the system at
once, so that each new one costs page faults.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from typing import Any, Self

from benchmarks.cases import Case
from benchmarks.timing import Clock, clock
from benchmarks.torch_layer import TorchLayer, find, thread_counts

KEEP = str(2**30)  # bytes; the largest number that older versions can read, too
ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": KEEP, "MALLOC_MMAP_THRESHOLD_": KEEP}


class Tuned:
    """The process, seen from outside. It is idle except for the requested runs."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ENVIRONMENT,
            start_new_session=True,  # Ctrl-C goes to the parent, which ends this process
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def clocks(self, case: Case) -> dict[str, Clock]:
        """Prepares the case; returns one clock for each number of threads."""
        self._ask({"case": case.to_dict()})
        return {f"tuned {n}": partial(self._ask, {"threads": n}) for n in thread_counts()}

    def _ask(self, question: dict[str, Any]) -> float:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise OSError(f"the process that times PyTorch ended: status {self.process.wait()}")
        return float(answer)


def answer_questions() -> None:
    """The process, seen from inside: it reads lines of JSON and writes seconds."""
    layer: TorchLayer | None = None
    for line in sys.stdin:
        question = json.loads(line)
        if "case" in question:
            layer = TorchLayer(find(), Case(**question["case"]))
            layer.run(1)
            seconds = 0.0
        else:
            assert layer is not None
            seconds = clock(partial(layer.run, question["threads"]))()
        print(seconds, flush=True)


if __name__ == "__main__":
    answer_questions()
