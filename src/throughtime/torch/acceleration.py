"""A model's recurrent modules, swapped for this package's and back."""

from __future__ import annotations

import warnings

import torch

from throughtime.arrays import refuse
from throughtime.torch.modules import GRU, LSTM, RNN

SWAPS = {torch.nn.RNN: RNN, torch.nn.LSTM: LSTM, torch.nn.GRU: GRU}
BACK = {ours: torchs for torchs, ours in SWAPS.items()}


def accelerate(model: torch.nn.Module, *, memory_limit: int | str | None = None) -> int:
    """Lets the engine compute every `torch.nn.RNN`, `LSTM` and `GRU` inside a model.

    Each such module stays the object that it is and becomes one of `throughtime.torch`'s: its
    parameters, hooks and place in the model are the same, an optimiser that was made before
    goes on, outputs and gradients are the same up to rounding. Classes derived from torch's are
    left alone, since they may compute something else; so are all other modules.

    Args:
        model: any module; it may itself be a recurrent one.
        memory_limit: for each of the modules, as in `throughtime.torch.LSTM`.

    Returns:
        how many modules were swapped; 0 where all had been before.

    Example:
        >>> import torch
        >>> import throughtime as tt
        >>> model = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(3, 4), "head": torch.nn.Linear(4, 2)})
        >>> tt.torch.accelerate(model), tt.torch.accelerate(model), tt.torch.restore(model)
        (1, 0, 1)
    """
    _module(model)
    modules = list(model.modules())
    found = [module for module in modules if type(module) in SWAPS]
    for module in found:
        module.__class__ = SWAPS[type(module)]
        module.accelerated = True
        module.memory_limit = memory_limit
    if not any(type(module) in BACK for module in modules):
        message = "throughtime.torch.accelerate: no torch.nn.RNN, LSTM or GRU in this model"
        warnings.warn(message, stacklevel=2)
    return len(found)


def restore(model: torch.nn.Module) -> int:
    """Undoes `accelerate`; modules that were made as `throughtime.torch`'s stay what they are.

    Returns:
        how many modules are torch's again.
    """
    _module(model)
    found = [m for m in model.modules() if type(m) in BACK and m.__dict__.get("accelerated")]
    for module in found:
        del module.accelerated, module.memory_limit
        module.__class__ = BACK[type(module)]
    return len(found)


def _module(model: object) -> None:
    if not isinstance(model, torch.nn.Module):
        refuse("model", "a torch.nn.Module", type(model).__name__, error=TypeError)
