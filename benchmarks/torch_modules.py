"""Torch's modules beside those of `throughtime.torch`, with autograd, and the engine alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from benchmarks import torch_layer
from benchmarks.cases import K1, K2, Case, Ours
from benchmarks.engine import Row, compare, shown
from benchmarks.timing import Clock, clock, take_turns
from benchmarks.torch_layer import TorchLayer


class Windows(TorchLayer):
    """A case of kind "windows": TBPTT through torch's modules, as a user of PyTorch writes it.

    The state in which the next window begins is needed, so every window is run in two pieces.
    """

    def run(self, threads: int) -> Any:
        """The outputs of the last window; the gradients of all windows are accumulated."""
        if self.torch.get_num_threads() != threads:
            self.torch.set_num_threads(threads)
        self.module.zero_grad(set_to_none=True)
        self.inputs.grad = None
        outputs = None
        for outputs, first, stop in self._windows():
            outputs.backward(self.doutputs[first:stop])
        return outputs

    def _windows(self) -> Iterator[tuple[Any, int, int]]:
        state: Any = None
        for stop in range(K1, self.case.T + 1, K1):
            start, first = max(0, stop - K2), stop - K1
            pieces = []
            later = state
            for begin in range(start, stop, K1):
                outputs, later = self.module(self.inputs[begin : begin + K1], later)
                if begin == start and stop >= K2:  # the next window begins here
                    parts = later if isinstance(later, tuple) else (later,)
                    kept = tuple(part.detach() for part in parts)
                    following = kept if isinstance(later, tuple) else kept[0]
                pieces.append(outputs)
            if stop >= K2:
                state = following
            yield pieces[-1], first, stop


class OurWindows(Windows):
    """The same with `throughtime.torch.windows`."""

    def _windows(self) -> Iterator[tuple[Any, int, int]]:
        from throughtime.torch import windows

        for window in windows(self.module, self.inputs, K1, K2):
            yield self.module(window.batch)[0][window.new], window.first, window.stop


class Around(TorchLayer):
    """The engine within an autograd function that exchanges no data with it.

    The function thus costs what torch itself costs, with the caches as the engine leaves them.
    """

    def __init__(self, torch: Any, case: Case) -> None:
        super().__init__(torch, case)
        self.function, self.ours = _around(torch), Ours(case)

    def run(self, threads: int) -> Any:
        """The inputs, packed and unpacked if the case is ragged; the gradients are arbitrary."""
        self.module.zero_grad(set_to_none=True)
        self.inputs.grad = None
        outputs = self._packed() if self.case.kind == "ragged" else self._whole()
        outputs.backward(self.doutputs)
        return outputs

    def _whole(self) -> Any:
        return self._rows(self.inputs)

    def _packed(self) -> Any:
        rnn = self.torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(self.inputs, self.lengths)
        return rnn.pad_packed_sequence(packed._replace(data=self._rows(packed.data)))[0]

    def _rows(self, x: Any) -> Any:
        outputs, *_ = self.function.apply(self.ours, x, *self.module.parameters())
        return outputs


def _around(torch: Any) -> Any:
    """An autograd function of inputs and weights that saves and allocates what a layer does."""
    from throughtime.torch.fused import new

    class Function(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, ours: Ours, x: Any, *weights: Any) -> Any:
            ctx.set_materialize_grads(False)
            ctx.save_for_backward(x, *weights)
            ctx.ours, (_, ctx.tape) = ours, ours.forward()
            units = ours.case.H
            return tuple(new(shape, x.dtype) for shape in ((*x.shape[:-1], units), (1, units)))

        @staticmethod
        def backward(ctx: Any, *_: Any) -> Any:
            ctx.ours.backward(ctx.tape)
            return None, *(new(tensor.shape, tensor.dtype) for tensor in ctx.saved_tensors)

    return Function


def layers(torch: Any, case: Case) -> tuple[TorchLayer, TorchLayer]:
    """Our layer and torch's, with the same weights and data."""
    from throughtime.torch import accelerate

    windows = case.kind == "windows"
    ours = (OurWindows if windows else TorchLayer)(torch, case)
    accelerate(ours.module)
    return ours, (Windows if windows else TorchLayer)(torch, case)


def measure(cases: Sequence[Case], seconds: float, rounds: int = 3) -> list[Row]:
    """One row per case; no rows if torch is not installed.

    Args:
        cases: what to time.
        seconds: how long each case may take, without preparations.
        rounds: the smallest number of turns of each contestant.

    Returns:
        rows of "case"; "ours_ms", through our modules; "torch_ms" with torch's better number of
        threads; "ratio", the quotient of these; "error" as in `engine.row`. Four more entries are
        None for windows: "engine_ratio" is the ratio of the engine without autograd; "kept" is
        the first ratio over the second; "autograd_ms" is what an autograd function that exchanges
        no data adds to the engine; "at_most" is what "kept" would be if this were the only cost.
    """
    torch = torch_layer.find()
    return [row(torch, case, seconds, rounds) for case in shown(cases)] if torch else []


def row(torch: Any, case: Case, seconds: float, rounds: int) -> Row:
    """Compares the results, then times."""
    ours, theirs = layers(torch, case)
    error = compare(case, ours, theirs)
    contestants: dict[str, Clock] = {"ours": clock(partial(ours.run, 1))}
    contestants |= {name: clock(run) for name, run in theirs.runs().items()}
    if case.kind != "windows":
        contestants["engine"] = clock(Ours(case).run)
        contestants["around"] = clock(partial(Around(torch, case).run, 1))
    best = {name: 1e3 * took for name, took in take_turns(contestants, seconds, rounds).items()}
    torch_ms = min(ms for name, ms in best.items() if name.startswith("torch"))
    ratio, engine, around = torch_ms / best["ours"], best.get("engine"), best.get("around")
    return {
        "case": str(case),
        "ours_ms": best["ours"],
        "torch_ms": torch_ms,
        "ratio": ratio,
        "engine_ratio": engine and torch_ms / engine,
        "kept": engine and engine / best["ours"],
        "autograd_ms": engine and around and around - engine,
        "at_most": engine and around and engine / around,
        "error": error,
    }
