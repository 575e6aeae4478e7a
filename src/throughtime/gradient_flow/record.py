"""What was seen while training, one look after another: as a file, and as a table.

The file holds one JSON object per line and is only ever appended to, so that a crash costs one line
at most.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from throughtime import storage
from throughtime.arrays import refuse
from throughtime.gradcheck import plain_data
from throughtime.gradient_flow.result import Flow, LayerFlow
from throughtime.gradient_flow.tolerances import (
    LONG_RUN_LAGS,
    RECORDED_LAGS,
    RECORDED_NORMS,
    USUAL_NORM_QUANTILE,
)

FORMAT = "throughtime flow record"
LONGEST_LINE = 2**26  # bytes; a look at a deep stack takes some thousands
VERSION = 1  # a change that older programs would misread raises it
TABLE_ROWS = 24


@dataclass(frozen=True)
class LayerLook:
    """One recurrent layer at one look.

    Attributes:
        kind: of the cell.
        verdict: "healthy", "vanishing", "exploding" or "dead".
        reach: the last lag up to which the gradient stays above one per cent of that at lag 0.
        falls: whether it falls below that within the window.
        half_life: in steps; None if the gradient does not fall.
        rate: the gradient's factor per step; None if that is unknown.
        dead: the share of units that are dead.
        lags, profile: up to 33 lags, with ‖∂E/∂c‖ for an LSTM and ‖∂E/∂h‖ otherwise.
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
        """From a layer's flow."""
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
        update: the update after which it was taken.
        seconds: since the recorder began.
        cost: the seconds that it took.
        verdict, reason: the worst of the layers' verdicts.
        steps, batch, max_lag: T, the number of sequences looked at, and the longest lag.
        truncation: the K that is advised; None if there is none.
        updates: the number of updates since the look before.
        norm, usual_norm, largest_norm: of their gradients before clipping: the median, what nine
            of ten stay below, and the largest. Clipping at the second leaves ordinary ones alone.
        clipped: the share of these updates that was clipped; None without a threshold.
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
        """From a flow."""
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
        """Number and look of the layer that the verdict comes from."""
        return next(item for item in self.layers.items() if item[1].verdict == self.verdict)

    def as_line(self) -> dict[str, Any]:
        """As a line of the file."""
        return {"kind": "look", **asdict(self)}

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Self:
        """From a line of the file."""
        known = {f.name: line[f.name] for f in fields(cls)}
        known["layers"] = {n: LayerLook(**one) for n, one in line["layers"].items()}
        return cls(**known)


@dataclass(frozen=True)
class FlowRecord:
    """What a `FlowRecorder` has written; print it.

    Attributes:
        looks: in order. If a run was resumed from an earlier checkpoint, the looks after it are
            replaced.
        clip: the clipping threshold, or None.
        ended: "diverged", "ended", or "" if the run still goes on or was cut off.
        message: if the run diverged, which value became NaN or infinite, and where.
        update: the update at which it ended.

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
        """Reads a record, even while its run still goes on.

        Raises:
            ValueError, OSError: for a file that is no record, or is of a newer version.
        """
        try:
            found = cls._read(path)
            str(found)  # what cannot be shown was damaged
        except (ValueError, OSError, MemoryError):
            raise
        except Exception as problem:  # whatever a field of another type leads to
            kind = f"{type(problem).__name__}: {problem}"
            refuse(str(path), f"a whole {FORMAT}", f"a damaged one ({kind})")
        return found

    @classmethod
    def _read(cls, path: str | os.PathLike[str]) -> Self:
        looks: list[Look] = []
        last: dict[str, Any] = {}
        clip = None
        for line in record_lines(Path(path)):
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
        return record_table(self)


def _look(path: str | os.PathLike[str], line: Mapping[str, Any]) -> Look:
    try:
        return Look.from_line(line)
    except (KeyError, TypeError, AttributeError) as problem:
        refuse(f"{path}: look", "all of its fields", f"{type(problem).__name__} {problem}")


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


@dataclass
class NormsSince:
    """Norms of the gradients of the updates since the last look.

    Attributes:
        threshold: of clipping, or None.
        count, clipped: the number of updates, and of those whose norm was above the threshold.
        largest: the largest norm.
    """

    threshold: float | None
    count: int = 0
    clipped: int = 0
    largest: float = 0.0
    _newest: list[float] = field(default_factory=list)

    def add(self, norm: float) -> None:
        """Adds one update's norm, before clipping."""
        self.count += 1
        self.clipped += self.threshold is not None and norm > self.threshold
        self.largest = max(self.largest, norm)
        if len(self._newest) == RECORDED_NORMS:
            self._newest.pop(0)
        self._newest.append(norm)

    @property
    def median(self) -> float:
        """The median of the norms; NaN if there are none."""
        return float(np.median(self._newest)) if self._newest else float("nan")

    @property
    def usual(self) -> float:
        """What nine of ten norms stay below; NaN if there are none."""
        if not self._newest:
            return float("nan")
        return float(np.quantile(self._newest, USUAL_NORM_QUANTILE))

    @property
    def share(self) -> float | None:
        """The share of updates that were clipped; None without a threshold or an update."""
        if self.threshold is None or not self.count:
            return None
        return self.clipped / self.count


