"""What a recurrent module does in a run of a model that steps it in a loop of its own.

It is an `nn.LSTMCell`, `GRUCell` or `RNNCell`, or a module of several calls, each of one step or of
some. A state that is handed in as it was handed out continues its sequence: the same numbers, and
by torch's derivative the same state. Elsewhere a new sequence starts: where the model resets,
detaches or changes the state, row by row of the batch.

What the model gets is a copy of the state, and the next step runs from the state itself. So torch's
derivative by the copy is all that arrives there otherwise than by the recurrence: by losses, by
attention, by an output that is fed back, and by what these do to later steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradient_flow import UpstreamGradient
from throughtime.torch.models.observed_run import TensorFormat, array

CELLS = ("RNNCell", "LSTMCell", "GRUCell")


def is_cell(module: Any) -> bool:
    """Whether it is a module of one step."""
    nn = import_module("torch.nn")
    return isinstance(module, tuple(getattr(nn, name) for name in CELLS))


@dataclass(eq=False)
class ObservedStep:
    """One step, for B sequences.

    Attributes:
        inputs: (B, I).
        before: h and c that it starts from, (layers, B, ·).
        state: h and c after it, (layers, B, ·): tensors from which the next step runs.
        outputs: (B, H), the copy that the model gets; None where it gets `copies` alone.
        copies: of h and c, likewise; none within a call of several steps.
        handed: what the model has received as the state, and its versions then.
        parent: (B,), the step that each row continues, or −1.
        clock: when it was made, among all calls of the run.
    """

    inputs: Array
    before: list[Array]
    state: list[Any]
    outputs: Any
    parent: Array
    clock: int
    copies: list[Any] = field(default_factory=list)
    handed: list[Any] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)


class SteppedModule:
    """The steps of one module in the run, and the sequences that they make up.

    T is the length of the longest sequence, B their number.

    Args:
        name, module: "decoder.cell"; "" where the model is the module itself.

    Attributes:
        steps: in the order in which they were made.
        calls: how many calls of the module these were.
        format: how torch lays out its tensors.
        sequence, step: (calls, rows), which sequence each row of a call belongs to, and which step
            of it that is; −1 where the call has fewer rows.
        inputs: (T, B, I).
        lengths: (B,).
        state: that each sequence starts from, (layers, B, ·) for h and c; None for zeros.
        given: the copies that the rest of the model uses.
        outputs: of the whole model.
    """

    bidirectional = False

    def __init__(self, name: str, module: Any) -> None:
        self.name, self.module, self.is_cell = name, module, is_cell(module)
        self.steps: list[ObservedStep] = []
        self.calls = 0
        self.format = TensorFormat(bool(getattr(module, "batch_first", False)), False)
        self.sequence = self.step = np.zeros((0, 0), np.intp)
        self.inputs = np.zeros((0, 0, 0))
        self.lengths = np.zeros(0, np.intp)
        self.state: list[Array] | None = None
        self.given: list[Any] = []
        self.outputs: Any = None

    @property
    def title(self) -> str:
        """`decoder.cell` (LSTMCell)."""
        kind = type(self.module).__name__
        return f"`{self.name}` ({kind})" if self.name else f"the {kind}"

    @property
    def last(self) -> Array:
        """(B,), the last step of each sequence."""
        return self.lengths - 1

    @property
    def living(self) -> Array:
        """(steps, rows): where a loss may stand, by the steps of the model's run."""
        return self.sequence >= 0

    @property
    def aligned(self) -> bool:
        """Whether step t of every sequence is step t of the model's run."""
        own = np.arange(len(self.step))[:, None]
        return bool((self.step == np.where(self.living, own, -1)).all())

    def arranged(self, place: Array, at_end: bool) -> Array:
        """What stands at the steps of the model's run, at those of the sequences: (T, B).

        Args:
            at_end: whether it belongs to the end of a row, and so to its last sequence alone.
        """
        found = np.full(self.inputs.shape[:2], -1, np.intp)
        here = self.living
        found[self.step[here], self.sequence[here]] = place[here]
        if at_end:
            newest = np.where(self.living, np.arange(len(place))[:, None], -1).argmax(axis=0)
            own = np.isin(np.arange(found.shape[1]), self.sequence[newest, np.arange(len(newest))])
            found[:, ~own] = -1
            found[:, own] = found[0, own]
        return found

    @property
    def outputs_given(self) -> Array:
        """(T, B, H), what the module returned; 0 behind the end of a sequence."""
        return self._in_time([one.state[0][-1] for one in self.steps])

    @property
    def notes(self) -> tuple[str, ...]:
        """How the sequences came about."""
        steps, rows = self.living.shape
        several = f" in {self.calls} calls" if self.calls != steps else ""
        notes = [
            f"The model steps {self.title} in a loop of its own, {steps} steps{several}. A state "
            "that is handed in as it was handed out continues its sequence."
        ]
        count = self.inputs.shape[1]
        if not self.aligned:
            starts = sorted({int(t) for t in np.argwhere(self.step == 0)[:, 0] if t})
            few = ", ".join(map(str, starts[:8])) + (", …" if len(starts) > 8 else "")
            notes.append(
                f"Where it was reset, detached or changed a new sequence starts, here at step {few}"
                f" of the run: {rows} rows make up {count} sequences, and steps are counted within "
                "each of them."
            )
        return tuple(notes)

    def state_names(self, letter: str) -> list[str]:
        """The names, in a network's state, of h or c of all layers."""
        return [f"{n}.{letter}" for n in range(1 if self.is_cell else self.module.num_layers)]

    def arrived(self, parts: Sequence[Any]) -> UpstreamGradient:
        """What arrives at the steps, from the derivatives by `given`; n = 1."""
        each = iter(parts)
        outputs, letters = [], "hc"[: len(self.steps[0].state)]
        inner: dict[str, list[Any]] = {name: [] for n in letters for name in self.state_names(n)}
        names = [self.state_names(letter) for letter in letters]
        top = names[0][-1]
        for one in self.steps:
            own = [] if one.outputs is None else [next(each)]
            copies = [next(each) for _ in one.copies]
            for way, part in zip(names, copies, strict=False):
                for layer, name in enumerate(way):
                    inner[name].append(None if part is None else part[layer])
            if not copies:
                for name in inner:
                    inner[name].append(None)
            end = inner[top].pop()  # h of the highest layer is the output, and counts as one
            both = [part for part in (*own, end) if part is not None]
            outputs.append(sum(both[1:], both[0]) if both else None)
        del inner[top]
        found = {
            name: self._in_time(each_step, self.steps[0].state["hc".index(name[-1])][0])[None]
            for name, each_step in inner.items()
            if any(part is not None for part in each_step)
        }
        return UpstreamGradient(self._in_time(outputs, self.steps[0].state[0][-1])[None], {}, found)

    def _in_time(self, each: Sequence[Any], like: Any = None) -> Array:
        """Arrays (rows, ·) of the steps as one (T, B, ·); None is 0."""
        like = each[0] if like is None else like
        blank = array(like[:1])
        found = np.zeros((*self.inputs.shape[:2], blank.shape[1]), blank.dtype)
        for n, part in enumerate(each):
            if part is not None:
                rows = np.arange(len(part))
                found[self.step[n, rows], self.sequence[n, rows]] = array(part)
        return found

    def place(self, step: int, sequence: int) -> tuple[int, int]:
        """Step and row of the model's run, of a step of a sequence."""
        here = np.argwhere((self.step == step) & (self.sequence == sequence))
        return int(here[0, 0]), int(here[0, 1])

    def call(self, forward: Callable[..., Any], args: Any, kwargs: Any, clock: int) -> Any:
        """One call of the module, by whatever steps it has."""
        received = args[0] if args else kwargs.get("input")
        hx = args[1] if len(args) > 1 else kwargs.get("hx")
        others = {name: value for name, value in kwargs.items() if name not in ("input", "hx")}
        if received is None or args[2:]:
            self._refuse_forward()
        if hasattr(received, "batch_sizes"):
            way_out = "give it all steps in one call, or name another: of=…"
            refuse(self.title, "tensors, where it is called several times", "packed ones", way_out)
        self.calls += 1
        one_sequence = received.dim() == (1 if self.is_cell else 2)
        self.format = TensorFormat(self.format.batch_first, one_sequence)
        if self.is_cell:
            return self._one(forward, received, hx, others, clock, whole=True)
        axis = 1 if self.format.batch_first and not one_sequence else 0
        if received.shape[axis] == 1:
            return self._one(forward, received, hx, others, clock, whole=True)
        outputs = []
        for k in range(received.shape[axis]):
            here = received.narrow(axis, k, 1)
            out, hx = self._one(forward, here, hx, others, clock, k + 1 == received.shape[axis])
            outputs.append(out)
        return import_module("torch").cat(outputs, dim=axis), hx

    def _one(
        self, forward: Any, received: Any, hx: Any, others: Any, clock: int, whole: bool
    ) -> Any:
        """One step; `whole` where the model gets the state after it."""
        x = received
        if self.is_cell:
            x = x[None] if self.format.unbatched else x
        else:
            x = self.format.time_major(x)[0]
        parent = np.full(len(x), -1, np.intp)
        before = None
        if hx is not None:
            parts = [self._layers(one) for one in (hx if isinstance(hx, tuple | list) else [hx])]
            parts, parent = self._linked(hx, parts)
            before, back = parts, [self._as_given(one) for one in parts]
            hx = tuple(back) if len(back) > 1 else back[0]
        output = forward(received, hx, **others)
        final, more = output, ()
        if not self.is_cell:
            if not isinstance(output, tuple) or len(output) < 2:
                self._refuse_forward()
            _, final, *more = output
        several = isinstance(final, tuple | list)
        if not all(hasattr(one, "detach") for one in (final if several else [final])):
            self._refuse_forward()
        state = [self._layers(one) for one in (final if several else [final])]
        state = [one if one.requires_grad else one.detach().requires_grad_() for one in state]
        if not self.is_cell:
            self._same_output(output[0], state[0])
        if before is None:
            before = [one.detach() * 0 for one in state]
        numbers = [array(one) for one in before]
        step = ObservedStep(array(x), numbers, state, None, parent, clock)
        self.steps.append(step)
        if not self.is_cell:
            step.outputs = state[0][-1].clone()
        if whole:
            step.copies = [one.clone() for one in state]
            step.handed = [self._as_given(one).clone() for one in step.copies]
        else:
            step.handed = [self._as_given(one) for one in state]
        step.versions = [one._version for one in step.handed]
        result = tuple(step.handed) if several else step.handed[0]
        if self.is_cell:
            return result
        return step.outputs.clone().reshape(output[0].shape), result, *more

    def _refuse_forward(self) -> None:
        kind = type(self.module).__name__
        expected = "a forward method that takes and gives what torch's does"
        refuse(self.title, expected, f"{kind}.forward", "name another module: of=…", TypeError)

    def _same_output(self, output: Any, h: Any) -> None:
        torch = import_module("torch")
        if not torch.allclose(output.reshape(h[-1].shape), h[-1], equal_nan=True):
            expected = "an output that is h of the highest layer"
            refuse(self.title, expected, "another", "leave out a forward method of its own")

    def _layers(self, tensor: Any) -> Any:
        """A state as torch has it, as (layers, B, ·)."""
        if self.is_cell:
            return tensor[None, None] if self.format.unbatched else tensor[None]
        return self.format.state(tensor)

    def _as_given(self, tensor: Any) -> Any:
        """The reverse of `_layers`."""
        if self.is_cell:
            return tensor[0, 0] if self.format.unbatched else tensor[0]
        return tensor[:, 0] if self.format.unbatched else tensor

    def _linked(self, hx: Any, parts: list[Any]) -> tuple[list[Any], Array]:
        """The state that is handed in, with the rows that continue a sequence taken from there."""
        torch = import_module("torch")
        objects = list(hx) if isinstance(hx, tuple | list) else [hx]
        count = parts[0].shape[1]
        parent = np.full(count, -1, np.intp)
        for number in reversed(range(len(self.steps))):
            one = self.steps[number]
            if _same_objects(objects, one):
                if not self._taken(number).any() and one.state[0].shape[1] == count:
                    parent[:] = number
                    return list(one.state), parent
                break
        else:
            number = len(self.steps) - 1
        if number < 0:
            return parts, parent
        source = self.steps[number].state
        same = _same_rows(parts, source) & ~self._taken(number)[:count]
        if not same.any():
            return parts, parent
        parent[: len(same)][same] = number
        if same.all() and len(same) == count:
            return [one[:, :count] for one in source], parent
        chosen = torch.from_numpy(np.flatnonzero(same)).to(parts[0].device)
        return [
            part.index_copy(1, chosen, one.index_select(1, chosen))
            for part, one in zip(parts, source, strict=True)
        ], parent

    def _taken(self, number: int) -> Array:
        """The rows of a step from which another step has gone on."""
        found = np.zeros(self.steps[number].state[0].shape[1], bool)
        for one in self.steps[number + 1 :]:
            rows = np.flatnonzero(one.parent == number)
            found[rows] = True
        return found

    def finish(self) -> None:
        """Arranges the steps as sequences, once the model's run is complete.

        Raises:
            ValueError: where there is no recurrence: no state is handed in again.
        """
        rows = max(len(one.parent) for one in self.steps)
        self.sequence = np.full((len(self.steps), rows), -1, np.intp)
        self.step = self.sequence.copy()
        count = 0
        starts: list[tuple[int, int]] = []
        for n, one in enumerate(self.steps):
            for b, parent in enumerate(one.parent):
                if parent >= 0:
                    self.sequence[n, b] = self.sequence[parent, b]
                    self.step[n, b] = self.step[parent, b] + 1
                else:
                    self.sequence[n, b], self.step[n, b] = count, 0
                    starts.append((n, b))
                    count += 1
        self._refuse_alone()
        T = int(self.step.max()) + 1
        self.lengths = np.bincount(self.sequence[self.living], minlength=count)
        inputs = np.zeros((T, count, self.steps[0].inputs.shape[1]), self.steps[0].inputs.dtype)
        for n, one in enumerate(self.steps):
            all_rows = np.arange(len(one.parent))
            inputs[self.step[n, all_rows], self.sequence[n, all_rows]] = one.inputs
        self.inputs = inputs
        parts = range(len(self.steps[0].before))
        begun = [
            np.stack([self.steps[n].before[part][:, b] for n, b in starts], 1) for part in parts
        ]
        self.state = begun if any(one.any() for one in begun) else None
        self.given = []
        for one in self.steps:
            self.given += ([] if one.outputs is None else [one.outputs]) + one.copies

    def _refuse_alone(self) -> None:
        if self.step.max() > 0 or (len(self.steps) == 1 and not self.is_cell):
            return
        expected = "a state that is handed in as it was handed out in some step of the run"
        actual = f"none in {len(self.steps)} steps"
        way_out = "give a model whose forward method has the loop"
        if len(self.steps) > 1:
            way_out = (
                "what is done to the state between steps (dropout, normalisation, detach) belongs "
                "to the recurrence: look at a model without it"
            )
        refuse(self.title, expected, actual, way_out)


