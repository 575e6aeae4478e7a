"""`throughtime train` and `throughtime sample`, as a user calls them."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from helpers import run_command
from throughtime.cli import INTERRUPTED, sample, train
from throughtime.cli.train import Interruption
from throughtime.training import LostWorkerError, load_checkpoint
from training_examples import text

SMALL = ["--hidden", "6", "--embedding", "0", "--batch", "3", "--k1", "16"]


def call(*arguments):
    """The two commands alone."""
    return run_command(arguments, train, sample)


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text(text(1500).characters)
    return tmp_path / "book.txt"


def test_train_resume_and_sample(book, capsys):
    assert call("train", book, *SMALL, "--updates", 20, "--validate-every", 10) == 0
    told = capsys.readouterr().out
    assert "text      1 file, " in told
    bits = r"unigram \d\.\d{3}, bigram \d\.\d{3}, trigram \d\.\d{3} bits a character"
    assert re.search(rf"^n-grams   {bits} on the held-out text$", told, re.M)
    assert re.search(rf"^held out  lstm \d\.\d{{3}}, {bits}$", told, re.M)
    assert "throughtime train --resume throughtime.safetensors --updates 40" in told

    assert call("train", "--resume", "throughtime.safetensors", "--updates", 40) == 0
    assert "40 updates, 20 updates done" in capsys.readouterr().out
    saved = load_checkpoint("throughtime.safetensors")
    assert saved.position.updates == 40

    assert call("train", book, *SMALL, "--updates", 40, "--out", "whole.safetensors") == 0
    capsys.readouterr()
    assert [r.updates for r in saved.history] == [10, 20, 40]

    assert call("sample", "throughtime.safetensors", "--length", 30, "--prompt", "to ") == 0
    first = capsys.readouterr().out
    assert first.startswith("to ")
    assert len(first) == 34
    call("sample", "throughtime.safetensors", "--length", 30, "--prompt", "to ")
    assert capsys.readouterr().out == first
    call("sample", "throughtime.safetensors", "--length", 5)
    assert len(capsys.readouterr().out) == 6


def test_a_run_cut_in_two_is_a_whole_one_to_the_bit(book):
    rest = [*SMALL, "--dropout", "0.2", "--schedule", "constant"]
    call("train", book, *rest, "--updates", 9, "--out", "cut.safetensors")
    call("train", "--resume", "cut.safetensors", "--updates", 21)
    call("train", book, *rest, "--updates", 21, "--out", "whole.safetensors")
    cut, whole = load_checkpoint("cut.safetensors"), load_checkpoint("whole.safetensors")
    assert cut.network.parameters.flat.tobytes() == whole.network.parameters.flat.tobytes()


def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(book, capsys, monkeypatch):
    def pressed(trainer, window, tape, carry=train.training.Trainer._carry):
        carry(trainer, window, tape)
        if trainer.updates == 6:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(train.training.Trainer, "_carry", pressed)
    assert call("train", book, *SMALL, "--updates", 50) == INTERRUPTED
    told = capsys.readouterr().out
    assert "stopped   7 updates" in told
    assert "go on     throughtime train --resume throughtime.safetensors\n" in told
    assert load_checkpoint("throughtime.safetensors").position.updates == 7
    monkeypatch.undo()
    assert call("train", "--resume", book.parent / "throughtime.safetensors") == 0
    assert load_checkpoint(book.parent / "throughtime.safetensors").position.updates == 50


@pytest.fixture
def heard():
    """Ctrl-C is listened to, also where the tests run as a shell's background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_the_second_ctrl_c_interrupts_and_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGINT)

    def press_twice():
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            assert interruption.wished
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        press_twice()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("heard")
def test_the_launcher_does_not_end_a_process_before_it_says_that_a_worker_is_lost():
    """It ends the others by SIGTERM, at whatever moment; the message comes after the context."""
    before = signal.getsignal(signal.SIGTERM)
    interruption = Interruption()
    with pytest.raises(LostWorkerError), interruption:
        raise LostWorkerError("closed")
    os.kill(os.getpid(), signal.SIGTERM)
    assert interruption.wished
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_whole_program(book):
    """In a process of its own: plain lines instead of a bar, and one line for an error."""
    program = [sys.executable, "-m", "throughtime"]
    done = subprocess.run(
        [*program, "train", "book.txt", *SMALL, "--updates", "5", "--out", "a b.safetensors"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "throughtime sample 'a b.safetensors'" in done.stdout
    failed = subprocess.run(
        [*program, "sample", "a b.safetensors", "--prompt", "é"], capture_output=True, text=True
    )
    assert failed.returncode == 3
    assert failed.stdout == ""
    assert failed.stderr.startswith("throughtime sample: prompt: expected characters that the")
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "train: expected files or folders, got none; name some, or add --stdlib"),
        (["train", "book.txt", "--out", "no/c"], "--out: expected a file in an existing folder"),
        (["train", "book.txt", "--out", "."], "--out: expected a file, got the folder ."),
        (["train", "nothing"], "nothing: expected an existing file or folder"),
        (["train", "book.txt", "--batch", "500"], "text: expected at least 32001 characters"),
        (["train", "book.txt", "--cell", "elman"], "cell: expected one of rnn, lstm, gru"),
        (["train", "book.txt", "--minutes", "0"], "--minutes: expected a finite number above 0"),
        (["train", "--resume", "book.txt"], "book.txt: expected a whole safetensors file"),
        (["train", "--resume", "done.safetensors"], "end: expected more than is done already"),
        (
            ["train", "--resume", "done.safetensors", "--hidden", "7"],
            "--hidden: expected 6, as in done.safetensors, got 7; leave it out, or begin anew",
        ),
        (
            ["train", "other.txt", "--resume", "done.safetensors", "--updates", "9"],
            "text: expected that of the checkpoint",
        ),
        (["sample", "nothing"], "file: expected an existing safetensors file, got nothing"),
        (["sample", "done.safetensors", "--temperature", "-1"], "temperature: expected"),
    ],
)
def test_wrong_input_is_refused(book, arguments, message):
    (book.parent / "other.txt").write_text(text(1500, seed=1).characters)
    call("train", "book.txt", *SMALL, "--updates", 2, "--out", "done.safetensors")
    before = sorted(os.listdir())
    with pytest.raises((ValueError, OSError), match=re.escape(message)):
        call(*arguments)
    assert sorted(os.listdir()) == before


