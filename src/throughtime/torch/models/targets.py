"""A torch module, its inputs and a loss as a target: its own parameters are moved and put back."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.diagnosis import TorchLayout, detached
from throughtime.gradcheck import CheckError, Target
from throughtime.torch.models.tensors import as_array, differentiate, leaves_of, walk


def is_module(what: object, *_: Any) -> bool:
    """Whether this is a torch module; torch is not imported to find out."""
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
    """A torch module as it stands, in training or in evaluation, on its own device.

    Checked are the parameters that require a gradient and the inputs that do. Before each
    evaluation torch's random generators are seeded, so that dropout draws the same masks, and
    after it they and the module's buffers (running statistics) are put back.

    Args:
        module: called as `module(*inputs)`; one tuple alone is taken apart.
        inputs: tensors, or tuples, lists and dictionaries of them, such as an LSTM's (h, c).
        loss: of the outputs; a tensor, the loss or its terms. By default the outputs, all of
            them, weighted with random numbers that are drawn once.
        reset, at_length, steps: as in Target.
        seed: of the dropout's masks and of the weights.

    Raises:
        CheckError: where nothing requires a gradient, or the loss does not depend on anything.
    """
    if not inputs and _needs_inputs(module):
        way_out = "tt.check(module, inputs); in a file, a tuple: (module, inputs)"
        refuse("module", "its inputs beside it", "the module alone", way_out, CheckError)
    arguments = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], tuple) else inputs
    tensors = {name: p for name, p in module.named_parameters() if p.requires_grad}
    tensors |= {name: tensor for name, tensor in walk("inputs", arguments) if tensor.requires_grad}
    if not tensors:
        way_out = "give the inputs .requires_grad_(), or the parameters"
        refuse("module", "something that requires a gradient", "nothing", way_out, CheckError)
    run = Run(module, arguments, tensors, loss, module=module, seed=seed)
    return run.target(reset, at_length, steps)


class Run:
    """Evaluates a function of tensors, and leaves everything as it was.

    Where a copy arrives in another process, its arrays and tensors are one memory again.
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
        outputs = [t for _, t in walk("outputs", found) if t.is_floating_point()]
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
