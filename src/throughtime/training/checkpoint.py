"""Checkpoints: all that is needed to continue, or to generate text, in one safetensors file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from throughtime import storage
from throughtime.arrays import Array, finite, floats, positive, refuse
from throughtime.network import Network, as_layer
from throughtime.training.distributed import Launch, Processes
from throughtime.training.settings import RunLimits, Settings, number
from throughtime.training.text import Text, Vocabulary

FORMAT = "throughtime checkpoint"
VERSION = 1  # a change that older programs would misread raises it
UNNAMED = "none"  # torchrun's name for all runs whose machines are known beforehand
T = TypeVar("T")


class Record(NamedTuple):
    """A validation: when, and bits a character in training since the last one, and held out."""

    updates: int
    seconds: float
    training: float
    held_out: float


@dataclass(frozen=True)
class Position:
    """Where a run stands: updates made, rounds through the text, next window, seconds spent."""

    updates: int
    epoch: int
    window: int
    seconds: float

    def __post_init__(self) -> None:
        for name in ("updates", "epoch", "window"):
            positive(name, getattr(self, name), at_least=0)
        if number("seconds", self.seconds) < 0:
            refuse("seconds", "a number of at least 0", self.seconds)


@dataclass(frozen=True)
class TrainingText:
    """The text of a run, by the names of its files, its SHA-256 and its length."""

    files: tuple[str, ...]
    sha256: str
    characters: int

    def __post_init__(self) -> None:
        if not (
            isinstance(self.files, list | tuple) and all(isinstance(f, str) for f in self.files)
        ):
            refuse("files", "a list of names", repr(self.files)[:60])
        if not isinstance(self.sha256, str):
            refuse("sha256", "a string", repr(self.sha256)[:60])
        positive("characters", self.characters, at_least=0)
        object.__setattr__(self, "files", tuple(self.files))  # JSON knows lists only

    def refuse_other(self, text: Text) -> None:
        """Refuses a text that is not the one of the checkpoint."""
        if self.sha256 != text.sha256:
            refuse(
                "text",
                f"that of the checkpoint ({self.characters} characters, "
                f"SHA-256 {self.sha256[:12]}…)",
                f"another one ({len(text)} characters, SHA-256 {text.sha256[:12]}…)",
                "give the same files in the same order, unchanged",
            )


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds; `Trainer.save` and `Trainer.resume` make and take it."""

    network: Network
    vocabulary: Vocabulary
    settings: Settings
    optimiser: Mapping[str, Array]
    state: Mapping[str, Array]
    position: Position
    plan: RunLimits
    source: TrainingText
    history: list[Record] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)  # losses since the last validation
    launch: Launch = field(default_factory=Launch)


def save(path: str | PathLike[str], content: Checkpoint) -> None:
    """Writes a checkpoint, completely or not at all.

    Raises:
        ValueError: for numbers that are not finite: the file at `path` stays as it is.
    """
    tensors = {
        **_prefixed("parameters/", content.network.parameters),
        **_prefixed("optimiser/", content.optimiser),
        **_prefixed("state/", content.state),
        "history": np.array(content.history, np.float64).reshape(-1, len(Record._fields)),
        "recent": np.array(content.recent, np.float64),
    }
    for name, array in tensors.items():
        finite(name, array)
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "network": content.network.describe(),
        "vocabulary": json.dumps({"characters": content.vocabulary.characters}),
        "settings": json.dumps(asdict(content.settings)),
        "place": json.dumps(asdict(content.position)),
        "plan": json.dumps(asdict(content.plan)),
        "source": json.dumps(asdict(content.source)),
        "launch": json.dumps(asdict(content.launch)),
    }
    storage.write(path, tensors, metadata)


def load(path: str | PathLike[str]) -> Checkpoint:
    """Reads a checkpoint.

    Nothing in the file is executed, and no more memory is taken than the size of the file needs.

    Raises:
        ValueError, OSError: where the file is no complete checkpoint, or one of a newer version.
    """
    tensors, metadata = storage.read(path, own=True)
    try:
        return _decode(tensors, metadata)
    except (ValueError, TypeError) as problem:
        refuse(str(path), "a checkpoint of throughtime", _first_words(problem))


