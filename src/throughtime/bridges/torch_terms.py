"""What a torch loss, step by step, has to do with the outputs of the recurrent module below it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array, all_finite, refuse
from throughtime.bridges.torch_run import Seen, array

BASE = 16  # weights of a probe are powers of two, which round nothing: 2⁻⁷ … 2⁸
ROUNDING = 64  # units of rounding within which two gradients count as the same
EXPECTED = "the loss of each step, (T, B) or (T,)"


@dataclass(frozen=True)
class Terms:
    """E_t of every step, and ∂E_t/∂h_t.

    Attributes:
        values: (T, B).
        arriving: (T, B, H).
        at_end: whether there is one loss a sequence, which looks at its last step alone.
    """

    values: Array
    arriving: Array
    at_end: bool


def terms(seen: Seen, loss: Callable[[Any], Any] | None) -> Terms:
    """Evaluates the loss and differentiates what lies above the recurrent module.

    The losses of all steps go back at once; that each of them looks at its own step alone is
    tested, by weighting them differently.

    Raises:
        ValueError, TypeError: for a loss that is not one of each step, or that looks at others.
    """
    found = _evaluated(seen, loss)
    last = seen.inputs.shape[0] - 1 if seen.lengths is None else seen.lengths - 1
    layouts = list(_layouts(seen, tuple(found.shape)))
    if not layouts:
        T, B = seen.inputs.shape[:2]
        refuse("loss", f"{EXPECTED}, for T = {T} and B = {B}", f"shape {tuple(found.shape)}")
    worst = None
    for layout in layouts:
        whole = _gradient(seen, found, layout, None)
        if layout.at_end:
            others = whole.copy()
            others[last, np.arange(others.shape[1])] = 0
            worst = np.abs(others).max(axis=(1, 2))
        else:
            worst = _reach(seen, found, layout, whole)
        if not worst.any():
            return Terms(layout.values(array(found)), whole, layout.at_end)
    assert worst is not None
    refuse(
        "loss",
        "a loss of each step that looks at this step's output alone",
        f"other steps' losses that depend on the output of {seen.title} at step "
        f"{int(worst.argmax())}, past the recurrence",
        "attention, pooling, convolution and a recurrent module above mix steps: look at the "
        "module nearest to the loss (of=…), or give the loss of a model without them",
    )


def _evaluated(seen: Seen, loss: Callable[[Any], Any] | None) -> Any:
    """The loss as it comes, known to be finite and to depend on something."""
    torch = import_module("torch")
    if loss is None:
        way_out = "loss=lambda outputs: nn.functional.cross_entropy(…, reduction='none')"
        refuse("loss", f"a function of the model's outputs: {EXPECTED}", "none", way_out, TypeError)
    found = loss(seen.outputs)
    if not isinstance(found, torch.Tensor):
        refuse("loss", f"a tensor with {EXPECTED}", type(found).__name__, error=TypeError)
    if found.dim() == 0:
        own = getattr(loss, "reduction", None)
        actual = "one number" + (f" (its reduction is {own!r})" if own else "")
        way_out = "which step it came from can no longer be told: reduction='none'"
        refuse("loss", EXPECTED, actual, way_out)
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
class _Layout:
    """One way to read the loss's entries as terms of steps.

    Attributes:
        place: (T, B), which entry is the term of a step of a sequence; −1 where none is.
        share: how many sequences one entry belongs to.
        at_end: whether an entry is the loss of a whole sequence, at its last step.
    """

    place: Array
    share: int = 1
    at_end: bool = False

    def values(self, entries: Array) -> Array:
        """(T, B)."""
        terms = entries.reshape(-1)[self.place] / self.share
        return np.where(self.place < 0, entries.dtype.type(0), terms)

    def spread(self, weights: Array, entries: Array) -> Array:
        """Weights of the steps, (T,), to the entries."""
        found = np.ones(entries.size)
        inside = self.place >= 0
        found[self.place[inside]] = np.repeat(weights, inside.sum(axis=1))
        return found.reshape(entries.shape)


def _layouts(seen: Seen, shape: tuple[int, ...]) -> Iterator[_Layout]:
    """Those that the shape allows; more than one where T = B, or where it is flat."""
    T, B = seen.inputs.shape[:2]
    packed, grid = seen.form.packed, np.arange(T * B)
    if packed is not None and shape == tuple(packed.data.shape[:1]):
        numbers = import_module("torch").arange(1, len(packed.data) + 1)[:, None]
        yield _Layout(seen.form.time_major(numbers).numpy()[..., 0] - 1)  # padded with 0
    for batch_first in (seen.form.batch_first, not seen.form.batch_first):
        if shape in ((B, T) if batch_first else (T, B), (T * B,)):
            yield _Layout(grid.reshape(B, T).T if batch_first else grid.reshape(T, B))
    if shape == (T,):  # added up over sequences
        yield _Layout(np.repeat(np.arange(T)[:, None], B, axis=1), share=B)
    if shape == (B,):
        yield _Layout(np.repeat(np.arange(B)[None], T, axis=0), at_end=True)


def _reach(seen: Seen, found: Any, layout: _Layout, whole: Array) -> Array:
    """By step, how much of the losses of other steps depends on its output; 0 within rounding.

    Weighted with w_t, the gradient of a loss of each step alone is w_t times what it was, exactly.
    The digits of t in base 16 are the weights' exponents, so that any two steps differ in one.
    """
    T = len(whole)
    order = np.random.default_rng(0).permutation(T)
    tolerance = ROUNDING * np.finfo(whole.dtype).eps
    worst = np.zeros(T)
    while order.any():
        weights = np.ldexp(1.0, order % BASE - BASE // 2 + 1)
        probe = _gradient(seen, found, layout, weights)
        expected = whole * weights[:, None, None].astype(whole.dtype)
        wrong = np.abs(probe - expected).max(axis=(1, 2))
        wrong[wrong <= tolerance * np.abs(expected).max(axis=(1, 2))] = 0
        worst = np.maximum(worst, wrong)
        order = order // BASE
    return worst


def _gradient(seen: Seen, found: Any, layout: _Layout, weights: Array | None) -> Array:
    """∂(Σ w_t E_t)/∂(outputs), (T, B, H), that through the final h of the last layer included."""
    torch = import_module("torch")
    seed = torch.ones_like(found)
    if weights is not None:
        seed = torch.from_numpy(layout.spread(weights, array(found))).to(found)
    parts = torch.autograd.grad(
        found, seen.given, grad_outputs=seed, allow_unused=True, retain_graph=True
    )
    if all(part is None for part in parts):
        way_out = "name the one that it depends on: of=…"
        refuse("loss", f"one that depends on the output of {seen.title}", "another", way_out)
    steps, final, *cells = parts
    gradient = array(seen.form.time_major(torch.zeros_like(seen.given[0])))
    if steps is not None:
        gradient = array(seen.form.time_major(steps))
    if final is not None:
        _to_last_step(seen, gradient, array(seen.form.state(final)))
    for part in cells:
        if part is not None and bool(part.any()):
            _refuse_state(seen, "the final c")
    if not all_finite(gradient):
        step = int(np.argwhere(~np.isfinite(gradient))[0][0])
        way_out = "tt.first_nonfinite(model, inputs, loss=…) says where it comes from"
        refuse("loss", "finite derivatives", f"another at step {step}", way_out)
    return gradient


def _to_last_step(seen: Seen, gradient: Array, final: Array) -> None:
    """h_n of the last layer is its output at each sequence's last step."""
    if final[:-1].any():
        _refuse_state(seen, "the final h of a lower layer")
    T, B = gradient.shape[:2]
    last = np.full(B, T - 1) if seen.lengths is None else seen.lengths - 1
    gradient[last, np.arange(B)] += final[-1]


def _refuse_state(seen: Seen, what: str) -> None:
    refuse(
        "loss",
        f"one that depends on the outputs of {seen.title}",
        f"one that also depends on {what}",
        "an encoder's state that a decoder takes over mixes steps: look at the decoder (of=…)",
    )
