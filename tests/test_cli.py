"""What holds for every command of `throughtime`."""

import argparse

import pytest

from throughtime import cli


def commands(parser, words=()):
    """The words of every command and subcommand that a parser knows, its own first."""
    yield words
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from commands(below, (*words, name))


COMMANDS = list(commands(cli._parser()))


def test_commands_and_subcommands_are_found():
    assert {(), *((name,) for name in cli.COMMANDS), ("bench", "engine")} <= set(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_is_printed(words, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([*words, "--help"])
    assert left.value.code == 0
    out, err = capsys.readouterr()
    assert out.startswith(" ".join(("usage: throughtime", *words)))
    assert "%%" not in out
    assert err == ""