def load_together(path: str | PathLike[str], processes: Processes) -> Checkpoint:
    """As `load`, in all processes, from the file of the first one."""
    with processes.file(path) as copy:
        return load(copy)


def restarted(out: Path, processes: Processes) -> bool:
    """Whether this run goes on from `out`, which it wrote before its launcher restarted it.

    A run is recognised by the launcher's name for it. If it has no name of its own, the
    launcher's word that this is a restart counts.
    """
    own = processes.first and _is_own(out, processes.launch.run)
    return processes.total(own) > 0


def _is_own(out: Path, run: str) -> bool:
    if not run or (run == UNNAMED and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"):
        return False
    try:
        return load(out).launch.run == run
    except (ValueError, OSError):  # the file there is no checkpoint
        return False


def _decode(tensors: dict[str, Array], metadata: Mapping[str, str]) -> Checkpoint:
    if metadata.get("format") != FORMAT:
        refuse("metadata 'format'", repr(FORMAT), repr(metadata.get("format")))
    if metadata.get("version") != str(VERSION):
        version = repr(metadata.get("version"))
        refuse("version", VERSION, version, "it comes from a newer throughtime: install that one")
    vocabulary = _record(Vocabulary, metadata, "vocabulary")
    settings = _record(Settings, metadata, "settings")
    network = _network(settings, len(vocabulary), _part(tensors, "parameters/"))
    if metadata.get("network") != network.describe():
        refuse("network", network.describe(), metadata.get("network"))
    return Checkpoint(
        network,
        vocabulary,
        settings,
        _part(tensors, "optimiser/"),
        _part(tensors, "state/"),
        _record(Position, metadata, "place"),
        _record(RunLimits, metadata, "plan"),
        _record(TrainingText, metadata, "source"),
        _history(tensors),
        _recent(tensors),
        _record(Launch, metadata, "launch") if "launch" in metadata else Launch(),
    )


def _network(settings: Settings, classes: int, arrays: Mapping[str, Array]) -> Network:
    """The network with the file's parameters; their shapes are compared before it is built."""
    layers = [as_layer(i, spec) for i, spec in enumerate(settings.specs(classes))]
    shapes = {f"{i}.{name}": s for i, x in enumerate(layers) for name, s in x.shapes().items()}
    found = {name: array.shape for name, array in arrays.items()}
    if shapes != found:
        refuse("parameters", shapes, found)
    network = settings.new_network(classes)
    checked = {n: floats(f"parameters/{n}", a, network.dtype, a.shape) for n, a in arrays.items()}
    network.parameters.update(checked)
    return network


def _history(tensors: Mapping[str, Array]) -> list[Record]:
    if "history" not in tensors:
        refuse("history", "an array", "none")
    rows = floats("history", tensors["history"], np.dtype(np.float64), ("N", len(Record._fields)))
    return [Record(int(row[0]), *map(float, row[1:])) for row in rows]


def _recent(tensors: Mapping[str, Array]) -> list[float]:
    """Losses since the last validation; earlier versions saved none."""
    if "recent" not in tensors:
        return []
    return [*map(float, floats("recent", tensors["recent"], np.dtype(np.float64), ("N",)))]


def _record(kind: type[T], metadata: Mapping[str, str], name: str) -> T:
    """A dataclass from its JSON; it checks its own values."""
    if name not in metadata:
        refuse(f"metadata {name!r}", f"{kind.__name__} as JSON", "none")
    try:
        plan: dict[str, Any] = json.loads(metadata[name])
        return kind(**plan)
    except (ValueError, TypeError, RecursionError) as problem:
        refuse(f"metadata {name!r}", f"{kind.__name__} as JSON", _first_words(problem))


def _first_words(problem: Exception) -> str:
    words = str(problem)
    return words if len(words) <= 300 else words[:300] + "…"


def _prefixed(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {prefix + name: array for name, array in arrays.items()}


def _part(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {n.removeprefix(prefix): a for n, a in tensors.items() if n.startswith(prefix)}
