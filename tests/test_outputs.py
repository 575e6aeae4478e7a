"""Output is checked before the work, by every command; a reader that has gone stops no page."""

import argparse
import importlib.util
import os
import subprocess
import sys

import pytest

import benchmarks.cli
from throughtime import cli
from throughtime.cli import outputs

MAINS = {"throughtime": cli, "python -m benchmarks": benchmarks.cli}
REFUSED = {
    "json": ["missing/r.json", "folder", ""],
    "html": ["missing/r.html", "folder", ""],
    "junit": ["missing/r.xml"],
    "figure": ["missing/r.png", "r.bmp", "folder"],
}
GIVEN = {"check": ["a.py:b"], "compare": ["a.npz"], "mend": ["a.py"], "flow": ["a.safetensors"]}
GIVEN |= {"derive": ["a.py"]}  # what a command of throughtime must be given


def with_outputs():
    """Every command that writes a file which an option names, and that option."""
    for program, module in MAINS.items():
        parser = module._parser() if program != "throughtime" else cli.command_parser()
        kinds = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        for command, below in kinds.choices.items():
            for action in below._actions:
                if action.dest in outputs.OUTPUTS:
                    yield program, command, action.dest


ALL = list(with_outputs())


def test_no_option_that_names_an_output_is_forgotten():
    """What is written is said in the help by these words."""
    for module in MAINS.values():
        parser = module._parser() if module is benchmarks.cli else cli.command_parser()
        kinds = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        for below in kinds.choices.values():
            for action in below._actions:
                if action.metavar == "FILE" and (action.help or "").startswith(("write", "draw")):
                    assert action.dest in outputs.OUTPUTS, action.option_strings
    assert {("throughtime", "demo", "html"), ("throughtime", "flow", "json")} <= set(ALL)
    assert {("throughtime", "derive", "html"), ("python -m benchmarks", "scale", "json")} <= {*ALL}


@pytest.mark.parametrize(("program", "command", "option"), ALL, ids=["-".join(one) for one in ALL])
def test_it_is_refused_before_the_work(program, command, option, tmp_path, monkeypatch, capsys):
    """No command gets as far as its inputs, of which there are none here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for place in REFUSED[option]:
        given = GIVEN.get(command, []) if program == "throughtime" else []
        words = [command, *given, f"--{option}", place]
        assert MAINS[program].main(words) == cli.FAILED
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(f"{program} {command}: --{option}: expected a ")
        assert said.err.count("\n") == 1


def test_a_folder_that_nobody_may_write_to(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda folder, mode: False)
    with pytest.raises(ValueError, match="--json: expected a file in a folder that can be"):
        outputs.writable("--json", tmp_path / "r.json")


def test_streams_pipes_and_files_that_are_there(tmp_path, monkeypatch):
    (tmp_path / "there").write_text("")
    (tmp_path / "link").symlink_to("there")
    for name in ("there", "link", "new"):
        outputs.writable("--json", tmp_path / name)
    monkeypatch.setattr(os, "access", lambda folder, mode: False)
    for place in ("/dev/stdout", "/dev/null", "/dev/fd/1"):
        outputs.writable("--json", place)


@pytest.mark.parametrize(
    "words",
    [
        "check net.py --json net.py",
        "check net.py:f --html ./net.py",
        "check net.py --junit link.py",
        "mend net.py:2-4 --json net.py",
        "derive net.py --html net.py",
        "compare a.npz b.npz --json b.npz",
        "flow m.safetensors net.py --json m.safetensors",
        "flow --record net.py --html net.py",
        "export m.safetensors --c m.safetensors",
        "export m.safetensors --c m.c --blob m.safetensors",
        "train net.py --out net.py",
    ],
)
def test_nothing_is_written_over_what_is_read(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("net.py", "a.npz", "b.npz", "m.safetensors"):
        (tmp_path / name).write_text("as it was")
    (tmp_path / "link.py").symlink_to("net.py")
    assert cli.main(words.split()) == cli.FAILED
    assert "expected another file than the one that is read, got " in capsys.readouterr().err
    assert all((tmp_path / n).read_text() == "as it was" for n in ("net.py", "m.safetensors"))


def test_two_outputs_are_two_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check", "a.py:b", "--json", "r", "--junit", "./r"]) == cli.FAILED
    assert "--junit: expected another file than that of --json" in capsys.readouterr().err
    both = ["check", "a.py:b", "--json", "/dev/stdout", "--junit", "/dev/stdout"]
    assert cli.main(both) == cli.FAILED
    assert "expected an existing Python file" in capsys.readouterr().err


def test_the_record_of_a_training_run_is_refused_by_its_option(tmp_path, capsys):
    words = ["train", "a.txt", "--flow", f"{tmp_path}/missing/r.jsonl"]
    assert cli.main(words) == cli.FAILED
    assert "--flow: expected a file in an existing folder" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--html", "--figure"])
def test_what_draws_must_be_there_too(option, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(["check", "nosuch.py:x", option, "r.svg"]) == cli.FAILED
    assert f"{option} r.svg: figures and pages need matplotlib" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "PNG"])
def test_formats_that_are_drawn(suffix):
    pytest.importorskip("matplotlib")
    outputs.check_outputs(argparse.Namespace(figure=f"r.{suffix}"))


def test_what_mend_could_not_write(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("net.py", "net.ipynb"):
        (tmp_path / name).write_text("")
        (tmp_path / f"{name}.orig").write_text("")
        assert cli.main(["mend", name, "--write"]) == cli.FAILED
        assert f"--write: expected no {name}.orig, got one" in capsys.readouterr().err


CELL = """
import numpy as np, throughtime as tt
@tt.cell(W="H I", U="H H")
def rnn(x, h, W, U):
    return np.tanh(W @ x + U @ h)
"""


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_page_is_written_though_nobody_reads_the_text(tmp_path):
    """As behind `| head`: of a derivation, and of a flow."""
    pytest.importorskip("matplotlib")
    from training_examples import text, trainer

    (tmp_path / "cell.py").write_text(CELL)
    (tmp_path / "book.txt").write_text(text().characters)
    trainer().save(tmp_path / "m.safetensors")
    small = ["--steps", "12", "--batch", "2"]
    for words in (["derive", "cell.py"], ["flow", "m.safetensors", "book.txt", *small]):
        reader, writer = os.pipe()
        os.close(reader)
        page = tmp_path / f"{words[0]}.html"
        command = [sys.executable, "-m", "throughtime", *words, "--html", page.name]
        done = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, timeout=60
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, b"")
        assert page.exists()
