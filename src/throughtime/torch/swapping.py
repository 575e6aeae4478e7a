"""`accelerate` and `restore`: a module changes its class and stays the object that it is."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch

from throughtime.arrays import refuse
from throughtime.torch.classes import Class, derived, over, restored
from throughtime.torch.modules import GRU, LSTM, RNN

SWAPS: dict[Class, Class] = {torch.nn.RNN: RNN, torch.nn.LSTM: LSTM, torch.nn.GRU: GRU}


def accelerate(model: torch.nn.Module, *, memory_limit: int | str | None = None) -> int:
    """Makes the engine compute every `torch.nn.RNN`, `LSTM` and `GRU` inside a model.

    Each such module stays the object that it is, and an instance of its class; its class becomes
    one of `throughtime.torch`'s, or derives from one. Its parameters, hooks and place in the model
    are the same, an optimiser that was made before goes on, and outputs and gradients are the same
    up to rounding. So it is with parametrised modules and with classes derived from torch's whose
    forward pass is torch's, or calls it by `super().forward`. A warning names the others, and why
    they are left alone.

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
    named = dict(model.named_modules())
    recurrent = {name: m for name, m in named.items() if _is_recurrent(m)}
    left, count = {}, 0
    for name, module in recurrent.items():
        if isinstance(module, RNN | LSTM | GRU):
            continue
        if reason := _reason_to_leave(module):
            left[name] = reason
            continue
        module.__class__ = over(type(module), _swapped)
        module.accelerated = True
        module.memory_limit = memory_limit
        count += 1
    if left:
        _say("accelerate", recurrent, left)
    elif not recurrent:
        message = "throughtime.torch.accelerate: no torch.nn.RNN, LSTM or GRU in this model"
        warnings.warn(message, stacklevel=2)
    return count


def restore(model: torch.nn.Module) -> int:
    """Undoes `accelerate`; modules that were made as `throughtime.torch`'s stay what they are.

    Returns:
        how many modules are torch's again; a warning names those that stay.
    """
    _module(model)
    ours = {n: m for n, m in model.named_modules() if isinstance(m, RNN | LSTM | GRU)}
    left, count = {}, 0
    for name, module in ours.items():
        if not module.__dict__.get("accelerated"):
            left[name] = "it was built as throughtime.torch's"
            continue
        del module.accelerated, module.memory_limit
        module.__class__ = over(type(module), restored)
        count += 1
    if left:
        _say("restore", ours, left)
    return count


def _module(model: object) -> None:
    if not isinstance(model, torch.nn.Module):
        refuse("model", "a torch.nn.Module", type(model).__name__, error=TypeError)


def _say(what: str, modules: dict[str, Any], left: dict[str, str]) -> None:
    """Names the modules that were left as they are."""
    parts = []
    for name, reason in left.items():
        kind = _kind(modules[name])
        parts.append(f"{name!r} ({kind}): {reason}" if name else f"the {kind}: {reason}")
    message = f"throughtime.torch.{what} leaves as it is " + "; ".join(parts)
    warnings.warn(message, stacklevel=3)


def _kind(module: Any) -> str:
    return str(getattr(module, "original_name", type(module).__name__))


def _is_recurrent(module: Any) -> bool:
    """Whether it is one of torch's or ours, or a script that was made from one."""
    if isinstance(module, torch.jit.ScriptModule):
        return _kind(module) in ("RNN", "LSTM", "GRU")
    return isinstance(module, tuple(SWAPS))


def _reason_to_leave(module: Any) -> str:
    """Why a module cannot be swapped; empty where it can."""
    if isinstance(module, torch.jit.ScriptModule):
        return "a script is compiled already; accelerate the model before"
    if "forward" in vars(module):
        return "its forward method was replaced on the object"
    cls = type(module)
    for one in cls.__mro__[: cls.__mro__.index(_torchs(cls))]:
        if "forward" in vars(one) and not _calls_super(vars(one)["forward"]):
            return f"{one.__name__}.forward computes by itself, without super().forward"
    return ""


def _calls_super(function: Any) -> bool:
    """Whether it says `super()`, for which Python gives a function its class."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and "__class__" in code.co_freevars


def _torchs(cls: Class) -> Class:
    """The class of torch's that this one derives from."""
    return next(torchs for torchs in SWAPS if issubclass(cls, torchs))


def _swapped(cls: Class) -> Class:
    return SWAPS[cls] if cls in SWAPS else derived(cls, SWAPS[_torchs(cls)])
