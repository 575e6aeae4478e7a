"""What both callbacks have in common: their settings, the recorder, and the gradient's norm."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from throughtime.questions import FlowRecorder

Losses = Callable[[Any, Any], Any]


class Watching:
    """Settings of a callback, and its recorder while a training run goes on.

    Args:
        loss: a function of the model's outputs and the batch that returns the loss of each step, as
            `tt.flow` takes it.
        path, clip, share, live, to: as in `tt.FlowRecorder`.
        options: of `tt.flow`: of, max_lag, carousel, …

    Attributes:
        recorder: None before the training run begins, and in processes other than the first.
    """

    def __init__(
        self,
        loss: Losses,
        *,
        path: str | os.PathLike[str] | None = None,
        clip: float | None = None,
        share: float = 0.03,
        live: bool | None = False,
        to: Any = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.loss, self.options = loss, options
        self.settings: dict[str, Any] = {"clip": clip, "share": share, "live": live, "to": to}
        self.path = path
        self.recorder: FlowRecorder | None = None

    def begin(self, update: int, **instead: Any) -> None:
        """Begins to watch a run; settings that were not given are taken from the trainer."""
        given = {name: value for name, value in self.settings.items() if value is not None}
        settings = {**instead, **given}
        self.recorder = FlowRecorder(self.path, update=update, **settings)

    def observe(
        self,
        model: Any,
        arguments: tuple[Any, ...],
        named: Mapping[str, Any],
        batch: Any,
        update: int,
        norm: float | None,
    ) -> None:
        """One update, before it is made."""
        if self.recorder is None:
            return
        loss = self.loss
        self.recorder.observe(
            model,
            *arguments,
            norm=norm,
            update=update,
            loss=lambda outputs: loss(outputs, batch),
            **self.options,
            **named,
        )

    def end(self, problem: BaseException | None = None) -> None:
        """The run is over."""
        if self.recorder is not None:
            self.recorder.close(problem)


def gradient_norm(parameters: Iterable[Any]) -> float:
    """The norm of all gradients together; 0 where there is none."""
    torch = import_module("torch")
    squares = [
        torch.linalg.vector_norm(p.grad.detach()).double() ** 2
        for p in parameters
        if p.grad is not None and not p.grad.is_sparse
    ]
    return math.sqrt(float(sum(one.cpu() for one in squares))) if squares else 0.0
