"""The trainer: its updates against a plain account of TBPTT, resuming, divergence, validation."""

import errno
import functools
import itertools
import math
import os
import re
from dataclasses import replace

import numpy as np
import pytest

import throughtime as tt
from throughtime.cells import CELLS
from throughtime.training import (
    DivergedError,
    RunLimits,
    Settings,
    Text,
    Trainer,
    bits_per_character,
    load_checkpoint,
    ngram_bits,
)
from throughtime.training.settings import factor
from training_examples import settings, text, trainer

WINDOWS = [(16, None), (5, 12), (12, 5), (300, 300)]
RESUMED = {
    "sgd": {"optimiser": "sgd", "learning_rate": 0.3, "cell": "gru", "embedding": 4},
    "adam": {"optimiser": "adam", "cell": "lstm", "layers": 2, "clip": None},
    "adamw": {"optimiser": "adamw", "weight_decay": 0.1, "cell": "rnn", "dtype": "float64"},
}


@pytest.mark.parametrize(("k1", "k2"), WINDOWS)
@pytest.mark.parametrize("cell", [name.lower() for name in CELLS])
def test_training_is_tbptt_written_out(cell, k1, k2):
    """Two epochs and a half of SGD; every window's loss recomputed from steps and states."""
    options = {"optimiser": "sgd", "momentum": 0.0, "schedule": "constant", "warmup": 0}
    ours = trainer(
        k1=k1, k2=k2, cell=cell, dtype="float64", learning_rate=0.3, clip=None, **options
    )
    net = ours.network.copy()
    codes, back = ours.codes, k1 if k2 is None else k2
    steps = (len(codes) - 1) // 3
    inputs = np.stack([codes[b * steps : (b + 1) * steps] for b in range(3)], axis=1)
    targets = np.stack([codes[b * steps + 1 : (b + 1) * steps + 1] for b in range(3)], axis=1)

    def epoch():
        states = {0: net.zero_state(3)}  # step -> state before it, as known at that time
        for before in range(0, steps, k1):
            stop = min(before + k1, steps)
            start = max(0, stop - back)
            known = max(s for s in states if s <= start)
            for s in range(known, start):  # steps between windows
                states[s + 1] = net.forward(inputs[s : s + 1], states[s])[1]
            run_inputs = inputs[start:stop]
            outputs, _, tape = net.forward(run_inputs, states[start])
            first = max(before, start) - start
            loss = net.loss_of(outputs[first:], targets[start + first : stop])
            padding = np.zeros((first, *outputs.shape[1:]))
            gradient = net.backward(tape, np.concatenate([padding, loss.doutputs])).parameters
            net.parameters.flat[...] -= 0.3 * gradient.flat
            after = min(max(0, min(stop + k1, steps) - back), stop)
            states = {after: net.state_after(tape, after - start)}
            yield loss.value

    epochs = itertools.chain.from_iterable(epoch() for _ in range(3))
    updates = 5 * len(ours.streams.windows) // 2
    for loss in itertools.islice(epochs, updates):
        update = ours.step()
        assert update.bits == pytest.approx(loss / math.log(2), rel=1e-12)
    assert (ours.epoch, ours.updates) == (2, updates)
    error = (ours.network.parameters - net.parameters).norm()
    assert error <= 1e-13 * net.parameters.norm()


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize(("k1", "k2"), WINDOWS[:3])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(name, k1, k2, dropout, tmp_path):
    options = RESUMED[name] | {"k1": k1, "k2": k2, "dropout": dropout}
    whole, first = trainer(**options), trainer(**options)
    epoch = len(whole.streams.windows)
    total, cut = epoch + 9, epoch - 2  # the resumed part crosses the end of the text
    whole.fit(updates=total)
    first.plan = RunLimits(total)  # a stop amid the plan, as Ctrl-C makes it
    first.fit(updates=total, out=tmp_path / "c", stop=lambda: first.updates == cut)
    assert first.updates == cut
    resumed = Trainer.resume(tmp_path / "c", text())
    assert resumed.updates == cut
    resumed.fit(updates=total)
    assert resumed.epoch == whole.epoch == 1
    assert same_bits(resumed.network.parameters, whole.network.parameters)
    assert same_bits(resumed.state, whole.state)
    for part, array in whole.optimiser.state().items():
        assert resumed.optimiser.state()[part].tobytes() == array.tobytes()
    assert resumed.history[-1].held_out == whole.history[-1].held_out


def same_bits(a, b):
    return a.flat.tobytes() == b.flat.tobytes()


def test_a_dropout_mask_follows_from_the_seed_and_the_number_of_the_update():
    def bits(seed, updates):
        ours = trainer(dropout=0.5, seed=seed)
        ours.network.parameters.flat[...] = parameters.flat
        ours.updates = updates
        return ours.step().bits

    parameters = trainer().network.parameters
    assert bits(1, 0) == bits(1, 0)
    assert len({bits(1, 0), bits(1, 1), bits(2, 0), bits(2, 1)}) == 4


