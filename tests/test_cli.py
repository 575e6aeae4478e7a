"""What holds for every command of `throughtime`."""

import argparse

import pytest

import benchmarks.cli
from throughtime import cli


def test_the_benchmarks_are_pointed_to(capsys):
    assert cli.main(["bench", "engine"]) == cli.FAILED
    assert "expected python -m benchmarks engine, in a checkout" in capsys.readouterr().err


def commands(parser, words=()):
    """The words of every command and subcommand that a parser knows, its own first."""
    yield words
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from commands(below, (*words, name))


PARSERS = {"throughtime": cli.command_parser(), "python -m benchmarks": benchmarks.cli._parser()}
MAINS = {"throughtime": cli.main, "python -m benchmarks": benchmarks.cli.main}
COMMANDS = [(name, *words) for name, parser in PARSERS.items() for words in commands(parser)]


def test_commands_and_subcommands_are_found():
    ours = {("throughtime", name) for name in cli.COMMANDS}
    assert ours | {("throughtime",), ("python -m benchmarks", "engine")} <= set(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_is_printed(words, capsys):
    with pytest.raises(SystemExit) as left:
        MAINS[words[0]]([*words[1:], "--help"])
    assert left.value.code == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: " + " ".join(words))
    assert "%%" not in out
    assert err == ""


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (MemoryError(), "there is not enough memory"),
        (OverflowError("int too large"), "OverflowError: int too large; --debug shows where"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (KeyError("W"), "KeyError: 'W'"),
        (EOFError(), "EOFError; --debug"),
        (ValueError("x: expected a,\n  got b"), "x: expected a, got b"),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_no_error_has_the_status_of_a_verdict(monkeypatch, capsys, problem, words, debug):
    from throughtime import cli
    from throughtime.cli import explain

    def fail(_):
        raise problem

    monkeypatch.setattr(explain, "run", fail)
    arguments = ["--debug"] * debug + ["explain", "lstm"]
    assert cli.main(arguments) == cli.FAILED
    said = capsys.readouterr().err
    if debug:
        assert "Traceback" in said
    else:
        assert words in said
        assert said.count("\n") == 1
