"""A torch.autograd.Function, or any function of torch tensors, as a target."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from throughtime.arrays import refuse
from throughtime.gradcheck import CheckError, Target
from throughtime.torch.models.targets import Run
from throughtime.torch.models.tensors import walk


def is_function(what: object, *data: Any) -> bool:
    """Whether this is a Function, its `apply`, or a callable followed by tensors."""
    torch = sys.modules.get("torch")
    if torch is None or not callable(what):
        return False
    if _function_class(what) is not None:
        return True
    return any(True for part in data for _ in walk("", part))


def function_target(
    function: Any,
    *inputs: Any,
    loss: Callable[[Any], Any] | None = None,
    reset: Callable[[], object] | None = None,
    at_length: Callable[[int], Target] | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> Target:
    """A function of tensors; checked are the tensors that require a gradient.

    Args:
        function: a subclass of `torch.autograd.Function`, its `apply`, or any function.
        inputs: what it is called with.
        loss: of the outputs, as for a module; by default they are weighted at random.
        reset, at_length, steps: as in Target.
        seed: of torch's random generators and of the weights.

    Raises:
        CheckError: where no tensor requires a gradient.
    """
    owner = _function_class(function)
    call = function if owner is None else owner.apply
    names = _names(function if owner is None else owner.forward, owner, len(inputs))
    tensors = {
        path: tensor
        for name, value in zip(names, inputs, strict=True)
        for path, tensor in walk(name, value)
        if tensor.requires_grad
    }
    if not tensors:
        way_out = "say which ones are to be checked: .requires_grad_()"
        refuse("inputs", "a tensor that requires a gradient", "none", way_out, error=CheckError)
    return Run(call, inputs, tensors, loss, seed=seed).target(reset, at_length, steps)


def _function_class(what: Any) -> Any:
    """The Function that this is, or whose `apply` it is; None for everything else."""
    torch = sys.modules["torch"]
    for owner in (what, getattr(what, "__self__", None)):
        if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
            return owner
    return None


def _names(function: Callable[..., Any], owner: Any, count: int) -> list[str]:
    """The arguments' names, as the function's author calls them; inputs[k] where they have none."""
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        arguments = {}.values()
    single = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [argument.name for argument in arguments if argument.kind in single]
    if owner is not None and owner.setup_context is _base().setup_context:
        names = names[1:]  # ctx comes first, unless it is set up elsewhere
    return [names[k] if k < len(names) else f"inputs[{k}]" for k in range(count)]


def _base() -> Any:
    return sys.modules["torch"].autograd.Function
