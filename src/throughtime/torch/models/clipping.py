"""Norms of the gradients that a torch model would be trained with, for advice on clipping."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from importlib import import_module
from itertools import islice
from typing import Any

from throughtime.arrays import refuse
from throughtime.gradient_flow import CLIPPING_WINDOWS, Clipping, clipping_of
from throughtime.torch.models.targets import kept_buffers

EXPECTED = "losses, each one number that can be differentiated"


def torch_clipping(module: Any, windows: Iterable[Any], given: float | None) -> Clipping | None:
    """Differentiates up to 64 losses by all parameters of the model, without updating anything.

    Args:
        windows: the losses of windows or batches as they are trained with, made when they are
            asked for. Buffers and random generators are put back afterwards, and no `.grad` is
            touched.
        given: the threshold that is asked about.
    """
    torch = import_module("torch")
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        refuse("windows", "a model with parameters that require a gradient", "none")
    devices = sorted({p.device.index for p in parameters if p.is_cuda})
    norms = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(kept_buffers(module))
        for number, loss in enumerate(islice(windows, CLIPPING_WINDOWS)):
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
                shape = getattr(loss, "shape", type(loss).__name__)
                actual = f"{shape} at place {number}"
                way_out = "windows=(criterion(model(x), y) for x, y in batches)"
                refuse("windows", EXPECTED, actual, way_out, error=TypeError)
            parts = torch.autograd.grad(loss, parameters, allow_unused=True)
            own = [torch.linalg.vector_norm(part).double() for part in parts if part is not None]
            if not own:
                refuse("windows", "losses of this model's parameters", f"another at place {number}")
            norms.append(float(torch.linalg.vector_norm(torch.stack([one.cpu() for one in own]))))
    if not norms:
        refuse("windows", EXPECTED, "none")
    return clipping_of(norms, None, given)
