"""A torch module, a torch function or a `torch.autograd.Function` as a target of the check.

Its own tensors are perturbed and put back. Where that is possible, the target's arrays share
their memory.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.diagnosis import TorchLayout, detached
from throughtime.gradcheck import CheckError, Target

SHARED = ("torch.float16", "torch.float32", "torch.float64")  # what NumPy has as well


def is_module(what: object, *_: Any) -> bool:
    """Whether this is a torch module; torch is not imported to find that out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(what, torch.nn.Module)


def module_target(
    module: Any,
    *inputs: Any,
    loss: Callable[[Any], Any] | None = None,
    reset: Callable[[], object] | None = None,
    at_length: Callable[[int], Target] | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> Target:
    """A torch module as it stands, in training or in evaluation mode, on its own device.

    The parameters and inputs that require a gradient are checked. Before each evaluation torch's
    random generators are seeded, so that dropout draws the same masks; after it they and the
    module's buffers (running statistics) are put back.

    Args:
        module: called as `module(*inputs)`; one tuple alone is taken apart.
        inputs: tensors, or tuples, lists and dictionaries of them, such as an LSTM's (h, c).
        loss: a function of the outputs that returns a tensor, the loss or its terms. By default
            all outputs are weighted with random numbers that are drawn once.
        reset, at_length, steps: as in Target.
        seed: random seed for the dropout's masks and for the weights.

    Raises:
        CheckError: where nothing requires a gradient, or the loss does not depend on anything.
    """
    if not inputs and _needs_inputs(module):
        way_out = "tt.check(module, inputs); in a file, a tuple: (module, inputs)"
        refuse("module", "its inputs beside it", "the module alone", way_out, CheckError)
    arguments = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], tuple) else inputs
    tensors = {name: p for name, p in module.named_parameters() if p.requires_grad}
    tensors |= {
        name: tensor for name, tensor in named_tensors("inputs", arguments) if tensor.requires_grad
    }
    if not tensors:
        way_out = "give the inputs .requires_grad_(), or the parameters"
        refuse("module", "something that requires a gradient", "nothing", way_out, CheckError)
    run = TorchEvaluation(module, arguments, tensors, loss, module=module, seed=seed)
    return run.target(reset, at_length, steps)


def is_function(what: object, *data: Any) -> bool:
    """Whether this is a Function, its `apply`, or a callable followed by tensors."""
    torch = sys.modules.get("torch")
    if torch is None or not callable(what):
        return False
    if _function_class(what) is not None:
        return True
    return any(True for part in data for _ in named_tensors("", part))


