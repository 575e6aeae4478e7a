"""What a torch loss, step by step, has to do with the outputs of the recurrent module below it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradient_flow import Losses, OwnStepSource, UpstreamGradient, UpstreamSource
from throughtime.torch.models.loss_layouts import EXPECTED, Layout, layouts
from throughtime.torch.models.observed_run import Seen, array
from throughtime.torch.models.upstream import BySteps, gradient

BASE = 16  # weights of a probe are powers of two, which round nothing: 2⁻⁷ … 2⁸
ROUNDING = 64  # units of rounding within which two gradients count as the same


@dataclass(frozen=True)
class Terms:
    """E_t of every step, and what it hands to the module.

    Attributes:
        values: (T, B).
        arriving: ∂E_t/∂h_t, (T, B, H), where each loss looks at its own step alone; else what
            all of them together hand to step t.
        at_end: whether there is one loss a sequence, which stands at its last step.
        losses: where they look at several steps, or at two directions; else None.
        looked_at: at how many steps one loss of the whole run looks; 0 of other losses.
    """

    values: Array
    arriving: Array
    at_end: bool
    losses: Losses | None = None
    looked_at: int = 0


def terms(seen: Seen, loss: Callable[[Any], Any] | None) -> Terms:
    """Evaluates the loss and differentiates what lies above the recurrent module.

    The losses of all steps go back at once; whether each of them looks at its own step alone is
    tested, by weighting them differently. If not, what each of them hands to every step is found
    one by one, when it is asked for.

    Raises:
        ValueError, TypeError: for a loss that is not one of each step, of each sequence, or of the
            whole run, or whose sequences depend on one another.
    """
    found = _evaluated(seen, loss)
    possible = list(layouts(seen, tuple(found.shape)))
    if not possible:
        T, B = seen.inputs.shape[:2]
        way_out = "or their sum, one loss of the whole run"
        refuse(
            "loss", f"{EXPECTED}, for T = {T} and B = {B}", f"shape {tuple(found.shape)}", way_out
        )
    for layout in possible:
        whole = gradient(seen, found, layout.seed(found))
        if not whole.final and not _others(seen, found, layout, whole.outputs[0]).any():
            values, outputs = layout.values(array(found)), whole.outputs[0]
            if not seen.module.bidirectional:
                return Terms(values, outputs, layout.at_end)
            if not layout.at_end:
                return Terms(values, outputs, False, Losses(OwnStepSource(outputs), whole, values))
    return _mixed(seen, found, possible)


def _mixed(seen: Seen, found: Any, possible: list[Layout]) -> Terms:
    """Of losses that look at several steps, in the layout whose sequences are independent."""
    for layout in sorted(possible, key=lambda one: one.share):
        if layout.share == 1 and not _alone(seen, found, layout):
            continue
        whole = gradient(seen, found, layout.seed(found))
        values = layout.values(array(found))
        last = seen.last
        if layout.at_end:
            own = np.zeros_like(values)
            own[last, np.arange(len(last))] = values[last, np.arange(len(last))]
            values = own
        source: UpstreamSource = BySteps(seen, found, layout)
        steps = int(np.count_nonzero(whole.outputs[0].any(axis=(1, 2)))) if found.dim() == 0 else 0
        return Terms(values, whole.outputs[0], False, Losses(source, whole, values), steps)
    refuse(
        "loss",
        "losses of a sequence that depend on the outputs of this sequence alone",
        "others",
        "what mixes the sequences of a batch has one loss for all of them: give its sum",
    )


def _others(seen: Seen, found: Any, layout: Layout, whole: Array) -> Array:
    """By step, how much of the losses of other steps depends on its output; 0 within rounding."""
    if layout.at_end:
        others = whole.copy()
        others[seen.last, np.arange(others.shape[1])] = 0
        return np.asarray(np.abs(others).max(axis=(1, 2)))
    return _reach(seen, found, layout, {"": whole}, 0)


def _alone(seen: Seen, found: Any, layout: Layout) -> bool:
    """Whether the losses of each sequence depend on what the module gives for it alone."""
    whole = _named(gradient(seen, found, layout.seed(found)))
    return not _reach(seen, found, layout, whole, 1).any()


def _named(upstream: UpstreamGradient) -> dict[str, Array]:
    return {"": upstream.outputs[0], **upstream.final}


def _reach(seen: Seen, found: Any, layout: Layout, whole: Mapping[str, Array], axis: int) -> Array:
    """By step (axis 0) or sequence (1), how much of others' losses depends on it.

    0 within rounding.

    Weighted with w, the gradient of a loss of each step alone is w_t times what it was, exactly.
    The digits of t in base 16 are the weights' exponents, so that any two steps differ in one.
    """
    order = np.random.default_rng(0).permutation(whole[""].shape[axis])
    dtype = whole[""].dtype
    tolerance = ROUNDING * np.finfo(dtype).eps
    worst = np.zeros(len(order))
    rest = (1, 2) if axis == 0 else (0, 2)
    while order.any():
        weights = np.ldexp(1.0, order % BASE - BASE // 2 + 1).astype(dtype)
        probe = _named(gradient(seen, found, layout.spread(weights, found, axis)))
        for name, one in whole.items():
            own, expected = (
                probe.get(name, dtype.type(0)),
                one * (weights[:, None, None] if axis == 0 else weights[:, None]),
            )
            wrong = np.abs(own - expected).max(axis=rest)
            wrong[wrong <= tolerance * np.abs(expected).max(axis=rest)] = 0
            worst = np.maximum(worst, wrong)
        order = order // BASE
    return worst


def _evaluated(seen: Seen, loss: Callable[[Any], Any] | None) -> Any:
    """The loss as it comes, known to be finite and to depend on something."""
    torch = import_module("torch")
    if loss is None:
        way_out = "loss=lambda outputs: nn.functional.cross_entropy(…, reduction='none')"
        refuse("loss", f"a function of the model's outputs: {EXPECTED}", "none", way_out, TypeError)
    found = loss(seen.outputs)
    if not isinstance(found, torch.Tensor):
        refuse("loss", f"a tensor with {EXPECTED}", type(found).__name__, error=TypeError)
    if not found.is_floating_point():
        refuse("loss", "floating-point numbers", found.dtype, error=TypeError)
    if not bool(torch.isfinite(found).all()):
        place = tuple(int(i) for i in torch.argwhere(~torch.isfinite(found))[0])
        value = float(found[place].detach())
        way_out = "tt.first_nonfinite(model, inputs, loss=…) says where it comes from"
        refuse("loss", "finite numbers", f"{value} at {place}", way_out)
    if not found.requires_grad:
        way_out = "look for .detach(), .item() or torch.no_grad() above it, or name another: of=…"
        refuse("loss", f"one that depends on the output of {seen.title}", "another", way_out)
    return found
