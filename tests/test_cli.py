"""What holds for every command of `throughtime`."""

import argparse
import os
import subprocess
import sys

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


def python(code, *words, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, **options
    )


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        ("KeyboardInterrupt", 130, "interrupted\n"),
        ("MemoryError", 3, "throughtime: MemoryError:\n"),
        ("ImportError('no library')", 3, "throughtime: ImportError: no library\n"),
    ],
)
@pytest.mark.parametrize("where", ["numpy", "throughtime.cli"])
def test_whatever_happens_while_it_is_imported_is_one_line(raised, status, said, where):
    """Ctrl-C in the first second, above all."""
    code = f"""
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {where!r}:
            raise {raised}

sys.meta_path.insert(0, Finder())
from throughtime.__main__ import main
sys.exit(main())
"""
    done = python(code, "check", "--include")
    assert (done.returncode, done.stdout, done.stderr) == (status, "", said)


PAIRS = "W[0,0] 0.025 0.05\nW[0,1] 0.5 1.0\nb[0] 0.1 0.2\n"


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_verdict_that_nobody_reads_keeps_its_status(tmp_path):
    """A closed pipe, as behind `| head`, is no agreement."""
    (tmp_path / "pairs.txt").write_text(PAIRS)
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "throughtime", "compare", str(tmp_path / "pairs.txt")]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_target_that_raises_a_broken_pipe_is_no_agreement(tmp_path, capsys):
    (tmp_path / "f.py").write_text("def target():\n    raise BrokenPipeError('theirs')\n")
    assert cli.main(["check", f"{tmp_path / 'f.py'}:target"]) == cli.FAILED
    assert "BrokenPipeError: theirs" in capsys.readouterr().err


def test_a_full_disk_behind_standard_output_is_no_verdict(tmp_path):
    if not os.path.exists("/dev/full"):
        return
    (tmp_path / "pairs.txt").write_text(PAIRS)
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "throughtime", "compare", str(tmp_path / "pairs.txt")]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == cli.FAILED
    assert done.stderr == "throughtime compare: No space left on device\n"
