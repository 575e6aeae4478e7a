"""Taps: the gradients at every step, recorded during an ordinary `loss.backward()`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self, TypeAlias

import numpy as np
import torch

from throughtime.arrays import Array, refuse
from throughtime.cells import LocalGradients, Tape
from throughtime.torch.direction import LayerDirection, as_given
from throughtime.torch.eager import EngineRun, EngineTape, engine_tape
from throughtime.torch.models.weights import torch_gradients, torch_name
from throughtime.torch.modules import named_modules

Samples: TypeAlias = dict[str, torch.Tensor]


@dataclass(frozen=True)
class LayerTap:
    """The gradient of the loss by every step's inner values, in one direction of one layer.

    Time comes first. The steps of a PackedSequence are padded, in the order of its sequences
    before packing; beyond a sequence's length everything is 0.

    Attributes:
        dh: ∂L/∂h_t (T, B, H), or (T, B, P) with a projection: from its output and later steps.
        dc: ∂L/∂c_t (T, B, H) of an LSTM, through h_t too; else None.
        dz: ∂L/∂z_t (T, B, G·H) by the pre-activations, gate by gate: LSTM i, f, a, o; GRU r, z, n.
        reverse: the same of the second direction, None where there is none.
    """

    dh: torch.Tensor
    dc: torch.Tensor | None
    dz: torch.Tensor
    reverse: LayerTap | None = None
    samples: Samples = field(default_factory=dict, repr=False)


class Taps:
    """Records by module and call; `taps` makes one.

    Example:
        >>> import torch
        >>> import throughtime as tt
        >>> lstm = tt.torch.LSTM(3, 4)
        >>> with tt.torch.taps(lstm, per_sample=True) as taps:
        ...     lstm(torch.ones(5, 2, 3))[0].sum().backward()
        >>> tuple(taps[""][0].dh.shape), tuple(taps[""][0].dz.shape)
        ((5, 2, 4), (5, 2, 16))
        >>> samples = taps.samples("")["weight_hh_l0"]
        >>> tuple(samples.shape), torch.allclose(samples.sum(0), lstm.weight_hh_l0.grad)
        ((2, 16, 4), True)
    """

    def __init__(self, model: torch.nn.Module, per_sample: bool) -> None:
        self.per_sample = per_sample
        self.modules = named_modules(model, "taps")
        self.found: dict[str, dict[int, dict[tuple[int, bool], LayerTap]]] = {}

    def __enter__(self) -> Self:
        for name, module in self.modules.items():
            if module._taps is not None:
                refuse(f"taps: {name!r}", "a module with no other taps", "one with taps")
        for name, module in self.modules.items():
            module._taps = _Tap(self, name)
        return self

    def __exit__(self, *_: object) -> None:
        for module in self.modules.values():
            del module._taps

    def calls(self, module: str) -> list[list[LayerTap]]:
        """The layers of every call of a module that a backward pass has reached, in order."""
        if module not in self.modules:
            names = ", ".join(map(repr, self.modules))
            refuse("taps", f"a module's name: {names}", repr(module), error=KeyError)
        found = []
        for _, ways in sorted(self.found.get(module, {}).items()):
            layers = sorted({layer for layer, _ in ways})
            found.append([replace(ways[n, False], reverse=ways.get((n, True))) for n in layers])
        return found

    def __getitem__(self, module: str) -> list[LayerTap]:
        """The layers of a module that was called once; the name is that in `named_modules()`."""
        found = self.calls(module)
        if not found:
            way_out = "call loss.backward() within the with statement"
            refuse(f"taps: {module!r}", "a backward pass through it", "none", way_out, KeyError)
        if len(found) > 1:
            way_out = f"use taps.calls({module!r})"
            refuse(f"taps: {module!r}", "one call of it", f"{len(found)}", way_out, KeyError)
        return found[0]

    def samples(self, module: str) -> Samples:
        """The gradient of each sequence alone: weight's name -> (B, …), as the weight.

        Summed over its first axis it is what `.grad` gains; several calls are added up.
        """
        if not self.per_sample:
            refuse("taps: samples", "taps(model, per_sample=True)", "per_sample=False")
        total: Samples = {}
        for layers in self.calls(module):
            for tap in layers:
                for one in (tap, tap.reverse):
                    for name, array in (one.samples if one else {}).items():
                        total[name] = total[name] + array if name in total else array
        return total


@dataclass(frozen=True)
class _Tap:
    """What a module has of the taps on it."""

    taps: Taps
    name: str

    def record(
        self, direction: LayerDirection, run: EngineRun, tape: EngineTape, found: LocalGradients
    ) -> None:
        """One direction's backward pass."""
        own_steps = direction.order.own_steps()

        def seen(array: Array) -> torch.Tensor:
            return as_given(torch.from_numpy(array), own_steps, direction.batch_order)

        d = {name: seen(array) for name, array in found.deltas.items()}
        samples: Samples = {}
        if self.taps.per_sample:
            samples = _samples(direction, run, tape, found.deltas)
        calls = self.taps.found.setdefault(self.name, {})
        ways = calls.setdefault(direction.call, {})
        tap = LayerTap(d["h"], d.get("c"), d["z"], None, samples)
        ways[direction.layer, direction.order.reverse] = tap


def taps(model: torch.nn.Module, *, per_sample: bool = False) -> Taps:
    """Within a `with`, every backward pass records ∂L/∂h_t, ∂L/∂c_t and ∂L/∂z_t of all steps.

    Args:
        model: a module of `throughtime.torch`, or one that contains some.
        per_sample: whether the gradient of each sequence alone by the recurrent weights is
            recorded too, for `Taps.samples`; this takes B times the weights' memory.

    Returns:
        Taps: `taps["encoder.lstm"][0].dh` is that of the first layer of `model.encoder.lstm`.

    Raises:
        ValueError: where the model has no such module (`accelerate` makes them), or has taps.
    """
    return Taps(model, per_sample)


def _samples(
    direction: LayerDirection, run: EngineRun, kept: EngineTape, deltas: dict[str, Array]
) -> Samples:
    """Gradients that are sums over time alone, one sequence after the other."""
    module, cell, layer = direction.module, run.cell, direction.layer
    if kept.inner is None:
        refuse("taps: per_sample", "no memory_limit", module.memory_limit)
    whole = engine_tape(run, kept)
    named: dict[str, list[torch.Tensor]] = {}
    for b in range(direction.order.batch):
        own = slice(b, b + 1)
        tape = Tape(
            whole.inputs[:, own],
            {name: array[:, own] for name, array in whole.states.items()},
            {name: array[:, own] for name, array in whole.kept.items()},
            None,
        )
        mine = {name: array[:, own] for name, array in deltas.items()}
        arrays = cell.parameter_gradients(run.p, tape, mine)
        weights = torch_gradients(arrays, module.bias, np)._asdict()
        for name, array in weights.items():
            if array is not None:
                attribute = torch_name(name, layer, direction.order.reverse)
                tensor = torch.from_numpy(np.ascontiguousarray(array))
                named.setdefault(attribute, []).append(tensor)
    samples = {name: torch.stack(tensors) for name, tensors in named.items()}
    order = direction.batch_order
    if order is None:
        return samples
    return {name: tensor.index_select(0, order) for name, tensor in samples.items()}
