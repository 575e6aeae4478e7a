"""What holds for every command of `throughtime`, and of the benchmarks beside it."""

import argparse

import pytest

import benchmarks.cli
from throughtime import cli

PROGRAMS = {"throughtime": cli, "benchmarks": benchmarks.cli}


def commands(parser, words):
    """The words of every command and subcommand that a parser knows, its own first."""
    yield words
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from commands(below, (*words, name))


COMMANDS = [words for name, room in PROGRAMS.items() for words in commands(room._parser(), (name,))]


def test_commands_and_subcommands_are_found():
    known = {("throughtime", name) for name in cli.COMMANDS} | {("benchmarks", "engine")}
    assert known <= set(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_is_printed(words, capsys):
    program, *rest = words
    with pytest.raises(SystemExit) as left:
        PROGRAMS[program].main([*rest, "--help"])
    assert left.value.code == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: {' '.join(words)}")
    assert "%%" not in out
    assert err == ""
