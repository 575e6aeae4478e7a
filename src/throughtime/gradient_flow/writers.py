"""What a recorder tells others after each look: numbers by name, at an update.

A callback is a function of the update's number and the values. TensorBoard's writer, a run of
Weights & Biases, MLflow and Lightning's loggers are told apart by their methods, and become one;
none of these packages is imported here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from throughtime.arrays import refuse
from throughtime.gradient_flow.record import Look

Callback: TypeAlias = Callable[[int, Mapping[str, float]], object]

PREFIX = "flow/"
FAULTS = ("exploding", "vanishing", "dead")


def values_of(look: Look) -> dict[str, float]:
    """The numbers of a look by name; what is not known is left out.

    "flow/exploding", "flow/vanishing" and "flow/dead" are shares of the recurrent layers, and
    "flow/truncation" is the K that is advised; "flow/layer0/reach" and so on are of one layer.
    """
    layers = look.layers.values()
    found: dict[str, float | None] = {
        fault: sum(one.verdict == fault for one in layers) / len(layers) for fault in FAULTS
    }
    found |= {
        "truncation": look.truncation,
        "gradient_norm": look.norm,
        "usual_norm": look.usual_norm,
        "largest_norm": look.largest_norm,
        "clipped": look.clipped,
        "seconds": look.cost,
    }
    for number, one in look.layers.items():
        own = {"reach": one.reach, "half_life": one.half_life, "rate": one.rate, "dead": one.dead}
        found |= {f"layer{number}/{name}": value for name, value in own.items()}
    return {PREFIX + name: float(value) for name, value in found.items() if value is not None}


def as_callbacks(to: object) -> list[Callback]:
    """The callbacks for one writer or several.

    Raises:
        TypeError: for what can be neither called nor written to.
    """
    if to is None:
        return []
    several = isinstance(to, Iterable) and not (hasattr(to, "add_scalar") or callable(to))
    return [as_callback(one) for one in (to if several else [to])]  # type: ignore[attr-defined]


def as_callback(writer: Any) -> Callback:
    """The callback for one writer."""
    if hasattr(writer, "add_scalar"):
        return lambda update, values: _scalars(writer, update, values)
    if hasattr(writer, "log_metrics"):
        return lambda update, values: writer.log_metrics(dict(values), step=update)
    if hasattr(writer, "log") and hasattr(writer, "define_metric"):
        return _run(writer)
    if callable(writer):
        return writer  # type: ignore[no-any-return]
    expected = "a function of (update, values), or a writer with add_scalar, log_metrics or log"
    refuse("to", expected, type(writer).__name__, error=TypeError)


def _scalars(writer: Any, update: int, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        writer.add_scalar(name, value, update)


def _run(run: Any) -> Callback:
    """Of Weights & Biases, whose own steps count calls: the update is an axis beside them."""
    axis = f"{PREFIX}update"
    defined: list[bool] = []

    def log(update: int, values: Mapping[str, float]) -> None:
        if not defined:
            run.define_metric(axis)
            run.define_metric(f"{PREFIX}*", step_metric=axis)
            defined.append(True)
        run.log({axis: update, **values})

    return log


def tell(callbacks: list[Callback], update: int, values: Mapping[str, float]) -> None:
    """Calls all of them; one that fails is left out from then on, which is said once."""
    for one in list(callbacks):
        try:
            one(update, values)
        except Exception as problem:  # a writer that fails is no reason to stop a training run
            callbacks.remove(one)
            warnings.warn(
                f"FlowRecorder: a writer failed and gets no more: {type(problem).__name__}: "
                f"{problem}",
                stacklevel=4,
            )
