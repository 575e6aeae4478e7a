"""Checkpoints: what goes in comes out, and what is none is refused; and samples from them."""

import json
import re
from contextlib import suppress

import numpy as np
import pytest
from safetensors.numpy import load_file

from throughtime import storage
from throughtime.training import Text, Trainer, load_checkpoint, sample, sampling, save_checkpoint
from training_examples import text, trainer


@pytest.fixture(scope="module")
def trained():
    ours = trainer(cell="lstm", dropout=0.1)
    ours.fit(updates=20, validate_every=10)
    return ours


@pytest.fixture
def path(trained, tmp_path):
    trained.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def rewritten(path, arrays=None, **metadata):
    """The checkpoint with some of its contents exchanged; None leaves one out."""
    tensors, words = storage.read(path)
    tensors |= arrays or {}
    words |= metadata
    storage.write(
        path,
        {n: a for n, a in tensors.items() if a is not None},
        {n: w for n, w in words.items() if w is not None},
    )
    return path


def changed(path, part, **values):
    """The same for one JSON part of the metadata."""
    plan = json.loads(storage.read(path)[1][part])
    return rewritten(path, **{part: json.dumps(plan | values)})


def test_everything_is_in_the_file(trained, path):
    saved = load_checkpoint(path)
    assert saved.network.parameters == trained.network.parameters
    assert saved.network.describe() == trained.network.describe()
    assert saved.vocabulary == trained.vocabulary
    assert saved.settings == trained.settings
    assert (saved.position.updates, saved.position.epoch, saved.position.window) == (20, 0, 20)
    assert saved.position.seconds == trained.seconds > 0
    assert saved.plan == trained.plan
    assert saved.source.sha256 == trained.text.sha256
    assert saved.history == trained.history
    assert [record.updates for record in saved.history] == [10, 20]
    for name, array in trained.state.items():
        assert saved.state[name].tobytes() == array.tobytes()


def test_reading_and_writing_gives_the_same_bytes(path, tmp_path):
    save_checkpoint(tmp_path / "again", load_checkpoint(path))
    first, second = load_file(path), load_file(tmp_path / "again")
    assert {n: a.tobytes() for n, a in first.items()} == {n: a.tobytes() for n, a in second.items()}
    assert storage.read(path)[1] == storage.read(tmp_path / "again")[1]


def test_a_checkpoint_replaces_the_one_before_in_one_step(trained, path, monkeypatch):
    before = path.read_bytes()

    def crash(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(storage.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        trained.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 2000, -1])
