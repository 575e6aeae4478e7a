"""One direction of one layer: the order of its steps, what it keeps, and how the user sees it.

The engine wants (T, B, I), time first, and its second direction in its own order of time. A
PackedSequence's rows are those of all steps, longest sequences first: each row has its place
among the T·B of the padded array, forwards and backwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from throughtime.arrays import Array, refuse
from throughtime.cells import Cell
from throughtime.torch.config import ModuleConfig
from throughtime.torch.models.weights import MaybeTensor, TorchWeights

Result: TypeAlias = tuple[torch.Tensor, torch.Tensor, MaybeTensor]  # outputs, final h, final c
RunDirection: TypeAlias = Callable[
    [int, torch.Tensor, MaybeTensor, MaybeTensor, TorchWeights], Result
]
Drop: TypeAlias = Callable[[int, torch.Tensor], torch.Tensor]  # dropout after a layer

EMPTY = {dtype: torch.empty(0, dtype=dtype) for dtype in (torch.float32, torch.float64)}


class StepOrder(NamedTuple):
    """The order in which one direction takes its rows.

    Attributes:
        steps, batch: T and B.
        lengths: (B,) steps of each sequence; None where all have T.
        packed: whether inputs come as a PackedSequence's rows (N, I).
        place: (N,) where each of these rows stands among T·B; None where they stand in order.
        reverse: whether time runs backwards.
    """

    steps: int
    batch: int
    lengths: Array | None = None
    packed: bool = False
    place: torch.Tensor | None = None
    reverse: bool = False

    @property
    def in_order(self) -> bool:
        """Whether rows come in the order in which the engine takes them."""
        return self.place is None and not self.reverse

    def as_rows(self, array: Any) -> Any:
        """(T, B, ·) as rows (T·B, ·), where the inputs are rows."""
        return array.reshape(self.steps * self.batch, -1) if self.packed else array

    def to_engine(self, x: torch.Tensor) -> torch.Tensor:
        """Rows as they come -> (T, B, ·) in this direction's order of time."""
        if self.place is not None:
            padded = x.new_zeros(self.steps * self.batch, x.shape[-1])
            return padded.index_copy_(0, self.place, x).view(self.steps, self.batch, -1)
        if self.packed:
            x = x.reshape(self.steps, self.batch, -1)
        return x.flip(0) if self.reverse else x.contiguous()

    def from_engine(self, y: torch.Tensor) -> torch.Tensor:
        """The inverse of `to_engine`."""
        if self.place is not None:
            return y.reshape(self.steps * self.batch, -1).index_select(0, self.place)
        if self.reverse:
            y = y.flip(0)
        return self.as_rows(y)

    def own_steps(self) -> MaybeTensor:
        """(T, B): where each step stands in the second direction's time; None in the first."""
        if not self.reverse:
            return None
        lengths = None if self.lengths is None else torch.from_numpy(self.lengths)
        return reversed_steps(self.steps, self.batch, lengths)


StepOrders: TypeAlias = tuple[StepOrder, StepOrder]  # of both directions


def step_orders(sizes: MaybeTensor, steps: int, batch: int) -> StepOrders:
    """Both directions' orders, of inputs (T, B, I) or, where it has sizes, a PackedSequence."""
    if sizes is not None:
        return packed_orders(sizes)
    return StepOrder(steps, batch), StepOrder(steps, batch, None, False, None, True)


def packed_orders(sizes: torch.Tensor) -> StepOrders:
    """Those of a PackedSequence, from how many of its sequences run at each step."""
    running = sizes.numpy()
    steps, batch = len(running), int(running[0])
    if running[-1] == batch:  # all have the same length
        forwards = StepOrder(steps, batch, packed=True)
        return forwards, StepOrder(steps, batch, packed=True, reverse=True)
    active = np.arange(batch) < running[:, None]
    lengths = active.sum(axis=0)
    t, b = np.nonzero(active)
    places = (t * batch + b, (lengths[b] - 1 - t) * batch + b)
    forwards, backwards = (
        StepOrder(steps, batch, lengths, True, torch.from_numpy(place), reverse)
        for place, reverse in zip(places, (False, True), strict=True)
    )
    return forwards, backwards


def reversed_steps(steps: int, batch: int, lengths: MaybeTensor) -> torch.Tensor:
    """(T, B): where each step stands in the second direction's order of time.

    Args:
        steps, batch: T and B.
        lengths: (B,), None where all sequences have T steps.
    """
    t = torch.arange(steps)[:, None]
    if lengths is None:
        return (steps - 1 - t).expand(steps, batch)
    return torch.where(t < lengths, lengths - 1 - t, t)


@dataclass(frozen=True)
class LayerStates:
    """Every inner value of one direction of one layer, time first, detached.

    They are the memory that the backward pass reads: if one is changed in place, torch refuses
    the backward pass. The steps of a PackedSequence are padded, in the order of its sequences
    before packing; beyond a sequence's length h and c keep their last values and the gates are 0.

    Attributes:
        h: (T, B, H), or (T, B, P) with a projection; after every step.
        c: (T, B, H) of an LSTM, else None.
        gates: by name, each (T, B, H): LSTM i, f, a (the candidate), o, tanh_c; GRU r, z, n and
            u_n = U_n h + c, or reset_h = r ⊙ h where the reset gate acts before the product;
            RNN s, which is h.
        reverse: the same of the second direction, None where there is none.
    """

    h: torch.Tensor
    c: MaybeTensor
    gates: dict[str, torch.Tensor] = field(repr=False)
    reverse: LayerStates | None = None


