"""One run of a torch model, in which its recurrent modules are watched.

The model is not changed: each module's `forward` is watched, whoever calls it, and afterwards it is
what it was. A first run tells which modules the model steps in a loop of its own; for these there
is a second one, with the same random numbers.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeAlias

from throughtime.arrays import refuse
from throughtime.torch.models.observed_cell import ObservedCell, is_own_layer
from throughtime.torch.models.observed_run import ObservedModule
from throughtime.torch.models.stepped_run import SteppedModule, is_cell
from throughtime.torch.models.targets import kept_buffers

KINDS = ("RNN", "LSTM", "GRU")
Seen: TypeAlias = ObservedModule | SteppedModule


@dataclass(eq=False)
class Watch:
    """One module that is watched.

    Attributes:
        name, module: as in `model.named_modules()`.
        stepped: whether it is known that the model steps it.
        seen: what was seen of it; None before it is called.
        last: when it was called last, among all calls of the run.
        again: whether it was called once more than `seen` can tell.
    """

    name: str
    module: Any
    stepped: bool = False
    seen: Seen | None = None
    last: int = -1
    again: bool = False

    def call(self, forward: Callable[..., Any], args: Any, kwargs: Any, clock: int) -> Any:
        """Notes one call of its `forward`, and passes on what comes back."""
        self.last = clock
        if self.seen is None:
            if self.stepped or self._one_step(args, kwargs):
                self.seen = SteppedModule(self.name, self.module)
            else:
                kind = ObservedCell if is_own_layer(self.module) else ObservedModule
                self.seen = kind(self.name, self.module, clock=clock)
                return self.seen.note(args, kwargs, forward(*args, **kwargs))
        if isinstance(self.seen, SteppedModule):
            return self.seen.call(forward, args, kwargs, clock)
        self.again = True
        return forward(*args, **kwargs)

    def _one_step(self, args: Any, kwargs: Any) -> bool:
        """Whether the first call has one step, so that the model may step it in a loop."""
        if is_cell(self.module) or is_own_layer(self.module):
            return is_cell(self.module)
        x = args[0] if args else kwargs.get("input")
        if not hasattr(x, "dim") or self.module.bidirectional:
            return False
        return bool(x.shape[1 if self.module.batch_first and x.dim() == 3 else 0] == 1)


def observe(
    model: Any,
    inputs: tuple[Any, ...],
    of: str | None,
    then: Callable[[list[Seen]], Any],
    named: Mapping[str, Any] | None = None,
    *,
    every: bool = False,
) -> Any:
    """Runs the model without dropout, and calls `then` with what was observed.

    Args:
        of: the name of the recurrent module, as in `model.named_modules()`; without it the one that
            is called last.
        then: takes the recurrent modules in the order in which they were last called, while the
            model's run can still be differentiated.
        named: keyword arguments of the model.
        every: whether all modules are needed, and not the last one alone.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile keeps the model that it was given
    modules = recurrent_modules(model)
    if not modules:
        expected = (
            "a model with a throughtime.torch.Recurrent, one of torch's cells, or an nn.RNN, "
            "nn.LSTM or nn.GRU inside"
        )
        refuse("module", expected, type(model).__name__, error=TypeError)
    if of is not None and of not in modules:
        there = ", ".join(repr(name) for name in modules if name)
        refuse("of", f"one of {there}" if there else "none: there is one module", repr(of))
    watches = [Watch(name, m) for name, m in modules.items() if of is None or name == of]
    for _ in range(2):
        with undisturbed(model), contextlib.ExitStack() as stack:
            clock = itertools.count()
            for watch in watches:
                stack.enter_context(_watched(watch, clock))
            outputs = model(*inputs, **(named or {}))
            order = sorted((one for one in watches if one.seen), key=lambda one: one.last)
            if not order:
                names = " or ".join(repr(one.name) for one in watches)
                refuse("module", f"a run that calls {names}", "one without")
            wanted = order if every else order[-1:]
            if not any(one.again for one in wanted):
                return then([_finished(one.seen, outputs) for one in wanted if one.seen])
        watches = [Watch(one.name, one.module, stepped=one.again) for one in wanted]
        for one in watches:
            _refuse_steps(one)
    raise AssertionError("a stepped module counts its own calls")


def _finished(seen: Seen, outputs: Any) -> Seen:
    seen.outputs = outputs
    if isinstance(seen, SteppedModule):
        seen.finish()
    return seen


def _refuse_steps(watch: Watch) -> None:
    """Where what is called several times cannot be followed from call to call."""
    way_out = "give it all steps in one call, or name another: of=…"
    if watch.stepped and is_own_layer(watch.module):
        seen: ObservedModule = ObservedCell(watch.name, watch.module)
        refuse(seen.title, "one call", "several", way_out)
    if watch.stepped and watch.module.bidirectional:
        seen = ObservedModule(watch.name, watch.module)
        refuse(seen.title, "one call, of a module that runs both ways", "several", way_out)


def recurrent_modules(model: Any) -> dict[str, Any]:
    """The recurrent modules and the cells of a model, by name."""
    nn = import_module("torch.nn")
    kinds = tuple(getattr(nn, kind) for kind in KINDS)
    each = model.named_modules()
    return {n: m for n, m in each if isinstance(m, kinds) or is_cell(m) or is_own_layer(m)}


@contextlib.contextmanager
def _watched(watch: Watch, clock: Iterator[int]) -> Iterator[None]:
    """Within a `with`, notes each call of the module's `forward`, directly or through hooks."""
    attributes = vars(watch.module)
    replaced = {"forward": attributes["forward"]} if "forward" in attributes else {}
    forward = watch.module.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        return watch.call(forward, args, kwargs, next(clock))

    attributes["forward"] = watched
    try:
        yield
    finally:
        del attributes["forward"]
        attributes.update(replaced)


@contextlib.contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Within a `with`, in evaluation mode; afterwards modes, buffers and generators as before.

    So are the tensors that a module has: DropConnect, for one, sets a weight at each call, and in
    evaluation mode sets the raw parameter itself, which torch then takes for one of the module's.
    """
    torch = import_module("torch")
    flags = [(module, module.training) for module in model.modules()]
    devices = sorted({p.device.index for p in model.parameters() if p.is_cuda})
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(kept_buffers(model))
        stack.enter_context(_kept_tensors(model))
        try:
            for module, _ in flags:
                module.training = False
            yield
        finally:
            for module, flag in flags:
                module.training = flag


@contextlib.contextmanager
def _kept_tensors(model: Any) -> Iterator[None]:
    """Within a `with`, modules may set tensors and parameters; afterwards each has its own."""
    torch = import_module("torch")
    before = []
    for module in model.modules():
        own = {
            name: value for name, value in vars(module).items() if isinstance(value, torch.Tensor)
        }
        if "_flat_weights" in vars(module):  # by which torch's recurrent modules compute
            own["_flat_weights"] = [*module._flat_weights]
        before.append((module, dict(module._parameters), own))
    try:
        yield
    finally:
        for module, parameters, own in before:
            module._parameters.clear()
            module._parameters.update(parameters)
            vars(module).update(own)
