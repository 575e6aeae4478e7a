"""Truncated backpropagation through time in a loop of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from throughtime.arrays import refuse
from throughtime.network import windows as planned_windows
from throughtime.torch.direction import LayerDirection
from throughtime.torch.modules import named_modules


@dataclass(frozen=True)
class Window:
    """A stretch of steps to run the model on.

    Attributes:
        batch: the steps from `start` to `stop` of what was given to `windows`.
        start, stop: the first step and one past the last one; steps count from 0.
        first: the first step whose loss counts; losses before it belong to earlier windows.
        new: the steps from `first` on, as a slice of the window: `outputs[window.new]`.
    """

    batch: Any
    start: int
    first: int
    stop: int
    _carry: Any = field(default=None, repr=False, compare=False)

    @property
    def new(self) -> slice:
        """`slice(first - start, None)`."""
        return slice(self.first - self.start, None)

    def paused(self) -> AbstractContextManager[None]:
        """Within a `with`, the model runs as outside the loop, on a validation batch for example.

        The states that the loop carries are left as they are.
        """
        return self._loop("paused").paused()

    def again(self) -> None:
        """Allows one more run on this window, which begins in the same state as the one before.

        For optimisers that evaluate the loss several times, such as LBFGS: their closure calls it
        first. The state after the last run is the one that is carried on.
        """
        self._loop("again").taken.clear()

    def _loop(self, what: str) -> _CarriedState:
        if self._carry is None:
            refuse(f"Window.{what}", "a window that windows(…) gave", "one made by hand")
        carry: _CarriedState = self._carry
        return carry


class Windows(Iterator[Window]):
    """The loop that `windows` makes: an iterator over its windows."""

    def __init__(self, each: Generator[Window, None, None], carry: _CarriedState) -> None:
        self._each, self._carry = each, carry

    def __next__(self) -> Window:
        return next(self._each)

    def paused(self) -> AbstractContextManager[None]:
        """As `Window.paused`."""
        return self._carry.paused()

    def close(self) -> None:
        """Ends the loop early, as leaving the `for` statement does."""
        self._each.close()


def windows(
    model: torch.nn.Module,
    batch: Any,
    k1: int,
    k2: int | None = None,
    *,
    dim: int | None = None,
    state: MutableMapping[str, Any] | None = None,
) -> Windows:
    """Windows of a batch for truncated BPTT; the state is carried from one to the next.

    There is a window every k1 steps, and its gradient reaches k2 steps back (Williams and Peng
    1990). Run the model on it *without* an initial state: within the loop, its recurrent modules
    begin in the state that they had at the window's start. Where k2 > k1, a window runs k2 − k1
    steps again, with the weights as they are by then, and only the losses of the last k1 steps
    count. Where k2 < k1, the first k1 − k2 steps are run without gradient. Nothing but states is
    kept: the graph of a window is freed when no variable of the loop refers to it.

    Within the loop each of these modules is called once for each window, with all steps of it; a
    second call, or one of another length, is refused, since it would begin in the carried state and
    replace it. Anything else, such as a validation batch, runs within `with window.paused():`.

    Args:
        model: its recurrent modules are `throughtime.torch`'s, in one direction.
        batch: a tensor, or a tuple of tensors, with the same steps: inputs and targets.
        k1: steps between updates.
        k2: steps that the gradient reaches back from a window's end; k1 where it is not given.
        dim: the axis of time; where it is not given 1 if the modules are `batch_first`, else 0.
        state: the initial states by module name, as `hx` takes them; zeros where they are not
            given. At the end it holds the states after the last step, for the batch that follows.

    Raises:
        ValueError: for a bidirectional module, which needs the future; for modules with a
            memory limit; where the model has no module of `throughtime.torch`, or torch's too.
        RuntimeError: for a second call of a module within a window, or one of another length.

    Example:
        >>> import torch
        >>> import throughtime as tt
        >>> lstm, x, y = tt.torch.LSTM(3, 4), torch.ones(7, 2, 3), torch.zeros(7, 2, 4)
        >>> for window in tt.torch.windows(lstm, (x, y), k1=3, k2=4):
        ...     inputs, targets = window.batch
        ...     outputs, _ = lstm(inputs)
        ...     ((outputs - targets)[window.new] ** 2).sum().backward()
        ...     print(window.start, window.first, window.stop)
        0 0 3
        2 3 6
        3 6 7
    """
    modules = _modules(model)
    if dim is None:
        dim = int(all(module.batch_first for module in modules.values()))
    tensors = batch if isinstance(batch, tuple | list) else (batch,)
    steps = _steps(tensors, dim)
    found = planned_windows(steps, k1, k1 if k2 is None else k2)
    carry = _CarriedState(modules, state)
    begins = [min(w.start, before) for w, before in zip(found, _stops(found), strict=True)]
    return Windows(_each(found, begins, batch, dim, carry), carry)


def _each(
    found: list[Any], begins: list[int], batch: Any, dim: int, carry: _CarriedState
) -> Generator[Window, None, None]:
    with carry:
        for w, begin, after in zip(found, begins, [*begins[1:], found[-1].stop], strict=True):
            carry.prepare(w.start - begin, after - begin, w.stop - begin)
            yield Window(_cut(batch, dim, begin, w.stop), begin, w.first, w.stop, carry)
            carry.move_on()
        carry.finish()


def _stops(found: list[Any]) -> list[int]:
    """Where the window before each one stops."""
    return [0, *(w.stop for w in found[:-1])]


@dataclass
class _CarriedState:
    """Gives modules their initial state, and takes the one that the next window begins with."""

    modules: dict[str, Any]
    given: MutableMapping[str, Any] | None
    cut: int = 0  # steps of the window that are run without gradient
    keep: int = 0  # the next window begins after so many steps of this one
    steps: int = 0  # of the window
    states: dict[int, Any] = field(default_factory=dict)
    taken: dict[int, Any] = field(default_factory=dict)

    def __enter__(self) -> None:
        for name, module in self.modules.items():
            module._carry = self  # a loop that was left by an error may not have ended by itself
            if self.given and name in self.given:
                self.states[id(module)] = _detached(self.given[name])

    def __exit__(self, *_: object) -> None:
        for module in self.modules.values():
            if module._carry is self:
                del module._carry

    def prepare(self, cut: int, keep: int, steps: int) -> None:
        self.cut, self.keep, self.steps = cut, keep, steps

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within a `with`, the modules know nothing of the loop."""
        within = [module for module in self.modules.values() if module._carry is self]
        for module in within:
            del module._carry
        try:
            yield
        finally:
            for module in within:
                module._carry = self

    def move_on(self) -> None:
        if any(module._carry is not self for module in self.modules.values()):
            actual = "another that began within it"
            refuse("windows", "one loop at a time over a model", actual, error=RuntimeError)
        missing = [name for name, m in self.modules.items() if id(m) not in self.taken]
        if missing:
            expected = "every recurrent module to be called"
            refuse("windows", expected, f"no call of {', '.join(map(repr, missing))}")
        self.states, self.taken = self.taken, {}

    def finish(self) -> None:
        if self.given is not None:
            for name, module in self.modules.items():
                self.given[name] = self.states[id(module)]

    def initial(self, module: Any, steps: int) -> Any:
        """What the module begins with, once it is sure that this is its call for the window.

        A call during the backward pass is a checkpoint's: the same once more.
        """
        way_out = "call it on a whole window, and on anything else within window.paused()"
        if steps != self.steps:
            what, expected = f"{self._title(module)}: steps", f"the window's {self.steps}"
            refuse(what, expected, f"{steps} in one call", way_out, error=RuntimeError)
        if id(module) in self.taken and not _in_backward_pass():
            expected, actual = "one call within each window", "a second one"
            refuse(self._title(module), expected, actual, way_out, error=RuntimeError)
        return self.states.get(id(module))

    def _title(self, module: Any) -> str:
        name = next((name for name, one in self.modules.items() if one is module), "")
        return f"windows: {name!r}" if name else f"windows: the {type(module).__name__}"

    def take(
        self, module: Any, steps: int, directions: Callable[[], list[LayerDirection]], final: Any
    ) -> None:
        """The state after `keep` steps, from what the directions kept; after all, the final one."""
        inner = self.keep - self.cut
        if inner == steps:
            self.taken[id(module)] = _detached(final)
            return
        tapes = [one.tape for one in directions() if one.tape is not None]
        h = torch.stack([tape.h[inner] for tape in tapes])
        cs = [tape.c[inner] for tape in tapes if tape.c is not None]
        parts = (h, torch.stack(cs)) if cs else (h,)
        if _unbatched(final):
            parts = tuple(part.squeeze(1) for part in parts)
        self.taken[id(module)] = parts if cs else parts[0]


