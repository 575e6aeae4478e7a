"""What a torch loss has to do, step by step, with the outputs of a recurrent module below it.

First the entries of the loss are read as losses of steps and sequences, then torch differentiates
them by what the module gives to the rest of the model: its outputs and its last states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array, all_finite, refuse
from throughtime.gradient_flow import Losses, OwnStepSource, UpstreamGradient, UpstreamSource
from throughtime.torch.models.observed_run import array
from throughtime.torch.models.observing import Seen
from throughtime.torch.models.tolerances import SAME_GRADIENT_ROUNDINGS

EXPECTED = "the loss of each step, (T, B) or (T,), of each sequence, (B,), or one number"
BASE = 16  # weights of a probe are powers of two, which round nothing: 2⁻⁷ … 2⁸


@dataclass(frozen=True)
class StepLosses:
    """The losses E_t of all steps, and their gradients by the module's outputs.

    Attributes:
        values: (T, B).
        upstream: (T, B, H), ∂E_t/∂h_t where each loss looks at its own step alone; otherwise the
            gradient of all losses together by h_t.
        at_end: whether there is one loss a sequence, which stands at its last step.
        losses: where they look at several steps, or at two directions; otherwise None.
        looked_at: at how many steps a single loss of the whole run looks; 0 for other losses.
    """

    values: Array
    upstream: Array
    at_end: bool
    losses: Losses | None = None
    looked_at: int = 0


def step_losses(
    seen: Seen, loss: Callable[[Any], Any] | None, batch_first: bool | None = None
) -> StepLosses:
    """Evaluates the loss and differentiates what lies above the recurrent module.

    The losses of all steps are differentiated at once, and weighting them differently shows
    whether each of them looks at its own step alone. If not, the gradient of each of them by
    every step is computed one by one, when it is asked for.

    Raises:
        ValueError, TypeError: for a loss that is not one of each step, of each sequence, or of the
            whole run, or whose sequences depend on one another.
    """
    found = _evaluated(seen, loss)
    possible = list(loss_layouts(seen, tuple(found.shape), batch_first))
    if not possible:
        T, B = seen.living.shape
        way_out = "or their sum, one loss of the whole run"
        expected = EXPECTED.replace("(T, B)", "(B, T)") if batch_first else EXPECTED
        actual = f"shape {tuple(found.shape)}"
        refuse("loss", f"{expected}, for T = {T} and B = {B}", actual, way_out)
    for layout in possible:
        total = upstream_gradient(seen, found, layout.seed(found))
        own = not total.final and not total.inner
        if own and not _by_other_steps(seen, found, layout, total.outputs[0]).any():
            values, outputs = layout.values(array(found)), total.outputs[0]
            if not seen.bidirectional:
                return StepLosses(values, outputs, layout.at_end)
            if not layout.at_end:
                return StepLosses(
                    values, outputs, False, Losses(OwnStepSource(outputs), total, values)
                )
    return _mixed(seen, found, possible)


def _mixed(seen: Seen, found: Any, possible: list[LossLayout]) -> StepLosses:
    """Losses that look at several steps, in the layout whose sequences are independent."""
    for layout in sorted(possible, key=lambda one: one.share):
        if layout.share == 1 and not _sequences_apart(seen, found, layout):
            continue
        total = upstream_gradient(seen, found, layout.seed(found))
        values = layout.values(array(found))
        last = seen.last
        if layout.at_end:
            own = np.zeros_like(values)
            own[last, np.arange(len(last))] = values[last, np.arange(len(last))]
            values = own
        source: UpstreamSource = StepByStepSource(seen, found, layout)
        steps = int(np.count_nonzero(total.outputs[0].any(axis=(1, 2)))) if found.dim() == 0 else 0
        return StepLosses(values, total.outputs[0], False, Losses(source, total, values), steps)
    refuse(
        "loss",
        "losses of a sequence that depend on the outputs of this sequence alone",
        "others",
        "what mixes the sequences of a batch has one loss for all of them: give its sum",
    )


def _by_other_steps(seen: Seen, found: Any, layout: LossLayout, total: Array) -> Array:
    """By step, how much the losses of other steps depend on its output; 0 within rounding."""
    if layout.at_end:
        others = total.copy()
        others[seen.last, np.arange(others.shape[1])] = 0
        return np.asarray(np.abs(others).max(axis=(1, 2)))
    return _dependence(seen, found, layout, {"": total}, 0)


def _sequences_apart(seen: Seen, found: Any, layout: LossLayout) -> bool:
    """Whether the losses of each sequence depend on what the module gives for it alone."""
    total = _named(upstream_gradient(seen, found, layout.seed(found)))
    return not _dependence(seen, found, layout, total, 1).any()


def _named(upstream: UpstreamGradient) -> dict[str, Array]:
    inner = {f"{name} of every step": part[0] for name, part in upstream.inner.items()}
    return {"": upstream.outputs[0], **upstream.final, **inner}


def _dependence(
    seen: Seen, found: Any, layout: LossLayout, total: Mapping[str, Array], axis: int
) -> Array:
    """By step (axis 0) or sequence (1), how much the losses of others depend on it.

    It is 0 within rounding where they do not. Where each loss depends on its own step alone,
    weighting the losses with w multiplies the gradient by h_t with w_t, exactly. The exponents of
    the weights are the digits of t in base 16, so that any two steps differ in one of them.
    """
    order = np.random.default_rng(0).permutation(total[""].shape[axis])
    dtype = total[""].dtype
    tolerance = SAME_GRADIENT_ROUNDINGS * np.finfo(dtype).eps
    worst = np.zeros(len(order))
    rest = (1, 2) if axis == 0 else (0, 2)
    while order.any():
        weights = np.ldexp(1.0, order % BASE - BASE // 2 + 1).astype(dtype)
        probe = _named(upstream_gradient(seen, found, layout.spread(weights, found, axis)))
        for name, one in total.items():
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
    """The loss as the user's function returns it, once it is known to be a finite tensor."""
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


