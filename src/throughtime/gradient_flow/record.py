"""What was seen while training, one look after another, and its file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import numpy as np

from throughtime.arrays import refuse
from throughtime.gradient_flow.record_file import lines
from throughtime.gradient_flow.record_norms import NormsSince
from throughtime.gradient_flow.record_text import table
from throughtime.gradient_flow.result import Flow, LayerFlow
from throughtime.gradient_flow.tolerances import RECORDED_LAGS


@dataclass(frozen=True)
class LayerLook:
    """One recurrent layer at one look.

    Attributes:
        kind: of the cell.
        verdict: "healthy", "vanishing", "exploding" or "dead".
        reach: the last lag up to which the gradient stays above one per cent of that at lag 0.
        falls: whether it falls below that within the window.
        half_life: steps; None where the gradient does not fall.
        rate: its factor per step; None where that cannot be told.
        dead: share of the units.
        lags, profile: of up to 33 lags, ‖∂E/∂c‖ of an LSTM, else ‖∂E/∂h‖.
    """

    kind: str
    verdict: str
    reach: int
    falls: bool
    half_life: float | None
    rate: float | None
    dead: float
    lags: list[int] = field(repr=False)
    profile: list[float | None] = field(repr=False)

    @classmethod
    def of(cls, layer: LayerFlow) -> Self:
        """Of a layer's flow."""
        profile, fall = layer.profile[layer.remembers], layer.decay
        last = len(profile) - 1
        lags = np.unique(np.linspace(0, last, min(RECORDED_LAGS, last + 1)).astype(int))
        return cls(
            kind=layer.kind,
            verdict=layer.verdict,
            reach=fall.reach,
            falls=fall.falls_at is not None,
            half_life=_finite(fall.half_life),
            rate=_finite(fall.rate),
            dead=float(layer.dead.mean()),
            lags=[int(lag) for lag in lags],
            profile=[_finite(profile[lag]) for lag in lags],
        )


@dataclass(frozen=True)
class Look:
    """One look at the flow, and the updates since the one before.

    Attributes:
        update: after which it was taken.
        seconds: since the recorder began.
        cost: seconds that it took.
        verdict, reason: the worst of the layers'.
        steps, batch, max_lag: T, the sequences that were looked at, and how far back.
        truncation: K that is advised; None where there is none.
        updates: since the look before.
        norm, usual_norm, largest_norm: of their gradients, before clipping: the median, what nine
            of ten stay below, and the largest. To clip at the second leaves the ordinary one alone.
        clipped: the share of them that was clipped; None without a threshold.
        layers: by number.
    """

    update: int
    seconds: float
    cost: float
    verdict: str
    reason: str
    steps: int
    batch: int
    max_lag: int
    truncation: int | None
    updates: int
    norm: float | None
    usual_norm: float | None
    largest_norm: float | None
    clipped: float | None
    layers: dict[str, LayerLook]

    @classmethod
    def of(cls, flow: Flow, update: int, seconds: float, cost: float, norms: NormsSince) -> Self:
        """Of a flow."""
        return cls(
            update=update,
            seconds=seconds,
            cost=cost,
            verdict=flow.verdict,
            reason=flow.reason,
            steps=flow.steps,
            batch=flow.batch,
            max_lag=flow.max_lag,
            truncation=flow.advice.truncation.steps,
            updates=norms.count,
            norm=_finite(norms.median),
            usual_norm=_finite(norms.usual),
            largest_norm=_finite(norms.largest) if norms.count else None,
            clipped=norms.share,
            layers={str(number): LayerLook.of(one) for number, one in flow.layers.items()},
        )

    @property
    def worst(self) -> tuple[str, LayerLook]:
        """Number and look of the layer whose verdict the whole has."""
        return next(item for item in self.layers.items() if item[1].verdict == self.verdict)

    def as_line(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {"kind": "look", **asdict(self)}

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Self:
        """From the file."""
        known = {f.name: line[f.name] for f in fields(cls)}
        known["layers"] = {n: LayerLook(**one) for n, one in line["layers"].items()}
        return cls(**known)


@dataclass(frozen=True)
class FlowRecord:
    """What a `FlowRecorder` has written; print it.

    Attributes:
        looks: in order, those of a run that was gone on with from an earlier checkpoint replaced.
        clip: the clipping threshold, or None.
        ended: "diverged", "ended", or "" where the run still goes on or was cut off.
        message: of a run that diverged: which value became NaN or infinite, and where.
        update: at which it ended.

    Example:
        >>> import numpy as np, tempfile, pathlib
        >>> import throughtime as tt
        >>> net = tt.Network([tt.LSTM(2, 3)], tt.MeanSquaredError(), dtype="float64", seed=0)
        >>> path = pathlib.Path(tempfile.mkdtemp(), "run.flow.jsonl")
        >>> with tt.FlowRecorder(path, live=False) as recorder:
        ...     _ = recorder.look(net, np.ones((9, 2, 2)), np.zeros((9, 2, 3)))
        >>> record = tt.FlowRecord.read(path)
        >>> len(record.looks), record.looks[0].verdict, record.ended
        (1, 'healthy', 'ended')
    """

    looks: list[Look]
    clip: float | None = None
    ended: str = ""
    message: str = ""
    update: int | None = None

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a record, of a run that still goes on too.

        Raises:
            ValueError, OSError: for what is no record, or one of a newer version.
        """
        looks: list[Look] = []
        last: dict[str, Any] = {}
        clip = None
        for line in lines(Path(path)):
            kind = line.get("kind")
            if kind == "begin":
                clip = line["clip"]
                looks = [look for look in looks if look.update <= line["update"]]
            elif kind == "look":
                looks.append(_look(path, line))
            last = line
        ended = last.get("kind", "")
        ended = ended if ended in ("diverged", "ended") else ""
        update = last.get("update") if ended else None
        return cls(looks, clip, ended, last.get("message", "") if ended else "", update)

    def __str__(self) -> str:
        return table(self)


def _look(path: str | os.PathLike[str], line: Mapping[str, Any]) -> Look:
    try:
        return Look.from_line(line)
    except (KeyError, TypeError, AttributeError) as problem:
        refuse(f"{path}: look", "all of its fields", f"{type(problem).__name__} {problem}")


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
