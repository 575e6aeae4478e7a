"""The hooks of Lightning, at which the flow of a model that it trains is watched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from throughtime.integrations.watching import Losses, Watching, gradient_norm


class LightningHooks(Watching):
    """Watches where the gradient goes while Lightning trains a module: `LightningFlow`.

    After every backward pass the gradient's norm is noted, before it is clipped. Now and then a
    look is taken at the batch at hand, with the module's `forward`, as `tt.FlowRecorder` does.

    Args:
        loss: a function of what `forward` returns and of the batch: the loss of each step, (T, B)
            or (B, T).
        inputs: a function of the batch that returns what `forward` is called with, a tensor or a
            tuple; by default the first entry of the batch.
        path, share, live: as in `tt.FlowRecorder`. There is no line by default, as Lightning has
            its own.
        clip: by default the trainer's `gradient_clip_val`.
        to: as in `tt.FlowRecorder`; by default the trainer's loggers.
        options: of `tt.flow`: of, max_lag, carousel, …

    Attributes:
        recorder: the FlowRecorder, whose `look_at` is the latest Flow.

    Raises:
        DivergedError: in training, where the gradient's norm is NaN or infinite; it says which
            value became so first.
    """

    def __init__(
        self, loss: Losses, *, inputs: Callable[[Any], Any] | None = None, **settings: Any
    ) -> None:
        super().__init__(loss, **settings)
        self.inputs = inputs
        self._batch: Any = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begins a record, in the first process alone."""
        if trainer.is_global_zero:
            self.begin(
                trainer.global_step,
                clip=trainer.gradient_clip_val or None,
                to=list(trainer.loggers),
            )

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remembers the batch, which the next hook is not told."""
        self._batch = batch

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Takes note of an update."""
        if self.recorder is None:
            return
        batch = self._batch
        if self.inputs is not None:
            given = self.inputs(batch)
        else:
            given = batch[0] if isinstance(batch, list | tuple) else batch
        arguments = given if isinstance(given, tuple) else (given,)
        norm = gradient_norm(pl_module.parameters())
        self.observe(pl_module, arguments, {}, batch, trainer.global_step + 1, norm)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Ends the record."""
        self._batch = None
        self.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Ends the record with what ended the run."""
        self._batch = None
        self.end(exception)
