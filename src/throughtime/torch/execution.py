"""Which way a module's call is computed: one table for the forward pass, one for the backward pass.

way              what computes
`fused`          one call of the compiled engine each way, with all layers and directions
`eager`          the engine, one direction at a time, in an autograd function each
`operators`      registered operators, one a direction, which compilers can trace
`reference`      the recurrence step by step in torch's own operations, which torch looks into
`double_backward`  the reference, differentiated by autograd, so that its gradients can be too
`fallback`       the forward pass of torch's own module, on its own kernels

What is recorded (`torch.jit.trace`, `torch.export`, `make_fx`) is torch's own forward pass, so that
a file or a graph needs nothing of this package, and `operators` where torch has none.

In both tables the first row whose condition holds decides. A compiler differentiates `operators`
by the operators' own rules, and torch differentiates `reference` and `fallback` itself; so the
second table is about `fused` and `eager` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence

from throughtime.arrays import refuse
from throughtime.engine_settings import use_compiled

Way: TypeAlias = Literal["fused", "eager", "operators", "reference", "double_backward", "fallback"]

PRECISIONS = (torch.float32, torch.float64)  # those that the engine computes in
ORDINARY = (torch.Tensor, torch.nn.Parameter)

# Each call of a module asks these; the look-up by three names would take as long as the answer.
is_compiling = torch.compiler.is_compiling
is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)  # newer than torch 2.4
tracing_state = torch._C._get_tracing_state
dispatch_modes = torch._C._len_torch_dispatch_stack


class ModuleCall(NamedTuple):
    """What decides about a module's call.

    Attributes:
        module: the module that is called.
        x: its input, or the rows of a PackedSequence.
        W: its first weight, which says where and in what precision it computes.
        packed: whether the input is a PackedSequence.
        states: whether the inner values of every step are asked for.
        forward: the way that the forward pass took, in a backward pass.
        upstream: the gradients that a backward pass begins with.
    """

    module: Any
    x: Any
    W: Any
    packed: bool = False
    states: bool = False
    forward: Way | None = None
    upstream: tuple[Any, ...] = ()


class DecisionRow(NamedTuple):
    """One row of a table.

    Attributes:
        way: what computes the call.
        when: the condition.
        reason: what the user is told about this call, as in "expected …, got {reason}".
        refuses: keys of `REQUESTS`, which cannot be had this way.
        expected, way_out, error: what a refusal says beside the reason, and its exception.
    """

    way: Way
    when: Callable[[ModuleCall], bool]
    reason: str
    refuses: tuple[str, ...] = ()
    expected: str = "an ordinary call"
    way_out: str = ""
    error: type[Exception] = RuntimeError


REQUESTS: dict[str, Callable[[ModuleCall], bool]] = {
    "peepholes=True": lambda call: bool(call.module.peepholes),
    "reset_after=False": lambda call: not call.module.reset_after,
    "a PackedSequence": lambda call: call.packed,
    "states=True": lambda call: call.states,
    "taps": lambda call: call.module._taps is not None,
    "memory_limit": lambda call: call.module.memory_limit is not None,
    "windows": lambda call: call.module._carry is not None,
}
ONLY_OURS = ("peepholes=True", "reset_after=False", "states=True")  # torch's modules lack these


def engine_cannot(call: ModuleCall) -> bool:
    """Tensors without numbers, on the device "meta", are traced as the CPU's are."""
    return call.W.dtype not in PRECISIONS or not (call.W.is_cpu or call.W.is_meta)


def _recorded(call: ModuleCall) -> bool:
    """Whether operations are recorded or intercepted, and torch's own module has all of them.

    A tracer (`torch.jit.trace`, ONNX), `torch.export`, a mode that sees every operation
    (`make_fx`, a counter of FLOPs), or tensors of a class that does. The engine, which takes
    tensors by address, is none of these operations: a tracer would note its results as constants.
    """
    usual = type(call.x) in ORDINARY and type(call.W) in ORDINARY
    if not is_recording() and (usual or not _intercepted(call)):
        return False
    if is_compiling() and _any_length(call):
        return False
    return not any(REQUESTS[what](call) for what in ONLY_OURS)