@dataclass(frozen=True)
class LossLayout:
    """One way to read the entries of the loss as losses of steps.

    Attributes:
        place: (T, B), which entry is the loss of a step of a sequence; −1 where none is.
        share: how many sequences one entry belongs to.
        at_end: whether an entry is the loss of a total sequence or run, at its last step.
    """

    place: Array
    share: int = 1
    at_end: bool = False

    def values(self, entries: Array) -> Array:
        """The losses (T, B)."""
        terms = entries.reshape(-1)[self.place] / self.share
        return np.where(self.place < 0, entries.dtype.type(0), terms)

    def seed(self, found: Any) -> Any:
        """1 for every entry that is the loss of a step."""
        return self.of_steps(found, np.arange(len(self.place)))

    def of_steps(self, found: Any, steps: Array) -> Any:
        """1 for the entries of these steps."""
        weights = np.zeros(found.numel())
        own = self.place[steps]
        weights[own[own >= 0]] = 1
        return _like(found, weights)

    def spread(self, weights: Array, found: Any, axis: int) -> Any:
        """The entries' weights, from those of the steps (T,), or on axis 1 the sequences (B,)."""
        entries = np.zeros(found.numel())
        inside = self.place >= 0
        each = np.broadcast_to(weights[:, None] if axis == 0 else weights, inside.shape)
        entries[self.place[inside]] = each[inside]
        return _like(found, entries)


def _like(found: Any, entries: Array) -> Any:
    return import_module("torch").from_numpy(entries.reshape(tuple(found.shape))).to(found)


def loss_layouts(
    seen: Seen, shape: tuple[int, ...], given: bool | None = None
) -> Iterator[LossLayout]:
    """The layouts that the shape allows: more than one where T = B, or where it is flat.

    Args:
        given: whether the batch comes first, if that is known.
    """
    lasting = seen.living
    T, B = lasting.shape
    packed, grid = seen.format.packed, np.arange(T * B)
    if packed is not None and shape == tuple(packed.data.shape[:1]):
        numbers = import_module("torch").arange(1, len(packed.data) + 1)[:, None]
        yield LossLayout(seen.format.time_major(numbers).numpy()[..., 0] - 1)  # padded with 0
    likelier = seen.format.batch_first
    for batch_first in (likelier, not likelier) if given is None else (given,):
        if shape in ((B, T) if batch_first else (T, B), (T * B,)):
            place = grid.reshape(B, T).T if batch_first else grid.reshape(T, B)
            yield LossLayout(seen.arranged(np.where(lasting, place, -1), False))
    if shape == (T,) and seen.aligned:  # added up over sequences
        place = np.repeat(np.arange(T)[:, None], B, axis=1)
        yield LossLayout(seen.arranged(np.where(lasting, place, -1), False), share=B)
    if shape == (B,):
        place = np.repeat(np.arange(B)[None], T, axis=0)
        yield LossLayout(seen.arranged(place, True), at_end=True)
    if not shape:
        place = np.zeros(seen.inputs.shape[:2], np.intp)
        yield LossLayout(place, share=place.shape[1], at_end=True)


class StepByStepSource:
    """The losses of a run one by one, each a backward pass through what lies above the module."""

    own_steps = False

    def __init__(self, seen: Seen, found: Any, layout: LossLayout) -> None:
        self.seen, self.found, self.layout = seen, found, layout
        self.single = layout.at_end

    def gradients(self, steps: Array) -> UpstreamGradient:
        """Of the losses of these steps; of the single loss, whatever the steps are."""
        if self.single:
            return upstream_gradient(self.seen, self.found, self.layout.seed(self.found))
        seeds = [self.layout.of_steps(self.found, np.array([step])) for step in steps]
        each = [upstream_gradient(self.seen, self.found, seed) for seed in seeds]
        final = _side_by_side([one.final for one in each])
        inner = _side_by_side([one.inner for one in each])
        return UpstreamGradient(np.concatenate([one.outputs for one in each]), final, inner)


def _side_by_side(each: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Arrays (1, …) by name as (n, …); 0 where one has none of that name."""
    names = {name: part for one in each for name, part in one.items()}
    return {
        name: np.concatenate([one.get(name, np.zeros_like(part)) for one in each])
        for name, part in names.items()
    }


def upstream_gradient(seen: Seen, found: Any, seed: Any) -> UpstreamGradient:
    """The gradient of the entries of `found`, added up with the weights `seed`; n = 1.

    Last states on which nothing depends are left out.
    """
    torch = import_module("torch")
    parts = torch.autograd.grad(
        found, seen.given, grad_outputs=seed, allow_unused=True, retain_graph=True
    )
    if all(part is None for part in parts):
        way_out = "name the one that it depends on: of=…"
        refuse("loss", f"one that depends on the output of {seen.title}", "another", way_out)
    arrived = seen.arrived(parts)
    places = [("", one) for one in (arrived.outputs, *arrived.inner.values())]
    places += [("in the last state", one) for one in arrived.final.values()]
    for where, values in places:
        if not all_finite(values):
            way_out = "tt.first_nonfinite(model, inputs, loss=…) says where it comes from"
            bad = int(np.argwhere(~np.isfinite(values))[0][1])
            refuse("loss", "finite derivatives", f"another {where or f'at step {bad}'}", way_out)
    return UpstreamGradient(
        arrived.outputs,
        {name: part for name, part in arrived.final.items() if part.any()},
        {name: part for name, part in arrived.inner.items() if part.any()},
    )
