"""Errors of the command line say what is wrong in words, and what was meant."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from throughtime.cli import FAILED, main
from throughtime.cli.user_error import of_the_system
from training_examples import text

PAIRS = "W[0,0] 0.025 0.05\nW[0,1] 0.5 1.0\nb[0] 0.1 0.2\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.txt").write_text(PAIRS)
    np.savez(tmp_path / "a.npz", w=np.ones(2))
    (tmp_path / "net.py").write_text("def half(z):\n    return 0.5 * (1 + z)\n")
    (tmp_path / "net.cpp").write_text("double half(double z) {\n  return 0.5 * (1 + z);\n}\n")
    (tmp_path / "book.txt").write_text(text(1500).characters)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("check nosuch.py", "target: expected an existing Python file or notebook, got nosuch.py"),
        ("compare nosuch.npz", "nosuch.npz: expected an existing file, got none"),
        ("compare nosuch.npz a.npz", "nosuch.npz: expected an existing file, got none"),
        ("compare a.npz", "a.npz: expected a second file beside it, got none"),
        ("compare nosuch.txt", "nosuch.txt: expected an existing file, got none"),
        ("compare .", ".: expected a file, got a folder"),
        ("compare . a.npz", ".: expected a file, got a folder"),
        ("compare pairs.txt --steps -1", "steps: expected a number of at least 1, got -1"),
        ("compare pairs.txt --batch 0", "batch: expected a number of at least 1, got 0"),
        ("compare pairs.txt --outputs -3", "outputs: expected a number of at least 1, got -3"),
        (
            "compare net.py",
            "net.py: expected printed numbers, got a program; to check what it "
            "computes: throughtime check net.py",
        ),
        ("compare net.cpp", "net.cpp: expected printed numbers, got a program"),
        ("flow --record nosuch", "nosuch: expected an existing file, got none"),
        ("flow --record .", ".: expected a file, got a folder"),
        ("train book.txt --minutes 1e400", "--minutes: expected a finite number above 0, got inf"),
    ],
)
def test_what_cannot_be_is_said_in_words(here, words, said, capsys):
    assert main(words.split()) == FAILED
    err = capsys.readouterr().err
    assert err == f"throughtime {words.split()[0]}: {said}\n"
    assert "Errno" not in err


def test_what_the_system_says_has_no_number():
    assert of_the_system(PermissionError(13, "Permission denied", "a")) == "a: Permission denied"
    assert of_the_system(OSError("no\nspace")) == "no space"


@pytest.mark.parametrize("words", ["class 0: 1.0 2.0\nclass 1: 0.5 1.0\n", "import x\n" + PAIRS])
def test_words_of_a_program_make_none(here, words):
    (here / "words.txt").write_text(words)
    assert main(["compare", "words.txt"]) != FAILED


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("chekc lstm.py", "argument COMMAND: invalid choice: 'chekc'; did you mean check?"),
        ("explain lstmm", "argument name: invalid choice: 'lstmm'; did you mean lstm?"),
        ("check a.py --effort qiuck", "invalid choice: 'qiuck'; did you mean quick?"),
        ("xyzzy", "invalid choice: 'xyzzy' (choose from"),
    ],
)
def test_a_wrong_word_names_the_nearest_right_one(words, said, capsys):
    with pytest.raises(SystemExit) as left:
        main(words.split())
    assert left.value.code == FAILED
    assert said in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX")
@pytest.mark.parametrize(("closed", "status"), [(">&-", 1), ("<&- >&- 2>&-", 1)])
def test_a_closed_stream_changes_no_verdict_and_no_file(here, closed, status):
    command = f'"{sys.executable}" -m throughtime compare pairs.txt --json r.json {closed}'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.returncode == status
    assert done.stderr == ""
    assert json.loads((here / "r.json").read_text())["verdict"] == "disagree"


def test_training_that_ends_worse_than_guessing_says_so(here, capsys):
    small = ["--hidden", "6", "--embedding", "0", "--batch", "3", "--k1", "16", "--updates", "6"]
    wild = ["--optimiser", "sgd", "--learning-rate", "1e9", "--clip", "1"]
    assert main(["train", "book.txt", *small, *wild]) == 1
    told = capsys.readouterr().out
    assert "\nDIVERGED  guessing, with every character as probable, has " in told
    assert "a lower --learning-rate" in told
    assert main(["train", "book.txt", *small, "--out", "b.safetensors"]) == 0
    assert "DIVERGED" not in capsys.readouterr().out
