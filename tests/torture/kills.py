"""Training that is killed again and again, also while it writes, and resumed each time."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import throughtime as tt
from throughtime import storage
from throughtime.training import Checkpoint, Trainer, load_checkpoint
from torture.tally import Tally, apart, folder, fork
from training_examples import settings, text

EVERY = 3  # updates between checkpoints
LONGEST_LIFE = 0.12  # seconds after which a run is killed at the latest
SLOWEST = 60.0  # seconds in which a run must have made progress


def kills(count: int, seed: int = 0) -> Tally:
    """A run that is killed `count` times is the uninterrupted one, bit for bit."""
    draw, tally = random.Random(seed), Tally(count)
    updates = 10**6  # the end is set by the last kill
    threads = tt.engine_info()["threads"]
    tt.set_threads(1)  # a fork has none of the others
    with folder() as place:
        out = place / "run"
        for number in range(count):
            child = fork()
            if not child:
                _train(out, updates)
            time.sleep(draw.uniform(0, LONGEST_LIFE))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
                tally.fail("error", f"kill {number}: the run had ended by itself")
            if out.exists():
                _loads(out, tally, number)
        reached = load_checkpoint(out).position.updates if out.exists() else 0
        end = reached + EVERY
        _, status = apart(lambda: _train(out, end), SLOWEST)
        if status is None:
            tally.fail("hang", "the last run did not end")
            return tally
        whole = _new()
        whole.fit(end, validate_every=EVERY + 1, out=place / "whole", checkpoint_every=end)
        if _content(load_checkpoint(out)) != _content(load_checkpoint(place / "whole")):
            tally.fail("silent", f"after {count} kills, update {end} differs")
        for left in set(os.listdir(place)) - {"run", "whole", ".run.lock"}:
            tally.fail("left", left)
    tt.set_threads(threads)
    return tally


def _new() -> Trainer:
    """A constant learning rate looks at no end, which the killed runs do not know."""
    return Trainer(text(), settings(schedule="constant", dropout=0.2))


def _train(out: Path, updates: int) -> None:
    """In a fork: begins, or goes on; never returns."""
    try:
        trainer = Trainer.resume(out, text()) if out.exists() else _new()
        with storage.exclusively(out):
            trainer.fit(updates, validate_every=EVERY + 1, out=out, checkpoint_every=EVERY)
    except BaseException:
        os._exit(1)
    os._exit(0)


def _loads(out: Path, tally: Tally, number: int) -> None:
    try:
        load_checkpoint(out)
    except Exception as problem:
        tally.fail("error", f"kill {number}: {problem}"[:200])


def _content(saved: Checkpoint) -> tuple[object, ...]:
    """All that does not depend on the clock."""
    return (
        saved.network.parameters.flat.tobytes(),
        {name: array.tobytes() for name, array in saved.optimiser.items()},
        {name: array.tobytes() for name, array in saved.state.items()},
        saved.position.updates,
        [record._replace(seconds=0) for record in saved.history],
        saved.recent,
    )