def begin_record(path: Path, way_out: str = "") -> None:
    """Makes sure that lines can be appended: a new file, or a record that ends with a line.

    Args:
        way_out: what to do if the file is no record.

    Raises:
        ValueError: for a file that is no record.
        OSError: if it cannot be written.
    """
    if not path.parent.is_dir():
        refuse("record", "a file in an existing folder", path, f"mkdir -p {path.parent}")
    if path.is_dir():
        refuse("record", "a file", f"the folder {path}", f"{path / 'flow.jsonl'}")
    if path.exists() and path.stat().st_size:
        next(record_lines(path, way_out))  # refuses what is no record
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # of a run that was cut off
                file.write(b"\n")


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Appends one line in one write; numbers that are not finite become null."""
    text = json.dumps(plain_data(line), ensure_ascii=False, allow_nan=False)
    with path.open("ab") as file:
        file.write(text.encode() + b"\n")


def record_lines(path: Path, way_out: str = "") -> Iterator[dict[str, Any]]:
    """All complete lines; a line that a crash cut off is left out.

    Raises:
        ValueError, OSError: for a file that is no record, or is of a newer version.
    """
    with storage.opened(path) as file:
        for number, raw in enumerate(iter(partial(file.readline, LONGEST_LINE), b"")):
            line = _decoded(raw)
            if number == 0 and (line is None or line.get("format") != FORMAT):
                refuse(str(path), f"a {FORMAT}", "something else", way_out)
            if line is None:
                continue
            if line.get("version", VERSION) != VERSION:
                newer = "it comes from a newer throughtime: install that one"
                refuse(f"{path}: version", VERSION, line["version"], newer)
            yield line


def _decoded(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def few(look: Look) -> str:
    """How far a small look went; empty for a look of full size."""
    if look.max_lag >= min(look.steps - 1, LONG_RUN_LAGS):
        return ""
    return f" ({look.max_lag} lags)"


def reach(layer: LayerLook) -> str:
    """In steps, with "≥" if the gradient is still there at the longest lag."""
    return f"{'' if layer.falls else '≥ '}{layer.reach} steps"


def half_life(layer: LayerLook) -> str:
    """In steps, or "–" if the gradient does not fall."""
    return "–" if layer.half_life is None else f"{layer.half_life:.3g}"


def record_table(record: FlowRecord) -> str:
    """One row per look, evenly chosen if there are many; then how the run ended."""
    heads = ["update", "verdict", "layer", "reach", "half-life", "|gradient|", "9 of 10", "largest"]
    rows = [[*heads, *(["clipped"] if record.clip is not None else [])]]
    places = np.linspace(0, len(record.looks) - 1, min(TABLE_ROWS, len(record.looks)))
    for place in np.unique(places.astype(int)):
        look = record.looks[place]
        number, layer = look.worst
        row = [
            f"{look.update:,}",
            look.verdict + few(look),
            f"{number} ({layer.kind})",
            reach(layer),
        ]
        row.append(half_life(layer))
        row += [two_digits(size) for size in (look.norm, look.usual_norm, look.largest_norm)]
        if record.clip is not None:
            row.append("–" if look.clipped is None else f"{look.clipped:.0%}")
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    text = ["  ".join(map(str.rjust, row, widths)) for row in rows] if record.looks else []
    return "\n".join([*text, *_last_lines(record)])


def _last_lines(record: FlowRecord) -> list[str]:
    if not record.looks:
        count = "No look was taken"
    else:
        cost = sum(one.cost for one in record.looks)
        plural = "" if len(record.looks) == 1 else "s"
        count = f"{len(record.looks)} look{plural}, which took {cost:.2g} s"
    end = "It still goes on, or was cut off"
    if record.ended:
        at = f"{record.ended.capitalize()} at update {record.update:,}"
        end = f"{at}: {record.message}" if record.message else at
    return [count + ".", end + "."]


def two_digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"
