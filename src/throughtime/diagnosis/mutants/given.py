"""A torch module's own loss as that of a model: its derivative by the outputs is autograd's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from throughtime.arrays import Array, refuse
from throughtime.diagnosis.mutants.losses import Loss


@dataclass(frozen=True, kw_only=True)
class GivenLoss(Loss):
    """A function of a torch module's outputs.

    Attributes:
        loss: it; a tensor, the loss or its terms, from what the module returned.
        seen: what the module returned when it was called last.
        batch_first: whether its outputs are (B, T, O).
    """

    kind: str = "given"
    loss: Callable[[Any], Any]
    seen: Any
    batch_first: bool = False

    def evaluate(self, y: Array, targets: Array, weights: Array) -> tuple[float, Array]:
        """The loss, and its derivative by the outputs (T, B, O)."""
        torch = import_module("torch")
        whole = isinstance(self.seen, torch.Tensor)
        first = self.seen if whole else self.seen[0]
        with torch.enable_grad():
            leaf = torch.from_numpy(y).to(first).requires_grad_()
            outputs = self._as_returned(leaf, first.shape)
            value = self.loss(outputs if whole else (outputs, *self.seen[1:]))
            if not value.requires_grad:
                refuse("layout of a module", "a loss of every step's outputs", "one of others")
            (dy,) = torch.autograd.grad(value.sum(), leaf)
        return float(value.detach().double().sum()), dy.double().cpu().numpy()

    def _as_returned(self, y: Any, shape: Any) -> Any:
        """(T, B, O) as the module's outputs: batch first, of one sequence, of the last step."""
        for axes in self._views(y):
            if axes.shape == shape:
                return axes
        return refuse("layout of a module", f"outputs of {tuple(y.shape)}", tuple(shape))

    def _views(self, y: Any) -> Iterator[Any]:
        yield y.swapaxes(0, 1) if self.batch_first else y
        yield y[-1]
        yield y[:, 0]
        yield y[-1, 0]


def detached(outputs: Any) -> Any:
    """What a module returned, without its backward pass: a tensor, or a tuple of such."""
    if isinstance(outputs, tuple | list):
        return tuple(detached(one) for one in outputs)
    return outputs.detach() if hasattr(outputs, "detach") else outputs
