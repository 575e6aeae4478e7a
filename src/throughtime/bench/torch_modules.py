"""Torch's modules beside `throughtime.torch`'s, autograd included, and the engine beside both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from throughtime.bench import torch_layer
from throughtime.bench.cases import K1, K2, Case
from throughtime.bench.engine import Row, compare, shown
from throughtime.bench.ours import Ours
from throughtime.bench.timing import Clock, clock, take_turns
from throughtime.bench.torch_layer import TorchLayer


class Windows(TorchLayer):
    """A case of kind "windows": TBPTT through torch's modules, as a user of PyTorch writes it.

    The state in which the next window begins is needed, so a window is run in two pieces.
    """

    def run(self, threads: int) -> Any:
        """The last window's outputs; the gradients of all windows add up."""
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
                if begin == start and stop >= K2:  # here the next window begins
                    parts = later if isinstance(later, tuple) else (later,)
                    kept = tuple(part.detach() for part in parts)
                    following = kept if isinstance(later, tuple) else kept[0]
                pieces.append(outputs)
            if stop >= K2:
                state = following
            yield pieces[-1], first, stop


class OurWindows(Windows):
    """The same by `throughtime.torch.windows`."""

    def _windows(self) -> Iterator[tuple[Any, int, int]]:
        from throughtime.torch import windows

        for window in windows(self.module, self.inputs, K1, K2):
            yield self.module(window.batch)[0][window.new], window.first, window.stop


def layers(torch: Any, case: Case) -> tuple[TorchLayer, TorchLayer]:
    """Ours and torch's, with the same weights and data."""
    from throughtime.torch import accelerate

    windows = case.kind == "windows"
    ours = (OurWindows if windows else TorchLayer)(torch, case)
    accelerate(ours.module)
    return ours, (Windows if windows else TorchLayer)(torch, case)


def measure(cases: Sequence[Case], seconds: float, rounds: int = 3) -> list[Row]:
    """One row a case; none where torch is not installed.

    Args:
        cases: what to time.
        seconds: how long each case may take, preparations not counted.
        rounds: turns that everyone has at least.

    Returns:
        rows of "case"; "ours_ms", through our modules; "torch_ms" of torch's better number of
        threads; "ratio" of these; "engine_ratio", the same of the engine without autograd, None
        for windows; "kept", the first over the second; "error" as in `engine.row`.
    """
    torch = torch_layer.find()
    return [row(torch, case, seconds, rounds) for case in shown(cases)] if torch else []


def row(torch: Any, case: Case, seconds: float, rounds: int) -> Row:
    """Compares, then times."""
    ours, theirs = layers(torch, case)
    error = compare(case, ours, theirs)
    contestants: dict[str, Clock] = {"ours": clock(partial(ours.run, 1))}
    contestants |= {name: clock(run) for name, run in theirs.runs().items()}
    if case.kind != "windows":
        contestants["engine"] = clock(Ours(case).run)
    best = {name: 1e3 * took for name, took in take_turns(contestants, seconds, rounds).items()}
    torch_ms = min(ms for name, ms in best.items() if name.startswith("torch"))
    ratio = torch_ms / best["ours"]
    engine = torch_ms / best["engine"] if "engine" in best else None
    return {
        "case": str(case),
        "ours_ms": best["ours"],
        "torch_ms": torch_ms,
        "ratio": ratio,
        "engine_ratio": engine,
        "kept": engine and ratio / engine,
        "error": error,
    }