class DirectionTape(NamedTuple):
    """What one direction's forward pass keeps, in that direction's order of time.

    Attributes:
        h, c: (T + 1, B, ·), from the initial state on; c None except for the LSTM.
        inner: (T, B, n·H), the gates side by side; None where a memory limit keeps them out.
    """

    h: torch.Tensor
    c: MaybeTensor
    inner: torch.Tensor

    def states(
        self, units: int, names: Sequence[str], own_steps: MaybeTensor, batch_order: MaybeTensor
    ) -> LayerStates:
        """As the user sees it.

        Args:
            units, names: H, and what the gates are called.
            own_steps: see `StepOrder.own_steps`.
            batch_order: (B,) the sequences' places before packing.
        """

        def seen(array: torch.Tensor) -> torch.Tensor:
            return as_given(array, own_steps, batch_order)

        gates = dict(zip(names, seen(self.inner).split(units, dim=2), strict=True))
        return LayerStates(seen(self.h[1:]), None if self.c is None else seen(self.c[1:]), gates)


@dataclass(eq=False)
class LayerDirection:
    """One direction of one layer, in one call of its module: what a pass must know beside tensors.

    Attributes:
        module: the module that was called; it knows its taps.
        call: the number of the module's call, counted over all modules.
        layer: the layer's number.
        cell, order: what runs, and in what order of steps.
        segment: steps that are differentiated at once.
        wanted: whether the forward pass is to fill in `tape`.
        batch_order: (B,) the sequences' places before packing, None where nothing was sorted.
        bfloat16: whether products are in bfloat16.
    """

    module: Any
    call: int
    layer: int
    cell: Cell
    order: StepOrder
    segment: int
    wanted: bool = False
    batch_order: Any = None
    tape: DirectionTape | None = None
    bfloat16: bool = False


def as_given(array: torch.Tensor, own_steps: MaybeTensor, batch_order: MaybeTensor) -> torch.Tensor:
    """(T, B, ·) in the engine's order -> in the order of the module's inputs."""
    if own_steps is not None:
        array = array.gather(0, own_steps[:, :, None].expand_as(array))
    return array if batch_order is None else array.index_select(1, batch_order)


def layer_states(directions: list[LayerDirection], per_layer: int) -> list[LayerStates]:
    """What the directions kept, a layer at a time."""
    own = []
    for one in directions:
        assert one.tape is not None
        names, own_steps = one.cell.kept_names, one.order.own_steps()
        own.append(one.tape.states(one.cell.units, names, own_steps, one.batch_order))
    return paired(own, per_layer)


def paired(own: list[LayerStates], per_layer: int) -> list[LayerStates]:
    """The second direction's states beside the first's."""
    if per_layer == 1:
        return own
    both = zip(own[::2], own[1::2], strict=True)
    return [LayerStates(a.h, a.c, a.gates, reverse=b) for a, b in both]


def with_memory(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself, once it is sure that it has the memory of its numbers.

    Raises:
        RuntimeError: where its storage was freed, as some libraries do between the passes.
    """
    if not tensor.data_ptr():
        address_of_none(tensor)
    return tensor


def address_of_none(tensor: torch.Tensor) -> int:
    """0, the address of an empty tensor; refuses one that is not empty."""
    if tensor.numel():
        actual = f"one of shape {tuple(tensor.shape)} whose storage was freed"
        refuse("throughtime.torch", "tensors with memory", actual, error=RuntimeError)
    return 0


class InPlaceChanges:
    """Whether outputs that are the tape's memory were changed in place.

    torch counts the changes, for all tensors that share the outputs' memory.
    """

    def __init__(self, outputs: torch.Tensor) -> None:
        self.counter = outputs.detach()
        self.counter.data = EMPTY[outputs.dtype]  # it shares the count but not the memory
        self.before = self.counter._version

    def any(self) -> bool:
        return bool(self.counter._version != self.before)


def run_layers(
    config: ModuleConfig,
    x: torch.Tensor,
    initial: tuple[MaybeTensor, MaybeTensor],
    weights: Sequence[torch.Tensor],
    run: RunDirection,
    drop: Drop | None,
) -> Result:
    """One direction after the other, one layer after the other.

    Args:
        config: of the module.
        x: (T, B, I), or the rows of a PackedSequence.
        initial: h and c of all directions, (layers · directions, B, ·), or None.
        weights: of all directions.
        run: computes a direction, given its number, its inputs, its h and c, and its weights.
        drop: dropout between layers, given the number of the layer and its outputs.

    Returns:
        the outputs of the last layer, and the final h and c of all directions.
    """
    own = config.by_direction(weights)
    final_h, final_c = [], []
    for layer in range(config.layers):
        outputs = []
        for k in range(layer * config.directions, (layer + 1) * config.directions):
            h, c = (None if part is None else part[k] for part in initial)
            y, h, c = run(k, x, h, c, own[k])
            outputs.append(y)
            final_h.append(h)
            final_c.append(c)
        x = outputs[0] if config.directions == 1 else torch.cat(outputs, dim=-1)
        if drop is not None and layer + 1 < config.layers:
            x = drop(layer, x)
    return x, _stacked(final_h), None if final_c[0] is None else _stacked(final_c)


def masked(masks: Sequence[torch.Tensor]) -> Drop | None:
    """Dropout by masks that were drawn before; None where there are none."""
    return (lambda layer, y: y * masks[layer]) if masks else None


def _stacked(parts: list[Any]) -> torch.Tensor:
    return parts[0].unsqueeze(0) if len(parts) == 1 else torch.stack(parts)