def _in_backward_pass() -> bool:
    return bool(torch._C._current_graph_task_id() != -1)


def _unbatched(final: Any) -> bool:
    """Whether a state has no batch axis."""
    part = final[0] if isinstance(final, tuple) else final
    return bool(part.dim() == 2)


def _detached(hx: Any) -> Any:
    if isinstance(hx, tuple | list):
        return tuple(part.detach().clone() for part in hx)
    return hx.detach().clone()


def _modules(model: torch.nn.Module) -> dict[str, Any]:
    found = named_modules(model, "windows")
    torchs = (torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU)
    for name, module in model.named_modules():
        what = f"windows: {name!r}"
        if isinstance(module, torchs) and name not in found:
            way_out = "call throughtime.torch.accelerate(model) first"
            refuse(what, "a module of throughtime.torch", "torch's own", way_out)
        if name in found and module.bidirectional:
            expected = "modules that run in one direction"
            refuse(what, expected, "a bidirectional one", "it needs the future: use full BPTT")
        if name in found and module.memory_limit is not None:
            refuse(what, "no memory_limit", module.memory_limit, "windows bound the memory")
    return found


def _steps(tensors: Sequence[Any], dim: int) -> int:
    for tensor in tensors:
        if not isinstance(tensor, torch.Tensor) or tensor.dim() <= dim:
            expected = f"tensors with time as axis {dim}"
            actual = tuple(getattr(tensor, "shape", ())) or type(tensor).__name__
            refuse("windows: batch", expected, actual, error=TypeError)
    counts = sorted({tensor.shape[dim] for tensor in tensors})
    if len(counts) != 1:
        refuse("windows: batch", f"as many steps in all tensors (axis {dim})", counts)
    return int(counts[0])


def _cut(batch: Any, dim: int, start: int, stop: int) -> Any:
    if isinstance(batch, tuple | list):
        return tuple(tensor.narrow(dim, start, stop - start) for tensor in batch)
    return batch.narrow(dim, start, stop - start)
