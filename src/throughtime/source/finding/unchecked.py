"""Arrays that a loss depends on and that no gradient was found of."""

from __future__ import annotations

import re

import numpy as np

from throughtime.gradcheck import CheckError
from throughtime.source.bench import Bench
from throughtime.source.finding.readings import Judged, is_data, is_state, parameters_of
from throughtime.source.finding.slopes import as_array, loss_of
from throughtime.source.meanings import BIAS, WEIGHT, role
from throughtime.source.pairing import HeldArray, dotted, is_named_gradient


def unchecked(bench: Bench, found: Judged) -> tuple[str, ...]:
    """The names of arrays that the loss depends on and that have no gradient in a reading."""
    reading = found.reading
    evaluate = reading.evaluate
    with bench.files.entered():
        try:
            bench.run(f"{reading.begin}\n{found.redrawn}")
            start = bench.state()
            data = dict(reading.steps)
            every = parameters_of(bench, reading)
            held = [p for p in every if _is_weight(p) and p.text not in data]
            bench.run(evaluate, start)
            before = loss_of(bench)
            same = [p for p in held if np.array_equal(p.value, as_array(bench.value(p.text)))]
            names = []
            for place in same:
                known = any(t.startswith(place.text) for t in found.parameters.values())
                if known or (is_named_gradient(place) and place.leaf.lower() != "db"):
                    continue
                moved = np.random.default_rng(7).standard_normal(place.value.shape)
                bench.run(f"{place.text}[...] += _move\ndel _move\n{evaluate}", start, _move=moved)
                if loss_of(bench) != before:
                    names.append(dotted(place))
            return tuple(names)
        except CheckError:
            return ()


def _is_weight(place: HeldArray) -> bool:
    """Whether an array may be a parameter, and no state that a run begins with."""
    if not isinstance(place.raw, np.ndarray) or place.raw.dtype.kind != "f" or not place.raw.ndim:
        return False
    if ".modules." in place.text or is_data(place.leaf):
        return False
    if "-1" in place.path:  # a state before the first step, as h[-1]
        return False
    root = re.split(r"[.\[]", place.text)[0]
    if role(root) in ("inputs", "target") and not (WEIGHT.match(root) or BIAS.match(root)):
        return False
    return not is_state(place)