def test_a_model_that_has_not_begun_is_a_unigram():
    """But for the hidden units, which are switched off here."""
    ours = Trainer(text(4000), settings())
    ours.network.parameters["1.W"] = np.zeros(ours.network.parameters.shapes["1.W"])
    unigram = ngram_bits(ours.codes, ours.held_out, len(ours.vocabulary))["unigram"]
    assert ours.validate() == pytest.approx(unigram, rel=1e-3)


def test_a_model_learns_what_the_ngrams_cannot_know():
    """After a space the next word depends on the word before last: four characters and more."""
    period = "alpha beta alpha gamma "
    ours = Trainer(
        Text(period * 400),
        settings(hidden=24, batch=8, k1=32, learning_rate=0.03, clip=1.0),
    )
    ours.fit(updates=200)
    assert ours.history[-1].held_out < 0.1


def test_validation_is_the_mean_loss_with_the_state_carried():
    ours = trainer(dropout=0.5, dtype="float64")
    codes = np.resize(ours.codes, 64 * 300 + 20)  # 64 streams of 300 steps, more than one stretch
    inputs = codes[: 64 * 300].reshape(64, 300).T
    targets = codes[1 : 64 * 300 + 1].reshape(64, 300).T
    truth = ours.network.evaluate(inputs, targets).value / math.log(2)
    assert bits_per_character(ours.network, codes) == pytest.approx(truth, rel=1e-13)
    with pytest.raises(ValueError, match="held-out text: expected at least 2 characters, got 1"):
        bits_per_character(ours.network, codes[:1])


def test_both_norms_and_the_schedule_are_reported():
    ours = trainer(clip=0.01, warmup=3, learning_rate=0.5, schedule="cosine")
    ours.plan = RunLimits(updates=8)
    updates = [ours.step() for _ in range(8)]
    assert all(u.norm > 0.01 for u in updates)
    assert all(u.clipped_norm == pytest.approx(0.01, rel=1e-6) for u in updates)
    expected = [0.5 * min(1, (i + 1) / 4) * (1 + math.cos(math.pi * i / 8)) / 2 for i in range(8)]
    assert [u.learning_rate for u in updates] == pytest.approx(expected, rel=1e-12)
    assert factor("constant", 3, 10, 0.9) == 1.0


@pytest.mark.parametrize(
    ("plan", "share"),
    [
        (RunLimits(), 0),
        (RunLimits(10), 0.5),
        (RunLimits(None, 8), 0.25),
        (RunLimits(10, 2), 1),
        (RunLimits(4), 1),
    ],
)
def test_a_plan_ends_with_what_comes_first(plan, share):
    assert plan.share(5, 2.0) == share


def test_a_run_in_seconds_ends_and_keeps_its_time(tmp_path):
    ours = trainer()
    ours.fit(seconds=0.2, out=tmp_path / "c")
    assert ours.updates > 0
    assert ours.seconds >= 0.2
    again = Trainer.resume(tmp_path / "c", text())
    assert again.seconds >= 0.2
    again.fit(seconds=0.2)  # is over already
    assert again.updates == ours.updates


@pytest.mark.parametrize("rate", [1e38, 1e300])
def test_a_run_that_diverges_says_so_and_keeps_the_last_checkpoint(rate, tmp_path):
    ours = trainer(optimiser="sgd", learning_rate=0.1, clip=None, cell="rnn", warmup=0)
    ours.fit(updates=4, out=tmp_path / "c")
    kept = (tmp_path / "c").read_bytes()
    ours.settings = replace(ours.settings, learning_rate=rate)
    message = r"(loss|norm of the (gradient|parameters)): expected a finite number, got (nan|inf) "
    with pytest.raises(DivergedError, match=message + r"at update \d+ \(.+\); choose a lower"):
        ours.fit(updates=100, out=tmp_path / "c", checkpoint_every=1)
    saved = load_checkpoint(tmp_path / "c")
    assert 4 <= saved.position.updates <= ours.updates
    assert np.isfinite(Trainer.resume(tmp_path / "c", ours.text).step().bits)
    assert np.isfinite(saved.network.parameters.flat).all()
    ours.network.parameters.flat[3] = np.nan
    (tmp_path / "c").write_bytes(kept)
    with pytest.raises(ValueError, match=r"parameters/0\.W: expected finite numbers, got "):
        ours.save(tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == kept


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "hidden: expected an integer of at least 1, got 0"),
        ({"k2": 0}, "k2: expected an integer of at least 1, got 0"),
        ({"cell": "LSTM"}, "cell: expected one of rnn, lstm, gru, got 'LSTM'"),
        ({"optimiser": "lion"}, "optimiser: expected one of sgd, adam, adamw, got 'lion'"),
        ({"schedule": "step"}, "schedule: expected one of constant, cosine, got 'step'"),
        ({"dropout": 1}, "dropout: expected a number from 0 to below 1, got 1"),
        ({"learning_rate": 0}, "learning_rate: expected a number above 0, got 0"),
        ({"learning_rate": math.nan}, "learning_rate: expected a finite number, got nan"),
        ({"clip": -1.0}, "clip: expected a norm above 0, or None, got -1"),
        ({"held_out": 0.6}, "held_out: expected a share from above 0 to 0.5, got 0.6"),
        ({"weight_decay": 0.1}, "weight_decay: expected 0 without 'adamw', got 0.1"),
        ({"momentum": 1.5, "optimiser": "sgd"}, "momentum: expected a number from 0 to below 1"),
        ({"dtype": "float16"}, "dtype: expected float32 or float64, got float16"),
        ({"classes": 1}, "classes: expected an integer of at least 2, got 1"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Settings(**options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Trainer(Text("ab")), "text: expected more than 3 characters, got 2"),
        (lambda: Trainer(Text("ab" * 500)), "text: expected at least 2049 characters for training"),
        (lambda: trainer().fit(), "fit: expected updates or seconds, got neither"),
        (lambda: trainer().fit(updates=0), "updates: expected an integer of at least 1, got 0"),
        (lambda: trainer().fit(seconds=-1), "seconds: expected a number above 0, got -1"),
        (
            lambda: trainer().fit(updates=1, validate_every=0),
            "validate_every: expected an integer of at least 1, got 0",
        ),
    ],
)
def test_runs_that_cannot_be_are_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_settings_describe_their_network():
    plan = Settings(cell="gru", layers=2, hidden=5, embedding=3, dropout=0.1).specs(9)
    assert plan == [
        tt.Embedding(9, 3),
        tt.GRU(3, 5),
        tt.Dropout(0.1),
        tt.GRU(5, 5),
        tt.Dropout(0.1),
        tt.Dense(5, 9),
    ]


