"""What a module is called with: looked at, and brought into the form that the walk wants.

The messages are torch's where torch has good ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import PackedSequence

from throughtime.arrays import refuse
from throughtime.torch.weights import Maybe


class Arrived(NamedTuple):
    """Inputs time first, and how the results are to leave.

    Attributes:
        module: who was called.
        x: (T, B, I), or the rows (N, I) of a PackedSequence.
        h, c: initial state (layers · directions, B, ·), or None.
        batch: B.
        sizes: a PackedSequence's batch sizes, None for others.
        sorted, unsorted: its permutations.
        batched: whether there was a batch axis.
    """

    module: Any
    x: torch.Tensor
    h: Maybe
    c: Maybe
    batch: int
    sizes: Maybe = None
    sorted: Maybe = None
    unsorted: Maybe = None
    batched: bool = True

    def leave(self, outputs: torch.Tensor, h: torch.Tensor, c: Maybe) -> tuple[Any, Any]:
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


def weight_names(module: Any) -> list[str]:
    """One direction after the other, in the engine's order."""
    found: list[str] = []
    for names in module._all_weights:
        found += names
        if module.peepholes:
            found.append(names[0].replace("weight_ih", "weight_peephole"))
    return found


def weights_of(module: Any) -> list[torch.Tensor]:
    """Those of `weight_names`, as the module's attributes are now."""
    held = module._parameters  # quicker than attributes; what was put in a parameter's place is one
    names = weight_names(module)
    return [held[name] if name in held else getattr(module, name) for name in names]


def arrive(module: Any, input: Any, hx: Any, W: torch.Tensor) -> Arrived:
    """Looks at everything, then arranges it.

    Raises:
        RuntimeError, ValueError, TypeError: as torch's modules for shapes and dtypes that do not
            fit; for states of another form, device or dtype with what was expected.
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
    return Arrived(module, x, h, c, B, sizes, order, back, batched)


def _batch(sizes: torch.Tensor, hx: Any) -> int:
    """B; a compiler, who does not know the numbers, takes the state's, and the operator looks."""
    if torch.compiler.is_compiling() and hx is not None:
        state = hx[0] if isinstance(hx, tuple | list) else hx
        return int(state.shape[1])
    return int(sizes[0])


def _state(module: Any, hx: Any, batched: bool, B: int, x: torch.Tensor) -> tuple[Maybe, Maybe]:
    """h_0 and c_0, each (layers · directions, B, ·); c_0 for the LSTM only."""
    if hx is None:
        return None, None
    lstm, name = module.mode == "LSTM", type(module).__name__
    given = tuple(hx) if isinstance(hx, tuple | list) else (hx,)
    if len(given) != 1 + lstm or not all(isinstance(s, torch.Tensor) for s in given):
        expected = "a tuple of two tensors (h_0, c_0)" if lstm else "one tensor, h_0"
        kinds = ", ".join(type(s).__name__ for s in given)
        actual = f"a tuple of {kinds}" if isinstance(hx, tuple | list) else kinds
        refuse(f"{name}: hx", expected, actual, error=TypeError)
    if not lstm and isinstance(hx, tuple | list):
        refuse(f"{name}: hx", "one tensor, h_0", "a tuple of it", error=TypeError)
    axes = 2 + batched
    if any(s.dim() != axes for s in given):
        kind = "batched 3-D" if batched else "unbatched 2-D"
        found = ", ".join(f"{s.dim()}-D" for s in given)
        message = f"For {kind} input, hx should also be {axes}-D but got {found}"
        raise RuntimeError(message)
    sides = module.num_layers * (1 + module.bidirectional)
    sizes = (module.proj_size or module.hidden_size, module.hidden_size)
    parts: list[Maybe] = []
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
        module.check_hidden_size(part, (sides, B, size), f"Expected {which} size {{}}, got {{}}")
        parts.append(part)
    return parts[0], parts[1] if lstm else None
