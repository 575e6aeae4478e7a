"""A module's forward pass: in one compiled call, or its layers and directions one by one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, TypeAlias

import torch
from torch.autograd import forward_ad
from torch.nn.functional import dropout

from throughtime.arrays import finite, refuse
from throughtime.engine_settings import use_compiled
from throughtime.torch import fused, operators, passes, reference, step_order
from throughtime.torch.arguments import Arrived, arrive, weights_of
from throughtime.torch.autocast import precisions, rounded
from throughtime.torch.config import Form, choices_of, form_of
from throughtime.torch.direction import Side
from throughtime.torch.eager import Recurrence
from throughtime.torch.states import Kept, LayerStates, joined, paired, turned
from throughtime.torch.weights import Maybe, Weights, engine_parameters

Result: TypeAlias = tuple[torch.Tensor, torch.Tensor, Maybe]  # outputs, final h, final c
One: TypeAlias = Callable[[int, torch.Tensor, Maybe, Maybe, Weights], Result]
Sides: TypeAlias = Callable[[], list[Side]]  # what ran, with what it kept

_calls = count()


def forward(module: Any, input: Any, hx: Any, states: bool) -> Any:
    """What the module's `forward` gives."""
    if module._carry is not None:
        return _within_a_loop(module, input, hx, states)
    weights = weights_of(module)
    arrived = arrive(module, input, hx, weights[0])
    dtypes = precisions(module, input, hx, weights[0].dtype)
    if _without_numbers(arrived.x):
        _plain(module, arrived, False, "in a traced graph")
        kept: list[Kept] = []
        form = Form(*choices_of(module))
        found = _layers(form, arrived, weights, _traced(module, arrived, kept), _dropped(module))
        results = rounded(arrived.leave(*found), dtypes)
        return (*results, _traced_states(form, arrived, kept)) if states else results
    results, sides = _on_numbers(module, arrived, weights, states)
    results = rounded(results, dtypes)
    return (*results, _states(module, sides())) if states else results


def _within_a_loop(module: Any, input: Any, hx: Any, states: bool) -> Any:
    """As `forward`, from the state that a loop over windows carries."""
    carry, name = module._carry, type(module).__name__
    if hx is not None:
        way_out = "call the module without one: windows carries it"
        refuse(f"{name}: hx", "no initial state within windows", "one", way_out)
    hx, weights = carry.initial(module), weights_of(module)
    dtypes = precisions(module, input, None, weights[0].dtype)
    early = None
    if carry.cut:
        axis = int(module.batch_first and input.dim() == 3)
        before, input = input.tensor_split((carry.cut,), dim=axis)
        with torch.no_grad():
            (early, hx), _ = _on_numbers(module, arrive(module, before, hx, weights[0]), weights)
    arrived = arrive(module, input, hx, weights[0])
    _plain(module, arrived, states, "within windows", carried=True)
    (outputs, hx), sides = _on_numbers(module, arrived, weights, True)
    carry.take(module, arrived.x.shape[0], sides, hx)
    if early is not None:
        outputs = torch.cat([early, outputs], dim=axis)
    return rounded((outputs, hx), dtypes)


def _without_numbers(x: torch.Tensor) -> bool:
    """Whether a compiler traces, or the tensor is none that the engine could read."""
    ordinary = type(x) in (torch.Tensor, torch.nn.Parameter) and not x.is_meta
    return torch.compiler.is_compiling() or not ordinary


def _on_numbers(
    module: Any, arrived: Arrived, weights: list[torch.Tensor], wanted: bool = False
) -> tuple[tuple[Any, Any], Sides]:
    """Results as they leave, and the sides that ran on the engine."""
    transformed = _transformed()
    if transformed:
        _plain(module, arrived, wanted, "within torch.func or in forward mode")
    elif _at_once(module, arrived):
        return _whole(module, arrived, weights, wanted)
    sides: list[Side] = []
    form = form_of(module)
    one = _unrolled(form, _layouts(arrived))
    if not transformed:
        one = _eager(module, form, _layouts(arrived), next(_calls), wanted, arrived.unsorted, sides)
    found = _layers(form, arrived, weights, one, _dropped(module))
    return arrived.leave(*found), lambda: sides


