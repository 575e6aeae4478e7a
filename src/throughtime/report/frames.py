"""Checks and flows as data frames, of pandas or of polars, whichever there is; pandas first.

Neither is imported before a frame is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradcheck import Report
from throughtime.gradient_flow import Flow, LayerFlow

LIBRARIES = ("pandas", "polars")
PARTS = ("h", "c")  # of a state
PATHS = ("carry", "gates", "both")


def check_frame(report: Report, library: str | None = None) -> Any:
    """One row for each tensor at each point of the parameters."""
    library = chosen(library)  # before the work
    rows = []
    for point in report.points:
        for name, tensor in point.tensors.items():
            worst = tensor.worst
            rows.append(
                {
                    "point": point.name,
                    "steps": point.steps,
                    "tensor": name,
                    "shape": "×".join(map(str, tensor.shape)),
                    "verdict": tensor.verdict,
                    "discrepancy": float(tensor.discrepancy),
                    "floor": float(tensor.floor),
                    "smallest_error": float(tensor.smallest_error),
                    "measured": int(tensor.indices.size),
                    "wrong": len(tensor.wrong),
                    "worst_index": None if worst is None else ", ".join(map(str, worst.index)),
                    "worst_gradient": np.nan if worst is None else float(worst.gradient),
                    "worst_numerical": np.nan if worst is None else float(worst.numerical),
                    "worst_error": np.nan if worst is None else float(worst.error),
                }
            )
    names = list(rows[0]) if rows else []
    return frame({name: [row[name] for row in rows] for name in names}, library)


def flow_frame(flow: Flow, library: str | None = None) -> Any:
    """One row for each layer and lag."""
    library = chosen(library)
    parts = [_lags(number, layer, flow.max_lag + 1) for number, layer in flow.layers.items()]
    columns = {name: [value for part in parts for value in part[name]] for name in parts[0]}
    return frame(columns, library)


def _lags(number: int, layer: LayerFlow, count: int) -> dict[str, list[Any]]:
    """The columns of one layer; NaN where it has no such part or path."""
    found: dict[str, list[Any]] = {
        "layer": [number] * count,
        "cell": [layer.kind] * count,
        "backwards": [layer.backwards] * count,
        "lag": list(range(count)),
    }
    for part in PARTS:
        found[part] = _filled(layer.profile.get(part), count)
        found[f"{part}_spread"] = _filled(layer.profile_spread.get(part), count)
        found[f"{part}_error"] = _filled(layer.profile_error.get(part), count)
    found["relative"] = _filled(layer.compared, count)
    for path in PATHS:
        found[path] = _filled(layer.paths.get(path), count)
    return found


def _filled(values: Array | None, count: int) -> list[float]:
    own = [] if values is None else [float(value) for value in values[:count]]
    return own + [float("nan")] * (count - len(own))


def chosen(library: str | None) -> str:
    """The library that makes the frame.

    Raises:
        ValueError: for another name.
        ImportError: where it is not installed, or neither is.
    """
    if library is None:
        there = [name for name in LIBRARIES if find_spec(name) is not None]
        if not there:
            way_out = "pip install pandas"
            refuse("to_frame", "pandas or polars", "neither", way_out, error=ImportError)
        return there[0]
    if library not in LIBRARIES:
        refuse("library", " or ".join(map(repr, LIBRARIES)), repr(library))
    if find_spec(library) is None:
        refuse("to_frame", library, "none", f"pip install {library}", error=ImportError)
    return library


def frame(columns: Mapping[str, Sequence[Any]], library: str) -> Any:
    """The columns as a DataFrame of this library."""
    return import_module(library).DataFrame(dict(columns))
