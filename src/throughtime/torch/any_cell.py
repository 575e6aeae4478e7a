"""A cell of this package as a torch module, such as one that is written as forward equations.

The cell runs in NumPy on the tensors' own memory, forwards and backwards, and autograd sees one
operation. Where a gradient is to be differentiated again, the same equations run in torch's own
operations. Torch's version counters notice a parameter or an input that was changed in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from throughtime.arrays import generator, refuse
from throughtime.cells import Cell, State
from throughtime.network import RecurrentInBfloat16, RecurrentLayer
from throughtime.torch.arguments import is_autocast_to_bfloat16
from throughtime.torch.double_backward import gradients_by_autograd
from throughtime.torch.execution import is_recording
from throughtime.torch.reference import steps

PRECISIONS = (torch.float32, torch.float64)


class Recurrent(torch.nn.Module):
    """A recurrent layer made of a cell, for autograd.

    Args:
        cell: what `tt.cell` made of forward equations, with its sizes, or an RNN, LSTM or GRU of
            this package.
        batch_first: whether inputs and outputs are (B, T, ·) in place of (T, B, ·).
        seed: random seed of the initialisation, which is the cell's own.
        dtype: torch.float32 or torch.float64.

    Its parameters have the cell's names; those of a second direction begin with `reverse_`. Under
    autocast, inputs and states of a lower precision are taken in that of the parameters, and under
    autocast to bfloat16 the products of matrices are in bfloat16 where the processor has such
    products and the cell's are all of a parameter with a vector. Results are in the parameters'
    precision.

    Raises:
        TypeError: for anything else than a cell; for another precision or device than float32 and
            float64 on the CPU, when it is called.

    Example:
        >>> import numpy as np, torch
        >>> import throughtime as tt
        >>> import throughtime.torch
        >>> @tt.cell(W="H I", U="H H", b="H")
        ... def elman(x, h, W, U, b):
        ...     return np.tanh(W @ x + U @ h + b)
        >>> layer = throughtime.torch.Recurrent(elman(3, 4))
        >>> outputs, state = layer(torch.zeros(7, 2, 3))
        >>> outputs.shape, list(state)
        (torch.Size([7, 2, 4]), ['h'])
        >>> outputs.sum().backward()
        >>> layer.b.grad.shape
        torch.Size([4])
    """

    def __init__(
        self,
        cell: Cell,
        *,
        batch_first: bool = False,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if not isinstance(cell, Cell):
            way_out = "call it with its sizes: cell(3, 4)" if callable(cell) else ""
            refuse("Recurrent", "a cell with its sizes", repr(cell), way_out, error=TypeError)
        self.cell, self.batch_first = cell, batch_first
        self.layer = RecurrentLayer(cell)
        shapes = self.layer.shapes()
        arrays = {name: np.zeros(shape) for name, shape in shapes.items()}
        self.layer.initialise(arrays, generator("seed", seed))
        for name, array in arrays.items():
            self.register_parameter(
                _word(name), torch.nn.Parameter(torch.tensor(array, dtype=dtype))
            )

    def extra_repr(self) -> str:
        """The cell."""
        return repr(self.cell) + ", batch_first=True" * self.batch_first

    def weights(self) -> dict[str, torch.Tensor]:
        """The parameters by the cell's names; those of a second direction begin with "1."."""
        return {name: getattr(self, _word(name)) for name in self.layer.shapes()}

    def forward(
        self,
        inputs: torch.Tensor,
        state: Mapping[str, torch.Tensor] | None = None,
        lengths: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Runs all steps.

        Args:
            inputs: (T, B, I), or (B, T, I) with `batch_first`; or class indices (T, B).
            state: the initial state by name, (B, n) for each part; zeros if not given.
            lengths: (B,), the steps of each sequence; all T if not given.

        Returns:
            outputs (T, B, ·), and the final state by name.
        """
        if is_recording():
            actual = "one that is recorded (torch.jit.trace, torch.export, make_fx)"
            way_out = "the cell runs in NumPy, of which a graph or a file has nothing"
            refuse("Recurrent", "an ordinary call", actual, way_out, error=RuntimeError)
        parameters = list(self.weights().values())
        parts = list(self.layer.state_sizes())
        if state is not None and set(state) != set(parts):
            refuse("state", "the parts " + ", ".join(parts), ", ".join(state), error=ValueError)
        before = [] if state is None else [state[part] for part in parts]
        x = inputs.transpose(0, 1) if self.batch_first else inputs
        if torch.is_autocast_enabled("cpu") and parameters:
            x, *before = (_as(parameters[0].dtype, tensor) for tensor in (x, *before))
        self._validate(x, [*parameters, *before])
        layer = self._layer_for(parameters)
        found = _CellFunction.apply(layer, lengths, x, len(parameters), *parameters, *before)
        outputs = found[0].transpose(0, 1) if self.batch_first else found[0]
        return outputs, dict(zip(parts, found[1:], strict=True))

    def _layer_for(self, parameters: list[torch.Tensor]) -> RecurrentLayer:
        """The layer, with products in bfloat16 where autocast asks for them and it has such."""
        asked = bool(parameters) and is_autocast_to_bfloat16(parameters[0].dtype)
        if asked and self.cell.multiplies_in_bfloat16:
            return RecurrentInBfloat16(self.cell)
        return self.layer

    def _validate(self, x: torch.Tensor, others: list[torch.Tensor]) -> None:
        classes = not x.dtype.is_floating_point
        axes = 2 if classes else 3
        wanted = "(T, B)" if classes else f"(T, B, {self.cell.inputs})"
        if x.dim() != axes or (not classes and x.shape[2] != self.cell.inputs):
            refuse("inputs", wanted, tuple(x.shape))
        dtype = others[0].dtype if others else x.dtype
        for tensor in others if classes else [x, *others]:
            if tensor.device.type != "cpu":
                refuse("inputs", "tensors on the CPU", tensor.device, ".cpu()", error=TypeError)
            if tensor.dtype != dtype or dtype not in PRECISIONS:
                expected = f"{dtype} throughout" if dtype in PRECISIONS else "float32 or float64"
                refuse("inputs", expected, tensor.dtype, f".to({dtype})", error=TypeError)


class _CellFunction(torch.autograd.Function):
    """All steps of a layer; what needs no gradient comes first."""

    @staticmethod
    def forward(
        context: Any,
        layer: RecurrentLayer,
        lengths: torch.Tensor | None,
        x: torch.Tensor,
        count: int,
        *tensors: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        p = _arrays(layer.shapes(), tensors[:count])
        before: State | None = _arrays(layer.state_sizes(), tensors[count:]) or None
        counts = None if lengths is None else lengths.detach().cpu().numpy()
        inputs = np.ascontiguousarray(x.detach().numpy())
        outputs, final, tape = layer.forward(p, inputs, before, counts, None)
        context.layer, context.tape, context.count, context.lengths = layer, tape, count, counts
        context.save_for_backward(x, *tensors)
        return _tensor(outputs), *(_tensor(final[part]) for part in layer.state_sizes())

    @staticmethod
    def backward(context: Any, *d: torch.Tensor) -> tuple[Any, ...]:
        x, *tensors = context.saved_tensors  # raises where one was changed in place
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            return _differentiable(context, x, tensors, d)
        layer, count = context.layer, context.count
        p = _arrays(layer.shapes(), tensors[:count])
        wanted = context.needs_input_grad[2]
        found = layer.backward(
            p,
            context.tape,
            d[0].detach().numpy(),
            _arrays(layer.state_sizes(), d[1:]),
            need_inputs=wanted,
            need_deltas=False,
            gradient={name: np.zeros_like(array) for name, array in p.items()},
        )
        dx = _tensor(found.inputs) if wanted and found.inputs is not None else None
        dp = [_tensor(found.parameters[name]) for name in p]
        dstate = [_tensor(found.state[part]) for part in layer.state_sizes()]
        return None, None, dx, None, *dp, *(dstate if len(tensors) > count else [])


def _differentiable(
    context: Any, x: torch.Tensor, tensors: list[torch.Tensor], d: tuple[torch.Tensor, ...]
) -> tuple[Any, ...]:
    """The same by autograd, of the cell's equations in torch's own operations."""
    layer, count = context.layer, context.count
    cell, names, parts = layer.cell, list(layer.shapes()), list(layer.state_sizes())
    lengths = None if context.lengths is None else torch.from_numpy(context.lengths)

    def run(x: torch.Tensor, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        p = dict(zip(names, tensors[:count], strict=True))
        before = dict(zip(parts, tensors[count:], strict=False))
        outputs: list[torch.Tensor] = []
        final: dict[str, torch.Tensor] = {}
        for prefix in layer.prefixes:
            own = {name: p[prefix + name] for name in cell.shapes()}
            initial = {n: before[prefix + n] for n in cell.state_sizes if prefix + n in before}
            turned = _turned(x, lengths) if prefix else x
            y, end = steps(cell, own, turned, initial, lengths)
            if lengths is not None:
                y = y * (torch.arange(len(y))[:, None, None] < lengths[:, None])
            outputs.append(_turned(y, lengths) if prefix else y)
            final |= {prefix + n: tensor for n, tensor in end.items()}
        return torch.cat(outputs, dim=-1), *(final[part] for part in parts)

    dx, *others = gradients_by_autograd(run, [x, *tensors], d, create_graph=True)
    return None, None, dx, None, *others


def _turned(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """(T, B, …) with time reversed, each sequence within its own length."""
    if lengths is None:
        return x.flip(0)
    t = torch.arange(len(x))[:, None]
    return x[torch.where(t < lengths, lengths - 1 - t, t), torch.arange(x.shape[1])]


def _word(name: str) -> str:
    """A parameter's name in a module, in which no dot may stand."""
    return name.replace("1.", "reverse_", 1) if name.startswith("1.") else name


def _as(dtype: torch.dtype, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in the parameters' precision, if autocast has brought it into a lower one."""
    return tensor.to(dtype) if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _arrays(names: Mapping[str, Any], tensors: Any) -> dict[str, Any]:
    """Views of tensors by name; none where there are none."""
    return {n: tensor.detach().numpy() for n, tensor in zip(names, tensors, strict=False)}


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
