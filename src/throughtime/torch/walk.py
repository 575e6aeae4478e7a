"""A module's forward pass: its layers and directions, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, TypeAlias

import torch
from torch.autograd import forward_ad
from torch.nn.functional import dropout

from throughtime.arrays import finite, refuse
from throughtime.torch import layout, operators, passes, steps
from throughtime.torch.arrival import Arrived, arrive, weights_of
from throughtime.torch.eager import Recurrence
from throughtime.torch.side import Side
from throughtime.torch.states import LayerStates, joined
from throughtime.torch.weights import Maybe, Weights, cell_of, engine_parameters

Result: TypeAlias = tuple[torch.Tensor, torch.Tensor, Maybe]  # outputs, final h, final c
One: TypeAlias = Callable[[int, torch.Tensor, Maybe, Maybe, Weights], Result]

_calls = count()


def walk(module: Any, input: Any, hx: Any, states: bool) -> Any:
    """What the module's `forward` gives."""
    if module._carry is not None:
        return _within_a_loop(module, input, hx, states)
    weights = weights_of(module)
    arrived = arrive(module, input, hx, weights[0].W)
    if _without_numbers(arrived.x):
        _plain(module, arrived, states, "in a traced graph")
        return arrived.leave(*_layers(module, arrived, weights, _traced(module)))
    results, sides = _on_numbers(module, arrived, weights, states)
    return (*results, _states(module, sides)) if states else results


def _within_a_loop(module: Any, input: Any, hx: Any, states: bool) -> Any:
    """As `walk`, from the state that a loop over windows carries."""
    carry, name = module._carry, type(module).__name__
    if hx is not None:
        way_out = "call the module without one: windows carries it"
        refuse(f"{name}: hx", "no initial state within windows", "one", way_out)
    hx, weights = carry.initial(module), weights_of(module)
    early = None
    if carry.cut:
        axis = int(module.batch_first and input.dim() == 3)
        before, input = input.tensor_split((carry.cut,), dim=axis)
        with torch.no_grad():
            (early, hx), _ = _on_numbers(module, arrive(module, before, hx, weights[0].W), weights)
    arrived = arrive(module, input, hx, weights[0].W)
    _plain(module, arrived, states, "within windows", carried=True)
    (outputs, hx), sides = _on_numbers(module, arrived, weights, True)
    carry.take(module, sides, hx)
    if early is not None:
        outputs = torch.cat([early, outputs], dim=axis)
    return outputs, hx


def _without_numbers(x: torch.Tensor) -> bool:
    """Whether a compiler traces, or the tensor is none that the engine could read."""
    ordinary = type(x) in (torch.Tensor, torch.nn.Parameter) and not x.is_meta
    return torch.compiler.is_compiling() or not ordinary


def _on_numbers(
    module: Any, arrived: Arrived, weights: list[Weights], wanted: bool = False
) -> tuple[tuple[Any, Any], list[Side]]:
    """Results as they leave, and the sides that ran on the engine."""
    sides: list[Side] = []
    if _transformed(arrived.x):
        _plain(module, arrived, wanted, "within torch.func or in forward mode")
    found = _layers(module, arrived, weights, _eager(module, arrived, sides, wanted))
    return arrived.leave(*found), sides


def _layers(
    module: Any, arrived: Arrived, weights: list[Weights], run: One
) -> tuple[torch.Tensor, torch.Tensor, Maybe]:
    """Outputs of the last layer, and every side's final h and c: (layers · directions, B, ·)."""
    x, directions = arrived.x, 1 + module.bidirectional
    hs, cs = [], []
    for layer in range(module.num_layers):
        outputs = []
        for k in range(layer * directions, (layer + 1) * directions):
            h = None if arrived.h is None else arrived.h[k]
            c = None if arrived.c is None else arrived.c[k]
            y, h, c = run(k, x, h, c, weights[k])
            outputs.append(y)
            hs.append(h)
            cs.append(c)
        x = outputs[0] if directions == 1 else torch.cat(outputs, dim=-1)
        if module.dropout and module.training and layer + 1 < module.num_layers:
            x = dropout(x, module.dropout, True)
    return x, _stacked(hs), None if cs[0] is None else _stacked(cs)


def _stacked(parts: list[Any]) -> torch.Tensor:
    return parts[0].unsqueeze(0) if len(parts) == 1 else torch.stack(parts)


def _eager(module: Any, arrived: Arrived, sides: list[Side], wanted: bool) -> One:
    """Numbers at hand: the engine, or what torch can look into where that is needed."""
    call, transformed = next(_calls), _transformed(arrived.x)
    layouts = layout.dense(arrived.x) if arrived.sizes is None else layout.packed(arrived.sizes)
    share = module.num_layers * (1 + module.bidirectional)

    def run(k: int, x: torch.Tensor, h: Maybe, c: Maybe, weights: Weights) -> Result:
        layer, reverse = divmod(k, 1 + module.bidirectional)
        cell = _cell(module, weights)
        own = layouts[reverse]
        if transformed:
            return steps.recurrence(cell, own, x, h, c, weights)
        segment = passes.segment_of(cell, module.memory_limit, share, own.steps, own.batch)
        side = Side(module, call, layer, cell, own, segment, wanted, arrived.unsorted)
        sides.append(side)
        if torch.is_anomaly_enabled():
            finite(f"{type(module).__name__}: inputs of layer {layer}", x.detach().numpy())
        y, h, c = Recurrence.apply(side, x, h, c, *weights)
        return y, h, c

    return run


def _traced(module: Any) -> One:
    """Tensors without numbers: registered operators."""

    def run(k: int, x: torch.Tensor, h: Maybe, c: Maybe, weights: Weights) -> Result:
        reverse = bool(module.bidirectional and k % 2)
        lstm = module.mode == "LSTM"
        x = x.flip(0) if reverse else x
        if h is None:
            h = x.new_zeros(x.shape[1], weights.U.shape[1])
        if c is None and lstm:
            c = x.new_zeros(x.shape[1], weights.W.shape[0] // 4)
        p = engine_parameters(weights, module.mode == "GRU" and module.reset_after)
        given = [p.get(name) for name in ("W", "U", "b", "c", "R", "p")]
        every_h, last_c, _, _ = operators.recurrence(
            x, h, c, *given, module.mode, module.reset_after
        )
        y = every_h[1:]
        return (y.flip(0) if reverse else y), every_h[-1], last_c if lstm else None

    return run


def _cell(module: Any, weights: Weights) -> Any:
    return cell_of(
        module.mode,
        weights.W.shape[1],
        module.hidden_size,
        module.proj_size,
        module.peepholes,
        module.reset_after,
    )


def _transformed(x: torch.Tensor) -> bool:
    """Whether torch wants to look into the computation: vmap, grad and the like, forward mode."""
    return bool(torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0)


def _plain(module: Any, arrived: Arrived, states: bool, where: str, carried: bool = False) -> None:
    """Refuses what cannot be had there."""
    for what, asked in (
        ("a PackedSequence", arrived.sizes is not None and ("graph" in where or carried)),
        ("states=True", states),
        ("taps", module._taps is not None and not carried),
        ("memory_limit", module.memory_limit is not None),
    ):
        if asked:
            name = type(module).__name__
            refuse(f"{name}: {what}", "an ordinary call", f"one {where}", error=RuntimeError)


def _states(module: Any, sides: list[Side]) -> list[LayerStates]:
    """One a layer."""
    if module.memory_limit is not None:
        what = f"{type(module).__name__}: states"
        refuse(what, "no memory_limit", module.memory_limit, "every step is kept for them")
    return joined(sides, 1 + module.bidirectional)
