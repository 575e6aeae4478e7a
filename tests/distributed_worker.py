"""What each process of tests/test_distributed.py runs; torchrun starts it.

`train …` is `throughtime train …`, in which a process meets with an accident at some update:
ACCIDENTS holds "update signal" pairs, one an attempt. `study …` compares runs in one group.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from throughtime.cli import main
from throughtime.training import Settings, Trainer, distributed, read
from throughtime.training.distributed import Pulse

PATIENCE = 120  # seconds


def train(arguments):
    """The second process sends a signal: SIGKILL to itself, others to the launcher."""
    accidents = os.environ["ACCIDENTS"].split(",")
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    update, name = accidents[attempt].split()
    number = getattr(signal, name)

    def step(trainer, step=Trainer.step):
        done = step(trainer)
        if trainer.processes.rank == 1 and done.number == int(update):
            handler = signal.getsignal(signal.SIGTERM)
            os.kill(os.getpid() if name == "SIGKILL" else os.getppid(), number)
            # The launcher passes it on when it gets round to it; the run must not end before.
            until = time.monotonic() + PATIENCE
            while signal.getsignal(signal.SIGTERM) is handler and time.monotonic() < until:
                time.sleep(0.01)
        return done

    Trainer.step = step
    return main(["train", *arguments])


def study(book, cut, options, out):
    """Writes what the first process sees to `out`."""
    with distributed.join() as processes:
        found = {"size": processes.size, "share": [processes.share(5, r).stop for r in (0, 1)]}
        found |= _curve(processes, book, json.loads(options))
        found |= _cut(processes, book, cut)
        found |= _refusals(processes, book)
        found |= _clock(processes, book)
        if processes.first:
            Path(out).write_text(json.dumps(found))
        lost = _lost(processes)
        if processes.first:
            Path(out).write_text(json.dumps(found | {"lost": lost}))


def _curve(processes, book, options):
    trainer = Trainer(read([book]), Settings(**options), processes)
    updates = []
    trainer.fit(updates=40, validate_every=20, watch=updates.append)
    return {
        "bits": [u.bits for u in updates],
        "norms": [u.norm for u in updates],
        "held_out": [r.held_out for r in trainer.history],
        "characters": updates[0].characters,
        "flat": trainer.network.parameters.flat.tolist(),
    }


def _cut(processes, book, cut):
    """A run that was killed twice and stopped once, taken to its end, beside a whole one."""
    rest = Trainer.resume(cut, read([book]), processes)
    begun = rest.updates
    rest.fit(updates=60)
    whole = Trainer(read([book]), rest.settings, processes)
    whole.fit(updates=60)
    same = rest.network.parameters == whole.network.parameters
    return {"cut": begun, "before": rest.before.processes, "same": same}


def _refusals(processes, book):
    text, said = read([book]), {}
    attempts = {
        "batch": lambda: Trainer(text, Settings(hidden=4, batch=1, k1=8), processes),
        "seed": lambda: Trainer(text, Settings(hidden=4, seed=processes.rank), processes),
        "file": lambda: Trainer.resume("nowhere.safetensors", text, processes),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
        except (ValueError, OSError) as problem:
            said[name] = str(problem)
    return said


def _clock(processes, book):
    """A plan in seconds, and a wish to stop in the second process alone."""
    trainer = Trainer(read([book]), Settings(hidden=4, batch=3, k1=8), processes)
    stop = lambda: processes.rank == 1 and trainer.updates == 7  # noqa: E731
    trainer.fit(seconds=1000, stop=stop)
    processes.agree("parameters", trainer.network.parameters.flat)
    return {"stopped": trainer.updates}


def _lost(processes):
    """The second process falls silent."""
    Pulse.beat, Pulse.missed = 0.1, 5
    processes._siblings._there.clear()  # the silent one lives, to be asked afterwards
    time.sleep(1.1)  # the pulse has noticed
    if not processes.first:
        processes._pulse.end()
        time.sleep(3)
        return ""
    try:
        processes.total(1)
    except distributed.LostWorkerError as problem:
        return str(problem)


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    sys.exit(train(rest) if command == "train" else study(*rest))
