"""PyTorch's side of a case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.cases import Case
from throughtime import _engine
from throughtime.arrays import Array
from throughtime.network import Network
from throughtime.torch import torch_state_dict


def find() -> Any:
    """The module torch, or None if it is not installed."""
    return import_module("torch") if find_spec("torch") else None


@contextmanager
def one_thread() -> Iterator[None]:
    """For tiny networks, where torch's threads would spend more time waiting than computing."""
    torch = find()
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def thread_counts() -> list[int]:
    """The numbers of threads with which torch is run: one, and as many as our engine uses."""
    return sorted({1, _engine.threads()})


class TorchLayer:
    """`torch.nn.RNN`, `LSTM` or `GRU` with a case's parameters and data.

    These modules do not give access to δh and δc of every step. They are obtained from a loop over
    `torch.nn.LSTMCell` with `retain_grad` on every state, as a user of PyTorch has to write it.
    """

    def __init__(self, torch: Any, case: Case) -> None:
        self.torch, self.case = torch, case
        dtype = getattr(torch, case.dtype)
        network = Network([case.make()], dtype=case.dtype)
        for name, array in case.parameters().items():
            network.parameters[f"0.{name}"] = array
        state = {n: torch.from_numpy(a.copy()) for n, a in torch_state_dict(network).items()}
        kind = case.cell
        if case.kind == "inner":
            kind, state = "LSTMCell", {n.removesuffix("_l0"): a for n, a in state.items()}
        self.module = getattr(torch.nn, kind)(case.I, case.H).to(dtype)
        self.module.load_state_dict(state)
        inputs, doutputs = map(torch.from_numpy, case.data())
        self.inputs = inputs.requires_grad_(not case.forward_only)
        self.doutputs = doutputs
        lengths = case.lengths()
        self.lengths = None if lengths is None else torch.from_numpy(lengths)
        self.states: list[tuple[Any, Any]] = []  # h and c of every step, for the kind "inner"

    def runs(self) -> dict[str, Callable[[], object]]:
        """One run for each number of threads."""
        return {f"torch {count}": partial(self.run, count) for count in thread_counts()}

    def run(self, threads: int) -> Any:
        """The outputs; the gradients are where torch puts them."""
        if self.torch.get_num_threads() != threads:
            self.torch.set_num_threads(threads)
        forward = {"ragged": self._packed, "inner": self._cell_by_cell}.get(
            self.case.kind, self._whole
        )
        if self.case.forward_only:
            with self.torch.no_grad():
                return forward()
        self.module.zero_grad(set_to_none=True)
        self.inputs.grad = None
        outputs = forward()
        outputs.backward(self.doutputs)
        return outputs

    def _whole(self) -> Any:
        return self.module(self.inputs)[0]

    def _packed(self) -> Any:
        rnn = self.torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(self.inputs, self.lengths)
        return rnn.pad_packed_sequence(self.module(packed)[0])[0]

    def _cell_by_cell(self) -> Any:
        h = c = self.inputs.new_zeros(self.case.B, self.case.H)
        self.states = []
        for x in self.inputs.unbind(0):
            h, c = self.module(x, (h, c))
            if not self.case.forward_only:
                h.retain_grad()
                c.retain_grad()
            self.states.append((h, c))
        return self.torch.stack([h for h, _ in self.states])

    def results(self) -> dict[str, Array]:
        """Results under the names of `Ours.results`."""
        found = {"outputs": self.run(1)}
        inner = self.case.kind == "inner"
        if self.case.forward_only:
            if inner:
                found["every c"] = self.torch.stack([c for _, c in self.states])
            return _arrays(found)
        gradients = {name.removesuffix("_l0"): p.grad for name, p in self.module.named_parameters()}
        found |= {
            "δx": self.inputs.grad,
            "δW": gradients["weight_ih"],
            "δU": gradients["weight_hh"],
            "δb": gradients["bias_ih"],
        }
        if self.case.cell == "GRU":  # the candidate's recurrent bias
            found["δc"] = gradients["bias_hh"][-self.case.H :]
        if inner:
            for name, part in (("every δh", 0), ("every δc", 1)):
                found[name] = self.torch.stack([state[part].grad for state in self.states])
        return _arrays(found)


def _arrays(tensors: dict[str, Any]) -> dict[str, Array]:
    return {name: np.asarray(tensor.detach().numpy()) for name, tensor in tensors.items()}
