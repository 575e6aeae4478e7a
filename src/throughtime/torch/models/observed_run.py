"""One run of a torch model, and what its recurrent modules receive and return in it.

The model is not changed: each module's `forward` is watched, whoever calls it, and afterwards it is
what it was. What a module returns is passed on detached, so that torch differentiates what lies
above it and nothing else.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NoReturn

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.torch.models.targets import kept_buffers

KINDS = ("RNN", "LSTM", "GRU")


@dataclass(frozen=True)
class TensorFormat:
    """How torch lays out what the module takes and gives.

    Attributes:
        batch_first, unbatched: of dense tensors.
        packed: the PackedSequence that the module received, or None.
    """

    batch_first: bool
    unbatched: bool
    packed: Any = None

    def time_major(self, tensor: Any) -> Any:
        """Steps, or a packed sequence's data, as (T, B, ·)."""
        if self.packed is not None:
            rnn = import_module("torch.nn.utils.rnn")
            padded, _ = rnn.pad_packed_sequence(self.packed._replace(data=tensor))
            return padded
        if self.unbatched:
            return tensor.unsqueeze(1)
        return tensor.transpose(0, 1) if self.batch_first else tensor

    def state(self, tensor: Any) -> Any:
        """(layers, B, ·)."""
        return tensor.unsqueeze(1) if self.unbatched else tensor


@dataclass(eq=False)
class ObservedModule:
    """What one recurrent module received and returned in the run.

    Attributes:
        name, module: "decoder.rnn", "" where the model is the module itself.
        format: how torch lays out its tensors.
        inputs: (T, B, I).
        lengths: (B,), of a packed sequence.
        state: the initial one, (layers, B, ·) for h and, of an LSTM, c; None for zeros.
        given: the tensors that the rest of the model uses: outputs, h_n and c_n.
        calls: how often it was called.
        outputs: of the whole model.
    """

    name: str
    module: Any
    format: TensorFormat = field(default_factory=lambda: TensorFormat(False, False))
    inputs: Array = field(default_factory=lambda: np.zeros((0, 0, 0)))
    lengths: Array | None = None
    state: list[Array] | None = None
    given: list[Any] = field(default_factory=list)
    calls: int = 0
    outputs: Any = None

    @property
    def title(self) -> str:
        """`decoder.rnn` (LSTM)."""
        kind = type(self.module).__name__
        return f"`{self.name}` ({kind})" if self.name else f"the {kind}"

    @property
    def last(self) -> Array:
        """(B,), the last step of each sequence."""
        T, B = self.inputs.shape[:2]
        return np.full(B, T - 1) if self.lengths is None else self.lengths - 1

    def state_names(self, letter: str) -> list[str]:
        """The names, in a network's state, of h or c of all layers as torch stacks them."""
        ways = ("", "1.") if self.module.bidirectional else ("",)
        return [f"{n}.{way}{letter}" for n in range(self.module.num_layers) for way in ways]

    def note(self, args: Any, kwargs: Any, output: Any) -> Any:
        """Notes one call, and passes its outputs on as leaves."""
        self.calls += 1
        module, received = self.module, args[0] if args else kwargs.get("input")
        if received is None or not isinstance(output, tuple) or len(output) < 2:
            kind = type(module).__name__
            expected = "a forward method that takes and gives what torch's does"
            refuse(self.title, expected, f"{kind}.forward", "name another module: of=…", TypeError)
        packed = received if hasattr(received, "batch_sizes") else None
        self.format = TensorFormat(
            module.batch_first, packed is None and received.dim() == 2, packed
        )
        if packed is not None:
            rnn = import_module("torch.nn.utils.rnn")
            self.lengths = rnn.pad_packed_sequence(packed)[1].cpu().numpy()
        self.inputs = array(self.format.time_major(received if packed is None else packed.data))
        hx = args[1] if len(args) > 1 else kwargs.get("hx")
        if hx is not None:
            parts = hx if isinstance(hx, tuple | list) else [hx]
            self.state = [array(self.format.state(part)) for part in parts]
        steps, final, *more = output
        several = isinstance(final, tuple | list)
        leaves = [steps.data if packed is not None else steps, *(final if several else [final])]
        self.given = [tensor.detach().requires_grad_() for tensor in leaves]
        first, *rest = (leaf.clone() for leaf in self.given)  # which may be changed in place
        steps = steps._replace(data=first) if packed is not None else first
        return steps, tuple(rest) if several else rest[0], *more