def _same_objects(objects: list[Any], step: ObservedStep) -> bool:
    """Whether these are the very tensors that a step has handed out, unchanged since."""
    if len(objects) != len(step.handed):
        return False
    each = zip(objects, step.handed, step.versions, strict=True)
    return all(one is other and other._version == version for one, other, version in each)


def _same_rows(parts: list[Any], source: list[Any]) -> Array:
    """The rows of a state that are those of another: the same numbers, and the same derivative."""
    torch = import_module("torch")
    count = min(parts[0].shape[1], source[0].shape[1])
    same = np.ones(count, bool)
    for part, one in zip(parts, source, strict=True):
        mine, other = part.detach()[:, :count], one.detach()[:, :count]
        equal = (mine == other) | (mine.isnan() & other.isnan())
        same &= equal.all(dim=2).all(dim=0).cpu().numpy()
    if not same.any() or not all(part.requires_grad for part in parts):
        return same & False
    generator = torch.Generator().manual_seed(0)
    probes = [torch.rand(part.shape, generator=generator).to(part) for part in parts]
    found = torch.autograd.grad(parts, source, probes, allow_unused=True, retain_graph=True)
    for own, probe in zip(found, probes, strict=True):
        if own is None:
            return same & False
        equal = own[:, :count] == probe[:, :count]
        same &= equal.all(dim=2).all(dim=0).cpu().numpy()
    return same