def test_a_truncated_file_is_refused(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors: expected a whole safetensors file"):
        load_checkpoint(path)


def test_every_byte_of_the_header_may_be_wrong_and_no_other_error_comes(path):
    """A file is refused, or what was changed did not matter; it never fails in another way."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    for place in range(0, end, 23):
        path.write_bytes(content[:place] + bytes([content[place] ^ 21]) + content[place + 1 :])
        with suppress(ValueError, TypeError, OSError, UserWarning):
            Trainer.resume(path, text())


DEEP = "[" * 100_000
LARGE = {"hidden": 2**30, "layers": 1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda p: rewritten(p, format=None),
            "expected a checkpoint of throughtime, got metadata 'format': expected 'throughtime",
        ),
        (
            lambda p: rewritten(p, version="2"),
            "version: expected 1, got '2'; it comes from a newer throughtime",
        ),
        (lambda p: rewritten(p, settings="{"), "metadata 'settings': expected Settings as JSON"),
        (lambda p: rewritten(p, settings=DEEP), "metadata 'settings': expected Settings as JSON"),
        (lambda p: rewritten(p, settings="[]"), "metadata 'settings': expected Settings as JSON"),
        (
            lambda p: rewritten(p, source=None),
            "metadata 'source': expected TrainingText as JSON, got none",
        ),
        (lambda p: changed(p, "settings", hidden="6"), "hidden: expected an integer"),
        (lambda p: changed(p, "settings", unknown=1), "unexpected keyword argument 'unknown'"),
        (lambda p: changed(p, "settings", **LARGE), "parameters: expected {'0.W': (4294967296, "),
        (lambda p: changed(p, "settings", layers=2**62), "layers: expected"),
        (lambda p: changed(p, "vocabulary", characters="aa"), "characters, each once"),
        (lambda p: changed(p, "vocabulary", characters="ab"), "parameters: expected {'0.W'"),
        (lambda p: changed(p, "vocabulary", characters=[1]), "vocabulary: expected a string"),
        (lambda p: changed(p, "place", updates=-1), "updates: expected an integer of at least 0"),
        (lambda p: changed(p, "place", seconds="x"), "seconds: expected a number, got 'x'"),
        (lambda p: changed(p, "source", files=3), "files: expected a list of names, got 3"),
        (lambda p: rewritten(p, network="{}"), "network: expected"),
        (lambda p: rewritten(p, {"history": None}), "history: expected an array, got none"),
        (lambda p: rewritten(p, {"history": np.zeros((2, 9))}), "history: expected (N, 4)"),
        (lambda p: rewritten(p, {"parameters/0.b": None}), "parameters: expected {'0.W'"),
        (
            lambda p: rewritten(p, {"parameters/0.b": np.full(24, np.nan, np.float32)}),
            "parameters/0.b: expected finite numbers, got nan",
        ),
        (
            lambda p: rewritten(p, {"parameters/0.b": np.zeros(24)}),
            "parameters/0.b: expected float32, got float64",
        ),
    ],
)
def test_what_is_no_checkpoint_is_refused(path, make, message):
    make(path)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_checkpoint(path)
    assert len(str(caught.value)) < 600
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: changed(p, "place", window=10**6), "checkpoint: window: expected 0 to"),
        (lambda p: changed(p, "settings", batch=4), "checkpoint: state 0.h: expected (4, 6)"),
        (lambda p: rewritten(p, {"state/0.c": None}), "0.h, 0.c"),
        (lambda p: rewritten(p, {"optimiser/m": None}), "optimiser"),
        (
            lambda p: rewritten(p, {"optimiser/m": np.zeros(3, np.float32)}),
            "optimiser: m: expected (",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_its_text_is_refused(path, make, message):
    make(path)
    with pytest.raises(ValueError, match=re.escape(message)):
        Trainer.resume(path, text())


def test_another_text_is_refused(path):
    other = Text(text().characters.replace("fro", "for", 1))
    with pytest.raises(
        ValueError, match=r"text: expected that of the checkpoint .* got another one"
    ):
        Trainer.resume(path, other)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="file: expected an existing safetensors file"):
        load_checkpoint(tmp_path / "none")


# --- samples ---


def drawn(trained, length=200, **options):
    return "".join(sample(trained.network, trained.vocabulary, length, prompt="t", **options))


def test_a_sample_follows_from_its_seed(trained):
    assert drawn(trained, seed=1) == drawn(trained, seed=1) != drawn(trained, seed=2)
    assert len(drawn(trained)) == 200
    assert drawn(trained, 0) == ""


def test_temperature_0_takes_the_most_probable_and_almost_0_does_the_same(trained):
    vocabulary, network = trained.vocabulary, trained.network
    codes, greedy = vocabulary.encode("t"), drawn(trained, 50, temperature=0)
    for character in greedy:
        outputs, _, _ = network.forward(codes[:, None])  # the whole run anew
        best = outputs[-1, 0, : vocabulary.other].argmax()
        assert vocabulary.characters[best] == character
        codes = np.append(codes, vocabulary.encode(character))
    assert drawn(trained, 50, temperature=1e-300) == greedy


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_have_the_frequencies_of_the_softmax(temperature):
    logits = np.linspace(-3, 0, 12)
    rng = np.random.default_rng(0)
    draws = [sampling._draw(logits, temperature, rng) for _ in range(4000)]
    expected = np.exp(logits / temperature)
    expected *= 4000 / expected.sum()
    chi_squared = ((np.bincount(draws, minlength=12) - expected) ** 2 / expected).sum()
    assert chi_squared < 11 + 4 * np.sqrt(22)  # its mean, and four standard deviations


def test_the_class_of_other_characters_is_not_drawn(trained):
    network = trained.network.copy()
    network.parameters["2.b"][trained.vocabulary.other] = 50  # all of the probability
    made = "".join(sample(network, trained.vocabulary, 50, prompt="t"))
    assert set(made) <= set(trained.vocabulary.characters)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": ""}, "prompt: expected at least one character, got none"),
        ({"prompt": "té"}, "got 'é' (LATIN SMALL LETTER E WITH ACUTE)"),
        ({"temperature": -1}, "temperature: expected a finite number of at least 0, got -1"),
        ({"temperature": float("nan")}, "temperature: expected a finite number of at least 0"),
        ({"length": -1}, "length: expected an integer of at least 0, got -1"),
        ({"seed": -1}, "seed: expected an integer of at least 0, got -1"),
    ],
)
def test_options_out_of_range_are_refused_before_the_first_character(trained, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        sample(trained.network, trained.vocabulary, **({"prompt": "t"} | options))