def _at_once(module: Any, arrived: Arrived) -> bool:
    """Whether nobody wants to look in between, and everything may be kept."""
    return (
        module._taps is None
        and module.memory_limit is None
        and use_compiled()
        and not torch.is_anomaly_enabled()
        and arrived.batch > 0
    )


def _whole(
    module: Any, arrived: Arrived, weights: list[torch.Tensor], wanted: bool
) -> tuple[tuple[Any, Any], Sides]:
    form, x, sizes = form_of(module), arrived.x, arrived.sizes
    fused.fit(module, form, weights)
    steps, ragged = x.shape[0], False
    if sizes is not None:
        steps, ragged = len(sizes), int(sizes[-1]) != arrived.batch
    masks = []
    if module.dropout and module.training:
        ones = torch.ones(*x.shape[:-1], form.width, dtype=x.dtype)
        masks = [dropout(ones, module.dropout, True) for _ in range(form.layers - 1)]
    call = fused.Pass(
        module,
        form,
        steps,
        arrived.batch,
        sizes,
        ragged,
        masks,
        _one_by_one,
        next(_calls),
        arrived.unsorted,
        wanted,
    )
    given = (x, arrived.h, arrived.c, *weights)
    if torch.is_grad_enabled() and _required(given):
        outputs, h, c = fused.Whole.apply(call, *given)
    else:
        x, h, c = (fused.plain(t) for t in given[:3])
        outputs, h, c, call.tape = fused.forward(call, x, h, c, weights, masks)
    return arrived.leave(outputs, h, c), lambda: _sides(call)


def _required(given: tuple[Maybe, ...]) -> bool:
    return any(t is not None and t.requires_grad for t in reversed(given))


def _sides(call: fused.Pass) -> list[Side]:
    """What ran at once, one by one."""
    layouts = _layouts_of(call.running, call.steps, call.batch)
    found = []
    for k, kept in enumerate(call.kept()):
        layer, reverse = divmod(k, call.form.directions)
        cell, own = call.form.cell(layer), layouts[reverse]
        side = Side(call.module, call.number, layer, cell, own, call.steps, True, call.order, kept)
        found.append(side)
    return found


def _one_by_one(
    call: fused.Pass,
    masks: list[torch.Tensor],
    differentiable: bool,
    x: torch.Tensor,
    h: Maybe,
    c: Maybe,
    *weights: torch.Tensor,
) -> Result:
    """The same call once more, its layers and directions one by one."""
    layouts = _layouts_of(call.running, call.steps, call.batch)
    one = _unrolled(call.form, layouts)
    if not differentiable:
        one = _eager(call.module, call.form, layouts, call.number, False, call.order, [])
    again = Arrived(call.module, x, h, c, call.batch)
    drop = (lambda k, y: y * masks[k]) if masks else None
    return _layers(call.form, again, weights, one, drop)


def _layouts(arrived: Arrived) -> tuple[step_order.Layout, step_order.Layout]:
    return _layouts_of(arrived.sizes, arrived.x.shape[0], arrived.batch)


def _layouts_of(
    sizes: Maybe, steps: int, batch: int
) -> tuple[step_order.Layout, step_order.Layout]:
    return step_order.dense(steps, batch) if sizes is None else step_order.packed(sizes)


Drop: TypeAlias = Callable[[int, torch.Tensor], torch.Tensor]


def _dropped(module: Any) -> Drop | None:
    if not (module.dropout and module.training):
        return None
    return lambda _, y: dropout(y, module.dropout, True)


def _layers(
    form: Form, arrived: Arrived, weights: Any, run: One, drop: Drop | None
) -> tuple[torch.Tensor, torch.Tensor, Maybe]:
    """Outputs of the last layer, and every side's final h and c: (layers · directions, B, ·)."""
    x, own = arrived.x, form.by_side(weights)
    hs, cs = [], []
    for layer in range(form.layers):
        outputs = []
        for k in range(layer * form.directions, (layer + 1) * form.directions):
            h = None if arrived.h is None else arrived.h[k]
            c = None if arrived.c is None else arrived.c[k]
            y, h, c = run(k, x, h, c, own[k])
            outputs.append(y)
            hs.append(h)
            cs.append(c)
        x = outputs[0] if form.directions == 1 else torch.cat(outputs, dim=-1)
        if drop is not None and layer + 1 < form.layers:
            x = drop(layer, x)
    return x, _stacked(hs), None if cs[0] is None else _stacked(cs)


