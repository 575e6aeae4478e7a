"""Training a language model by truncated backpropagation through time, one update at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from os import PathLike
from typing import Self

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradient_flow import NonFinite
from throughtime.network import NetworkTape, TruncationWindow, differentiate_window
from throughtime.parameters import Parameters
from throughtime.training import checkpoint, diverging, loop, resuming
from throughtime.training.checkpoint import Checkpoint, Record
from throughtime.training.clipping import clip
from throughtime.training.processes import Launch, Processes, StreamsOfOne
from throughtime.training.schedule import Plan, factor
from throughtime.training.settings import Settings
from throughtime.training.streams import Streams
from throughtime.training.text import Text
from throughtime.training.update import Update, still_finite
from throughtime.training.validation import bits_per_character
from throughtime.training.vocabulary import Vocabulary


class Trainer:
    """A language model in training on one text, with everything needed to go on later.

    Nothing random is hidden in it: dropout masks follow from the seed and the number of the
    update, so that a resumed run and an uninterrupted one are the same, bit for bit.

    Args:
        text: what to learn; its end is held out.
        settings: see there.
        processes: who trains together, as `distributed.join` gives them; this process alone
            without it.

    Attributes:
        network, vocabulary, optimiser: the model and what updates it.
        updates, epoch, window: updates made, rounds through the text, next window of this one.
        state: the state carried into the next window, of this process's streams.
        seconds: spent in `fit`.
        plan: the end that the learning rate's schedule looks at; `fit` sets it.
        history: one `Record` a validation.
        saved: at which update the last checkpoint was written; None before the first one.
        before: who wrote the checkpoint that this one goes on from; None for a new run.

    Example:
        >>> from throughtime.training import Settings, Text, Trainer
        >>> settings = Settings(hidden=16, batch=4, k1=8, warmup=5, learning_rate=0.02)
        >>> trainer = Trainer(Text("To and fro, and to and fro again. " * 40), settings)
        >>> trainer.fit(updates=60)
        >>> trainer.updates, trainer.history[-1].held_out < 3
        (60, True)
    """

    def __init__(
        self, text: Text, settings: Settings | None = None, processes: Processes | None = None
    ) -> None:
        self.text = text
        self.settings = settings = settings or Settings()
        self.processes = processes = processes or Processes()
        training, held_out = text.split(settings.held_out)
        if not training:
            refuse("text", "more than 3 characters", len(text), "give more text")
        self.vocabulary = Vocabulary.of(training, settings.classes)
        self.codes = self.vocabulary.encode(training)
        self.held_out = self.vocabulary.encode(held_out)
        self.own = self._own_streams()
        self.streams = Streams(self.codes, settings.batch, settings.k1, settings.steps_back)
        self.network = settings.new_network(len(self.vocabulary))
        self._begin_as_unigram()
        self.optimiser = settings.new_optimiser(self.network.parameters.flat.size)
        self.updates, self.epoch, self.window, self.seconds = 0, 0, 0, 0.0
        self.state = self._zero_state()
        self.plan = Plan()
        self.history: list[Record] = []
        self.saved: int | None = None
        self.before: Launch | None = None
        self._begin_together()

    def _begin_as_unigram(self) -> None:
        """Sets the head's biases to the log probabilities of the characters.

        Otherwise the first updates are spent on finding them, and drive hidden units into
        saturation on the way, since a constant h serves as a bias as well.
        """
        classes = len(self.vocabulary)
        counts = np.bincount(self.codes, minlength=classes) + 1
        *_, head = self.network.parameters
        self.network.parameters[head] = np.log(counts / counts.sum())

    def _begin_together(self) -> None:
        """Refuses processes that do not begin alike."""
        self.processes.agree("text", self.text.sha256.encode())
        self.processes.agree("settings", repr(self.settings).encode())
        self.processes.agree("parameters", self.network.parameters.flat)

    def _own_streams(self) -> slice:
        batch, size = self.settings.batch, self.processes.size
        if batch < size:
            way_out = "choose a larger batch, or fewer processes"
            refuse("batch", f"a stream at least for each of {size} processes", batch, way_out)
        return self.processes.share(batch)

    def _zero_state(self) -> Parameters:
        return self.network.zero_state(self.own.stop - self.own.start)

    # --- one update ---

    def step(self) -> Update:
        """One window forward and backward, and one update.

        Raises:
            DivergedError: where something is no finite number any more.
        """
        settings, window = self.settings, self.streams.windows[self.window]
        stretch = slice(window.start, window.stop)
        # Overflow is no warning here: what it leads to is looked at below.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            loss, gradient, tape = differentiate_window(
                self.network,
                self.streams.inputs[stretch, self.own],
                self.streams.targets[stretch, self.own],
                first=window.first - window.start,
                state=self.state_before(window),
                dropout_seed=self.dropout_seed(0),
            )
            share = (self.own.stop - self.own.start) / settings.batch
            loss = self.processes.reduced(gradient, loss, share)
            still_finite("loss", loss, self.updates + 1, self._first_nonfinite)
            norm = gradient.norm()
            still_finite("norm of the gradient", norm, self.updates + 1, self._first_nonfinite)
            norms = clip(gradient, settings.clip, norm)
            done = self.plan.share(self.updates, self.seconds)
            rate = settings.learning_rate * factor(
                settings.schedule, settings.warmup, self.updates, done
            )
            self.optimiser.update(self.network.parameters.flat, gradient.flat, rate)
            still_finite(
                "norm of the parameters",
                self.network.parameters.norm(),
                self.updates + 1,
                lambda: diverging.first_parameter(self.network.parameters, gradient, rate),
            )
        self._carry(window, tape)
        self.updates += 1
        characters = (window.stop - window.first) * settings.batch
        return Update(self.updates, loss / math.log(2), norms.before, norms.after, rate, characters)

    def next_window(self) -> tuple[Array, Array, Parameters]:
        """Inputs and targets (T, B) of the next window, and the state before it."""
        window = self.streams.windows[self.window]
        stretch = np.s_[window.start : window.stop, self.own]
        state = self.state_before(window)
        return self.streams.inputs[stretch], self.streams.targets[stretch], state

    def _first_nonfinite(self) -> NonFinite | None:
        return diverging.first_value(self)

    def dropout_seed(self, part: int) -> np.random.Generator | None:
        """Differs from update to update, and between its two forward passes."""
        if not self.settings.dropout:
            return None
        entropy = [self.settings.seed, self.updates, part]
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
        return StreamsOfOne(seed, self.own, self.settings.batch)

    def state_before(self, window: TruncationWindow) -> Parameters:
        """The carried state, run over the steps that no window reaches (k2 < k1)."""
        waits = self.streams.carried_to(self.window)
        if waits == window.start:
            return self.state
        between = self.streams.inputs[waits : window.start, self.own]
        return self.network.forward(between, self.state, dropout_seed=self.dropout_seed(1))[1]

    def _carry(self, window: TruncationWindow, tape: NetworkTape) -> None:
        """Moves on to the next window, or to the start of the text with a zero state."""
        self.window += 1
        if self.window == len(self.streams.windows):
            self.epoch, self.window = self.epoch + 1, 0
            self.state = self._zero_state()
            return
        steps = self.streams.carried_to(self.window) - window.start
        self.state = self.network.state_after(tape, steps)

    # --- a run ---

    def fit(
        self,
        updates: int | None = None,
        seconds: float | None = None,
        *,
        validate_every: int = 500,
        out: str | PathLike[str] | None = None,
        checkpoint_every: int = 500,
        watch: Callable[[Update], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Trains until `updates` or `seconds` are reached, both counted from the very first update.

        Args:
            updates, seconds: the end; one of them at least, what comes first ends the run.
            validate_every: updates between validations; one more stands at the end.
            out: the checkpoint to write; none without it.
            checkpoint_every: updates between checkpoints; one more is written at the end.
            watch: is told of every update.
            stop: is asked before every update; True ends the run early. Of several processes
                one that wishes it ends all, after one more update.

        Raises:
            DivergedError: as `step` does; the checkpoint written last stays as it is. None is
                written of a model whose next loss would be NaN or infinite.
            LostWorkerError: where one of several processes is gone.
        """
        if updates is None and seconds is None:
            refuse("fit", "updates or seconds", "neither")
        self.plan = Plan(updates, seconds)
        loop.run(self, validate_every, out, checkpoint_every, watch, stop)

    def validate(self) -> float:
        """Bits a character on the held-out text.

        Raises:
            DivergedError: where that is no finite number.
        """
        bits = bits_per_character(self.network, self.held_out, self.processes)
        still_finite("held-out loss", bits, self.updates, self._first_nonfinite)
        return bits

    # --- files ---

    def still_good(self) -> None:
        """Makes sure that the next window's loss is a finite number.

        Raises:
            DivergedError: where it is none.
        """
        loss = diverging.next_loss(self)
        still_finite("loss", loss, self.updates + 1, self._first_nonfinite)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes a checkpoint, complete or not at all; of several processes the first one does.

        Raises:
            ValueError: where several processes do not hold the same parameters.
        """
        self.processes.agree("parameters", self.network.parameters.flat)
        content = resuming.content(self)
        if self.processes.first:
            checkpoint.save(path, content)
        self.saved = self.updates

    @classmethod
    def resume(
        cls,
        path: str | PathLike[str] | Checkpoint,
        text: Text,
        processes: Processes | None = None,
    ) -> Self:
        """Goes on from a checkpoint, on the text that it was trained on.

        As many processes as wrote it go on bit for bit; another number rounds its sums in
        another order.

        Raises:
            ValueError, OSError: for what is no checkpoint, or one of another text.
        """
        processes = processes or Processes()
        saved = path if isinstance(path, Checkpoint) else checkpoint.load_together(path, processes)
        resuming.same_text(saved.source, text)
        trainer = cls(text, saved.settings, processes)
        resuming.restore(trainer, saved)
        trainer.saved = trainer.updates
        return trainer