def observe(
    model: Any,
    inputs: tuple[Any, ...],
    of: str | None,
    then: Callable[[list[ObservedModule]], Any],
    named: Mapping[str, Any] | None = None,
) -> Any:
    """Runs the model once, without dropout, and calls `then` with what was observed.

    Args:
        of: the name of the recurrent module, as in `model.named_modules()`; all without it.
        then: takes the recurrent modules in the order in which they were called, while the
            model's run can still be differentiated.
        named: keyword arguments of the model.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile keeps the model that it was given
    modules = recurrent_modules(model)
    if not modules:
        _refuse_without(model)
    if of is not None and of not in modules:
        there = ", ".join(repr(name) for name in modules if name)
        refuse("of", f"one of {there}" if there else "none: there is one module", repr(of))
    chosen = {name: m for name, m in modules.items() if of is None or name == of}
    order: list[ObservedModule] = []
    with undisturbed(model), contextlib.ExitStack() as stack:
        for name, module in chosen.items():
            stack.enter_context(_watched(ObservedModule(name, module), order))
        outputs = model(*inputs, **(named or {}))
        if not order:
            refuse("module", f"a run that calls {' or '.join(map(repr, chosen))}", "one without")
        for seen in order:
            seen.outputs = outputs
            if seen.calls > 1:
                way_out = "give it all steps in one call, or look with a model that does"
                refuse(seen.title, "one call in a run of the model", f"{seen.calls}", way_out)
        return then(order)


def arguments_of(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """What the model is called with; one tuple alone is taken apart."""
    arguments = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], tuple) else inputs
    if not arguments:
        refuse("module", "its inputs beside it", "the module alone", error=TypeError)
    return arguments


def named_arguments(model: Any, options: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Those of the options that are keyword arguments of the model.

    Raises:
        TypeError: for one that neither the model nor the question has.
    """
    model = getattr(model, "_orig_mod", model)
    parameters = inspect.signature(model.forward).parameters.values()
    any_name = any(one.kind is one.VAR_KEYWORD for one in parameters)
    names = {one.name for one in parameters}
    found = {name: value for name, value in options.items() if name not in known}
    for name in found:
        if not any_name and name not in names:
            refuse(name, f"an argument of {type(model).__name__}.forward", "none", error=TypeError)
    return found


def recurrent_modules(model: Any) -> dict[str, Any]:
    """The recurrent modules of a model, by name."""
    nn = import_module("torch.nn")
    kinds = tuple(getattr(nn, kind) for kind in KINDS)
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


def _refuse_without(model: Any) -> NoReturn:
    """A model without a recurrent module; its cells are named, if it has any."""
    cell = import_module("torch.nn").modules.rnn.RNNCellBase
    cells = {name: type(m).__name__ for name, m in model.named_modules() if isinstance(m, cell)}
    actual = type(model).__name__
    way_out = "of a recurrence that the model steps in a loop of its own nothing is seen"
    if cells:
        (name, kind), *_ = cells.items()
        whole = kind.removesuffix("Cell")
        actual += f" with an nn.{kind} ({name!r}), which it steps in a loop of its own"
        way_out = f"give all steps at once to an nn.{whole} with the cell's weights"
    expected = "a model with an nn.RNN, nn.LSTM or nn.GRU inside"
    refuse("module", expected, actual, way_out, error=TypeError)


@contextlib.contextmanager
def _watched(seen: ObservedModule, order: list[ObservedModule]) -> Iterator[None]:
    """Within a `with`, notes each call of the module's `forward`, directly or through hooks."""
    attributes = vars(seen.module)
    replaced = {"forward": attributes["forward"]} if "forward" in attributes else {}
    forward = seen.module.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        if seen not in order:
            order.append(seen)
        return seen.note(args, kwargs, forward(*args, **kwargs))

    attributes["forward"] = watched
    try:
        yield
    finally:
        del attributes["forward"]
        attributes.update(replaced)


@contextlib.contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Within a `with`, in evaluation mode; afterwards modes, buffers and generators as before."""
    torch = import_module("torch")
    flags = [(module, module.training) for module in model.modules()]
    devices = sorted({p.device.index for p in model.parameters() if p.is_cuda})
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(kept_buffers(model))
        try:
            for module, _ in flags:
                module.training = False
            yield
        finally:
            for module, flag in flags:
                module.training = flag


def array(tensor: Any) -> Array:
    """A copy of a tensor's numbers, from any device."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in ("float32", "float64") or tensor.is_meta:
        way_out = "look at a copy of the model: copy.deepcopy(model).float()"
        actual = "no numbers (meta)" if tensor.is_meta else dtype
        refuse("module: tensors", "float32 or float64", actual, way_out, error=TypeError)
    return np.array(tensor.detach().cpu().numpy(), order="C")
