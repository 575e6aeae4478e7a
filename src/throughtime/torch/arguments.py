"""What a module is called with: validated, and arranged time first; results as torch gives them.

Messages are torch's where torch has good ones.

Under autocast to bfloat16 the engine's products are in that, where the processor has such products;
all else is computed in the weights' precision. Results are then rounded to the precision that
torch's modules give. In these the products are done in the lower precision, and
whatever meets a state afterwards is promoted to the state's. So an initial state in float32, or
inputs in float32 without one, give float32, except where the result is itself a product: h of an
RNN and of an LSTM with a projection. A plain LSTM goes to oneDNN, which computes in the lower
precision throughout: on inputs in float32, and on inputs in a lower precision for which the
processor has products.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import PackedSequence

from throughtime import _engine
from throughtime.arrays import refuse
from throughtime.torch.models.weights import MaybeTensor


class Arguments(NamedTuple):
    """Inputs, time first, and what is needed to give results as torch does.

    Attributes:
        module: the module that was called.
        x: (T, B, I), or the rows (N, I) of a PackedSequence.
        h, c: initial state (layers · directions, B, ·), or None.
        batch: B.
        sizes: a PackedSequence's batch sizes, None for others.
        sorted, unsorted: its permutations.
        batched: whether there was a batch axis.
    """

    module: Any
    x: torch.Tensor
    h: MaybeTensor
    c: MaybeTensor
    batch: int
    sizes: MaybeTensor = None
    sorted: MaybeTensor = None
    unsorted: MaybeTensor = None
    batched: bool = True

    def results(self, outputs: torch.Tensor, h: torch.Tensor, c: MaybeTensor) -> tuple[Any, Any]:
        """Outputs and final state as torch gives them."""
        final = []
        for part in (h,) if c is None else (h, c):
            if self.unsorted is not None:
                part = part.index_select(1, self.unsorted)
            final.append(part if self.batched else part.squeeze(1))
        hx = final[0] if c is None else tuple(final)
        if self.sizes is not None:
            return PackedSequence(outputs, self.sizes, self.sorted, self.unsorted), hx
        if not self.batched:
            return outputs.squeeze(1), hx
        return (outputs.transpose(0, 1) if self.module.batch_first else outputs), hx


def arrange(module: Any, input: Any, hx: Any, W: torch.Tensor) -> Arguments:
    """Validates everything, then arranges it.

    Raises:
        RuntimeError, ValueError, TypeError: as torch's modules do, for shapes and dtypes that do
            not fit; for a state of another form, device or dtype, with what was expected.
    """
    name = type(module).__name__
    packed = isinstance(input, PackedSequence)
    x, sizes, order, back = input if packed else (input, None, None, None)
    if sizes is not None:
        sizes = sizes.to(torch.int64).contiguous()
    if not packed and x.dim() not in (2, 3):
        raise ValueError(f"{name}: Expected input to be 2D or 3D, got {x.dim()}D instead")
    batched = packed or x.dim() == 3
    if not batched:
        x = x.unsqueeze(1)
    elif module.batch_first and not packed:
        x = x.transpose(0, 1)
    mixed = x.dtype != W.dtype
    if mixed and torch.is_autocast_enabled("cpu"):
        x = x.to(W.dtype)
    elif mixed or x.dim() != 3 - packed or x.shape[-1] != module.input_size:
        module._update_flat_weights()
        module.check_input(x, sizes)
    if not packed and not x.shape[0]:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    B = x.shape[1] if sizes is None else _batch(sizes, hx)
    h, c = _state(module, hx, batched, B, x)
    if order is not None:
        h, c = (None if s is None else s.index_select(1, order) for s in (h, c))
    return Arguments(module, x, h, c, B, sizes, order, back, batched)


def _batch(sizes: torch.Tensor, hx: Any) -> int:
    """B; a compiler, which does not know the numbers, takes the state's; the operator checks it."""
    if torch.compiler.is_compiling() and hx is not None:
        state = hx[0] if isinstance(hx, tuple | list) else hx
        return int(state.shape[1])
    return int(sizes[0])


