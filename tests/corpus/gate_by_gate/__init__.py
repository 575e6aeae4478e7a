"""NumPy, gate by gate: dictionaries of matrices, columns as vectors, one sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from corpus.gate_by_gate.model import Model, parameters
from corpus.setting import Setting
from throughtime.arrays import Array
from throughtime.gradcheck import Target

FEATURES = frozenset({"regression", "states"})
LACKS: Mapping[str, tuple[str, ...]] = {
    "wrong_matrix": ("RNN",),
    "state_carried": ("RNN", "GRU", "LSTM"),
    "accumulated_without_zeroing": ("RNN", "GRU", "LSTM"),
}  # faults, and in which cells


def target(setting: Setting, given: dict[str, Array] | None = None) -> Target:
    """The model as a target; `given` are parameters that it shares."""
    shared = parameters(setting) if given is None else given
    model = Model(setting, shared)
    return Target(
        shared,
        model.loss,
        model.gradient,
        at_length=lambda T: target(replace(setting, T=T), shared),
        steps=setting.T,
    )
