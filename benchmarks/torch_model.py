"""The character model in PyTorch: embedding, LSTM layers, Dense, Adam, clipping at 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from throughtime.torch import torch_state_dict
from throughtime.training import Trainer


class TorchTraining:
    """The model of a trainer that has not begun yet, on the same windows of the same text.

    Args:
        torch: the library.
        trainer: whose initial parameters are copied.
        fused: whether Adam is to be one pass over memory, which is not PyTorch's default.
    """

    def __init__(self, torch: Any, trainer: Trainer, fused: bool) -> None:
        self.torch, self.streams = torch, trainer.streams
        self.settings = settings = trainer.settings
        network, classes = trainer.network, len(trainer.vocabulary)
        assert settings.embedding is not None
        nn = torch.nn
        self.embedding = nn.Embedding(classes, settings.embedding)
        self.lstm = nn.LSTM(settings.embedding, settings.hidden, settings.layers)
        self.dense = nn.Linear(settings.hidden, classes)
        head = settings.layers + 1
        layers = range(1, head)
        self._copy(self.embedding, {"weight": network.parameters["0.E"]})
        self._copy(self.lstm, torch_state_dict(network, layers=layers))
        names = {"weight": f"{head}.W", "bias": f"{head}.b"}
        self._copy(self.dense, {name: network.parameters[n] for name, n in names.items()})
        for name, bias in self.lstm.named_parameters():
            # A second bias beside each learns as fast as the first: together, twice as fast.
            bias.requires_grad_(not name.startswith("bias_hh"))
        modules = (self.embedding, self.lstm, self.dense)
        every = [p for module in modules for p in module.parameters()]
        self.parameters = [p for p in every if p.requires_grad]
        options = {"fused": True} if fused else {}
        self.adam = torch.optim.Adam(self.parameters, settings.learning_rate, **options)
        self.inputs, self.targets = (
            torch.from_numpy(np.ascontiguousarray(codes, np.int64))
            for codes in (self.streams.inputs, self.streams.targets)
        )
        self.window = 0
        self.state: Any = None  # h and c; zeros where it is None

    def _copy(self, module: Any, arrays: dict[str, Any]) -> None:
        module.load_state_dict({n: self.torch.from_numpy(a.copy()) for n, a in arrays.items()})

    def update(self) -> tuple[float, int]:
        """One update; its loss in nats a character, and its number of characters."""
        window = self.streams.windows[self.window]
        inputs = self.inputs[window.start : window.stop]
        targets = self.targets[window.start : window.stop]
        hidden, state = self.lstm(self.embedding(inputs), self.state)
        logits = self.dense(hidden)
        loss = self.torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        self.adam.zero_grad()
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        self.adam.step()
        self.window = (self.window + 1) % len(self.streams.windows)
        self.state = tuple(part.detach() for part in state) if self.window else None
        return loss.item(), targets.numel()
