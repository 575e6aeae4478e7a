"""A module's forward pass, in the way that `execution` chooses."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from itertools import count
from typing import Any, TypeAlias

import torch
from torch.nn.functional import dropout

from throughtime.arrays import refuse
from throughtime.torch.arguments import (
    Arguments,
    arrange,
    is_autocast_to_bfloat16,
    precisions,
    rounded,
)
from throughtime.torch.config import ModuleConfig, config_fields, config_of
from throughtime.torch.direction import (
    DirectionTape,
    Drop,
    LayerDirection,
    layer_states,
    run_layers,
    step_orders,
)
from throughtime.torch.eager import eager_direction
from throughtime.torch.execution import (
    ModuleCall,
    Way,
    answers_for_itself,
    call_of,
    engine_cannot,
    forward_row,
    place_of,
    refuse_within_windows,
)
from throughtime.torch.fused import fused_call
from throughtime.torch.models.weights import module_weights
from throughtime.torch.operators import operator_direction, operator_states
from throughtime.torch.reference import reference_direction

Results: TypeAlias = tuple[Any, Any]  # outputs and final state, as torch gives them
Directions: TypeAlias = Callable[[], list[LayerDirection]]  # what ran on the engine, with its tapes

_calls = count()
_warned: set[tuple[str, str]] = set()


def forward(module: Any, input: Any, hx: Any, states: bool) -> Any:
    """What the module's `forward` returns."""
    if type(input) is not torch.Tensor and answers_for_itself(input):
        return _by_its_own_functions(module, input, hx, states)
    call = call_of(module, input, states)
    row = forward_row(call)
    way = row.way
    if way == "fallback":
        if row.when is engine_cannot:
            _say_who_answers(call)
        return module.torchs.forward(module, input, hx)
    if module._carry is not None:
        return _within_windows(call, way, input, hx)
    weights = module_weights(module)
    arguments = arrange(module, input, hx, weights[0])
    dtypes = precisions(module, input, hx, weights[0].dtype)
    if way == "operators":
        return _by_operators(module, arguments, weights, dtypes, states)
    results, directions = _on_numbers(module, way, arguments, weights, states)
    results = rounded(results, dtypes)
    if not states:
        return results
    return *results, layer_states(directions(), 1 + module.bidirectional)


def _by_its_own_functions(module: Any, input: Any, hx: Any, states: bool) -> Any:
    """Of FX, a node that calls the module, as it is for torch's; else torch's own forward pass."""
    fx = sys.modules.get("torch.fx")
    if fx is not None and isinstance(input, fx.Proxy):
        tracer, options = input.tracer, {"states": True} if states else {}
        if tracer.root is not module:
            place = tracer.path_of_module(module)
            given = (input,) if hx is None else (input, hx)
            return tracer.create_proxy("call_module", place, given, options)
    return module.torchs.forward(module, input, hx)


def _say_who_answers(call: ModuleCall) -> None:
    """That torch's own kernels do, once."""
    name, place = type(call.module).__name__, place_of(call.W)
    if (name, place) in _warned:
        return
    _warned.add((name, place))
    message = (
        f"throughtime.torch.{name}: the engine computes on the CPU in float32 and float64; "
        f"on {place} torch's own kernels answer"
    )
    warnings.warn(message, stacklevel=2)


def _within_windows(call: ModuleCall, way: Way, input: Any, hx: Any) -> Results:
    """As `forward`, from the state that a loop over windows carries."""
    module = call.module
    carry = module._carry
    refuse_within_windows(call, hx)
    weights = module_weights(module)
    hx = carry.initial(module, arrange(module, input, None, weights[0]).x.shape[0])
    dtypes = precisions(module, input, None, weights[0].dtype)
    early = None
    if carry.cut:
        axis = int(module.batch_first and input.dim() == 3)
        before, input = input.tensor_split((carry.cut,), dim=axis)
        with torch.no_grad():
            arguments = arrange(module, before, hx, weights[0])
            (early, hx), _ = _on_numbers(module, way, arguments, weights)
    arguments = arrange(module, input, hx, weights[0])
    (outputs, hx), directions = _on_numbers(module, way, arguments, weights, wanted=True)
    carry.take(module, arguments.x.shape[0], directions, hx)
    if early is not None:
        outputs = torch.cat([early, outputs], dim=axis)
    results: Results = rounded((outputs, hx), dtypes)
    return results


def _on_numbers(
    module: Any, way: Way, arguments: Arguments, weights: list[torch.Tensor], wanted: bool = False
) -> tuple[Results, Directions]:
    """Results, and the directions that ran; `wanted` says whether these are to have tapes."""
    config = config_of(module)
    if len(weights) != len(config.shapes):
        expected = f"the options that it was built with, which have {len(weights)} weights"
        actual, way_out = f"others, which have {len(config.shapes)}", "build a new module"
        refuse(
            f"{type(module).__name__}({module.extra_repr()})",
            expected,
            actual,
            way_out,
            RuntimeError,
        )
    if way == "fused":
        found, call = fused_call(module, arguments, weights, next(_calls), wanted)
        return arguments.results(*found), call.directions
    directions: list[LayerDirection] = []
    sizes, x = arguments.sizes, arguments.x
    orders = step_orders(sizes, x.shape[0], arguments.batch)
    if way == "reference":
        run = reference_direction(config, orders)
    else:
        own = (module, config, orders, next(_calls), wanted, arguments.unsorted, directions)
        run = eager_direction(*own, is_autocast_to_bfloat16(x.dtype))
    initial = (arguments.h, arguments.c)
    found = run_layers(config, x, initial, weights, run, _dropout(module))
    return arguments.results(*found), lambda: directions


def _by_operators(
    module: Any, arguments: Arguments, weights: list[torch.Tensor], dtypes: Any, states: bool
) -> Any:
    """In a traced graph, where a module's configuration cannot be shared."""
    config = ModuleConfig(*config_fields(module))
    tapes: list[DirectionTape] = []
    run, initial = operator_direction(module, arguments, tapes), (arguments.h, arguments.c)
    found = run_layers(config, arguments.x, initial, weights, run, _dropout(module))
    results = rounded(arguments.results(*found), dtypes)
    return (*results, operator_states(config, arguments, tapes)) if states else results


def _dropout(module: Any) -> Drop | None:
    if not (module.dropout and module.training):
        return None
    return lambda _, y: dropout(y, module.dropout, True)