def _any_length(call: ModuleCall) -> bool:
    """Whether the number of steps is a symbol, for which torch's own module cannot be exported."""
    axis = int(call.x.dim() == 3 and call.module.batch_first)
    return isinstance(call.x.shape[axis], torch.SymInt)


def _intercepted(call: ModuleCall) -> bool:
    """Whether torch's functions are the tensors' own, by `__torch_function__`."""
    if is_compiling():
        return False
    return bool(torch.overrides.has_torch_function((call.x, call.W)))


def is_recording() -> bool:
    """Whether a tracer, an exporter or a mode that sees every operation is at work."""
    if is_compiling():
        return is_exporting()
    return bool(tracing_state() or dispatch_modes())


def _traced(call: ModuleCall) -> bool:
    """Whether a compiler traces, or the tensor is none that the engine could read."""
    if type(call.x) not in ORDINARY or call.x.is_meta:
        return True
    if is_compiling():  # within windows it leaves the module out, and the engine runs it
        return call.module._carry is None or is_exporting()
    return bool(tracing_state() or dispatch_modes())


def _transformed(call: ModuleCall) -> bool:
    """Whether torch looks into the computation: vmap, grad and the like, forward mode."""
    return bool(torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0)


def _batched(call: ModuleCall) -> bool:
    """Whether many gradients come as one, by `is_grads_batched=True`."""
    is_one = torch._C._functorch.is_legacy_batchedtensor
    return any(d is not None and is_one(d) for d in call.upstream)


def _empty(call: ModuleCall) -> bool:
    if call.packed:
        return not call.x.shape[0]
    return call.x.dim() == 3 and not call.x.shape[0 if call.module.batch_first else 1]


FORWARD = (
    DecisionRow(
        "fallback",
        _recorded,
        "one that is recorded (torch.jit.trace, torch.export, make_fx)",
        ("taps", "memory_limit", "windows"),
        way_out="record torch's own modules: throughtime.torch.restore(model)",
    ),
    DecisionRow(
        "fallback",
        engine_cannot,
        "{place}",
        ("peepholes=True", "reset_after=False", "states=True", "memory_limit", "taps", "windows"),
        "weights on the CPU in float32 or float64",
        "move the model: .to('cpu', torch.float32)",
    ),
    DecisionRow(
        "reference",
        _transformed,
        "one within torch.func or in forward mode",
        ("states=True", "taps", "memory_limit", "windows"),
    ),
    DecisionRow("operators", _traced, "one in a traced graph", ("taps", "memory_limit", "windows")),
    DecisionRow(
        "eager",
        REQUESTS["memory_limit"],
        "{memory_limit}",
        ("states=True",),
        "no memory_limit",
        "every step is kept for them",
        ValueError,
    ),
    DecisionRow("eager", REQUESTS["taps"], "one with taps, which look at each direction"),
    DecisionRow("eager", lambda _: not use_compiled(), "one on the readable engine"),
    DecisionRow("eager", lambda _: torch.is_anomaly_enabled(), "one with anomaly detection"),
    DecisionRow("eager", _empty, "one with an empty batch"),
    DecisionRow("fused", lambda _: True, "an ordinary call"),
)

BACKWARD = (
    DecisionRow(
        "double_backward",
        lambda _: torch.is_grad_enabled(),
        "create_graph=True",
        ("taps",),
        "an ordinary backward pass",
        "leave create_graph=True out",
    ),
    DecisionRow(
        "double_backward",
        lambda _: is_recording(),
        "one that is recorded (make_fx, a counter of FLOPs)",
        ("taps",),
        "an ordinary backward pass",
        "call backward() outside",
    ),
    DecisionRow(
        "double_backward",
        lambda call: _transformed(call) or _batched(call),
        "one within torch.func, is_grads_batched=True or forward mode",
        ("taps",),
        "an ordinary backward pass",
        "differentiate one loss after the other",
    ),
    DecisionRow(
        "eager", lambda call: call.forward == "eager", "one that the engine ran by direction"
    ),
    DecisionRow("eager", REQUESTS["taps"], "one with taps, which look at each direction"),
    DecisionRow("fused", lambda _: True, "an ordinary backward pass"),
)