def function_target(
    function: Any,
    *inputs: Any,
    loss: Callable[[Any], Any] | None = None,
    reset: Callable[[], object] | None = None,
    at_length: Callable[[int], Target] | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> Target:
    """A function of tensors; the tensors that require a gradient are checked.

    Args:
        function: a subclass of `torch.autograd.Function`, its `apply`, or any function.
        inputs: what it is called with.
        loss: of the outputs, as for a module; by default they are weighted at random.
        reset, at_length, steps: as in Target.
        seed: random seed for torch's generators and for the weights.

    Raises:
        CheckError: where no tensor requires a gradient.
    """
    owner = _function_class(function)
    call = function if owner is None else owner.apply
    names = _argument_names(function if owner is None else owner.forward, owner, len(inputs))
    tensors = {
        path: tensor
        for name, value in zip(names, inputs, strict=True)
        for path, tensor in named_tensors(name, value)
        if tensor.requires_grad
    }
    if not tensors:
        way_out = "say which ones are to be checked: .requires_grad_()"
        refuse("inputs", "a tensor that requires a gradient", "none", way_out, error=CheckError)
    return TorchEvaluation(call, inputs, tensors, loss, seed=seed).target(reset, at_length, steps)


class TorchEvaluation:
    """Evaluates a function of tensors, and leaves everything as it was.

    When a copy arrives in another process, its arrays and tensors share memory again.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Any,
        tensors: Mapping[str, Any],
        loss: Callable[[Any], Any] | None,
        *,
        module: Any = None,
        seed: int = 0,
    ) -> None:
        self.function, self.arguments = function, arguments
        self.given_loss, self.module, self.seed = loss, module, seed
        self.leaves = leaves_of(tensors)
        self.weights: list[Any] = []
        self.returned: Any = None  # what a given loss was evaluated on last

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        for leaf in self.leaves.values():
            leaf.join()

    def target(
        self,
        reset: Callable[[], object] | None,
        at_length: Callable[[int], Target] | None,
        steps: int | None,
    ) -> Target:
        """The target."""
        return Target(
            {name: leaf.array for name, leaf in self.leaves.items()},
            self.loss,
            self.gradient,
            reset=reset,
            at_length=at_length,
            steps=steps,
            bits=8 if any(leaf.shortened for leaf in self.leaves.values()) else None,
            layout=self._layout(),
        )

    def _layout(self) -> TorchLayout | None:
        """Known where a module takes one tensor."""
        if self.module is None or len(self.arguments) != 1:
            return None
        return TorchLayout(self.module, self.arguments[0], self)

    def loss(self) -> Array:
        """The loss or its terms."""
        with self._evaluation() as (outputs, weights):
            if weights is None:
                return as_array(outputs[0])
            # In float64, so that weighting and adding up lose nothing.
            parts = zip(outputs, weights, strict=True)
            products = [as_array(o).astype(np.float64) * as_array(w) for o, w in parts]
            return np.concatenate([product.reshape(-1) for product in products])

    def gradient(self) -> Mapping[str, Array]:
        """By torch's backward pass; `.grad` is left alone."""
        torch = import_module("torch")
        with self._evaluation() as (outputs, weights):
            seeds = [torch.ones_like(o) for o in outputs] if weights is None else weights
            return differentiate(outputs, self.leaves, seeds)

    @contextlib.contextmanager
    def _evaluation(self) -> Iterator[tuple[list[Any], list[Any] | None]]:
        """What is differentiated, and the weights of its entries where they were drawn."""
        torch = import_module("torch")
        devices = sorted(
            {leaf.tensor.device.index for leaf in self.leaves.values() if leaf.tensor.is_cuda}
        )
        with contextlib.ExitStack() as stack:
            for leaf in self.leaves.values():
                stack.enter_context(leaf.moved())
            stack.enter_context(torch.random.fork_rng(devices))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(kept_buffers(self.module))
            torch.manual_seed(self.seed)
            found = self.function(*self.arguments)
            yield self._weighted(found) if self.given_loss is None else self._lossy(found)

    def _lossy(self, found: Any) -> tuple[list[Any], None]:
        torch = import_module("torch")
        assert self.given_loss is not None
        self.returned = detached(found)
        value = self.given_loss(found)
        if not isinstance(value, torch.Tensor):
            way_out = "return the tensor itself, without .item() or float()"
            refuse("loss", "a tensor", type(value).__name__, way_out, error=CheckError)
        refuse_detached("loss", [value])
        return [value], None

    def _weighted(self, found: Any) -> tuple[list[Any], list[Any]]:
        """Every floating-point output that depends on a leaf, with its weights."""
        torch = import_module("torch")
        outputs = [t for _, t in named_tensors("outputs", found) if t.is_floating_point()]
        if not outputs:
            kind = type(found).__name__
            refuse("outputs", "tensors of floating-point numbers", kind, error=CheckError)
        refuse_detached("outputs", outputs)
        outputs = [output for output in outputs if output.requires_grad]
        if not self.weights:
            rng = np.random.default_rng(self.seed)
            for output in outputs:
                drawn = torch.from_numpy(rng.standard_normal(tuple(output.shape)))
                self.weights.append(drawn.to(output))
        return outputs, self.weights


@dataclass(frozen=True)
class Leaf:
    """A tensor that is checked, with all its aliases, as an array.

    On the CPU the two share memory. On other devices, and in bfloat16, which NumPy lacks, the
    array is a mirror: it is written to the tensor for each evaluation, and what the tensor then
    holds, rounded to its precision, is written back to the array.
    """

    tensor: Any
    array: Array
    mirrored: bool
    aliases: list[Any] = field(default_factory=list)

    def join(self) -> None:
        """Gives the tensor the array's memory, where the two are to share it."""
        if not self.mirrored:
            for tensor in (self.tensor, *self.aliases):
                tensor.data = import_module("torch").from_numpy(self.array)

    @property
    def shortened(self) -> bool:
        """Whether the tensor, in bfloat16, holds less than the array."""
        return str(self.tensor.dtype) not in SHARED

    @contextlib.contextmanager
    def moved(self) -> Iterator[None]:
        """Within a `with`, the tensor holds the array's numbers; afterwards its own again."""
        if not self.mirrored:
            yield
            return
        torch = import_module("torch")
        own = self.tensor.detach().clone()
        self.tensor.data.copy_(torch.from_numpy(np.ascontiguousarray(self.array)))
        self.array[...] = as_array(self.tensor)
        try:
            yield
        finally:
            self.tensor.data.copy_(own)


def leaves_of(tensors: Mapping[str, Any]) -> dict[str, Leaf]:
    """The tensors as leaves; tensors that share their memory are one leaf, by its first name."""
    found: dict[str, Leaf] = {}
    places: dict[tuple[object, ...], Leaf] = {}
    for name, tensor in tensors.items():
        _refuse_odd(name, tensor)
        if not tensor.numel():
            continue
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if place in places:
            places[place].aliases.append(tensor)
        else:
            places[place] = found[name] = _leaf(tensor)
    return found


def as_array(tensor: Any) -> Array:
    """A copy of a tensor's numbers; bfloat16 becomes float32, which holds all of its values."""
    torch = import_module("torch")
    value = tensor.detach().resolve_conj().resolve_neg().cpu()
    if str(value.dtype) not in SHARED and value.dtype.is_floating_point:
        value = value.to(torch.float32)
    return np.array(value.numpy())


def differentiate(outputs: Sequence[Any], leaves: Mapping[str, Leaf], seeds: Any) -> dict[str, Any]:
    """∂(Σ seeds · outputs) by each leaf, by torch's backward pass."""
    torch = import_module("torch")
    tensors = [t for leaf in leaves.values() for t in (leaf.tensor, *leaf.aliases)]
    found = iter(torch.autograd.grad(list(outputs), tensors, grad_outputs=seeds, allow_unused=True))
    gradient = {}
    for name, leaf in leaves.items():
        total = np.zeros(leaf.array.shape, leaf.array.dtype)
        for _ in (leaf.tensor, *leaf.aliases):
            part = next(found)
            if part is not None:
                total = total + as_array(part.to_dense() if part.is_sparse else part)
        gradient[name] = total
    return gradient


def named_tensors(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The tensors in nested tuples, lists and dictionaries, by a name such as `inputs[1][0]`."""
    torch = import_module("torch")
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from named_tensors(f"{name}[{key!r}]", part)
    elif isinstance(value, tuple | list):
        for place, part in enumerate(value):
            yield from named_tensors(f"{name}[{place}]", part)


def _leaf(tensor: Any) -> Leaf:
    shared = tensor.device.type == "cpu" and str(tensor.dtype) in SHARED
    if shared and tensor.is_contiguous():
        return Leaf(tensor, tensor.detach().numpy(), mirrored=False)
    return Leaf(tensor, as_array(tensor), mirrored=True)


def _refuse_odd(name: str, tensor: Any) -> None:
    if not tensor.dtype.is_floating_point:
        refuse(name, "a tensor of floating-point numbers", tensor.dtype, error=CheckError)
    if tensor.layout != import_module("torch").strided:
        refuse(name, "a dense tensor", tensor.layout, error=CheckError)
    if any(
        size > 1 and step == 0 for size, step in zip(tensor.shape, tensor.stride(), strict=True)
    ):
        way_out = "give it memory of its own: .clone()"
        refuse(name, "a tensor with memory for each entry", "an expanded one", way_out, CheckError)


def _needs_inputs(module: Any) -> bool:
    needed = inspect.signature(module.forward).parameters.values()
    return any(p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD for p in needed)


def refuse_detached(what: str, tensors: list[Any]) -> None:
    """Refuses what no gradient can flow from."""
    if any(tensor.requires_grad for tensor in tensors):
        return
    way_out = "look for .detach(), .data, .item() or torch.no_grad() on the way"
    expected = "something that depends on the parameters"
    refuse(what, expected, "a tensor without a backward pass", way_out, error=CheckError)


@contextlib.contextmanager
def kept_buffers(module: Any) -> Iterator[None]:
    """Puts back the buffers of a module and its submodules, those that are replaced included."""
    kept = [
        (owner, name, buffer, None if buffer is None else buffer.detach().clone())
        for owner in (module.modules() if module is not None else ())
        for name, buffer in owner._buffers.items()
    ]
    try:
        yield
    finally:
        for owner, name, buffer, copy in kept:
            owner._buffers[name] = buffer
            if copy is not None:
                buffer.data.copy_(copy)


def _function_class(what: Any) -> Any:
    """The Function that this is, or whose `apply` it is; None for everything else."""
    torch = sys.modules["torch"]
    for owner in (what, getattr(what, "__self__", None)):
        if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
            return owner
    return None


def _argument_names(function: Callable[..., Any], owner: Any, count: int) -> list[str]:
    """The arguments' names in the function's signature; `inputs[k]` where they have none."""
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        arguments = {}.values()
    single = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [argument.name for argument in arguments if argument.kind in single]
    if owner is not None and owner.setup_context is _base().setup_context:
        names = names[1:]  # ctx comes first, unless it is set up elsewhere
    return [names[k] if k < len(names) else f"inputs[{k}]" for k in range(count)]


def _base() -> Any:
    return sys.modules["torch"].autograd.Function
