"""What a torch loss hands to a recurrent module: derivatives by its outputs and last states."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array, all_finite, refuse
from throughtime.gradient_flow import UpstreamGradient
from throughtime.torch.models.loss_layouts import Layout
from throughtime.torch.models.observed_run import Seen, array


class BySteps:
    """The losses of a run one by one, each a backward pass through what lies above the module."""

    own_steps = False

    def __init__(self, seen: Seen, found: Any, layout: Layout) -> None:
        self.seen, self.found, self.layout = seen, found, layout
        self.single = layout.at_end

    def gradients(self, steps: Array) -> UpstreamGradient:
        """By the losses of these steps; by the single one, whatever the steps are."""
        if self.single:
            return gradient(self.seen, self.found, self.layout.seed(self.found))
        each = [
            gradient(self.seen, self.found, self.layout.of_steps(self.found, np.array([step])))
            for step in steps
        ]
        names = {name: part for one in each for name, part in one.final.items()}
        final = {
            name: np.concatenate([one.final.get(name, np.zeros_like(part)) for one in each])
            for name, part in names.items()
        }
        return UpstreamGradient(np.concatenate([one.outputs for one in each]), final)


def gradient(seen: Seen, found: Any, seed: Any) -> UpstreamGradient:
    """Of the entries of `found`, added up with the weights `seed`; n = 1.

    The last h of the highest layer is an output, and counts as one. Last states on which nothing
    depends are left out.
    """
    torch = import_module("torch")
    parts = torch.autograd.grad(
        found, seen.given, grad_outputs=seed, allow_unused=True, retain_graph=True
    )
    if all(part is None for part in parts):
        way_out = "name the one that it depends on: of=…"
        refuse("loss", f"one that depends on the output of {seen.title}", "another", way_out)
    steps, *states = parts
    outputs = array(
        seen.form.time_major(torch.zeros_like(seen.given[0]) if steps is None else steps)
    )
    final: dict[str, Array] = {}
    for letter, part in zip("hc", states, strict=False):
        if part is not None:
            own = array(seen.form.state(part))
            final |= dict(zip(seen.state_names(letter), own, strict=True))
    _to_outputs(seen, outputs, final)
    for place, step in enumerate((outputs, *final.values())):
        if not all_finite(step):
            way_out = "tt.first_nonfinite(model, inputs, loss=…) says where it comes from"
            bad = int(np.argwhere(~np.isfinite(step))[0][0])
            where = "in the last state" if place else f"at step {bad}"
            refuse("loss", "finite derivatives", f"another {where}", way_out)
    used = {name: part[None] for name, part in final.items() if part.any()}
    return UpstreamGradient(outputs[None], used)


def _to_outputs(seen: Seen, outputs: Array, final: dict[str, Array]) -> None:
    """h_n of the highest layer is its output at each sequence's last step, or its first one."""
    names = seen.state_names("h")
    ways = 2 if seen.module.bidirectional else 1
    batch = np.arange(outputs.shape[1])
    for way, name in enumerate(names[-ways:]):
        part = final.pop(name, None)
        if part is not None:
            half = slice(way * part.shape[1], (way + 1) * part.shape[1])
            outputs[seen.last if way == 0 else 0, batch, half] += part
