"""Training a language model by truncated backpropagation through time, one update at a time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from time import perf_counter
from typing import Self

import numpy as np

from throughtime.arrays import Array, all_finite, floats, positive, refuse, same_names
from throughtime.gradient_flow import DivergedError, NonFinite, first_in_network
from throughtime.network import Network, NetworkTape, TruncationWindow, differentiate_window
from throughtime.parameters import Parameters
from throughtime.training.checkpoint import (
    Checkpoint,
    Position,
    Record,
    TrainingText,
    load_together,
    save,
)
from throughtime.training.distributed import Launch, Processes, ShardedGenerator
from throughtime.training.optimisers import clip
from throughtime.training.settings import RunLimits, Settings, factor
from throughtime.training.text import Streams, Text, Vocabulary, parallel

VALIDATION_STREAMS = 64  # each begins with a zero state; more streams score a little worse
SHORTEST_STREAM = 100  # characters of a stream in validation
VALIDATION_STEPS = 256  # that are run at once


def _warn(words: str) -> None:
    warnings.warn(words, stacklevel=3)


@dataclass(frozen=True)
class Update:
    """What one update reports.

    Attributes:
        number: counted from 1.
        bits: training loss of the window before the update, bits a character.
        norm: of the gradient before clipping.
        clipped_norm: of the gradient after clipping.
        learning_rate: η of this update.
        characters: how many predictions the loss is the mean of.
    """

    number: int
    bits: float
    norm: float
    clipped_norm: float
    learning_rate: float
    characters: int


def still_finite(
    what: str, number: float, update: int, find: Callable[[], NonFinite | None] = lambda: None
) -> None:
    """Ends a run in which `number` is NaN or infinite; `find` finds its origin."""
    if math.isfinite(number):
        return
    finding = find()
    where = f" ({finding})" if finding else ""
    raise DivergedError(
        f"{what}: expected a finite number, got {number} at update {update}{where}; "
        "choose a lower learning rate or a smaller clip",
        update,
        finding,
    )


class Trainer:
    """A language model in training on one text, with everything needed to continue later.

    It has no hidden random state: dropout masks follow from the seed and the number of the
    update, so that a resumed run and an uninterrupted one are the same, bit for bit.

    Args:
        text: what to learn; its end is held out.
        settings: see `Settings`.
        processes: the processes that train together, from `distributed.join`; without it this
            process trains alone.

    Attributes:
        network, vocabulary, optimiser: the model and what updates it.
        updates, epoch, window: updates made, rounds through the text, next window of this one.
        state: the state carried into the next window, of this process's streams.
        seconds: spent in `fit`.
        plan: the end that the learning rate's schedule looks at; `fit` sets it.
        history: one `Record` a validation.
        recent: training losses since the last one, in bits a character.
        saved: at which update the last checkpoint was written; None before the first one.
        before: who wrote the checkpoint that this run continues from; None for a new run.

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
        self.plan = RunLimits()
        self.history: list[Record] = []
        self.recent: list[float] = []
        self.saved: int | None = None
        self.before: Launch | None = None
        self._begin_together()

    def _begin_as_unigram(self) -> None:
        """Sets the head's biases to the log probabilities of the characters.

        Otherwise the first updates are spent on learning them, and drive hidden units into
        saturation on the way, since a constant h also serves as a bias.
        """
        classes = len(self.vocabulary)
        counts = np.bincount(self.codes, minlength=classes) + 1
        *_, head = self.network.parameters
        self.network.parameters[head] = np.log(counts / counts.sum())

    def _begin_together(self) -> None:
        """Refuses processes that do not begin with the same text, settings and parameters."""
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
        # Overflow needs no warning here: its consequences are checked below.
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
                lambda: _first_parameter(self.network.parameters, gradient, rate),
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

    def dropout_seed(self, part: int) -> np.random.Generator | None:
        """Differs from update to update, and between its two forward passes."""
        if not self.settings.dropout:
            return None
        entropy = [self.settings.seed, self.updates, part]
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
        return ShardedGenerator(seed, self.own, self.settings.batch)

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
        unsaved: Callable[[str], None] = _warn,
    ) -> None:
        """Trains until `updates` or `seconds` are reached, both counted from the very first update.

        Args:
            updates, seconds: the end; at least one of them; whichever comes first ends the run.
            validate_every: updates between validations; one more is made at the end.
            out: the checkpoint to write; without it none is written.
            checkpoint_every: updates between checkpoints; one more is written at the end.
            watch: called with every update.
            stop: called before every update; True ends the run early. If one of several
                processes wishes to stop, all of them end after one more update.
            unsaved: told of a checkpoint that could not be written, as where the disk is full;
                the run goes on, and tries again at the next one. Without it, a warning is issued.

        Raises:
            OSError: where the last checkpoint could not be written.
            DivergedError: as `step` does; the last checkpoint stays as it is, and none is written
                of a model whose next loss would be NaN or infinite.
            LostWorkerError: where one of several processes has been lost.
        """
        if updates is None and seconds is None:
            refuse("fit", "updates or seconds", "neither")
        positive("validate_every", validate_every)
        positive("checkpoint_every", checkpoint_every)
        self.plan = RunLimits(updates, seconds)
        processes = self.processes
        earlier, began = processes.seconds(self.seconds), perf_counter()
        losses = self.recent

        def validate() -> None:
            mean = sum(losses) / len(losses) if losses else float("nan")
            held_out = self.validate()
            self.seconds = processes.seconds(earlier + perf_counter() - began)
            self.history.append(Record(self.updates, self.seconds, mean, held_out))
            losses.clear()

        def save(last: bool = False) -> None:
            if out is None:
                return
            self.still_good()  # a finite parameter may already be far too large
            try:
                self.save(out)
            except OSError as problem:
                words = self._unsaved(out, problem)
                if last:
                    raise OSError(words) from problem
                unsaved(f"{words}; training goes on, and the next checkpoint will be tried")

        stopped = False
        while self.plan.share(self.updates, self.seconds) < 1:
            if stopped := processes.stopping(stop()):
                break
            update = self.step()
            losses.append(update.bits)
            self.seconds = processes.seconds(earlier + perf_counter() - began)
            if watch:
                watch(update)
            if self.updates % validate_every == 0:
                validate()
            if self.updates % checkpoint_every == 0:
                save()
        if losses and not stopped:  # whoever stops a run early does not want to wait
            validate()
        save(last=True)

    def _unsaved(self, out: str | PathLike[str], problem: OSError) -> str:
        """Which checkpoint could not be written, why, what remains, and what would help."""
        reason = problem.strerror or str(problem)
        there = (
            "there is no earlier one"
            if self.saved is None
            else f"the one of update {self.saved} remains"
        )
        way_out = "make room on the disk, and check that the folder exists and is writable"
        return (
            f"{out}: expected to write the checkpoint of update {self.updates}, got {reason}; "
            f"{there}; {way_out}"
        )

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
        still_finite("loss", self._next_loss(), self.updates + 1, self._first_nonfinite)

    def _next_loss(self) -> float:
        """The loss of the next update, over all processes; nothing is changed."""
        first = self._first_counted()
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            inputs, targets, state = self.next_window()
            seed = self.dropout_seed(0)
            outputs, _, _ = self.network.forward(inputs, state=state, dropout_seed=seed)
            loss = self.network.loss_of(outputs[first:], targets[first:]).value
        share = (self.own.stop - self.own.start) / self.settings.batch
        return self.processes.total(loss * share)

    def _first_nonfinite(self) -> NonFinite | None:
        """The first NaN or infinity in the next window, which is run again from its state."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            inputs, targets, state = self.next_window()
            found = first_in_network(
                self.network,
                inputs,
                targets,
                first=self._first_counted(),
                state=state,
                dropout_seed=self.dropout_seed(0),
            )
        if found is None or found.sequence is None:
            return found
        return replace(found, sequence=found.sequence + self.own.start)

    def _first_counted(self) -> int:
        """The first step of the next window whose loss counts."""
        window = self.streams.windows[self.window]
        return window.first - window.start

    def save(self, path: str | PathLike[str]) -> None:
        """Writes a checkpoint, completely or not at all; of several processes the first one does.

        Raises:
            ValueError: where several processes do not hold the same parameters.
        """
        self.processes.agree("parameters", self.network.parameters.flat)
        content = Checkpoint(
            network=self.network,
            vocabulary=self.vocabulary,
            settings=self.settings,
            optimiser=self.optimiser.state(),
            state=self.processes.whole(self.state, self.settings.batch),
            position=Position(self.updates, self.epoch, self.window, self.seconds),
            plan=self.plan,
            source=TrainingText(self.text.files, self.text.sha256, len(self.text)),
            history=self.history,
            recent=self.recent,
            launch=self.processes.launch,
        )
        if self.processes.first:
            save(path, content)
        self.saved = self.updates

    @classmethod
    def resume(
        cls,
        path: str | PathLike[str] | Checkpoint,
        text: Text,
        processes: Processes | None = None,
    ) -> Self:
        """Continues from a checkpoint, on the text that it was trained on.

        With the number of processes that wrote it, the run continues bit for bit; another number
        rounds its sums in another order.

        Raises:
            ValueError, OSError: where the file is no checkpoint, or one of another text.
        """
        processes = processes or Processes()
        saved = path if isinstance(path, Checkpoint) else load_together(path, processes)
        saved.source.refuse_other(text)
        trainer = cls(text, saved.settings, processes)
        trainer._restore(saved)
        return trainer

    def _restore(self, saved: Checkpoint) -> None:
        """Takes over the state of `saved`; this trainer has just begun, on the same text."""
        position = saved.position
        if self.vocabulary != saved.vocabulary:
            refuse("checkpoint: vocabulary", "that of its text", "another one")
        if position.window >= len(self.streams.windows):
            last = len(self.streams.windows) - 1
            refuse("checkpoint: window", f"0 to {last}", position.window)
        same_names("checkpoint: state", saved.state, self.state)
        batch = self.settings.batch
        for name, own in self.state.items():
            shape = (batch, *own.shape[1:])
            whole = floats(f"checkpoint: state {name}", saved.state[name], own.dtype, shape)
            own[...] = whole[self.own]
        self.optimiser.restore(saved.optimiser)
        self.network.parameters.update(saved.network.parameters)
        self.updates, self.epoch = position.updates, position.epoch
        self.window, self.seconds = position.window, position.seconds
        self.plan, self.history = saved.plan, list(saved.history)
        self.recent = list(saved.recent)
        self.before = saved.launch
        self.saved = self.updates


def _first_parameter(parameters: Parameters, gradient: Parameters, rate: float) -> NonFinite | None:
    """The first parameter that an update has made NaN or infinite."""
    for name, array in parameters.items():
        if all_finite(array):
            continue
        entry = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        return NonFinite(
            where="parameters",
            quantity="value",
            value=float(array[entry]),
            name=f"{name}{list(entry)}",
            sources={"its gradient": float(gradient[name][entry]), "learning rate": rate},
            dtype=str(parameters.dtype),
        )
    return None


def bits_per_character(network: Network, codes: Array, processes: Processes | None = None) -> float:
    """Mean −log₂ p of each character of a text after its first, given those before it.

    The text runs in up to 64 parallel streams, the state carried from end to end in each of
    them; without dropout. Several processes share the streams.
    """
    if len(codes) < 2:
        refuse("held-out text", "at least 2 characters", len(codes), "give more text")
    inputs, targets = parallel(
        codes, max(1, min(VALIDATION_STREAMS, len(codes) // SHORTEST_STREAM))
    )
    processes = processes or Processes()
    own = processes.share(inputs.shape[1])
    state, total = None, 0.0
    for start in range(0, len(inputs) if own.stop > own.start else 0, VALIDATION_STEPS):
        stretch = slice(start, start + VALIDATION_STEPS), own
        with np.errstate(over="ignore", invalid="ignore"):  # the result shows it
            outputs, state, _ = network.forward(inputs[stretch], state)
            loss = network.loss_of(outputs, targets[stretch])
        total += float(loss.terms.sum(dtype="float64"))
    return processes.total(total) / inputs.size / math.log(2)
