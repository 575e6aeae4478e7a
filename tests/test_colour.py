"""Colour: on a terminal, unless it is unwanted, and only the words that it is for."""

import io
import sys

import pytest

from helpers import Terminal
from throughtime.cli import main, say
from throughtime.cli.colour import coloured, edits, verdicts

PAIRS = "W[0,0] 0.025 0.05\nW[0,1] 0.5 1.0\nb[0] 0.1 0.2\n"
SWITCHES = ("NO_COLOR", "FORCE_COLOR", "TERM", "WT_SESSION")


@pytest.fixture(autouse=True)
def no_switch(monkeypatch):
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WT_SESSION", "on Windows")


@pytest.mark.parametrize(
    ("given", "terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, False, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_who_wants_it(given, terminal, expected, monkeypatch):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert coloured(Terminal() if terminal else io.StringIO()) is expected


@pytest.mark.parametrize("terminal", [True, False])
def test_a_verdict_on_a_terminal(terminal, tmp_path, monkeypatch):
    (tmp_path / "pairs.txt").write_text(PAIRS)
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["compare", str(tmp_path / "pairs.txt")]) == 1
    said = stream.getvalue()
    assert ("\x1b" in said) is terminal
    assert ("\x1b[1;31mDISAGREE\x1b[0m: the gradient" in said) is terminal
    assert ("  \x1b[31mdisagree\x1b[0m  3.33e-01" in said) is terminal


def test_verdicts_alone_are_coloured():
    text = (
        "a: agree  no\nThey agree with it.\nHEALTHY, so to speak\nHEALTHY: above 1 %\nw  agree  1"
    )
    green = "\x1b[1;32mHEALTHY\x1b[0m: above 1 %\nw  \x1b[32magree\x1b[0m  1"
    assert verdicts(text) == text.rpartition("HEALTHY:")[0] + green


def test_the_lines_of_a_diff():
    text = "mended: all 4 tensors agree\n\n1. sign (a.py:3)\n- no list\n\n--- a.py\n+++ b.py\n"
    text += "@@ -1,2 +1,2 @@\n same\n-old\n+new\n\n- no list\n"
    painted = edits(text)
    assert "\x1b[1;32mmended\x1b[0m: all" in painted
    assert "\x1b[31m-old\x1b[0m\n\x1b[32m+new\x1b[0m\n\n- no list\n" in painted
    assert "\n- no list\n\n\x1b[1m--- a.py\x1b[0m" in painted
    assert edits("mended in part: 2 of 4").startswith("\x1b[1;33mmended in part\x1b[0m")
    assert edits("not mended: the check").startswith("\x1b[1;31mnot mended\x1b[0m:")


def test_a_strangers_own_colours_stay_harmless(monkeypatch):
    stream = Terminal()
    say("AGREE: \x1b[2J", stream, verdicts)
    assert stream.getvalue() == "\x1b[1;32mAGREE\x1b[0m: \\x1b[2J\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_are_broken_on_a_terminal_alone(terminal, tmp_path, monkeypatch):
    """What is piped is searched by line."""
    (tmp_path / "pairs.txt").write_text(PAIRS)
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["compare", str(tmp_path / "pairs.txt")]) == 1
    lines = stream.getvalue().split("\n")
    whole = [line.endswith(".") for line in lines if " cannot be distinguished" in line]
    assert whole == [not terminal] * 2  # the text may be read in two ways
    said = [len(line) for line in lines if line.startswith("   ")]
    assert (max(said) <= 60) is terminal