def test_a_held_out_loss_that_is_not_finite_is_refused():
    ours = trainer()
    ours.network.parameters["1.W"] = np.full(ours.network.parameters.shapes["1.W"], 3e38)
    ours.network.parameters["1.b"] = np.full(ours.network.parameters.shapes["1.b"], -3e38)
    ours.network.parameters["1.b"][0] = 3e38
    with pytest.raises(DivergedError, match="held-out loss: expected a finite number, got nan"):
        ours.validate()


def test_checkpoints_and_validations_come_when_they_should(tmp_path):
    class Noted(Trainer):
        def save(self, path):
            saved.append(self.updates)

        def validate(self):
            validated.append(self.updates)
            return super().validate()

    saved, validated = [], []
    ours = Noted(text(), settings())
    ours.fit(updates=11, out=tmp_path / "c", checkpoint_every=4, validate_every=5)
    assert (saved, validated) == ([4, 8, 11], [5, 10, 11])
    assert [record.updates for record in ours.history] == validated


def test_what_the_history_says_is_the_same_after_resuming(tmp_path):
    """Also where the run was cut between two validations."""
    whole, path = trainer(), tmp_path / "cut"
    whole.fit(updates=30, validate_every=10)
    for cut in (1, 9, 10, 14):
        first, asked = trainer(), itertools.count()
        stop = functools.partial(lambda cut, asked: next(asked) == cut, cut, asked)
        first.fit(updates=30, validate_every=10, out=path, stop=stop)
        assert first.updates == cut
        rest = Trainer.resume(path, first.text)
        rest.fit(updates=30, validate_every=10)
        without_time = [[r._replace(seconds=0) for r in t.history] for t in (rest, whole)]
        assert without_time[0] == without_time[1]


def full(monkeypatch, is_full):
    """A disk that is full while `is_full()`."""
    fsync = os.fsync

    def sync(descriptor):
        if is_full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(tmp_path, monkeypatch):
    ours, path, told = trainer(), tmp_path / "c", []
    full(monkeypatch, lambda: 10 <= ours.updates < 20)
    ours.fit(updates=25, out=path, checkpoint_every=5, unsaved=told.append)
    assert [int(words.split("update ")[1].split(",")[0]) for words in told] == [10, 15]
    assert told[0].startswith(f"{path}: expected to write the checkpoint of update 10, got No")
    assert "the one of update 5 remains; make room on the disk" in told[0]
    assert "training goes on" in told[0]
    assert ours.saved == 25
    assert Trainer.resume(path, ours.text).updates == 25
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c"]


def test_a_last_checkpoint_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    ours, path, told = trainer(), tmp_path / "c", []
    full(monkeypatch, lambda: True)
    with pytest.raises(OSError, match=r"update 3, got No space .*; there is no earlier one;"):
        ours.fit(updates=3, out=path, unsaved=told.append)
    assert told == []
    goes_on = pytest.warns(UserWarning, match="training goes on")
    with goes_on, pytest.raises(OSError, match="update 6"):
        ours.fit(updates=6, out=path, checkpoint_every=2)


def test_a_folder_that_is_removed_meanwhile_may_come_back(tmp_path):
    folder, told = tmp_path / "runs", []
    folder.mkdir()
    ours, path = trainer(), folder / "c"

    def watch(update):
        if update.number == 7:
            path.unlink()
            folder.rmdir()
        if update.number == 14:
            folder.mkdir()

    ours.fit(updates=20, out=path, checkpoint_every=5, watch=watch, unsaved=told.append)
    assert len(told) == 1
    assert f"got path: expected an existing folder, got {folder}" in told[0]
    assert Trainer.resume(path, ours.text).updates == 20
