"""torch, each layer a custom `autograd.Function` with a backward pass of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from corpus.setting import Setting
from corpus.torch_function.model import Model, parameters
from throughtime.arrays import Array
from throughtime.gradcheck import Target

FEATURES = frozenset({"states", "batch"})
LACKS: Mapping[str, tuple[str, ...]] = {
    "wrong_matrix": ("RNN",),
    "state_carried": ("RNN", "GRU", "LSTM"),
}  # faults, and in which cells


def target(setting: Setting, given: Mapping[str, Array] | None = None) -> Target:
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
