"""Long work speaks on a terminal, in words, and nowhere else."""

import sys
import time
from argparse import Namespace

import numpy as np
import pytest

import throughtime as tt
from helpers import Terminal
from throughtime import progress
from throughtime.cli import main, own_file


def on_a_terminal(monkeypatch):
    """Standard error as a terminal, on which bars appear at once; pytest replaces it by phase."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.01)
    return stream


def small(T=12, B=4):
    net = tt.Network([tt.LSTM(2, 3)], tt.MeanSquaredError(), dtype="float64", seed=0)
    return net, np.ones((T, B, 2)), np.zeros((T, B, 3))


def test_a_flow_says_what_it_is_doing(monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    tt.flow(*small())
    said = terminal.getvalue()
    for words in ("running the network", "following losses back through time"):
        assert f"flow: {words}" in said
    for words in ("splitting gradients by path", "looking at Jacobians", "judging it"):
        assert f"flow: {words}" in said
    assert "48/48 losses [" in said  # T·B of them
    assert said.split("\r")[-1].strip() == ""  # and nothing stays


def test_a_flow_of_a_torch_module_does_too(monkeypatch):
    torch = pytest.importorskip("torch")
    terminal = on_a_terminal(monkeypatch)
    tt.flow(torch.nn.GRU(2, 3), torch.ones(9, 2, 2), loss=lambda found: found[0].sum(-1))
    assert "18/18 losses [" in terminal.getvalue()


def test_nothing_is_said_where_nobody_looks(monkeypatch, capsys):
    terminal = on_a_terminal(monkeypatch)
    tt.flow(*small(), progress=False)
    with tt.FlowRecorder() as recorder:
        recorder.look(*small())
    assert "losses" not in terminal.getvalue()
    monkeypatch.undo()
    tt.flow(*small())
    with progress.waiting("checking"):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("words", [("check", "losses"), ("sweep", "entries")])
def test_what_is_counted_is_a_word_of_its_own(words):
    """No "398evaluation"."""
    with progress.progress_bar(0, *words, show=True) as bar:
        bar.update(398)
        assert f" 398 {words[1]} " in f" {bar} "
        progress.begin(bar, *words, None)
        bar.update(7)
        assert f" 7 {words[1]} " in f" {bar} "


def test_a_check_counts_losses(monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    tt.check(*small(3), effort="quick")
    assert " losses " in terminal.getvalue()
    assert "evaluation" not in terminal.getvalue()


def written(stream, words):
    """Waits until words stand on a stream."""
    until = time.monotonic() + 30
    while words not in stream.getvalue():
        assert time.monotonic() < until, stream.getvalue()


def test_what_tells_nothing_meanwhile_is_waited_for_aloud(monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    with progress.waiting("checking lstm.py"):
        written(terminal, "\rchecking lstm.py: 0 s")
    assert terminal.getvalue().split("\r")[-1] == ""
    assert terminal.getvalue().split("\r")[-2].strip() == ""


def test_what_is_waited_for_says_what_it_does(monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    with progress.waiting("checking lstm.py") as now:
        now("looking for its loss and its gradient")
        written(terminal, "\rchecking lstm.py, looking for its loss and its gradient: ")
        now("a\x1b[2J")
        written(terminal, "\rchecking lstm.py, a\\x1b[2J: ")
        monkeypatch.setenv("COLUMNS", "30")
        written(terminal, "\rchecking lstm.py, a\\x1b[: 0 s")
    assert terminal.getvalue().split("\r")[-2].strip() == ""


def test_a_file_of_ones_own_is_waited_for(tmp_path, monkeypatch, capsys):
    terminal = on_a_terminal(monkeypatch)
    (tmp_path / "mine.py").write_text("x = 1\n")
    monkeypatch.chdir(tmp_path)
    main(["mend", "mine.py"])
    assert "looking for what can be checked in mine.py: 0 s" in terminal.getvalue()
    before = len(terminal.getvalue())
    main(["mend", "mine.py", "--quiet"])
    assert ": 0 s" not in terminal.getvalue()[before:]


def test_a_check_of_ones_own_file_says_what_it_does(tmp_path, monkeypatch):
    """The words of the process that checks reach the terminal of the one that waits."""
    terminal = on_a_terminal(monkeypatch)
    (tmp_path / "mine.py").write_text("x = 1\n")
    monkeypatch.chdir(tmp_path)

    def apart(task, place, *given, seconds, told):
        monkeypatch.setattr(own_file, "tell", told)
        own_file.judge(place, *given)

    monkeypatch.setattr(own_file, "apart", apart)
    monkeypatch.setattr(own_file, "find", lambda *_, **__: written(terminal, ", looking for its "))
    with pytest.raises(AttributeError):  # nothing was found
        own_file.judged(Namespace(**OPTIONS), {})
    assert "\rchecking mine.py, looking for its loss and its gradient: " in terminal.getvalue()


OPTIONS = {
    "target": "mine.py", "made": None, "seed": 0, "print_target": False, "quiet": False,
    "timeout": None,
}  # fmt: skip
