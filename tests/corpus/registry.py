"""Which styles there are, and how one is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from shutil import which
from types import ModuleType
from typing import Any, NamedTuple

from corpus.compiled.library import COMPILERS
from corpus.faults import CELLS, FAULTS
from corpus.setting import Setting
from throughtime.arrays import refuse
from throughtime.gradcheck import Target

STYLES = ("gate_by_gate", "concatenated", "torch_function", "compiled")
OPTIONAL = (
    "layers",
    "dropout",
    "ragged",
    "states",
    "projection",
    "bidirectional",
)  # what not every style has
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("", {}),
    ("", {"time": "sum"}),
    ("batch", {"time": "sum", "batch": "sum"}),
    ("", {"decay": 0.05}),
    ("regression", {"task": "regression"}),
    ("regression", {"task": "regression", "root": True}),
    ("relu", {"activation": "relu"}),
    ("layers", {"layers": 2}),
    ("dropout", {"dropout": 0.5}),
    ("ragged", {"ragged": True}),
    ("states", {"states": True}),
    ("projection", {"projection": True, "layers": 2}),
    ("bidirectional", {"bidirectional": True, "layers": 2, "ragged": True}),
)


class Entry(NamedTuple):
    """One implementation with one mistake."""

    style: str
    cell: str
    fault: str


def absent() -> dict[str, str]:
    """Styles that this machine cannot run, and what they lack."""
    lacking = {}
    if find_spec("torch") is None:
        lacking["torch_function"] = "torch is not installed"
    if not any(map(which, COMPILERS)):
        lacking["compiled"] = "no C++ compiler: " + ", ".join(COMPILERS)
    return lacking


def styles() -> tuple[str, ...]:
    """Styles that this machine can run."""
    lacking = absent()
    return tuple(style for style in STYLES if style not in lacking)


def make(
    style: str, cell: str, faults: str | Iterable[str] = (), *, plain: bool = False, **sizes: Any
) -> Target:
    """An implementation as a target.

    The network gets what its faults take to show: an L2 term where that is to be forgotten, two
    layers where the lower one is to be overwritten.

    Args:
        style: one of `styles()`.
        cell: "RNN", "GRU" or "LSTM".
        faults: one name or several, from `FAULTS`; none: the gradient is right.
        plain: whether the network that these faults need is wanted, but without them.
        sizes: what else `Setting` has: T, B, I, H, O, dtype, seed, init, time, batch, task, …

    Raises:
        ValueError: where the style has no such cell, fault or feature.

    Example:
        >>> import throughtime as tt
        >>> import corpus
        >>> right = corpus.make("concatenated", "LSTM", T=5)
        >>> tt.check(right).verdict
        'agree'
        >>> wrong = corpus.make("concatenated", "LSTM", "dh_next_missing", T=5)
        >>> tt.check(wrong).verdict
        'disagree'
    """
    room = _room(style)
    if cell not in CELLS:
        refuse("cell", "one of " + ", ".join(CELLS), repr(cell))
    names = (faults,) if isinstance(faults, str) else tuple(faults)
    for name in names:
        if name not in (known := faults_of(style, cell)):
            some = "some of " + ", ".join(known)
            refuse(f"faults of {style}, {cell}", some, repr(name))
    needs = setting_of(names)
    clash = [key for key in sizes if key in needs and sizes[key] != needs[key]]
    if clash:
        refuse(clash[0], f"{needs[clash[0]]!r} for {' and '.join(names)}", repr(sizes[clash[0]]))
    alone = {} if "batch" in room.FEATURES else {"B": 1}
    setting = Setting(cell, **(alone | sizes | needs), faults=frozenset(() if plain else names))
    _supported(style, room, setting)
    target: Target = room.target(setting)
    return target


def setting_of(faults: Iterable[str]) -> dict[str, Any]:
    """What of a setting these faults need together."""
    needs: dict[str, Any] = {}
    for name in faults:
        for key, value in FAULTS[name].needs.items():
            if needs.setdefault(key, value) != value:
                refuse("faults", f"{key}={needs[key]!r}", f"{name}, which needs {key}={value!r}")
    return needs


def catalogue(*chosen: str) -> tuple[Entry, ...]:
    """Every implementation with every one of its mistakes; of some styles only, where given."""
    return tuple(
        Entry(style, cell, fault)
        for style in chosen or styles()
        for cell in CELLS
        for fault in faults_of(style, cell)
    )


def faults_of(style: str, cell: str) -> tuple[str, ...]:
    """The mistakes that a style's cell can have."""
    room = _room(style)
    return tuple(
        name
        for name, fault in FAULTS.items()
        if cell in fault.cells
        and cell not in room.LACKS.get(name, ())
        and {key for key in fault.needs if key in OPTIONAL} <= room.FEATURES
        and (fault.needs.get("task") != "regression" or "regression" in room.FEATURES)
        and (fault.at_least.get("B", 1) == 1 or "batch" in room.FEATURES)
    )


def features(style: str) -> frozenset[str]:
    """What a style's network can have beside the plain one, see `Setting`."""
    known: frozenset[str] = _room(style).FEATURES
    return known


def correct(*chosen: str) -> tuple[tuple[str, str, Mapping[str, Any]], ...]:
    """Every implementation without a mistake, in every variant that its style has."""
    return tuple(
        (style, cell, setting)
        for style in chosen or styles()
        for cell in CELLS
        for feature, setting in VARIANTS
        if (not feature or feature in _room(style).FEATURES)
        and (feature != "relu" or cell == "RNN")
        and (feature != "projection" or cell == "LSTM")
    )


@cache
def _room(style: str) -> ModuleType:
    lacking = absent()
    if style not in STYLES:
        refuse("style", "one of " + ", ".join(STYLES), repr(style))
    if style in lacking:
        refuse("style", "one that this machine can run", f"{style}: {lacking[style]}")
    return import_module(f"corpus.{style}")


def _supported(style: str, room: ModuleType, s: Setting) -> None:
    asked = {
        "regression": s.task == "regression",
        "relu": s.activation == "relu",
        "layers": s.layers > 1,
        "dropout": s.dropout > 0,
        "ragged": s.ragged,
        "states": s.states,
        "projection": s.projection,
        "bidirectional": s.bidirectional,
        "batch": s.B > 1,
    }
    if s.projection and s.cell != "LSTM":
        refuse("projection", "an LSTM", s.cell)
    for feature, wanted in asked.items():
        if wanted and feature not in room.FEATURES:
            refuse(
                style,
                "one of " + ", ".join(sorted(room.FEATURES)) + " beside the plain network",
                feature,
            )
