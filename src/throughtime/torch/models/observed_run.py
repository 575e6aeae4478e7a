"""What a recurrent module receives and returns in a run of a torch model that calls it once.

What the module returns is passed on detached, so that torch differentiates what lies above it and
nothing else. `stepped_run` is for modules that are called step by step.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradient_flow import UpstreamGradient


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
        outputs: of the whole model.
        clock: when it was called, among all calls of the run.
    """

    name: str
    module: Any
    format: TensorFormat = field(default_factory=lambda: TensorFormat(False, False))
    inputs: Array = field(default_factory=lambda: np.zeros((0, 0, 0)))
    lengths: Array | None = None
    state: list[Array] | None = None
    given: list[Any] = field(default_factory=list)
    outputs: Any = None
    clock: int = 0

    @property
    def title(self) -> str:
        """`decoder.rnn` (LSTM)."""
        kind = type(self.module).__name__
        return f"`{self.name}` ({kind})" if self.name else f"the {kind}"

    @property
    def bidirectional(self) -> bool:
        """Whether it runs both ways."""
        return bool(self.module.bidirectional)

    @property
    def last(self) -> Array:
        """(B,), the last step of each sequence."""
        T, B = self.inputs.shape[:2]
        return np.full(B, T - 1) if self.lengths is None else self.lengths - 1

    @property
    def aligned(self) -> bool:
        """Whether step t of every sequence is step t of the model's run."""
        return True

    @property
    def living(self) -> Array:
        """(T, B), the steps of the model's run that each sequence has: where a loss may stand."""
        return np.asarray(np.arange(len(self.inputs))[:, None] <= self.last)

    def arranged(self, place: Array, at_end: bool) -> Array:
        """What stands at the steps of the model's run, at those of the recurrence: the same."""
        return place

    @property
    def outputs_given(self) -> Array:
        """(T, B, H), what the module returned."""
        return array(self.format.time_major(self.given[0]))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth knowing about this way of being called: nothing."""
        return ()

    def arrived(self, parts: Sequence[Any]) -> UpstreamGradient:
        """What arrives at the module, from the derivatives by `given`; n = 1.

        The last h of the highest layer is an output and counts as one.
        """
        steps, *states = parts
        zeros = import_module("torch").zeros_like
        own = zeros(self.given[0]) if steps is None else steps
        outputs = array(self.format.time_major(own))
        final = self.ends(states)
        batch = np.arange(outputs.shape[1])
        for way, name in enumerate(self.output_states()):
            end = final.pop(name, None)  # an output at each sequence's last step, or its first one
            if end is not None:
                half = slice(way * end.shape[1], (way + 1) * end.shape[1])
                outputs[self.last if way == 0 else 0, batch, half] += end
        return UpstreamGradient(outputs[None], {name: part[None] for name, part in final.items()})

    def ends(self, parts: Sequence[Any]) -> dict[str, Array]:
        """Derivatives by the last states, by the network's names; None is left out."""
        found: dict[str, Array] = {}
        for letter, part in zip("hc", parts, strict=False):
            if part is not None:
                each = array(self.format.state(part))
                found |= dict(zip(self.state_names(letter), each, strict=True))
        return found

    def output_states(self) -> list[str]:
        """The states that are outputs, too: h of the highest layer, in each direction."""
        names, ways = self.state_names("h"), 2 if self.bidirectional else 1
        return names[-ways:]

    def state_names(self, letter: str) -> list[str]:
        """The names, in a network's state, of h or c of all layers as torch stacks them."""
        ways = ("", "1.") if self.bidirectional else ("",)
        return [f"{n}.{way}{letter}" for n in range(self.module.num_layers) for way in ways]

    def note(self, args: Any, kwargs: Any, output: Any) -> Any:
        """Notes one call, and passes its outputs on as leaves."""
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


def arguments_of(inputs: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the model is called with, beside keyword arguments; a tuple alone is taken apart.

    A PackedSequence is one argument, although it is a tuple by its class.
    """
    arguments = inputs[0] if len(inputs) == 1 and type(inputs[0]) is tuple else inputs
    if not arguments and not named:
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


def array(tensor: Any) -> Array:
    """A copy of a tensor's numbers, from any device."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in ("float32", "float64") or tensor.is_meta:
        way_out = "look at a copy of the model: copy.deepcopy(model).float()"
        actual = "no numbers (meta)" if tensor.is_meta else dtype
        refuse("module: tensors", "float32 or float64", actual, way_out, error=TypeError)
    return np.array(tensor.detach().cpu().numpy(), order="C")