# Within a loop over `windows`, which carries the state, these are refused whatever the way is.
WITHIN_WINDOWS = ("a PackedSequence", "states=True", "memory_limit")


def answers_for_itself(input: Any) -> bool:
    """Whether an input that is no tensor has torch's functions nevertheless, as FX's Proxy has."""
    if isinstance(input, torch.Tensor | PackedSequence):
        return False
    return bool(torch.overrides.has_torch_function((input,)) and hasattr(input, "dim"))


def call_of(module: Any, input: Any, states: bool = False) -> ModuleCall:
    """What decides about `module(input)`.

    Raises:
        TypeError, RuntimeError: where input is no tensor, or on another device than the weights.
    """
    packed = isinstance(input, PackedSequence)
    x = input.data if packed else input
    W = module._parameters.get("weight_ih_l0")
    if W is None:  # a tensor that was put in its place
        W = module.weight_ih_l0
    if not isinstance(x, torch.Tensor):
        what = f"{type(module).__name__}: input"
        refuse(what, "a tensor or a PackedSequence", type(x).__name__, error=TypeError)
    call = ModuleCall(module, x, W, packed, states)
    if (type(W) in ORDINARY or not _intercepted(call)) and not (x.is_cpu and W.is_cpu):
        _same_device(module, x, W)
    return call


def forward_row(call: ModuleCall) -> DecisionRow:
    """The row of `FORWARD` that decides, once nothing was asked for that its way cannot give.

    Raises:
        RuntimeError, ValueError: for what cannot be had this way, with the reason.
    """
    return _row(FORWARD, call)


def backward_row(module: Any, forward: Way, upstream: tuple[Any, ...] = ()) -> DecisionRow:
    """The row of `BACKWARD` that decides; refuses as `forward_row` does."""
    return _row(BACKWARD, ModuleCall(module, None, None, forward=forward, upstream=upstream))


def refuse_within_windows(call: ModuleCall, hx: Any) -> None:
    """Refuses what a loop over `windows` cannot give, an initial state among it."""
    name = type(call.module).__name__
    if hx is not None:
        way_out = "call the module without one: windows carries it"
        refuse(f"{name}: hx", "no initial state within windows", "one", way_out)
    for what in WITHIN_WINDOWS:
        if REQUESTS[what](call):
            refuse(f"{name}: {what}", "an ordinary call", "one within windows", error=RuntimeError)


def _refuse_requests(call: ModuleCall, row: DecisionRow) -> None:
    for what in row.refuses:
        if REQUESTS[what](call):
            name, limit = type(call.module).__name__, call.module.memory_limit
            place = "" if call.W is None else place_of(call.W)
            reason = row.reason.format(place=place, memory_limit=limit)
            refuse(f"{name}: {what}", row.expected, reason, row.way_out, row.error)


def place_of(W: torch.Tensor) -> str:
    """Where and in what precision a module computes: "cuda in float32"."""
    return f"{W.device.type} in {str(W.dtype).split('.')[1]}"


def _row(table: tuple[DecisionRow, ...], call: ModuleCall) -> DecisionRow:
    for row in table:
        if row.when(call):
            _refuse_requests(call, row)
            return row
    raise AssertionError("the last row of a table fits every call")


def _same_device(module: Any, x: torch.Tensor, W: torch.Tensor) -> None:
    if W.device == x.device:
        return
    way_out = f"input.to({str(W.device)!r}), or module.to({str(x.device)!r})"
    if W.is_meta:
        way_out = f"module.to_empty(device={str(x.device)!r}), then load its weights"
    what = f"{type(module).__name__}: input"
    expected = f"a tensor on {W.device}, where the weights are"
    refuse(what, expected, f"one on {x.device}", way_out, error=RuntimeError)
