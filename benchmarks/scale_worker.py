"""One of the processes that `scale.together` starts."""

from __future__ import annotations

import json
import sys

from benchmarks.scale import SIZES, half, reducing, text, timed
from benchmarks.training import Model
from throughtime.training import Trainer, distributed


def main(plan: str) -> None:
    """Measures; the first process prints the results."""
    asked = json.loads(plan)
    with distributed.join() as processes:
        reduced = [(n, reducing(processes, n, 50)) for n in SIZES]
        apart, together = [], []
        for sizes, updates in zip(asked["models"], asked["updates"], strict=True):
            model = Model(**sizes)
            own = Trainer(text(), half(model).settings())
            processes.total(0.0)  # so that all begin together
            apart.append(timed(own, updates=updates))
            trainer = Trainer(text(), model.settings(), processes)
            together.append(timed(trainer, updates=updates))
        if processes.first:
            print(json.dumps({"reducing": reduced, "apart": apart, "together": together}))


if __name__ == "__main__":
    main(sys.argv[1])
