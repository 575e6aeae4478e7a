"""From a trainer to what its checkpoint holds, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from throughtime.arrays import floats, refuse, same_names
from throughtime.training.checkpoint import Checkpoint, Place, Source
from throughtime.training.text import Text

if TYPE_CHECKING:
    from throughtime.training.trainer import Trainer


def content(trainer: Trainer) -> Checkpoint:
    """What a checkpoint of a trainer holds."""
    return Checkpoint(
        network=trainer.network,
        vocabulary=trainer.vocabulary,
        settings=trainer.settings,
        optimiser=trainer.optimiser.state(),
        state=trainer.processes.whole(trainer.state, trainer.settings.batch),
        place=Place(trainer.updates, trainer.epoch, trainer.window, trainer.seconds),
        plan=trainer.plan,
        source=Source(trainer.text.files, trainer.text.sha256, len(trainer.text)),
        history=trainer.history,
        launch=trainer.processes.launch,
    )


def same_text(source: Source, text: Text) -> None:
    """Refuses a text that is not the one of the checkpoint."""
    if source.sha256 != text.sha256:
        refuse(
            "text",
            f"that of the checkpoint ({source.characters} characters, "
            f"SHA-256 {source.sha256[:12]}…)",
            f"another one ({len(text)} characters, SHA-256 {text.sha256[:12]}…)",
            "give the same files in the same order, unchanged",
        )


def restore(trainer: Trainer, saved: Checkpoint) -> None:
    """Puts a trainer that has just begun, on the same text and settings, where another stood."""
    if trainer.vocabulary != saved.vocabulary:
        refuse("checkpoint: vocabulary", "that of its text", "another one")
    if saved.place.window >= len(trainer.streams.windows):
        last = len(trainer.streams.windows) - 1
        refuse("checkpoint: window", f"0 to {last}", saved.place.window)
    same_names("checkpoint: state", saved.state, trainer.state)
    batch = trainer.settings.batch
    for name, own in trainer.state.items():
        shape = (batch, *own.shape[1:])
        own[...] = floats(f"checkpoint: state {name}", saved.state[name], own.dtype, shape)[
            trainer.own
        ]
    trainer.optimiser.restore(saved.optimiser)
    trainer.network.parameters.update(saved.network.parameters)
    trainer.updates, trainer.epoch = saved.place.updates, saved.place.epoch
    trainer.window, trainer.seconds = saved.place.window, saved.place.seconds
    trainer.plan, trainer.history = saved.plan, list(saved.history)
    trainer.before = saved.launch
