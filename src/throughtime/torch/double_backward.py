"""Gradients by autograd, in a backward pass that the engine cannot do on its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from throughtime.torch.weights import Maybe


def gradients(
    function: Callable[..., Any], inputs: Sequence[Maybe], arriving: Sequence[Maybe], create: bool
) -> tuple[Maybe, ...]:
    """Of `function` by those of its inputs that require them, from the gradients by its results.

    Args:
        function: takes the inputs, returns as many results as there are `arriving`.
        inputs: tensors, or None.
        arriving: None where there is no gradient by a result.
        create: whether what comes out is to be differentiated again.
    """
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        # Each apart from the others, of which it may be a function.
        own = [None if t is None else _apart(t, create) for t in inputs]
        results = function(*own)
        asked = [t for t in own if t is not None and t.requires_grad]
        pairs = [(y, d) for y, d in zip(results, arriving, strict=True) if d is not None]
        found = iter(
            torch.autograd.grad(
                [y for y, _ in pairs],
                asked,
                [d for _, d in pairs],
                create_graph=create,
                allow_unused=True,
            )
        )
    return tuple(next(found) if t is not None and t.requires_grad else None for t in own)


def _apart(tensor: torch.Tensor, create: bool) -> torch.Tensor:
    if create:
        return tensor.view_as(tensor)
    return tensor.detach().requires_grad_(tensor.requires_grad)