def _stacked(parts: list[Any]) -> torch.Tensor:
    return parts[0].unsqueeze(0) if len(parts) == 1 else torch.stack(parts)


def _eager(
    module: Any,
    form: Form,
    layouts: tuple[step_order.Layout, step_order.Layout],
    call: int,
    wanted: bool,
    order: Maybe,
    sides: list[Side],
) -> One:
    """A direction at a time on the engine."""

    def run(k: int, x: torch.Tensor, h: Maybe, c: Maybe, weights: Weights) -> Result:
        layer, reverse = divmod(k, form.directions)
        cell, own = form.cell(layer), layouts[reverse]
        segment = passes.segment_of(cell, module.memory_limit, form.sides, own.steps, own.batch)
        side = Side(module, call, layer, cell, own, segment, wanted, order)
        sides.append(side)
        if torch.is_anomaly_enabled():
            finite(f"{type(module).__name__}: inputs of layer {layer}", x.detach().numpy())
        y, h, c = Recurrence.apply(side, x, h, c, *weights)
        return y, h, c

    return run


def _unrolled(form: Form, layouts: tuple[step_order.Layout, step_order.Layout]) -> One:
    """A direction at a time in torch's own operations, for torch to look into."""

    def run(k: int, x: torch.Tensor, h: Maybe, c: Maybe, weights: Weights) -> Result:
        layer, reverse = divmod(k, form.directions)
        return reference.recurrence(form.cell(layer), layouts[reverse], x, h, c, weights)

    return run


def _traced(module: Any, arrived: Arrived, kept: list[Kept]) -> One:
    """Tensors without numbers: registered operators."""
    sizes, batch = arrived.sizes, arrived.batch

    def run(k: int, x: torch.Tensor, h: Maybe, c: Maybe, weights: Weights) -> Result:
        reverse = bool(module.bidirectional and k % 2)
        flipped = reverse and sizes is None
        lstm = module.mode == "LSTM"
        x = x.flip(0) if flipped else x
        if h is None:
            h = x.new_zeros(batch, weights.U.shape[1])
        if c is None and lstm:
            c = x.new_zeros(batch, weights.W.shape[0] // 4)
        p = engine_parameters(weights, module.mode == "GRU" and module.reset_after)
        given = [p.get(name) for name in ("W", "U", "b", "c", "R", "p")]
        every_h, last_c, every_c, inner, rows = operators.recurrence(
            x, h, c, *given, sizes, module.mode, module.reset_after, reverse
        )
        kept.append(Kept(every_h.detach(), every_c if lstm else None, inner))
        y = every_h[1:] if sizes is None else rows
        return (y.flip(0) if flipped else y), every_h[-1], last_c if lstm else None

    return run


def _transformed() -> bool:
    """Whether torch wants to look into the computation: vmap, grad and the like, forward mode."""
    return bool(torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0)


def _plain(module: Any, arrived: Arrived, states: bool, where: str, carried: bool = False) -> None:
    """Refuses what cannot be had there."""
    for what, asked in (
        ("a PackedSequence", arrived.sizes is not None and carried),
        ("states=True", states),
        ("taps", module._taps is not None and not carried),
        ("memory_limit", module.memory_limit is not None),
    ):
        if asked:
            name = type(module).__name__
            refuse(f"{name}: {what}", "an ordinary call", f"one {where}", error=RuntimeError)


def _traced_states(form: Form, arrived: Arrived, kept: list[Kept]) -> list[LayerStates]:
    """One a layer, from what the operators kept."""
    steps, lengths = kept[0].inner.shape[0], None
    if arrived.sizes is not None:
        lengths = (torch.arange(arrived.batch) < arrived.sizes[:, None]).sum(0)
    turn = turned(steps, arrived.batch, lengths)
    own = []
    for k, part in enumerate(kept):
        reverse = k % form.directions == 1
        own.append(part.shown(form.units, form.names, turn if reverse else None, arrived.unsorted))
    return paired(own, form.directions)


def _states(module: Any, sides: list[Side]) -> list[LayerStates]:
    """One a layer."""
    if module.memory_limit is not None:
        what = f"{type(module).__name__}: states"
        refuse(what, "no memory_limit", module.memory_limit, "every step is kept for them")
    return joined(sides, 1 + module.bidirectional)