def test_progress_shows_lines_without_a_terminal_and_a_bar_in_one(book, capsys, monkeypatch):
    monkeypatch.setattr(train.training.progress, "QUIET", 0.0)
    call("train", book, *SMALL, "--updates", 4, "--validate-every", 2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert re.fullmatch(
        r"update 3 \(75%\): \d\.\d{3} bits/char, \|gradient\| \d+\.\d\d, [\d,]+ char/s, "
        r"held out \d\.\d{3}",
        lines[2],
    )
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    call("train", book, *SMALL, "--updates", 4)
    assert "4/4 updates" in capsys.readouterr().err.replace("\r", "\n")


FULL = """
import resource, sys
from throughtime.cli import main, train
step = train.training.Trainer.step

def limited(trainer):
    most = {most} if {first} <= trainer.updates < {last} else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    return step(trainer)

train.training.Trainer.step = limited
sys.exit(main())
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
@pytest.mark.parametrize(("last", "status"), [(12, 0), (99, 3)])
def test_a_file_that_cannot_grow(book, last, status):
    code = FULL.format(most=1000, first=4, last=last)
    words = ["train", "book.txt", *SMALL, "--updates", "20", "--checkpoint-every", "4"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith(
        "throughtime train: throughtime.safetensors: expected to write the checkpoint of update 8, "
        "got File too large; the one of update 4 remains; make room on the disk"
    )
    assert len(lines) == (2 if last == 12 else 5)
    assert load_checkpoint("throughtime.safetensors").position.updates == (20 if last == 12 else 4)
    assert sorted(os.listdir()) == ["book.txt", "throughtime.safetensors"]


@pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")
def test_a_terminal_that_goes_away_costs_nothing(book):
    import pty
    import termios

    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 120))
    words = [sys.executable, "-m", "throughtime", "train", "book.txt", *SMALL, "--minutes", "1"]
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    with subprocess.Popen(words, **streams, start_new_session=True) as process:
        os.close(theirs)
        seen = b""
        while b"char/s" not in seen:
            seen += os.read(ours, 2**12)
        os.close(ours)
        process.send_signal(signal.SIGHUP)  # as a terminal does that the process belongs to
    updates = load_checkpoint("throughtime.safetensors").position.updates
    assert updates > 0
    assert sorted(os.listdir()) == ["book.txt", "throughtime.safetensors"]
