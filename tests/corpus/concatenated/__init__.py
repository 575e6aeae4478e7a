"""NumPy, one matrix a layer for `[h, x]`, rows as vectors, a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from corpus.concatenated.model import Model, parameters
from corpus.setting import Setting
from throughtime.arrays import Array
from throughtime.gradcheck import Target

FEATURES = frozenset({"regression", "relu", "layers", "dropout", "ragged", "states", "batch"})
FEATURES |= {"projection", "bidirectional"}
LACKS: Mapping[str, tuple[str, ...]] = {}  # faults, and in which cells


def target(setting: Setting, given: Mapping[str, Array] | None = None) -> Target:
    """The model as a target; `given` are parameters that it shares."""
    shared = parameters(setting) if given is None else given
    model = Model(setting, shared)
    return Target(
        shared,
        model.loss,
        model.gradient,
        reset=model.reset,
        at_length=lambda T: target(replace(setting, T=T), shared),
        steps=setting.T,
    )