def _state(
    module: Any, hx: Any, batched: bool, B: int, x: torch.Tensor
) -> tuple[MaybeTensor, MaybeTensor]:
    """h_0 and c_0, each (layers · directions, B, ·); c_0 for the LSTM only."""
    if hx is None:
        return None, None
    lstm, name = module.mode == "LSTM", type(module).__name__
    given = tuple(hx) if isinstance(hx, tuple | list) else (hx,)
    if len(given) != 1 + lstm or not all(isinstance(s, torch.Tensor) for s in given):
        expected = "a tuple of two tensors (h_0, c_0)" if lstm else "one tensor, h_0"
        kinds = ", ".join(type(s).__name__ for s in given)
        actual = f"a tuple of {kinds}" if isinstance(hx, tuple | list) else kinds
        # torch's error for a third state; one that is missing, or none, it does not name.
        error = RuntimeError if lstm and len(given) > 2 else TypeError
        refuse(f"{name}: hx", expected, actual, error=error)
    if not lstm and isinstance(hx, tuple | list):
        refuse(f"{name}: hx", "one tensor, h_0", "a tuple of it", error=TypeError)
    axes = 2 + batched
    if any(s.dim() != axes for s in given):
        kind = "batched 3-D" if batched else "unbatched 2-D"
        found = ", ".join(f"{s.dim()}-D" for s in given)
        message = f"For {kind} input, hx should also be {axes}-D but got {found}"
        raise RuntimeError(message)
    directions = module.num_layers * (1 + module.bidirectional)
    sizes = (module.proj_size or module.hidden_size, module.hidden_size)
    parts: list[MaybeTensor] = []
    for k, (part, size) in enumerate(zip(given, sizes, strict=False)):
        if part.device != x.device:
            what, way_out = f"{name}: hx[{k}]", f"hx[{k}].to({str(x.device)!r})"
            refuse(what, f"a tensor on {x.device}", part.device, way_out, error=RuntimeError)
        if part.dtype != x.dtype:
            if not torch.is_autocast_enabled("cpu"):
                way_out = f"convert it: .to({x.dtype})"
                refuse(f"{name}: hx[{k}]", x.dtype, part.dtype, way_out, error=ValueError)
            part = part.to(x.dtype)
        part = part if batched else part.unsqueeze(1)
        which = f"hidden[{k}]" if lstm else "hidden"
        module.check_hidden_size(
            part, (directions, B, size), f"Expected {which} size {{}}, got {{}}"
        )
        parts.append(part)
    return parts[0], parts[1] if lstm else None


def precisions(module: Any, input: Any, hx: Any, dtype: torch.dtype) -> tuple[Any, Any] | None:
    """The precisions of outputs and h, and of c; None where they are `dtype`, the weights' own."""
    if not torch.is_autocast_enabled("cpu") or dtype is not torch.float32:
        return None
    packed = isinstance(input, PackedSequence)
    x = input.data if packed else input
    state = hx[0] if isinstance(hx, tuple | list) else hx
    low = torch.get_autocast_dtype("cpu")
    carried = torch.promote_types(low, (x if state is None else state).dtype)
    lstm = module.mode == "LSTM"
    if lstm and not module.proj_size and not packed and _in_one_dnn(x.dtype):
        return low, low
    if module.mode.startswith("RNN") or module.proj_size:
        return low, carried
    return carried, carried


def is_autocast_to_bfloat16(dtype: torch.dtype) -> bool:
    """Whether autocast asks for products in bfloat16 of weights in `dtype`, and there are such."""
    return (
        dtype is torch.float32
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") is torch.bfloat16
        and bool(_engine.bfloat16())
    )


def _in_one_dnn(dtype: torch.dtype) -> bool:
    """Whether torch hands a plain LSTM on inputs of this precision to oneDNN."""
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype is torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return dtype is torch.float32


def rounded(results: Any, dtypes: tuple[Any, Any] | None) -> Any:
    """Outputs and final state in these precisions."""
    if dtypes is None:
        return results
    outputs, final = results
    if isinstance(final, tuple):
        final = (final[0].to(dtypes[0]), final[1].to(dtypes[1]))
    else:
        final = final.to(dtypes[0])
    if isinstance(outputs, PackedSequence):
        outputs = outputs._replace(data=outputs.data.to(dtypes[0]))
    else:
        outputs = outputs.to(dtypes[0])
    return outputs, final
