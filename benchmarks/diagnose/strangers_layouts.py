"""The layout of a stranger's program, where a layout can describe it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from corpus import notebooks
from corpus.notebooks import Habits
from corpus.notebooks.storage import head_names, layer_names
from throughtime.diagnosis import layouts
from throughtime.diagnosis.layouts import Layout

LOSSES = {
    "sum of h": "weighted",
    "squared h": "squared_error",
    "one output": "squared_error",
    "linear": "squared_error",
    "softmax": "softmax",
    "sigmoid, cross-entropy": "binary",
}
SAME = {"float64": 1e-10, "float32": 1e-5}  # relative: two losses are one


@lru_cache(256)
def layout_of(s: Habits) -> Layout | None:
    """The layout, its data and its loss; None where no layout describes the program."""
    if s.head not in LOSSES or s.epsilon or s.unused:
        return None
    loss = LOSSES[s.head]
    if loss == "squared_error":
        loss = "root_squared_error" if s.root else "half_squared_error" if s.half else loss
    held = [_held(s, layer) for layer in range(s.layers)]
    names = {part: tuple(one[part] for one in held) for part in held[0]}
    head = head_names(s)
    options: dict[str, Any] = {part: names.get(part) for part in "WUb"}
    options = options | {"transposed": not s.columns, "layers": s.layers}
    if s.stored.endswith("]"):
        options |= {"combined": "xh" if "[x, h]" in s.stored else "hx", "U": ""}
    if "V" in head:
        options |= {"head": head["V"], "head_transposed": not s.columns, "head_bias": head.get("c")}
    if s.embedding:
        options["embedding"] = "E"
    options |= {"loss": loss, "time": s.time, "batch": s.batch, "outputs": s.outputs}
    options |= {"last": s.last, "decay": s.decay} | _of_cell(s)
    options["h0"] = np.array([s.start(layer, "h") for layer in range(s.layers)])
    if s.cell == "LSTM":
        options["c0"] = np.array([s.start(layer, "c") for layer in range(s.layers)])
        if s.variant == "peepholes":
            options["peepholes"] = names["p"]
    wanted = s.targets()[: s.T]
    if s.error == "sum":  # Σ targets · h is never a mean: the numbers hold what a mean divides by
        steps = s.T if s.time == "mean" and not s.last else 1
        wanted = wanted / (steps * (s.B if s.batch == "mean" else 1))
    make: Any = {"LSTM": layouts.lstm, "GRU": layouts.gru, "RNN": layouts.rnn}[s.cell]
    try:
        found: Layout = make(s.inputs()[: s.T], wanted[-1] if s.last else wanted, **options)
        own = notebooks.target(s)
        said, value = found.model(own.parameters).value(), float(own.loss())
    except (ValueError, KeyError):
        return None
    return found if abs(said - value) <= SAME[s.dtype] * max(abs(value), 1e-3) else None


def _held(s: Habits, layer: int) -> dict[str, str]:
    """The names of W, U, b and p of one layer, with "{gate}" where there is one for each."""
    found: dict[str, str] = {}
    names = layer_names(s, layer)
    for part, name in names.items():
        if " " in part and s.cell != "RNN":
            place = _differs(name, names, part)
            found[part[0]] = name[:place] + "{gate}" + name[place + 1 :]
        else:
            found[part[0]] = name
    return found


def _differs(name: str, names: dict[str, str], part: str) -> int:
    """Where in a name the letter of the gate stands."""
    others = [own for other, own in names.items() if other[0] == part[0] and own != name]
    return next(k for k, letter in enumerate(name) if letter != others[0][k])


def _of_cell(s: Habits) -> dict[str, Any]:
    """Variant of the cell, and the order of its gates by the letters in their names."""
    if s.cell == "RNN":
        return {"nonlinearity": s.variant}
    letters = notebooks.storage.LETTERS[s.cell][s.names % 3]
    each = s.stored.startswith("gate by gate")
    order = "".join(letters[gate] if each else gate for gate in s.gates)
    if s.cell == "GRU":
        after, keep = s.variant.split(", ")
        return {"order": order, "reset_after": after == "after", "keep": keep}
    identity = s.variant == "h = o c"
    return {
        "order": order,
        "coupled": s.variant == "coupled",
        "cell_activation": "identity" if identity else "tanh",
    }
