"""Reading text, the vocabulary, and the streams."""

import os
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from throughtime.training import Streams, Text, Vocabulary, read, standard_library
from throughtime.training import text as text_module


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "deep.txt").write_text("deep ", encoding="utf-8")
    (tmp_path / "a.txt").write_text("première ", encoding="utf-8")
    (tmp_path / "c.txt").write_text("last", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    (tmp_path / "binary").write_bytes(b"abc\0def")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / ".hidden").write_text("hidden")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("hidden")
    return tmp_path


def test_a_folder_gives_its_texts_in_sorted_order(folder):
    os.mkfifo(folder / "pipe")
    found = read([folder])
    assert found.characters == "première lastdeep "
    assert [os.path.basename(name) for name in found.files] == ["a.txt", "c.txt", "deep.txt"]
    assert found.passed_over == 2


def test_each_file_is_read_once(folder):
    (folder / "link.txt").symlink_to(folder / "a.txt")
    (folder / "b" / "loop").symlink_to(folder)
    found = read([folder / "c.txt", folder, str(folder / "b"), folder / "b" / ".." / "a.txt"])
    assert found.characters == "lastpremière deep "


def test_line_ends_and_every_character_stay(tmp_path):
    file = tmp_path / "x"
    file.write_bytes("a\r\nb\u2028🙂\r".encode())
    assert read([file]).characters == "a\r\nb\u2028🙂\r"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "nothing: expected an existing file or folder, got none there"),
        ("empty", "empty: expected a text, got an empty file; leave it out"),
        ("latin.txt", "latin.txt: expected a text in UTF-8, got byte 0xe9 at 0; convert it"),
        ("binary", "binary: expected a text, got a NUL character at byte 3; convert it"),
    ],
)
def test_a_named_file_that_is_no_text_is_refused(folder, name, message):
    with pytest.raises((ValueError, OSError), match=message):
        read([folder / name])


def test_an_unreadable_file_is_refused_and_passed_over_in_a_folder(folder, monkeypatch):
    def unreadable(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(text_module.storage, "read_bytes", unreadable)
    with pytest.raises(OSError, match=r"c.txt: expected a readable file, got Permission denied"):
        read([folder / "c.txt"])
    with pytest.raises(ValueError, match=r"expected a folder with text files \(UTF-8\), got none"):
        read([folder])


def test_no_sources_are_refused():
    with pytest.raises(ValueError, match="text: expected files or folders, got none"):
        read([])


def test_the_standard_library_is_text(monkeypatch, tmp_path):
    found = read(standard_library())
    assert len(found) > 1_000_000
    assert "def " in found.characters
    monkeypatch.setattr(text_module.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(
        ValueError, match=r"standard library: expected \*\.py files in .*, got none"
    ):
        standard_library()


@given(length=st.integers(0, 500), share=st.floats(0.001, 0.5), most=st.integers(1, 30))
def test_a_split_is_the_whole_text(length, share, most):
    text = Text("".join(chr(97 + i % 26) for i in range(length)))
    training, held_out = text.split(share, most)
    assert training + held_out == text.characters
    assert len(held_out) == min(length, max(3, min(int(share * length), most)))


def test_a_text_is_known_again_by_its_sum():
    assert Text("abc").sha256.startswith("ba7816bf8f01cfea414140de5dae2223")  # FIPS 180-2's example
    assert Text("abd").sha256 != Text("abc").sha256


@given(text=st.text(min_size=1, max_size=200), most=st.integers(2, 40))
def test_known_characters_survive_encoding_and_the_others_share_a_class(text, most):
    vocabulary = Vocabulary.of(text, most)
    codes = vocabulary.encode(text)
    assert len(vocabulary) == min(most, len(set(text)) + 1)
    assert codes.dtype == np.uint8
    for before, code, after in zip(text, codes, vocabulary.decode(codes), strict=True):
        known = before in vocabulary.characters
        assert after == (before if known else "�")
        assert (code == vocabulary.other) == (not known)


def test_the_most_frequent_characters_come_first():
    vocabulary = Vocabulary.of("abbccc" + "d", most=4)
    assert vocabulary.characters == "cba"
    assert vocabulary.encode("dz\U0010ffff\ud800").tolist() == [3, 3, 3, 3]


def test_a_large_vocabulary_takes_a_larger_type():
    characters = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    assert Vocabulary(characters).encode(characters).dtype == np.uint16
    assert Vocabulary(characters[:255]).encode("").dtype == np.uint8


def test_unknown_characters_are_refused_by_name():
    message = "prompt: expected characters that the model knows, got "
    message += "'é' (LATIN SMALL LETTER E WITH ACUTE), '\\ud800' (U+D800); leave them out"
    with pytest.raises(ValueError, match=re.escape(message)):
        Vocabulary("abc").encode_known("prompt", "aéb\ud800")
    with pytest.raises(
        ValueError, match="vocabulary: expected characters, each once, got 'a' more"
    ):
        Vocabulary("aba")


@given(
    length=st.integers(2, 200),
    batch=st.integers(1, 7),
    k1=st.integers(1, 9),
    k2=st.integers(1, 9),
)
def test_streams_follow_on_one_another(length, batch, k1, k2):
    needed = batch * max(k1, k2) + 1
    codes = np.arange(length, dtype=np.uint8)
    if length < needed:
        message = rf"text: expected at least {needed} characters .*, got {length}; give more text"
        with pytest.raises(ValueError, match=message):
            Streams(codes, batch, k1, k2)
        return
    streams = Streams(codes, batch, k1, k2)
    steps = (length - 1) // batch
    assert streams.inputs.shape == streams.targets.shape == (steps, batch)
    assert streams.inputs.T.ravel().tolist() == list(range(steps * batch))
    assert streams.targets.T.ravel().tolist() == list(range(1, steps * batch + 1))
    for number, window in enumerate(streams.windows):
        waits = streams.carried_to(number)
        assert waits <= window.start
        if number:
            before = streams.windows[number - 1]
            assert before.start <= waits <= before.stop  # its tape knows the state there
