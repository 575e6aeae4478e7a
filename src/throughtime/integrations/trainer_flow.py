"""The hooks of Transformers' Trainer, at which the flow of a model that it trains is watched."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from throughtime.integrations.watching import Losses, Watching, gradient_norm


class TrainerHooks(Watching):
    """Watches where the gradient goes while a Trainer of Transformers trains: `TrainerFlow`.

    What the model is called with in training is noted, and looks are taken with it. The Trainer
    shows its callbacks gradients that are clipped already; norms before clipping are those that it
    logs (`logging_steps`).

    Args:
        loss: a function of what the model returns and of the batch, the keyword arguments that it
            was called with: the loss of each step, (T, B) or (B, T).
        path, share, live: as in `tt.FlowRecorder`. There is no line by default, as the Trainer has
            its own.
        clip: by default the Trainer's `max_grad_norm`.
        to: as in `tt.FlowRecorder`.
        options: of `tt.flow`: of, max_lag, carousel, …

    Attributes:
        recorder: the FlowRecorder, whose `look_at` is the latest Flow.

    Raises:
        DivergedError: in training, where the gradient is NaN or infinite; it says which value
            became so first.
    """

    def __init__(self, loss: Losses, **settings: Any) -> None:
        super().__init__(loss, **settings)
        self._call: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None
        self._hook: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Begins a record, in the first process alone."""
        if state.is_world_process_zero:
            self._hook = _bare(others["model"]).register_forward_pre_hook(
                self._called, with_kwargs=True
            )
            self.begin(state.global_step, clip=args.max_grad_norm or None)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Takes note of an update."""
        if self.recorder is None or self._call is None:
            return
        (arguments, named), model = self._call, _bare(others["model"])
        size = gradient_norm(model.parameters())
        norm = None if math.isfinite(size) else size
        self.observe(model, arguments, named, named, state.global_step + 1, norm)

    def on_log(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Takes note of the norm that the Trainer has logged."""
        norm = (others.get("logs") or {}).get("grad_norm")
        if self.recorder is not None and norm is not None and math.isfinite(norm):
            self.recorder.norms.add(float(norm))

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Ends the record."""
        if self._hook is not None:
            self._hook.remove()
        self._hook = self._call = None
        self.end()

    def _called(self, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if module.training:
            self._call = arguments, named


def _bare(model: Any) -> Any:
    """The model that `DataParallel` and the like wrap."""
    return getattr(model, "module", model)
